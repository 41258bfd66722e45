# SPDX-License-Identifier: Apache-2.0
"""The exact planner for goals that are formulas, and for several goals at once.

Steps downhill give a first target at once, the linear relaxation a bound and the moves that are
worth a look; the flow model of those moves mostly finds the best target, and the search goes on
from there in neighbourhoods while there is time and a gap.
"""

import dataclasses
import math

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import base
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import relaxed
from nova_rebalancer.plan import search
from nova_rebalancer.plan import solver
from nova_rebalancer.plan import steps
from nova_rebalancer.plan import terms

WINDOW = 20_000
"""Hosts to enter, over all kinds, in the model of the moves that are worth a look."""

SHARE = 0.5
"""Of the time that is left, for the bound, and then for that model."""

WORK = 3.0
"""Solver work for that model at most; neighbourhoods do better after that."""


def plan(
    start: state.PlacementState,
    goal: objectives.Goal,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the best target found and a bound; the status is not decided here."""
    meter = solver.Meter(budget, seed, watch)
    best = greedy.plan(start, goal, budget, seed, watch)
    bound = None
    if isinstance(goal, separable.Separable):
        best, bound = _by_window(start, goal, best, meter)
    elif isinstance(goal, combined.Combined):
        best, bound = _one_by_one(start, goal, best, meter)
    if bound is not None:
        watch.bound(bound)
    if bound is None or best.value.value - bound > target.TOLERANCE:
        until = search.Until(watch, -math.inf if bound is None else bound)
        searching = search.Search(start, goal, best, budget, seed, until)
        searching.run()
        best = searching.best
    return dataclasses.replace(best, bound=bound)


def _part(meter: solver.Meter) -> solver.Meter:
    """Return a meter with a share of the time that is left."""
    left_s = meter.budget.left_s()
    deadline = meter.budget.deadline
    if math.isfinite(left_s):
        deadline -= (1 - SHARE) * left_s
    return solver.Meter(
        dataclasses.replace(meter.budget, deadline=deadline), meter.seed, meter.watch
    )


def _by_window(
    start: state.PlacementState,
    goal: separable.Separable,
    first: target.Target,
    meter: solver.Meter,
) -> tuple[target.Target, float | None]:
    """Return the best target of the moves that the relaxation finds worth a look, and its bound."""
    space = goal.narrowed(start)
    all_kinds = kinds.kinds(kinds.apart(space), terms.told_apart(space, goal))
    found = relaxed.bound(space, goal, all_kinds, _part(meter))
    if found is None:
        return first, None
    bound = _raised(goal, found.value)
    if first.value.value - bound <= target.TOLERANCE or meter.spent():
        return first, bound
    rounded = steps.follow(
        start, goal, _moves(found, all_kinds), meter.budget, meter.seed, meter.watch
    )
    if rounded.value.value < first.value.value:
        first = rounded
        meter.watch.incumbent(first.value.value)
    if first.value.value - bound <= target.TOLERANCE or meter.spent():
        return first, bound
    model = flow.FlowModel(
        space,
        (),
        base.Limit(max(1, meter.budget.max_migrations), meter.budget.max_mib),
        all_kinds=all_kinds,
        within=_window(found, all_kinds, first, start),
    )
    whole = max(np.isfinite(one).sum() for one in (found.leave, found.enter)) <= WINDOW
    encoded = terms.Encoded(model, goal)
    model.hint(first.host_of, first.cells_of)
    encoded.hint(space.placed(first.host_of, first.cells_of))
    model.model.minimize(encoded.value.expr * (model.limit + 1) + model.moves)
    mine = _part(meter)
    while True:
        answer = solver.solve(model.model, mine, WORK)
        flows = model.flow(answer.solver) if answer.found else None
        if flows is None or not model.separate(flows):
            break
    meter.work += mine.work
    if flows is None:
        return first, bound
    if answer.proven and whole and terms.step(goal.formula) is not None:
        # The migrations count less than any step of the value.
        steps_of = round(answer.solver.objective_value) // (model.limit + 1)
        bound = max(bound, encoded.value.constant + encoded.value.unit * steps_of)
    reached = model.placement(flows)
    value = goal.evaluate(start.placed(reached.host_of, reached.cells_of))
    if value.value >= first.value.value - target.TOLERANCE:
        return first, bound
    meter.watch.incumbent(value.value)
    return (
        dataclasses.replace(first, host_of=reached.host_of, cells_of=reached.cells_of, value=value),
        bound,
    )


def _moves(found: relaxed.Bound, all_kinds: list[kinds.Kind]) -> list[tuple[int, int]]:
    """Return the relaxation's moves as instances and hosts, those that are most whole first."""
    moves = []
    here = {
        (k, h): [v for place in kind.at if place[0] == h for v in kind.at[place]]
        for k, kind in enumerate(all_kinds)
        for h in {place[0] for place in kind.at}
    }
    out = dict(found.out)
    for (k, h), value in sorted(found.into.items(), key=lambda item: (-item[1], item[0])):
        for _ in range(max(1, round(value))):
            sources = [key for key in out if key[0] == k and key[1] != h and here[key]]
            if not sources:
                break
            source = max(sources, key=lambda key: (out[key], key))
            moves.append((here[source].pop(0), h))
            out[source] -= 1.0
    return moves


def _window(
    found: relaxed.Bound,
    all_kinds: list[kinds.Kind],
    first: target.Target,
    start: state.PlacementState,
) -> tuple[arrays.Bools, arrays.Bools]:
    """Return what each kind may leave and enter, (K, H): the best by price, and ``first``'s."""
    leave, enter = (_best(one) for one in (found.leave, found.enter))
    for k, kind in enumerate(all_kinds):
        for (h, _), here in kind.at.items():
            gone = [v for v in here if first.host_of[v] != h]
            if gone:
                leave[k, h] = True
                enter[k, first.host_of[gone]] = True
    return leave, enter


def _best(price: arrays.Floats) -> arrays.Bools:
    flat = np.sort(price[np.isfinite(price)])
    most = flat[min(WINDOW, flat.size) - 1] if flat.size else 0.0
    kept: arrays.Bools = price <= most
    return kept


def _raised(goal: separable.Separable, bound: float) -> float:
    """Raise a bound to the next value that there can be, where values have a common step."""
    step = terms.step(goal.formula)
    return bound if step is None else step * math.ceil(bound / step - 1e-6)


def _one_by_one(
    start: state.PlacementState,
    goal: combined.Combined,
    first: target.Target,
    meter: solver.Meter,
) -> tuple[target.Target, float]:
    """Return what is best for all of the targets that are good for one, and a bound.

    The bound is what each goal's own bound together give: right, and seldom tight.
    """
    start = goal.narrowed(start)
    bounds = {}
    best = first
    for member in goal.members():
        bounds[member.name] = 0.0
        if not isinstance(member, separable.Separable):
            continue
        value = member.evaluate(start.placed(first.host_of, first.cells_of))
        mine = solver.Meter(meter.budget, meter.seed, base.Watch())
        found, bound = _by_window(start, member, dataclasses.replace(first, value=value), mine)
        bounds[member.name] = 0.0 if bound is None else max(0.0, bound)
        value = goal.evaluate(start.placed(found.host_of, found.cells_of))
        if goal.enough(found.host_of) and value.value < best.value.value - target.TOLERANCE:
            best = dataclasses.replace(found, value=value)
            meter.watch.incumbent(value.value)
    return best, goal.combine(bounds)

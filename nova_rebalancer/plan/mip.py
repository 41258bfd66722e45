# SPDX-License-Identifier: Apache-2.0
"""The exact planner: the pattern model, and where that has no proof, the flow model and a search.

The pattern model, named where there are conflicts, mostly ends with a proof in a second; if not,
its bound goes on holding, and annealing looks for a good target to go on from. The flow model knows
every rule. Its bound is tight within seconds, its targets are poor until shortly before the proof;
the search finds good targets at once and has no bound. So these two run side by side, in rounds of
growing work, and meet after each: the better target starts the next round, and a target as good as
the bound ends the planning. Rounds are measured in work, not seconds, and what one does within a
round does not depend on the other, so a run repeats itself exactly unless the clock or a person
ends it.
"""

from collections.abc import Callable
import concurrent.futures
import dataclasses
import math
import time

from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import anneal
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import general
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import naming
from nova_rebalancer.plan import patterns
from nova_rebalancer.plan import rounding
from nova_rebalancer.plan import search
from nova_rebalancer.plan import solver

ROUND_WORK = 1.5
"""Work of the exact part in the first round; its bound is mostly tight by then."""

GROWTH = 2.0
"""By how much each round is longer than the one before."""

SEARCH_SHARE = 0.5
"""Work of the search for each unit of the exact part's: its models are built anew at each step,
so that it takes twice the time for the same work."""

LARGEST = 200_000
"""Most places an exact model may have; building it takes about 8 s then."""

PLACES_PER_S = 12_000
"""Most places for each second there is, so that building leaves time for solving."""

TIDY_WORK = 0.5
"""Work for as good a target with fewer migrations."""

SHARE = 0.75
"""Of the time that is left, for the pattern model: the others need some where it has no proof."""


def plan(
    start: state.PlacementState,
    goal: objectives.Goal,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the best target found, with a bound that holds for any placement in the limit.

    Never worse than the greedy planner's target.  A cloud whose flow model is too large to build in
    reasonable time is left to the search, with the pattern model's bound where it has one.
    """
    if isinstance(goal, fragmentation.Fragmentation):
        found, bound = _fragments(start, goal, solver.Meter(budget, seed, watch))
    else:
        found = general.plan(start, goal, budget, seed, watch)
        bound = 0.0 if found.bound is None else found.bound
    bound = min(max(bound, 0.0), found.value.value)
    if found.value.value - bound <= target.TOLERANCE:
        status = target.OPTIMAL
    elif watch.stopped():
        status = target.INTERRUPTED
    else:
        status = target.TIME_LIMIT if budget.over() else target.FEASIBLE
    return dataclasses.replace(found, bound=bound, status=status, planner="mip")


def _fragments(
    start: state.PlacementState, goal: fragmentation.Fragmentation, meter: solver.Meter
) -> tuple[target.Target, float]:
    """Return the best target for the fragment rate, and its bound."""
    pace = base.Pace()
    first = greedy.plan(start, goal, meter.budget, meter.seed, meter.watch)
    found, most = _by_patterns(start, goal, first, meter)
    if math.isfinite(most) and goal.counts(found.value)[1] < most:
        found = anneal.improve(start, goal, found, most, meter)
        if goal.counts(found.value)[1] >= most:
            found = _tidied(start, goal, found, meter)
    if goal.counts(found.value)[1] < most:
        return _further(start, goal, found, most, meter, pace)
    return found, found.value.value


def _by_patterns(
    start: state.PlacementState,
    goal: fragmentation.Fragmentation,
    first: target.Target,
    meter: solver.Meter,
) -> tuple[target.Target, float]:
    """Return the pattern model's target or ``first``, and the most slots there can be."""
    cloud = exchange.cloud(start, goal.cores)
    if cloud is None:
        return first, math.inf
    market = exchange.Market(cloud)
    limit = meter.budget.limit
    end = time.monotonic() + SHARE * meter.budget.left_s()
    part = solver.Meter(dataclasses.replace(meter.budget, deadline=end), meter.seed, meter.watch)
    bound = patterns.bound(market, limit, part)
    if bound is None:
        return first, math.inf
    free, slots = goal.counts(goal.evaluate(start))
    most = slots + bound.whole()
    meter.watch.bound(_rate(goal, free, most))
    if goal.counts(first.value)[1] >= most:
        return first, most
    by = naming if start.conflicts else patterns
    best = first
    for place in (
        lambda: rounding.placement(start, cloud, bound.chosen, limit),
        lambda: by.place(start, market, bound, limit, part),
    ):
        reached = place()
        value = best.value if reached is None else goal.evaluate(reached)
        if reached is not None and value.value < best.value.value:
            best = dataclasses.replace(
                first, host_of=reached.host_of, cells_of=reached.cells_of, value=value
            )
            meter.watch.incumbent(value.value)
        if goal.counts(best.value)[1] >= most:
            break
    meter.work += part.work
    return best, most


def _further(
    start: state.PlacementState,
    goal: fragmentation.Fragmentation,
    first: target.Target,
    most: float,
    meter: solver.Meter,
    pace: base.Pace,
) -> tuple[target.Target, float]:
    """Return a better target than ``first`` if there is one, and a bound of the goal's value."""
    # On a machine that does other work a second is worth less.
    left_s = meter.budget.left_s() * pace.share()
    if kinds.size(start) > min(LARGEST, PLACES_PER_S * left_s):
        bound = _rate(goal, goal.counts(first.value)[0], most) if math.isfinite(most) else 0.0
        beside = search.Until(meter.watch, bound)
        searching = search.Search(start, goal, first, meter.budget, meter.seed, beside)
        searching.run()
        return searching.best, bound
    model = flow.FlowModel(start, goal.cores, meter.budget.limit)
    if model.free_is_constant():
        return _most_slots(model, goal, first, most, meter)
    return _best_ratio(model, goal, first, meter)


def _rate(goal: fragmentation.Fragmentation, free: int, slots: float) -> float:
    """Return the goal's value for so many slots."""
    # Solver bounds are floats: one that is a hair below a whole number means that number.
    return goal.rate(math.floor(slots + 1e-6), free)


def _most_slots(
    model: flow.FlowModel,
    goal: fragmentation.Fragmentation,
    first: target.Target,
    most: float,
    meter: solver.Meter,
) -> tuple[target.Target, float]:
    """Maximise slots where the free cores of the cloud cannot change; return target and bound."""
    free, slots = goal.counts(first.value)

    def rate(slots: float) -> float:
        return _rate(goal, free, slots)

    model.model.maximize(model.slots)
    beside = search.Until(meter.watch, rate(most) if math.isfinite(most) else -1.0)
    searching = search.Search(model.start, goal, first, meter.budget, meter.seed, beside)
    work = ROUND_WORK
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="search") as pool:
        while True:
            other = pool.submit(searching.run, SEARCH_SHARE * work)
            proven = True  # ends the search too should the exact part fail
            try:
                found, bound, proven = _exact(model, meter, work, rate)
            finally:
                beside.ended |= proven
                other.result()
            if math.isfinite(bound):
                most = min(most, math.floor(bound + 1e-6))
            if proven and found is not None:
                best = _target(model, goal, found, first)
                break
            if found is not None:
                searching.offer(_target(model, goal, found, first))
            best = searching.best
            slots = goal.counts(best.value)[1]
            if slots >= most or meter.spent():
                break
            # Only as a hint: with the best value or the bound as rows the solver's own bound
            # stops moving.
            model.hint(best.host_of, best.cells_of)
            work *= GROWTH
    if goal.counts(best.value)[1] >= most:
        best = _tidied(model.start, goal, best, meter)
    return best, rate(most) if math.isfinite(most) else 0.0


def _exact(
    model: flow.FlowModel,
    meter: solver.Meter,
    work: float,
    rate: Callable[[float], float] | None,
) -> tuple[kinds.Flow | None, float, bool]:
    """Solve for one round; return what was found, the bound of the objective, whether proven.

    ``rate`` turns objective values into what the watch hears; None keeps it silent.
    """
    end = meter.work + work
    while True:
        answer = solver.solve(
            model.model,
            meter,
            max(0.0, end - meter.work),
            tell=None if rate is None else lambda slots: meter.watch.incumbent(rate(slots)),
            tell_bound=None if rate is None else lambda slots: meter.watch.bound(rate(slots)),
        )
        found = model.flow(answer.solver) if answer.found else None
        if found is None or not model.separate(found):
            return found, answer.bound, answer.proven
        if not answer.proven:
            return None, answer.bound, False


def _tidied(
    start: state.PlacementState,
    goal: fragmentation.Fragmentation,
    best: target.Target,
    meter: solver.Meter,
) -> target.Target:
    """Return a target as good with no more, and mostly with fewer, migrations."""
    searching = search.Search(start, goal, best, meter.budget, meter.seed, meter.watch)
    searching.run(TIDY_WORK)
    return searching.best


def _target(
    model: flow.FlowModel,
    goal: fragmentation.Fragmentation,
    found: kinds.Flow,
    like: target.Target,
) -> target.Target:
    """Return the target of a flow."""
    reached = model.placement(found)
    return dataclasses.replace(
        like, host_of=reached.host_of, cells_of=reached.cells_of, value=goal.evaluate(reached)
    )


def _best_ratio(
    model: flow.FlowModel,
    goal: fragmentation.Fragmentation,
    first: target.Target,
    meter: solver.Meter,
) -> tuple[target.Target, float]:
    """Maximise slots / free cores where moves change both, by Dinkelbach's iteration.

    With the best ratio s/f known, maximise slots * f - free * s: a positive optimum is a better
    ratio, zero proves s/f, and an upper limit u on it bounds every ratio by s/f + u / (f * least),
    where least is the fewest free cores there can be.

    References
    ----------
    Dinkelbach (1967), On nonlinear fractional programming, Management Science 13.
    """
    free, slots = goal.counts(first.value)
    if free == 0:
        return first, 0.0
    model.model.minimize(model.free)
    found, least, _ = _exact(model, meter, math.inf, None)
    if found is not None and found.free == 0:
        return _target(model, goal, found, first), 0.0
    best = first
    while True:
        model.model.maximize(free * model.slots - slots * model.free)
        found, bound, _ = _exact(model, meter, math.inf, None)
        if found is not None and found.free == 0:
            return _target(model, goal, found, first), 0.0
        if found is None or found.slots * free <= slots * found.free:
            break
        best, slots, free = _target(model, goal, found, first), found.slots, found.free
        meter.watch.incumbent(best.value.value)
        if meter.spent():
            return best, 0.0
    if least < 0.5:
        return best, 0.0
    if bound < 0.5:
        return best, best.value.value
    each = goal.per_slot / goal.per_core
    return best, 1 - each * (slots / free + bound / (free * least))

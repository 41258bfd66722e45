# SPDX-License-Identifier: Apache-2.0
"""The exact planner: the aggregated flow model, solved by CP-SAT to a proof or to the limit.

One worker with the full linear relaxation proves 279 hosts in seconds and repeats itself exactly;
more workers were slower to the proof and end on another of the equally good targets each time
(doc/source/contributor/results.rst has the figures).
"""

import collections
from collections.abc import Callable
import dataclasses
import threading

from ortools.sat.python import cp_model

from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import base
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import greedy

POLL_S = 0.05
"""How often the watch is asked whether to stop."""

TIDY_WORK = 1.0
"""Work at most for finding as good a target with fewer migrations."""


@dataclasses.dataclass(slots=True)
class _Search:
    """What the solver calls share: budget left, best flow, best bound."""

    budget: base.Budget
    seed: int
    watch: base.Watch
    work_spent: float = 0.0
    out_of_time: bool = False

    def left(self) -> float | None:
        """Solver work that is left, None when it is not limited."""
        if self.budget.work is None:
            return None
        return max(0.0, self.budget.work - self.work_spent)


def plan(
    start: state.PlacementState,
    goal: objectives.Goal,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the best target found, with a bound that holds for any placement in the limit.

    It starts from the greedy planner's target and never returns a worse one.
    """
    if not isinstance(goal, fragmentation.Fragmentation):
        raise TypeError(f"planner mip has no model for goal {goal.name}")
    first = greedy.plan(start, goal, budget, seed, watch)
    model = flow.FlowModel(start, goal.cores, budget.max_migrations)
    search = _Search(budget, seed, watch)
    solve = _most_slots if model.free_is_constant() else _best_ratio
    best, bound = solve(model, goal, start, first, search)
    host_of, cells_of = first.host_of, first.cells_of
    if best is not None:
        host_of, cells_of = _expand(start, model, best)
    value = goal.evaluate(start.placed(host_of, cells_of))
    if best is None or first.value.value < value.value:
        host_of, cells_of, value = first.host_of, first.cells_of, first.value
    bound = min(bound, value.value)
    if value.value - bound <= target.TOLERANCE:
        status = target.OPTIMAL
    elif watch.stopped():
        status = target.INTERRUPTED
    else:
        status = target.TIME_LIMIT if search.out_of_time else target.FEASIBLE
    return target.Target(host_of, cells_of, value, bound, status, "mip", seed)


def _most_slots(
    model: flow.FlowModel,
    goal: fragmentation.Fragmentation,
    start: state.PlacementState,
    first: target.Target,
    search: _Search,
) -> tuple[flow.Flow | None, float]:
    """Maximise slots where the free cores of the cloud cannot change; return flow and bound."""
    free = round(_part(goal.evaluate(start), "free_cores"))
    known = (free - round(_part(first.value, "fragment_cores"))) // goal.cores

    def rate(slots: float) -> float:
        # Solver bounds are floats: one that is a hair below a whole number means that number.
        return goal.value(max(0, free - goal.cores * int(slots + 1e-6)), free).value

    model.model.maximize(model.slots)
    best, most = _solve(model, search, rate)
    bound = rate(most) if free else 0.0
    if best is not None and best.slots >= known and best.slots >= most - 1e-6:
        best = _fewest_moves(model, best, search)
    return best, bound


def _best_ratio(
    model: flow.FlowModel,
    goal: fragmentation.Fragmentation,
    start: state.PlacementState,
    first: target.Target,
    search: _Search,
) -> tuple[flow.Flow | None, float]:
    """Maximise slots / free cores where moves change both, by Dinkelbach's iteration.

    With the best ratio s/f known, maximise slots * f - free * s: a positive optimum is a better
    ratio, zero proves s/f, and an upper limit u on it bounds every ratio by s/f + u / (f * least),
    where least is the fewest free cores there can be.

    References
    ----------
    Dinkelbach (1967), On nonlinear fractional programming, Management Science 13.
    """
    free = round(_part(first.value, "free_cores"))
    slots = (free - round(_part(first.value, "fragment_cores"))) // goal.cores
    if free == 0:
        return None, 0.0
    model.model.minimize(model.free)
    _, least_free = _solve(model, search, None)
    best: flow.Flow | None = None
    while True:
        model.model.maximize(free * model.slots - slots * model.free)
        found, most = _solve(model, search, None)
        if found is not None and found.free == 0:
            return found, 0.0
        better = found is not None and found.slots * free > slots * found.free
        if not better or search.out_of_time or search.left() == 0 or search.watch.stopped():
            if least_free < 0.5:
                bound = 0.0 if most > 0.5 else 1 - goal.cores * slots / free
            else:
                limit = slots / free + max(0.0, most) / (free * least_free)
                bound = max(0.0, 1 - goal.cores * limit)
            return best, bound
        assert found is not None
        best, slots, free = found, found.slots, found.free
        search.watch.incumbent(1 - goal.cores * slots / free)


def _fewest_moves(model: flow.FlowModel, best: flow.Flow, search: _Search) -> flow.Flow:
    """Return a flow with as many slots and, if one is found, fewer moves."""
    moves = sum(sum(leave.values()) for leave in best.leave)
    model.model.add(model.slots >= best.slots)
    model.model.add(model.moves <= moves)
    model.model.minimize(model.moves)
    found, _ = _solve(model, search, None, TIDY_WORK)
    return best if found is None else found


def _part(value: objectives.Value, name: str) -> float:
    return next(part.value for part in value.parts if part.name == name)


def _solve(
    model: flow.FlowModel,
    search: _Search,
    rate: Callable[[float], float] | None,
    work: float | None = None,
) -> tuple[flow.Flow | None, float]:
    """Solve until a solution breaks no row that was left out; return it and the bound.

    ``rate`` turns objective values into what the watch hears; None keeps it silent.
    """
    while True:
        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.num_workers = 1
        parameters.linearization_level = 2
        parameters.random_seed = search.seed
        parameters.catch_sigint_signal = False
        limits = [limit for limit in (work, search.left()) if limit is not None]
        if limits:
            parameters.max_deterministic_time = min(limits)
        left_s = search.budget.left_s()
        if left_s < float("inf"):
            parameters.max_time_in_seconds = left_s
        if rate is not None:
            solver.best_bound_callback = lambda bound: search.watch.bound(rate(bound))
        status = _run(solver, model.model, _Tell(search.watch, rate), search.watch)
        search.work_spent += solver.response_proto.deterministic_time
        if status not in (cp_model.OPTIMAL, cp_model.INFEASIBLE) and search.budget.left_s() <= 0.01:
            search.out_of_time = True
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None, solver.best_objective_bound
        found = model.flow(solver)
        if status == cp_model.FEASIBLE or not model.separate(found):
            return found, solver.best_objective_bound


class _Tell(cp_model.CpSolverSolutionCallback):
    """Passes each better solution's value to the watch."""

    def __init__(self, watch: base.Watch, rate: Callable[[float], float] | None) -> None:
        super().__init__()
        self._watch = watch
        self._rate = rate

    def on_solution_callback(self) -> None:
        if self._rate is not None:
            self._watch.incumbent(self._rate(self.objective_value))


def _run(solver: cp_model.CpSolver, model: cp_model.CpModel, tell: _Tell, watch: base.Watch) -> int:
    """Run the solver beside this thread, which stays free to hear signals and to stop it."""
    answer: list[int] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(int(solver.solve(model, tell)))
        except BaseException as error:  # handed to the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=work, name="cp-sat", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        if watch.stopped():
            solver.stop_search()
    if failure:
        raise failure[0]
    return answer[0]


def _expand(
    start: state.PlacementState, model: flow.FlowModel, found: flow.Flow
) -> tuple["state.arrays.Ints", "state.arrays.Ints"]:
    """Name the instances behind the counts: who leaves each place, and where to."""
    host_of, cells_of = start.host_of.copy(), start.cells_of.copy()
    for kind, leave, enter in zip(model.kinds, found.leave, found.enter, strict=True):
        movers = {place: list(kind.at[place][:count]) for place, count in leave.items()}
        places = collections.Counter(enter)
        for source, (h, cells) in _pairs(leave, places):
            v = movers[source].pop(0)
            host_of[v] = h
            cells_of[v] = state.NOWHERE
            cells_of[v, : len(cells)] = cells
    return host_of, cells_of


def _pairs(
    leave: "flow.Mapping[flow.Place, int]", enter: "flow.Mapping[flow.Place, int]"
) -> list[tuple[flow.Place, flow.Place]]:
    """Pair places left with places entered, never two of one host.

    The host with most still to pair goes first; while no host has more than half of all ends,
    which the model's rows see to, that never gets stuck.
    """
    out, into = dict(leave), dict(enter)
    pairs = []
    while out:
        ends: collections.Counter[int] = collections.Counter()
        for places in (out, into):
            for (h, _), count in places.items():
                ends[h] += count
        tight = min(ends, key=lambda h: (-ends[h], h))
        source = min(out, key=lambda place: (place[0] != tight, -ends[place[0]], place))
        dest = min(
            (place for place in into if place[0] != source[0]),
            key=lambda place: (source[0] != tight and place[0] != tight, -ends[place[0]], place),
        )
        pairs.append((source, dest))
        for places, place in ((out, source), (into, dest)):
            places[place] -= 1
            if not places[place]:
                del places[place]
    return pairs

# SPDX-License-Identifier: Apache-2.0
"""Large-neighbourhood search: the flow model on a few hosts at a time.

Each step opens some hosts, keeps every other migration of the incumbent as it is, and solves the
flow model of what is open; it may use the migrations that the others leave of the limit.  Of
targets with equal value those with fewer migrations are taken, which leaves more for later steps.
There is no bound.

References
----------
Shaw (1998), Using constraint programming and local search methods to solve vehicle routing
problems: relax a part of a solution, solve it again, keep what is better.
"""

import dataclasses
import math
import time

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import aim
from nova_rebalancer.plan import base
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import solver

STEP_WORK = 0.15
"""Solver work of one step at first."""

LEAST_WORK = 0.001
"""What a step counts at least, so that a search with nothing to open ends too."""

PATIENCE = 30
"""Steps without a better target until more hosts are opened and more work is given."""

WIDER = 1.5
"""By how much."""

OUTINGS = 4
"""How often, until the search ends by itself."""


def plan(
    start: state.PlacementState,
    goal: objectives.Goal,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the best target found from the greedy planner's; no bound."""
    first = greedy.plan(start, goal, budget, seed, watch)
    search = Search(start, goal, first, budget, seed, watch)
    search.run()
    status = target.FEASIBLE
    if watch.stopped():
        status = target.INTERRUPTED
    elif budget.over():
        status = target.TIME_LIMIT
    return dataclasses.replace(search.best, status=status, planner="search")


class Until(base.Watch):
    """The search's watch: passes on what it hears, and ends it at ``bound`` or when told to."""

    def __init__(self, watch: base.Watch, bound: float) -> None:
        self._watch = watch
        self._bound = bound
        self.ended = False

    def incumbent(self, value: float) -> None:
        """Pass it on; as good as the bound it ends the search."""
        self._watch.incumbent(value)
        if value <= self._bound + target.TOLERANCE:
            self.ended = True

    def stopped(self) -> bool:
        """Whether the search is to end."""
        return self.ended or self._watch.stopped()


class Search:
    """A search that can be run in parts; ``best`` is the best target so far.

    Parameters
    ----------
    start
        The placement that migrations are counted from.
    first
        The target to begin with.
    """

    def __init__(
        self,
        start: state.PlacementState,
        goal: objectives.Goal,
        first: target.Target,
        budget: base.Budget,
        seed: int,
        watch: base.Watch,
    ) -> None:
        if isinstance(goal, separable.Separable | combined.Combined):
            start = goal.narrowed(start)
        self.best = first
        self._start = start
        self._closed = _overfull(start)
        self._aim = aim.Aim(start, goal)
        self._watch = watch
        self._rng = np.random.default_rng(seed)
        self._meter = solver.Meter(budget, seed, watch)
        self._width, self._work = self._aim.width, STEP_WORK
        self._idle = 0
        self._outings = 0

    def offer(self, found: target.Target) -> None:
        """Go on from ``found`` if it is better."""
        if _rank(self._start, found) < _rank(self._start, self.best):
            self.best = found

    def run(self, work: float = math.inf) -> None:
        """Search until about ``work`` more is spent, the budget is, or nothing better turns up."""
        end, longest_s = self._meter.work + work, 0.0
        while self._outings < OUTINGS and self._meter.work < end and not self._meter.spent():
            if self._meter.budget.left_s() < longest_s:
                break
            began = time.monotonic()
            hosts = _open(self._start, self._aim, self.best, int(self._width), self._rng)
            hosts &= ~self._closed
            found, last = _step(self._start, self._aim, self.best, hosts, self._meter, self._work)
            longest_s = max(longest_s, time.monotonic() - began)
            self._idle += 1
            if found is not None and _rank(self._start, found) <= _rank(self._start, self.best):
                if _rank(self._start, found) < _rank(self._start, self.best):
                    self._idle = 0
                self.best = found
                self._watch.incumbent(found.value.value)
            if last:
                self._outings = OUTINGS
            elif self._idle == PATIENCE:
                self._idle = 0
                self._outings += 1
                self._width, self._work = self._width * WIDER, self._work * WIDER


def _rank(start: state.PlacementState, found: target.Target) -> tuple[float, int]:
    """Order targets: by value, then by migrations."""
    return found.value.value, int((found.host_of != start.host_of).sum())


def _overfull(start: state.PlacementState) -> arrays.Bools:
    """Hosts that hold more than they may at the start, (H,) mask.

    They are never opened: the rest of a placement can then be held to every rule.
    """
    over = start.used() > start.capacity
    rows = np.where(start.row_of == state.NOWHERE, 0, start.row_of)
    mask = (over[rows, np.arange(rows.shape[1])] & (start.row_of != state.NOWHERE)).any(axis=1)
    mask |= (start.cell_used() > start.cell_capacity).any(axis=(1, 2))
    for group, members in zip(start.groups, state.in_groups(start), strict=True):
        mask |= members > group.limit
    mask[start.host_of[start.conflicts.broken(start.host_of)]] = True
    return mask


def _open(
    start: state.PlacementState,
    sought: aim.Aim,
    best: target.Target,
    width: int,
    rng: np.random.Generator,
) -> arrays.Bools:
    """Choose hosts to open, (H,) mask: both ends of some moves, and hosts with fragments."""
    weight = sought.weights(start.placed(best.host_of, best.cells_of))
    chosen = np.zeros(len(start.hosts), dtype=bool)
    moved = np.nonzero(best.host_of != start.host_of)[0]
    again = rng.permutation(moved)[: width // 4]
    chosen[start.host_of[again]] = True
    chosen[best.host_of[again]] = True
    weight[chosen] = 0.0
    more = min(max(0, width - int(chosen.sum())), int(np.count_nonzero(weight)))
    if more:
        chosen[rng.choice(weight.size, size=more, replace=False, p=weight / weight.sum())] = True
    return chosen


def _step(
    start: state.PlacementState,
    sought: aim.Aim,
    best: target.Target,
    hosts: arrays.Bools,
    meter: solver.Meter,
    work: float,
) -> tuple[target.Target | None, bool]:
    """Solve what is open; None if nothing was found.

    The second is whether no other step can find better: all was open, and solved to the end.
    """
    free = start.movable & hosts[start.host_of] & hosts[best.host_of]
    limit = meter.budget.limit.less(start, ~free & (best.host_of != start.host_of))
    if limit.moves < 1 or not free.any():
        meter.work += LEAST_WORK
        return None, False
    # What is not open stands where the incumbent has it and does not move.
    part = dataclasses.replace(
        start,
        host_of=state.frozen(np.where(free, start.host_of, best.host_of)),
        cells_of=state.frozen(np.where(free[:, None], start.cells_of, best.cells_of)),
        movable=state.frozen(free),
        allowed=state.frozen(start.allowed & hosts),
    )
    model = sought.model(part, limit, part.placed(best.host_of, best.cells_of))
    answer = solver.solve(model.model, meter, work)
    if not answer.found:
        return None, False
    found = model.flow(answer.solver)
    if model.separate(found):
        return None, False
    reached = model.placement(found)
    whole = bool((free == start.movable).all() and (hosts | ~start.allowed.any(axis=0)).all())
    made = dataclasses.replace(
        best,
        host_of=reached.host_of,
        cells_of=reached.cells_of,
        value=sought.goal.evaluate(start.placed(reached.host_of, reached.cells_of)),
    )
    return made, answer.proven and whole

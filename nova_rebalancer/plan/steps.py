# SPDX-License-Identifier: Apache-2.0
"""Steepest descent for goals that are formulas: one migration, or one host emptied, at a time.

Like the fragment rate's two phases it looks at the room there is now, so its moves can be carried
out as they were found.  A migration that gains is taken, the best first.  Where none does, hosts
whose last instance has a price are emptied whole, the one with fewest instances first; if they do
not all find a place they stay.
"""

from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import base

LOOKED_AT = 100
"""Instances whose leaving gains most that are looked at for each migration."""


def plan(
    start: state.PlacementState,
    goal: separable.Separable,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the target that the steps lead to; no bound, the seed plays no part."""
    return follow(start, goal, (), budget, seed, watch)


def follow(
    start: state.PlacementState,
    goal: separable.Separable,
    moves: Sequence[tuple[int, int]],
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return where ``moves``, of instances to hosts, and steps from there lead.

    A move for which there is no room is left out, and tried again when the others are done.
    """
    walk = _Walk(goal.narrowed(start), goal, budget, watch)
    left = list(moves)
    while left:
        later = [move for move in left if not walk.take(*move)]
        if len(later) == len(left):
            break
        left = later
    walk.singles()
    walk.wholes()
    status = target.FEASIBLE
    if watch.stopped():
        status = target.INTERRUPTED
    elif budget.over():
        status = target.TIME_LIMIT
    book = walk.book
    value = goal.evaluate(start.placed(book.host_of, book.cells_of))
    return target.Target(book.host_of, book.cells_of, value, None, status, "greedy", seed)


class _Walk:
    """The placement as it changes, with what its goal's formula says of it."""

    def __init__(
        self,
        start: state.PlacementState,
        goal: separable.Separable,
        budget: base.Budget,
        watch: base.Watch,
    ) -> None:
        self.book = ledger.Ledger(start)
        self._start = start
        self._goal = goal
        self._tally = formula.Tally(goal.formula, start.host_of)
        self._budget = budget
        self._watch = watch
        self._movable = np.nonzero(start.movable)[0]
        self._memory = base.memories(start)

    def _left(self) -> base.Limit:
        """Return what is left of the limit."""
        return self._budget.limit.less(self._start, self._moved())

    def _moved(self) -> arrays.Bools:
        found: arrays.Bools = self.book.host_of != self._start.host_of
        return found

    def _light(self, some: arrays.Ints) -> arrays.Bools:
        """Whether there is memory left to migrate each of ``some``; what has moved may move on."""
        left = self._left().mib
        if left is None:
            return np.ones(some.size, dtype=bool)
        found: arrays.Bools = self._moved()[some] | (self._memory[some] <= left)
        return found

    def _over(self) -> bool:
        return self._left().moves <= 0 or self._budget.over() or self._watch.stopped()

    def take(self, v: int, h: int) -> bool:
        """Move ``v`` to host ``h`` if there is room and a migration left, and enough remains."""
        stays = self._over() or not self._light(np.array([v])).all()
        cells = None if stays else self.book.cells_for(v, h)
        return cells is not None and self._try(v, h, cells)

    def _try(self, v: int, h: int, cells: tuple[int, ...]) -> bool:
        """Move ``v`` to host ``h`` if enough remains."""
        source = int(self.book.host_of[v])
        self._move(v, h, cells)
        if self._goal.enough(self.book.host_of):
            return True
        self.book.take_back()
        self._tally.move(v, source)
        return False

    def singles(self) -> None:
        """Take the migration that gains most, again and again."""
        while not (self._budget.over() or self._watch.stopped()):
            step = self._best()
            if step is None or not self._try(*step):
                return
            self._watch.incumbent(self._tally.value)

    def _best(self) -> tuple[int, int, tuple[int, ...]] | None:
        some = self._movable
        if self._left().moves <= 0:
            # Those that move anyway can go elsewhere.
            some = some[self._moved()[some]]
        some = some[self._light(some)]
        change = self._tally.leaving(some)
        order = np.argsort(change, kind="stable")[:LOOKED_AT]
        best: tuple[float, int, int, tuple[int, ...]] | None = None
        for v, leaving in zip(some[order].tolist(), change[order].tolist(), strict=True):
            limit = -target.TOLERANCE if best is None else best[0]
            # Arriving costs nothing at best.
            if leaving >= limit:
                break
            spot = self._arrival(v, limit - leaving)
            if spot is not None:
                best = (leaving + spot[0], v, *spot[1:])
        return None if best is None else best[1:]

    def _arrival(self, v: int, below: float) -> tuple[float, int, tuple[int, ...]] | None:
        """Return the cheapest host for ``v`` of those cheaper than ``below``, the fullest first."""
        hosts = self.book.hosts_with_room(v)
        hosts = hosts[hosts != self._start.host_of[v]]
        if not hosts.size:
            return None
        change = self._tally.arriving(v, hosts)
        for k in np.lexsort((hosts, -self._fill(hosts), np.round(change, 12))).tolist():
            if change[k] >= below:
                return None
            cells = self.book.cells_for(v, int(hosts[k]))
            if cells is not None:
                return float(change[k]), int(hosts[k]), cells
        return None

    def _fill(self, hosts: arrays.Ints) -> arrays.Floats:
        """Share of its cores that each host has in use: to fill up keeps room in one piece."""
        start = self._start
        core = start.core[hosts]
        rows = start.row_of[hosts, core]
        found: arrays.Floats = self.book.used[rows, core] / np.maximum(
            1, start.capacity[rows, core]
        )
        return np.where(core == state.NOWHERE, 0.0, found)

    def _move(self, v: int, h: int, cells: tuple[int, ...]) -> None:
        self.book.move(v, h, cells)
        self._tally.move(v, h)

    def wholes(self) -> None:
        """Empty whole sums whose last instance has a price, the smallest first."""
        for term in self._goal.formula.terms:
            if not (isinstance(term, formula.Term) and isinstance(term.curve, formula.Any)):
                continue
            counted = term.amount > 0
            fixed = term.carried(self._start.host_of)
            moving = np.zeros_like(fixed)
            np.add.at(
                moving,
                (term.label[self._movable], self._start.host_of[self._movable]),
                term.amount[self._movable],
            )
            emptied = (fixed > 0) & (fixed == moving) & (term.curve.price > 0)
            labels, hosts = np.nonzero(emptied)
            order = np.argsort(fixed[labels, hosts], kind="stable")
            for label, h in zip(labels[order].tolist(), hosts[order].tolist(), strict=True):
                here = np.nonzero(counted & (self.book.host_of == h) & (term.label == label))[0]
                if self._over():
                    return
                # What others were sent here has a home elsewhere and has moved already.
                left = self._left()
                if (self._start.host_of[here] != h).any() or not 0 < here.size <= left.moves:
                    continue
                if left.mib is not None and self._memory[here].sum() > left.mib:
                    continue
                self._empty(here, h)

    def _empty(self, here: arrays.Ints, h: int) -> None:
        """Move all of ``here`` off host ``h``, or none."""
        before = self._tally.value
        done: list[int] = []
        size = self._start.demand[here].max(axis=1)
        for v in here[np.argsort(-size, kind="stable")].tolist():
            spot = self._arrival(v, np.inf)
            if spot is None:
                break
            done.append(v)
            self._move(v, spot[1], spot[2])
        good = len(done) == here.size and self._tally.value < before - target.TOLERANCE
        if good and self._goal.enough(self.book.host_of):
            self._watch.incumbent(self._tally.value)
            return
        for v in reversed(done):
            self.book.take_back()
            self._tally.move(v, h)

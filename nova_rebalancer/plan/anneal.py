# SPDX-License-Identifier: Apache-2.0
"""Simulated annealing for the fragment rate: single moves and swaps, in whatever order.

The exact models have no proof where nearly every instance is a kind of its own and all fragments
could go, as with several sizes: very many exchanges are as good as the best.  Steps that first
lose and then gain find good targets there.

A step moves one instance to another unit (a NUMA cell, or a host without cells), or swaps it with
a smaller one that is there.  Instances on two cells and members of groups stay where they are, and
nothing is tried where instances are in conflict or Nova chooses cells.  The order of migrations
plays no part, as in the exact models.

References
----------
Kirkpatrick, Gelatt, Vecchi (1983), Optimization by simulated annealing, Science 220.
"""

from collections.abc import Iterator
import dataclasses
import math
import random

import numpy as np

from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import base
from nova_rebalancer.plan import patterns
from nova_rebalancer.plan import solver

STEPS = 1_000_000
"""Of one run, about a third of a second."""

LARGEST = 5000
"""Instances that may move, at most: among more so few steps find nothing."""

RUNS = 2
"""At most, each from the best so far."""

WORK = 0.15
"""What a run counts."""

HOT, COLD = 0.6, 0.02
"""Temperatures at both ends, in slots."""

PRICE = 0.02
"""Of an instance that moves, in slots."""

HOMEWARD = 0.15
"""How often something that moved is sent home."""


def improve(
    start: state.PlacementState,
    goal: fragmentation.Fragmentation,
    first: target.Target,
    most: float,
    meter: solver.Meter,
) -> target.Target:
    """Return the best target found, ``first`` if none is better.

    For clouds that the pattern model knows.  No run begins where there are ``most`` slots.
    """
    large = int(start.movable.sum()) > LARGEST
    if large or start.topologies is not None or start.conflicts:
        return first
    best = first
    for run in range(RUNS):
        if meter.spent() or goal.counts(best.value)[1] >= most:
            break
        walk = _Walk(start, goal, best, meter.budget.limit)
        if not walk.ones:
            break
        meter.work += WORK
        walk.run(random.Random(f"{meter.seed} {run}"), meter)
        reached = walk.best()
        if reached is None or not patterns.sound(start, reached):
            continue
        value = goal.evaluate(reached)
        if value.value < best.value.value - target.TOLERANCE:
            best = dataclasses.replace(
                best, host_of=reached.host_of, cells_of=reached.cells_of, value=value
            )
            meter.watch.incumbent(value.value)
    return best


@dataclasses.dataclass(slots=True)
class _One:
    """An instance that may move.

    Attributes
    ----------
    v, cores, mib
        Which it is, and what it takes.
    rows, guest
        What it takes of its host and of its cell, by resource.
    may
        Whether it may be on each unit, its own host apart.
    home, at
        The unit where it started, and where it is.
    """

    v: int
    cores: int
    mib: int
    rows: dict[int, int]
    guest: dict[int, int]
    may: bytes
    home: int
    at: int


class _Walk:
    """A placement that changes step by step, in plain numbers."""

    def __init__(
        self,
        start: state.PlacementState,
        goal: fragmentation.Fragmentation,
        first: target.Target,
        limit: base.Limit,
    ) -> None:
        self._start = start
        self._now = now = start.placed(first.host_of, first.cells_of)
        left = limit.less(start, now.host_of != start.host_of)
        self._moves, self._mib = left.moves, math.inf if left.mib is None else left.mib
        self._units = [
            (h, n)
            for h in np.nonzero(start.usable & (start.core != state.NOWHERE))[0].tolist()
            for n in (range(int(start.cells[h])) if start.cells[h] else (state.NOWHERE,))
        ]
        free = fragmentation.unit_free(now, now.used(), now.cell_used(), now.topologyless())
        self._free = [int(free[h, max(n, 0)]) for h, n in self._units]
        cell_free = start.cell_capacity - now.cell_used()
        self._cell_free = [[] if n < 0 else cell_free[h, n].tolist() for h, n in self._units]
        self._row_free = (start.capacity - now.used()).tolist()
        self._rows = [start.row_of[h].tolist() for h, _ in self._units]
        self.ones = list(self._movable())
        self._on: list[list[_One]] = [[] for _ in self._units]
        for one in self.ones:
            self._on[one.at].append(one)
        most = [
            free + sum(one.cores for one in on)
            for free, on in zip(self._free, self._on, strict=True)
        ]
        self._slots = goal.slots(np.arange(max(most, default=0) + 1)).tolist()
        self._won, self._most = 0.0, (0.0, self._moves)
        self._best: list[tuple[int, int]] | None = None

    def _movable(self) -> Iterator[_One]:
        start = self._start
        number = {unit: u for u, unit in enumerate(self._units)}
        spots = np.array([h for h, _ in self._units], dtype=np.int64)
        in_groups = {v for group in start.groups for v in group.members}
        memory, may_of = base.memories(start), dict[tuple[int, int, int], bytes]()
        for v in np.nonzero(start.movable)[0].tolist():
            if v in in_groups or start.guests_of[v] > 1:
                continue
            home, at = (
                number.get(
                    (int(one.host_of[v]), int(one.cells_of[v, 0]) if one.guests_of[v] else -1)
                )
                for one in (start, self._now)
            )
            if home is None or at is None:
                continue
            source = int(start.host_of[v])
            guest = start.guest[v, 0] if start.guests_of[v] else start.demand[v]
            cores = int(guest[start.core[source]])
            if not cores:
                continue
            kind, core = int(start.kind_of[source]), int(start.core[source])
            key = int(start.eligibility_of[v]), kind, core
            if key not in may_of:
                mask = start.allowed[key[0]] & start.follows[kind][start.kind_of]
                mask &= start.core == core
                may_of[key] = mask[spots].tobytes()
            yield _One(
                v,
                cores,
                int(memory[v]),
                {r: x for r, x in enumerate(start.demand[v].tolist()) if x},
                {r: x for r, x in enumerate(guest.tolist()) if x} if start.guests_of[v] else {},
                may_of[key],
                home,
                at,
            )

    def run(self, draws: random.Random, meter: solver.Meter) -> None:
        """Take STEPS steps."""
        free, slots, units = self._free, self._slots, len(self._units)
        for step in range(STEPS):
            if step % 1000 == 0 and (meter.watch.stopped() or meter.budget.over()):
                return
            one = self.ones[int(draws.random() * len(self.ones))]
            b = int(draws.random() * units)
            if one.at != one.home and draws.random() < HOMEWARD:
                b = one.home
            a = one.at
            if a == b or not self._may(one, b):
                continue
            other = None
            if free[b] < one.cores:
                here = self._on[b]
                if not here:
                    continue
                other = here[int(draws.random() * len(here))]
                if other.cores >= one.cores or free[b] + other.cores < one.cores:
                    continue
                if not self._may(other, a):
                    continue
            net = one.cores - (other.cores if other is not None else 0)
            moves, mib = _change(one, b)
            if other is not None:
                more, copied = _change(other, a)
                moves, mib = moves + more, mib + copied
            if moves > self._moves or mib > self._mib or not self._fits(one, other, b):
                continue
            won = slots[free[a] + net] + slots[free[b] - net] - slots[free[a]] - slots[free[b]]
            worth = won - PRICE * moves
            heat = HOT * (COLD / HOT) ** (step / STEPS)
            if worth < 0 and draws.random() >= math.exp(worth / heat):
                continue
            self._move(one, b)
            if other is not None:
                self._move(other, a)
            self._moves, self._mib = self._moves - moves, self._mib - mib
            self._won += won
            reached = round(self._won, 9), self._moves
            if reached > self._most:
                self._most = reached
                self._best = [(one.v, one.at) for one in self.ones if one.at != one.home]

    def _may(self, one: _One, b: int) -> bool:
        """Whether it may be on unit ``b``: at home, or on another host that takes it."""
        hosts = self._units
        return b == one.home or bool(one.may[b] and hosts[b][0] != hosts[one.home][0])

    def _fits(self, one: _One, other: _One | None, b: int) -> bool:
        """Whether all else that ``one`` takes is free on unit ``b`` when ``other`` has left."""
        return self._has(one, other, b) and (other is None or self._has(other, one, one.at))

    def _has(self, one: _One, other: _One | None, b: int) -> bool:
        rows, source = self._rows[b], self._rows[one.at]
        for r, x in one.rows.items():
            row = rows[r]
            if row == source[r]:
                continue
            left = 0 if other is None else other.rows.get(r, 0)
            if row == state.NOWHERE or self._row_free[row][r] + left < x:
                return False
        room = self._cell_free[b]
        for r, x in one.guest.items():
            left = 0 if other is None else other.guest.get(r, 0)
            if room[r] + left < x:
                return False
        return True

    def _move(self, one: _One, b: int) -> None:
        for u, sign in ((one.at, 1), (b, -1)):
            self._free[u] += sign * one.cores
            for r, x in one.rows.items():
                row = self._rows[u][r]
                if row != state.NOWHERE:
                    self._row_free[row][r] += sign * x
            for r, x in one.guest.items():
                self._cell_free[u][r] += sign * x
        self._on[one.at].remove(one)
        self._on[b].append(one)
        one.at = b

    def best(self) -> state.PlacementState | None:
        """Return the best placement that it came by, None if none was better than the first."""
        if self._best is None:
            return None
        host_of, cells_of = self._now.host_of.copy(), self._now.cells_of.copy()
        away = dict(self._best)
        for one in self.ones:
            h, n = self._units[away.get(one.v, one.home)]
            host_of[one.v] = h
            if n != state.NOWHERE:
                cells_of[one.v, 0] = n
        return self._start.placed(host_of, cells_of)


def _change(one: _One, b: int) -> tuple[int, int]:
    """Return how many more instances are away from home, and MiB, when ``one`` is at ``b``."""
    moves = (b != one.home) - (one.at != one.home)
    return moves, moves * one.mib

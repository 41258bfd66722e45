# SPDX-License-Identifier: Apache-2.0
"""All placements of a few instances that migrations lead to, one layer after another.

A placement is a row of numbers, for each instance that of its place.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from nova_rebalancer.checker import facts
from nova_rebalancer.checker import ways

MOST = 1_000_000
"""Placements, at most: above it nothing is said."""

ROWS = 50_000
"""Placements that are looked at together; bounds the memory."""


class TooManyError(Exception):
    """There are more than MOST placements."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """Instance ``v`` from place ``p`` to ``q``: what must be free then, and by how much.

    ``here`` are the limits that it charges at p and not at q.
    """

    v: int
    p: int
    q: int
    there: np.ndarray[Any, Any]
    amounts: np.ndarray[Any, Any]
    here: np.ndarray[Any, Any]


class Flood:
    """The placements of ``names``, with all else that can be migrated gone."""

    def __init__(self, allowed: ways.Ways, names: Sequence[str]) -> None:
        self._names = names
        places = [
            [place for host in sorted(allowed.hosts(name)) for place in allowed.places(name, host)]
            for name in names
        ]
        self._start = [
            one.index(allowed.start(name)) for one, name in zip(places, names, strict=True)
        ]
        self._goals = [
            {k for k, place in enumerate(one) if place in allowed.goals(name)}
            for one, name in zip(places, names, strict=True)
        ]
        charged = [
            [allowed.charges(name, place) for place in one]
            for one, name in zip(places, names, strict=True)
        ]
        limits = sorted({limit for one in charged for some in one for limit in some}, key=str)
        column = {limit: k for k, limit in enumerate(limits)}
        fixed, ceiling = allowed.fixed(), allowed.ceiling()
        self._base = np.array([fixed.get(limit, 0) for limit in limits], dtype=np.int64)
        self._capacity = np.array([allowed.capacity(limit) for limit in limits], dtype=np.int64)
        self._ceiling = np.array([ceiling.get(limit, 0) for limit in limits], dtype=np.int64)
        self._ceiling = np.maximum(self._ceiling, self._capacity)
        self._charge = []
        for one in charged:
            table = np.zeros((len(one), len(limits)), dtype=np.int64)
            for k, some in enumerate(one):
                for limit, amount in some.items():
                    table[k, column[limit]] = amount
            self._charge.append(table)
        self._steps = list(self._all_steps(allowed, places))

    def _all_steps(
        self, allowed: ways.Ways, places: Sequence[Sequence[facts.Place]]
    ) -> Iterator[_Step]:
        for v, name in enumerate(self._names):
            for p, source in enumerate(places[v]):
                for q, dest in enumerate(places[v]):
                    if (
                        source.host == dest.host
                        or not allowed.enters(name, dest.host)
                        or not allowed.follows(source.host, dest.host)
                    ):
                        continue
                    here, there = self._charge[v][p] > 0, self._charge[v][q] > 0
                    arrives = np.nonzero(there & ~here)[0]
                    yield _Step(
                        v, p, q, arrives, self._charge[v][q][arrives], np.nonzero(here & ~there)[0]
                    )

    def forward(self) -> tuple[int, bool]:
        """Return how many placements the start leads to, and whether the target is among them."""
        return self._spread([self._start], self._go, self._is_end)

    def backward(self) -> tuple[int, bool]:
        """Return how many placements lead to the target, and whether the start is among them.

        Where the target leaves NUMA cells open, it is several placements.
        """
        ends: list[list[int]] = [[]]
        for goals in self._goals:
            ends = [[*end, goal] for end in ends for goal in sorted(goals)]
            if len(ends) > MOST:
                raise TooManyError
        start = np.array(self._start)
        return self._spread(ends, self._come, lambda rows: (rows == start).all(axis=1))

    def _is_end(self, rows: Any) -> Any:
        return np.array(
            [
                all(p in goals for p, goals in zip(row, self._goals, strict=True))
                for row in rows.tolist()
            ],
            dtype=bool,
        )

    def _spread(self, first: list[list[int]], step: Any, is_end: Any) -> tuple[int, bool]:
        width = len(self._names)
        layer = np.array(first, dtype=np.int16).reshape(len(first), width)
        seen = {row.tobytes() for row in layer}
        found = bool(is_end(layer).any())
        while len(layer):
            grown: set[bytes] = set()
            for begin in range(0, len(layer), ROWS):
                rows = layer[begin : begin + ROWS]
                load = self._base + sum(
                    (table[rows[:, v]] for v, table in enumerate(self._charge)),
                    np.zeros((len(rows), len(self._base)), dtype=np.int64),
                )
                for one in self._steps:
                    for row in step(one, rows, load):
                        key = row.tobytes()
                        if key not in seen:
                            grown.add(key)
                if len(seen) + len(grown) > MOST:
                    raise TooManyError
            seen |= grown
            layer = np.frombuffer(b"".join(sorted(grown)), dtype=np.int16).reshape(-1, width)
            found = found or bool(is_end(layer).any())
        return len(seen), found

    def _go(self, one: _Step, rows: Any, load: Any) -> Any:
        """Return the placements after a migration from where it can be made."""
        fits = rows[:, one.v] == one.p
        fits &= (load[:, one.there] + one.amounts <= self._capacity[one.there]).all(axis=1)
        after = rows[fits].copy()
        after[:, one.v] = one.q
        return after

    def _come(self, one: _Step, rows: Any, load: Any) -> Any:
        """Return the placements before a migration, to where it has led."""
        fits = rows[:, one.v] == one.q
        fits &= (load[:, one.there] <= self._capacity[one.there]).all(axis=1)
        back = load[:, one.here] + self._charge[one.v][one.p][one.here]
        fits &= (back <= self._ceiling[one.here]).all(axis=1)
        before = rows[fits].copy()
        before[:, one.v] = one.p
        return before

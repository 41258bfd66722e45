# SPDX-License-Identifier: Apache-2.0
"""Can a row be overfull at some moment that the dependencies allow?

A moment is a set S of confirmed migrations, closed under dependencies, and a set F in flight
whose dependencies are in S.  An arrival is charged when it is in S or F, a departure is freed
when it is in S.  There are exponentially many moments, but the fullest one of a row is a
maximum-weight closure: charging arrival a requires the departures of this row among a's
ancestors to be confirmed, and nothing else ever does.  Conversely, for any set A of arrivals,
S = the ancestors of A and F = A \\ S is a moment.  So the fullest moment is

    max over A of  sum(arrivals in A) - sum(departures among the ancestors of A),

a project selection problem, solved by a minimum cut.

Most rows need no cut: charging all arrivals and freeing nothing fits, or a feasible flow found
greedily bounds the maximum well enough (weak duality).

References
----------
Picard (1976), Maximal closure of a graph and applications to combinatorial problems.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import networkx as nx

BLOCK = 4096
"""How many departures are traced through the dependencies at once; bounds the memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Something with a capacity.

    Attributes
    ----------
    key
        Whatever the caller calls it.
    load
        Charged before any migration; may exceed ``capacity``.
    arrivals, departures
        Amount (> 0) by position of the migration; no migration is in both.
    """

    key: Any
    capacity: int
    load: int
    arrivals: Mapping[int, int]
    departures: Mapping[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Excess:
    """A moment at which ``charged`` > capacity of ``row``.

    ``position`` is the first migration in the list that makes such a moment possible;
    ``in_flight`` are migrations that arrive there, ``confirmed`` all that came before.
    """

    row: Row
    position: int
    charged: int
    in_flight: list[int]
    confirmed: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class _Arrival:
    """``needs``: bit set of the row's departures among the ancestors."""

    position: int
    amount: int
    needs: int


def first_excess(rows: Iterable[Row], depends_on: Sequence[Sequence[int]]) -> Excess | None:
    """Return an excess of the migration that stands first in the list; None if all is safe.

    Parameters
    ----------
    rows
        If a migration overfills several, the first of these is reported.
    depends_on
        Positions of the dependencies of each migration, all smaller than its own.
    """
    found: tuple[int, Row, list[_Arrival]] | None = None
    # A row that has room for every arrival at once needs no further look.
    tight = [row for row in rows if row.load + sum(row.arrivals.values()) > row.capacity]
    for block in _blocks(tight):
        departures = sorted({position for row in block for position in row.departures})
        needs = _confirmed_departures(departures, depends_on)
        bit = {position: 1 << i for i, position in enumerate(departures)}
        for row in block:
            own = sum(bit[position] for position in row.departures)
            freed = {bit[position]: amount for position, amount in row.departures.items()}
            arrivals = [
                _Arrival(position, amount, needs[position] & own)
                for position, amount in sorted(row.arrivals.items())
            ]
            count = _first_bad(row, arrivals, freed)
            if count is None:
                continue
            position = arrivals[count - 1].position
            if found is None or position < found[0]:
                chosen = _too_much(row, arrivals[:count], freed)
                assert chosen is not None
                found = position, row, chosen
    if found is None:
        return None
    position, row, chosen = found
    charged = {arrival.position for arrival in chosen}
    confirmed = _ancestors(charged, depends_on)
    return Excess(
        row,
        position,
        row.load
        + sum(arrival.amount for arrival in chosen)
        - sum(amount for p, amount in row.departures.items() if p in confirmed),
        sorted(charged - confirmed),
        sorted(confirmed),
    )


def _first_bad(row: Row, arrivals: list[_Arrival], freed: Mapping[int, int]) -> int | None:
    """How many of ``arrivals`` (in list order) it takes to overfill the row; None: never.

    More arrivals never lower the fullest moment, so halving finds it.
    """
    if _too_much(row, arrivals, freed) is None:
        return None
    good, bad = 0, len(arrivals)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _too_much(row, arrivals[:middle], freed) is None:
            good = middle
        else:
            bad = middle
    return bad


def _too_much(
    row: Row, arrivals: Sequence[_Arrival], freed: Mapping[int, int]
) -> list[_Arrival] | None:
    """Return arrivals that overfill the row when charged together; None if none do."""
    room = row.capacity - row.load
    if room >= 0:
        return _heavier(arrivals, freed, room)
    # Overfull from the start, which is nobody's fault until something arrives: each arrival in
    # turn is taken as charged, and what it waits for as confirmed.
    for forced in arrivals:
        left = {bit: amount for bit, amount in freed.items() if not bit & forced.needs}
        gone = sum(freed.values()) - sum(left.values())
        rest = [
            _Arrival(other.position, other.amount, other.needs & ~forced.needs)
            for other in arrivals
            if other is not forced
        ]
        chosen = _heavier(rest, left, room + gone - forced.amount)
        if chosen is not None:
            return [forced, *chosen]
    return None


def _heavier(
    arrivals: Sequence[_Arrival], freed: Mapping[int, int], room: int
) -> list[_Arrival] | None:
    """Return arrivals A with sum(A) - sum(freed that A needs) > ``room``; None: no such."""
    total = sum(arrival.amount for arrival in arrivals)
    if total - _greedy_flow(arrivals, freed) <= room:
        return None
    graph = nx.DiGraph()
    graph.add_nodes_from(("full", "free"))
    ordered = sorted(arrivals, key=lambda arrival: arrival.needs.bit_count())
    for i, arrival in enumerate(ordered):
        graph.add_edge("full", i, capacity=arrival.amount)
        needs = arrival.needs
        # Whoever needs less can be charged along at no cost, so an edge to it may stand for all
        # that it needs: a long chain gives a sparse graph instead of its transitive closure.
        for j in range(i - 1, -1, -1):
            if not needs:
                break
            if ordered[j].needs & needs and not ordered[j].needs & ~arrival.needs:
                graph.add_edge(i, j)  # Without a capacity: infinite.
                needs &= ~ordered[j].needs
        for bit in _bits(needs):
            graph.add_edge(i, ("freed", bit))
            graph.add_edge(("freed", bit), "free", capacity=freed[bit])
    cut, (side, _) = nx.minimum_cut(graph, "full", "free")
    if total - cut <= room:
        return None
    return [arrival for i, arrival in enumerate(ordered) if i in side]


def _greedy_flow(arrivals: Sequence[_Arrival], freed: Mapping[int, int]) -> int:
    """Size of some feasible flow, at most that of the minimum cut."""
    left = dict(freed)
    open_bits = sum(left)
    flow = 0
    # Those with little choice first: they would find it taken.
    for arrival in sorted(arrivals, key=lambda arrival: arrival.needs.bit_count()):
        wanted = arrival.amount
        for bit in _bits(arrival.needs & open_bits):
            taken = min(wanted, left[bit])
            left[bit] -= taken
            wanted -= taken
            if not left[bit]:
                open_bits ^= bit
            if not wanted:
                break
        flow += arrival.amount - wanted
    return flow


def _bits(mask: int) -> Iterable[int]:
    while mask:
        lowest = mask & -mask
        yield lowest
        mask ^= lowest


def _blocks(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Cut ``rows`` into runs with about BLOCK departures; one row is never cut."""
    block: list[Row] = []
    departures: set[int] = set()
    for row in rows:
        if block and len(departures) + len(row.departures) > BLOCK:
            yield block
            block, departures = [], set()
        block.append(row)
        departures.update(row.departures)
    if block:
        yield block


def _confirmed_departures(
    departures: Sequence[int], depends_on: Sequence[Sequence[int]]
) -> list[int]:
    """For each migration the bit set of those ``departures`` that come before it."""
    own = {position: 1 << i for i, position in enumerate(departures)}
    before: list[int] = []
    for dependencies in depends_on:
        mask = 0
        for dependency in dependencies:
            mask |= before[dependency] | own.get(dependency, 0)
        before.append(mask)
    return before


def _ancestors(positions: Iterable[int], depends_on: Sequence[Sequence[int]]) -> set[int]:
    found: set[int] = set()
    stack = [dependency for position in positions for dependency in depends_on[position]]
    while stack:
        position = stack.pop()
        if position not in found:
            found.add(position)
            stack.extend(depends_on[position])
    return found

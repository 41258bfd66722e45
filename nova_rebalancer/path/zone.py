# SPDX-License-Identifier: Apache-2.0
"""Parts of a cloud that have nothing to do with each other, each as a puzzle of small numbers.

Two hosts are in one zone when an instance that can be migrated may be on both, or when they share
a pool.  What happens in one zone changes nothing in another, so each is ordered, and proved, by
itself.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from nova_rebalancer.model import state
from nova_rebalancer.path import board

Spot = tuple[int, board.Cells]

MOST_INSTANCES = 120
MOST_SPOTS = 250
"""Above these a zone is left to the heuristic."""


@dataclasses.dataclass(frozen=True, slots=True)
class Zone:
    """Hosts, and the instances that can be migrated and may be on them, all by index.

    ``hosts`` and ``instances`` ascend; ``goal`` says where those belong that are not there yet.
    """

    hosts: tuple[int, ...]
    instances: tuple[int, ...]
    goal: Mapping[int, Spot]


def split(start: state.PlacementState, goal: Mapping[int, Spot]) -> list[Zone]:
    """Return the zones in which something has to move, in the order of their hosts."""
    root = list(range(len(start.hosts)))

    def find(h: int) -> int:
        while root[h] != h:
            root[h] = root[root[h]]
            h = root[h]
        return h

    def join(hosts: list[int]) -> None:
        for h in hosts[1:]:
            root[find(h)] = find(hosts[0])

    movable = board.indices(start.movable)
    by_class: dict[int, set[int]] = {}
    for v in movable:
        by_class.setdefault(int(start.eligibility_of[v]), set()).add(int(start.host_of[v]))
    for e, homes in by_class.items():
        join(sorted(homes.union(board.indices(start.allowed[e]))))
    for r in range(len(start.resources)):
        rows = start.row_of[:, r]
        for row in np.unique(rows[rows != state.NOWHERE]).tolist():
            join(board.indices(rows == row))
    hosts_of: dict[int, list[int]] = {}
    for h in range(len(start.hosts)):
        hosts_of.setdefault(find(h), []).append(h)
    instances: dict[int, list[int]] = {}
    for v in movable:
        instances.setdefault(find(int(start.host_of[v])), []).append(v)
    goals: dict[int, dict[int, Spot]] = {}
    for v, spot in goal.items():
        goals.setdefault(find(int(start.host_of[v])), {})[v] = spot
    return [
        Zone(tuple(hosts), tuple(instances.get(name, ())), goals[name])
        for name, hosts in hosts_of.items()
        if name in goals
    ]


class Puzzle:
    """One zone as the exact search sees it.

    A placement is a string of bytes: for each instance the position of its spot in ``spots``.

    Attributes
    ----------
    instances, price
        Indices of the instances and the price of a move of each.
    spots, host
        The spots, and the position of each one's host.
    free
        What is free of each host without the instances, as one whole number.
    takes
        For each instance what it takes at each spot that it may be on, by the spot's position.
    moves
        The same of the spots that it may come to, as (spot, host, what it takes, mask).
    alike
        Ranges of instances that cannot be told apart and belong to one spot.
    start, goal
        The placements to begin and to end with.
    undoable
        Whether each move can be undone, so that the search may begin at both ends.
    """

    def __init__(
        self, on: board.Board, zone: Zone, price: list[int], spots: Sequence[Spot]
    ) -> None:
        start = on.start
        self.spots = spots
        at = {spot: p for p, spot in enumerate(spots)}
        position = {h: k for k, h in enumerate(zone.hosts)}
        self.host = [position[h] for h, _ in spots]
        extra, extra_free, extra_of = _extra(start, zone)
        width = on.fields.top[-1].bit_length() if on.fields.top else 0
        self.free = [on.free[h] + (extra.free(extra_free[h]) << width) for h in zone.hosts]
        pieces: list[_Piece] = []
        for v in zone.instances:
            home = on.host_of[v], on.cells_of[v]
            self.free[position[home[0]]] += on.take(v, home[1])[0]
            packed, mask = extra.take(extra_of[v])
            takes = {}
            for spot in _spots_of(on, zone, v):
                taken, top = on.take(v, spot[1])
                takes[at[spot]] = (taken + (packed << width), top + (mask << width))
            # Nothing returns to where it must not be, nor to cells that are not known.
            moves = tuple(
                (p, self.host[p], taken, top)
                for p, (taken, top) in sorted(takes.items())
                if start.allowed[start.eligibility_of[v], spots[p][0]]
                and state.NOWHERE not in spots[p][1]
            )
            goal = at[zone.goal.get(v, home)]
            pieces.append(_Piece(tuple(sorted(takes.items())), moves, price[v], goal, v, at[home]))
        pieces.sort()
        self.instances = [piece.v for piece in pieces]
        self.price = [piece.price for piece in pieces]
        self.takes = [dict(piece.takes) for piece in pieces]
        self.moves = [piece.moves for piece in pieces]
        self.alike = _alike([piece[:-2] for piece in pieces])
        self.start = bytes(piece.home for piece in pieces)
        self.goal = bytes(piece.goal for piece in pieces)
        kinds = start.kind_of[list(zone.hosts)]
        follows = start.follows[np.ix_(kinds, kinds)]
        self.follows: list[list[bool]] | None = None if follows.all() else follows.tolist()
        self.undoable = bool((follows == follows.T).all()) and all(
            self.sane(placed)
            and all(
                any(q == p for q, *_ in moves) for p, moves in zip(placed, self.moves, strict=True)
            )
            for placed in (self.start, self.goal)
        )

    def free_at(self, placed: bytes) -> list[int]:
        """Return what is free of each host."""
        free = self.free.copy()
        host = self.host
        for p, takes in zip(placed, self.takes, strict=True):
            free[host[p]] -= takes[p][0]
        return free

    def sane(self, placed: bytes, since: bytes = b"") -> bool:
        """Whether no host carries more than it has of anything that its instances take.

        With another placement ``since``, what those take that are elsewhere there: what was
        overfull before they came is no fault of theirs.
        """
        free = self.free_at(placed)
        return all(
            free[self.host[p]] & takes[p][1] == takes[p][1]
            for p, takes, q in itertools.zip_longest(placed, self.takes, since)
            if p != q
        )

    def canonical(self, placed: bytes) -> bytes:
        """Return the placement with those that cannot be told apart in order."""
        if not self.alike:
            return placed
        found = bytearray(placed)
        for first, end in self.alike:
            found[first:end] = sorted(found[first:end])
        return bytes(found)


class _Piece(NamedTuple):
    """One instance; those that are alike are next to each other in order."""

    takes: tuple[tuple[int, tuple[int, int]], ...]
    moves: tuple[tuple[int, int, int, int], ...]
    price: int
    goal: int
    v: int
    home: int


def puzzle(on: board.Board, zone: Zone, price: list[int]) -> Puzzle | None:
    """Return the zone as a puzzle, None if it is too large or has rules a puzzle cannot say.

    These are shared pools, and NUMA cells that Nova chooses by what was there before.
    """
    if len(zone.instances) > MOST_INSTANCES or len(zone.hosts) > MOST_SPOTS or on.pooled:
        return None
    if on.chosen_by_nova and any(on.guests_of[v] for v in zone.instances):
        return None
    spots = sorted({spot for v in zone.instances for spot in _spots_of(on, zone, v)})
    return Puzzle(on, zone, price, spots) if len(spots) <= MOST_SPOTS else None


def _spots_of(on: board.Board, zone: Zone, v: int) -> set[Spot]:
    """Return where an instance is, where it belongs, and wherever it may be."""
    home = on.host_of[v], on.cells_of[v]
    allowed = on.start.allowed[on.start.eligibility_of[v]]
    spots = {
        (h, cells)
        for h in zone.hosts
        if h == home[0] or allowed[h]
        for cells, _, _ in on.choices(v, h)
    }
    return spots | {home, zone.goal.get(v, home)}


def _alike(described: list[tuple[object, ...]]) -> list[tuple[int, int]]:
    """Return the ranges, first and end, of equal neighbours."""
    ranges, first = [], 0
    for k in range(1, len(described) + 1):
        if k == len(described) or described[k] != described[first]:
            if k - first > 1:
                ranges.append((first, k))
            first = k
    return ranges


def _extra(
    start: state.PlacementState, zone: Zone
) -> tuple[board.Fields, dict[int, list[int]], dict[int, list[int]]]:
    """Return groups and conflicts as fields: what each host has of them, what each one takes.

    A group is something of which a host has as much as members may be on it.  An instance in
    conflict with one that stays takes something of which that one's host has nothing left.
    """
    inside = set(zone.instances)
    hosts = set(zone.hosts)
    limits: list[dict[int, int]] = []
    takers: list[set[int]] = []
    for group in start.groups:
        members = inside.intersection(group.members)
        if members:
            left = dict.fromkeys(hosts, group.limit)
            for u in group.members:
                if u not in inside and int(start.host_of[u]) in hosts:
                    left[int(start.host_of[u])] -= 1
            for h in group.arriving:
                if h in hosts:
                    left[h] -= 1
            limits.append(left)
            takers.append(members)
    if start.conflicts:
        for v in zone.instances:
            for u in start.conflicts.of(v).tolist():
                if u in inside and u > v:
                    limits.append(dict.fromkeys(hosts, 1))
                    takers.append({u, v})
            outside = [
                int(start.host_of[u]) for u in start.conflicts.of(v).tolist() if u not in inside
            ]
            outside += start.conflicts.barred[v].tolist() if v in start.conflicts.barred else []
            barred = hosts.intersection(outside)
            if barred:
                limits.append({h: int(h not in barred) for h in hosts})
                takers.append({v})
    sizes = [
        len(some) + max(map(abs, left.values())) for some, left in zip(takers, limits, strict=True)
    ]
    return (
        board.Fields(sizes),
        {h: [left[h] for left in limits] for h in hosts},
        {v: [int(v in some) for some in takers] for v in zone.instances},
    )

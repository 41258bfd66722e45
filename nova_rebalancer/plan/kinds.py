# SPDX-License-Identifier: Apache-2.0
"""Interchangeable instances: counted by the planners, named again in the end.

Instances of one size under the same rules are of one kind.  A placement is told by how many of
each kind leave and enter each place.  Any such counts that balance can be turned into moves of
instances, each to another host, when no kind has more leaving and entering at one host than it has
moves in all (a transport problem with a forbidden diagonal, by Hall's theorem).
"""

import collections
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state

Place = tuple[int, tuple[int, ...]]
"""A host, and the host cells of the guest cells; sorted when the guest cells are alike."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """Interchangeable instances: their class, and who of them is where."""

    example: int
    alike: bool
    at: Mapping[Place, tuple[int, ...]]

    @property
    def size(self) -> int:
        """How many instances are of this kind."""
        return sum(len(here) for here in self.at.values())


def kinds(start: state.PlacementState, told_apart: Sequence[Hashable] | None = None) -> list[Kind]:
    """Group the movable instances of ``start`` by what the model can tell apart.

    Conflicts are not looked at: ``apart`` is for models that keep them.  ``told_apart`` (V,): what
    a goal can tell apart beside it.
    """
    groups = state.group_members(start)
    found: dict[object, dict[Place, list[int]]] = {}
    alike: dict[object, bool] = {}
    for v in np.nonzero(start.movable)[0].tolist():
        guest = start.guest[v, : start.guests_of[v]]
        key = (
            start.demand[v].tobytes(),
            guest.tobytes(),
            int(start.eligibility_of[v]),
            tuple(groups.get(v, ())),
            None if told_apart is None else told_apart[v],
        )
        if key not in found:
            found[key] = collections.defaultdict(list)
            alike[key] = bool((guest == guest[:1]).all())
        place = (
            int(start.host_of[v]),
            canonical(start.cells_of[v][: start.guests_of[v]], alike[key]),
        )
        found[key][place].append(v)
    return [
        Kind(
            example=next(iter(at.values()))[0],
            alike=alike[key],
            at={place: tuple(here) for place, here in at.items()},
        )
        for key, at in found.items()
    ]


def apart(start: state.PlacementState) -> state.PlacementState:
    """Return the state with a class of its own for each instance in conflict with others.

    No other can stand for it, so ``kinds`` makes a kind of each.
    """
    alone = np.nonzero(np.diff(start.conflicts.first))[0]
    if not alone.size:
        return start
    eligibility_of = start.eligibility_of.copy()
    eligibility_of[alone] = len(start.allowed) + np.arange(alone.size)
    allowed = np.concatenate((start.allowed, start.allowed[start.eligibility_of[alone]]))
    return dataclasses.replace(
        start, eligibility_of=state.frozen(eligibility_of), allowed=state.frozen(allowed)
    )


def size(start: state.PlacementState) -> int:
    """Return how many places instances of each kind could enter, which is the model's size."""
    total = 0
    start = apart(start)
    for kind in kinds(start):
        guests = int(start.guests_of[kind.example])
        cells = start.cells[start.allowed[start.eligibility_of[kind.example]]]
        for count, hosts in zip(*np.unique(cells, return_counts=True), strict=True):
            ways = math.comb(count, guests) if kind.alike else math.perm(count, guests)
            total += int(hosts) * ways
    return total


def canonical(cells: Sequence[int], alike: bool) -> tuple[int, ...]:
    """Write the cells of a guest in the one way that stands for all that are as good."""
    plain = tuple(int(n) for n in cells)
    return tuple(sorted(plain)) if alike else plain


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """A solution: how many of each kind leave and enter each place, in net terms."""

    leave: tuple[Mapping[Place, int], ...]
    enter: tuple[Mapping[Place, int], ...]
    slots: int
    free: int


def read(
    start: state.PlacementState,
    all_kinds: Sequence[Kind],
    host_of: arrays.Ints,
    cells_of: arrays.Ints,
) -> Flow:
    """Return the flow that leads to a placement; its slots and free cores are not counted."""
    leave_all, enter_all = [], []
    for kind in all_kinds:
        leave: collections.Counter[Place] = collections.Counter()
        enter: collections.Counter[Place] = collections.Counter()
        for place, here in kind.at.items():
            for v in here:
                if host_of[v] != start.host_of[v]:
                    cells = cells_of[v, : start.guests_of[v]].tolist()
                    leave[place] += 1
                    enter[int(host_of[v]), canonical(cells, kind.alike)] += 1
        leave_all.append(leave)
        enter_all.append(enter)
    return Flow(tuple(leave_all), tuple(enter_all), 0, 0)


def placement(
    start: state.PlacementState, all_kinds: Sequence[Kind], flow: Flow
) -> state.PlacementState:
    """Name the instances behind the counts: who leaves each place, and where to.

    Nobody must be ``crowded`` in ``flow``.
    """
    host_of, cells_of = start.host_of.copy(), start.cells_of.copy()
    for kind, leave, enter in zip(all_kinds, flow.leave, flow.enter, strict=True):
        movers = {place: list(kind.at[place][:count]) for place, count in leave.items()}
        for source, (h, cells) in pairs(leave, enter):
            v = movers[source].pop(0)
            host_of[v] = h
            cells_of[v] = state.NOWHERE
            cells_of[v, : len(cells)] = cells
    return start.placed(host_of, cells_of)


def crowded(leave: Mapping[Place, int], enter: Mapping[Place, int]) -> list[int]:
    """Hosts where more of a kind leave and enter than move in all."""
    at: collections.Counter[int] = collections.Counter()
    for (h, _), count in (*leave.items(), *enter.items()):
        at[h] += count
    moves = sum(leave.values())
    return [h for h, count in at.items() if count > moves]


def pairs(leave: Mapping[Place, int], enter: Mapping[Place, int]) -> list[tuple[Place, Place]]:
    """Pair places left with places entered, never two of one host.

    The host with most still to pair goes first; while no host has more than half of all ends,
    which ``separate`` sees to, that never gets stuck.
    """
    out, into = dict(leave), dict(enter)
    found = []
    while out:
        ends: collections.Counter[int] = collections.Counter()
        for places in (out, into):
            for (h, _), count in places.items():
                ends[h] += count
        tight = min(ends, key=lambda h: (-ends[h], h))
        source = min(
            out,
            key=lambda place: (place[0] != tight, -ends[place[0]], place),
        )
        dest = min(
            (place for place in into if place[0] != source[0]),
            key=lambda place: (
                source[0] != tight and place[0] != tight,
                -ends[place[0]],
                place,
            ),
        )
        found.append((source, dest))
        for places, place in ((out, source), (into, dest)):
            places[place] -= 1
            if not places[place]:
                del places[place]
    return found

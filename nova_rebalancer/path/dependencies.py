# SPDX-License-Identifier: Apache-2.0
"""From a sequence to a partial order: what must be confirmed before each hop may start.

A hop into a host must find room there whatever else is done or in flight by then.  The worst
case is that every earlier hop into that host is done or in flight and only those hops out of it
that this one depends on are confirmed; later hops judge themselves by the same rule.  So taking
earlier hops out of the host as dependencies, in order, until the worst case fits is enough for
every interleaving that the dependencies allow.
"""

from collections.abc import Collection
from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import path
from nova_rebalancer.model import state


def find(start: state.PlacementState, hops: Sequence[path.Hop]) -> list[tuple[int, ...]]:
    """Return for each hop the positions it depends on, ascending, none implied by another.

    ``hops`` must be sane one after another from ``start``.
    """
    charges = _Charges(start, {hop.v for hop in hops})
    depends: list[tuple[int, ...]] = []
    before: list[frozenset[int]] = []
    last: dict[int, int] = {}
    into: dict[int, list[int]] = {}
    for k, hop in enumerate(hops):
        needed: list[int] = []
        done: frozenset[int] = frozenset()
        if hop.v in last:
            needed.append(last[hop.v])
            done = before[last[hop.v]] | {last[hop.v]}
        for j in charges.known_before(hop):
            if j not in done:
                needed.append(j)
                done = done | before[j] | {j}
        pending = list(charges.departures(hop))
        while not charges.fits(hop, done):
            # Sequentially sane: with all departures confirmed it fits, so this never runs dry.
            k_out = next(j for j in pending if j not in done and charges.helps(hop, j, done))
            needed.append(k_out)
            done = done | before[k_out] | {k_out}
        charges.add(k, hop)
        last[hop.v] = k
        into.setdefault(hop.dest, []).append(k)
        before.append(done)
        depends.append(
            tuple(sorted(j for j in needed if not any(j in before[i] for i in needed if i != j)))
        )
    return depends


class _Charges:
    """What each hop takes and gives of what is limited: rows, cells, groups on a host.

    Of two instances in conflict a host takes one.  Only pairs among ``movers`` matter: who stays
    has no partner come to its host.
    """

    def __init__(self, start: state.PlacementState, movers: Collection[int]) -> None:
        self._start = start
        self._used, self._cell_used = start.used(), start.cell_used()
        self._groups, self._in_group = state.group_members(start), state.in_groups(start)
        moving = np.zeros(start.host_of.size, dtype=bool)
        moving[list(movers)] = True
        self._rivals = {
            v: here[moving[here]].tolist() for v in movers for here in [start.conflicts.of(v)]
        }
        self._into: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        self._out: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        # By host: earlier hops that bring or take a NUMA topology, and those that bring one.
        self._touched: dict[int, list[int]] = {}
        self._brought: dict[int, list[int]] = {}

    def known_before(self, hop: path.Hop) -> list[int]:
        """Earlier hops that Nova's choice of cells depends on, the latest first.

        Nova chooses the cells of an arriving instance by what is free of the destination's then,
        so all that changes them comes before or after it, never beside it.
        """
        if self._start.topologies is None or not self._start.guests_of[hop.v]:
            return []
        arrival, departure = self._touched.get(hop.dest, []), self._brought.get(hop.source, [])
        return sorted({*arrival, *departure}, reverse=True)

    def _things(
        self, v: int, h: int, cells: tuple[int, ...], other: int
    ) -> dict[tuple[object, ...], int]:
        """What instance ``v`` charges on ``h`` but not on ``other``."""
        start = self._start
        things: dict[tuple[object, ...], int] = {}
        for r in np.nonzero(start.demand[v])[0].tolist():
            row = int(start.row_of[h, r])
            if row != start.row_of[other, r] and row != state.NOWHERE:
                things["row", row, r] = int(start.demand[v, r])
        for g, n in enumerate(cells):
            # Where Nova chooses the cells, the order is what keeps them sane.
            if n != state.NOWHERE and start.topologies is None:
                for r in np.nonzero(start.guest[v, g])[0].tolist():
                    things["cell", h, n, r] = int(start.guest[v, g, r])
        for k in self._groups.get(v, ()):
            things["group", k, h] = 1
        for u in self._rivals[v]:
            things["pair", min(u, v), max(u, v), h] = 1
        return things

    def _room(self, thing: tuple[object, ...]) -> int:
        """What is free of ``thing`` at the start."""
        start = self._start
        match thing:
            case ("row", int(p), int(r)):
                return int(start.capacity[p, r] - self._used[p, r])
            case ("cell", int(h), int(n), int(r)):
                return int(start.cell_capacity[h, n, r] - self._cell_used[h, n, r])
            case ("group", int(k), int(h)):
                return start.groups[k].limit - int(self._in_group[k, h])
            case ("pair", int(u), int(v), int(h)):
                return 1 - int(start.host_of[u] == h) - int(start.host_of[v] == h)
        raise AssertionError(thing)

    def _short(self, hop: path.Hop, done: frozenset[int]) -> set[tuple[object, ...]]:
        """What ``hop`` may not find enough of when only ``done`` is sure to be confirmed."""
        short = set()
        for thing, amount in self._things(hop.v, hop.dest, hop.dest_cells, hop.source).items():
            room = self._room(thing) - amount
            room -= sum(a for _, a in self._into.get(thing, ()))
            room += sum(a for j, a in self._out.get(thing, ()) if j in done)
            if room < 0:
                short.add(thing)
        return short

    def fits(self, hop: path.Hop, done: frozenset[int]) -> bool:
        """Whether ``hop`` finds room in the worst case."""
        return not self._short(hop, done)

    def departures(self, hop: path.Hop) -> list[int]:
        """Earlier hops that give something ``hop`` takes, in order."""
        things = self._things(hop.v, hop.dest, hop.dest_cells, hop.source)
        return sorted({j for thing in things for j, _ in self._out.get(thing, ())})

    def helps(self, hop: path.Hop, j: int, done: frozenset[int]) -> bool:
        """Whether hop ``j`` gives something that ``hop`` is short of."""
        return any(j == i for thing in self._short(hop, done) for i, _ in self._out.get(thing, ()))

    def add(self, k: int, hop: path.Hop) -> None:
        """Take hop ``k`` into account for those that follow."""
        if self._start.guests_of[hop.v]:
            self._touched.setdefault(hop.source, []).append(k)
            self._touched.setdefault(hop.dest, []).append(k)
            self._brought.setdefault(hop.dest, []).append(k)
        arrives = self._things(hop.v, hop.dest, hop.dest_cells, hop.source)
        leaves = self._things(hop.v, hop.source, hop.source_cells, hop.dest)
        for thing, amount in arrives.items():
            self._into.setdefault(thing, []).append((k, amount))
        for thing, amount in leaves.items():
            self._out.setdefault(thing, []).append((k, amount))

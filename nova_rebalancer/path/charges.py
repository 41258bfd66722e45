# SPDX-License-Identifier: Apache-2.0
"""What each hop takes and gives of what is limited: rows, cells, groups on a host, pairs.

Of two instances in conflict a host takes one.  Only pairs among those that move matter: who stays
has no partner come to its host.
"""

from collections.abc import Collection
from collections.abc import Sequence

from nova_rebalancer.model import path
from nova_rebalancer.model import state

Name = tuple[str | int, ...]
"""Something limited, such as a resource of a host."""


class Start:
    """What is charged at the start, added up once for all hops of a question."""

    def __init__(self, placement: state.PlacementState) -> None:
        self.state = placement
        self.used, self.cell_used = placement.used(), placement.cell_used()
        self.groups, self.in_group = state.group_members(placement), state.in_groups(placement)
        self.rows: list[list[int]] = placement.row_of.tolist()


class Charges:
    """What hops of ``movers`` charge; nothing here changes with time."""

    def __init__(self, at: Start, movers: Collection[int]) -> None:
        start = self._start = at.state
        self._used, self._cell_used = at.used, at.cell_used
        self._groups, self._in_group = at.groups, at.in_group
        self._rivals = {
            v: [u for u in start.conflicts.of(v).tolist() if u in movers] for v in movers
        }
        self._rows = at.rows
        self._asked = {
            v: [(r, a) for r, a in enumerate(start.demand[v].tolist()) if a] for v in movers
        }

    def arrival(self, hop: path.Hop) -> list[tuple[Name, int]]:
        """Return what a hop takes at its destination from its start on."""
        return self._of(hop.v, hop.dest, hop.dest_cells, hop.source)

    def departure(self, hop: path.Hop) -> list[tuple[Name, int]]:
        """Return what a hop gives back at its source with its end."""
        return self._of(hop.v, hop.source, hop.source_cells, hop.dest)

    def _of(self, v: int, h: int, cells: tuple[int, ...], other: int) -> list[tuple[Name, int]]:
        """What instance ``v`` charges on ``h`` but not on ``other``."""
        start, rows = self._start, self._rows
        found: list[tuple[Name, int]] = []
        for r, amount in self._asked[v]:
            row = rows[h][r]
            if row not in (rows[other][r], state.NOWHERE):
                found.append((("row", row, r), amount))
        for g, n in enumerate(cells):
            # Where Nova chooses the cells, the order is what keeps them sane.
            if n != state.NOWHERE and start.topologies is None:
                for r in start.guest[v, g].nonzero()[0].tolist():
                    found.append((("cell", h, n, r), int(start.guest[v, g, r])))
        found += [(("group", k, h), 1) for k in self._groups.get(v, ())]
        found += [(("pair", min(u, v), max(u, v), h), 1) for u in self._rivals[v]]
        return found

    def room(self, name: Name) -> int:
        """Return what is free of something at the start."""
        start = self._start
        match name:
            case ("row", int(p), int(r)):
                return int(start.capacity[p, r] - self._used[p, r])
            case ("cell", int(h), int(n), int(r)):
                return int(start.cell_capacity[h, n, r] - self._cell_used[h, n, r])
            case ("group", int(k), int(h)):
                return start.groups[k].limit - int(self._in_group[k, h])
            case ("pair", int(u), int(v), int(h)):
                return 1 - int(start.host_of[u] == h) - int(start.host_of[v] == h)
        raise AssertionError(name)

    def before(self, hops: Sequence[path.Hop]) -> list[list[int]]:
        """Return for each hop the earlier ones that must have ended whatever room there is.

        Its instance's last one; and where Nova decides, what its decision depends on.  Nova chooses
        the cells of an arriving instance by what is free of the destination's then, so all that
        changes them comes before or after it, never beside it.  And it checks a group's rule late,
        so two members never move at a time.
        """
        start, nova = self._start, self._start.topologies is not None
        last: dict[int, int] = {}
        of_group: dict[int, int] = {}
        # By host: earlier hops that bring or take a NUMA topology, and those that bring one.
        touched: dict[int, list[int]] = {}
        brought: dict[int, list[int]] = {}
        found: list[list[int]] = []
        for k, hop in enumerate(hops):
            needed = {last[hop.v]} if hop.v in last else set()
            last[hop.v] = k
            if nova:
                for group in self._groups.get(hop.v, ()):
                    needed.update([of_group[group]] if group in of_group else [])
                    of_group[group] = k
            if nova and start.guests_of[hop.v]:
                needed.update(touched.get(hop.dest, ()), brought.get(hop.source, ()))
                touched.setdefault(hop.source, []).append(k)
                touched.setdefault(hop.dest, []).append(k)
                brought.setdefault(hop.dest, []).append(k)
            found.append(sorted(needed))
        return found

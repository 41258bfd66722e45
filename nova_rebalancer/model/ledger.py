# SPDX-License-Identifier: Apache-2.0
"""What is charged where while instances move, one at a time.

The ledger is the working copy of a placement: planners and the path-finder try moves on it and
read back a state.  An instance in flight is charged on both hosts, so a move needs its whole
room at the destination before it leaves the source.
"""

import itertools

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import numa
from nova_rebalancer.model import state


class Ledger:
    """Charges of one placement; starts as ``start``'s."""

    def __init__(self, start: state.PlacementState) -> None:
        self.state = start
        self.used = start.used()
        self.cell_used = start.cell_used()
        self.host_of = start.host_of.copy()
        self.cells_of = start.cells_of.copy()
        self.topologyless = start.topologyless()
        self.groups_of = state.group_members(start)
        self.in_group = state.in_groups(start)
        self.numa = None if start.topologies is None else numa.Book(start.topologies)
        self._moves: list[tuple[int, int, tuple[int, ...], tuple[numa.Place, ...] | None]] = []

    def _asked(self, v: int) -> arrays.Ints:
        """Return the resources that ``v`` takes some of."""
        return np.nonzero(self.state.demand[v])[0]

    def placement(self) -> state.PlacementState:
        """Return the state as the ledger stands."""
        return self.state.placed(self.host_of, self.cells_of)

    def has_room(self, v: int, h: int) -> bool:
        """Whether every rule but NUMA lets instance ``v`` arrive on host ``h`` now."""
        start, source = self.state, self.host_of[v]
        if h == source or not start.allowed[start.eligibility_of[v], h]:
            return False
        if not start.follows[start.kind_of[source], start.kind_of[h]]:
            return False
        for r in self._asked(v):
            row = start.row_of[h, r]
            if (
                row != start.row_of[source, r]
                and self.used[row, r] + start.demand[v, r] > start.capacity[row, r]
            ):
                return False
        if start.conflicts and (start.conflicts.hosts(v, self.host_of) == h).any():
            return False
        return all(self.in_group[k, h] < start.groups[k].limit for k in self.groups_of.get(v, ()))

    def cells_fit(self, v: int, h: int, cells: tuple[int, ...]) -> bool:
        """Whether the guest cells of ``v`` come to ``cells`` of host ``h``.

        Where Nova chooses them, these must be the ones it chooses now.
        """
        start = self.state
        if self.numa is not None and cells:
            return self._predicted(v, h) == cells
        for g, n in enumerate(cells):
            if np.any(self.cell_used[h, n] + start.guest[v, g] > start.cell_capacity[h, n]):
                return False
        return True

    def fits(self, v: int, h: int, cells: tuple[int, ...]) -> bool:
        """Whether ``v`` may arrive on ``cells`` of host ``h`` now."""
        return self.has_room(v, h) and self.cells_fit(v, h, cells)

    def cells_for(self, v: int, h: int) -> tuple[int, ...] | None:
        """Return host cells of ``h`` where ``v`` fits, the first in order, None if it does not.

        An instance without NUMA topology fits on the empty tuple.  Where Nova chooses, these are
        the cells it chooses now.
        """
        return self.free_cells(v, h) if self.has_room(v, h) else None

    def free_cells(self, v: int, h: int) -> tuple[int, ...] | None:
        """Return the cells as ``cells_for``, whatever other rules say."""
        if self.numa is not None and self.state.guests_of[v]:
            return self._predicted(v, h)
        for cells in choices(int(self.state.guests_of[v]), int(self.state.cells[h])):
            if self.cells_fit(v, h, cells):
                return cells
        return None

    def spot_for(self, v: int, h: int, cells: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the cells that ``v`` comes to when it is sent to ``cells`` of ``h`` now.

        None if it does not fit.  Where Nova chooses, it may be sent to other cells than meant.
        """
        if self.numa is not None and cells:
            return self.cells_for(v, h)
        return cells if self.fits(v, h, cells) else None

    def _predicted(self, v: int, h: int) -> tuple[int, ...] | None:
        assert self.numa is not None
        places = self.numa.predict(v, h)
        return None if places is None else tuple(place.cell for place in places)

    def hosts_with_room(self, v: int) -> arrays.Ints:
        """Return the hosts where every rule but NUMA lets ``v`` arrive now, as indices."""
        start, source = self.state, self.host_of[v]
        mask = start.allowed[start.eligibility_of[v]].copy()
        mask &= start.follows[start.kind_of[source]][start.kind_of]
        mask[source] = False
        for r in self._asked(v):
            rows = start.row_of[:, r]
            free = start.capacity[rows, r] - self.used[rows, r] >= start.demand[v, r]
            mask &= free | (rows == rows[source])
        for k in self.groups_of.get(v, ()):
            mask &= self.in_group[k] < start.groups[k].limit
        mask[start.conflicts.hosts(v, self.host_of)] = False
        return np.nonzero(mask)[0]

    def move(self, v: int, h: int, cells: tuple[int, ...]) -> None:
        """Move ``v`` to ``cells`` of host ``h``; the caller has asked whether it fits."""
        source = int(self.host_of[v])
        places = None if self.numa is None else self.numa.places(v)
        self._moves.append((v, source, tuple(self.cells_of[v].tolist()), places))
        if self.numa is not None:
            self.numa.move(v, source, h, self.numa.predict(v, h) if cells else None)
        self._put(v, h, cells)

    def take_back(self) -> None:
        """Undo the last move that is not undone."""
        v, source, cells, places = self._moves.pop()
        if self.numa is not None:
            self.numa.move(v, int(self.host_of[v]), source, places)
        self._put(v, source, cells)

    def _put(self, v: int, h: int, cells: tuple[int, ...]) -> None:
        self._charge(v, -1)
        self.host_of[v] = h
        self.cells_of[v] = state.NOWHERE
        self.cells_of[v, : len(cells)] = cells
        self._charge(v, 1)

    def _charge(self, v: int, sign: int) -> None:
        start, h = self.state, self.host_of[v]
        for r in self._asked(v):
            row = start.row_of[h, r]
            if row != state.NOWHERE:
                self.used[row, r] += sign * start.demand[v, r]
        for g, n in enumerate(self.cells_of[v]):
            if n != state.NOWHERE:
                self.cell_used[h, n] += sign * start.guest[v, g]
        if start.guests_of[v] == 0:
            self.topologyless[h] += sign
        for k in self.groups_of.get(v, ()):
            self.in_group[k, h] += sign


def choices(guests: int, cells: int) -> list[tuple[int, ...]]:
    """Ways to put ``guests`` guest cells on different ones of ``cells`` host cells."""
    return list(itertools.permutations(range(cells), guests))

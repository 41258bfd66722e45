# SPDX-License-Identifier: Apache-2.0
"""A working copy of a placement that is quick to try moves on.

What is free of a host is one whole number with a field for each resource (and for each resource
of each NUMA cell), so that a subtraction and a mask say whether an instance fits, however many
resources there are.  The highest bit of a field is set as long as nothing is missing there.

It judges as ``model/ledger.py`` does; the tests hold them against each other.  An instance in
flight is charged on both hosts, so it needs its whole room at the destination first.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import math

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import ledger
from nova_rebalancer.model import numa
from nova_rebalancer.model import state

Cells = tuple[int, ...]
"""Host cells of the guest cells; empty without a NUMA topology."""

UNIT = 1 << 20
"""What a cost of one is as a price."""

Take = tuple[int, int]
"""What an instance takes of a host, as fields, and the highest bits of the fields it takes of."""


class Fields:
    """Where the numbers of a host lie in one whole number.

    Parameters
    ----------
    sizes
        For each field the largest number that it has to hold, negative or positive.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.at: list[int] = []
        self.top: list[int] = []
        end = 0
        for size in sizes:
            width = max(1, int(size).bit_length()) + 2
            self.at.append(end)
            end += width
            self.top.append(1 << (end - 1))

    def free(self, amounts: Iterable[int]) -> int:
        """Pack what is free; an amount may be negative."""
        return sum(
            top + (int(amount) << at)
            for amount, at, top in zip(amounts, self.at, self.top, strict=True)
        )

    def take(self, amounts: Iterable[int]) -> Take:
        """Pack what is taken; fields of which nothing is taken are not looked at."""
        packed = mask = 0
        for amount, at, top in zip(amounts, self.at, self.top, strict=True):
            if amount:
                packed += int(amount) << at
                mask |= top
        return packed, mask


class Board:
    """Charges of one placement; starts as ``start``'s."""

    def __init__(self, start: state.PlacementState) -> None:
        self.start = start
        self.host_of: list[int] = start.host_of.tolist()
        self.cells_of: list[Cells] = [
            tuple(cells[:guests])
            for cells, guests in zip(start.cells_of.tolist(), start.guests_of.tolist(), strict=True)
        ]
        self.guests_of: list[int] = start.guests_of.tolist()
        self.groups_of = state.group_members(start)
        self.chosen_by_nova = start.topologies is not None
        self._cells: list[int] = start.cells.tolist()
        self._allowed = [row.tobytes() for row in start.allowed]
        self._eligibility: list[int] = start.eligibility_of.tolist()
        self._kind: list[int] = start.kind_of.tolist()
        self._follows = None if start.follows.all() else start.follows.tolist()
        self._in_group: list[dict[int, int]] = [
            {int(h): int(counts[h]) for h in np.nonzero(counts)[0]}
            for counts in state.in_groups(start)
        ]
        self._numa = None if start.topologies is None else numa.Book(start.topologies)
        self._where = start.host_of.copy() if start.conflicts else start.host_of
        self._undo: list[tuple[int, int, Cells, tuple[numa.Place, ...] | None]] = []
        own, self.pooled = _own_rows(start)
        self._used = start.used() if self.pooled else np.zeros((0, 0), dtype=np.int64)
        self._pack(own)
        self._takes: dict[tuple[int, Cells], Take] = {}
        self._choices: dict[tuple[int, int], list[tuple[Cells, int, int]]] = {}

    def _pack(self, own: Sequence[int]) -> None:
        """Lay out the fields and pack what is free of each host."""
        start = self.start
        shapes, shape_of = np.unique(
            np.concatenate(
                (
                    start.demand,
                    start.guest.reshape(len(start.demand), math.prod(start.guest.shape[1:])),
                    start.guests_of[:, None],
                ),
                axis=1,
            ),
            axis=0,
            return_inverse=True,
        )
        self.shape_of: list[int] = shape_of.ravel().tolist()
        resources = len(start.resources)
        self._own_demand = np.ascontiguousarray(shapes[:, own])
        self._amounts: list[list[int]] = self._own_demand.tolist()
        self._guest = shapes[:, resources:-1].reshape(len(shapes), *start.guest.shape[1:])
        most = start.demand.sum(axis=0) + start.base.sum(axis=0)
        hosts = np.arange(len(start.hosts))
        used = start.used()
        rows = np.where(start.row_of == state.NOWHERE, 0, start.row_of)
        columns = [
            np.minimum(start.capacity[rows[:, r], r] - used[rows[:, r], r], most[r] + 1)
            for r in own
        ]
        for at, r in enumerate(own):
            # Where there is none of a resource nobody who takes some of it fits.
            columns[at] = np.where(start.row_of[:, r] == state.NOWHERE, -1, columns[at])
        most_of_fields: list[int] = most[list(own)].tolist()
        self._cell_fields: list[tuple[int, int]] = []
        if not self.chosen_by_nova and start.guest.size:
            cell_used = start.cell_used()
            most_of_cells = start.guest.sum(axis=(0, 1))
            for n in range(start.cell_capacity.shape[1]):
                for r in np.nonzero(start.guest.any(axis=(0, 1)))[0].tolist():
                    self._cell_fields.append((n, r))
                    free = start.cell_capacity[hosts, n, r] - cell_used[hosts, n, r]
                    columns.append(np.minimum(free, most_of_cells[r] + 1))
                    most_of_fields.append(int(most_of_cells[r]))
        sizes = [
            max(size, int(np.abs(column).max(initial=0)))
            for size, column in zip(most_of_fields, columns, strict=True)
        ]
        self.fields = Fields(sizes)
        table = np.array(columns, dtype=np.int64).reshape(len(columns), len(hosts)).T
        self.free: list[int] = [self.fields.free(row) for row in table.tolist()]
        self.room = np.ascontiguousarray(table[:, : len(own)])
        """What is free of each host and own resource, (H, own) int64, for scans of many hosts."""

    def take(self, v: int, cells: Cells) -> Take:
        """Return what ``v`` takes of a host when its guest cells are on ``cells``."""
        key = (self.shape_of[v], cells)
        found = self._takes.get(key)
        if found is None:
            shape, own = key[0], self._amounts[key[0]]
            amounts = list(own)
            for n, r in self._cell_fields:
                amounts.append(
                    sum(int(self._guest[shape, g, r]) for g, m in enumerate(cells) if m == n)
                )
            packed, top = self.fields.take(amounts)
            # A cell that is overfull takes nobody, whatever it has too little of.
            for (n, _), bit in zip(self._cell_fields, self.fields.top[len(own) :], strict=True):
                top |= bit if n in cells else 0
            found = self._takes[key] = packed, top
        return found

    def choices(self, v: int, h: int) -> list[tuple[Cells, int, int]]:
        """Return the ways to put ``v`` on cells of ``h``, each with what it takes."""
        key = (self.shape_of[v], self._cells[h])
        found = self._choices.get(key)
        if found is None:
            every: list[Cells] = [()]
            if self.guests_of[v] and not self.chosen_by_nova:
                every = ledger.choices(self.guests_of[v], self._cells[h])
            found = [(cells, *self.take(v, cells)) for cells in every]
            self._choices[key] = found
        return found

    def may(self, v: int, h: int) -> bool:
        """Whether every rule but room lets ``v`` arrive on ``h`` from where it is now."""
        source = self.host_of[v]
        if h == source or not self._allowed[self._eligibility[v]][h]:
            return False
        if self._follows is not None and not self._follows[self._kind[source]][self._kind[h]]:
            return False
        for k in self.groups_of.get(v, ()):
            if self._in_group[k].get(h, 0) >= self.start.groups[k].limit:
                return False
        if self.start.conflicts and (self.start.conflicts.hosts(v, self._where) == h).any():
            return False
        return not self.pooled or self._pools_fit(v, source, h)

    def _pools_fit(self, v: int, source: int, h: int) -> bool:
        start = self.start
        for r in self.pooled:
            row, amount = start.row_of[h, r], start.demand[v, r]
            if (
                amount
                and row != start.row_of[source, r]
                and self._used[row, r] + amount > start.capacity[row, r]
            ):
                return False
        return True

    def spot(self, v: int, h: int) -> Cells | None:
        """Return host cells of ``h`` where ``v`` may arrive now, None if it may not."""
        if not self.may(v, h):
            return None
        if self.chosen_by_nova and self.guests_of[v]:
            packed, top = self.take(v, ())
            return self._predicted(v, h) if (self.free[h] - packed) & top == top else None
        free = self.free[h]
        for cells, packed, top in self.choices(v, h):
            if (free - packed) & top == top:
                return cells
        return None

    def fits(self, v: int, h: int, cells: Cells) -> bool:
        """Whether ``v`` may arrive on ``cells`` of ``h`` now."""
        if self.chosen_by_nova and self.guests_of[v]:
            return self.spot(v, h) == cells
        packed, top = self.take(v, cells)
        return (self.free[h] - packed) & top == top and self.may(v, h)

    def spot_for(self, v: int, h: int, cells: Cells) -> Cells | None:
        """Return the cells that ``v`` comes to when it is sent to ``cells`` of ``h`` now.

        None if it does not fit.  Where Nova chooses, it may be sent to other cells than meant.
        """
        if self.chosen_by_nova and self.guests_of[v]:
            return self.spot(v, h)
        return cells if self.fits(v, h, cells) else None

    def _predicted(self, v: int, h: int) -> Cells | None:
        assert self._numa is not None
        places = self._numa.predict(v, h)
        return None if places is None else tuple(place.cell for place in places)

    def hosts_with_room(self, v: int) -> list[int]:
        """Return the hosts that have what ``v`` takes of their own resources and may have it."""
        mask = self.start.allowed[self._eligibility[v]].copy()
        for at, amount in enumerate(self._amounts[self.shape_of[v]]):
            if amount:
                mask &= self.room[:, at] >= amount
        mask[self.host_of[v]] = False
        found: list[int] = mask.nonzero()[0].tolist()
        return found

    def nearly(self, v: int, most: int) -> list[int]:
        """Return up to ``most`` hosts that may have ``v``, those first that lack least for it."""
        mask = self.start.allowed[self._eligibility[v]].copy()
        mask[self.host_of[v]] = False
        hosts = mask.nonzero()[0]
        amounts = self._own_demand[self.shape_of[v]]
        taken = amounts > 0
        lack = np.maximum(amounts[taken] - self.room[hosts][:, taken], 0) / amounts[taken]
        order = np.argsort(lack.max(axis=1, initial=0.0), kind="stable")[:most]
        found: list[int] = hosts[order].tolist()
        return found

    def may_ever(self, v: int, h: int) -> bool:
        """Whether the rules that do not depend on others let ``v`` go from where it is to ``h``."""
        source = self.host_of[v]
        return (
            h != source
            and bool(self._allowed[self._eligibility[v]][h])
            and (self._follows is None or self._follows[self._kind[source]][self._kind[h]])
        )

    def rivals(self, v: int, h: int) -> list[int]:
        """Return the instances on ``h`` that ``v`` is in conflict with."""
        if not self.start.conflicts:
            return []
        partners = self.start.conflicts.of(v)
        found: list[int] = partners[self._where[partners] == h].tolist()
        return found

    def mates(self, v: int, h: int) -> list[frozenset[int]]:
        """Return for each group of ``v`` that has its limit on ``h`` the members that are there."""
        groups = [
            self.start.groups[k]
            for k in self.groups_of.get(v, ())
            if self._in_group[k].get(h, 0) >= self.start.groups[k].limit
        ]
        return [frozenset(u for u in one.members if self.host_of[u] == h) for one in groups]

    def fits_without(
        self,
        v: int,
        h: int,
        cells: Cells | None,
        gone: Sequence[int],
        mates: Sequence[frozenset[int]],
    ) -> bool:
        """Whether ``v`` would fit on ``cells`` of ``h`` (None: on any) without ``gone``."""
        if any(one.isdisjoint(gone) for one in mates):
            return False
        free = self.free[h]
        for u in gone:
            free += self.take(u, self.cells_of[u])[0]
        if cells is None or self.chosen_by_nova:
            return any((free - packed) & top == top for _, packed, top in self.choices(v, h))
        packed, top = self.take(v, cells)
        return (free - packed) & top == top

    def move(self, v: int, h: int, cells: Cells) -> None:
        """Move ``v`` to ``cells`` of ``h``; the caller has asked whether it fits."""
        source = self.host_of[v]
        places = None
        if self._numa is not None:
            places = self._numa.places(v)
            self._numa.move(v, source, h, self._numa.predict(v, h) if cells else None)
        self._undo.append((v, source, self.cells_of[v], places))
        self._put(v, h, cells)

    def take_back(self) -> None:
        """Undo the last move that is not undone."""
        v, source, cells, places = self._undo.pop()
        if self._numa is not None:
            self._numa.move(v, self.host_of[v], source, places)
        self._put(v, source, cells)

    def _put(self, v: int, h: int, cells: Cells) -> None:
        source = self.host_of[v]
        self.free[source] += self.take(v, self.cells_of[v])[0]
        self.free[h] -= self.take(v, cells)[0]
        amounts = self._own_demand[self.shape_of[v]]
        self.room[source] += amounts
        self.room[h] -= amounts
        for k in self.groups_of.get(v, ()):
            counts = self._in_group[k]
            counts[source] -= 1
            counts[h] = counts.get(h, 0) + 1
        for r in self.pooled:
            amount = self.start.demand[v, r]
            for end, sign in ((source, -1), (h, 1)):
                if self.start.row_of[end, r] != state.NOWHERE:
                    self._used[self.start.row_of[end, r], r] += sign * amount
        if self.start.conflicts:
            self._where[v] = h
        self.host_of[v] = h
        self.cells_of[v] = cells


def _own_rows(start: state.PlacementState) -> tuple[list[int], list[int]]:
    """Resources that each host has by itself, and those that some hosts share or lack."""
    own, pooled = [], []
    asked = (start.demand > 0).any(axis=0)
    for r in np.nonzero(asked)[0].tolist():
        rows = start.row_of[:, r]
        known = rows[rows != state.NOWHERE]
        takers = start.host_of[start.demand[:, r] > 0]
        if known.size == np.unique(known).size and (rows[takers] != state.NOWHERE).all():
            own.append(r)
        else:
            pooled.append(r)
    return own, pooled


def prices(costs: Sequence[float]) -> list[int]:
    """Return the price of each move as a whole number: first the cost, then one for the move."""
    return [round(cost * UNIT) + 1 for cost in costs]


def indices(mask: arrays.Bools) -> list[int]:
    """Return where ``mask`` is true."""
    found: list[int] = mask.nonzero()[0].tolist()
    return found

# SPDX-License-Identifier: Apache-2.0
"""A cloud in memory where instances come and go: what is charged where, on the model's arrays.

Axes are those of ``model/state.py``; V are the kinds of ``sim/kinds.py`` here.
"""

from collections.abc import Iterator
import dataclasses
import itertools

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import numa
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import soft_groups
from nova_rebalancer.sim import kinds


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A server group of instances that come and go; ``limit`` counts for anti-affinity only."""

    id: str
    policy: str
    limit: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Spot:
    """A host by index, the host cells of the guest cells, and Nova's choice where it chooses."""

    host: int
    cells: tuple[int, ...] = ()
    places: tuple[numa.Place, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Resident:
    """An instance that is there."""

    name: str
    kind: int
    spot: Spot
    group: Group | None


class Books:
    """All residents of a cloud; starts with the instances of its snapshot where they are.

    Attributes
    ----------
    residents
        By name, in the order they came.
    used, cell_used, topologyless
        What is charged, (P, R), (H, N, R) and (H,).
    """

    def __init__(self, kinds: kinds.Kinds) -> None:
        start = kinds.start
        self.kinds = kinds
        self.residents: dict[str, Resident] = {}
        self.used = start.base.copy()
        self.cell_used = np.zeros_like(start.cell_capacity)
        self.topologyless = start.floating.copy()
        self._asked = tuple(np.nonzero(row)[0].tolist() for row in start.demand)
        self._numa = None
        if start.topologies is not None:
            self._numa = [
                None if cells is None else [cell.copy() for cell in cells]
                for cells in start.topologies.hosts
            ]
        self._members: dict[str, dict[str, None]] = {}
        self._on: dict[str, arrays.Ints] = {}
        # What runs a migration now is held at both ends for ever, so its far end counts, too.
        for group in start.groups:
            far = np.zeros(len(start.hosts), dtype=np.int64)
            np.add.at(far, list(group.arriving), 1)
            self._on[group.id] = far
        group_of = {
            member: Group(group.id, group.policy, group.max_server_per_host)
            for group in kinds.snapshot.server_groups
            for member in group.members
        }
        for v, one in enumerate(kinds.snapshot.instances):
            places = None if start.topologies is None else start.topologies.places[v]
            cells = tuple(start.cells_of[v, : start.guests_of[v]].tolist())
            here = Resident(
                one.id, v, Spot(int(start.host_of[v]), cells, places), group_of.get(one.id)
            )
            self.residents[one.id] = here
            # The snapshot's cells are charged with what is on them.
            self._charge(here, 1, cells_too=False)

    def copy(self) -> "Books":
        """Return books that can be changed without changing these."""
        new = object.__new__(Books)
        new.kinds, new._asked = self.kinds, self._asked
        new.residents = dict(self.residents)
        new.used, new.cell_used = self.used.copy(), self.cell_used.copy()
        new.topologyless = self.topologyless.copy()
        new._numa = None
        if self._numa is not None:
            new._numa = [
                None if cells is None else [cell.copy() for cell in cells] for cells in self._numa
            ]
        new._members = {name: dict(members) for name, members in self._members.items()}
        new._on = {name: count.copy() for name, count in self._on.items()}
        return new

    def hosts_with_room(self, kind: int, group: Group | None) -> arrays.Bools:
        """Return where one more of ``kind`` may be as far as cells can be judged one by one, (H,).

        Where its guest cells are alike and the planner chooses the cells, it fits on all of them.
        """
        start = self.kinds.start
        mask: arrays.Bools = start.allowed[start.eligibility_of[kind]].copy()
        for r in self._asked[kind]:
            rows = start.row_of[:, r]
            free = start.capacity[rows, r] - self.used[rows, r]
            mask &= (rows != state.NOWHERE) & (free >= start.demand[kind, r])
        if group is not None and group.policy == "anti-affinity":
            if group.id in self._on:
                mask &= self._on[group.id] < group.limit
        elif group is not None and group.policy == "affinity" and self._members.get(group.id):
            mask &= self._on[group.id] > 0
        guests = int(start.guests_of[kind])
        if guests and self._numa is None:
            free = start.cell_capacity - self.cell_used
            known = np.arange(free.shape[1]) < start.cells[:, None]
            taken = np.zeros(known.shape, dtype=bool)
            for g in range(guests):
                fits = known & (free >= start.guest[kind, g]).all(axis=2)
                mask &= fits.any(axis=1)
                taken |= fits
            mask &= taken.sum(axis=1) >= guests
        return mask

    def cells(self, kind: int, h: int, packing: bool) -> Spot | None:
        """Return where ``kind`` comes to on a host with room, None if its cells do not fit.

        Where Nova chooses, its choice; else the fullest cells that fit when ``packing``, the
        emptiest if not, as Nova orders them.
        """
        start = self.kinds.start
        guests = int(start.guests_of[kind])
        if not guests:
            return Spot(h)
        if self._numa is not None:
            assert start.topologies is not None
            wanted, cells = start.topologies.requests[kind], self._numa[h]
            if wanted is None or cells is None:
                return None
            places = numa.fit(cells, wanted, start.topologies.limits[h], start.topologies.packing)
            # A snapshot has one page size for all guest cells of an instance.
            if places is None or any(one.page_size != wanted.page_size_now for one in places):
                return None
            return Spot(h, tuple(place.cell for place in places), places)
        known = int(start.cells[h])
        free = start.cell_capacity[h, :known] - self.cell_used[h, :known]
        core = start.core[h]
        left = np.zeros(known, dtype=np.int64) if core == state.NOWHERE else free[:, core]
        order = np.argsort(left if packing else -left, kind="stable").tolist()
        fits = [(free >= start.guest[kind, g]).all(axis=1) for g in range(guests)]
        for chosen in itertools.permutations(order, guests):
            if all(fits[g][n] for g, n in enumerate(chosen)):
                return Spot(h, chosen)
        return None

    def add(self, name: str, kind: int, spot: Spot, group: Group | None) -> None:
        """Put an instance where the caller knows that it fits."""
        here = Resident(name, kind, spot, group)
        self.residents[name] = here
        self._charge(here, 1)

    def remove(self, name: str) -> Resident:
        """Take an instance away."""
        here = self.residents.pop(name)
        self._charge(here, -1)
        return here

    def move(self, name: str, h: int, cells: tuple[int, ...]) -> bool:
        """Migrate an instance to ``cells`` of host ``h`` if it fits there now; say whether.

        It is charged at both ends on the way, but once in a pool behind both.
        """
        start, here = self.kinds.start, self.residents[name]
        kind, source = here.kind, here.spot.host
        if h == source or not start.usable[h]:
            return False
        for r in self._asked[kind]:
            row = start.row_of[h, r]
            if row == start.row_of[source, r]:
                continue
            if (
                row == state.NOWHERE
                or self.used[row, r] + start.demand[kind, r] > start.capacity[row, r]
            ):
                return False
        group = here.group
        if (
            group is not None
            and group.policy == "anti-affinity"
            and self._on[group.id][h] >= group.limit
        ):
            return False
        spot: Spot | None = Spot(h, cells)
        if self._numa is not None:
            spot = self.cells(kind, h, packing=False)
            if spot is None or spot.cells != cells:
                return False
        else:
            room = start.cell_capacity[h] - self.cell_used[h]
            if any((room[n] < start.guest[kind, g]).any() for g, n in enumerate(cells)):
                return False
        self._charge(here, -1)
        assert spot is not None
        there = dataclasses.replace(here, spot=spot)
        self.residents[name] = there
        self._charge(there, 1)
        return True

    def _charge(self, here: Resident, sign: int, cells_too: bool = True) -> None:
        start, kind, spot = self.kinds.start, here.kind, here.spot
        for r in self._asked[kind]:
            row = start.row_of[spot.host, r]
            if row != state.NOWHERE:
                self.used[row, r] += sign * start.demand[kind, r]
        for g, n in enumerate(spot.cells):
            if n != state.NOWHERE:
                self.cell_used[spot.host, n] += sign * start.guest[kind, g]
        if not start.guests_of[kind]:
            self.topologyless[spot.host] += sign
        if self._numa is not None and cells_too and spot.places is not None:
            assert start.topologies is not None
            wanted, cells = start.topologies.requests[kind], self._numa[spot.host]
            if wanted is not None and cells is not None:
                numa.charge(cells, wanted, spot.places, sign)
        if here.group is not None:
            self._enrol(here, here.group, sign)

    def _enrol(self, here: Resident, group: Group, sign: int) -> None:
        members = self._members.setdefault(group.id, {})
        if group.id not in self._on:
            self._on[group.id] = np.zeros(len(self.kinds.start.hosts), dtype=np.int64)
        self._on[group.id][here.spot.host] += sign
        if sign > 0:
            members[here.name] = None
        else:
            del members[here.name]
            if not members and not self._on[group.id].any():
                del self._members[group.id], self._on[group.id]

    def placement(self) -> state.PlacementState:
        """Return the arrays of the residents, for goals: nothing of what may move is in them."""
        start, there = self.kinds.start, list(self.residents.values())
        kind = np.array([one.kind for one in there], dtype=np.int64)
        cells_of = np.full((len(there), start.cells_of.shape[1]), state.NOWHERE, dtype=np.int64)
        for v, one in enumerate(there):
            cells_of[v, : len(one.spot.cells)] = one.spot.cells
        index = {one.name: v for v, one in enumerate(there)}
        groups = {one.group.id: one.group for one in there if one.group is not None}
        hard, soft = [], []
        for group in groups.values():
            members = tuple(sorted(index[name] for name in self._members[group.id]))
            if group.policy == "anti-affinity" and len(members) > 1:
                hard.append(state.Group(group.id, min(group.limit, len(members)), members))
            elif group.policy.startswith("soft-") and len(members) > 1:
                soft.append(soft_groups.SoftGroup(group.policy == "soft-affinity", members))
        return dataclasses.replace(
            start,
            instances=tuple(index),
            demand=start.demand[kind],
            load=start.load[kind],
            host_of=np.array([one.spot.host for one in there], dtype=np.int64),
            cells_of=cells_of,
            guest=start.guest[kind],
            guests_of=start.guests_of[kind],
            eligibility_of=start.eligibility_of[kind],
            movable=np.ones(len(there), dtype=bool),
            groups=tuple(hard),
            soft=tuple(soft),
            excluded={},
            topologies=None,
        )

    def snapshot(self) -> cloud.Snapshot:
        """Return what a reader of this cloud would see now."""
        began = self.kinds.snapshot
        groups: dict[str, Group] = {}
        for one in self.residents.values():
            if one.group is not None:
                groups.setdefault(one.group.id, one.group)
        known = {group.id: group for group in began.server_groups}
        return dataclasses.replace(
            began,
            instances=tuple(self._instances()),
            server_groups=tuple(
                dataclasses.replace(
                    known.get(group.id, cloud.ServerGroup(group.id, group.policy, (), group.limit)),
                    members=tuple(self._members[group.id]),
                )
                for group in groups.values()
            ),
        )

    def _instances(self) -> Iterator[cloud.Instance]:
        start, kinds_ = self.kinds.start, self.kinds
        for one in self.residents.values():
            example = kinds_.examples[one.kind]
            guests = None
            if example.numa is not None:
                ids, places = start.cell_ids[one.spot.host], one.spot.places
                guests = tuple(
                    dataclasses.replace(
                        guest,
                        cell=None if n == state.NOWHERE else ids[n],
                        pinned=guest.pinned if places is None else tuple(sorted(places[g].pinned)),
                    )
                    for g, (guest, n) in enumerate(zip(example.numa, one.spot.cells, strict=True))
                )
            if one.name == example.id:
                yield dataclasses.replace(example, host=start.hosts[one.spot.host], numa=guests)
            else:
                yield dataclasses.replace(
                    example,
                    id=one.name,
                    name=None,
                    host=start.hosts[one.spot.host],
                    numa=guests,
                    status="ACTIVE",
                    task_state=None,
                    locked=False,
                )

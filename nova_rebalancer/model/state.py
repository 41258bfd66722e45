# SPDX-License-Identifier: Apache-2.0
"""The placement as arrays, built once for each snapshot.

Axes: V instances, H hosts, P capacity rows, E eligibility classes, R resource classes,
N NUMA cells of a host, G NUMA cells of a guest.
"""

import collections
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import Self
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import numa
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import conflicts
from nova_rebalancer.model.constraints import migratable
from nova_rebalancer.model.constraints import numa as numa_rule
from nova_rebalancer.model.constraints import soft_groups

UNLIMITED = np.int64(1) << 60
"""Capacity of a NUMA cell for a resource it does not count."""

NOWHERE = -1
"""No capacity row, no NUMA cell, or an unknown one."""

NESTED = "@nested"
"""End of the names that count a resource class over the nested providers of a host."""

CHECKED = "@checked"
"""End of the names of resources that a check leaves less of than Placement."""

_Array = TypeVar("_Array", bound=npt.NDArray[Any])


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A hard anti-affinity group: at most ``limit`` of ``members`` (indices) on a host.

    ``arriving`` are the hosts at the far ends of members' running migrations.
    """

    id: str
    limit: int
    members: tuple[int, ...]
    arriving: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PlacementState:
    """Where every instance is, what it takes and where it may go; arrays are read-only.

    Attributes
    ----------
    hosts, instances
        Ids; positions are the H and V indices.
    service_hosts
        What Nova calls each host, (H,).
    resources
        Resource classes, (R,).
    capacity
        (P, R) Placement capacity of each provider; 0 where it has no inventory.
    row_of
        (H, R) the row where a host gets a resource, NOWHERE if it has none.  Hosts that share a
        pool have one row for it, so a move inside the pool costs that pool nothing.
    base
        (P, R) what is charged and never moves: the far ends of running migrations, and what
        Placement holds for anything but the instances.
    demand, load
        (V, R) allocations; measured use, the allocation where nothing was measured.
    host_of, cells_of
        (V,) host; (V, G) host cell of each guest cell, NOWHERE beyond the guest's cells or if
        unknown.
    guest
        (V, G, R) demand of each guest cell; zero beyond ``guests_of`` (V,).
    cell_capacity
        (H, N, R); UNLIMITED for what a cell does not count.
    cells
        (H,) number of known NUMA cells.
    cell_ids
        The snapshot's cell numbers of each host, in the order of the N axis.
    eligibility_of, allowed
        (V,) class of each instance and (E, H) hosts each class may be on.
    kind_of, follows
        (H,) kind of each host as the ends of a migration see it; (K, K) from which kind (first)
        to which anything migrates.
    movable
        (V,) what may be migrated at all.
    usable
        (H,) enabled, up and read whole.
    core
        (H,) index of the resource that counts as cores: PCPU where the host has some, else
        VCPU; NOWHERE without either.
    floating
        (H,) running migrations that will bring an instance without NUMA topology.
    groups
        Hard anti-affinity groups.
    conflicts
        Pairs of instances that must never be on one host.
    soft
        Soft server groups, which are a cost.
    excluded
        Why each instance that is not movable is not, by index.
    numa_choice
        "planner" or "nova".
    topologies
        What Nova's choice of cells depends on, of the snapshot's placement; None where the planner
        chooses.
    """

    hosts: tuple[str, ...]
    service_hosts: tuple[str, ...]
    instances: tuple[str, ...]
    resources: tuple[str, ...]
    capacity: arrays.Ints
    row_of: arrays.Ints
    base: arrays.Ints
    demand: arrays.Ints
    load: arrays.Floats
    host_of: arrays.Ints
    cells_of: arrays.Ints
    guest: arrays.Ints
    guests_of: arrays.Ints
    cell_capacity: arrays.Ints
    cells: arrays.Ints
    cell_ids: tuple[tuple[int, ...], ...]
    eligibility_of: arrays.Ints
    allowed: arrays.Bools
    kind_of: arrays.Ints
    follows: arrays.Bools
    movable: arrays.Bools
    usable: arrays.Bools
    core: arrays.Ints
    floating: arrays.Ints
    groups: tuple[Group, ...]
    conflicts: conflicts.Conflicts
    soft: tuple[soft_groups.SoftGroup, ...]
    excluded: Mapping[int, migratable.Obstacle]
    numa_choice: str
    topologies: numa.Topologies | None = None

    def placed(self, host_of: arrays.Ints, cells_of: arrays.Ints) -> Self:
        """Return the same cloud with its instances at ``host_of`` (V,), ``cells_of`` (V, G)."""
        return dataclasses.replace(
            self, host_of=frozen(host_of.copy()), cells_of=frozen(cells_of.copy())
        )

    def moved(self, v: int, h: int, cells: Sequence[int] = ()) -> Self:
        """Return the state with instance ``v`` on host ``h``, its guest cells on ``cells``."""
        host_of, cells_of = self.host_of.copy(), self.cells_of.copy()
        host_of[v] = h
        cells_of[v] = NOWHERE
        cells_of[v, : len(cells)] = cells
        return self.placed(host_of, cells_of)

    def forbidding(self, pairs: Iterable[tuple[int, int]]) -> Self:
        """Return the state where, for each (v, h), ``v`` and its likes must not go to host h.

        Instances in conflict with others have no likes.
        """
        eligibility_of, rows = self.eligibility_of.copy(), list(self.allowed)
        for v, h in pairs:
            alike = (eligibility_of == eligibility_of[v]) & (self.demand == self.demand[v]).all(
                axis=1
            )
            alike &= (self.guest == self.guest[v]).all(axis=(1, 2))
            if self.conflicts.of(v).size:
                alike = np.arange(alike.size) == v
            row = rows[eligibility_of[v]].copy()
            row[h] = False
            eligibility_of[alike] = len(rows)
            rows.append(row)
        return dataclasses.replace(
            self, eligibility_of=frozen(eligibility_of), allowed=frozen(np.array(rows, dtype=bool))
        )

    def keeping(self, some: Iterable[int]) -> Self:
        """Return the state where ``some`` instances are not moved, either."""
        movable = self.movable.copy()
        movable[list(some)] = False
        return dataclasses.replace(self, movable=frozen(movable))

    def used(self) -> arrays.Ints:
        """What is charged on each capacity row, (P, R)."""
        used = self.base.copy()
        rows = self.row_of[self.host_of]
        v, r = np.nonzero((self.demand > 0) & (rows != NOWHERE))
        np.add.at(used, (rows[v, r], r), self.demand[v, r])
        return used

    def cell_used(self) -> arrays.Ints:
        """What guests take of each host cell, (H, N, R)."""
        used = np.zeros_like(self.cell_capacity)
        v, g = np.nonzero(self.cells_of != NOWHERE)
        np.add.at(used, (self.host_of[v], self.cells_of[v, g]), self.guest[v, g])
        return used

    def numa_free(self) -> arrays.Ints:
        """What is left of each host cell, (H, N, R); negative where it is overfull."""
        return self.cell_capacity - self.cell_used()

    def topologyless(self) -> arrays.Ints:
        """Instances without NUMA topology on, or on their way to, each host, (H,)."""
        on = np.bincount(self.host_of[self.guests_of == 0], minlength=len(self.hosts))
        return on.astype(np.int64) + self.floating

    def overfull(self) -> list[tuple[str, str, int, int]]:
        """Hosts, pools and cells charged above capacity: (name, resource, used, capacity)."""
        used, cell_used = self.used(), self.cell_used()
        found = []
        for p, r in zip(*np.nonzero(used > self.capacity), strict=True):
            if self.resources[r].endswith(CHECKED):
                continue
            name = self.service_hosts[np.nonzero(self.row_of[:, r] == p)[0][0]]
            if p >= len(self.hosts):
                name = f"the pool of {name}"
            found.append((name, self.resources[r], int(used[p, r]), int(self.capacity[p, r])))
        for h, n, r in zip(*np.nonzero(cell_used > self.cell_capacity), strict=True):
            name = f"{self.service_hosts[h]} cell {self.cell_ids[h][n]}"
            taken, most = cell_used[h, n, r], self.cell_capacity[h, n, r]
            found.append((name, self.resources[r], int(taken), int(most)))
        return found


def frozen(array: _Array) -> _Array:
    """Make ``array`` read-only and return it."""
    array.flags.writeable = False
    return array


def with_pools(host: cloud.Host, pools: Mapping[str, cloud.Pool]) -> cloud.Host:
    """Return ``host`` with the inventories that shared pools give it."""
    shared = {
        resource: pools[pool].inventories[resource]
        for resource, pool in host.shared.items()
        if resource in pools[pool].inventories
    }
    return dataclasses.replace(host, inventories={**host.inventories, **shared})


def view_of(snapshot: cloud.Snapshot, settings: base.Settings) -> base.View:
    """Return ``snapshot`` as the rules look at it, its hosts with what pools give them."""
    pools = {pool.id: pool for pool in snapshot.pools}
    hosts = tuple(with_pools(host, pools) for host in snapshot.hosts)
    return base.View(snapshot, hosts, settings)


def build(snapshot: cloud.Snapshot, settings: base.Settings = base.DEFAULTS) -> PlacementState:
    """Build the arrays of ``snapshot`` under the rules as ``settings`` have them.

    Raises
    ------
    KeyError
        If the snapshot refers to hosts or pools that it does not have; ``collect`` refuses such
        a document before.
    """
    view = view_of(snapshot, settings)
    hosts = view.hosts
    host_index = {host.id: h for h, host in enumerate(hosts)}
    instance_index = {instance.id: v for v, instance in enumerate(snapshot.instances)}
    resources = _resources(snapshot)
    resource_index = {resource: r for r, resource in enumerate(resources)}
    capacity, row_of = _rows(snapshot, hosts, resource_index)
    cell_capacity, cells = _cells(hosts, resource_index)
    host_of = np.array([host_index[i.host] for i in snapshot.instances], dtype=np.int64)
    demand = np.zeros((len(snapshot.instances), len(resources)), dtype=np.int64)
    load = np.zeros(demand.shape, dtype=np.float64)
    for v, instance in enumerate(snapshot.instances):
        for resource, amount in instance.allocations.items():
            demand[v, resource_index[resource]] = amount
            load[v, resource_index[resource]] = amount
        for resource, usage in instance.usage.items():
            if resource in resource_index:
                load[v, resource_index[resource]] = usage.mean
        for amounts in instance.nested.values():
            for resource, amount in amounts.items():
                demand[v, resource_index[resource + NESTED]] += amount
    guest, guests_of, cells_of = _guests(snapshot, hosts, host_of, resource_index)
    masks = constraints.Masks(view)
    eligibility_of, allowed, excluded = _rules(view, masks, host_of)
    movable = np.ones(len(snapshot.instances), dtype=bool)
    movable[list(excluded)] = False
    fixed = np.zeros_like(capacity)
    floating = np.zeros(len(hosts), dtype=np.int64)
    far_ends: dict[int, set[int]] = collections.defaultdict(set)
    # By instance, row and resource: a pool behind several ends is charged once, the most of them.
    far: collections.Counter[tuple[int, int, int]] = collections.Counter()
    for migration in snapshot.running_migrations:
        v = instance_index[migration.instance]
        charged = demand[v]
        if migration.far_allocations is not None:
            charged = np.zeros(len(resources), dtype=np.int64)
            for resource, amount in migration.far_allocations.items():
                charged[resource_index[resource]] = amount
            if migration.far_allocations:
                nested = [r for r, name in enumerate(resources) if name.endswith(NESTED)]
                charged[nested] = demand[v][nested]
        ends = {host_index[end] for end in (migration.source, migration.dest) if end is not None}
        for h in ends - {int(host_of[v])}:
            far_ends[v].add(h)
            for r in range(len(resources)):
                row = int(row_of[h, r])
                here = demand[v, r] if row == row_of[host_of[v], r] else 0
                if row != NOWHERE:
                    far[v, row, r] = max(far[v, row, r], int(charged[r] - here))
    for (_, row, r), amount in far.items():
        fixed[row, r] += amount
    for v, ends in far_ends.items():
        floating[list(ends)] += guests_of[v] == 0
    for h, host in enumerate(hosts):
        for held in host.held:
            for resource, amount in held.resources.items():
                r = resource_index[resource]
                if row_of[h, r] == NOWHERE:
                    r = resource_index.get(resource + NESTED, r)
                if row_of[h, r] != NOWHERE:
                    fixed[row_of[h, r], r] += amount
    return PlacementState(
        hosts=tuple(host.id for host in hosts),
        service_hosts=tuple(host.service_host for host in hosts),
        instances=tuple(instance_index),
        resources=resources,
        capacity=frozen(capacity),
        row_of=frozen(row_of),
        base=frozen(fixed),
        demand=frozen(demand),
        load=frozen(load),
        host_of=frozen(host_of),
        cells_of=frozen(cells_of),
        guest=frozen(guest),
        guests_of=frozen(guests_of),
        cell_capacity=frozen(cell_capacity),
        cells=frozen(cells),
        cell_ids=tuple(tuple(cell.id for cell in host.cells) for host in hosts),
        eligibility_of=frozen(eligibility_of),
        allowed=frozen(allowed),
        kind_of=frozen(masks.kind_of),
        follows=frozen(masks.follows),
        movable=frozen(movable),
        usable=frozen(np.array([host.usable for host in hosts], dtype=bool)),
        core=frozen(_core(hosts, resource_index)),
        floating=frozen(floating),
        groups=tuple(
            Group(
                group.id,
                min(group.max_server_per_host, len(group.members)),
                members,
                tuple(h for v in members for h in sorted(far_ends.get(v, ()))),
            )
            for group in snapshot.server_groups
            if group.policy == "anti-affinity" and len(group.members) > 1
            for members in [_inside(group, instance_index)]
        ),
        conflicts=conflicts.of(snapshot.conflicts, instance_index, far_ends),
        soft=soft_groups.of(snapshot.server_groups, instance_index),
        excluded=excluded,
        numa_choice=snapshot.numa_choice,
        topologies=_topologies(view) if snapshot.numa_choice == "nova" else None,
    )


def _inside(group: cloud.ServerGroup, instance_index: Mapping[str, int]) -> tuple[int, ...]:
    """Members by index; those on no host of the snapshot are in nobody's way here."""
    return tuple(sorted(instance_index[m] for m in group.members if m in instance_index))


def _resources(snapshot: cloud.Snapshot) -> tuple[str, ...]:
    """All resource classes, the familiar ones first."""
    names: set[str] = set()
    providers: tuple[cloud.Host | cloud.Pool, ...] = (*snapshot.hosts, *snapshot.pools)
    for provider in providers:
        names.update(provider.inventories)
    for host in snapshot.hosts:
        for nested in host.providers:
            names.update(resource + NESTED for resource in nested.inventories)
        for cell in host.cells:
            names.update(cell.capacity)
        for held in host.held:
            names.update(held.resources)
    for migration in snapshot.running_migrations:
        names.update(migration.far_allocations or ())
    for instance in snapshot.instances:
        names.update(instance.allocations)
        for amounts in instance.nested.values():
            names.update(resource + NESTED for resource in amounts)
        for guest in instance.numa or ():
            names.update(guest.resources)
    first = ("VCPU", "PCPU", "MEMORY_MB", "DISK_GB")
    return (*(r for r in first if r in names), *sorted(names.difference(first)))


def _rows(
    snapshot: cloud.Snapshot, hosts: Sequence[cloud.Host], resource_index: Mapping[str, int]
) -> tuple[arrays.Ints, arrays.Ints]:
    """Capacity rows: the hosts in order, then the pools."""
    pool_row = {pool.id: len(hosts) + p for p, pool in enumerate(snapshot.pools)}
    offered = {pool.id: pool.inventories for pool in snapshot.pools}
    capacity = np.zeros((len(hosts) + len(pool_row), len(resource_index)), dtype=np.int64)
    row_of = np.full((len(hosts), len(resource_index)), NOWHERE, dtype=np.int64)
    providers: tuple[cloud.Host | cloud.Pool, ...] = (*snapshot.hosts, *snapshot.pools)
    for p, provider in enumerate(providers):
        for resource, inventory in provider.inventories.items():
            capacity[p, resource_index[resource]] = inventory.capacity
    for h, host in enumerate(hosts):
        for nested in host.providers:
            for resource, inventory in nested.inventories.items():
                r = resource_index[resource + NESTED]
                row_of[h, r] = h
                capacity[h, r] += inventory.capacity
        for resource in host.inventories:
            pool = host.shared.get(resource)
            row = h if pool is None or resource not in offered[pool] else pool_row[pool]
            row_of[h, resource_index[resource]] = row
    return capacity, row_of


def _cells(
    hosts: Sequence[cloud.Host], resource_index: Mapping[str, int]
) -> tuple[arrays.Ints, arrays.Ints]:
    most = max((len(host.cells) for host in hosts), default=0)
    capacity = np.zeros((len(hosts), most, len(resource_index)), dtype=np.int64)
    for h, host in enumerate(hosts):
        for n, cell in enumerate(host.cells):
            capacity[h, n] = UNLIMITED
            for resource, amount in cell.capacity.items():
                capacity[h, n, resource_index[resource]] = amount
    return capacity, np.array([len(host.cells) for host in hosts], dtype=np.int64)


def _guests(
    snapshot: cloud.Snapshot,
    hosts: Sequence[cloud.Host],
    host_of: arrays.Ints,
    resource_index: Mapping[str, int],
) -> tuple[arrays.Ints, arrays.Ints, arrays.Ints]:
    instances = snapshot.instances
    guests_of = np.array([len(i.numa or ()) for i in instances], dtype=np.int64)
    most = int(guests_of.max(initial=0))
    guest = np.zeros((len(instances), most, len(resource_index)), dtype=np.int64)
    cells_of = np.full((len(instances), most), NOWHERE, dtype=np.int64)
    position = [{cell.id: n for n, cell in enumerate(host.cells)} for host in hosts]
    for v, instance in enumerate(instances):
        for g, cell in enumerate(instance.numa or ()):
            # Memory in large pages is limited by these alone where Nova chooses the cells.
            paged = snapshot.numa_choice == "nova" and any(
                resource.startswith(cloud.PAGES) for resource in cell.resources
            )
            for resource, amount in cell.resources.items():
                if not (paged and resource == "MEMORY_MB"):
                    guest[v, g, resource_index[resource]] = amount
            if cell.cell is not None:
                cells_of[v, g] = position[host_of[v]].get(cell.cell, NOWHERE)
    return guest, guests_of, cells_of


def _rules(
    view: base.View, masks: constraints.Masks, host_of: arrays.Ints
) -> tuple[arrays.Ints, arrays.Bools, dict[int, migratable.Obstacle]]:
    """Classes of instances that the host rules treat alike, the hosts of each, what stays."""
    classes: dict[Hashable, int] = {}
    by_mask: dict[Hashable, int] = {}
    rows: list[arrays.Bools] = []
    eligibility_of = np.zeros(len(view.snapshot.instances), dtype=np.int64)
    excluded: dict[int, migratable.Obstacle] = {}
    migrating = {migration.instance for migration in view.snapshot.running_migrations}
    together = affinities(view.snapshot)
    for v, instance in enumerate(view.snapshot.instances):
        h = int(host_of[v])
        host = view.hosts[h]
        # Nova may choose other cells for instances of one size; the rule on them tells which.
        topology = numa_rule.key(view, instance, host)
        verdicts = masks.verdicts(instance, host, h)
        e = classes.get((verdicts, topology))
        if e is None:
            mask = masks.mask(verdicts)
            e = classes[verdicts, topology] = by_mask.setdefault(
                (mask.tobytes(), topology), len(rows)
            )
            if e == len(rows):
                rows.append(mask)
        eligibility_of[v] = e
        for found in migratable.obstacles(
            view, instance, host, instance.id in migrating, together.get(instance.id)
        ):
            if migratable.LIVE in found.methods:
                excluded[v] = found
                break
    allowed = np.array(rows, dtype=bool).reshape(len(rows), len(view.hosts))
    elsewhere = allowed.sum(axis=1)
    for v, instance in enumerate(view.snapshot.instances):
        e, h = int(eligibility_of[v]), int(host_of[v])
        if v not in excluded and elsewhere[e] <= allowed[e, h]:
            host = view.hosts[h]
            forbidding = masks.forbidding(masks.verdicts(instance, host, h), h)
            excluded[v] = migratable.nowhere(instance, host, forbidding)
    return eligibility_of, allowed, dict(sorted(excluded.items()))


def affinities(snapshot: cloud.Snapshot) -> dict[str, cloud.ServerGroup]:
    """Return the hard affinity group of each instance that is in one."""
    return {
        member: group
        for group in snapshot.server_groups
        if group.policy == "affinity"
        for member in group.members
    }


def _topologies(view: base.View) -> numa.Topologies:
    """What Nova's choice of NUMA cells depends on."""
    requests = tuple(numa.request(one, view.asks[one.id]) for one in view.snapshot.instances)
    hosts: dict[str, tuple[numa.Cell, ...] | None] = {}
    for host in view.hosts:
        cells = tuple(
            numa.Cell(cell.id, cell.detail) for cell in host.cells if cell.detail is not None
        )
        hosts[host.id] = None if host.id in view.unsettled else cells
    position = {host.id: {cell.id: n for n, cell in enumerate(host.cells)} for host in view.hosts}
    places: list[tuple[numa.Place, ...] | None] = []
    for one, wanted in zip(view.snapshot.instances, requests, strict=True):
        here = hosts[one.host]
        if wanted is None or here is None:
            places.append(None)
            continue
        found = tuple(
            numa.Place(
                position[one.host][guest.cell],
                frozenset(guest.pinned or ()),
                one.numa_pagesize_kib,
            )
            for guest in one.numa or ()
            if guest.cell is not None
        )
        numa.charge(here, wanted, found)
        places.append(found)
    return numa.Topologies(
        tuple(hosts.values()),
        tuple(
            numa.Limits(
                *(
                    host.inventories[resource].allocation_ratio
                    if resource in host.inventories
                    else 1.0
                    for resource in ("VCPU", "MEMORY_MB")
                )
            )
            for host in view.hosts
        ),
        requests,
        tuple(places),
        view.settings.numa_packing,
    )


def _core(hosts: Sequence[cloud.Host], resource_index: Mapping[str, int]) -> arrays.Ints:
    core = np.full(len(hosts), NOWHERE, dtype=np.int64)
    for h, host in enumerate(hosts):
        for resource in ("PCPU", "VCPU"):
            inventory = host.inventories.get(resource)
            if inventory is not None and (inventory.total > 0 or resource == "VCPU"):
                core[h] = resource_index[resource]
                break
    return core


def group_members(state: PlacementState) -> dict[int, list[int]]:
    """Groups of each instance, by index; instances without a group are absent."""
    groups: dict[int, list[int]] = collections.defaultdict(list)
    for k, group in enumerate(state.groups):
        for v in group.members:
            groups[v].append(k)
    return dict(groups)


def in_groups(start: PlacementState) -> arrays.Ints:
    """Members of each group charged on each host, running migrations at both ends, (K, H)."""
    count = np.zeros((len(start.groups), len(start.hosts)), dtype=np.int64)
    for k, group in enumerate(start.groups):
        np.add.at(count[k], start.host_of[list(group.members)], 1)
        np.add.at(count[k], list(group.arriving), 1)
    return count


def memory_mib(start: PlacementState, v: int) -> int | None:
    """Return the memory allocated to instance ``v``, None where the cloud does not say."""
    if "MEMORY_MB" not in start.resources:
        return None
    return int(start.demand[v, start.resources.index("MEMORY_MB")])

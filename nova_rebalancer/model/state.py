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
from nova_rebalancer.model import reason
from nova_rebalancer.model.constraints import migratable

UNLIMITED = np.int64(1) << 60
"""Capacity of a NUMA cell for a resource it does not count."""

NOWHERE = -1
"""No capacity row, no NUMA cell, or an unknown one."""

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
    excluded
        Why each instance that is not movable is not, by index.
    numa_choice
        "planner" or "nova".
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
    movable: arrays.Bools
    usable: arrays.Bools
    core: arrays.Ints
    floating: arrays.Ints
    groups: tuple[Group, ...]
    excluded: Mapping[int, reason.Reason]
    numa_choice: str

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
        """Return the state where, for each (v, h), ``v`` and its likes must not go to host h."""
        allowed = self.allowed.copy()
        for v, h in pairs:
            allowed[self.eligibility_of[v], h] = False
        return dataclasses.replace(self, allowed=frozen(allowed))

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


def build(snapshot: cloud.Snapshot) -> PlacementState:
    """Build the arrays of ``snapshot``.

    Raises
    ------
    KeyError
        If the snapshot refers to hosts or pools that it does not have; ``collect`` refuses such
        a document before.
    """
    pools = {pool.id: pool for pool in snapshot.pools}
    hosts = [with_pools(host, pools) for host in snapshot.hosts]
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
    guest, guests_of, cells_of = _guests(snapshot, hosts, host_of, resource_index)
    eligibility_of, allowed = _eligibility(snapshot, hosts, host_of)
    excluded = _excluded(snapshot, host_of)
    movable = np.ones(len(snapshot.instances), dtype=bool)
    movable[list(excluded)] = False
    base = np.zeros_like(capacity)
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
        ends = {host_index[end] for end in (migration.source, migration.dest) if end is not None}
        for h in ends - {int(host_of[v])}:
            far_ends[v].add(h)
            for r in range(len(resources)):
                row = int(row_of[h, r])
                here = demand[v, r] if row == row_of[host_of[v], r] else 0
                if row != NOWHERE:
                    far[v, row, r] = max(far[v, row, r], int(charged[r] - here))
    for (_, row, r), amount in far.items():
        base[row, r] += amount
    for v, ends in far_ends.items():
        floating[list(ends)] += guests_of[v] == 0
    for h, host in enumerate(hosts):
        for held in host.held:
            for resource, amount in held.resources.items():
                row = row_of[h, resource_index[resource]]
                if row != NOWHERE:
                    base[row, resource_index[resource]] += amount
    return PlacementState(
        hosts=tuple(host.id for host in hosts),
        service_hosts=tuple(host.service_host for host in hosts),
        instances=tuple(instance_index),
        resources=resources,
        capacity=frozen(capacity),
        row_of=frozen(row_of),
        base=frozen(base),
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
        excluded=excluded,
        numa_choice=snapshot.numa_choice,
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
        for cell in host.cells:
            names.update(cell.capacity)
        for held in host.held:
            names.update(held.resources)
    for migration in snapshot.running_migrations:
        names.update(migration.far_allocations or ())
    for instance in snapshot.instances:
        names.update(instance.allocations)
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
            for resource, amount in cell.resources.items():
                guest[v, g, resource_index[resource]] = amount
            if cell.cell is not None:
                cells_of[v, g] = position[host_of[v]].get(cell.cell, NOWHERE)
    return guest, guests_of, cells_of


def _eligibility(
    snapshot: cloud.Snapshot, hosts: Sequence[cloud.Host], host_of: arrays.Ints
) -> tuple[arrays.Ints, arrays.Bools]:
    """Classes of instances that the host rules treat alike, and the hosts each may be on."""
    classes: dict[Hashable, int] = {}
    rows: list[arrays.Bools] = []
    eligibility_of = np.zeros(len(snapshot.instances), dtype=np.int64)
    known: list[dict[Hashable, arrays.Bools]] = [{} for _ in constraints.HOST_RULES]
    cells = np.array([len(host.cells) for host in hosts], dtype=np.int64)
    for v, instance in enumerate(snapshot.instances):
        host = hosts[host_of[v]]
        guests = len(instance.numa or ())
        keys = tuple(rule.key(instance, host) for rule in constraints.HOST_RULES)
        e = classes.setdefault((keys, guests), len(rows))
        if e == len(rows):
            # A guest cell needs a host cell of its own, and one we know of.
            mask = cells >= guests
            for rule, key, seen in zip(constraints.HOST_RULES, keys, known, strict=True):
                if key not in seen:
                    seen[key] = rule.allows(instance, host, hosts)
                mask = mask & seen[key]
            rows.append(mask)
        eligibility_of[v] = e
    allowed = np.array(rows, dtype=bool).reshape(len(rows), len(hosts))
    return eligibility_of, allowed


def _excluded(snapshot: cloud.Snapshot, host_of: arrays.Ints) -> dict[int, reason.Reason]:
    migrating = {migration.instance for migration in snapshot.running_migrations}
    together = {
        member: group
        for group in snapshot.server_groups
        if group.policy == "affinity" and len(group.members) > 1
        for member in group.members
    }
    found = {}
    for v, instance in enumerate(snapshot.instances):
        why = migratable.why_not(
            instance,
            snapshot.hosts[host_of[v]],
            instance.id in migrating,
            together.get(instance.id),
        )
        if why is not None:
            found[v] = why
    return found


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

# SPDX-License-Identifier: Apache-2.0
"""The cloud that a snapshot document describes, as the rules need it.

Everything that can be full is a *limit*, a tuple whose first word tells what it is::

    ("host", host id, resource)         a host's own inventory
    ("pool", pool id, resource)         a shared inventory
    ("nested", host id, resource)       the inventories of a host's nested providers together
    ("cell", host id, cell, resource)   a NUMA cell of a host
    ("group", group id, host id)        members of an anti-affinity group on one host
    ("pair", id, id, host id)           two instances in conflict on one host, ids in order

and has one whole-number capacity.  An instance at a place charges some of them.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
import dataclasses
import math

from nova_rebalancer import exceptions
from nova_rebalancer.checker import documents

Limit = tuple[str | int, ...]

KIND_OF: Mapping[str | int, str] = {
    "host": "capacity",
    "pool": "capacity",
    "nested": "capacity",
    "cell": "numa",
    "group": "anti_affinity",
    "pair": "anti_affinity",
}
"""The rule that a full limit violates."""

KIND_ORDER: tuple[str | int, ...] = tuple(KIND_OF)

RELIABLE = ("api", "operator")
"""Who may say what NUMA cells a host has; what was inferred from guests may be a part of them."""

PAGES = "HUGEPAGES_"
"""Begin of the names that count memory pages of one size in a NUMA cell, unknown to Placement."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """What a provider offers of one resource, and in which portions (None: any size)."""

    capacity: int
    total: int
    min_unit: int
    max_unit: int | None
    step_size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A host with the inventories it has, pools included.

    Attributes
    ----------
    unusable
        "disabled", "down" or "not read whole"; empty when it is none of these.
    rows
        The limit that each resource is charged to.
    cells
        Capacity of each NUMA cell by its id; empty when the cells are not known.
    listed
        The cell ids that the document gives, known or not.
    nested
        Capacity of the nested providers together, by resource.
    entry
        The host in the document.
    """

    id: str
    name: str
    az: str | None
    unusable: str
    inventories: Mapping[str, Inventory]
    rows: Mapping[str, Limit]
    cells: Mapping[int, Mapping[str, int]]
    listed: frozenset[int]
    nested: Mapping[str, int]
    entry: documents.Document


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """An instance.

    Attributes
    ----------
    nested
        What it takes from nested providers, by resource.
    guests
        What each guest NUMA cell takes; None without a NUMA topology.
    allowed
        Ids of hosts it may be on; None: any.
    entry
        The instance in the document.
    """

    id: str
    allocations: Mapping[str, int]
    nested: Mapping[str, int]
    guests: tuple[Mapping[str, int], ...] | None
    allowed: frozenset[str] | None
    exclusive: tuple[str, ...]
    together: tuple[str, ...]
    entry: documents.Document


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A host id and the host cell of each guest cell; None: no topology, or cell not known."""

    host: str
    cells: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Cloud:
    """A snapshot.

    Attributes
    ----------
    pools
        Inventories of each pool by resource.
    ends
        Ids of the hosts at the ends of its running migrations, by instance that has some.
    also_at
        Of these those where it is not.
    fixed
        What is charged whatever moves: the far ends of running migrations, and what Placement
        holds for anything but the instances.
    groups
        Members of each hard affinity or anti-affinity group; some may be on no host here.
    most_per_host
        How many members of such a group one host may have; for anti-affinity.
    conflicts
        Ids of the instances that an instance must never be on one host with, by its id.
    """

    document: documents.Document
    sha256: str
    pools: Mapping[str, Mapping[str, Inventory]]
    hosts: Mapping[str, Host]
    by_service: Mapping[str, Host]
    instances: Mapping[str, Instance]
    placement: Mapping[str, Place]
    ends: Mapping[str, frozenset[str]]
    also_at: Mapping[str, frozenset[str]]
    fixed: Mapping[Limit, int]
    groups: Mapping[str, frozenset[str]]
    most_per_host: Mapping[str, int]
    conflicts: Mapping[str, frozenset[str]]


def keeping_apart(cloud: Cloud, apart: Mapping[str, frozenset[str]]) -> Cloud:
    """Return the cloud where those of ``apart`` conflict with each other, too."""
    both = {
        name: cloud.conflicts.get(name, frozenset()) | apart.get(name, frozenset())
        for name in cloud.conflicts.keys() | apart.keys()
    }
    return dataclasses.replace(cloud, conflicts=both)


def charges(cloud: Cloud, instance_id: str, place: Place) -> dict[Limit, int]:
    """Return what the instance charges at ``place``; every amount is above 0."""
    return _charges(cloud.instances[instance_id], cloud.hosts[place.host], place.cells)


def _charges(
    instance: Instance, host: Host, cells: tuple[int | None, ...] | None
) -> dict[Limit, int]:
    charged: dict[Limit, int] = {}
    for resource, amount in instance.allocations.items():
        if amount and resource in host.rows:
            charged[host.rows[resource]] = amount
    for resource, amount in instance.nested.items():
        if amount and resource in host.nested:
            charged["nested", host.id, resource] = amount
    guests = () if cells is None else zip(cells, instance.guests or (), strict=True)
    for cell, guest in guests:
        if cell is None or cell not in host.cells:
            continue
        for resource, amount in guest.items():
            if amount and resource in host.cells[cell]:
                charged["cell", host.id, cell, resource] = amount
    for group in instance.exclusive:
        charged["group", group, host.id] = 1
    return charged


def capacity(cloud: Cloud, limit: Limit) -> int:
    """Return the most that may be charged to ``limit``."""
    what, owner, *rest = limit
    if what == "group":
        return cloud.most_per_host[str(owner)]
    if what == "pair":
        return 1
    if what == "cell":
        return cloud.hosts[str(owner)].cells[int(rest[0])][str(rest[1])]
    if what == "pool":
        return cloud.pools[str(owner)][str(rest[0])].capacity
    if what == "nested":
        return cloud.hosts[str(owner)].nested[str(rest[0])]
    return cloud.hosts[str(owner)].inventories[str(rest[0])].capacity


def load(cloud: Cloud, placement: Mapping[str, Place]) -> dict[Limit, int]:
    """Return what is charged when all instances are at ``placement``."""
    total: collections.Counter[Limit] = collections.Counter(cloud.fixed)
    for name, place in placement.items():
        for limit, amount in charges(cloud, name, place).items():
            total[limit] += amount
    return dict(total)


def describe(cloud: Cloud, limit: Limit) -> str:
    """Name a limit for people."""
    what, owner, *rest = limit
    if what == "pool":
        return f'shared pool "{owner}" {rest[0]}'
    if what == "group":
        host = cloud.hosts[str(rest[0])]
        return f'host "{host.name}" members of anti-affinity group "{owner}"'
    if what == "pair":
        host = cloud.hosts[str(rest[1])]
        return f'host "{host.name}" instances in conflict "{owner}" and "{rest[0]}"'
    name = cloud.hosts[str(owner)].name
    if what == "cell":
        return f'host "{name}" NUMA cell {rest[0]} {rest[1]}'
    if what == "nested":
        return f'host "{name}" {rest[0]} of nested providers'
    return f'host "{name}" {rest[0]}'


def read(data: bytes, name: str) -> Cloud:
    """Return the cloud of the snapshot document ``data``; errors call it ``name``.

    Raises
    ------
    InputError
        If it is not a sound snapshot document.
    """
    try:
        document, sha256 = documents.decode(data)
        documents.conform(document, documents.SNAPSHOT_FORMAT, "snapshot-1.json")
        assert isinstance(document, dict)
        return of(document, sha256)
    except documents.Malformed as error:
        raise exceptions.InputError(f"{name}: {' '.join(str(error).split())}") from error


def of(document: documents.Document, sha256: str) -> Cloud:
    """Return the cloud of a snapshot document that its schema accepts.

    Raises
    ------
    documents.Malformed
        If it is not sound.
    """
    pools = {
        pool["id"]: _inventories(pool, ["pools", i])
        for i, pool in _unique(document, "pools").items()
    }
    lacking = {name for lack in document.get("missing", ()) for name in lack.get("hosts") or ()}
    hosts = {
        host["id"]: _host(host, pools, host["id"] in lacking, ["hosts", i])
        for i, host in _unique(document, "hosts").items()
    }
    for i, lack in enumerate(document.get("missing", ())):
        for name in lack.get("hosts") or ():
            if name not in hosts:
                raise documents.Malformed(["missing", i, "hosts"], f'no host "{name}" here')
    by_service: dict[str, Host] = {}
    for i, host in enumerate(hosts.values()):
        if host.name in by_service:
            raise documents.Malformed(
                ["hosts", i], f'another host has the service host "{host.name}" too'
            )
        by_service[host.name] = host
    entries = _unique(document, "instances")
    inside = {entry["id"] for entry in entries.values()}
    outside = {entry["id"]: i for i, entry in _unique(document, "outside").items()}
    for name, i in outside.items():
        if name in inside:
            raise documents.Malformed(["outside", i], f'"{name}" is on a host of the snapshot too')
    groups: dict[str, frozenset[str]] = {}
    exclusive: dict[str, list[str]] = collections.defaultdict(list)
    together: dict[str, list[str]] = collections.defaultdict(list)
    most: dict[str, int] = {}
    for i, group in _unique(document, "server_groups").items():
        for member in group["members"]:
            if member not in inside and member not in outside:
                raise documents.Malformed(
                    ["server_groups", i, "members"], f'no instance "{member}" in the snapshot'
                )
        lists = {"anti-affinity": exclusive, "affinity": together}.get(group["policy"])
        if lists is None:  # The soft policies are wishes, not rules.
            continue
        groups[group["id"]] = frozenset(group["members"])
        most[group["id"]] = int(group.get("max_server_per_host", 1))
        for member in groups[group["id"]]:
            lists[member].append(group["id"])
    running = _running(document, hosts, entries)
    instances: dict[str, Instance] = {}
    placement: dict[str, Place] = {}
    for i, entry in entries.items():
        instance, place = _instance(entry, hosts, ["instances", i])
        instances[instance.id] = dataclasses.replace(
            instance,
            exclusive=tuple(exclusive[instance.id]),
            together=tuple(together[instance.id]),
        )
        placement[instance.id] = place
    ends: dict[str, frozenset[str]] = {}
    for end in running:
        known = frozenset() if end.host is None else frozenset({end.host})
        ends[end.instance] = ends.get(end.instance, frozenset()) | known
    return Cloud(
        document=document,
        sha256=sha256,
        pools=pools,
        hosts=hosts,
        by_service=by_service,
        instances=instances,
        placement=placement,
        ends=ends,
        also_at={name: these - {placement[name].host} for name, these in ends.items()},
        fixed=_fixed_load(document, hosts, instances, placement, running),
        groups=groups,
        most_per_host=most,
        conflicts=_conflicts(document, inside | outside.keys()),
    )


def _conflicts(document: documents.Document, known: Set[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for i, pair in enumerate(document.get("conflicts", ())):
        one, other = pair
        if one == other or one not in known or other not in known:
            wrong = other if one in known else one
            why = f'no instance "{wrong}" in the snapshot'
            if one == other and one in known:
                why = f'instance "{one}" cannot conflict with itself'
            raise documents.Malformed(["conflicts", i], why)
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {name: frozenset(others) for name, others in found.items()}


def _inventories(entry: documents.Document, path: list[str | int]) -> dict[str, Inventory]:
    found = {}
    for resource, values in entry["inventories"].items():
        total, reserved = int(values["total"]), int(values.get("reserved", 0))
        if reserved > total:
            raise documents.Malformed(
                [*path, "inventories", resource],
                f'"{entry["id"]}" has negative capacity (total {total}, reserved {reserved})',
            )
        found[resource] = inventory(values)
    return found


def inventory(values: documents.Document) -> Inventory:
    """Return an inventory of the document."""
    total, reserved = int(values["total"]), int(values.get("reserved", 0))
    largest = values.get("max_unit")
    return Inventory(
        # Placement refuses used + asked > (total - reserved) * ratio: for whole amounts the
        # largest that passes is the floor.
        capacity=math.floor((total - reserved) * values.get("allocation_ratio", 1.0)),
        total=total,
        min_unit=int(values.get("min_unit", 1)),
        max_unit=None if largest is None else int(largest),
        step_size=int(values.get("step_size", 1)),
    )


def units(offered: Inventory, amount: int) -> str | None:
    """Say why Placement refuses an amount for its size, however much is free."""
    if amount < offered.min_unit:
        return f"has min_unit {offered.min_unit}"
    if offered.max_unit is not None and amount > offered.max_unit:
        return f"has max_unit {offered.max_unit}"
    return f"has step_size {offered.step_size}" if amount % offered.step_size else None


def _host(
    entry: documents.Document,
    pools: Mapping[str, Mapping[str, Inventory]],
    lacking: bool,
    path: list[str | int],
) -> Host:
    inventories = _inventories(entry, path)
    rows: dict[str, Limit] = {resource: ("host", entry["id"], resource) for resource in inventories}
    for resource, pool in entry.get("shared", {}).items():
        if pool not in pools:
            raise documents.Malformed(
                [*path, "shared", resource], f'no pool "{pool}" in the snapshot'
            )
        if resource in pools[pool]:
            inventories[resource] = pools[pool][resource]
            rows[resource] = ("pool", pool, resource)
    numa = entry.get("numa")
    cells: dict[int, Mapping[str, int]] = {}
    for i, cell in enumerate(numa["cells"] if numa else ()):
        if cell["id"] in cells:
            raise documents.Malformed(
                [*path, "numa", "cells", i], f'host "{entry["id"]}" has cell {cell["id"]} twice'
            )
        cells[int(cell["id"])] = _amounts(cell["capacity"])
    listed = frozenset(cells)
    if numa and numa["provenance"] not in RELIABLE:
        cells = {}
    nested: collections.Counter[str] = collections.Counter()
    for i, provider in enumerate(entry.get("providers", ())):
        for resource, offered in _inventories(provider, [*path, "providers", i]).items():
            nested[resource] += offered.capacity
    unusable = ""
    if entry.get("status", "enabled") != "enabled":
        unusable = "disabled"
    elif entry.get("state", "up") != "up":
        unusable = "down"
    elif lacking:
        unusable = "not read whole"
    return Host(
        id=entry["id"],
        name=entry.get("service_host") or entry["id"],
        az=entry.get("az"),
        unusable=unusable,
        inventories=inventories,
        rows=rows,
        cells=cells,
        listed=listed,
        nested=nested,
        entry=entry,
    )


def _instance(
    entry: documents.Document,
    hosts: Mapping[str, Host],
    path: list[str | int],
) -> tuple[Instance, Place]:
    name, host_id = entry["id"], entry["host"]
    host = hosts.get(host_id)
    if host is None:
        raise documents.Malformed([*path, "host"], f'"{name}" is on unknown host "{host_id}"')
    allowed = entry.get("allowed_hosts")
    for other in allowed or ():
        if other not in hosts:
            raise documents.Malformed(
                [*path, "allowed_hosts"], f'"{name}" may be on unknown host "{other}"'
            )
    allocations = _amounts(entry["allocations"])
    nested: collections.Counter[str] = collections.Counter()
    for amounts in entry.get("nested", {}).values():
        nested.update(_amounts(amounts))
    topology = entry.get("numa")
    guests: tuple[Mapping[str, int], ...] | None = None
    cells: tuple[int | None, ...] | None = None
    if topology is not None:
        guests = tuple(_amounts(guest["resources"]) for guest in topology)
        cells = tuple(None if g["cell"] is None else int(g["cell"]) for g in topology)
        _topology(name, host, guests, cells, allocations, [*path, "numa"])
    return (
        Instance(
            id=name,
            allocations=allocations,
            nested=nested,
            guests=guests,
            allowed=None if allowed is None else frozenset(allowed),
            exclusive=(),
            together=(),
            entry=entry,
        ),
        Place(host_id, cells),
    )


def _topology(
    name: str,
    host: Host,
    guests: tuple[Mapping[str, int], ...],
    cells: tuple[int | None, ...],
    allocations: Mapping[str, int],
    path: list[str | int],
) -> None:
    """Refuse a guest topology that cannot be."""
    known = [cell for cell in cells if cell is not None]
    for cell in known:
        if cell not in host.listed:
            raise documents.Malformed(
                path,
                f'"{name}" is on cell {cell} of host "{host.id}", whose cells are '
                f"{sorted(host.listed)}",
            )
    if len(set(known)) < len(known):
        raise documents.Malformed(path, f'two guest cells of "{name}" share a host cell: {known}')
    for resource in sorted({resource for guest in guests for resource in guest}):
        asked = sum(guest.get(resource, 0) for guest in guests)
        # Of an instance without allocations Placement does not know the size.
        counted = allocations and not resource.startswith(PAGES)
        if counted and asked > allocations.get(resource, 0):
            raise documents.Malformed(
                path,
                f'guest cells of "{name}" take {asked} {resource}, '
                f"its allocation is {allocations.get(resource, 0)}",
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _End:
    """One end of a running migration; ``host`` is None if it is not known.

    ``allocations`` is what is charged there if the instance is elsewhere; None: its own.
    """

    instance: str
    host: str | None
    allocations: Mapping[str, int] | None


def _running(
    document: documents.Document,
    hosts: Mapping[str, Host],
    entries: Mapping[int, documents.Document],
) -> list[_End]:
    """Return both ends of each running migration."""
    known = {entry["id"] for entry in entries.values()}
    found = []
    for i, running in enumerate(document.get("running_migrations", ())):
        name, far = running["instance"], running.get("far_allocations")
        if name not in known:
            raise documents.Malformed(
                ["running_migrations", i, "instance"], f'no instance "{name}" in the snapshot'
            )
        for end in ("source", "dest"):
            if running[end] is not None and running[end] not in hosts:
                raise documents.Malformed(
                    ["running_migrations", i, end], f'no host "{running[end]}" in the snapshot'
                )
            found.append(_End(name, running[end], None if far is None else _amounts(far)))
    return found


def _fixed_load(
    document: documents.Document,
    hosts: Mapping[str, Host],
    instances: Mapping[str, Instance],
    placement: Mapping[str, Place],
    running: Iterable[_End],
) -> dict[Limit, int]:
    """Return what is charged besides the instances where they are."""
    total: collections.Counter[Limit] = collections.Counter()
    for entry in document["hosts"]:
        rows = hosts[entry["id"]].rows
        for held in entry.get("held", ()):
            for resource, amount in _amounts(held["resources"]).items():
                if amount and resource in rows:
                    total[rows[resource]] += amount
    far: dict[str, dict[Limit, int]] = collections.defaultdict(dict)
    for end in running:
        instance = instances[end.instance]
        if end.host is None or end.host == placement[end.instance].host:
            continue
        if end.allocations is not None:
            # Who has nothing there has nothing on nested providers either; else it is not told.
            nested = instance.nested if end.allocations else {}
            instance = dataclasses.replace(instance, allocations=end.allocations, nested=nested)
        # Which cells it takes there is not known: they are not charged.
        for limit, amount in _charges(instance, hosts[end.host], None).items():
            far[end.instance][limit] = max(amount, far[end.instance].get(limit, 0))
    for name, charged in far.items():
        place = placement[name]
        here = _charges(instances[name], hosts[place.host], place.cells)
        for limit, amount in charged.items():
            # A pool behind both ends is charged once, with the larger of the two amounts.
            total[limit] += max(0, amount - here.get(limit, 0))
    return dict(total)


def _amounts(entry: Mapping[str, int]) -> dict[str, int]:
    # The schema lets 4.0 pass for 4.
    return {resource: int(amount) for resource, amount in entry.items()}


def _unique(document: documents.Document, key: str) -> dict[int, documents.Document]:
    """Return the entries of ``key`` by position, or refuse an id that occurs twice."""
    seen: dict[str, int] = {}
    for i, entry in enumerate(document.get(key, ())):
        if seen.setdefault(entry["id"], i) != i:
            raise documents.Malformed(
                [key, i], f'the id "{entry["id"]}" is that of {key}[{seen[entry["id"]]}] too'
            )
    return dict(enumerate(document.get(key, ())))

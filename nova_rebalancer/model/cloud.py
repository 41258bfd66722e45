# SPDX-License-Identifier: Apache-2.0
"""What a cloud said at one moment, as frozen facts.

The words are Nova's and Placement's.  Amounts are whole numbers in Placement's units.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

Amounts = Mapping[str, int]
"""Amount by resource class (VCPU, PCPU, MEMORY_MB, DISK_GB, CUSTOM_*)."""


PAGES = "HUGEPAGES_"
"""Begin of the names that count memory pages of one size in a NUMA cell, HUGEPAGES_2048KB; they
are amounts like those of a resource class, but Placement has no such class."""

FACTS = ("cell", "rack", "power_zone", "migration_link", "migration_mibps")
"""The single facts of a host that Nova's API does not tell."""


MOST = 10**15
"""More than anybody has, and sums of it still fit into 64 bits: operators switch a limit off by a
huge allocation ratio."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """How much of one resource class a provider offers."""

    total: int
    reserved: int = 0
    allocation_ratio: float = 1.0
    min_unit: int = 1
    max_unit: int | None = None
    step_size: int = 1

    @property
    def capacity(self) -> int:
        """Most that may be allocated.

        References
        ----------
        placement, ``objects/allocation.py``: an allocation is refused when used + asked >
        (total - reserved) * allocation_ratio; for whole amounts that is the floor.
        """
        return min(MOST, math.floor((self.total - self.reserved) * self.allocation_ratio))

    def refuses_units(self, amount: int) -> str | None:
        """Say why Placement refuses one allocation of ``amount`` by its size alone."""
        if amount < self.min_unit:
            return f"has min_unit {self.min_unit}"
        if self.max_unit is not None and amount > self.max_unit:
            return f"has max_unit {self.max_unit}"
        return f"has step_size {self.step_size}" if amount % self.step_size else None


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """Something Nova's API does not tell, and who says it.

    ``provenance`` is api, operator, inferred or unknown.  What is inferred was seen from the
    guests and may be a part only, so no rule relies on it.
    """

    provenance: str
    value: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class CellDetail:
    """What Nova fits instances into a NUMA cell by.

    CPUs are numbers; ``siblings`` are the threads of each core, ``pages`` the number of memory
    pages by size in KiB, ``pci_devices`` how many devices are free for passing through.
    """

    shared_cpus: frozenset[int]
    dedicated_cpus: frozenset[int]
    siblings: tuple[frozenset[int], ...]
    memory_mib: int
    pages: Mapping[int, int]
    pci_devices: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class NumaCell:
    """One NUMA cell of a host; a resource that ``capacity`` lacks is not limited here."""

    id: int
    capacity: Amounts
    detail: CellDetail | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class HostNuma:
    """A host's NUMA cells and who says so."""

    provenance: str
    cells: tuple[NumaCell, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Provider:
    """A nested resource provider of a host, such as a GPU or a network card."""

    id: str
    name: str
    parent: str
    inventories: Mapping[str, Inventory]
    traits: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """What Placement charges on a host for something that is not an instance on it.

    ``why`` is elsewhere (an instance that Nova has on another host or on none), migration (one
    that runs, beyond what it accounts for) or unknown.
    """

    consumer: str
    why: str
    resources: Amounts


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A compute host; ``id`` is its resource provider, ``service_host`` what Nova is asked."""

    id: str
    service_host: str
    inventories: Mapping[str, Inventory]
    hypervisor_hostname: str | None = None
    az: str | None = None
    status: str = "enabled"
    state: str = "up"
    disabled_reason: str | None = None
    traits: tuple[str, ...] = ()
    shared: Mapping[str, str] = dataclasses.field(default_factory=dict)
    numa: HostNuma | None = None
    rack: Fact | None = None
    cell: Fact | None = None
    power_zone: Fact | None = None
    migration_link: Fact | None = None
    migration_mibps: Fact | None = None
    watts: tuple[float, ...] | None = None
    """Power at equally spaced loads from idle to all cores busy."""
    inlet_c: float | None = None
    """Temperature of the air it takes in."""
    forced_down: bool = False
    hypervisor_type: str | None = None
    hypervisor_version: int | None = None
    cpu_info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    providers: tuple[Provider, ...] = ()
    held: tuple[Held, ...] = ()
    lacks: str | None = None
    """What could not be read of it: the first of the snapshot's ``missing`` that names it."""
    in_scope: bool = True
    """Whether the plan may move instances from and to it; the caller's answer."""

    @property
    def unusable(self) -> str | None:
        """Why nothing is moved from or to the host, in words; None when it may be."""
        if self.status != "enabled":
            return f"disabled ({self.disabled_reason})" if self.disabled_reason else "disabled"
        if self.state != "up":
            return "down"
        return f"not read whole ({self.lacks})" if self.lacks else None

    @property
    def usable(self) -> bool:
        """Whether the host is enabled, up and read whole: a destination, part of the rates."""
        return self.unusable is None

    @property
    def cells(self) -> tuple[NumaCell, ...]:
        """The NUMA cells that are known; empty when nobody knows them all."""
        if self.numa is None or self.numa.provenance not in ("api", "operator"):
            return ()
        return self.numa.cells


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """A sharing resource provider, such as one disk pool behind many hosts."""

    id: str
    inventories: Mapping[str, Inventory]


@dataclasses.dataclass(frozen=True, slots=True)
class Flavor:
    """A size that instances are made in."""

    id: str
    name: str
    resources: Amounts
    extra_specs: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class GuestCell:
    """One NUMA cell of an instance.

    ``cell`` is the host cell it is on and ``pinned`` the host CPUs it is pinned to; None when
    unknown.
    """

    cell: int | None
    resources: Amounts
    pinned: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Measured use of one resource: mean over a window that ended ``age_s`` ago."""

    mean: float
    window_s: float
    age_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """What an instance was made of; ``id`` is None when it was booted from a volume."""

    id: str | None
    properties: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """A virtual machine; ``host`` is the id of the host it is on."""

    id: str
    host: str
    allocations: Amounts
    name: str | None = None
    project: str | None = None
    flavor: str | None = None
    status: str = "ACTIVE"
    task_state: str | None = None
    locked: bool = False
    allow_migration: bool = True
    allowed_hosts: tuple[str, ...] | None = None
    numa: tuple[GuestCell, ...] | None = None
    numa_pagesize_kib: int | None = None
    usage: Mapping[str, Usage] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    launched_at: str | None = None
    updated_at: str | None = None
    vm_state: str | None = None
    power_state: int | None = None
    locked_reason: str | None = None
    nested: Mapping[str, Amounts] = dataclasses.field(default_factory=dict)
    pinned_az: str | None = None
    image: Image | None = None
    extra_specs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scheduler_hints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    vnic_types: tuple[str, ...] | None = None
    in_scope: bool = True
    """Whether the plan may move it; an answer of the caller's, not of the cloud's."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServerGroup:
    """A server group; ``max_server_per_host`` counts for anti-affinity only."""

    id: str
    policy: str
    members: tuple[str, ...]
    max_server_per_host: int = 1
    name: str | None = None
    project: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Aggregate:
    """A host aggregate."""

    name: str
    hosts: tuple[str, ...]
    metadata: Mapping[str, str]
    id: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class RunningMigration:
    """A migration under way when the snapshot was taken; it charges both hosts.

    ``dest`` is None while Nova has not chosen it, and when it is no host of the snapshot.
    ``far_allocations`` is what is charged at the end where the instance is not; None stands for
    the same as its allocations.
    """

    instance: str
    source: str
    dest: str | None
    status: str | None = None
    id: str | None = None
    type: str | None = None
    far_allocations: Amounts | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """Something that could not be read; ``hosts`` are those it matters for, None for all."""

    what: str
    reason: str
    hosts: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """An instance that is on no host of the snapshot.

    ``reason`` is no_host, host_unknown, host_refused, cell_down or out_of_scope.
    """

    id: str
    reason: str
    name: str | None = None
    project: str | None = None
    status: str | None = None
    task_state: str | None = None
    host: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A host this program must not plan for."""

    host: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known of a cloud at ``taken_at`` (UTC).

    ``numa_choice`` says who picks NUMA cells at a destination: "planner" for benchmark files,
    "nova" on a live cloud.  ``conflicts`` are pairs of instances that must never be on one host.
    """

    cloud: str
    taken_at: str
    numa_choice: str
    hosts: tuple[Host, ...]
    instances: tuple[Instance, ...]
    region: str | None = None
    several_cells: bool = False
    pools: tuple[Pool, ...] = ()
    flavors: tuple[Flavor, ...] = ()
    server_groups: tuple[ServerGroup, ...] = ()
    conflicts: tuple[tuple[str, str], ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    running_migrations: tuple[RunningMigration, ...] = ()
    missing: tuple[Missing, ...] = ()
    outside: tuple[Outside, ...] = ()
    refused: tuple[Refused, ...] = ()

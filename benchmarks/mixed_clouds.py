# SPDX-License-Identifier: Apache-2.0
"""Clouds in which everything occurs that keeps an instance from some host, as snapshot documents.

    python benchmarks/mixed_clouds.py SEED OUT.json [--hosts 100] [--instances 2000]

The same seed and sizes give the same document.  Three quarters of the instances are plain ones.  A
quarter of the hosts has dedicated CPUs, with and without threads, and pages of three sizes; the
others have VCPUs only, some of them GPUs.  Instances came and went, so free cores lie in pieces.

Where instances are is drawn first; what their owners and the operator ask for follows, and is true
of the host an instance is on: traits it has, metadata of its aggregates, room that is there.
"""

import argparse
import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import json
import math
import pathlib
import random
from typing import Any
import uuid

Json = dict[str, Any]

TAKEN_AT = "2026-01-12T03:00:00Z"
ZONES = ("az-north", "az-middle", "az-south")
PROJECTS = 12
"""Projects that use the hosts that are there for everybody."""

MIN_HOSTS = 20
CELLS = 2
SMALL, MEDIUM, LARGE = 4, 2048, 1_048_576
"""Page sizes in KiB."""

PINNED_FULL, PINNED_USE = 0.93, 0.80
"""Share of the dedicated CPUs in use when the hosts were fullest, and at the end."""
GENERAL_USE = 0.88
"""Share of the other hosts' VCPUs in use at the end."""
LEAVING = 0.10
"""Share of the instances that arrived on those and left again."""
TRIES = 8
"""Hosts looked at for one arrival."""
PACKED = 0.2
"""Share of the arrivals that go to the fullest of these, the others to the first with room."""


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """What a flavor asks for.

    ``parts`` are the cores of its guest NUMA cells, empty without a topology; ``pinned`` is how
    many cores of each are pinned.
    """

    name: str
    cores: int
    gib_per_core: int = 4
    parts: tuple[int, ...] = ()
    pinned: tuple[int, ...] = ()
    specs: tuple[tuple[str, str], ...] = ()

    @property
    def mib(self) -> int:
        """Memory."""
        return self.cores * self.gib_per_core * 1024

    @property
    def gib(self) -> int:
        """Disk."""
        return 20 + 5 * self.cores

    @property
    def asks(self) -> dict[str, str]:
        """Extra specs."""
        return dict(self.specs)


def _pinned_sizes() -> Iterator[tuple[Size, int]]:
    """Sizes for hosts with dedicated CPUs, with their weights among arrivals."""
    dedicated = {"hw:cpu_policy": "dedicated"}

    def size(
        name: str, parts: tuple[int, ...], pinned: tuple[int, ...], specs: Json, gib: int = 4
    ) -> Size:
        cores = sum(parts)
        return Size(f"{name}.{cores}cpu", cores, gib, parts, pinned, tuple(sorted(specs.items())))

    for cores, weight in ((2, 20), (4, 24), (8, 16), (16, 6)):
        yield size("p", (cores,), (cores,), dedicated), weight
    for policy, weight in (("prefer", 6), ("require", 6), ("isolate", 4)):
        for cores in (2, 4, 8):
            specs = dedicated | {"hw:cpu_thread_policy": policy}
            yield size(f"p-{policy}", (cores,), (cores,), specs), weight
    for name, page in (("small", "small"), ("large", "large"), ("2m", "2048"), ("1g", "1GB")):
        for cores in (4, 8):
            specs = dedicated | {"hw:mem_page_size": page}
            yield size(f"p-{name}", (cores,), (cores,), specs), 3
    two = dedicated | {"hw:numa_nodes": "2"}
    for cores, weight in ((4, 4), (8, 4), (16, 2)):
        yield size("p-two", (cores, cores), (cores, cores), two), weight
    yield size("p-two-1g", (4, 4), (4, 4), two | {"hw:mem_page_size": "1GB"}), 2
    uneven = {"hw:numa_cpus.0": "0,1", "hw:numa_cpus.1": "2-5"}
    uneven |= {"hw:numa_mem.0": str(8 * 1024), "hw:numa_mem.1": str(16 * 1024)}
    yield size("p-uneven", (2, 4), (2, 4), two | uneven), 2
    for cores in (4, 8):
        mask = {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": f"0-{cores // 2 - 1}"}
        yield size("p-mixed", (cores,), (cores // 2,), mask), 3
    yield size("p-emulator", (4,), (4,), dedicated | {"hw:emulator_threads_policy": "isolate"}), 1
    for name, page in (("large", "large"), ("2m", "2MB"), ("any", "any"), ("small", "small")):
        yield size(f"n-{name}", (4,), (0,), {"hw:mem_page_size": page}), 3
    yield size("n-two", (2, 2), (0, 0), {"hw:numa_nodes": "2"}), 6


def _general_sizes() -> Iterator[tuple[Size, int]]:
    """Sizes for the other hosts."""
    for family, gib, weight in (("c", 2, 4), ("m", 4, 4), ("r", 8, 2)):
        for cores, share in ((1, 12), (2, 28), (4, 30), (8, 20), (16, 7), (32, 1)):
            yield Size(f"{family}.{cores}cpu", cores, gib), weight * share
    nodes = (("hw:numa_nodes", "1"),)
    yield Size("n.4cpu", 4, 4, (4,), (0,), nodes), 12
    yield Size("n-two.8cpu", 8, 4, (4, 4), (0, 0), (("hw:numa_nodes", "2"),)), 8


@dataclasses.dataclass(slots=True)
class Cell:
    """A host NUMA cell; what is free of it counts down."""

    shared: list[int]
    cores: list[list[int]]
    """Dedicated CPUs by core."""
    mib: int
    pages: dict[int, int]
    free_vcpu: int = 0
    free_mib: int = 0
    free_pages: dict[int, int] = dataclasses.field(default_factory=dict)
    taken: set[int] = dataclasses.field(default_factory=set)

    @property
    def dedicated(self) -> list[int]:
        """Dedicated CPUs."""
        return sorted(cpu for core in self.cores for cpu in core)

    def pins(self, count: int, policy: str) -> list[int] | None:
        """Free CPUs for ``count`` pinned ones, None if there are too few."""
        free = [[cpu for cpu in core if cpu not in self.taken] for core in self.cores]
        if policy == "require":
            free = [core for core in free if len(core) > 1]
        free.sort(key=len, reverse=True)
        found = [cpu for core in free for cpu in core][:count]
        return sorted(found) if len(found) == count else None


@dataclasses.dataclass(slots=True, eq=False)
class Host:
    """A host; ``doc`` is its entry in the document, ``free`` what its inventories have left."""

    number: int
    doc: Json
    zone: int
    pinned: bool
    threads: int
    vcpu_ratio: float
    cells: list[Cell]
    free: dict[str, int] = dataclasses.field(default_factory=dict)
    shares: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    """What the pool of a resource has left, by resource."""
    nested: dict[str, int] = dataclasses.field(default_factory=dict)
    """VGPUs left, by nested provider."""
    club: str = ""
    """Aggregate that is for some instances only; a host is in one of them at most."""
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of its other aggregates."""
    servers: list["Server"] = dataclasses.field(default_factory=list)

    def room(self, resource: str) -> int:
        """What may still be charged."""
        return self.shares.get(resource, self.free).get(resource, 0)

    def accepts(self, asked: dict[str, int]) -> bool:
        """Whether Placement would allocate this here."""
        inventories = self.doc["inventories"]
        return all(
            amount <= self.room(resource)
            and amount <= inventories.get(resource, {}).get("max_unit", amount)
            for resource, amount in asked.items()
        )

    def charge(self, asked: dict[str, int], sign: int = 1, other: "Host | None" = None) -> None:
        """Charge what is asked, or give it back; pools that it has in common with ``other`` not."""
        for resource, amount in asked.items():
            pool = self.shares.get(resource)
            if pool is None:
                self.free[resource] -= sign * amount
            elif other is None or other.shares.get(resource) is not pool:
                pool[resource] -= sign * amount


@dataclasses.dataclass(slots=True, eq=False)
class Guest:
    """A guest NUMA cell on a host cell."""

    cell: int
    vcpu: int
    pins: list[int]
    mib: int
    hidden: list[int]
    """CPUs taken that the API does not show: of emulator threads."""


@dataclasses.dataclass(slots=True, eq=False)
class Server:
    """An instance; ``facts`` goes into its entry in the document as it is."""

    id: str
    size: Size
    host: Host
    allocations: dict[str, int]
    specs: dict[str, str]
    guests: list[Guest]
    page: int | None
    facts: Json = dataclasses.field(default_factory=dict)
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    marked: bool = False
    cells_known: bool = True
    pins_known: bool = True
    old_style: bool = False
    """Whether its pinned CPUs are charged as VCPU, as before Placement told them apart."""


def inventory(total: int, ratio: float = 1.0, reserved: int = 0, **units: int) -> Json:
    """An inventory as Placement answers it."""
    entry = {"total": total, "reserved": reserved, "allocation_ratio": ratio, "max_unit": total}
    return entry | units


# What hosts are like

COMMON_TRAITS = (
    "COMPUTE_NODE COMPUTE_VOLUME_EXTEND COMPUTE_STORAGE_BUS_SATA COMPUTE_STORAGE_BUS_SCSI "
    "COMPUTE_STORAGE_BUS_VIRTIO COMPUTE_NET_VIF_MODEL_VIRTIO COMPUTE_GRAPHICS_MODEL_VGA "
    "COMPUTE_NET_VIF_MODEL_E1000 COMPUTE_SOCKET_PCI_NUMA_AFFINITY HW_ARCH_X86_64 "
    "COMPUTE_SECURITY_UEFI_SECURE_BOOT COMPUTE_ADDRESS_SPACE_EMULATED"
).split()
NEWER_TRAITS = (
    "COMPUTE_GRAPHICS_MODEL_VIRTIO COMPUTE_GRAPHICS_MODEL_BOCHS COMPUTE_NET_VIRTIO_PACKED "
    "COMPUTE_SECURITY_STATELESS_FIRMWARE COMPUTE_SECURITY_TPM_2_0 "
    "COMPUTE_ADDRESS_SPACE_PASSTHROUGH COMPUTE_VIOMMU_MODEL_VIRTIO"
).split()
CPUS = (
    ("Cascadelake-Server-noTSX", "Intel", "aes avx avx2 avx512f pdpe1gb vmx", "HW_CPU_X86_AVX512F"),
    ("EPYC-Milan", "AMD", "aes avx avx2 pdpe1gb sha-ni svm", "HW_CPU_X86_AMD_SVM"),
)
VERSIONS = (7_002_000, 8_002_002)

CLUBS: tuple[tuple[str, Callable[["_Cloud"], Json]], ...] = (
    ("tenant", lambda made: {"filter_tenant_id": made.tenants[0]}),
    (
        "tenants",
        lambda made: {
            "filter_tenant_id": ",".join(made.tenants[1:3]),
            "filter_tenant_id_b": made.tenants[1],
            "filter_tenant_id_c": made.tenants[2],
        },
    ),
    ("windows", lambda made: {"os_type": "windows, winserver"}),
    ("memory", lambda made: {}),
    ("database", lambda made: {"trait:CUSTOM_LICENSED_DB": "required"}),
)
"""Aggregates for some instances only, and their metadata; that of ``memory`` comes at the end."""

HARDWARE: tuple[tuple[dict[str, str], tuple[dict[str, str], ...]], ...] = (
    (
        {"ssd": "true", "gen": "3"},
        (
            {"aggregate_instance_extra_specs:ssd": "true"},
            {"aggregate_instance_extra_specs:gen": ">= 2"},
            {"aggregate_instance_extra_specs:ssd": "<or> true <or> yes"},
        ),
    ),
    (
        {"ssd": "false", "gen": "2", "net": "25g,100g"},
        (
            {"aggregate_instance_extra_specs:gen": "<= 2"},
            {"aggregate_instance_extra_specs:net": "s== 100g"},
            {"net": "25g"},
        ),
    ),
    (
        {"ssd": "true", "gen": "4", "net": "100g", "room": "cellar-north"},
        (
            {"aggregate_instance_extra_specs:gen": "== 4", "room": "<in> north"},
            {"aggregate_instance_extra_specs:ssd": "s!= false"},
        ),
    ),
)
"""Metadata of aggregates, each for a third of the hosts, and what is true of their hosts."""

IMAGES = (
    {"os_distro": "ubuntu", "hw_vif_model": "virtio", "hw_disk_bus": "virtio"},
    {"os_distro": "debian", "hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"},
    {"os_distro": "rhel", "hw_cdrom_bus": "sata", "hw_video_model": "virtio"},
    {"os_distro": "rocky", "hw_vif_model": "e1000", "hw_video_model": "vga"},
    {"os_distro": "fedora", "hw_architecture": "x86_64", "hw_video_model": "bochs"},
    {"os_distro": "alma", "hw_viommu_model": "virtio"},
)

REQUIRED: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    ("CUSTOM_FAST_DISK", {"trait:CUSTOM_FAST_DISK": "required"}, {}),
    ("CUSTOM_FAST_DISK", {}, {"trait:CUSTOM_FAST_DISK": "required"}),
    ("CUSTOM_FAST_DISK", {}, {"traits_required": '["CUSTOM_FAST_DISK"]'}),
    ("HW_CPU_X86_AVX512F", {"trait:HW_CPU_X86_AVX512F": "required"}, {}),
    (
        "COMPUTE_SECURITY_TPM_2_0",
        {"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb", "hw:tpm_secret_security": "host"},
        {},
    ),
    ("COMPUTE_SECURITY_UEFI_SECURE_BOOT", {"os:secure_boot": "required"}, {}),
    ("COMPUTE_SECURITY_UEFI_SECURE_BOOT", {}, {"os_secure_boot": "required"}),
    ("COMPUTE_ADDRESS_SPACE_PASSTHROUGH", {"hw:maxphysaddr_mode": "passthrough"}, {}),
    ("COMPUTE_ADDRESS_SPACE_EMULATED", {"hw:maxphysaddr_mode": "emulate"}, {}),
    ("COMPUTE_NET_VIRTIO_PACKED", {}, {"hw_virtio_packed_ring": "true"}),
    ("COMPUTE_NET_VIRTIO_PACKED", {"hw:virtio_packed_ring": "true"}, {}),
    ("COMPUTE_SECURITY_STATELESS_FIRMWARE", {}, {"hw_firmware_stateless": "true"}),
    ("COMPUTE_SOCKET_PCI_NUMA_AFFINITY", {"hw:pci_numa_affinity_policy": "socket"}, {}),
)
"""A trait, and extra specs and image properties that need it."""

STAYING: tuple[tuple[float, Json], ...] = (
    (0.010, {"locked": True, "locked_reason": "database master"}),
    (0.008, {"metadata": {"nova-rebalancer:allow-migration": "false"}, "allow_migration": False}),
    (0.004, {"tags": ["nova-rebalancer:stay"], "allow_migration": False}),
    (0.005, {"task_state": "image_snapshot"}),
    (0.002, {"task_state": "rebooting"}),
    (0.012, {"status": "SHUTOFF", "vm_state": "stopped", "power_state": 4}),
    (0.002, {"status": "ERROR", "vm_state": "error"}),
    (0.001, {"status": "SUSPENDED", "vm_state": "suspended", "power_state": 4}),
    (0.002, {"power_state": 4}),
    (0.004, {"vnic_types": ["direct"]}),
    (0.002, {"vnic_types": ["accelerator-direct"]}),
    (0.002, {"vnic_types": ["macvtap", "direct-physical"]}),
    (0.003, {"scheduler_hints": {"query": '[">=","$free_ram_mb",1024]'}}),
    (0.002, {"scheduler_hints": {"build_near_host_ip": "192.0.2.7", "cidr": "/24"}}),
)
"""Share of the instances, and what keeps them where they are."""

ALLOWED: tuple[tuple[float, Json], ...] = (
    (0.010, {"metadata": {"nova-rebalancer:allow-migration": "true"}}),
    (0.004, {"tags": ["nova-rebalancer:move"]}),
    (0.006, {"status": "PAUSED", "vm_state": "paused", "power_state": 3}),
    (0.004, {"power_state": None}),
    (0.004, {"vnic_types": None}),
    (0.004, {"scheduler_hints": {"different_host": [], "same_host": []}}),
    (0.002, {"metadata": {"nova-rebalancer:pin-hosts": " , "}}),
)
"""What keeps them not."""

STAYING_SPECS: tuple[tuple[float, dict[str, str], dict[str, str]], ...] = (
    (0.003, {"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"}, {}),
    (0.002, {}, {"hw_tpm_version": "1.2"}),
    (0.004, {"pci_passthrough:alias": "qat:1"}, {}),
    (0.002, {"accel:device_profile": "fpga-small"}, {}),
    (0.002, {"hw:mem_encryption": "True"}, {}),
    (0.001, {}, {"hw_mem_encryption": "yes"}),
)
"""Share, extra specs and image properties that keep them."""

CAPABILITIES: tuple[tuple[Callable[[Json], bool], dict[str, str], dict[str, str]], ...] = (
    (lambda host: True, {"capabilities:hypervisor_type": "s== QEMU"}, {}),
    (lambda host: True, {"hypervisor_type": "<or> QEMU <or> KVM"}, {}),
    (lambda host: host["vendor"] == "Intel", {"capabilities:cpu_info:vendor": "Intel"}, {}),
    (lambda host: host["vendor"] == "AMD", {"capabilities:cpu_info:model": "<in> EPYC"}, {}),
    (lambda host: host["new"], {"capabilities:hypervisor_version": ">= 8000000"}, {}),
    (lambda host: host["new"], {}, {"img_hv_requested_version": ">=8.0.0"}),
    (lambda host: not host["new"], {}, {"img_hv_requested_version": "<8.0.0, >=6.2.0"}),
    (lambda host: host["bits"] >= 46, {}, {"hw_maxphysaddr_bits": "46"}),
    (lambda host: host["bits"] >= 44, {"hw:maxphysaddr_bits": "44"}, {}),
    (lambda host: True, {}, {"img_hv_type": "kvm", "hw_vm_mode": "hvm"}),
    (lambda host: True, {"capabilities:free_ram_mb": ">= 1024"}, {}),
)
"""What is asked of the hypervisor and its CPU, where it is true; the last nobody can know."""


def cloud(seed: int, hosts: int = 100, instances: int = 2000) -> Json:
    """Return the snapshot document of a cloud.

    Parameters
    ----------
    seed
        Any number makes another cloud.  Of four in a row the first has two Nova cells that are
        known, the third two of which some hosts are not known, the others tell nothing of cells.
    hosts
        At least MIN_HOSTS.
    instances
        At least 8 a host, for smaller hosts would not hold the larger flavors.

    Raises
    ------
    ValueError
        If there are too few.
    """
    if hosts < MIN_HOSTS or instances < 8 * hosts:
        raise ValueError(
            f"{hosts} hosts, {instances} instances: at least {MIN_HOSTS} and 8 a host are needed"
        )
    return _Cloud(seed, hosts, instances).document()


class _Cloud:
    def __init__(self, seed: int, hosts: int, instances: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.count = instances
        self.tenants = [self._uuid() for _ in range(3)]
        self.projects = [self._uuid() for _ in range(PROJECTS)]
        self.images = [(self._uuid(), {"os_type": "linux"} | properties) for properties in IMAGES]
        self.windows = (self._uuid(), {"os_type": "windows", "hw_disk_bus": "scsi"})
        self.pools: list[Json] = []
        self.groups: list[Json] = []
        self.aggregates: list[Json] = []
        self.migrations: list[Json] = []
        self.outside: list[Json] = []
        self.missing: list[Json] = []
        self.servers: list[Server] = []
        self.clubs: dict[str, Json] = {}
        self.hosts = [self._host(number, hosts) for number in range(hosts)]
        self._found_clubs()
        self._fill_pinned()
        self._fill_general()
        self.rng.shuffle(self.servers)
        self._next = 0
        self._name()
        self._devices()
        self._group()
        self._migrate()
        self._keep()
        self._ask()
        self._hold()
        self._close()

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _often(self, share: float) -> bool:
        return self.rng.random() < share

    # Hosts

    def _host(self, number: int, hosts: int) -> Host:
        """A host; what it has of VCPUs follows when it is known what it must hold."""
        zone = number * len(ZONES) // hosts
        # Hosts were bought by the rack, those with dedicated CPUs all alike.
        pinned = number % 4 == 3
        model, vendor, features, trait = CPUS[0 if pinned else number // 8 % 3 // 2]
        new = self._often(0.9 if pinned else 0.7)
        # Threads only on hosts where two of three have them.
        threads = 1 if number // 4 % 3 == 0 else 2
        more = " ssbd" if self._often(0.1) else ""
        bits = 46 if new else 42
        traits = [*COMMON_TRAITS, trait, *(NEWER_TRAITS if new else ())]
        for name, share in (("CUSTOM_FAST_DISK", 0.4), ("CUSTOM_OLD_FIRMWARE", 0.2)):
            if self._often(share):
                traits.append(name)
        if threads == 2:
            traits.append("HW_CPU_HYPERTHREADING")
        name = f"compute-{number:04}"
        told = not self._often(0.01)
        doc: Json = {
            "id": self._uuid(),
            "service_host": name,
            "hypervisor_hostname": f"{name}.cloud.example",
            "az": ZONES[zone],
            "status": "enabled",
            "state": "up",
            "forced_down": False,
            "hypervisor_type": "QEMU",
            "hypervisor_version": VERSIONS[new] if told else None,
            "cpu_info": {
                "arch": "x86_64",
                "model": model,
                "vendor": vendor,
                "features": (features + more).split(),
                "topology": {"cells": CELLS, "sockets": 1, "cores": 24, "threads": threads},
                "maxphysaddr": {"mode": "passthrough", "bits": bits},
            }
            if told
            else {},
            "traits": traits,
            "inventories": {},
            "providers": [],
            "held": [],
            "shared": {},
            "rack": {"provenance": "operator", "value": f"rack-{number // 16}"},
        }
        host = Host(number, doc, zone, pinned, threads, self.rng.choice((2.0, 4.0)), [])
        if pinned:
            self._equip(host, shared=8, dedicated=2 * self.rng.choice((16, 18, 20)))
        if number % 25 == 6:
            self._add_gpus(host)
        return host

    def _equip(self, host: Host, shared: int, dedicated: int) -> None:
        """Give a host its CPUs in each cell, and memory and disk for the instances on them."""
        cores = (shared + dedicated) // host.threads
        for n in range(CELLS):
            # The second threads of all cores are numbered after all first ones, as on x86.
            ids = [
                [(n * cores + core) + thread * CELLS * cores for thread in range(host.threads)]
                for core in range(cores)
            ]
            few = shared // host.threads
            first = [cpu for core in ids[:few] for cpu in core]
            vcpus = math.floor(shared * host.vcpu_ratio)
            mib = (vcpus * 9 // 2 + dedicated * 6) * 1024 // 4096 * 4096
            pages = {MEDIUM: 0, LARGE: 0}
            if host.pinned:
                pages = self.rng.choice(
                    ({MEDIUM: 0, LARGE: 0}, {MEDIUM: 8192, LARGE: 32}, {MEDIUM: 16384, LARGE: 0})
                )
            huge = sum(size * number for size, number in pages.items())
            pages = {SMALL: (mib * 1024 - huge) // SMALL} | {
                size: number for size, number in pages.items() if number
            }
            host.cells.append(Cell(sorted(first), ids[few:], mib, pages, vcpus, mib, dict(pages)))
        mib, total = sum(cell.mib for cell in host.cells), CELLS * shared
        gib = CELLS * (host.cells[0].free_vcpu + dedicated) * 10
        sizes: Json = {
            "VCPU": inventory(total, host.vcpu_ratio),
            "MEMORY_MB": inventory(mib, reserved=8192, step_size=1),
        }
        if host.pinned:
            sizes["PCPU"] = inventory(CELLS * dedicated)
        # All of the first zone, half of the second and none of the third have a common disk.
        if host.zone == 0 or (host.zone == 1 and host.number % 2):
            self._share_disk(host, gib)
        else:
            sizes["DISK_GB"] = inventory(gib, min_unit=1)
        if self._often(0.2):
            # What is licensed comes in portions that differ from host to host.
            step, most = self.rng.choice(((4, 16), (2, 8), (1, 32)))
            sizes["CUSTOM_LICENSE"] = inventory(64, step_size=step, max_unit=most)
        if host.pinned and self._often(0.3):
            sizes["CUSTOM_PMEM_NAMESPACE_4GB"] = inventory(8)
        if host.doc["cpu_info"].get("vendor") == "AMD":
            sizes["MEM_ENCRYPTION_CONTEXT"] = inventory(15, max_unit=1)
        host.doc["inventories"] = sizes
        host.free = {
            name: math.floor((one["total"] - one["reserved"]) * one["allocation_ratio"])
            for name, one in sizes.items()
        }

    def _share_disk(self, host: Host, gib: int) -> None:
        name = f"disks-{ZONES[host.zone]}"
        pool = next((one for one in self.pools if one["name"] == name), None)
        if pool is None:
            pool = {"name": name, "id": self._uuid(), "total": 0, "free": {"DISK_GB": 0}}
            self.pools.append(pool)
        pool["total"] += gib
        pool["free"]["DISK_GB"] += gib
        host.shares["DISK_GB"] = pool["free"]
        host.doc["shared"]["DISK_GB"] = pool["id"]

    def _add_gpus(self, host: Host) -> None:
        for slot in ("3b", "d8"):
            provider = {
                "id": self._uuid(),
                "name": f"{host.doc['hypervisor_hostname']}_pci_0000_{slot}_00_0",
                "parent": host.doc["id"],
                "inventories": {"VGPU": inventory(8)},
                "traits": ["CUSTOM_NVIDIA_A16"],
            }
            host.doc["providers"].append(provider)
            host.nested[provider["id"]] = 8

    def _found_clubs(self) -> None:
        """Set hosts aside for some instances; draw the aggregates that all hosts are in."""
        size = max(3, len(self.hosts) // 20)
        for i, (name, metadata) in enumerate(CLUBS):
            free = [
                host
                for host in self.hosts
                if host.zone == i % len(ZONES) and not (host.pinned or host.nested or host.club)
            ]
            # They were bought for that together.
            kinds = [(*_hypervisor(host).values(), self._in_first_cell(host)) for host in free]
            common = collections.Counter(kinds).most_common(1)[0][0]
            alike = [host for host, kind in zip(free, kinds, strict=True) if kind == common]
            chosen = self.rng.sample(alike, min(size, len(alike)))
            for host in chosen:
                host.club = name
                if name == "database":
                    host.doc["traits"].append("CUSTOM_LICENSED_DB")
            self.clubs[name] = self._aggregate(name, chosen, metadata(self))
        # Outside the last zone, hosts with dedicated CPUs are for those only who ask for them.
        isolated = [host for host in self.hosts if host.pinned and host.zone < 2]
        for host in isolated:
            host.club = "pinned"
            host.doc["traits"].append("CUSTOM_PINNED")
        self._aggregate("pinned", isolated, {"trait:CUSTOM_PINNED": "required"})
        for z, zone in enumerate(ZONES):
            here = [host for host in self.hosts if host.zone == z]
            self._aggregate(zone, here, {"availability_zone": zone})
        for i, (metadata, _) in enumerate(HARDWARE):
            of = [host for host in self.hosts if self._often(0.3) and not host.metadata]
            for host in of:
                host.metadata = metadata
            self._aggregate(f"hardware-{i}", of, metadata)
        self._aggregate("nobody", [], {"note": "hosts on order"})

    def _aggregate(self, name: str, hosts: Iterable[Host], metadata: Json) -> Json:
        found = {
            "id": self._uuid(),
            "name": name,
            "hosts": [host.doc["id"] for host in hosts],
            "metadata": dict(metadata),
        }
        self.aggregates.append(found)
        return found

    # Instances come and go

    def _fill_pinned(self) -> None:
        hosts = [host for host in self.hosts if host.pinned]
        sizes, weights = zip(*_pinned_sizes(), strict=True)
        total = sum(host.free["PCPU"] for host in hosts)

        def used() -> int:
            return total - sum(host.free["PCPU"] for host in hosts)

        # The sum is taken now and then only: it costs as much as an arrival.
        for _ in range(40):
            if used() >= PINNED_FULL * total:
                break
            for size in self.rng.choices(sizes, weights, k=len(hosts)):
                self._arrive(size, hosts)
        taken = used()
        while taken > PINNED_USE * total:
            taken -= self._leave(self.rng.randrange(len(self.servers))).get("PCPU", 0)

    def _fill_general(self) -> None:
        """Draw what the other hosts hold, make them as large as that needs, and fill them."""
        hosts = [host for host in self.hosts if not host.pinned]
        kept = len(self.servers)
        wanted = self.count - kept
        sizes, weights = zip(*_general_sizes(), strict=True)
        arriving = self.rng.choices(sizes, weights, k=round(wanted * (1 + LEAVING)))
        share = sum(size.cores for size in arriving) / (1 + LEAVING) / GENERAL_USE / len(hosts)
        for host in hosts:
            # Few flavors may go to the hosts of that club.
            most = share * (0.3 if host.club == "memory" else self.rng.choice((0.9, 1.0, 1.1)))
            # Whole cores of two threads, and enough of them for the largest flavor's guest cell.
            self._equip(host, max(6, 2 * round(most / host.vcpu_ratio / CELLS / 2)), 0)
        for size in arriving:
            self._arrive(size, hosts)
        while len(self.servers) > self.count:
            self._leave(self.rng.randrange(kept, len(self.servers)))
        for _ in range(20 * self.count):
            if len(self.servers) == self.count:
                return
            self._arrive(sizes[self.rng.randrange(2)], hosts)
        raise RuntimeError(f"seed {self.seed}: {self.count} instances do not fit")

    def _arrive(self, size: Size, hosts: Sequence[Host]) -> None:
        """Boot an instance on one of a few hosts drawn, if one has room."""
        volume = self._often(0.3)
        specs = size.asks
        emulator = specs.get("hw:emulator_threads_policy") == "isolate"
        shared = size.cores - sum(size.pinned)
        wanted = {"VCPU": shared, "PCPU": sum(size.pinned) + emulator, "MEMORY_MB": size.mib}
        allocations = {name: amount for name, amount in wanted.items() if amount}
        if not volume:
            allocations["DISK_GB"] = size.gib
        packed, best = self._often(PACKED), None
        for _ in range(TRIES):
            host = hosts[self.rng.randrange(len(hosts))]
            if host.club == "memory" and not size.name.startswith("r."):
                continue
            if not host.accepts(allocations):
                continue
            place = self._place(size, host) if size.parts else ([], None)
            if place is None:
                continue
            left = host.room("PCPU" if size.pinned and any(size.pinned) else "VCPU")
            if best is None or left < best[0]:
                best = left, host, place
            if not packed:
                break
        if best is None:
            return
        _, host, (guests, page) = best
        server = Server(self._uuid(), size, host, allocations, specs, guests, page)
        server.facts["volumes"] = [self._uuid()] if volume else []
        host.charge(allocations)
        for guest in guests:
            self._occupy(host.cells[guest.cell], guest, page, 1)
        host.servers.append(server)
        self.servers.append(server)

    def _leave(self, s: int) -> dict[str, int]:
        """Delete the server at position ``s``; return what it took."""
        server = self.servers[s]
        server.host.charge(server.allocations, -1)
        for guest in server.guests:
            self._occupy(server.host.cells[guest.cell], guest, server.page, -1)
        server.host.servers.remove(server)
        self.servers[s] = self.servers[-1]
        self.servers.pop()
        return server.allocations

    def _place(self, size: Size, host: Host) -> tuple[list[Guest], int | None] | None:
        """Guest cells of ``size`` on host cells with room, and the page size they get."""
        specs = size.asks
        policy = specs.get("hw:cpu_thread_policy", "prefer")
        # With dedicated and shared CPUs apart, Nova takes instances that want a core for each CPU
        # to hosts without threads, those that want two to hosts with some.
        if (policy, host.threads) in (("isolate", 2), ("require", 1)):
            return None
        order = list(range(CELLS))
        if self._often(0.5):
            order.reverse()
        for page in self._page_sizes(specs.get("hw:mem_page_size")):
            left, guests = list(order), []
            for part, pinned in zip(size.parts, size.pinned, strict=True):
                mib = part * size.gib_per_core * 1024
                hidden = int("hw:emulator_threads_policy" in specs)
                for n in left:
                    guest = self._guest(host.cells[n], n, part - pinned, pinned, mib, policy, page)
                    if guest is None or (hidden and not self._hide(host.cells[n], guest)):
                        continue
                    guests.append(guest)
                    left.remove(n)
                    break
            if len(guests) == len(size.parts):
                return guests, page
        return None

    @staticmethod
    def _page_sizes(asked: str | None) -> tuple[int | None, ...]:
        """Page sizes in KiB in the order Nova tries them; None where none is asked for."""
        sizes: dict[str | None, tuple[int | None, ...]] = {
            None: (None,),
            "small": (SMALL,),
            "large": (LARGE, MEDIUM),
            "any": (LARGE, MEDIUM, SMALL),
            "2048": (MEDIUM,),
            "2MB": (MEDIUM,),
            "1GB": (LARGE,),
        }
        return sizes[asked]

    @staticmethod
    def _guest(
        cell: Cell, n: int, vcpu: int, pinned: int, mib: int, policy: str, page: int | None
    ) -> Guest | None:
        """A guest cell on ``cell``, None if there is no room."""
        if vcpu > min(cell.free_vcpu, len(cell.shared)) or mib > cell.free_mib:
            return None
        size = page or SMALL
        if mib * 1024 > cell.free_pages.get(size, 0) * size:
            return None
        pins = cell.pins(pinned, policy) if pinned else []
        return None if pins is None else Guest(n, vcpu, pins, mib, [])

    @staticmethod
    def _hide(cell: Cell, guest: Guest) -> bool:
        """Take one more CPU for the emulator's threads."""
        free = [cpu for cpu in cell.dedicated if cpu not in cell.taken and cpu not in guest.pins]
        guest.hidden = free[:1]
        return bool(free)

    @staticmethod
    def _occupy(cell: Cell, guest: Guest, page: int | None, sign: int) -> None:
        size = page or SMALL
        cell.free_vcpu -= sign * guest.vcpu
        cell.free_mib -= sign * guest.mib
        cell.free_pages[size] -= sign * guest.mib * 1024 // size
        change = cell.taken.update if sign > 0 else cell.taken.difference_update
        change(guest.pins + guest.hidden)

    # What is asked for

    def _take(
        self, count: int, fits: Callable[[Server, list[Server]], bool] = lambda one, taken: True
    ) -> list[Server]:
        """Up to ``count`` instances that nothing was asked for yet.

        ``fits`` is told those taken before.
        """
        taken: list[Server] = []
        for _ in range(len(self.servers)):
            if len(taken) == count:
                break
            server = self.servers[self._next]
            self._next = (self._next + 1) % len(self.servers)
            if not server.marked and fits(server, taken):
                server.marked = True
                taken.append(server)
        return taken

    def _share(
        self, share: float, fits: Callable[[Server], bool] = lambda one: True
    ) -> list[Server]:
        """Such a share of all instances."""
        return self._take(max(1, round(share * self.count)), lambda one, taken: fits(one))

    def _name(self) -> None:
        """Projects, images and zones: of every instance."""
        for server in self.servers:
            club = server.host.club
            if club == "tenant":
                server.facts["project"] = self.tenants[0]
            elif club == "tenants":
                server.facts["project"] = self.rng.choice(self.tenants[1:])
            else:
                server.facts["project"] = self.rng.choice(self.projects)
            image, properties = self.rng.choice(self.images)
            if club == "windows":
                image, properties = self.windows
            server.properties = dict(properties)
            server.facts["image"] = {"id": None if server.facts["volumes"] else image}
            trait = {"database": "CUSTOM_LICENSED_DB", "pinned": "CUSTOM_PINNED"}.get(club)
            if trait is not None:
                server.specs[f"trait:{trait}"] = "required"
            server.facts["pinned_az"] = server.host.doc["az"] if self._often(0.2) else None
            if server.specs.get("hw:cpu_policy") == "dedicated" and self._often(0.2):
                # Asked for by the image: it is the same to Nova.
                for key in ("policy", "thread_policy"):
                    if f"hw:cpu_{key}" in server.specs:
                        server.properties[f"hw_cpu_{key}"] = server.specs.pop(f"hw:cpu_{key}")

    def _devices(self) -> None:
        """VGPUs, licences and persistent memory, as long as there are some."""
        for host in self.hosts:
            if not host.nested:
                continue
            for server in host.servers[::2]:
                provider = max(host.nested, key=lambda one: host.nested[one])
                amount = 1 if self._often(0.8) else 2
                if server.guests or host.nested[provider] < amount:
                    continue
                host.nested[provider] -= amount
                server.facts["nested"] = {provider: {"VGPU": amount}}
                server.specs |= (
                    {"resources:VGPU": str(amount)}
                    if self._often(0.6)
                    else {"resources1:VGPU": str(amount), "trait1:CUSTOM_NVIDIA_A16": "required"}
                )
                server.marked = True
        for resource, share in (("CUSTOM_LICENSE", 0.03), ("CUSTOM_PMEM_NAMESPACE_4GB", 0.002)):
            pmem = resource != "CUSTOM_LICENSE"
            for server in self._share(
                share,
                lambda one, resource=resource, pmem=pmem: (
                    bool(one.guests) == pmem and resource in one.host.free
                ),
            ):
                units = server.host.doc["inventories"][resource]
                amount = units.get("step_size", 1) * self.rng.choice((1, 1, 2))
                if not server.host.accepts({resource: amount}):
                    continue
                server.host.charge({resource: amount})
                server.allocations[resource] = amount
                spec = ("hw:pmem", "4GB") if pmem else (f"resources:{resource}", str(amount))
                server.specs[spec[0]] = spec[1]

    def _group(self) -> None:
        """Server groups of all policies, of which the hard ones are kept."""

        def apart(most: int) -> Callable[[Server, list[Server]], bool]:
            def fits(one: Server, taken: list[Server]) -> bool:
                on = sum(other.host is one.host for other in taken)
                return on < most and (not taken or one.host.zone == taken[0].host.zone)

            return fits

        def together(one: Server, taken: list[Server]) -> bool:
            return not taken or one.host is taken[0].host

        kinds: tuple[tuple[int, str, int, int, Callable[[Server, list[Server]], bool]], ...] = (
            (80, "anti-affinity", 3, 1, apart(1)),
            (400, "anti-affinity", 5, 2, apart(2)),
            (400, "affinity", 2, 1, together),
            (300, "soft-anti-affinity", 4, 1, apart(2)),
            (300, "soft-affinity", 3, 1, apart(3)),
        )
        for every, policy, size, most, fits in kinds:
            for _ in range(max(1, self.count // every)):
                members = self._take(
                    size,
                    lambda one, taken, fits=fits: (
                        not one.host.club.startswith("tenant") and fits(one, taken)
                    ),
                )
                group = self._uuid()
                project = self.rng.choice(self.projects)
                for member in members:
                    member.facts["project"] = project
                    member.facts["scheduler_hints"] = {"group": group}
                self.groups.append(
                    {
                        "id": group,
                        "name": f"{policy}-{len(self.groups)}",
                        "project": project,
                        "policy": policy,
                        "max_server_per_host": most,
                        "members": [member.id for member in members],
                    }
                )
        self.outside.append(
            {"id": self._uuid(), "status": "SHELVED_OFFLOADED", "reason": "no_host"}
        )
        self.groups[0]["members"].append(self.outside[0]["id"])

    def _migrate(self) -> None:
        """Migrations that run, of instances with NUMA cells too; both ends are charged."""
        kinds: list[tuple[bool, str, str, str, str]] = [
            (False, "live-migration", "running", "MIGRATING", "migrating"),
            (True, "live-migration", "preparing", "MIGRATING", "migrating"),
            (False, "resize", "migrating", "RESIZE", "resize_migrating"),
            (False, "resize", "finished", "VERIFY_RESIZE", ""),
            (False, "migration", "queued", "ACTIVE", "migrating"),
        ]
        for k in range(max(len(kinds), len(self.hosts) // 50)):
            numa, kind, status, shown, task = kinds[k % len(kinds)]
            for server in self._take(
                1, lambda one, taken, numa=numa: one.host.pinned == numa == bool(one.guests)
            ):
                far = self._elsewhere(server)
                if far is None:
                    continue
                server.facts |= {"status": shown, "task_state": task or None}
                ends = [server.host.doc["id"], far.doc["id"]]
                entry = {"id": self._uuid(), "type": kind, "instance": server.id, "status": status}
                entry |= {"source": ends[0], "dest": ends[1], "far_allocations": None}
                if kind == "migration":
                    # Nova has not chosen yet.
                    entry["dest"] = None
                elif status == "finished":
                    # It was smaller, and the old host keeps its place until that is confirmed.
                    old = server.allocations | {"MEMORY_MB": server.allocations["MEMORY_MB"] // 2}
                    old = {name: one for name, one in old.items() if name not in far.shares}
                    far.charge(old)
                    entry |= {"source": ends[1], "dest": ends[0], "far_allocations": old}
                else:
                    far.charge(server.allocations, other=server.host)
                self.migrations.append(entry)

    def _elsewhere(self, server: Server) -> Host | None:
        """A host of the same kind and zone with room for it."""
        for host in self.rng.sample(self.hosts, len(self.hosts)):
            if (
                host is not server.host
                and (host.pinned, host.zone, host.club)
                == (server.host.pinned, server.host.zone, server.host.club)
                and host.accepts(server.allocations)
            ):
                return host
        return None

    def _keep(self) -> None:
        """What keeps instances where they are, and what looks so."""
        for share, facts in STAYING + ALLOWED:
            for server in self._share(share):
                for name, value in facts.items():
                    server.facts[name] = value
        for share, specs, properties in STAYING_SPECS:
            for server in self._share(share):
                server.specs |= specs
                server.properties |= properties
        encrypted = "MEM_ENCRYPTION_CONTEXT"
        for server in self._share(0.001, lambda one: one.host.free.get(encrypted, 0) > 0):
            server.host.charge({encrypted: 1})
            server.allocations[encrypted] = 1
        for hint in ("same_host", "different_host"):
            for server in self._share(0.002):
                server.facts["scheduler_hints"] = {hint: [self.servers[0].id]}
        for server in self._share(0.001):
            server.host.charge(server.allocations, -1)
            server.allocations = {}
        for server in self._share(0.002, lambda one: any(guest.pins for guest in one.guests)):
            server.pins_known, server.cells_known = False, self._often(0.5)
        for server in self._share(0.001, self._fits_old_style):
            server.old_style = True
            pins = server.allocations.pop("PCPU")
            server.host.charge({"PCPU": pins}, -1)
            server.host.charge({"VCPU": pins})
            server.allocations["VCPU"] = pins
            for guest in server.guests:
                server.host.cells[guest.cell].free_vcpu -= len(guest.pins)

    @staticmethod
    def _fits_old_style(server: Server) -> bool:
        cells = server.host.cells
        return (
            server.size.name.startswith("p.")
            and server.host.room("VCPU") >= server.size.cores
            and all(cells[guest.cell].free_vcpu >= len(guest.pins) for guest in server.guests)
        )

    def _ask(self) -> None:
        """What is asked of a destination; each of it is true of the host an instance is on."""
        for trait, specs, properties in REQUIRED:
            for server in self._share(
                0.003, lambda one, trait=trait: trait in one.host.doc["traits"]
            ):
                server.specs |= specs
                server.properties |= properties
        old = "CUSTOM_OLD_FIRMWARE"
        for server in self._share(0.015, lambda one: old not in one.host.doc["traits"]):
            place = self.rng.choice((server.specs, server.properties))
            place[f"trait:{old}"] = "forbidden"
        for metadata, wishes in HARDWARE:
            for specs in wishes:
                for server in self._share(
                    0.006, lambda one, metadata=metadata: one.host.metadata == metadata
                ):
                    server.specs |= specs
        for true, specs, properties in CAPABILITIES:
            for server in self._share(0.002, lambda one, true=true: true(_hypervisor(one.host))):
                server.specs |= specs
                server.properties |= properties
        for key in ("nova-rebalancer:pin-hosts", "nova-rebalancer:ban-hosts"):
            for server in self._share(0.006):
                others = [other for other in self.hosts if other.zone == server.host.zone]
                named = [other.doc["service_host"] for other in self.rng.sample(others, 4)]
                server.facts["metadata"] = {key: ", ".join([*named, ""])}
        for server in self._share(0.004):
            others = self.rng.sample(self.hosts, len(self.hosts) // 3)
            server.facts["allowed_hosts"] = [server.host.doc["id"]] + [
                other.doc["id"] for other in others if other is not server.host
            ]

    def _hold(self) -> None:
        """What Placement charges for something that is not here."""
        for why in ("elsewhere", "migration", "unknown"):
            for host in self.rng.sample(self.hosts, max(1, len(self.hosts) // 50)):
                amounts = {"VCPU": 2, "MEMORY_MB": 4096}
                if host.accepts(amounts):
                    host.charge(amounts)
                    host.doc["held"].append(
                        {"consumer": self._uuid(), "why": why, "resources": amounts}
                    )

    def _close(self) -> None:
        """Hosts that are out of use, in part or by somebody's word."""
        few = max(1, len(self.hosts) // 50)
        drawn = iter(self.rng.sample(self.hosts, len(self.hosts)))
        for _ in range(few):
            doc = next(drawn).doc
            doc |= {"status": "disabled", "disabled_reason": "memory is being replaced"}
            doc["traits"].append("COMPUTE_STATUS_DISABLED")
        next(drawn).doc["state"] = "down"
        next(drawn).doc.update(state="down", forced_down=True)
        # Enabled again a moment ago: the compute service has not told Placement yet.
        next(drawn).doc["traits"].append("COMPUTE_STATUS_DISABLED")
        lacking = next(drawn)
        self.missing = [
            {
                "what": f"NUMA topology of {lacking.servers[0].id}",
                "reason": "Nova does not show it to this account",
                "hosts": [lacking.doc["id"]],
            },
            {"what": "a cell", "reason": "Nova does not reach one of its cells", "hosts": []},
        ]
        self.outside += [
            {"id": self._uuid(), "status": "ERROR", "reason": "no_host"},
            {"id": self._uuid(), "host": "ironic-7", "reason": "host_refused"},
        ]

    # The document

    def document(self) -> Json:
        """Write all of it down."""
        for host in self.hosts:
            host.doc["numa"] = self._numa(host)
        self._tell_cells()
        instances = sorted((self._instance(one) for one in self.servers), key=lambda one: one["id"])
        for number, instance in enumerate(instances):
            instance["name"] = f"server-{number:05}"
        flavors = self._name_flavors(instances)
        here = set(self.clubs["memory"]["hosts"])
        listed = {one["flavor"] for one in instances if one["host"] in here}
        self.clubs["memory"]["metadata"] = {"instance_type": ", ".join(sorted(listed))}
        return {
            "format": "nova-rebalancer-snapshot/1",
            "cloud": f"mixed-{self.seed}",
            "region": None,
            "taken_at": TAKEN_AT,
            "numa_choice": "nova",
            "several_cells": self.seed % 2 == 0,
            "hosts": [host.doc for host in self.hosts],
            "pools": [
                {"id": pool["id"], "inventories": {"DISK_GB": inventory(pool["total"])}}
                for pool in self.pools
            ],
            "flavors": flavors,
            "instances": instances,
            "server_groups": self.groups,
            "aggregates": self.aggregates,
            "running_migrations": self.migrations,
            "outside": self.outside,
            "refused": [{"host": "ironic-7", "reason": "bare metal nodes do not migrate"}],
            "missing": self.missing,
        }

    def _tell_cells(self) -> None:
        """Nova cells: known, partly known or not known, by the seed."""
        unknown = {"provenance": "unknown", "value": None}
        for host in self.hosts:
            name = "cell1" if self._in_first_cell(host) else "cell2"
            cell = {"provenance": "operator", "value": name}
            if self.seed % 2 or (self.seed % 4 == 2 and self._often(0.04)):
                cell = unknown
            host.doc["cell"] = cell

    def _in_first_cell(self, host: Host) -> bool:
        return 5 * host.number < 3 * len(self.hosts)

    def _numa(self, host: Host) -> Json | None:
        """What is known of a host's NUMA cells: most, on hosts with dedicated CPUs."""
        draw = self.rng.random()
        if draw < (0.1 if host.pinned else 0.5):
            cells = {guest.cell for one in host.servers if one.cells_known for guest in one.guests}
            if not cells and self._often(0.5):
                return None
            return {
                "provenance": "inferred" if cells else "unknown",
                "cells": [{"id": n, "capacity": {}} for n in sorted(cells)],
            }
        detailed = self._often(0.95)
        devices = [self.rng.choice((0, 0, 0, 4)) for _ in host.cells]
        return {
            "provenance": "operator" if draw < 0.97 else "api",
            "cells": [
                {
                    "id": n,
                    "capacity": self._capacity(host, cell),
                    "detail": self._detail(host, cell, devices[n]) if detailed else None,
                }
                for n, cell in enumerate(host.cells)
            ],
        }

    @staticmethod
    def _capacity(host: Host, cell: Cell) -> dict[str, int]:
        """As ``collect/facts.py`` counts it."""
        capacity = {"VCPU": math.floor(len(cell.shared) * host.vcpu_ratio)}
        if host.pinned:
            capacity["PCPU"] = len(cell.dedicated)
        capacity["MEMORY_MB"] = cell.mib
        for size in (MEDIUM, LARGE):
            capacity[f"HUGEPAGES_{size}KB"] = cell.pages.get(size, 0)
        return capacity

    @staticmethod
    def _detail(host: Host, cell: Cell, devices: int) -> Json:
        cpus = sorted(cell.shared + cell.dedicated)
        if host.threads == 1:
            cores = [[cpu] for cpu in cpus] if host.number % 2 else []
        else:
            half = len(cpus) // 2
            cores = [list(pair) for pair in zip(cpus[:half], cpus[half:], strict=True)]
        return {
            "shared_cpus": cell.shared,
            "dedicated_cpus": cell.dedicated,
            "siblings": cores,
            "memory_mib": cell.mib,
            "pages": {str(size): number for size, number in sorted(cell.pages.items())},
            "pci_devices": devices,
        }

    def _instance(self, server: Server) -> Json:
        facts = dict(server.facts)
        facts["image"] = facts["image"] | {"properties": server.properties}
        return {
            "id": server.id,
            "name": None,
            "flavor": server.size.name,
            "host": server.host.doc["id"],
            "status": "ACTIVE",
            "task_state": None,
            "vm_state": "active",
            "power_state": 1,
            "locked": False,
            "allocations": server.allocations,
            "numa": [self._guest_cell(server, guest) for guest in server.guests] or None,
            "numa_pagesize_kib": server.page,
            "extra_specs": server.specs,
            "vnic_types": [],
            **facts,
        }

    @staticmethod
    def _guest_cell(server: Server, guest: Guest) -> Json:
        page, pins = server.page, len(guest.pins)
        resources = {"VCPU": guest.vcpu, "PCPU": pins, "MEMORY_MB": guest.mib}
        if server.old_style:
            resources |= {"VCPU": pins, "PCPU": 0}
        if page is not None and page > SMALL:
            resources[f"HUGEPAGES_{page}KB"] = guest.mib * 1024 // page
        return {
            "cell": guest.cell if server.cells_known else None,
            "resources": {name: amount for name, amount in resources.items() if amount},
            "pinned": guest.pins if server.pins_known else None,
        }

    @staticmethod
    def _name_flavors(instances: Iterable[Json]) -> list[Json]:
        """List the flavors; each set of extra specs makes another one of a size."""
        known: dict[tuple[str, str], str] = {}
        times: collections.Counter[str] = collections.Counter()
        flavors = []
        for instance in instances:
            size, specs = instance["flavor"], instance["extra_specs"]
            key = size, json.dumps(specs, sort_keys=True)
            if key not in known:
                times[size] += 1
                known[key] = f"{size}.{times[size]}"
                flavors.append({"id": known[key], "name": known[key], "extra_specs": specs})
            instance["flavor"] = known[key]
        return sorted(flavors, key=lambda one: one["id"])


def _hypervisor(host: Host) -> Json:
    """What can be asked of a host's hypervisor."""
    info = host.doc["cpu_info"]
    return {
        "vendor": info.get("vendor"),
        "new": host.doc["hypervisor_version"] == VERSIONS[1],
        "bits": info.get("maxphysaddr", {}).get("bits", 0),
    }


def main() -> None:
    """Write one document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seed", type=int)
    parser.add_argument("output", type=pathlib.Path, metavar="OUT.json")
    parser.add_argument("--hosts", type=int, default=100, help="default 100")
    parser.add_argument("--instances", type=int, default=2000, help="default 2000")
    options = parser.parse_args()
    made = cloud(options.seed, options.hosts, options.instances)
    options.output.write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Plays the APIs of a made-up cloud, to measure clients at scale.

    python benchmarks/scripted_api.py --hosts 1000 --servers 30000

Prints the URL for ``clouds.yaml`` when it is ready, and the CPU time it took when SIGTERM ends it.
``GET /_stats`` tells the same while it runs; ``GET /_change?server=ID`` changes a server.  Any user
may log in with the password ``scripted``.

It is a Keystone, a Nova with one cell, a Placement and as much of a Neutron as lists ports.  The
fields, the pages and the errors are those of Nova 34, Placement 16 and Neutron 29; the sizes are
those of servers with ports, volumes, tags, metadata and images with properties.  The same seed
gives the same cloud; only the times count from the start.  What the real services would answer and
this does not know is refused with 501.
"""

import argparse
import asyncio
import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import datetime
import email.utils
import gc
import hashlib
import itertools
import json
import operator
import pathlib
import random
import signal
import time
from typing import Any
from typing import TextIO
import urllib.parse
import uuid

NOVA, PLACEMENT = (2, 100), (1, 39)
MAX_LIMIT = 1000
"""Nova's ``[api] max_limit``, the most a page has."""
PASSWORD = "scripted"
REQUEST_ID = "req-00000000-0000-4000-8000-000000000000"
HOUR, YEAR = 3600, 365 * 86_400
GENERAL, PINNED, GPU = "general", "pinned", "gpu"
VCPUS, MEMORY_MB, DISK_GB = 64, 786_432, 8000
SHARED_CPUS, CELL_PINS = 16, 20
"""On a host for pinned CPUs: those that are shared, and the others in each of its two cells."""

Resources = dict[str, int]
Version = tuple[int, int]


# The cloud


@dataclasses.dataclass(slots=True, eq=False)
class Provider:
    """A resource provider; ``used`` are its allocations by consumer."""

    id: str
    name: str
    generation: int
    inventories: dict[str, dict[str, float]]
    traits: list[str]
    aggregates: list[str]
    parent: "Provider | None" = None
    used: dict[str, Resources] = dataclasses.field(default_factory=dict)
    free: Resources = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.free = {
            name: int((i["total"] - i["reserved"]) * i["allocation_ratio"])
            for name, i in self.inventories.items()
        }

    def fits(self, asked: Resources) -> bool:
        """Whether Placement would allocate this here."""
        return all(self.free.get(name, 0) >= amount for name, amount in asked.items())

    def allocate(self, consumer: str, asked: Resources) -> None:
        """Charge a consumer."""
        self.used[consumer] = asked
        for name, amount in asked.items():
            self.free[name] -= amount

    def release(self, consumer: str) -> None:
        """Take a consumer's allocation back."""
        for name, amount in self.used.pop(consumer).items():
            self.free[name] += amount


@dataclasses.dataclass(slots=True, eq=False)
class Host:
    """A compute node and its service."""

    number: int
    name: str
    kind: str
    zone: int
    fast: bool
    provider: Provider
    service_id: str
    children: list[Provider]
    pins: tuple[list[int], list[int]]
    disabled_reason: str | None = None
    up: bool = True
    servers: list["Server"] = dataclasses.field(default_factory=list)

    @property
    def address(self) -> str:
        """Its IP address."""
        return f"10.20.{self.number // 250}.{self.number % 250 + 1}"

    @property
    def status(self) -> str:
        """What Nova calls host_status."""
        if not self.up:
            return "UNKNOWN"
        return "UP" if self.disabled_reason is None else "MAINTENANCE"


@dataclasses.dataclass(slots=True, eq=False)
class Flavor:
    """A flavor; ``listed`` is whether it still exists, ``cells`` the NUMA cells it asks for."""

    number: int
    id: str
    name: str
    vcpus: int
    ram: int
    disk: int
    ephemeral: int
    specs: dict[str, str]
    weight: float = 0.0
    public: bool = True
    listed: bool = True
    cells: int = 0
    page_kb: int | None = None

    def resources(self, boots_from_volume: bool) -> Resources:
        """What Nova asks Placement for."""
        cpus = "PCPU" if self.specs.get("hw:cpu_policy") == "dedicated" else "VCPU"
        disk = self.ephemeral + (0 if boots_from_volume else self.disk)
        return {cpus: self.vcpus, "MEMORY_MB": self.ram} | ({"DISK_GB": disk} if disk else {})


@dataclasses.dataclass(slots=True, eq=False)
class Image:
    """An image and those of its properties that Nova keeps with a server."""

    id: str
    properties: dict[str, str]


@dataclasses.dataclass(slots=True, eq=False)
class Group:
    """A server group."""

    id: str
    name: str
    policy: str
    rules: dict[str, int]
    project: str
    user: str
    members: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, eq=False)
class Server:
    """A server; what only fills its answer is drawn anew from ``seed`` each time it is shown."""

    number: int
    seed: int
    id: str
    name: str
    project: str
    user: str
    flavor: Flavor
    image: Image | None
    created: int
    updated: int
    tags: list[str]
    metadata: dict[str, str]
    host: Host | None = None
    zone: int | None = None
    group: Group | None = None
    pinned_zone: int | None = None
    status: str = "ACTIVE"
    vm_state: str = "active"
    task_state: str | None = None
    power_state: int = 1
    locked: bool = False
    locked_reason: str | None = None
    nodes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    held: list[Provider] = dataclasses.field(default_factory=list)
    vnic_type: str = "normal"
    deleted: bool = False

    @property
    def ports(self) -> int:
        """How many ports it has, each on a network of its own."""
        if self.host is None and self.vm_state != "shelved_offloaded":
            return 0
        return 2 if self.seed % 5 < 2 else 1


@dataclasses.dataclass(slots=True, eq=False)
class Migration:
    """A record of a migration."""

    number: int
    id: str
    server: Server
    source: Host
    dest: Host
    old_flavor: Flavor
    kind: str
    status: str
    created: int
    updated: int
    held: list[Provider] = dataclasses.field(default_factory=list)


TRAITS = (
    "COMPUTE_DEVICE_TAGGING COMPUTE_NET_ATTACH_INTERFACE COMPUTE_NODE COMPUTE_TRUSTED_CERTS "
    "COMPUTE_VOLUME_ATTACH_WITH_TAG COMPUTE_VOLUME_EXTEND COMPUTE_VOLUME_MULTI_ATTACH "
    "COMPUTE_NET_VIRTIO_PACKED COMPUTE_RESCUE_BFV COMPUTE_ACCELERATORS "
    "COMPUTE_SOCKET_PCI_NUMA_AFFINITY COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG "
    "COMPUTE_SECURITY_UEFI_SECURE_BOOT OWNER_NOVA HW_CPU_HYPERTHREADING HW_CPU_X86_INTEL_VMX "
    "COMPUTE_ADDRESS_SPACE_PASSTHROUGH"
).split()
TRAITS += [
    f"{kind}_{name}"
    for kind, names in (
        (
            "HW_CPU_X86",
            "SSE SSE2 SSE41 SSE42 SSSE3 MMX AVX AVX2 FMA3 F16C ABM BMI BMI2 AESNI CLMUL SHA "
            "AVX512F AVX512BW AVX512CD AVX512DQ AVX512VL AVX512VNNI STIBP PDPE1GB",
        ),
        ("COMPUTE_STORAGE_BUS", "FDC IDE SATA SCSI USB VIRTIO"),
        ("COMPUTE_GRAPHICS_MODEL", "BOCHS CIRRUS NONE QXL VGA VIRTIO"),
        ("COMPUTE_NET_VIF_MODEL", "E1000 E1000E NE2K_PCI PCNET RTL8139 VIRTIO"),
        ("COMPUTE_IMAGE_TYPE", "AKI AMI ARI ISO QCOW2 RAW"),
    )
    for name in names.split()
]
CPU_FEATURES = (
    "3dnowprefetch abm acpi adx aes apic arat arch-capabilities avx avx2 avx512bw avx512cd "
    "avx512dq avx512f avx512vl avx512vnni bmi1 bmi2 clflush clflushopt clwb cmov cmp_legacy cx16 "
    "cx8 de ds dtes64 erms est f16c flush-l1d fma fpu fsgsbase fxsr ht ibpb ibrs invpcid invtsc "
    "lahf_lm lm mca mce md-clear mds-no mmx monitor movbe mpx msr mtrr nx ospke osxsave pae pat "
    "pbe pcid pclmuldq pdcm pdpe1gb pge pku pni popcnt pse pse36 rdctl-no rdrand rdseed rdtscp "
    "rsba sep skip-l1dfl-vmentry smap smep spec-ctrl ss ssbd sse sse2 sse4.1 sse4.2 ssse3 stibp "
    "syscall tm tm2 tsc tsc_adjust tsx-ctrl vme vmx x2apic xgetbv1 xsave xsavec xsaveopt xsaves "
    "xtpr"
).split()
IMAGE_PROPERTIES = {
    "hw_architecture": "x86_64", "hw_cdrom_bus": "sata", "hw_disk_bus": "scsi",
    "hw_input_bus": "usb", "hw_machine_type": "pc-q35-8.2", "hw_pointer_model": "usbtablet",
    "hw_qemu_guest_agent": "true", "hw_rng_model": "virtio", "hw_scsi_model": "virtio-scsi",
    "hw_video_model": "virtio", "hw_vif_model": "virtio", "hw_vif_multiqueue_enabled": "true",
    "os_require_quiesce": "true", "os_type": "linux", "img_config_drive": "optional",
}  # fmt: skip
TEAMS = "payments search identity billing catalogue shipping analytics platform".split()
ROLES = "kafka-broker postgres-replica web-frontend batch-worker cache api-gateway".split()
SECURITY_GROUPS = "default ssh-from-bastion web-public internal-services monitoring-agents".split()


class Cloud:
    """Hosts, servers and what belongs to them, drawn from a seed."""

    def __init__(self, hosts: int, servers: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.now = int(time.time())
        self.admin = self._hex()
        self.user = self._hex()
        self.projects = [self._hex() for _ in range(40)]
        self.aggregates = [
            ("az-north", {"availability_zone": "az-north"}),
            ("az-middle", {"availability_zone": "az-middle"}),
            ("az-south", {"availability_zone": "az-south"}),
            ("fast-disks", {"fast": "true"}),
            ("pinned-cpus", {"pinned": "true", "filter_tenant_id": self.projects[0]}),
        ]
        self.zones = [name for name, _ in self.aggregates[:3]]
        self.aggregate_ids = [self._uuid() for _ in self.aggregates]
        self.images = [self._image(number) for number in range(12)]
        self.flavors = list(self._flavors())
        self.hosts = [self._host(number, hosts) for number in range(hosts)]
        if hosts > 4:
            self.hosts[1].disabled_reason = "memory is being replaced, ticket 4711"
            self.hosts[2].disabled_reason = "drained for a new kernel"
            self.hosts[3].up = False
            for host in self.hosts[1:3]:
                host.provider.traits.append("COMPUTE_STATUS_DISABLED")
        self.groups: list[Group] = []
        self.migrations: list[Migration] = []
        self.servers = [self._server(number) for number in range(servers)]
        self._fill()
        self._history()
        self.by_id = {server.id: server for server in self.servers}

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _hex(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    def _image(self, number: int) -> Image:
        distro = ("ubuntu", "debian", "rocky", "rhel")[number % 4]
        properties = IMAGE_PROPERTIES | {"os_distro": distro, "os_admin_user": distro}
        if number % 3 == 0:
            properties |= {"hw_firmware_type": "uefi", "os_secure_boot": "optional"}
        if number == 11:
            properties |= {"hw_numa_nodes": "2"}
        return Image(self._uuid(), properties)

    def _flavors(self) -> Iterator[Flavor]:
        number = 0

        def flavor(name: str, cpus: int, ram: int, specs: dict[str, str], **more: Any) -> Flavor:
            nonlocal number
            number += 1
            disk = more.pop("disk", 20)
            return Flavor(number, self._uuid(), name, cpus, ram, disk, 0, specs, **more)

        quota = {"quota:disk_total_iops_sec": "4000", "hw_rng:allowed": "True"}
        for family, ram in (("c", 2048), ("m", 4096), ("r", 8192)):
            for cpus, weight in ((1, 20), (2, 40), (4, 30), (8, 8), (16, 2), (32, 0.2)):
                name = f"{family}3.{cpus}cpu.{cpus * ram // 1024}gb"
                yield flavor(name, cpus, cpus * ram, quota, weight=weight)
        fast, trait = "aggregate_instance_extra_specs:fast", "trait:CUSTOM_FAST_DISK"
        yield flavor("io3.4cpu.fast-aggregate", 4, 16384, quota | {fast: "true"}, weight=3, disk=80)
        yield flavor(
            "io3.4cpu.fast-trait", 4, 16384, quota | {trait: "required"}, weight=3, disk=80
        )
        yield flavor("m2.2cpu.8gb", 2, 8192, quota, weight=1, listed=False)
        yield flavor("m3.6cpu.24gb.payments", 6, 24576, quota, weight=1, public=False)
        yield flavor("g3.8cpu.1vgpu", 8, 65536, quota | {"resources:VGPU": "1"})
        pinned = {"aggregate_instance_extra_specs:pinned": "true"}
        dedicated = pinned | {"hw:cpu_policy": "dedicated"}
        yield flavor("n3.2cells", 4, 16384, pinned | {"hw:numa_nodes": "2"}, cells=2)
        yield flavor("p3.4cpu", 4, 16384, dedicated, cells=1)
        yield flavor("p3.8cpu.2cells", 8, 32768, dedicated | {"hw:numa_nodes": "2"}, cells=2)
        huge = dedicated | {"hw:mem_page_size": "1GB"}
        yield flavor("p3.4cpu.huge", 4, 16384, huge, cells=1, page_kb=1_048_576)
        huge = pinned | {"hw:mem_page_size": "2MB"}
        yield flavor("n3.2cpu.huge", 2, 8192, huge, cells=1, page_kb=2048)

    def _host(self, number: int, hosts: int) -> Host:
        # Of a thousand hosts forty are for pinned CPUs and ten have GPUs.
        kind = {5: PINNED, 6: GPU if number % 100 == 6 else GENERAL}.get(number % 25, GENERAL)
        zone, fast = 3 * number // hosts, number % 4 == 0
        name = f"compute-{number:04d}.{self.zones[zone]}.cloud.example.org"
        sizes = {"VCPU": (VCPUS, 0, 4.0), "MEMORY_MB": (MEMORY_MB, 8192, 1.0)}
        if kind == PINNED:
            sizes |= {"VCPU": (SHARED_CPUS, 0, 4.0), "PCPU": (2 * CELL_PINS, 0, 1.0)}
        sizes["DISK_GB"] = (DISK_GB, 100, 1.0)
        member_of = [zone] + [3] * fast + [4] * (kind == PINNED)
        provider = Provider(
            str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name} {self.seed}")),
            name,
            self.rng.randrange(50, 5000),
            {of: inventory(*size) for of, size in sizes.items()},
            TRAITS + ["CUSTOM_FAST_DISK"] * fast,
            [self.aggregate_ids[a] for a in member_of],
        )
        children = [
            Provider(
                self._uuid(),
                f"{name}_pci_0000_{slot}_00_0",
                self.rng.randrange(3, 50),
                {"VGPU": inventory(16, 0, 1.0)},
                ["CUSTOM_NVIDIA_A16"],
                [],
                provider,
            )
            for slot in (("3b", "d8") if kind == GPU else ())
        ]
        first = SHARED_CPUS // 2
        second = first + CELL_PINS + first
        pins = list(range(first, first + CELL_PINS)), list(range(second, second + CELL_PINS))
        return Host(number, name, kind, zone, fast, provider, self._uuid(), children, pins)

    def _server(self, number: int) -> Server:
        rng = self.rng
        flavor = rng.choices(self.flavors, [flavor.weight for flavor in self.flavors])[0]
        team, role = rng.choice(TEAMS), rng.choice(ROLES)
        created = self.now - rng.randrange(2 * HOUR, 2 * YEAR)
        return Server(
            number,
            rng.getrandbits(32),
            self._uuid(),
            f"prod-{team}-{role}-{number:05d}.eu.example.org",
            rng.choice(self.projects),
            self._hex(),
            flavor,
            rng.choice(self.images[:11]) if rng.random() < 0.7 else None,
            created,
            rng.randrange(created, self.now - HOUR),
            [f"team-{team}", role][: rng.randrange(3)],
            {"owner": f"{team}@example.org", "cost-center": f"cc-{rng.randrange(10_000):05d}",
             "patch-window": rng.choice(("sat-02", "sun-03")), "terraform-module": role}
            if rng.random() < 0.8 else {},
        )  # fmt: skip

    def _fill(self) -> None:
        """Put every server somewhere; the peculiar ones first."""
        rest = iter(self.rng.sample(self.servers, len(self.servers)))

        def count(of_30000: int) -> int:
            return max(1, round(of_30000 * len(self.servers) / 30_000))

        def take(of_30000: int) -> list[Server]:
            return list(itertools.islice(rest, count(of_30000)))

        special = {flavor.name: flavor for flavor in self.flavors if flavor.weight == 0}
        gpu_flavor = special.pop("g3.8cpu.1vgpu")
        cells = list(special.values())
        for n, server in enumerate(take(180)):
            server.flavor, server.project = cells[n % len(cells)], self.projects[0]
            self._place_cells(server, [h for h in self.hosts if h.kind == PINNED])
        for server in take(20):
            server.image = self.images[11]
            self._place(server, [h for h in self.hosts if h.kind == GENERAL])
            self._set_cells(server, 2, None)
        for server in take(40):
            server.flavor = gpu_flavor
            self._place_gpu(server)
        policies = (
            "anti-affinity",
            "soft-anti-affinity",
            "affinity",
            "soft-affinity",
            "anti-affinity",
        )
        for n in range(count(300)):
            rules = {"max_server_per_host": 2} if n % 5 == 4 else {}
            self._group(n, policies[n % 5], rules, list(itertools.islice(rest, 3)))
        for n, server in enumerate(take(12)):
            self._migrating(server, n)
        for server in take(20):
            server.status, server.vm_state, server.power_state = (
                "SHELVED_OFFLOADED",
                "shelved_offloaded",
                4,
            )
        for server in take(5):
            server.status, server.vm_state, server.power_state = "ERROR", "error", 0
        for server in take(2):
            server.status, server.vm_state, server.power_state = "BUILD", "building", 0
            server.task_state = "scheduling"
        for server in take(5):
            server.status, server.vm_state = "ERROR", "error"
            self._place(server)
        for status, state, power, share in (
            ("SHUTOFF", "stopped", 4, 900),
            ("PAUSED", "paused", 3, 10),
            ("SUSPENDED", "suspended", 4, 10),
        ):
            for server in take(share):
                server.status, server.vm_state, server.power_state = status, state, power
                self._place(server)
        for n, server in enumerate(take(300)):
            server.locked, server.locked_reason = (
                True,
                "licence is bound to the host" if n % 2 else None,
            )
            self._place(server)
        for server in take(60):
            server.metadata = server.metadata | {"nova-rebalancer:allow-migration": "false"}
            self._place(server)
        for server in take(30):
            server.vnic_type = "direct"
            self._place(server)
        for server in take(60):
            server.tags = [*server.tags, "nova-rebalancer:stay"]
            self._place(server)
        for server in rest:
            if self.rng.random() < 0.2:
                server.pinned_zone = self.rng.randrange(3)
            self._place(server)

    def _eligible(self, server: Server) -> Callable[[Host], bool]:
        fast = "fast" in server.flavor.name
        zone = server.pinned_zone
        return lambda h: (
            h.kind != PINNED and (not fast or h.fast) and (zone is None or h.zone == zone)
        )

    def _place(
        self, server: Server, hosts: list[Host] | None = None, avoid: Iterable[Host] = ()
    ) -> Host:
        """Put a server on a host at random that has room."""
        hosts = hosts or self.hosts
        asked = server.flavor.resources(server.image is None)
        eligible = self._eligible(server)
        tries = [self.rng.choice(hosts) for _ in range(50)]
        for host in (*tries, *hosts):
            if eligible(host) and host.provider.fits(asked) and host not in avoid:
                self._put(server, host, {host.provider.id: (host.provider, asked)})
                return host
        raise SystemExit(
            f"server {server.number} fits on no host: give more than {len(self.hosts)}"
        )

    def _put(
        self, server: Server, host: Host, asked: dict[str, tuple[Provider, Resources]]
    ) -> None:
        server.host, server.zone = host, host.zone
        host.servers.append(server)
        for provider, resources in asked.values():
            provider.allocate(server.id, resources)
            server.held.append(provider)

    def _place_gpu(self, server: Server) -> None:
        asked = server.flavor.resources(server.image is None)
        for host in self.hosts:
            for child in host.children:
                if child.fits({"VGPU": 1}) and host.provider.fits(asked):
                    parts = {"": (host.provider, asked), child.id: (child, {"VGPU": 1})}
                    self._put(server, host, parts)
                    return
        server.flavor = self.flavors[0]
        self._place(server)

    def _place_cells(self, server: Server, hosts: list[Host]) -> None:
        """Put a server with a NUMA topology where its cells have room for it."""
        flavor = server.flavor
        pins = flavor.vcpus // flavor.cells if "hw:cpu_policy" in flavor.specs else 0
        asked = flavor.resources(server.image is None)
        for host in self.rng.sample(hosts, len(hosts)):
            cells = [c for c in range(2) if len(host.pins[c]) >= pins]
            if len(cells) >= flavor.cells and host.provider.fits(asked):
                self._put(server, host, {"": (host.provider, asked)})
                self.rng.shuffle(cells)
                self._set_cells(server, flavor.cells, cells if pins else None)
                return
        server.flavor = self.flavors[0]
        self._place(server)

    def _set_cells(self, server: Server, count: int, pinned: list[int] | None) -> None:
        """Write the topology; ``pinned`` are the host's cells to take CPUs from."""
        assert server.host is not None
        flavor = server.flavor
        where = sorted((pinned or self.rng.sample(range(2), 2))[:count])
        bounds = [flavor.vcpus * c // count for c in range(count + 1)]
        for c, host_cell in enumerate(where):
            cpus = list(range(bounds[c], bounds[c + 1]))
            free = server.host.pins[host_cell]
            server.nodes.append(
                {
                    "vcpu_set": cpus,
                    "siblings": [],
                    "memory_mb": flavor.ram // count,
                    "host_node": host_cell,
                    "cpu_pinning": {str(cpu): free.pop(0) for cpu in cpus if pinned},
                }
            )

    def _group(self, n: int, policy: str, rules: dict[str, int], members: list[Server]) -> None:
        project, user = members[0].project if members else self.projects[0], self._hex()
        group = Group(self._uuid(), f"{policy}-{n:04d}-of-the-team", policy, rules, project, user)
        self.groups.append(group)
        hosts: list[Host] = []
        for server in members:
            server.group, server.project = group, project
            group.members.append(server.id)
            if policy == "affinity":
                # One flavor, and one that runs anywhere, so that the first host is good for all.
                server.flavor = self.flavors[1]
                hosts = [self._place(server, hosts)]
            else:
                apart = policy == "anti-affinity" and not rules
                hosts.append(self._place(server, avoid=hosts if apart else ()))

    def _migrating(self, server: Server, n: int) -> None:
        """Put a server on two hosts: two of three migrate live, the third was resized."""
        live = n % 3 < 2
        old = server.flavor
        source = self._place(server)
        asked = source.provider.used[server.id]
        if not live:
            server.flavor = self.flavors[4] if old is not self.flavors[4] else self.flavors[3]
        source.provider.release(server.id)
        source.servers.remove(server)
        server.held.clear()
        dest = self._place(server, avoid=[source])
        status = ("running", "preparing", "queued", "running")[n % 4] if live else "finished"
        began = self.now - 60 * (n + 1)
        migration = Migration(
            n + 1, self._uuid(), server, source, dest, old,
            "live-migration" if live else "resize", status, began, began + 20,
        )  # fmt: skip
        # During a migration its record holds the source and the server holds the destination.
        source.provider.allocate(migration.id, asked)
        migration.held.append(source.provider)
        self.migrations.append(migration)
        server.updated = began
        if live:
            dest.servers.remove(server)
            source.servers.append(server)
            server.host, server.zone = source, source.zone
            server.status, server.task_state = "MIGRATING", "migrating"
        else:
            server.status, server.vm_state = "VERIFY_RESIZE", "resized"

    def _history(self) -> None:
        """Add the migrations of the last year; Nova keeps records until somebody purges them."""
        settled = [server for server in self.servers if server.host]
        for _ in range(len(self.servers) // 10):
            server, began = self.rng.choice(settled), self.now - self.rng.randrange(2 * HOUR, YEAR)
            source, dest = self.rng.choice(self.hosts), server.host
            assert dest is not None
            kind = self.rng.choice(("live-migration", "live-migration", "migration", "resize"))
            status = "completed" if kind == "live-migration" else "confirmed"
            if self.rng.random() < 0.1:
                status = self.rng.choice(("error", "cancelled", "failed"))
            ended = began + self.rng.randrange(20, 900)
            self.migrations.append(
                Migration(
                    0, self._uuid(), server, source, dest, server.flavor, kind, status, began, ended
                )
            )
        self.migrations.sort(key=lambda migration: migration.created)
        for number, migration in enumerate(self.migrations):
            migration.number = number + 1


def inventory(total: int, reserved: int, ratio: float) -> dict[str, float]:
    """An inventory as Placement shows it."""
    return {
        "total": total,
        "reserved": reserved,
        "min_unit": 1,
        "max_unit": total,
        "step_size": 1,
        "allocation_ratio": ratio,
    }


# What the services say about it


def second(stamp: int) -> str:
    """A time as Nova writes most of them."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))


def micro(stamp: int) -> str:
    """A time as Nova writes the others."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime(stamp))


def dumped(value: Any) -> bytes:
    """JSON with the spaces that OpenStack's services put in."""
    return json.dumps(value).encode()


class Views:
    """Documents about the cloud; ``root`` is the URL that the services share."""

    def __init__(self, cloud: Cloud, root: str) -> None:
        self.cloud = cloud
        self.nova, self.placement = f"{root}/compute", f"{root}/placement"
        self.neutron = f"{root}/networking"
        self.glance = f"{root}/image"
        self.keystone = f"{root}/identity/v3/"

    def links(self, *path: str) -> list[dict[str, str]]:
        """Nova's two links of everything."""
        tail = "/".join(path)
        return [
            {"rel": "self", "href": f"{self.nova}/v2.1/{tail}"},
            {"rel": "bookmark", "href": f"{self.nova}/{tail}"},
        ]

    def server(self, server: Server, version: Version, show: bool = False) -> dict[str, Any]:
        """A server in detail; ``show`` if it was asked for by its id."""
        rng = random.Random(server.seed)
        host, zone = server.host, server.zone
        built = server.ports > 0
        groups = [
            {"name": name} for name in sorted(rng.sample(SECURITY_GROUPS, 1 + rng.randrange(3)))
        ]
        volumes = (server.image is None) + (rng.random() < 0.4)
        view: dict[str, Any] = {
            "accessIPv4": "",
            "accessIPv6": "",
            "addresses": self._addresses(rng, server.ports),
            "created": second(server.created),
            "flavor": self._embedded(server.flavor),
            "hostId": hashlib.sha224((server.project + host.name).encode()).hexdigest()
            if host
            else "",
            "id": server.id,
            "image": self._image(server.image, version) if server.image else "",
            "links": self.links("servers", server.id),
            "metadata": server.metadata,
            "name": server.name,
            "status": "DELETED" if server.deleted else server.status,
            "tenant_id": server.project,
            "user_id": server.user,
            "updated": second(server.updated),
            "OS-DCF:diskConfig": "MANUAL",
        }
        if view["status"] in ("ERROR", "DELETED") and server.vm_state == "error":
            view["fault"] = {
                "code": 500,
                "created": second(server.updated),
                "message": "No valid host was found. There are not enough hosts available.",
                "details": "Traceback (most recent call last):\n"
                + "  File conductor/manager.py\n" * 30,
            }
        if view["status"] in ("ACTIVE", "BUILD", "VERIFY_RESIZE", "MIGRATING"):
            view["progress"] = 0
        view |= {
            "OS-EXT-AZ:availability_zone": self.cloud.zones[zone] if zone is not None else "",
            "config_drive": "True" if server.number % 3 == 0 else "",
            "key_name": f"operators-{server.project[:8]}" if server.number % 4 else None,
            "OS-SRV-USG:launched_at": micro(server.created + 20) if built else None,
            "OS-SRV-USG:terminated_at": micro(server.updated) if server.deleted else None,
        }
        if show and built:
            view["security_groups"] = groups
        view |= {
            "OS-EXT-SRV-ATTR:host": host.name if host else None,
            "OS-EXT-SRV-ATTR:instance_name": f"instance-{server.number + 1:08x}",
            "OS-EXT-SRV-ATTR:hypervisor_hostname": host.name if host else None,
            "OS-EXT-SRV-ATTR:hostname": server.name.partition(".")[0],
            "OS-EXT-SRV-ATTR:kernel_id": "",
            "OS-EXT-SRV-ATTR:launch_index": 0,
            "OS-EXT-SRV-ATTR:ramdisk_id": "",
            "OS-EXT-SRV-ATTR:reservation_id": f"r-{rng.getrandbits(40):08x}"[:10],
            "OS-EXT-SRV-ATTR:root_device_name": "/dev/sda",
            "OS-EXT-SRV-ATTR:user_data": "I2Nsb3VkLWNvbmZpZwpwYWNrYWdlX3VwZGF0ZTogdHJ1ZQo=" * 8
            if server.number % 7 == 0
            else None,
            "OS-EXT-STS:task_state": server.task_state,
            "OS-EXT-STS:vm_state": "deleted" if server.deleted else server.vm_state,
            "OS-EXT-STS:power_state": server.power_state,
            "os-extended-volumes:volumes_attached": [
                {
                    "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                    "delete_on_termination": n == 0,
                }
                for n in range(volumes)
            ],
            "locked": server.locked,
            "description": server.name.replace("-", " ") if server.number % 2 else None,
            "tags": server.tags,
            "trusted_image_certificates": None,
            "locked_reason": server.locked_reason,
            "pinned_availability_zone": None
            if server.pinned_zone is None
            else self.cloud.zones[server.pinned_zone],
            "scheduler_hints": {"group": [server.group.id]} if server.group else {},
            "host_status": host.status if host else "",
        }
        if show:
            view["server_groups"] = [server.group.id] if server.group else []
        elif built:
            view["security_groups"] = groups
        for field, since in SERVER_FIELDS.items():
            if version < since:
                view.pop(field, None)
        return view

    def _addresses(self, rng: random.Random, ports: int) -> dict[str, Any]:
        """The addresses of each port, a floating one among them now and then."""
        addresses = {}
        for network in ("tenant-internal-v4", "storage-backend")[:ports]:
            mac = "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in rng.randbytes(3))
            kinds = ("fixed", "floating")[: 1 + (rng.random() < 0.2)]
            addresses[network] = [
                {
                    "version": 4,
                    "addr": f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}",
                    "OS-EXT-IPS:type": kind,
                    "OS-EXT-IPS-MAC:mac_addr": mac,
                }
                for kind in kinds
            ]
        return addresses

    def _embedded(self, flavor: Flavor) -> dict[str, Any]:
        return {
            "vcpus": flavor.vcpus,
            "ram": flavor.ram,
            "disk": flavor.disk,
            "ephemeral": flavor.ephemeral,
            "swap": 0,
            "original_name": flavor.name,
            "extra_specs": flavor.specs,
        }

    def _image(self, image: Image, version: Version) -> dict[str, Any]:
        bookmark = {"rel": "bookmark", "href": f"{self.nova}/images/{image.id}"}
        view: dict[str, Any] = {"id": image.id, "links": [bookmark]}
        return view | ({"properties": image.properties} if version >= (2, 98) else {})

    def brief(self, server: Server) -> dict[str, Any]:
        """A server in a list without details."""
        return {"id": server.id, "name": server.name, "links": self.links("servers", server.id)}

    def topology(self, server: Server) -> dict[str, Any]:
        """Where the NUMA cells of a server are."""
        return {"nodes": server.nodes, "pagesize_kb": server.flavor.page_kb}

    def hypervisor(self, host: Host, detail: bool, version: Version) -> dict[str, Any]:
        """A host as a hypervisor."""
        view: dict[str, Any] = {
            "id": host.provider.id,
            "hypervisor_hostname": host.name,
            "state": "up" if host.up else "down",
            "status": "enabled" if host.disabled_reason is None else "disabled",
        }
        if not detail:
            return view
        view |= {
            "hypervisor_type": "QEMU",
            "hypervisor_version": 8002002,
            "host_ip": host.address,
            "service": {
                "id": host.service_id,
                "host": host.name,
                "disabled_reason": host.disabled_reason,
            },
        }
        if version >= (2, 88):
            uptime = " 10:21:07 up 211 days,  3:04,  1 user,  load average: 9.61, 9.87, 9.80"
            return view | {"uptime": uptime if host.up else None}
        cpus = int(sum(host.provider.inventories[c]["total"] for c in ("VCPU", "PCPU") if c in
                       host.provider.inventories))  # fmt: skip
        flavors = [server.flavor for server in host.servers]
        memory = 8192 + sum(flavor.ram for flavor in flavors)
        disk = sum(flavor.disk for flavor in flavors)
        topology = {"cells": 2, "sockets": 1, "cores": cpus // 4, "threads": 2}
        cpu = {"arch": "x86_64", "model": "Cascadelake-Server", "vendor": "Intel"}
        return view | {
            "vcpus": cpus,
            "memory_mb": MEMORY_MB,
            "local_gb": DISK_GB,
            "vcpus_used": sum(flavor.vcpus for flavor in flavors),
            "memory_mb_used": memory,
            "local_gb_used": disk,
            "free_ram_mb": MEMORY_MB - memory,
            "free_disk_gb": DISK_GB - disk,
            "current_workload": 0,
            "running_vms": len(flavors),
            "disk_available_least": DISK_GB - 2 * disk,
            "cpu_info": cpu | {"features": CPU_FEATURES, "topology": topology},
        }

    def services(self) -> list[dict[str, Any]]:
        """Every service, the control plane's first."""
        beat = micro(self.cloud.now)
        views = [
            {
                "binary": binary,
                "host": f"control-{n}",
                "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{binary} {n} {self.cloud.seed}")),
                "zone": "internal",
                "status": "enabled",
                "state": "up",
                "updated_at": beat,
                "disabled_reason": None,
                "forced_down": False,
            }
            for n in range(3)
            for binary in ("nova-conductor", "nova-scheduler")
        ]
        for host in self.cloud.hosts:
            views.append(
                {
                    "binary": "nova-compute",
                    "host": host.name,
                    "id": host.service_id,
                    "zone": self.cloud.zones[host.zone],
                    "status": "enabled" if host.disabled_reason is None else "disabled",
                    "state": "up" if host.up else "down",
                    "updated_at": beat if host.up else micro(self.cloud.now - HOUR),
                    "disabled_reason": host.disabled_reason,
                    "forced_down": False,
                }
            )
        return views

    def zones(self) -> list[dict[str, Any]]:
        """The availability zones with their enabled services."""
        zones: dict[str, dict[str, Any]] = {"internal": {}}
        for service in self.services():
            if service["status"] == "enabled":
                zones.setdefault(service["zone"], {}).setdefault(service["host"], {})[
                    service["binary"]
                ] = {
                    "available": service["state"] == "up",
                    "active": True,
                    "updated_at": service["updated_at"],
                }
        return [
            {"zoneName": name, "zoneState": {"available": True}, "hosts": hosts}
            for name, hosts in zones.items()
        ]

    def aggregates(self) -> list[dict[str, Any]]:
        """The aggregates with their hosts."""
        return [
            {
                "id": n + 1,
                "uuid": identity,
                "name": name,
                "hosts": [h.name for h in self.cloud.hosts if identity in h.provider.aggregates],
                "metadata": metadata,
                "created_at": micro(self.cloud.now - YEAR),
                "updated_at": None,
                "deleted_at": None,
                "deleted": False,
                "availability_zone": metadata.get("availability_zone"),
            }
            for n, (identity, (name, metadata)) in enumerate(
                zip(self.cloud.aggregate_ids, self.cloud.aggregates, strict=True)
            )
        ]

    def group(self, group: Group) -> dict[str, Any]:
        """A server group."""
        return {
            "id": group.id,
            "name": group.name,
            "policy": group.policy,
            "rules": group.rules,
            "members": group.members,
            "project_id": group.project,
            "user_id": group.user,
        }

    def flavor(self, flavor: Flavor, version: Version) -> dict[str, Any]:
        """A flavor in detail."""
        return {
            "id": flavor.id,
            "name": flavor.name,
            "ram": flavor.ram,
            "disk": flavor.disk,
            "swap": 0 if version >= (2, 75) else "",
            "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral,
            "OS-FLV-DISABLED:disabled": False,
            "vcpus": flavor.vcpus,
            "os-flavor-access:is_public": flavor.public,
            "rxtx_factor": 1.0,
            "links": self.links("flavors", flavor.id),
            "description": None,
            "extra_specs": flavor.specs,
        }

    def migration(self, migration: Migration) -> dict[str, Any]:
        """A record of a migration."""
        resized = migration.kind == "resize"
        new = migration.server.flavor if resized else migration.old_flavor
        view = {
            "id": migration.number,
            "uuid": migration.id,
            "source_compute": migration.source.name,
            "dest_compute": migration.dest.name,
            "source_node": migration.source.name,
            "dest_node": migration.dest.name,
            # Nova fills this in for cold migrations only.
            "dest_host": None if migration.kind == "live-migration" else migration.dest.address,
            "old_instance_type_id": migration.old_flavor.number,
            "new_instance_type_id": new.number,
            "instance_uuid": migration.server.id,
            "status": migration.status,
            "migration_type": migration.kind,
            "user_id": self.cloud.user,
            "project_id": self.cloud.admin,
            "created_at": micro(migration.created),
            "updated_at": micro(migration.updated),
        }
        if migration.status in ("queued", "preparing", "running", "post-migrating"):
            path = ("servers", migration.server.id, "migrations", str(migration.number))
            view["links"] = self.links(*path)
        return view

    def provider(self, provider: Provider) -> dict[str, Any]:
        """A resource provider."""
        path = f"/placement/resource_providers/{provider.id}"
        parts = ("inventories", "usages", "aggregates", "traits", "allocations")
        return {
            "uuid": provider.id,
            "name": provider.name,
            "generation": provider.generation,
            "links": [{"rel": "self", "href": path}]
            + [{"rel": part, "href": f"{path}/{part}"} for part in parts],
            "parent_provider_uuid": provider.parent.id if provider.parent else None,
            "root_provider_uuid": (provider.parent or provider).id,
        }

    def provider_parts(self, provider: Provider) -> dict[str, dict[str, Any]]:
        """The documents below a provider, by the last word of their path."""
        usages = collections.Counter(dict.fromkeys(provider.inventories, 0))
        for resources in provider.used.values():
            usages.update(resources)
        used = {
            consumer: {"resources": resources, "consumer_generation": 1}
            for consumer, resources in provider.used.items()
        }
        generation = {"resource_provider_generation": provider.generation}
        return {
            "inventories": generation | {"inventories": provider.inventories},
            "traits": {"traits": provider.traits} | generation,
            "aggregates": {"aggregates": provider.aggregates} | generation,
            "allocations": {"allocations": used} | generation,
            "usages": generation | {"usages": usages},
        }

    def allocations(self, consumer: str, held: list[Provider], server: Server) -> dict[str, Any]:
        """What a consumer holds."""
        if not held:
            return {"allocations": {}}
        return {
            "allocations": {
                p.id: {"resources": p.used[consumer], "generation": p.generation} for p in held
            },
            "project_id": server.project,
            "user_id": server.user,
            "consumer_generation": 1,
            "consumer_type": "unknown",
        }

    def port(self, server: Server, number: int) -> dict[str, Any]:
        """A port, without what nobody has asked for yet."""
        # That of a server that is shelved is on no host.
        host = server.host
        return {
            "id": str(uuid.UUID(int=server.seed << 96 | server.number << 8 | number, version=4)),
            "device_id": server.id,
            "device_owner": f"compute:{self.cloud.zones[host.zone]}" if host else "compute:",
            "project_id": server.project,
            "tenant_id": server.project,
            "status": "ACTIVE",
            "binding:host_id": host.name if host else "",
            "binding:vnic_type": server.vnic_type if number == 0 else "normal",
        }

    def token(self, issued: int) -> dict[str, Any]:
        """A token with its catalogue."""
        urls = {
            "identity": ("keystone", self.keystone),
            "compute": ("nova", f"{self.nova}/v2.1"),
            "placement": ("placement", self.placement),
            "network": ("neutron", self.neutron),
            "image": ("glance", self.glance),
        }
        default = {"id": "default", "name": "Default"}
        catalogue = [
            {
                "endpoints": [
                    {
                        "id": hashlib.md5(f"{interface} {url}".encode()).hexdigest(),
                        "interface": interface,
                        "region_id": "RegionOne",
                        "url": url,
                        "region": "RegionOne",
                    }
                    for interface in ("public", "internal")
                ],
                "id": hashlib.md5(url.encode()).hexdigest(),
                "type": kind,
                "name": name,
            }
            for kind, (name, url) in urls.items()
        ]
        return {
            "token": {
                "methods": ["password"],
                "user": {
                    "domain": default,
                    "id": self.cloud.user,
                    "name": "admin",
                    "password_expires_at": None,
                },
                "audit_ids": ["VyINnkh0SEGjtA-eR1NLKA"],
                "expires_at": micro(issued + 24 * HOUR) + "Z",
                "issued_at": micro(issued) + "Z",
                "project": {"domain": default, "id": self.cloud.admin, "name": "admin"},
                "is_domain": False,
                "roles": [
                    {"id": hashlib.md5(role.encode()).hexdigest(), "name": role}
                    for role in ("member", "manager", "reader", "admin")
                ],
                "catalog": catalogue,
            }
        }

    def keystone_version(self) -> dict[str, Any]:
        """Keystone's discovery document of v3."""
        return {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": self.keystone}],
            "media-types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.identity-v3+json",
                }
            ],
        }

    def nova_version(self) -> dict[str, Any]:
        """Nova's entry for v2.1 in its list of versions."""
        return {
            "id": "v2.1",
            "status": "CURRENT",
            "version": f"{NOVA[0]}.{NOVA[1]}",
            "min_version": "2.1",
            "updated": "2013-07-23T11:33:21Z",
            "links": [{"rel": "self", "href": f"{self.nova}/v2.1/"}],
        }

    def documents(self) -> dict[str, bytes]:
        """The discovery documents by path; they need no token."""
        version = self.nova_version()
        old = version | {
            "id": "v2.0",
            "status": "DEPRECATED",
            "version": "",
            "min_version": "",
            "updated": "2025-07-04T12:00:00Z",
            "links": [{"rel": "self", "href": f"{self.nova}/v2/"}],
        }
        current = version | {
            "links": [
                *version["links"],
                {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
            ],
            "media-types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.compute+json;version=2.1",
                }
            ],
        }
        placement = {
            "id": "v1.0",
            "max_version": f"{PLACEMENT[0]}.{PLACEMENT[1]}",
            "min_version": "1.0",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": ""}],
        }
        neutron = {
            "id": "v2.0",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": f"{self.neutron}/v2.0/"}],
        }
        glance = {
            "id": "v2.17",
            "status": "CURRENT",
            "links": [{"rel": "self", "href": f"{self.glance}/v2/"}],
        }
        documents = {
            "/image": {"versions": [glance]},
            "/networking": {"versions": [neutron]},
            "/identity": {"versions": {"values": [self.keystone_version()]}},
            "/identity/v3": {"version": self.keystone_version()},
            "/compute": {"versions": [old, version]},
            "/compute/v2.1": {"version": current},
            "/placement": {"versions": [placement]},
        }
        return {path: dumped(document) for path, document in documents.items()}


SERVER_FIELDS = {
    "trusted_image_certificates": (2, 63),
    "locked_reason": (2, 73),
    "pinned_availability_zone": (2, 96),
    "scheduler_hints": (2, 100),
    "server_groups": (2, 71),
}
"""Fields of a server that are younger than 2.47, the oldest version served here."""


# The services


class Refused(Exception):
    """A request is answered with an error; the arguments are the status and the body."""


def nova_fault(status: int, message: str) -> Refused:
    """An error as Nova words it."""
    name = {400: "badRequest", 404: "itemNotFound"}.get(status, "computeFault")
    return Refused(status, dumped({name: {"code": status, "message": message}}))


def placement_fault(status: int, title: str, detail: str, **more: str) -> Refused:
    """An error as Placement words it."""
    more = more or {"code": "placement.undefined_code"}
    error = {"status": status, "title": title, "detail": detail, "request_id": REQUEST_ID} | more
    return Refused(status, dumped({"errors": [error]}))


def neutron_fault(status: int, message: str) -> Refused:
    """An error as Neutron words it."""
    error = {"type": "HTTPBadRequest", "message": message, "detail": ""}
    return Refused(status, dumped({"NeutronError": error}))


def unscripted(what: str) -> Refused:
    """A refusal of what a real service would answer."""
    return Refused(501, dumped({"error": {"code": 501, "message": f"{what} is not scripted"}}))


UNAUTHORIZED = Refused(
    401,
    dumped(
        {
            "error": {
                "code": 401,
                "title": "Unauthorized",
                "message": "The request you have made requires authentication.",
            }
        }
    ),
)


class Query(dict[str, str]):
    """The parameters of a request, as far as they are known to ``allowed``."""

    def __init__(self, text: str, allowed: frozenset[str]) -> None:
        super().__init__(urllib.parse.parse_qsl(text, keep_blank_values=True))
        for name in self.keys() - allowed:
            raise nova_fault(
                400, f"Additional properties are not allowed ('{name}' was unexpected)"
            )

    def number(self, name: str, default: int) -> int:
        """A whole number that is not negative."""
        value = self.get(name, str(default))
        if not value.isdecimal():
            raise nova_fault(
                400,
                f"Invalid input for query parameters {name}. Value: {value}. "
                f"'{value}' does not match '^[0-9]*$'",
            )
        return int(value)

    def limit(self) -> int:
        """The length of the page."""
        return min(self.number("limit", MAX_LIMIT), MAX_LIMIT)

    def time(self, name: str) -> float | None:
        """A time in seconds of the epoch; UTC where it does not say."""
        if name not in self:
            return None
        try:
            stamp = datetime.datetime.fromisoformat(self[name])
        except ValueError:
            raise nova_fault(
                400,
                f"Invalid input for query parameters {name}. Value: {self[name]}. "
                f"'{self[name]}' is not a 'date-time'",
            ) from None
        if stamp.tzinfo is None:
            stamp = stamp.replace(tzinfo=datetime.UTC)
        return stamp.timestamp()

    def next(self, marker: str) -> str:
        """The query of the next page, with the parameters in the order that Nova gives them."""
        return urllib.parse.urlencode(dict(sorted(self.items())) | {"marker": marker})


SERVER_FILTERS: dict[str, Callable[[Server, Any], bool]] = {
    "host": lambda s, v: s.host is not None and s.host.name == v,
    "project_id": lambda s, v: s.project == v,
    "tenant_id": lambda s, v: s.project == v,
    "uuid": lambda s, v: s.id == v,
    "status": lambda s, v: s.status == v.upper(),
    "vm_state": lambda s, v: s.vm_state == v,
    "task_state": lambda s, v: s.task_state == v,
    "locked": lambda s, v: s.locked == (v.lower() in ("1", "true", "yes")),
    "tags": lambda s, v: v.issubset(s.tags),
    "tags-any": lambda s, v: not v.isdisjoint(s.tags),
    "not-tags": lambda s, v: not v.issubset(s.tags),
    "not-tags-any": lambda s, v: v.isdisjoint(s.tags),
}
MIGRATION_FILTERS: dict[str, Callable[[Migration, str], bool]] = {
    "status": lambda m, v: m.status == v,
    "migration_type": lambda m, v: m.kind == v,
    "instance_uuid": lambda m, v: m.server.id == v,
    "source_compute": lambda m, v: m.source.name == v,
    "host": lambda m, v: v in (m.source.name, m.dest.name),
}
PAGE = frozenset({"limit", "marker"})
CHANGES = frozenset({"changes-since", "changes-before"})
PORT_FILTERS = frozenset(
    {"id", "device_id", "device_owner", "project_id", "tenant_id", "status", "binding:host_id"}
)
"""Not the vnic type: Neutron cannot filter by it."""
SERVER_QUERY = (
    PAGE
    | CHANGES
    | SERVER_FILTERS.keys()
    | {
        "all_tenants",
        "soft_deleted",
        "sort_key",
        "sort_dir",
    }
)
MIGRATION_QUERY = PAGE | CHANGES | MIGRATION_FILTERS.keys()


class Api:
    """Answers requests; what it says is written down in advance wherever that can be."""

    def __init__(self, cloud: Cloud, root: str) -> None:
        self.cloud = cloud
        self.views = views = Views(cloud, root)
        self.token = "gAAAAA" + random.Random(cloud.seed).randbytes(90).hex()
        self.documents = views.documents()
        self.details = [dumped(views.server(server, NOVA)) for server in cloud.servers]
        self.briefs = [dumped(views.brief(server)) for server in cloud.servers]
        self.orders = {
            "uuid": sorted(cloud.servers, key=operator.attrgetter("id")),
            "created_at": sorted(cloud.servers, key=operator.attrgetter("created", "id")),
        }
        self.places = {key: _places(order) for key, order in self.orders.items()}
        self.no_cells = dumped({"nodes": [], "pagesize_kb": None})
        self.hypervisors = {
            (detail, young): [
                dumped(views.hypervisor(host, detail, NOVA if young else (2, 53)))
                for host in cloud.hosts
            ]
            for detail, young in ((False, True), (True, False), (True, True))
        }
        self.hypervisor_places = {h.provider.id: n for n, h in enumerate(cloud.hosts)}
        self.services = views.services()
        self.groups = [dumped(views.group(group)) for group in cloud.groups]
        self.group_by_id = {g.id: text for g, text in zip(cloud.groups, self.groups, strict=True)}
        self.flavors = sorted((f for f in cloud.flavors if f.listed), key=lambda f: f.id)
        self.migrations = list(reversed(cloud.migrations))
        self.fixed = {
            "os-services": dumped({"services": self.services}),
            "os-aggregates": dumped({"aggregates": views.aggregates()}),
            "os-availability-zone/detail": dumped({"availabilityZoneInfo": views.zones()}),
        }
        self.holders = {s.id: (s.held, s) for s in cloud.servers}
        self.holders |= {m.id: (m.held, m.server) for m in cloud.migrations if m.held}
        self.providers: dict[str, Provider] = {}
        self.provider_parts: dict[str, bytes] = {}
        for host in cloud.hosts:
            for provider in (host.provider, *host.children):
                self.providers[provider.id] = provider
                self._write(provider)
        self.provider_list = self._providers(self.providers.values())
        self.ports = [views.port(s, n) for s in cloud.servers for n in range(s.ports)]
        self.ports.sort(key=operator.itemgetter("id"))
        self.lists = {
            "servers": self._brief_servers,
            "servers/detail": self._detailed_servers,
            "os-hypervisors": self._hypervisors,
            "os-hypervisors/detail": self._detailed_hypervisors,
            "os-server-groups": self._groups,
            "flavors/detail": self._flavors,
            "os-migrations": self._migrations,
            "os-services": self._services,
        }

    def _write(self, provider: Provider) -> None:
        self.provider_parts[provider.id] = dumped(self.views.provider(provider))
        for name, document in self.views.provider_parts(provider).items():
            self.provider_parts[f"{provider.id}/{name}"] = dumped(document)

    def _providers(self, providers: Iterable[Provider]) -> bytes:
        return dumped({"resource_providers": [self.views.provider(p) for p in providers]})

    def nova(self, path: str, query: str, version: Version) -> list[bytes]:
        """Answer a request to Nova, in pieces; ``path`` is what follows ``/v2.1/``."""
        if path in self.lists:
            least = NOVA_SINCE[path]
            if version < least:
                raise unscripted(f"{path} before {least[0]}.{least[1]}")
            return self.lists[path](query, version)
        if path in self.fixed:
            return [self.fixed[path]]
        kind, _, rest = path.partition("/")
        identity, _, part = rest.partition("/")
        if kind == "servers":
            server = self.cloud.by_id.get(identity)
            if server is None or server.deleted:
                raise nova_fault(404, f"Instance {identity} could not be found.")
            if not part and version >= (2, 47):
                return [dumped({"server": self.views.server(server, version, show=True)})]
            if part == "topology" and version >= (2, 78):
                return [dumped(self.views.topology(server)) if server.nodes else self.no_cells]
        if kind == "os-server-groups" and not part and version >= (2, 64):
            if identity not in self.group_by_id:
                raise nova_fault(404, f"Instance group {identity} could not be found.")
            return [b'{"server_group": ', self.group_by_id[identity], b"}"]
        raise unscripted(f"{path} at {version[0]}.{version[1]}")

    def _select(self, query: Query) -> list[Server]:
        """The servers of a page."""
        if "all_tenants" not in query:
            raise unscripted("a list of the servers of one project")
        key = query.get("sort_key", "created_at")
        if key not in self.orders:
            raise unscripted(f"sort_key={key}")
        marker, limit = query.get("marker"), query.limit()
        # Nova sorts downwards unless it is told otherwise, by uuid too.
        forward = query.get("sort_dir", "desc") == "asc"
        order, first = self.orders[key], 0
        if marker is not None:
            if marker not in self.places[key]:
                raise nova_fault(400, f"marker [{marker}] not found")
            place = self.places[key][marker]
            first = place + 1 if forward else len(order) - place
        step = itertools.islice(order if forward else reversed(order), first, None)
        chosen = filter(_server_filter(query), step)
        return list(itertools.islice(chosen, limit))

    def _servers(self, kind: str, query: Query, texts: Iterable[bytes], last: str) -> list[bytes]:
        pieces = [b'{"servers": [', b", ".join(texts), b"]"]
        if last:
            href = f"{self.views.nova}/v2.1/{kind}?{query.next(last)}"
            pieces += [b', "servers_links": ', dumped([{"rel": "next", "href": href}])]
        return [*pieces, b"}"]

    def _brief_servers(self, text: str, version: Version) -> list[bytes]:
        query = Query(text, SERVER_QUERY)
        servers = self._select(query)
        texts = [self.briefs[server.number] for server in servers]
        return self._servers("servers", query, texts, _last(query, [s.id for s in servers]))

    def _detailed_servers(self, text: str, version: Version) -> list[bytes]:
        query = Query(text, SERVER_QUERY)
        servers = self._select(query)
        if version == NOVA:
            texts = [self.details[server.number] for server in servers]
        else:
            texts = [dumped(self.views.server(server, version)) for server in servers]
        return self._servers("servers/detail", query, texts, _last(query, [s.id for s in servers]))

    def _hypervisors(self, text: str, version: Version) -> list[bytes]:
        return self._hypervisor_page("os-hypervisors", text, self.hypervisors[False, True])

    def _detailed_hypervisors(self, text: str, version: Version) -> list[bytes]:
        texts = self.hypervisors[True, version >= (2, 88)]
        return self._hypervisor_page("os-hypervisors/detail", text, texts)

    def _hypervisor_page(self, kind: str, text: str, texts: list[bytes]) -> list[bytes]:
        query, first = Query(text, PAGE), 0
        if "marker" in query:
            if query["marker"] not in self.hypervisor_places:
                raise nova_fault(400, f"marker [{query['marker']}] not found")
            first = self.hypervisor_places[query["marker"]] + 1
        page = slice(first, first + query.limit())
        last = _last(query, [host.provider.id for host in self.cloud.hosts[page]])
        pieces = [b'{"hypervisors": [', b", ".join(texts[page]), b"]"]
        if last:
            href = f"{self.views.nova}/v2.1/{kind}?{query.next(last)}"
            pieces += [b', "hypervisors_links": ', dumped([{"rel": "next", "href": href}])]
        return [*pieces, b"}"]

    def _groups(self, text: str, version: Version) -> list[bytes]:
        query = Query(text, frozenset({"all_projects", "limit", "offset"}))
        if "all_projects" not in query:
            raise unscripted("a list of the server groups of one project")
        first = query.number("offset", 0)
        # A limit of 0 is the default here, unlike elsewhere.
        texts = self.groups[first : first + (query.limit() or MAX_LIMIT)]
        return [b'{"server_groups": [', b", ".join(texts), b"]}"]

    def _flavors(self, text: str, version: Version) -> list[bytes]:
        query, first = Query(text, PAGE | {"is_public"}), 0
        flavors = self.flavors
        if query.get("is_public", "").lower() != "none":
            flavors = [flavor for flavor in flavors if flavor.public]
        if "marker" in query:
            places = {flavor.id: n for n, flavor in enumerate(flavors)}
            if query["marker"] not in places:
                raise nova_fault(400, f"marker [{query['marker']}] not found")
            first = places[query["marker"]] + 1
        page = flavors[first : first + query.limit()]
        document: dict[str, Any] = {
            "flavors": [self.views.flavor(flavor, version) for flavor in page]
        }
        last = _last(query, [flavor.id for flavor in page])
        if last:
            href = f"{self.views.nova}/v2.1/flavors/detail?{query.next(last)}"
            document["flavors_links"] = [{"rel": "next", "href": href}]
        return [dumped(document)]

    def _migrations(self, text: str, version: Version) -> list[bytes]:
        query, chosen = Query(text, MIGRATION_QUERY), self.migrations
        for name, fits in MIGRATION_FILTERS.items():
            if name in query:
                chosen = [m for m in chosen if fits(m, query[name])]
        since, before = query.time("changes-since"), query.time("changes-before")
        chosen = [
            m
            for m in chosen
            if (since is None or m.updated >= since) and (before is None or m.updated <= before)
        ]
        if "marker" in query:
            marked = next((m for m in self.migrations if m.id == query["marker"]), None)
            if marked is None:
                raise nova_fault(400, f"Marker {query['marker']} could not be found.")
            chosen = [m for m in chosen if m.number < marked.number]
        page = chosen[: query.limit()]
        document: dict[str, Any] = {"migrations": [self.views.migration(m) for m in page]}
        last = _last(query, [m.id for m in page])
        if last:
            href = f"{self.views.nova}/v2.1/os-migrations?{query.next(last)}"
            document["migrations_links"] = [{"rel": "next", "href": href}]
        return [dumped(document)]

    def _services(self, text: str, version: Version) -> list[bytes]:
        query = Query(text, frozenset({"binary", "host"}))
        if not query:
            return [self.fixed["os-services"]]
        chosen = [s for s in self.services if all(s[name] == query[name] for name in query)]
        return [dumped({"services": chosen})]

    def placement_answer(self, path: str, query: str, version: Version) -> list[bytes]:
        """Answer a request to Placement, in pieces; ``path`` is without a slash in front."""
        kind, _, rest = path.partition("/")
        if kind == "resource_providers" and rest:
            identity, _, part = rest.partition("/")
            if identity not in self.providers:
                missing = f"No resource provider with uuid {identity} found"
                raise placement_fault(
                    404,
                    "Not Found",
                    f"The resource could not be found.\n\n {missing} : {missing}  ",
                )
            if rest in self.provider_parts and version >= PROVIDER_SINCE[part]:
                return [self.provider_parts[rest]]
        elif kind == "resource_providers" and version >= PROVIDER_SINCE[""]:
            return [self._chosen_providers(query)]
        elif kind == "allocations" and rest and version >= (1, 38):
            if rest not in self.holders:
                return [dumped({"allocations": {}})]
            return [dumped(self.views.allocations(rest, *self.holders[rest]))]
        elif kind == "usages" and version >= (1, 38):
            return [self._usages(query)]
        raise unscripted(f"{path} at {version[0]}.{version[1]}")

    def _chosen_providers(self, text: str) -> bytes:
        if not text:
            return self.provider_list
        query = dict(urllib.parse.parse_qsl(text))
        chosen = list(self.providers.values())
        for name, value in query.items():
            if name == "uuid":
                chosen = [p for p in chosen if p.id == value]
            elif name == "name":
                chosen = [p for p in chosen if p.name == value]
            elif name == "in_tree":
                asked = self.providers.get(value)
                root = asked and (asked.parent or asked)
                chosen = [p for p in chosen if root and (p.parent or p) is root]
            elif name == "member_of":
                wanted = set(value.removeprefix("in:").split(","))
                chosen = [p for p in chosen if not wanted.isdisjoint(p.aggregates)]
            else:
                raise unscripted(f"resource_providers with {name}")
        return self._providers(chosen)

    def _usages(self, text: str) -> bytes:
        project = dict(urllib.parse.parse_qsl(text)).get("project_id")
        usages: collections.Counter[str] = collections.Counter()
        for consumer, (held, server) in self.holders.items():
            if held and server.project == project:
                usages["consumer_count"] += 1
                for provider in held:
                    usages.update(provider.used[consumer])
        return dumped({"usages": {"unknown": usages} if usages else {}})

    def neutron(self, path: str, text: str) -> list[bytes]:
        """Answer a request to Neutron; ``path`` is what follows ``/v2.0/``."""
        query = urllib.parse.parse_qsl(text, keep_blank_values=True)
        fields = [value for name, value in query if name == "fields"]
        page = {name: value for name, value in query if name in PAGE}
        asked: dict[str, set[str]] = {}
        for name, value in query:
            if name != "fields" and name not in PAGE:
                asked.setdefault(name, set()).add(value)
        if path != "ports" or not fields:
            raise unscripted(f"{path} of Neutron without fields")
        for name in asked.keys() - PORT_FILTERS:
            raise neutron_fault(400, f"['{name}'] is invalid attribute for filtering")
        chosen = [port for port in self.ports if all(port[n] in asked[n] for n in asked)]
        if "marker" in page:
            chosen = [port for port in chosen if port["id"] > page["marker"]]
        limit = int(page.get("limit", len(chosen)))
        document: dict[str, Any] = {
            "ports": [{n: port[n] for n in fields if n in port} for port in chosen[:limit]]
        }
        if "limit" in page and 0 < limit <= len(chosen):
            rest = [(name, value) for name, value in query if name != "marker"]
            tail = urllib.parse.urlencode([*rest, ("marker", chosen[limit - 1]["id"])])
            href = f"{self.views.neutron}/v2.0/ports?{tail}"
            document["ports_links"] = [{"rel": "next", "href": href}]
        return [json.dumps(document, separators=(",", ":")).encode()]

    def images(self, text: str) -> list[bytes]:
        """Answer a list of images by id; hidden ones there are none."""
        query = dict(urllib.parse.parse_qsl(text))
        word, _, names = query.get("id", "").partition(":")
        if word != "in":
            raise unscripted("images of Glance without ids")
        shown = set(names.split(",")) if query.get("os_hidden") != "true" else set()
        images = [
            {"id": image.id, "status": "active", **image.properties}
            for image in self.cloud.images
            if image.id in shown
        ]
        return [dumped({"images": images, "first": "/v2/images"})]

    def change(self, text: str) -> bytes:
        """Change a server and say which.

        ``tag=T``, ``untag=T`` and ``metadata=KEY:VALUE`` leave ``updated`` as it is, as Nova does;
        ``touch=1`` and ``delete=1`` do not.
        """
        query = dict(urllib.parse.parse_qsl(text))
        server = self.cloud.by_id.get(query.get("server", ""))
        if server is None:
            return dumped({"changed": None})
        if "tag" in query:
            server.tags = [*server.tags, query["tag"]]
        if "untag" in query:
            server.tags = [tag for tag in server.tags if tag != query["untag"]]
        if "metadata" in query:
            name, _, value = query["metadata"].rpartition(":")
            server.metadata = server.metadata | {name: value}
        if "touch" in query or "delete" in query:
            server.updated = int(time.time())
        if "delete" in query:
            server.deleted = True
            for provider in server.held:
                provider.release(server.id)
                self._write(provider)
            server.held.clear()
        self.details[server.number] = dumped(self.views.server(server, NOVA))
        return dumped({"changed": server.id})

    def facts(self) -> dict[str, int]:
        """The numbers that a budget for requests depends on."""
        return {
            "hosts": len(self.cloud.hosts),
            "servers": len(self.cloud.servers),
            "numa_servers": sum(bool(server.nodes) for server in self.cloud.servers),
            "providers": len(self.providers),
        }


NOVA_SINCE: dict[str, Version] = {
    "servers": (2, 26),
    "servers/detail": (2, 47),
    "os-hypervisors": (2, 53),
    "os-hypervisors/detail": (2, 53),
    "os-server-groups": (2, 64),
    "flavors/detail": (2, 61),
    "os-migrations": (2, 80),
    "os-services": (2, 53),
    "os-aggregates": (2, 41),
}
PROVIDER_SINCE: dict[str, Version] = {
    "": (1, 14),
    "inventories": (1, 0),
    "usages": (1, 0),
    "traits": (1, 6),
    "aggregates": (1, 19),
    "allocations": (1, 28),
}
"""The oldest microversions whose answers these are."""


def _places(order: list[Server]) -> dict[str, int]:
    return {server.id: place for place, server in enumerate(order)}


def _last(query: Query, page: list[str]) -> str:
    """The marker of the next page, empty if this one is not full."""
    return page[-1] if page and len(page) == query.limit() else ""


def _server_filter(query: Query) -> Callable[[Server], bool]:
    """What a server must satisfy; deleted ones are in lists of changes only."""
    wanted = [
        (SERVER_FILTERS[name], set(query[name].split(",")) if "tags" in name else query[name])
        for name in SERVER_FILTERS.keys() & query.keys()
    ]
    since, before = query.time("changes-since"), query.time("changes-before")
    if since is None and before is None:
        return lambda s: not s.deleted and all(fits(s, value) for fits, value in wanted)
    first, last = since or 0.0, before or float("inf")
    return lambda s: first <= s.updated <= last and all(fits(s, value) for fits, value in wanted)


# HTTP


COMPUTE = "/compute/v2.1/"
REASONS = {200: "OK", 201: "Created", 300: "Multiple Choices", 400: "Bad Request",
           401: "Unauthorized", 404: "Not Found", 406: "Not Acceptable",
           501: "Not Implemented"}  # fmt: skip
CHUNK = 1 << 18


class Front:
    """Reads requests, asks the Api, counts and logs."""

    def __init__(self, api: Api, log: TextIO | None) -> None:
        self.api, self.log = api, log
        self.requests = self.sent_bytes = 0
        self.modified = email.utils.formatdate(api.cloud.now, usegmt=True)
        self._second, self._date = 0, ""

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        """Return the whole answer to a request."""
        path, _, query = target.partition("?")
        if path.startswith("/_"):
            return self._joined(200, [self._own(path, query)], "")
        path = path.rstrip("/")
        asked = asked_version(path, headers)
        try:
            status, pieces, extra = self._route(method, path, query, headers, asked, body)
        except Refused as refused:
            status, text = refused.args
            pieces, extra = [text], ""
        self.requests += 1
        if self.log:
            self.log.write(f"{method} {target} {status}\n")
        if status == 401:
            extra = f'WWW-Authenticate: Keystone uri="{self.api.views.keystone}"\r\n'
        answer = self._joined(status, pieces, version_headers(path, asked) + extra)
        self.sent_bytes += len(answer)
        return answer

    def _own(self, path: str, query: str) -> bytes:
        if path == "/_change":
            return self.api.change(query)
        if self.log:
            self.log.flush()
        return dumped(self.stats())

    def stats(self) -> dict[str, float]:
        """What it did so far: CPU seconds, requests, bytes sent."""
        done = {
            "cpu_s": time.process_time(),
            "requests": self.requests,
            "sent_bytes": self.sent_bytes,
        }
        return done | self.api.facts()

    def _route(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        asked: str,
        body: bytes,
    ) -> tuple[int, list[bytes], str]:
        if path == "/identity/v3/auth/tokens" and method == "POST":
            return 201, [self._log_in(body)], f"X-Subject-Token: {self.api.token}\r\n"
        if method != "GET":
            raise unscripted(f"{method} {path}")
        if path in self.api.documents:
            status = 300 if path == "/identity" else 200
            return status, [self.api.documents[path]], ""
        if headers.get("x-auth-token") != self.api.token:
            raise UNAUTHORIZED
        if path.startswith(COMPUTE):
            return 200, self.api.nova(path.removeprefix(COMPUTE), query, nova_version(asked)), ""
        if path.startswith("/placement/"):
            version = placement_version(asked)
            pieces = self.api.placement_answer(path.removeprefix("/placement/"), query, version)
            return 200, pieces, f"Last-Modified: {self.modified}\r\nCache-Control: no-cache\r\n"
        if path.startswith("/networking/v2.0/"):
            return 200, self.api.neutron(path.removeprefix("/networking/v2.0/"), query), ""
        if path == "/image/v2/images":
            return 200, self.api.images(query), ""
        raise unscripted(path)

    def _log_in(self, body: bytes) -> bytes:
        try:
            password = json.loads(body)["auth"]["identity"]["password"]["user"]["password"]
        except (ValueError, KeyError, TypeError):
            raise unscripted("a login without a password") from None
        if password != PASSWORD:
            raise UNAUTHORIZED
        return dumped(self.api.views.token(int(time.time())))

    def _joined(self, status: int, pieces: list[bytes], extra: str) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second, self._date = now, email.utils.formatdate(now, usegmt=True)
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nServer: scripted\r\nDate: {self._date}\r\n"
            f"Connection: keep-alive\r\nContent-Type: application/json\r\n{extra}"
            f"x-openstack-request-id: {REQUEST_ID}\r\n"
            f"Content-Length: {sum(map(len, pieces))}\r\n\r\n"
        )
        return b"".join((head.encode(), *pieces))


def asked_version(path: str, headers: dict[str, str]) -> str:
    """The microversion that a request asks for, the oldest if it asks for none."""
    service, default = ("placement", "1.0") if path.startswith("/placement") else ("compute", "2.1")
    for part in headers.get("openstack-api-version", "").split(","):
        name, _, version = part.strip().partition(" ")
        if name == service:
            default = version
    if service == "compute":
        default = headers.get("x-openstack-nova-api-version", default)
    latest = PLACEMENT if service == "placement" else NOVA
    return f"{latest[0]}.{latest[1]}" if default == "latest" else default


def version_headers(path: str, asked: str) -> str:
    """What Nova and Placement say about the microversion in each answer."""
    if path.startswith("/compute/"):
        name = "OpenStack-API-Version"
        return (
            f"{name}: compute {asked}\r\nX-OpenStack-Nova-API-Version: {asked}\r\n"
            f"Vary: {name}, X-OpenStack-Nova-API-Version\r\n"
        )
    if path.startswith("/placement"):
        name = "openstack-api-version"
        return f"{name}: placement {asked}\r\nvary: {name}\r\n"
    return "Vary: X-Auth-Token\r\n" if path.startswith("/identity") else ""


def nova_version(asked: str) -> Version:
    """A microversion of Nova as two numbers."""
    version = parsed(asked)
    if not (2, 1) <= version <= NOVA:
        raise nova_fault(
            406,
            f"Version {asked} is not supported by the API. Minimum is 2.1 and maximum is "
            f"{NOVA[0]}.{NOVA[1]}.",
        )
    return version


def placement_version(asked: str) -> Version:
    """A microversion of Placement as two numbers."""
    version = parsed(asked)
    if not (1, 0) <= version <= PLACEMENT:
        raise placement_fault(
            406,
            "Not Acceptable",
            f"Unacceptable version header: {asked}",
            max_version=f"{PLACEMENT[0]}.{PLACEMENT[1]}",
            min_version="1.0",
        )
    return version


def parsed(text: str) -> Version:
    """A microversion as two numbers."""
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise nova_fault(400, f"API Version String {text} is of invalid format.")
    return int(major), int(minor)


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.paused = self.last = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what has arrived whole."""
        self.received += data
        self._serve()

    def pause_writing(self) -> None:
        """Wait until the client has read."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self.paused = False
        self._send()
        self._serve()

    def _serve(self) -> None:
        while not self.unsent and not self.last:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = self.received[:end].decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            whole = end + 4 + int(headers.get("content-length", 0))
            if len(self.received) < whole:
                return
            body = bytes(self.received[end + 4 : whole])
            del self.received[:whole]
            method, target, _ = first.split(" ")
            self.last = headers.get("connection", "").lower() == "close"
            self.unsent = memoryview(self.front.answer(method, target, headers, body))
            self._send()

    def _send(self) -> None:
        # The transport copies what the socket does not take at once: give it little.
        while self.unsent and not self.paused:
            self.transport.write(self.unsent[:CHUNK])
            self.unsent = self.unsent[CHUNK:]
        if self.last and not self.unsent:
            self.transport.close()


async def serve(options: argparse.Namespace) -> None:
    """Make the cloud, serve it until SIGTERM or SIGINT, and tell what it took."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    cloud = Cloud(options.hosts, options.servers, options.seed)
    fronts: list[Front] = []
    server = await loop.create_server(
        lambda: Connection(fronts[0]), "127.0.0.1", options.port, backlog=256, start_serving=False
    )
    root = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    log = options.access_log and options.access_log.open("w")
    fronts.append(Front(Api(cloud, root), log))
    # The cloud stays; looking through it for garbage would only cost time.
    gc.collect()
    gc.freeze()
    await server.start_serving()
    print(f"{root}/identity/v3", flush=True)
    await ended.wait()
    server.close()
    if log:
        log.close()
    print(json.dumps(fronts[0].stats()), flush=True)


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=1000, help="default 1000")
    parser.add_argument("--servers", type=int, default=30_000, help="default 30000")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument(
        "--access-log", type=pathlib.Path, metavar="FILE", help="method, target and status of each"
    )
    options = parser.parse_args()
    if options.hosts < 3 or options.servers < 1:
        parser.error("it takes three hosts and a server at least")
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()

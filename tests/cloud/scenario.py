# SPDX-License-Identifier: Apache-2.0
"""All that a rebalancer has to respect, as servers to be made: ``servers`` and what they name.

What is asked for depends on the seed, the number of servers and of hosts and on the release; where
the servers go is up to Nova's scheduler. ``tests/cloud/builder.py`` makes them.
"""

import dataclasses
import random
from typing import Any

from tests.cloud import hosts

PROJECTS = ("red", "green", "blue")
# Nothing of its is elsewhere than on hosts of its own, and nothing of others is there.
TENANT = "violet"
ZONES = ("zone-1", "zone-2")
FAST_AGGREGATE = "fast-disks"

# How an owner says that a server must stay where it is: either is enough.
OPT_OUT_METADATA = {"nova-rebalancer:allow-migration": "false"}
OPT_OUT_TAG = "nova-rebalancer:stay"
# Names of hosts, with commas.
PIN = "nova-rebalancer:pin-hosts"
BAN = "nova-rebalancer:ban-hosts"

# An image with wishes, known and unknown to Nova: as important as those of a flavor.
IMAGE = "test-image-numa"
IMAGES = {
    IMAGE: {"hw_numa_nodes": "2", "os_distro": "debian", "team": "storage"},
    "test-image-fast": {f"trait:{hosts.FAST_DISK}": "required"},
    "test-image-licensed": {f"trait:{hosts.WINDOWS}": "required"},
    "test-image-debian": {"os_distro": "debian"},
    "test-image-windows": {"os_distro": "windows"},
    "test-image-x86": {"hw_architecture": "x86_64"},
    "test-image-kvm": {"img_hv_type": "kvm"},
    "test-image-new": {"img_hv_type": "qemu", "img_hv_requested_version": ">=9.0.0"},
    # Nova encrypts no memory of other guests than these.
    "test-image-uefi": {"hw_firmware_type": "uefi", "hw_machine_type": "q35"},
}

# Hosts that are isolated or under an image's rule, by pair. Of the isolated ones only clouds of
# 14 hosts and more have some, so that the others keep enough hosts for all else.
TENANT_PAIR = 6
AGGREGATES: dict[str, tuple[int, dict[str, str]]] = {
    # Images that say another system do not come here.
    "windows-images": (3, {"os_distro": "windows"}),
    # No other flavors come here; these may be elsewhere, too.
    "batch-only": (7, {"instance_type": "batch.small, batch.large"}),
    # Who does not ask for the trait does not come here.
    "windows-licensed": (9, {f"trait:{hosts.WINDOWS}": "required"}),
}


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor and how often it is drawn."""

    vcpus: int
    memory_mb: int
    weight: int
    extra_specs: dict[str, str] = dataclasses.field(default_factory=dict)
    swap_mb: int = 0
    ephemeral_gb: int = 0
    public: bool = True


FLAVORS = {
    "general.small": Flavor(1, 1024, 6),
    "general.medium": Flavor(2, 4096, 5),
    "general.large": Flavor(4, 8192, 3),
    "numa.one": Flavor(2, 4096, 2, {"hw:numa_nodes": "1"}),
    "numa.two": Flavor(4, 8192, 2, {"hw:numa_nodes": "2"}),
    "pinned.small": Flavor(2, 2048, 2, {"hw:cpu_policy": "dedicated"}),
    "hugepage.2m": Flavor(2, 2048, 1, {"hw:mem_page_size": "2MB"}),
    "hugepage.1g": Flavor(2, 2048, 1, {"hw:mem_page_size": "1GB", "hw:cpu_policy": "dedicated"}),
    "trait.fast": Flavor(1, 2048, 2, {f"trait:{hosts.FAST_DISK}": "required"}),
    "aggregate.fast": Flavor(1, 2048, 1, {"aggregate_instance_extra_specs:fast": "true"}),
}
# Never drawn by chance, so that they can be added to without changing the rest of a scenario.
RARE_FLAVORS = {
    "mixed.small": Flavor(2, 2048, 0, {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0"}),
    "scratch.small": Flavor(1, 1024, 0, swap_mb=1536, ephemeral_gb=2),
    "private.small": Flavor(1, 1024, 0, public=False),
}
_DEDICATED = {"hw:cpu_policy": "dedicated"}
_TPM = {"hw:tpm_version": "2.0"}
# Drawn neither, and asked for on clouds only that have hosts for them: how many that takes.
RULE_FLAVORS: dict[str, tuple[int, Flavor]] = {
    "threads.prefer": (6, Flavor(2, 2048, 0, {**_DEDICATED, "hw:cpu_thread_policy": "prefer"})),
    "threads.isolate": (6, Flavor(2, 2048, 0, {**_DEDICATED, "hw:cpu_thread_policy": "isolate"})),
    "threads.require": (12, Flavor(2, 2048, 0, {**_DEDICATED, "hw:cpu_thread_policy": "require"})),
    "pinned.two": (6, Flavor(4, 4096, 0, {**_DEDICATED, "hw:numa_nodes": "2"})),
    "pages.small": (4, Flavor(1, 1024, 0, {"hw:mem_page_size": "small"})),
    "pages.large": (6, Flavor(1, 1024, 0, {"hw:mem_page_size": "large"})),
    "license.four": (6, Flavor(1, 1024, 0, {f"resources:{hosts.LICENSE}": "4"})),
    "vgpu.one": (8, Flavor(1, 1024, 0, {"resources:VGPU": "1"})),
    "pci.gpu": (6, Flavor(1, 1024, 0, {"pci_passthrough:alias": "gpu:1"})),
    "pci.crypto": (6, Flavor(1, 1024, 0, {"pci_passthrough:alias": "crypto:1"})),
    "pci.numa": (
        6,
        Flavor(2, 2048, 0, {"pci_passthrough:alias": "crypto:1", "hw:numa_nodes": "1"}),
    ),
    "tpm.user": (2, Flavor(1, 1024, 0, _TPM)),
    "tpm.host": (2, Flavor(1, 1024, 0, {**_TPM, "hw:tpm_secret_security": "host"})),
    "trait.not-slow": (6, Flavor(1, 1024, 0, {f"trait:{hosts.SLOW_NETWORK}": "forbidden"})),
    "trait.licensed": (20, Flavor(1, 1024, 0, {f"trait:{hosts.WINDOWS}": "required"})),
    "aggregate.equal": (4, Flavor(1, 1024, 0, {"aggregate_instance_extra_specs:fast": "s== true"})),
    "aggregate.or": (
        6,
        Flavor(1, 1024, 0, {"aggregate_instance_extra_specs:tier": "<or> 1 <or> 3"}),
    ),
    "aggregate.least": (12, Flavor(1, 1024, 0, {"aggregate_instance_extra_specs:tier": ">= 2"})),
    # Without a scope it is the aggregates' as well.
    "aggregate.unscoped": (6, Flavor(1, 1024, 0, {"tier": "3"})),
    "capability.type": (0, Flavor(1, 1024, 0, {"capabilities:hypervisor_type": "s== QEMU"})),
    "capability.new": (6, Flavor(1, 1024, 0, {"capabilities:hypervisor_version": ">= 9000000"})),
    "capability.vendor": (10, Flavor(1, 1024, 0, {"capabilities:cpu_info:vendor": "s== AMD"})),
    "capability.feature": (
        8,
        Flavor(1, 1024, 0, {"capabilities:cpu_info:features": "<in> gfni"}),
    ),
    "encrypted.small": (10, Flavor(1, 1024, 0, {"hw:mem_encryption": "true"})),
    "batch.small": (16, Flavor(1, 1024, 0)),
    "batch.large": (16, Flavor(4, 4096, 0)),
}


@dataclasses.dataclass(frozen=True)
class Group:
    """A server group, with the members it gets."""

    policy: str
    members: int
    rules: dict[str, int] = dataclasses.field(default_factory=dict)


GROUPS = {
    "together": Group("affinity", 2),
    "apart": Group("anti-affinity", 3),
    "two-a-host": Group("anti-affinity", 3, {"max_server_per_host": 2}),
    "rather-together": Group("soft-affinity", 2),
    "rather-apart": Group("soft-anti-affinity", 2),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is peculiar about a server."""

    flavor: str = "general.small"
    hosts: int = 0
    """How many the cloud has to have."""
    project: str | None = None
    zone: str | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    afterwards: dict[str, Any] | None = None
    """A server action once it is ACTIVE."""
    image: str | None = None
    """Its name, if not that of all the others."""
    hint: str | None = None
    """A scheduler hint that names a server made just before."""
    named: tuple[str, slice] | None = None
    """A key of metadata and which hosts it names once it is ACTIVE: a slice of those of its cell of
    Nova, from its own on."""


KINDS: dict[str, Kind] = {
    "locked": Kind(afterwards={"lock": None}),
    "opt-out.metadata": Kind(metadata=OPT_OUT_METADATA),
    "opt-out.tag": Kind("general.medium", tags=(OPT_OUT_TAG,)),
    **{f"group.{name}": Kind() for name in GROUPS},
    **{name: Kind(name) for name in FLAVORS if not name.startswith("general.")},
    "zone": Kind("general.medium", 8, zone=ZONES[1]),
    "stopped": Kind(afterwards={"os-stop": None}),
    "paused": Kind(afterwards={"pause": None}),
    **{name: Kind(name, tags=(name, "rare")) for name in RARE_FLAVORS},
    "image.numa": Kind("general.medium", image=IMAGE),
    "locked.reason": Kind(afterwards={"lock": {"locked_reason": "it must not stop"}}),
    "hint.same": Kind(hint="same_host"),
    "hint.different": Kind(hint="different_host"),
    "pin": Kind(named=(PIN, slice(0, 4))),
    "pin.elsewhere": Kind(named=(PIN, slice(1, 4))),
    "ban": Kind(named=(BAN, slice(1, 4))),
    **{
        name: Kind(name, count, image="test-image-uefi" if name == "encrypted.small" else None)
        for name, (count, _) in RULE_FLAVORS.items()
    },
    "image.new": Kind(hosts=6, image="test-image-new"),
    "image.windows": Kind(hosts=8, image="test-image-windows"),
    "image.debian": Kind(hosts=8, image="test-image-debian"),
    "image.fast": Kind(image="test-image-fast"),
    "image.x86": Kind(image="test-image-x86"),
    "image.kvm": Kind(image="test-image-kvm"),
    "image.licensed": Kind(hosts=20, image="test-image-licensed"),
    "opt-in.metadata": Kind(metadata={"nova-rebalancer:allow-migration": "true"}),
    "tenant": Kind(hosts=14, project=TENANT),
    "tenant.large": Kind("general.large", 14, TENANT),
}
# Kinds, and flavors of the same names, that an older Nova does not know.
UNKNOWN = {"2025.1": ("tpm.host",)}
# Of the servers that are drawn, one in so many is of the first flavors and not of a kind.
_ORDINARY = 1 / 4


@dataclasses.dataclass
class Server:
    """One to be made."""

    name: str
    kind: str
    project: str
    values: Kind
    group: str | None = None
    """The first part of its name, up to a dot, is that of ``GROUPS``."""
    beside: str | None = None
    """The name of the server that its hint is about."""


def zone(number: int) -> str:
    """Of the host with this number; pairs are together, and so is a second cell, but for one."""
    pair = hosts.pair_of(number)
    return ZONES[pair % 2 == 1 and pair > 1]


def servers(seed: int, count: int, host_count: int, release: str) -> list[Server]:
    """What to make: first one of each kind, then again and again by chance, others in between.

    A kind that such a cloud has no hosts for, or its release does not know, is left out.
    """
    chance = random.Random(seed)
    wanted: list[Server] = []

    def add(kind: str, values: Kind, **more: Any) -> Server:
        project = more.pop("project", None) or values.project or chance.choice(PROJECTS)
        made = Server(f"server-{len(wanted) + 1:04}", kind, project, values, **more)
        wanted.append(made)
        return made

    def add_kind(kind: str, turn: int) -> None:
        values = KINDS[kind]
        if kind.startswith("group."):
            # A group belongs to a project, and only its servers can be members.
            name = kind.removeprefix("group.")
            project = chance.choice(PROJECTS)
            for _ in range(GROUPS[name].members):
                add(kind, values, project=project, group=f"{name}.{turn}")
        elif values.hint:
            add(kind, values, beside=add("ordinary", Kind()).name)
        else:
            add(kind, values)

    kinds = [name for name, kind in KINDS.items() if kind.hosts <= host_count]
    kinds = [name for name in kinds if name not in UNKNOWN.get(release, ())]
    names = list(FLAVORS)
    weights = [FLAVORS[name].weight for name in names]
    turn = 1
    while len(wanted) < count:
        for kind in kinds:
            if turn > 1 and chance.random() < _ORDINARY:
                add("ordinary", Kind(chance.choices(names, weights)[0]))
            add_kind(kind, turn)
        chance.shuffle(kinds)
        turn += 1
    return wanted[:count]

# SPDX-License-Identifier: Apache-2.0
"""What the fake hosts are, unless somebody writes their files by hand. Standard library only."""

import json
from typing import Any

from tests.cloud import settings

# Two hosts of a kind come together, so that from six hosts on each kind can migrate. All have the
# same memory, for the scheduler prefers hosts by free memory and would leave the small ones empty.
KINDS: tuple[dict[str, Any], ...] = (
    # Tells Nova no topology, like most other drivers than libvirt.
    {"vcpus": 16, "memory_mb": 131072, "disk_gb": 500},
    {"vcpus": 32, "memory_mb": 131072, "disk_gb": 1000, "numa": {"cells": 2}},
    # Half of the CPUs for pinned guests; 16 GiB of each cell as hugepages.
    {
        "vcpus": 16,
        "memory_mb": 131072,
        "disk_gb": 1000,
        "numa": {
            "cells": 2,
            "pcpus_per_cell": 8,
            "hugepages_2m_per_cell": 4096,
            "hugepages_1g_per_cell": 8,
        },
    },
)
FAST_DISK = "CUSTOM_FAST_DISK"
SLOW_NETWORK = "CUSTOM_SLOW_NETWORK"
WINDOWS = "CUSTOM_WINDOWS_LICENSED"
LICENSE = "CUSTOM_LICENSE"
# As Nova's libvirt driver says it of hosts with swtpm.
TPM = (
    "COMPUTE_SECURITY_TPM_2_0",
    "COMPUTE_SECURITY_TPM_TIS",
    "COMPUTE_SECURITY_TPM_CRB",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST",
)
# By the alias of flavors: one that has to stay where it is, one that can migrate live.
PCI = {
    "gpu": {"vendor_id": "10de", "product_id": "1eb8"},
    "crypto": {"vendor_id": "8086", "product_id": "37c9", "live_migratable": "yes"},
}

# What is special about a pair of hosts, counted from 0. The fields of the driver; "traits" are in
# addition to others. Those with a version or CPU of their own come after plain ones, whose guests
# they take, but do not give back.
_TEN: dict[str, Any] = {"total": 10, "max_unit": 4, "step_size": 2}
_DEVICES: dict[str, Any] = {
    "pci_devices": [
        {"vendor_id": ids["vendor_id"], "product_id": ids["product_id"], "per_cell": 2}
        for ids in PCI.values()
    ]
}
_NEW: dict[str, Any] = {"hypervisor_version": 9000000}
SPECIAL: dict[int, dict[str, Any]] = {
    0: {"traits": TPM},
    2: {"traits": TPM, "resources": {LICENSE: _TEN}, **_DEVICES, **_NEW},
    3: {
        "traits": TPM,
        "resources": {LICENSE: _TEN},
        "cpu": {"model": "Icelake-Server", "features": ["aes", "avx2", "avx512f", "gfni", "pge"]},
        "nested": [
            {"name": "vgpu", "resources": {"VGPU": {"total": 8}}, "traits": ["CUSTOM_NVIDIA_47"]}
        ],
    },
    4: {
        "cpu": {"vendor": "AMD", "model": "EPYC-Rome", "features": ["aes", "avx2", "pge", "svm"]},
        "nested": [
            {
                "name": "sev",
                "resources": {"MEM_ENCRYPTION_CONTEXT": {"total": 8, "max_unit": 1}},
                "traits": ["HW_CPU_X86_AMD_SEV"],
            }
        ],
    },
    5: {"traits": TPM, "threads": 2, "resources": {LICENSE: _TEN}, **_DEVICES},
    # 6 is for one project, 7 for one flavor, 9 for one trait: see the scenario's aggregates.
    8: {"traits": TPM, "threads": 2, "resources": {LICENSE: _TEN}, **_DEVICES, **_NEW},
    9: {"traits": (WINDOWS,)},
}


def name(number: int) -> str:
    """Of the host with this number, from 1."""
    return f"host-{number:03}"


def pair_of(number: int) -> int:
    """Which pair the host with this number is in, from 0."""
    return (number - 1) // 2


def default(cloud: settings.Settings, number: int) -> dict[str, Any]:
    """A host's description; the driver says what the fields mean, ``cell`` is for us."""
    migration = {"mib_per_s": 1024, "overhead_s": 0.5}
    # Nothing migrates from one cell to another.
    pair = pair_of(number)
    cell = {"cell": cloud.cells[pair % len(cloud.cells)]}
    special = SPECIAL.get(pair, {})
    traits = [FAST_DISK] * (number % 2 == 0) + [SLOW_NETWORK] * (number % 5 == 0)
    traits += special.get("traits", ())
    kind = KINDS[pair % len(KINDS)]
    return {**cell, **kind, **special, "traits": traits, "migration": migration}


def write_missing(cloud: settings.Settings, count: int) -> list[str]:
    """Describe the first hosts where that was not done; return their names."""
    names = [name(number) for number in range(1, count + 1)]
    for number, host in enumerate(names, 1):
        file = cloud.host_file(host)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(json.dumps(default(cloud, number), indent=2) + "\n")
    return names


def description(cloud: settings.Settings, host: str) -> dict[str, Any]:
    """As the file has it now."""
    read: dict[str, Any] = json.loads(cloud.host_file(host).read_text())
    return read


def cpu_sets(described: dict[str, Any]) -> tuple[str, str]:
    """The CPUs for guests that share them and those for pinned ones, numbered as by the driver."""
    numa = described.get("numa") or {}
    count = numa.get("cells", 1)
    pinned = numa.get("pcpus_per_cell", 0)
    size = described.get("vcpus", 16) // count + pinned
    shared: list[int] = []
    dedicated: list[int] = []
    for first in range(0, count * size, size):
        dedicated += range(first, first + pinned)
        shared += range(first + pinned, first + size)
    return ",".join(map(str, shared)), ",".join(map(str, dedicated))

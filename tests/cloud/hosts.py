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


def name(number: int) -> str:
    """Of the host with this number, from 1."""
    return f"host-{number:03}"


def default(cloud: settings.Settings, number: int) -> dict[str, Any]:
    """A host's description; the driver says what the fields mean, ``cell`` is for us."""
    migration = {"mib_per_s": 1024, "overhead_s": 0.5}
    traits = [FAST_DISK] if number % 2 == 0 else []
    # Nothing migrates from one cell to another.
    pair = (number - 1) // 2
    cell = {"cell": cloud.cells[pair % len(cloud.cells)]}
    return {**cell, **KINDS[pair % len(KINDS)], "traits": traits, "migration": migration}


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

# SPDX-License-Identifier: Apache-2.0
"""Small clouds with names."""

import dataclasses
from typing import Any

from nova_rebalancer.model import cloud

CORES, MIB = 8, 8192


def host(name: str, **facts: Any) -> cloud.Host:
    """A host of two NUMA cells of CORES cores, with disk from the pool."""
    values: dict[str, Any] = {
        "inventories": {
            "PCPU": cloud.Inventory(2 * CORES),
            "MEMORY_MB": cloud.Inventory(2 * MIB),
        },
        "shared": {"DISK_GB": "pool"},
        "numa": cloud.HostNuma(
            "operator",
            tuple(cloud.NumaCell(n, {"PCPU": CORES, "MEMORY_MB": MIB}) for n in range(2)),
        ),
    }
    return cloud.Host(id=f"id-{name}", service_host=name, **{**values, **facts})


def instance(
    name: str, on: str, cores: int, cells: tuple[int, ...] | None = (0,), **facts: Any
) -> cloud.Instance:
    """An instance with a GiB of memory and a GiB of disk for each core."""
    numa = None
    if cells is not None:
        each = {"PCPU": cores // len(cells), "MEMORY_MB": cores * 1024 // len(cells)}
        numa = tuple(cloud.GuestCell(n, each) for n in cells)
    values: dict[str, Any] = {
        "allocations": {"PCPU": cores, "MEMORY_MB": cores * 1024, "DISK_GB": cores}
    }
    return cloud.Instance(id=name, host=f"id-{on}", numa=numa, **{**values, **facts})


def three_hosts(*instances: cloud.Instance, **facts: Any) -> cloud.Snapshot:
    """Hosts a, b, c; the pool has 20 GiB of disk for all of them."""
    values: dict[str, Any] = {
        "hosts": (host("a"), host("b"), host("c")),
        "pools": (cloud.Pool("pool", {"DISK_GB": cloud.Inventory(20)}),),
    }
    return cloud.Snapshot(
        cloud="small",
        taken_at="2026-01-01T00:00:00Z",
        numa_choice="planner",
        instances=instances,
        **{**values, **facts},
    )


def with_host(snapshot: cloud.Snapshot, name: str, **facts: Any) -> cloud.Snapshot:
    """The same cloud with one host changed."""
    return dataclasses.replace(
        snapshot,
        hosts=tuple(
            dataclasses.replace(one, **facts) if one.service_host == name else one
            for one in snapshot.hosts
        ),
    )

# SPDX-License-Identifier: Apache-2.0
"""Small files in the VMR2L format."""

from typing import Any


def host(name: str, status: str = "ACTIVE", rack: int | str | None = 1) -> dict[str, Any]:
    """A host of two nodes, 44 cores and 184,388 MB each, amounts as the published files have."""
    return {
        "node_id": name,
        "status": status,
        "node_cpu": 88,
        "node_mem_mb": 368776.0,
        "rack_id": rack,
        "numa": [
            {
                "node": node,
                "total_cpu": 44,
                "free_cpu": 999.5,
                "memory_huge_total_mb": 184388.0,
                "memory_huge_free_mb": None,
            }
            for node in (0, 1)
        ],
    }


def instance(name: str, where: str, nodes: tuple[int, ...] = (0,), cpu: int = 4) -> dict[str, Any]:
    """An instance with ``cpu`` cores and 2,048 MB a core on each of its nodes."""
    return {
        "instance_id": name,
        "instance_type": f"c.{cpu * len(nodes)}",
        "host_id": where,
        "numa": [{"node": node, "cpu": cpu, "mem_mb": cpu * 2048.0} for node in nodes],
        "allow_migration": True,
    }


def cluster(
    hosts: list[dict[str, Any]],
    instances: list[dict[str, Any]],
    sets: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """A cluster with deployment sets."""
    return {
        "cluster_name": "c",
        "host_info": hosts,
        "vm_instance": instances,
        "vm_type_info": [],
        "other_requirement": {"deployment_set": list(sets)},
    }


def document(*clusters: dict[str, Any]) -> dict[str, Any]:
    """A whole file."""
    return {"cluster_list": list(clusters), "vm_type_list": [], "general_requirement": {}}


def two_clusters() -> dict[str, Any]:
    """Two clusters with all the rarer things: a disabled host, sets, an instance that stays."""
    stays = instance("vm_2", "pm_2")
    stays["allow_migration"] = False
    return document(
        cluster(
            [host("pm_0"), host("pm_1", status="DISABLED", rack="r7")],
            [instance("vm_0", "pm_0", (1,)), instance("vm_1", "pm_1", (0, 1), cpu=16)],
            ({"granularity": "rack", "data": ["vm_0", "vm_1"]},),
        ),
        cluster(
            [host("pm_2", rack=None)],
            [stays, instance("vm_3", "pm_2")],
            (
                {"granularity": "rack", "data": ["vm_2"]},
                {"granularity": "host", "data": ["vm_0", "vm_3"]},
            ),
        ),
    )

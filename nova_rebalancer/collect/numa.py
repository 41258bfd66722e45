# SPDX-License-Identifier: Apache-2.0
"""NUMA topologies of instances: who has one, and what the answer says."""

from collections.abc import Mapping
import re
from typing import Any

from nova_rebalancer.model import cloud

Json = dict[str, Any]

SMALL_PAGE_KB = 4
"""Memory in such pages is not counted by pages."""

_SPECS = frozenset(("hw:numa_nodes", "hw:mem_page_size", "hw:pmem"))
_PROPERTIES = frozenset(("hw_numa_nodes", "hw_mem_page_size"))
_PINNED = ("dedicated", "mixed")
_PCPU = re.compile(r"resources[^:]*:PCPU")


def asked(server: Json) -> bool:
    """Whether a server was made with something that gives it a NUMA topology.

    References
    ----------
    nova ``virt/hardware.py``, ``numa_get_constraints``: a number of nodes, a page size, vPMEM,
    or CPUs that are pinned.
    """
    specs, properties = server["extra_specs"], server["image"]["properties"]
    return (
        not _SPECS.isdisjoint(specs)
        or not _PROPERTIES.isdisjoint(properties)
        or specs.get("hw:cpu_policy") in _PINNED
        or properties.get("hw_cpu_policy") in _PINNED
        or any(_PCPU.fullmatch(name) for name in specs)
    )


def cells(topology: Json) -> list[Json] | None:
    """Return the guest cells as the snapshot has them, None without a topology.

    A pinned CPU counts as PCPU, another one as VCPU; memory in large pages counts as memory and
    in pages.
    """
    nodes = topology.get("nodes") or ()
    size = topology.get("pagesize_kb")
    found = []
    for node in nodes:
        memory = int(node.get("memory_mb") or 0)
        pinned = len(node.get("cpu_pinning") or ())
        shared = max(0, len(node.get("vcpu_set") or ()) - pinned)
        resources = {"VCPU": shared, "PCPU": pinned, "MEMORY_MB": memory}
        if isinstance(size, int) and size > SMALL_PAGE_KB:
            resources[f"{cloud.PAGES}{size}KB"] = memory * 1024 // size
        found.append(
            {
                "cell": node.get("host_node"),
                "pinned": _pinned(node),
                "resources": {name: amount for name, amount in resources.items() if amount},
            }
        )
    return found or None


def _pinned(node: Json) -> list[int] | None:
    """Return the host CPUs of a guest cell; who may not see the host sees none of it."""
    if "cpu_pinning" not in node:
        return None
    return sorted(int(cpu) for cpu in (node["cpu_pinning"] or {}).values())


def unpinned(guests: list[Json]) -> list[Json]:
    """Return guest cells with their pinned CPUs counted as shared ones."""
    found = []
    for guest in guests:
        resources = dict(guest["resources"])
        cpus = resources.pop("PCPU", 0) + resources.pop("VCPU", 0)
        found.append({**guest, "resources": {"VCPU": cpus, **resources} if cpus else resources})
    return found


def dedicated(vcpus: int, specs: Mapping[str, str]) -> int:
    """Return how many of a flavor's CPUs are pinned.

    References
    ----------
    nova ``virt/hardware.py``: with the policy mixed, the mask of dedicated (or else of realtime)
    CPUs decides; one that names exceptions only is about all others.
    """
    policy = specs.get("hw:cpu_policy")
    if policy == "dedicated":
        return vcpus
    if policy != "mixed":
        return 0
    chosen: set[int] = set()
    excepted: set[int] = set()
    mask = specs.get("hw:cpu_dedicated_mask") or specs.get("hw:cpu_realtime_mask") or ""
    for part in mask.split(","):
        match = re.fullmatch(r"\s*(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        if match:
            cpus = range(int(match[2]), int(match[3] or match[2]) + 1)
            (excepted if match[1] else chosen).update(cpus)
    every = set(range(vcpus))
    return len(((chosen or every) - excepted) & every)

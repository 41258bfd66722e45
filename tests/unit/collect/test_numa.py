# SPDX-License-Identifier: Apache-2.0
"""Which servers have a NUMA topology, and what Nova's answer says about it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer.collect import numa


def server(specs: dict[str, str], properties: dict[str, str]) -> dict[str, Any]:
    """What is kept of a server."""
    return {"extra_specs": specs, "image": {"id": "i", "properties": properties}}


@pytest.mark.parametrize(
    "specs",
    [
        {"hw:numa_nodes": "2"},
        {"hw:mem_page_size": "large"},
        {"hw:mem_page_size": "1GB"},
        {"hw:cpu_policy": "dedicated"},
        {"hw:cpu_policy": "mixed"},
        {"hw:pmem": "6GB"},
        {"resources:PCPU": "4"},
        {"resources1:PCPU": "4"},
        {"resources_NUMA0:PCPU": "4"},
    ],
)
def test_extra_specs_with_a_topology(specs):
    """Nodes, page sizes, vPMEM and pinned CPUs give a server a topology."""
    assert numa.asked(server(specs, {}))


@pytest.mark.parametrize(
    "properties",
    [{"hw_numa_nodes": "1"}, {"hw_mem_page_size": "any"}, {"hw_cpu_policy": "dedicated"}],
)
def test_image_properties_with_a_topology(properties):
    """An image can ask for one, too."""
    assert numa.asked(server({}, properties))


@pytest.mark.parametrize(
    "specs",
    [
        {},
        {"hw:cpu_policy": "shared"},
        {"resources:VCPU": "4"},
        {"resources:CUSTOM_PCPU": "4"},
        {"hw:cpu_sockets": "2"},
        {"quota:cpu_shares": "10"},
    ],
)
def test_without_a_topology(specs):
    """Nothing else does, so nothing else is asked."""
    assert not numa.asked(server(specs, {"hw_cpu_policy": "shared", "hw_disk_bus": "scsi"}))


def node(cpus: int, memory: int, pinned: int, **more: Any) -> dict[str, Any]:
    """A cell as Nova shows it."""
    return {
        "vcpu_set": list(range(cpus)),
        "memory_mb": memory,
        "host_node": 1,
        "cpu_pinning": {str(n): n + 8 for n in range(pinned)},
        "siblings": [],
        **more,
    }


def test_no_topology():
    """An answer without cells is no topology."""
    assert numa.cells({"nodes": [], "pagesize_kb": None}) is None
    assert numa.cells({}) is None


def test_shared_cpus():
    """CPUs that are not pinned are VCPU, memory in small pages is memory alone."""
    assert numa.cells({"nodes": [node(2, 512, 0)], "pagesize_kb": 4}) == [
        {"cell": 1, "pinned": [], "resources": {"VCPU": 2, "MEMORY_MB": 512}}
    ]


def test_mixed_cpus_and_large_pages():
    """Pinned ones are PCPU; memory in large pages counts in pages as well."""
    assert numa.cells({"nodes": [node(4, 2048, 3)], "pagesize_kb": 2048}) == [
        {
            "cell": 1,
            "pinned": [8, 9, 10],
            "resources": {"VCPU": 1, "PCPU": 3, "MEMORY_MB": 2048, "HUGEPAGES_2048KB": 1024},
        }
    ]


def test_account_that_may_not_see_hosts():
    """Without the host's cells they are unknown."""
    one = node(2, 512, 0)
    del one["host_node"], one["cpu_pinning"]
    assert numa.cells({"nodes": [one]}) == [
        {"cell": None, "pinned": None, "resources": {"VCPU": 2, "MEMORY_MB": 512}}
    ]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4096), st.integers(0, 8)), max_size=3),
    st.sampled_from([None, 4, 2048, 1048576]),
)
def test_sums(sizes, pages):
    """All CPUs and all memory of a guest are in its cells, and amounts are positive."""
    nodes = [node(max(cpus, pinned), memory, pinned) for cpus, memory, pinned in sizes]
    found = numa.cells({"nodes": nodes, "pagesize_kb": pages}) or []
    cpus = sum(one["resources"].get(c, 0) for one in found for c in ("VCPU", "PCPU"))
    assert cpus == sum(max(cpus, pinned) for cpus, _, pinned in sizes)
    assert sum(one["resources"].get("MEMORY_MB", 0) for one in found) == sum(m for _, m, _ in sizes)
    assert all(amount > 0 for one in found for amount in one["resources"].values())
    merged = numa.unpinned(found)
    assert sum(one["resources"].get("VCPU", 0) for one in merged) == cpus
    assert not any("PCPU" in one["resources"] for one in merged)

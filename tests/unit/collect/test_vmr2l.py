# SPDX-License-Identifier: Apache-2.0
"""The VMR2L format becomes a snapshot."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import document
from nova_rebalancer.collect import vmr2l
from tests.unit.collect import vmr2l_files


def converted(content: dict[str, Any]) -> dict[str, Any]:
    """The snapshot, which must be sound."""
    snapshot, _ = vmr2l.convert(content, "some/small.json.gz")
    assert document.problems(snapshot) == []
    return snapshot


def refusal(content: Any) -> str:
    """The message of the error."""
    with pytest.raises(exceptions.InputError) as caught:
        vmr2l.convert(content, "f.json")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_clusters_are_merged():
    """All clusters become one cloud named after the file, ids kept, at the fixed time."""
    snapshot = converted(vmr2l_files.two_clusters())
    assert snapshot["cloud"] == "small"
    assert snapshot["taken_at"] == "1970-01-01T00:00:00Z"
    assert snapshot["numa_choice"] == "planner"
    assert [host["id"] for host in snapshot["hosts"]] == ["pm_0", "pm_1", "pm_2"]
    assert [i["id"] for i in snapshot["instances"]] == ["vm_0", "vm_1", "vm_2", "vm_3"]


def test_host():
    """Cores become VCPU at ratio 1; nodes and rack are the operator's word; free_* is ignored."""
    host = converted(vmr2l_files.two_clusters())["hosts"][0]
    assert host["inventories"] == {
        "VCPU": {"total": 88, "allocation_ratio": 1.0},
        "MEMORY_MB": {"total": 368776, "allocation_ratio": 1.0},
    }
    assert host["numa"] == {
        "provenance": "operator",
        "cells": [
            {"id": 0, "capacity": {"VCPU": 44, "MEMORY_MB": 184388}},
            {"id": 1, "capacity": {"VCPU": 44, "MEMORY_MB": 184388}},
        ],
    }
    assert host["rack"] == {"provenance": "operator", "value": "1"}


def test_disabled_host_stays():
    """A DISABLED host is kept, disabled with a reason; the others are enabled."""
    hosts = converted(vmr2l_files.two_clusters())["hosts"]
    assert [host["status"] for host in hosts] == ["enabled", "disabled", "enabled"]
    assert hosts[1]["disabled_reason"] == "DISABLED in the source file"
    assert hosts[0]["disabled_reason"] is None


def test_instance():
    """Allocations are the sum over its nodes, and each node keeps its own demand."""
    single, double, stays, _ = converted(vmr2l_files.two_clusters())["instances"]
    assert single["allocations"] == {"VCPU": 4, "MEMORY_MB": 8192}
    assert single["numa"] == [{"cell": 1, "resources": {"VCPU": 4, "MEMORY_MB": 8192}}]
    assert double["allocations"] == {"VCPU": 32, "MEMORY_MB": 65536}
    assert [guest["cell"] for guest in double["numa"]] == [0, 1]
    assert double["flavor"] == "c.32"
    assert (double["allow_migration"], stays["allow_migration"]) == (True, False)


def test_whole_floats_become_integers():
    """16384.0 in the file is 16384 in the snapshot, so that the document has no fractions."""
    text = json.dumps(converted(vmr2l_files.two_clusters()))
    assert ".0" not in text.replace('"allocation_ratio": 1.0', "")


def test_deployment_sets():
    """Host sets become anti-affinity groups named by place; each rack set gives a warning."""
    snapshot, warnings = vmr2l.convert(vmr2l_files.two_clusters(), "f.json")
    assert snapshot["server_groups"] == [
        {
            "id": "deployment-set-1-1",
            "policy": "anti-affinity",
            "max_server_per_host": 1,
            "members": ["vm_0", "vm_3"],
        }
    ]
    assert len(warnings) == 2
    assert "cluster_list[0].other_requirement.deployment_set[0]" in warnings[0]
    assert "cluster_list[1].other_requirement.deployment_set[0]" in warnings[1]


def test_empty_file():
    """No clusters, or one with nothing in it, give an empty cloud."""
    assert converted(vmr2l_files.document())["hosts"] == []
    assert converted(vmr2l_files.document(vmr2l_files.cluster([], [])))["instances"] == []


def test_overfull_host_is_valid():
    """A host that carries more than it has is a fact of life, not an error."""
    instances = [vmr2l_files.instance(f"vm_{i}", "pm_0", cpu=32) for i in range(3)]
    converted(vmr2l_files.document(vmr2l_files.cluster([vmr2l_files.host("pm_0")], instances)))


@pytest.mark.parametrize("bad", [4.5, -1, None, "4", True, [4], 1e30])
def test_bad_amount(bad):
    """A fractional, negative, null, wrongly typed or absurd amount is refused with its place."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][1]["vm_instance"][1]["numa"][0]["cpu"] = bad
    message = refusal(content)
    assert message.startswith("f.json: cluster_list[1].vm_instance[1].numa[0].cpu: ")


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (("cluster_list", 0, "host_info", 1), "node_cpu"),
        (("cluster_list", 0, "host_info", 1, "numa", 0), "total_cpu"),
        (("cluster_list", 1, "vm_instance", 0), "allow_migration"),
        (("cluster_list", 1, "vm_instance", 0, "numa", 0), "mem_mb"),
        (("cluster_list", 1), "vm_instance"),
        ((), "cluster_list"),
    ],
)
def test_missing_key(place, key):
    """A missing key is refused with the place that lacks it."""
    content = vmr2l_files.two_clusters()
    entry = content
    for step in place:
        entry = entry[step]
    del entry[key]
    message = refusal(content)
    assert f'"{key}" is a required property' in message
    written = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in place).lstrip(".")
    assert message.startswith(f"f.json: {written}")


@pytest.mark.parametrize("content", [None, [], "x", 3, {"cluster_list": {}}])
def test_not_a_cluster_file(content):
    """Other JSON is refused."""
    assert refusal(content).startswith("f.json: ")


def test_repeated_host():
    """A host id that occurs in two clusters is refused with both places."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][1]["host_info"][0]["node_id"] = "pm_0"
    assert refusal(content) == (
        "f.json: cluster_list[1].host_info[0].node_id: 'pm_0' is already at"
        " cluster_list[0].host_info[0].node_id"
    )


def test_repeated_instance():
    """An instance id that occurs in two clusters is refused with both places."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][1]["vm_instance"][1]["instance_id"] = "vm_1"
    assert refusal(content) == (
        "f.json: cluster_list[1].vm_instance[1].instance_id: 'vm_1' is already at"
        " cluster_list[0].vm_instance[1].instance_id"
    )


def test_unknown_host():
    """An instance on a host that no cluster has is refused."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][0]["vm_instance"][0]["host_id"] = "pm_9"
    assert refusal(content) == (
        "f.json: cluster_list[0].vm_instance[0].host_id: instance 'vm_0' is on unknown host 'pm_9'"
    )


def test_same_node_twice():
    """The two halves of an instance must be on two nodes."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][0]["vm_instance"][1]["numa"][1]["node"] = 0
    assert refusal(content) == (
        "f.json: cluster_list[0].vm_instance[1].numa[1].node: instance 'vm_1' lists node 0 twice"
    )


def test_unknown_node():
    """An instance on a node that its host does not have is refused."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][0]["vm_instance"][0]["numa"][0]["node"] = 2
    assert "is on node 2, which host 'pm_0' does not have" in refusal(content)


def test_host_lists_node_twice():
    """A host's nodes have different numbers."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][0]["host_info"][0]["numa"][1]["node"] = 0
    assert "host 'pm_0' lists node 0 twice" in refusal(content)


def test_unknown_member():
    """A host deployment set names instances of the file; a rack set is not looked into."""
    content = vmr2l_files.two_clusters()
    wrong = content["cluster_list"][0]["other_requirement"]["deployment_set"][0]
    wrong["data"][1] = "vm_9"
    wrong["granularity"] = "rack"
    assert any("ignored, a rack set" in line for line in vmr2l.convert(content, "f.json")[1])
    wrong["granularity"] = "host"
    assert refusal(content) == (
        "f.json: cluster_list[0].other_requirement.deployment_set[0].data[1]:"
        " unknown instance 'vm_9'"
    )


@pytest.mark.parametrize(("key", "value"), [("status", "BROKEN"), ("granularity", "zone")])
def test_unknown_word(key, value):
    """A status or granularity that the format does not have is refused, not guessed."""
    content = vmr2l_files.two_clusters()
    if key == "status":
        content["cluster_list"][0]["host_info"][0][key] = value
    else:
        content["cluster_list"][0]["other_requirement"]["deployment_set"][0][key] = value
    assert value in refusal(content)


def test_flavor_with_two_sizes():
    """A type whose instances differ in size is a flavor without resources."""
    content = vmr2l_files.two_clusters()
    content["cluster_list"][0]["vm_instance"][1]["instance_type"] = "c.4"
    assert converted(content)["flavors"] == [{"id": "c.4", "name": "c.4", "resources": {}}]


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([])


def paths(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value below its top."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        found.append((*here, key))
        if isinstance(child, (dict, list)):
            found += paths(child, (*here, key))
    return found


@given(st.sampled_from(paths(vmr2l_files.two_clusters())), JSON_VALUES)
def test_any_value_anywhere(path, value):
    """Whatever stands at any place, the file is converted to a sound snapshot or refused."""
    content = copy.deepcopy(vmr2l_files.two_clusters())
    entry = content
    for step in path[:-1]:
        entry = entry[step]
    entry[path[-1]] = value
    try:
        snapshot, _ = vmr2l.convert(content, "f.json")
    except exceptions.InputError as error:
        assert str(error).startswith("f.json: ") and "\n" not in str(error)
    else:
        assert document.problems(snapshot) == []

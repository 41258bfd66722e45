# SPDX-License-Identifier: Apache-2.0
"""An anonymised snapshot has no names and plans like the original."""

import copy
import json
from typing import Any

import numpy as np
import pytest

from nova_rebalancer.collect import anonymise
from nova_rebalancer.collect import document
from nova_rebalancer.collect import vmr2l
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from tests.unit.collect import vmr2l_files


def everything() -> dict[str, Any]:
    """A snapshot with every key of the format; what must not be seen contains SECRET."""
    hosts = []
    for name in ("SECRET-a", "SECRET-b"):
        hosts.append(
            {
                "id": name,
                "service_host": f"{name}.example.org",
                "hypervisor_hostname": f"{name}.hypervisor",
                "az": "SECRET-zone",
                "status": "enabled",
                "state": "up",
                "disabled_reason": "SECRET works by Anna",
                "traits": ["HW_CPU_X86_AVX2", "CUSTOM_SECRET_RACK"],
                "inventories": {
                    "PCPU": {"total": 32, "reserved": 2, "max_unit": 32},
                    "MEMORY_MB": {"total": 65536, "allocation_ratio": 1.5},
                    "CUSTOM_SECRET_LICENCE": {"total": 3},
                },
                "shared": {"DISK_GB": "SECRET-pool", "CUSTOM_SECRET_IOPS": "SECRET-pool"},
                "numa": {
                    "provenance": "operator",
                    "cells": [{"id": 0, "capacity": {"PCPU": 30, "CUSTOM_SECRET_LICENCE": 3}}],
                },
                "rack": {"provenance": "operator", "value": "SECRET-rack"},
                "cell": {"provenance": "unknown", "value": None},
            }
        )
    instances = [
        {
            "id": f"SECRET-i{i}",
            "name": "SECRET-web",
            "project": "SECRET-project",
            "flavor": "SECRET.large",
            "host": "SECRET-a",
            "status": "ACTIVE",
            "task_state": None,
            "locked": bool(i),
            "allow_migration": True,
            "allowed_hosts": ["SECRET-b", "SECRET-a"],
            "allocations": {"PCPU": 4, "MEMORY_MB": 2048, "CUSTOM_SECRET_LICENCE": 1},
            "numa": [{"cell": 0, "resources": {"PCPU": 4, "CUSTOM_SECRET_LICENCE": 1}}],
            "usage": {"PCPU": {"mean": 0.5, "window_s": 60, "age_s": 5}},
            "metadata": {"owner": "SECRET"},
            "tags": ["SECRET"],
            "launched_at": "2025-01-01T00:00:00Z",
        }
        for i in range(2)
    ]
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "SECRET-cloud",
        "region": "SECRET-region",
        "taken_at": "2025-02-01T00:00:00Z",
        "numa_choice": "nova",
        "hosts": hosts,
        "pools": [
            {
                "id": "SECRET-pool",
                "inventories": {"DISK_GB": {"total": 9}, "CUSTOM_SECRET_IOPS": {"total": 8}},
            }
        ],
        "flavors": [
            {
                "id": "SECRET-f",
                "name": "SECRET.large",
                "resources": {"PCPU": 4},
                "extra_specs": {"hw:cpu_policy": "dedicated", "SECRET:key": "SECRET"},
            }
        ],
        "instances": instances,
        "server_groups": [
            {
                "id": "SECRET-g",
                "name": "SECRET-group",
                "project": "SECRET-project",
                "policy": "anti-affinity",
                "max_server_per_host": 2,
                "members": ["SECRET-i1", "SECRET-i0"],
            }
        ],
        "aggregates": [
            {"name": "SECRET-agg", "hosts": ["SECRET-b"], "metadata": {"SECRET": "SECRET"}}
        ],
        "running_migrations": [
            {
                "instance": "SECRET-i1",
                "source": "SECRET-a",
                "dest": "SECRET-b",
                "status": "running",
            }
        ],
        "missing": [{"what": "SECRET service", "reason": "SECRET timed out"}],
        "meta": {"SECRET": "SECRET"},
    }


KEYS = pytest.mark.parametrize("key", [None, b"a secret"])


@KEYS
def test_nothing_is_left(key):
    """Not one of the names, in any case, is left at any place; the result is sound."""
    result = anonymise.anonymise(everything(), key)
    assert "secret" not in json.dumps(result).lower()
    assert document.problems(result) == []


def test_everything_uses_the_whole_format():
    """The example has every key of the schema, so a new key needs a decision here."""
    from nova_rebalancer.model import schema

    example = everything()
    assert document.problems(example) == []
    parts = schema_parts(schema)
    assert set(example) == parts["snapshot"]
    for name, item in (
        ("host", example["hosts"][0]),
        ("instance", example["instances"][0]),
        ("flavor", example["flavors"][0]),
        ("server_group", example["server_groups"][0]),
        ("aggregate", example["aggregates"][0]),
        ("pool", example["pools"][0]),
        ("running_migration", example["running_migrations"][0]),
        ("missing", example["missing"][0]),
    ):
        assert set(item) == parts[name]


def schema_parts(schema: Any) -> dict[str, set[str]]:
    """Keys of each part of the published schema."""
    import importlib.resources

    text = importlib.resources.files("nova_rebalancer.model").joinpath(
        f"schemas/{schema.SNAPSHOT}.json"
    )
    published = json.loads(text.read_text())
    parts = {
        name: set(part["properties"])
        for name, part in published["$defs"].items()
        if "properties" in part
    }
    return {**parts, "snapshot": set(published["properties"])}


def test_pseudonyms():
    """Names are numbered in the order they occur and are the same at all their places."""
    result = anonymise.anonymise(everything())
    assert [host["id"] for host in result["hosts"]] == ["host-0001", "host-0002"]
    assert result["instances"][0]["allowed_hosts"] == ["host-0002", "host-0001"]
    assert result["server_groups"][0]["members"] == ["instance-0002", "instance-0001"]
    assert result["running_migrations"][0]["dest"] == "host-0002"
    assert result["instances"][0]["flavor"] == result["flavors"][0]["name"]
    assert result["instances"][0]["project"] == result["server_groups"][0]["project"]
    (custom,) = set(result["hosts"][0]["inventories"]) - {"PCPU", "MEMORY_MB"}
    assert custom in result["instances"][0]["allocations"]
    assert custom in result["instances"][0]["numa"][0]["resources"]


def test_what_stays():
    """Amounts, states, policies and times stay; only five extra specs do."""
    result = anonymise.anonymise(everything())
    host, instance = result["hosts"][0], result["instances"][1]
    assert host["inventories"]["PCPU"] == {"total": 32, "reserved": 2, "max_unit": 32}
    assert host["traits"][0] == "HW_CPU_X86_AVX2"
    assert (instance["locked"], instance["launched_at"]) == (True, "2025-01-01T00:00:00Z")
    assert instance["usage"]["PCPU"]["mean"] == 0.5
    assert result["flavors"][0]["extra_specs"] == {"hw:cpu_policy": "dedicated"}
    assert result["server_groups"][0]["max_server_per_host"] == 2


def test_key():
    """With a key a name has the same pseudonym in every snapshot, with another key another."""
    other = everything()
    other["hosts"].reverse()
    first = anonymise.anonymise(everything(), b"k")["hosts"]
    assert anonymise.anonymise(other, b"k")["hosts"] == first[::-1]
    assert anonymise.anonymise(everything(), b"l")["hosts"][0]["id"] != first[0]["id"]


def test_source_is_not_changed():
    """The given document is left as it was."""
    given = everything()
    before = copy.deepcopy(given)
    anonymise.anonymise(given)
    assert given == before


@KEYS
def test_same_arrays(key):
    """The planner sees the same arrays, so its plans are as good."""
    original, _ = vmr2l.convert(vmr2l_files.two_clusters(), "f.json")
    placements = []
    for snapshot in (original, anonymise.anonymise(original, key)):
        data = json.dumps(snapshot).encode()
        placements.append(state.build(document.loads(data, "f")[0]))
    a, b = placements
    for name in ("capacity", "row_of", "demand", "host_of", "cells_of", "allowed", "movable"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert [group.members for group in a.groups] == [group.members for group in b.groups]
    goal = fragmentation.Fragmentation(16)
    assert goal.evaluate(a) == goal.evaluate(b)

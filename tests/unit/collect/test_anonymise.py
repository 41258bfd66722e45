# SPDX-License-Identifier: Apache-2.0
"""An anonymised snapshot has no names and plans like the original."""

import copy
import dataclasses
import json
from typing import Any

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from nova_rebalancer import controller
from nova_rebalancer.collect import anonymise
from nova_rebalancer.collect import document
from nova_rebalancer.collect import vmr2l
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import base
from tests import clouds
from tests.unit.collect import vmr2l_files


def everything() -> dict[str, Any]:
    """A snapshot with every key of the format; what must not be seen contains SECRET.

    A plan exists, too: on a, i2 and i3 (2 cores each) may move, and 30 - 12 cores are free, on b
    30; of both 2 are fragments of 4, and none if one of them moves.  c was not read whole.
    """
    hosts = []
    for name in ("SECRET-a", "SECRET-b", "SECRET-c"):
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
                    "CUSTOM_SECRET_LICENCE": {"total": 9},
                },
                "shared": {"DISK_GB": "SECRET-pool", "CUSTOM_SECRET_IOPS": "SECRET-pool"},
                "numa": {
                    "provenance": "operator",
                    "cells": [{"id": 0, "capacity": {"PCPU": 30, "CUSTOM_SECRET_LICENCE": 9}}],
                },
                "rack": {"provenance": "operator", "value": "SECRET-rack"},
                "cell": {"provenance": "unknown", "value": None},
                "power_zone": {"provenance": "operator", "value": "SECRET-zone-7"},
                "migration_link": {"provenance": "operator", "value": "SECRET-link"},
                "migration_mibps": {"provenance": "operator", "value": "1250.5"},
                "forced_down": False,
                "hypervisor_type": "QEMU",
                "hypervisor_version": 8002000,
                "cpu_info": {
                    "vendor": "Intel",
                    "model": "Cascadelake-Server",
                    "arch": "x86_64",
                    "features": ["SECRET"],
                    "topology": {"SECRET": 2},
                },
                "providers": [
                    {
                        "id": f"{name}-gpu",
                        "name": f"{name}_pci_0000_SECRET",
                        "parent": name,
                        "inventories": {"VGPU": {"total": 4}, "CUSTOM_SECRET_GPU": {"total": 2}},
                        "traits": ["HW_GPU_API_VULKAN", "CUSTOM_SECRET_GPU"],
                    },
                    {
                        "id": f"{name}-part",
                        "name": f"{name}_part",
                        "parent": f"{name}-gpu",
                        "inventories": {},
                    },
                ],
                "held": [
                    {
                        "consumer": "SECRET-away",
                        "why": "elsewhere",
                        "resources": {"PCPU": 2, "CUSTOM_SECRET_LICENCE": 1},
                    },
                    {"consumer": "SECRET-m", "why": "migration", "resources": {"PCPU": 1}},
                    {"consumer": "SECRET-x", "why": "unknown", "resources": {"DISK_GB": 1}},
                ],
            }
        )
    hosts[1]["migration_mibps"] = {"provenance": "operator", "value": "SECRET, but fast"}
    # i2 and i3 take half of what the others take.
    sizes = [4, 4, 2, 2]
    instances = [
        {
            "id": f"SECRET-i{i}",
            "name": "SECRET-web",
            "project": "SECRET-project",
            "flavor": "SECRET.large",
            "host": "SECRET-a",
            "status": "ACTIVE",
            "task_state": None,
            "vm_state": "active",
            "power_state": 1,
            "locked": i == 1,
            "locked_reason": "SECRET, ask Anna",
            "allow_migration": True,
            "allowed_hosts": ["SECRET-b", "SECRET-a"],
            "allocations": {"PCPU": size, "MEMORY_MB": 2048, "CUSTOM_SECRET_LICENCE": 1},
            "nested": {} if i > 1 else {"SECRET-a-gpu": {"VGPU": 1, "CUSTOM_SECRET_GPU": 1}},
            "numa": [{"cell": 0, "resources": {"PCPU": size, "CUSTOM_SECRET_LICENCE": 1}}],
            "usage": {"PCPU": {"mean": 0.5, "window_s": 60, "age_s": 5}},
            "metadata": {"owner": "SECRET"},
            "tags": ["SECRET"],
            "launched_at": "2025-01-01T00:00:00Z",
            "updated_at": "2025-01-02T00:00:00Z",
            "pinned_az": "SECRET-zone",
            "image": {
                "id": "SECRET-image",
                "properties": {"hw_cpu_policy": "dedicated", "hw_secret": "SECRET"},
            },
            "extra_specs": {"hw:cpu_policy": "dedicated", "SECRET:key": "SECRET"},
            "scheduler_hints": {"group": "SECRET-g", "SECRET": ["SECRET"]},
            "volumes": ["SECRET-volume", f"SECRET-volume-{i}"],
            "vnic_types": [],
        }
        for i, size in enumerate(sizes)
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
                "members": ["SECRET-i1", "SECRET-i0", "SECRET-away"],
            }
        ],
        "aggregates": [
            {
                "id": "SECRET-7",
                "name": "SECRET-agg",
                "hosts": ["SECRET-b"],
                "metadata": {"SECRET": "SECRET"},
            }
        ],
        "running_migrations": [
            {
                "instance": "SECRET-i1",
                "source": "SECRET-a",
                "dest": "SECRET-b",
                "status": "running",
                "id": "SECRET-m",
                "type": "live-migration",
                "far_allocations": {"PCPU": 4, "CUSTOM_SECRET_LICENCE": 1},
            },
            {"instance": "SECRET-i0", "source": "SECRET-a", "dest": None},
        ],
        "outside": [
            {
                "id": "SECRET-away",
                "name": "SECRET-mail",
                "project": "SECRET-project",
                "status": "ERROR",
                "task_state": None,
                "host": "SECRET-ironic",
                "reason": "host_refused",
            }
        ],
        "refused": [{"host": "SECRET-ironic", "reason": "SECRET bare metal"}],
        "missing": [
            {"what": "SECRET service", "reason": "SECRET timed out", "hosts": ["SECRET-c"]}
        ],
        "collected": {"SECRET": "SECRET", "requests": {"SECRET": 20}},
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
        ("outside", example["outside"][0]),
        ("refused", example["refused"][0]),
        ("provider", example["hosts"][0]["providers"][0]),
        ("held", example["hosts"][0]["held"][0]),
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
    assert [host["id"] for host in result["hosts"]] == ["host-0001", "host-0002", "host-0003"]
    assert result["instances"][0]["allowed_hosts"] == ["host-0002", "host-0001"]
    away = result["outside"][0]["id"]
    assert result["server_groups"][0]["members"] == [
        result["instances"][1]["id"],
        result["instances"][0]["id"],
        away,
    ]
    assert result["running_migrations"][0]["dest"] == "host-0002"
    assert result["instances"][0]["flavor"] == result["flavors"][0]["name"]
    assert result["instances"][0]["project"] == result["server_groups"][0]["project"]
    (custom,) = set(result["hosts"][0]["inventories"]) - {"PCPU", "MEMORY_MB"}
    assert custom in result["instances"][0]["allocations"]
    assert custom in result["instances"][0]["numa"][0]["resources"]
    assert custom in result["running_migrations"][0]["far_allocations"]
    host, running = result["hosts"][0], result["running_migrations"][0]
    assert [held["consumer"] for held in host["held"]] == [away, running["id"], "consumer-0001"]
    assert custom in host["held"][0]["resources"]
    gpu, part = host["providers"]
    assert (gpu["parent"], part["parent"]) == (host["id"], gpu["id"])
    assert list(result["instances"][0]["nested"]) == [gpu["id"]]
    assert set(result["instances"][0]["nested"][gpu["id"]]) == set(gpu["inventories"])
    assert result["instances"][0]["pinned_az"] == host["az"]
    assert result["outside"][0]["project"] == result["instances"][0]["project"]
    assert result["outside"][0]["host"] == result["refused"][0]["host"]
    assert result["missing"][0]["hosts"] == [result["hosts"][2]["id"]]
    assert result["running_migrations"][1]["dest"] is None
    first, second = (instance["volumes"] for instance in result["instances"][:2])
    assert (first[0] == second[0], first[1] == second[1]) == (True, False)


def test_what_stays():
    """Amounts, states, policies and times stay; few extra specs and image properties do."""
    result = anonymise.anonymise(everything())
    host, instance = result["hosts"][0], result["instances"][1]
    assert host["inventories"]["PCPU"] == {"total": 32, "reserved": 2, "max_unit": 32}
    assert host["traits"][0] == "HW_CPU_X86_AVX2"
    assert (instance["locked"], instance["launched_at"]) == (True, "2025-01-01T00:00:00Z")
    assert instance["usage"]["PCPU"]["mean"] == 0.5
    assert result["flavors"][0]["extra_specs"] == {"hw:cpu_policy": "dedicated"}
    assert result["server_groups"][0]["max_server_per_host"] == 2
    assert host["cpu_info"] == {
        "vendor": "Intel",
        "model": "Cascadelake-Server",
        "arch": "x86_64",
    }
    assert (host["hypervisor_type"], host["hypervisor_version"]) == ("QEMU", 8002000)
    assert [one["migration_mibps"]["value"] for one in result["hosts"]] == [
        "1250.5",
        None,
        "1250.5",
    ]
    assert [held["why"] for held in host["held"]] == ["elsewhere", "migration", "unknown"]
    assert host["held"][0]["resources"]["PCPU"] == 2
    assert instance["extra_specs"] == {"hw:cpu_policy": "dedicated"}
    assert instance["image"]["properties"] == {"hw_cpu_policy": "dedicated"}
    assert (instance["updated_at"], instance["vnic_types"]) == ("2025-01-02T00:00:00Z", [])
    assert (instance["vm_state"], instance["power_state"]) == ("active", 1)
    assert result["outside"][0]["reason"] == "host_refused"
    assert result["running_migrations"][0]["type"] == "live-migration"
    assert "collected" not in result


def test_unknown_stays_unknown():
    """What the original leaves open, null or absent, is not made up."""
    given = everything()
    given["instances"][0].update(image={"id": None, "properties": {}}, vnic_types=None)
    del given["instances"][1]["image"]
    given["missing"] = [{"what": "SECRET", "reason": "SECRET"}]
    result = anonymise.anonymise(given)
    assert document.problems(result) == []
    assert result["instances"][0]["image"]["id"] is None
    assert result["instances"][0]["vnic_types"] is None
    assert "image" not in result["instances"][1]
    assert "hosts" not in result["missing"][0]
    assert "far_allocations" not in result["running_migrations"][1]


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
    assert_same_arrays(original, anonymise.anonymise(original, key))


@hypothesis.given(clouds.snapshots(4, 8), strategies.sampled_from([None, b"a secret"]))
def test_same_arrays_of_any_cloud(made, key):
    """So it is with whatever a cloud has, and the result is as sound as the original."""
    result = anonymise.anonymise(made, key)
    assert document.problems(result) == []
    assert_same_arrays(made, result)


def assert_same_arrays(original: dict[str, Any], result: dict[str, Any]) -> None:
    """Two snapshots are one to a planner, who knows no names."""
    a, b = (clouds.state_of(made) for made in (original, result))
    for field in dataclasses.fields(a):
        values = getattr(a, field.name), getattr(b, field.name)
        if isinstance(values[0], np.ndarray):
            np.testing.assert_array_equal(*values)
    assert [(group.limit, group.members, group.arriving) for group in a.groups] == [
        (group.limit, group.members, group.arriving) for group in b.groups
    ]
    assert [why.reason.code for why in a.excluded.values()] == [
        why.reason.code for why in b.excluded.values()
    ]
    goal = fragmentation.Fragmentation(16)
    assert goal.evaluate(a) == goal.evaluate(b)


@KEYS
@pytest.mark.parametrize("planner", ["greedy", "mip"])
@pytest.mark.parametrize("make", [everything, clouds.three_hosts, clouds.numa_doubles])
def test_same_plan(make, planner, key):
    """The plan moves the same instances over the same hosts, in the same order."""
    made = make()
    options = controller.Options(fragment_cores=clouds.CORES, planner=planner)
    plans = []
    for snapshot in (made, anonymise.anonymise(made, key)):
        facts, sha256 = document.loads(json.dumps(snapshot).encode(), "f")
        plans.append(controller.run(facts, sha256, options, base.Watch()))
    hops = [[migration.hop for migration in plan.path.migrations] for plan in plans]
    assert hops[0] == hops[1] != []
    assert plans[0].after == plans[1].after

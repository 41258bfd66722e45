# SPDX-License-Identifier: Apache-2.0
"""An anonymised snapshot has no names and plans like the original."""

from collections.abc import Sequence
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
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as constraints
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import base
from tests import clouds
from tests.unit.collect import vmr2l_files


def everything() -> dict[str, Any]:
    """A snapshot with every key of the format; what must not be seen contains SECRET.

    A plan exists, too: on a, i2 and i3 (2 cores each) may move, and 30 - 15 cores are free, on b
    29; of these 3 and 1 are fragments of 4.  c was not read whole, and d is for another project.
    """
    hosts = []
    for name in ("SECRET-a", "SECRET-b", "SECRET-c", "SECRET-d"):
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
                    "cells": [
                        {
                            "id": 0,
                            "capacity": {"PCPU": 30, "CUSTOM_SECRET_LICENCE": 9},
                            "detail": {
                                "shared_cpus": [],
                                "dedicated_cpus": list(range(2, 32)),
                                "siblings": [[cpu, cpu + 1] for cpu in range(2, 32, 2)],
                                "memory_mib": 65536,
                                "pages": {"4": 8388608, "2048": 16384},
                                "pci_devices": 0,
                            },
                        }
                    ],
                },
                "rack": {"provenance": "operator", "value": "SECRET-rack"},
                "cell": {"provenance": "unknown", "value": None},
                "power_zone": {"provenance": "operator", "value": "SECRET-zone-7"},
                "migration_link": {"provenance": "operator", "value": "SECRET-link"},
                "migration_mibps": {"provenance": "operator", "value": "1250.5"},
                "watts": [100.0, 180.5, 300.0],
                "inlet_c": 22.5,
                "forced_down": False,
                "hypervisor_type": "QEMU",
                "hypervisor_version": 8002000,
                "cpu_info": {
                    "vendor": "Intel",
                    "model": "Cascadelake-Server",
                    "arch": "x86_64",
                    "features": ["SECRET", "avx2"],
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
    # i2 and i3 take half of what the others take, which are under way and use GPUs.
    sizes = [4, 4, 2, 2]
    guest = {"PCPU": 2, "MEMORY_MB": 2048, "CUSTOM_SECRET_LICENCE": 1}
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
            "allowed_hosts": ["SECRET-b", "SECRET-a", "SECRET-d"],
            "allocations": {"PCPU": size, "MEMORY_MB": 2048, "CUSTOM_SECRET_LICENCE": 1},
            "nested": {} if i > 1 else {"SECRET-a-gpu": {"VGPU": 1, "CUSTOM_SECRET_GPU": 1}},
            "numa": None,
            "numa_pagesize_kib": None,
            "usage": {"PCPU": {"mean": 0.5, "window_s": 60, "age_s": 5}},
            "metadata": {"owner": "SECRET", "nova-rebalancer:allow-migration": "True"},
            "tags": ["SECRET", "nova-rebalancer:move"],
            "launched_at": "2025-01-01T00:00:00Z",
            "updated_at": "2025-01-02T00:00:00Z",
            "pinned_az": "SECRET-zone",
            "image": {
                "id": "SECRET-image",
                "properties": {
                    "hw_cpu_policy": "dedicated",
                    "hw_secret": "SECRET",
                    "trait:CUSTOM_SECRET_RACK": "required",
                    "trait:SECRET": "SECRET",
                },
            },
            "extra_specs": {
                "hw:cpu_policy": "dedicated",
                "hw:mem_page_size": "2048",
                "SECRET:key": "SECRET",
                "trait_SECRET:HW_CPU_X86_AVX2": "required",
                "resources:CUSTOM_SECRET_LICENCE": "1",
                "trait:HW_SECRET_THING": "SECRET",
            }
            | ({} if i else {"pci_passthrough:alias": "SECRET:1", "hw:pmem": "SECRET"}),
            "scheduler_hints": {"group": "SECRET-g", "SECRET": ["SECRET"]}
            | ({} if i else {"same_host": ["SECRET-away"]}),
            "volumes": ["SECRET-volume", f"SECRET-volume-{i}"],
            "vnic_types": [],
        }
        for i, size in enumerate(sizes)
    ]
    for i in (2, 3):
        instances[i]["numa_pagesize_kib"] = 2048
        instances[i]["numa"] = [{"cell": 0, "resources": guest, "pinned": [2 * i, 2 * i + 1]}]
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "SECRET-cloud",
        "region": "SECRET-region",
        "taken_at": "2025-02-01T00:00:00Z",
        "numa_choice": "nova",
        "several_cells": False,
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
        "conflicts": [["SECRET-i1", "SECRET-i0"], ["SECRET-i0", "SECRET-away"]],
        "aggregates": [
            {
                "id": "SECRET-7",
                "name": "SECRET-agg",
                "hosts": ["SECRET-d"],
                "metadata": {"SECRET": "SECRET", "filter_tenant_id": "SECRET-other"},
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
    assert [host["id"] for host in result["hosts"]] == [f"host-000{h}" for h in range(1, 5)]
    assert result["instances"][0]["allowed_hosts"] == ["host-0002", "host-0001", "host-0004"]
    away = result["outside"][0]["id"]
    assert result["server_groups"][0]["members"] == [
        result["instances"][1]["id"],
        result["instances"][0]["id"],
        away,
    ]
    first, second = (instance["id"] for instance in result["instances"][:2])
    assert result["conflicts"] == [[second, first], [first, away]]
    assert result["running_migrations"][0]["dest"] == "host-0002"
    assert result["instances"][0]["flavor"] == result["flavors"][0]["name"]
    assert result["instances"][0]["project"] == result["server_groups"][0]["project"]
    (custom,) = set(result["hosts"][0]["inventories"]) - {"PCPU", "MEMORY_MB"}
    assert custom in result["instances"][0]["allocations"]
    assert custom in result["instances"][2]["numa"][0]["resources"]
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
    rack = host["traits"][1]
    assert result["instances"][0]["image"]["properties"][f"trait:{rack}"] == "required"
    assert result["instances"][0]["extra_specs"][f"resources:{custom}"] == "1"
    first, second = (instance["volumes"] for instance in result["instances"][:2])
    assert (first[0] == second[0], first[1] == second[1]) == (True, False)


def test_what_stays():
    """Amounts, states, policies, topologies and times stay; of what is asked for few words do."""
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
        "features": ["feature-0001", "feature-0002"],
    }
    assert (host["hypervisor_type"], host["hypervisor_version"]) == ("QEMU", 8002000)
    assert [one["migration_mibps"]["value"] for one in result["hosts"]] == [
        "1250.5",
        None,
        "1250.5",
        "1250.5",
    ]
    assert [held["why"] for held in host["held"]] == ["elsewhere", "migration", "unknown"]
    assert host["held"][0]["resources"]["PCPU"] == 2
    assert instance["extra_specs"] == {
        "hw:cpu_policy": "dedicated",
        "hw:mem_page_size": "2048",
        "trait_request-0001:HW_CPU_X86_AVX2": "required",
        "resources:CUSTOM_RESOURCE_0001": "1",
        "trait:CUSTOM_KEPT_OFF_0001": "forbidden",
    }
    assert instance["image"]["properties"] == {
        "hw_cpu_policy": "dedicated",
        "trait:CUSTOM_TRAIT_0001": "required",
    }
    assert [one["traits"][2:] for one in result["hosts"]] == [[], [], [], ["CUSTOM_KEPT_OFF_0001"]]
    assert instance["metadata"] == {"nova-rebalancer:allow-migration": "true"}
    assert instance["tags"] == ["nova-rebalancer:move"]
    assert instance["scheduler_hints"] == {}
    assert list(result["instances"][0]["scheduler_hints"]) == ["same_host"]
    assert (
        host["numa"]["cells"][0]["detail"] == everything()["hosts"][0]["numa"]["cells"][0]["detail"]
    )
    assert result["instances"][3]["numa"][0]["pinned"] == [6, 7]
    assert result["instances"][3]["numa_pagesize_kib"] == 2048
    assert result["several_cells"] is False
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


def test_unknown_topology_stays_unknown():
    """Cells without details, guests on unknown CPUs and CPUs without features stay without."""
    given = everything()
    given["hosts"][0]["numa"]["cells"][0]["detail"] = None
    given["hosts"][1]["numa"] = None
    del given["instances"][2]["numa"][0]["pinned"]
    given["instances"][3]["numa"][0]["pinned"] = None
    given["hosts"][0]["cpu_info"] = {}
    given["hosts"][1]["cpu_info"] = {"topology": {"SECRET": 2}, "model": ["SECRET"]}
    result = anonymise.anonymise(given)
    first, second = result["hosts"][:2]
    assert first["numa"]["cells"][0].get("detail") is None
    assert second.get("numa") is None
    assert "pinned" not in result["instances"][2]["numa"][0]
    assert result["instances"][3]["numa"][0]["pinned"] is None
    assert (first["cpu_info"], second["cpu_info"]) == ({}, {"model": "cpu-0001", "features": []})
    before, after = clouds.state_of(given), clouds.state_of(result)
    np.testing.assert_array_equal(before.allowed, after.allowed)
    assert codes(before) == codes(after)


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


def text_cloud(
    metadata: Sequence[dict[str, str]], instances: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Hosts a to d, each in an aggregate with metadata of its own, and instances on a."""
    hosts = [
        clouds.host(
            name,
            1 << 10,
            az="zone-1" if name < "d" else "zone-2",
            service_host=f"{name}.example.org",
            traits=[
                *["HW_CPU_X86_AVX2", "CUSTOM_DISK", "COMPUTE_NET_VIF_MODEL_E1000"][: 3 - h],
                *["HW_ARCH_X86_64"][: max(0, 2 - h)],
            ],
            hypervisor_type="QEMU",
            hypervisor_version=8002000 + h % 3,
            cpu_info={
                "arch": "x86_64",
                "features": ["avx", "sgx"],
                "maxphysaddr": {"mode": "emulate", "bits": 40 + 4 * h},
            },
        )
        for h, name in enumerate("abcd")
    ]
    aggregates = [
        {"name": f"of {host['id']}", "hosts": [host["id"]], "metadata": said}
        for host, said in zip(hosts, metadata, strict=True)
    ]
    running = [clouds.instance(f"i{v}", "a", 1, **one) for v, one in enumerate(instances)]
    return clouds.snapshot(hosts, running, aggregates=aggregates)


PLAIN: tuple[dict[str, str], ...] = ({}, {}, {}, {})


def asks(specs: dict[str, str]) -> dict[str, Any]:
    """What an instance of a flavor with extra specs has of it."""
    return {"extra_specs": specs}


def made_of(properties: dict[str, str]) -> dict[str, Any]:
    """What an instance of an image with properties has of it."""
    return {"image": {"id": "image", "properties": properties}}


@KEYS
@pytest.mark.parametrize(
    ("metadata", "instance"),
    [
        (PLAIN, {"metadata": {"nova-rebalancer:pin-hosts": "a.example.org, c.example.org"}}),
        (PLAIN, {"metadata": {"nova-rebalancer:ban-hosts": "b.example.org"}}),
        (({}, {"filter_tenant_id_x": "p, q"}, {}, {}), {"project": "other"}),
        (({}, {}, {"filter_tenant_id": "p"}, {}), {"project": "p"}),
        (({}, {"instance_type": "large"}, {}, {}), {"flavor": "small"}),
        (({}, {"os_distro": "x"}, {}, {}), made_of({"os_distro": "y"})),
        (({}, {"trait:CUSTOM_DISK": "required"}, {}, {}), {}),
        (({"ssd": "1"}, {"ssd": "1,2"}, {"ssd": "0"}, {}), asks({"ssd": ">= 1"})),
        (PLAIN, asks({"capabilities:cpu_info:features": "<in> sgx", "capabilities:host": "x"})),
        (PLAIN, asks({"hw:maxphysaddr_bits": "44"})),
        (PLAIN, made_of({"hw_maxphysaddr_bits": "48"})),
        (PLAIN, made_of({"img_hv_requested_version": "<=8.2.1"})),
        (PLAIN, made_of({"trait:CUSTOM_DISK": "required"})),
        (PLAIN, made_of({"hw_vif_model": "e1000"})),
        (PLAIN, made_of({"architecture": "x86-64"})),
        (PLAIN, asks({"trait:CUSTOM_DISK": "forbidden"})),
        (PLAIN, asks({"trait7:COMPUTE_NET_VIF_MODEL_E1000": "required"})),
        (PLAIN, asks({"trait:no trait at all": "required"})),
    ],
)
def test_text_keeps_its_effect(metadata, instance, key):
    """Text that keeps an instance off hosts keeps it off these when it is not there any more."""
    made = text_cloud(metadata, [instance, {}])
    assert not np.all(clouds.state_of(made).allowed[0, :3])
    assert_same_arrays(made, anonymise.anonymise(made, key))


TEXTS = {
    "specs": {
        "ssd": ["1", ">= 1", "<or> 1 <or> 2"],
        "aggregate_instance_extra_specs:net": ["s== fast", "<in> as"],
        "capabilities:cpu_info:arch": ["x86_64", "s!= x86_64"],
        "hw:maxphysaddr_bits": ["44"],
        "trait:CUSTOM_DISK": ["required", "forbidden"],
        "trait_more:HW_CPU_X86_AVX2": ["required"],
        "hw:cpu_thread_policy": ["isolate"],
        "pci_passthrough:alias": ["card:1"],
        "accel:device_profile": ["fpga"],
        "hw:pmem": ["small", ""],
        "hw:tpm_version": ["2.0"],
        "hw:mem_encryption": ["True", "no"],
        "note": ["anything"],
    },
    "properties": {
        "os_distro": ["debian", "fedora"],
        "trait:CUSTOM_DISK": ["required"],
        "hw_vif_model": ["e1000", "virtio"],
        "hw_architecture": ["x86_64"],
        "architecture": ["x86_64"],
        "img_hv_requested_version": [">=8.2.1", "<8"],
        "note": ["anything", "something"],
    },
    "metadata": {
        "nova-rebalancer:pin-hosts": ["a.example.org,b.example.org", " , "],
        "nova-rebalancer:ban-hosts": ["b.example.org", "nowhere"],
        "nova-rebalancer:allow-migration": [" True", "false"],
    },
    "scheduler_hints": {"same_host": [["i0"], []], "query": ["[]"], "group": ["g"]},
    "aggregate": {
        "filter_tenant_id": ["p", "p,q"],
        "filter_tenant_id_more": ["q"],
        "instance_type": ["large", "large, small"],
        "os_distro": ["debian"],
        "ssd": ["1", "2,3"],
        "net": ["fast", "slow"],
        "trait:CUSTOM_DISK": ["required"],
    },
}
"""What may be said of instances and aggregates, each with some values."""


def few(name: str) -> strategies.SearchStrategy[dict[str, Any]]:
    """Nothing or a little of what may be said."""
    one = strategies.sampled_from(sorted(TEXTS[name])).flatmap(
        lambda key: strategies.tuples(
            strategies.just(key), strategies.sampled_from(TEXTS[name][key])
        )
    )
    return strategies.lists(one, max_size=2).map(dict)


@strategies.composite
def text_clouds(draw: strategies.DrawFn) -> dict[str, Any]:
    """A cloud full of text."""
    instances = strategies.fixed_dictionaries(
        {
            "extra_specs": few("specs"),
            "image": few("properties").map(lambda said: {"id": None, "properties": said}),
            "metadata": few("metadata"),
            "scheduler_hints": few("scheduler_hints"),
            "tags": strategies.sampled_from([[], ["nova-rebalancer:move", "mine"]]),
            "project": strategies.sampled_from(["p", "q", None]),
            "flavor": strategies.sampled_from(["large", "small", None]),
            "pinned_az": strategies.sampled_from([None, "", "zone-1"]),
            "allowed_hosts": strategies.sampled_from([None, ["a", "b"]]),
        }
    )
    metadata = draw(strategies.lists(few("aggregate"), min_size=4, max_size=4))
    return text_cloud(metadata, draw(strategies.lists(instances, min_size=2, max_size=6)))


@hypothesis.given(
    text_clouds(),
    strategies.sampled_from([None, b"a secret"]),
    strategies.booleans(),
    strategies.sets(strategies.sampled_from(["keep_zone", "image_traits", "scheduler_hints"])),
)
def test_same_rules_in_a_cloud_full_of_text(made, key, opt_in, ignored):
    """Where anything may go, and what stays and why, is the same, whatever text decides it."""
    result = anonymise.anonymise(made, key)
    assert document.problems(result) == []
    options = constraints.Settings(opt_in=opt_in, ignored_rules=frozenset(ignored))
    assert_same_arrays(made, result, options)


def test_many_share_a_mark():
    """What keeps many kinds of instances off the same hosts is written at these once."""
    kinds = [{"flavor": f"flavor-{v}", "project": f"project-{v}"} for v in range(20)]
    made = text_cloud(({}, {"filter_tenant_id": "mine"}, {}, {}), kinds)
    result = anonymise.anonymise(made)
    assert [len(host["traits"]) for host in result["hosts"]] == [4, 4, 1, 0]


def codes(made: state.PlacementState) -> dict[int, str]:
    """Why each instance that stays does, in a word."""
    return {v: why.reason.code for v, why in made.excluded.items()}


def assert_same_arrays(
    original: dict[str, Any],
    result: dict[str, Any],
    settings: constraints.Settings = constraints.DEFAULTS,
) -> None:
    """Two snapshots are one to a planner, who knows no names."""
    a, b = (state.build(clouds.facts_of(made), settings) for made in (original, result))
    for field in dataclasses.fields(a):
        values = getattr(a, field.name), getattr(b, field.name)
        if isinstance(values[0], np.ndarray):
            np.testing.assert_array_equal(*values)
    assert [(group.limit, group.members, group.arriving) for group in a.groups] == [
        (group.limit, group.members, group.arriving) for group in b.groups
    ]
    assert codes(a) == codes(b)
    assert a.topologies == b.topologies
    goal = fragmentation.Fragmentation(16)
    assert goal.evaluate(a) == goal.evaluate(b)


@KEYS
@pytest.mark.parametrize("planner", ["greedy", "mip"])
@pytest.mark.parametrize("make", [everything, clouds.three_hosts, clouds.numa_doubles])
def test_same_plan(make, planner, key):
    """The plan moves the same instances over the same hosts, in the same order."""
    made = make()
    options = controller.Options(fragment_cores=(clouds.CORES,), planner=planner)
    plans = []
    for snapshot in (made, anonymise.anonymise(made, key)):
        facts, sha256 = document.loads(json.dumps(snapshot).encode(), "f")
        plans.append(controller.run(facts, sha256, options, base.Watch()))
    hops = [[migration.hop for migration in plan.path.migrations] for plan in plans]
    assert hops[0] == hops[1] != []
    assert plans[0].after == plans[1].after

# SPDX-License-Identifier: Apache-2.0
"""The VMR2L data-set format, read into our snapshot document.

VMR2L (Ding et al., EuroSys 2025, arXiv 2505.17359) publishes clusters as JSON: hosts of two NUMA
nodes with cores and huge-page memory, and instances whose demand is listed per node.  A core of
that format becomes one VCPU at an allocation ratio of 1.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import functools
import pathlib
from typing import Any

import jsonschema_rs

from nova_rebalancer import exceptions
from nova_rebalancer.model import schema

_AMOUNT = {"type": "integer", "minimum": 0, "maximum": 10**12}
_ID = {"type": "string", "minLength": 1}

# Only what is used.  In JSON Schema 16384.0 is an integer and 16384.5 is not, which is the rule
# wanted here: the published files write memory as floats.
_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["cluster_list"],
    "properties": {"cluster_list": {"type": "array", "items": {"$ref": "#/$defs/cluster"}}},
    "$defs": {
        "cluster": {
            "type": "object",
            "required": ["host_info", "vm_instance"],
            "properties": {
                "host_info": {"type": "array", "items": {"$ref": "#/$defs/host"}},
                "vm_instance": {"type": "array", "items": {"$ref": "#/$defs/instance"}},
                "other_requirement": {
                    "type": ["object", "null"],
                    "properties": {
                        "deployment_set": {
                            "type": ["array", "null"],
                            "items": {"$ref": "#/$defs/deployment_set"},
                        }
                    },
                },
            },
        },
        "host": {
            "type": "object",
            "required": ["node_id", "status", "node_cpu", "node_mem_mb", "numa"],
            "properties": {
                "node_id": _ID,
                "status": {"enum": ["ACTIVE", "DISABLED"]},
                "node_cpu": _AMOUNT,
                "node_mem_mb": _AMOUNT,
                "rack_id": {"type": ["integer", "string", "null"]},
                "numa": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["node", "total_cpu", "memory_huge_total_mb"],
                        "properties": {
                            "node": _AMOUNT,
                            "total_cpu": _AMOUNT,
                            "memory_huge_total_mb": _AMOUNT,
                        },
                    },
                },
            },
        },
        "instance": {
            "type": "object",
            "required": ["instance_id", "instance_type", "host_id", "numa", "allow_migration"],
            "properties": {
                "instance_id": _ID,
                "instance_type": {"type": "string"},
                "host_id": _ID,
                "allow_migration": {"type": "boolean"},
                "numa": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["node", "cpu", "mem_mb"],
                        "properties": {"node": _AMOUNT, "cpu": _AMOUNT, "mem_mb": _AMOUNT},
                    },
                },
            },
        },
        "deployment_set": {
            "type": "object",
            "required": ["granularity", "data"],
            "properties": {
                "granularity": {"enum": ["host", "rack"]},
                "data": {"type": "array", "items": _ID},
            },
        },
    },
}


def convert(document: Any, name: str) -> tuple[dict[str, Any], list[str]]:
    """Make a snapshot document of a parsed VMR2L file.

    All clusters of the file become one cloud, as in the source: an instance may go to any host.
    Ids stay as they are.  ``DISABLED`` hosts stay, disabled.  ``host`` deployment sets become
    hard anti-affinity groups named by their place, ``deployment-set-<cluster>-<set>``, both
    counted from 0.  The ``free_*`` figures are ignored: what the instances take decides.

    Parameters
    ----------
    document
        The parsed JSON.
    name
        Name of the file, for messages; its stem becomes the name of the cloud.

    Returns
    -------
    snapshot, warnings
        A dict in the format ``nova-rebalancer-snapshot/1``, and one line for each thing in the
        file that was left out.

    Raises
    ------
    exceptions.InputError
        With file, place and reason, for a missing, null, negative, fractional or wrongly typed
        value, an id that occurs twice, an instance on an unknown host or node or twice on one
        node, and a deployment set that names an unknown instance.
    """
    _check_shape(document, name)
    clusters = document["cluster_list"]
    cells = _cells_by_host(clusters, name)
    known = _checked_instances(clusters, cells, name)
    groups, warnings = _groups(clusters, known, name)
    meta: dict[str, Any] = {"converted_from": "vmr2l"}
    if isinstance(document.get("meta"), dict):
        meta["source"] = document["meta"]
    snapshot = {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": _stem(name),
        "region": None,
        # The format has no clock.  A fixed time keeps the conversion reproducible.
        "taken_at": "1970-01-01T00:00:00Z",
        "numa_choice": "planner",
        "hosts": [_host(host) for _, host in _each(clusters, "host_info")],
        "flavors": _flavors(instance for _, instance in _each(clusters, "vm_instance")),
        "instances": [_instance(instance) for _, instance in _each(clusters, "vm_instance")],
        "server_groups": groups,
        "meta": meta,
    }
    return snapshot, warnings


@functools.cache
def _validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(_SCHEMA)


def _check_shape(document: Any, name: str) -> None:
    error = next(_validator().iter_errors(document), None)
    if error is None:
        return
    place = schema.place(error.instance_path)
    raise exceptions.InputError(f"{name}: {place}: {_one_line(error.message)}")


def _one_line(message: str, limit: int = 200) -> str:
    message = " ".join(message.split())
    # The validator quotes the whole offending value, which may be half the file.
    return message if len(message) <= limit else f"...{message[-limit:]}"


def _stem(name: str) -> str:
    stem = pathlib.PurePath(name).name
    for ending in (".gz", ".json"):
        stem = stem.removesuffix(ending)
    return stem if stem and stem != "-" else "vmr2l"


def _each(clusters: list[dict[str, Any]], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of all clusters, each with its place in the file."""
    for c, cluster in enumerate(clusters):
        for i, entry in enumerate(cluster[key]):
            yield f"cluster_list[{c}].{key}[{i}]", entry


def _cells_by_host(clusters: list[dict[str, Any]], name: str) -> dict[str, set[int]]:
    places: dict[str, str] = {}
    cells: dict[str, set[int]] = {}
    for place, host in _each(clusters, "host_info"):
        _once(host["node_id"], f"{place}.node_id", places, name)
        nodes = cells.setdefault(host["node_id"], set())
        for n, cell in enumerate(host["numa"]):
            if int(cell["node"]) in nodes:
                raise exceptions.InputError(
                    f"{name}: {place}.numa[{n}].node: host {host['node_id']!r} lists node"
                    f" {int(cell['node'])} twice"
                )
            nodes.add(int(cell["node"]))
    return cells


def _checked_instances(
    clusters: list[dict[str, Any]], cells: dict[str, set[int]], name: str
) -> set[str]:
    places: dict[str, str] = {}
    for place, instance in _each(clusters, "vm_instance"):
        instance_id, host_id = instance["instance_id"], instance["host_id"]
        _once(instance_id, f"{place}.instance_id", places, name)
        if host_id not in cells:
            raise exceptions.InputError(
                f"{name}: {place}.host_id: instance {instance_id!r} is on unknown host {host_id!r}"
            )
        used: set[int] = set()
        for n, guest in enumerate(instance["numa"]):
            node = int(guest["node"])
            problem = None
            if node not in cells[host_id]:
                problem = f"is on node {node}, which host {host_id!r} does not have"
            elif node in used:
                problem = f"lists node {node} twice"
            if problem:
                raise exceptions.InputError(
                    f"{name}: {place}.numa[{n}].node: instance {instance_id!r} {problem}"
                )
            used.add(node)
    return set(places)


def _once(key: str, place: str, places: dict[str, str], name: str) -> None:
    if key in places:
        raise exceptions.InputError(f"{name}: {place}: {key!r} is already at {places[key]}")
    places[key] = place


def _groups(
    clusters: list[dict[str, Any]], known: set[str], name: str
) -> tuple[list[dict[str, Any]], list[str]]:
    groups: list[dict[str, Any]] = []
    warnings: list[str] = []
    for c, cluster in enumerate(clusters):
        sets = (cluster.get("other_requirement") or {}).get("deployment_set") or []
        for s, entry in enumerate(sets):
            place = f"cluster_list[{c}].other_requirement.deployment_set[{s}]"
            if entry["granularity"] == "rack":
                warnings.append(
                    f"{name}: {place}: ignored, a rack set of {len(entry['data'])} instances"
                    " has no counterpart here"
                )
                continue
            for m, member in enumerate(entry["data"]):
                if member not in known:
                    raise exceptions.InputError(
                        f"{name}: {place}.data[{m}]: unknown instance {member!r}"
                    )
            groups.append(
                {
                    "id": f"deployment-set-{c}-{s}",
                    "policy": "anti-affinity",
                    "max_server_per_host": 1,
                    "members": list(dict.fromkeys(entry["data"])),
                }
            )
    return groups, warnings


def _host(host: dict[str, Any]) -> dict[str, Any]:
    disabled = host["status"] == "DISABLED"
    cells = [
        {
            "id": int(cell["node"]),
            "capacity": {
                "VCPU": int(cell["total_cpu"]),
                "MEMORY_MB": int(cell["memory_huge_total_mb"]),
            },
        }
        for cell in host["numa"]
    ]
    rack = host.get("rack_id")
    return {
        "id": host["node_id"],
        "status": "disabled" if disabled else "enabled",
        "disabled_reason": "DISABLED in the source file" if disabled else None,
        "inventories": {
            "VCPU": {"total": int(host["node_cpu"]), "allocation_ratio": 1.0},
            "MEMORY_MB": {"total": int(host["node_mem_mb"]), "allocation_ratio": 1.0},
        },
        "numa": {"provenance": "operator", "cells": cells} if cells else None,
        "rack": None if rack is None else {"provenance": "operator", "value": str(rack)},
    }


def _instance(instance: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": instance["instance_id"],
        "flavor": instance["instance_type"],
        "host": instance["host_id"],
        "allow_migration": instance["allow_migration"],
        "allocations": _allocations(instance),
        "numa": [
            {
                "cell": int(guest["node"]),
                "resources": {"VCPU": int(guest["cpu"]), "MEMORY_MB": int(guest["mem_mb"])},
            }
            for guest in instance["numa"]
        ],
    }


def _allocations(instance: dict[str, Any]) -> dict[str, int]:
    return {
        "VCPU": sum(int(guest["cpu"]) for guest in instance["numa"]),
        "MEMORY_MB": sum(int(guest["mem_mb"]) for guest in instance["numa"]),
    }


def _flavors(instances: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flavor per type name; without resources where its instances do not agree on them."""
    resources: dict[str, dict[str, int]] = {}
    for instance in instances:
        allocations = _allocations(instance)
        if resources.setdefault(instance["instance_type"], allocations) != allocations:
            resources[instance["instance_type"]] = {}
    # A flavor's id may not be empty; a type name may, and is then no flavor.
    return [{"id": name, "name": name, "resources": resources[name]} for name in resources if name]

# SPDX-License-Identifier: Apache-2.0
"""Files of path-finding cases, read as small clouds."""

from collections.abc import Mapping
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import question

FORMAT = "nova-rebalancer-path/1"


def read(data: bytes, name: str) -> list[question.Question]:
    """Return the questions of the file of cases ``data``; errors call it ``name``.

    Raises
    ------
    InputError
        If it is not a sound file of cases.
    """
    where: list[str | int] = []
    try:
        document, sha256 = documents.decode(data)
        documents.conform(document, FORMAT, "path-1.json")
        assert isinstance(document, dict)
        found: dict[str, question.Question] = {}
        for i, entry in enumerate(document["instances"]):
            where = ["instances", i]
            if entry["id"] in found:
                raise documents.Malformed(["id"], f'"{entry["id"]}" is the id of two cases')
            found[entry["id"]] = _question(entry, sha256)
        return list(found.values())
    except documents.Malformed as error:
        place = documents.Malformed([*where, *error.path], error.reason)
        raise exceptions.InputError(f"{name}: {' '.join(str(place).split())}") from error


def _question(entry: Mapping[str, Any], sha256: str) -> question.Question:
    _check_lengths(entry)
    cloud = facts.of(_snapshot(entry), sha256)
    placements = {}
    for key in ("initial", "final"):
        for vm, host in entry[key].items():
            if vm not in cloud.instances or host not in cloud.hosts:
                raise documents.Malformed([key, vm], f'no such VM, or no host "{host}"')
            allowed = cloud.instances[vm].allowed
            if allowed is not None and host not in allowed:
                raise documents.Malformed([key, vm], f'"{host}" is not in its allowed_hosts')
        missing = sorted(cloud.instances.keys() - entry[key].keys())
        if missing:
            raise documents.Malformed([key], f'VM "{missing[0]}" has no host')
        placements[key] = {vm: facts.Place(host, None) for vm, host in entry[key].items()}
        for limit, charged in facts.load(cloud, placements[key]).items():
            most = facts.capacity(cloud, limit)
            if charged > most:
                what = facts.describe(cloud, limit)
                raise documents.Malformed([key], f"{what} is charged {charged} of {most}")
    return question.Question(
        entry["id"],
        cloud,
        placements["final"],
        costs={vm["name"]: int(vm["cost"]) for vm in entry["vms"]},
        move_s=1.0,
        known=entry.get("known", {}),
    )


def _check_lengths(entry: Mapping[str, Any]) -> None:
    """Refuse lists that do not fit each other, and names that occur twice."""
    resources = entry["resources"]
    if len(set(resources)) < len(resources):
        raise documents.Malformed(["resources"], f"{resources} has one twice")
    for key, amounts in (("hosts", "capacity"), ("vms", "demand")):
        for i, one in enumerate(entry[key]):
            if len(one[amounts]) != len(resources):
                raise documents.Malformed(
                    [key, i, amounts], f"{len(one[amounts])} amounts of {len(resources)} resources"
                )
    for i, vm in enumerate(entry["vms"]):
        if vm["name"] not in entry["initial"]:
            raise documents.Malformed(["vms", i], f'VM "{vm["name"]}" has no initial host')


def _snapshot(entry: Mapping[str, Any]) -> documents.Document:
    """Return the case as a snapshot document."""
    resources = entry["resources"]
    return {
        "cloud": entry["id"],
        "numa_choice": "planner",
        "hosts": [
            {
                "id": host["name"],
                "inventories": {
                    resource: {"total": int(amount)}
                    for resource, amount in zip(resources, host["capacity"], strict=True)
                },
            }
            for host in entry["hosts"]
        ],
        "instances": [
            {
                "id": vm["name"],
                "host": entry["initial"][vm["name"]],
                "allocations": dict(zip(resources, vm["demand"], strict=True)),
                "allowed_hosts": vm.get("allowed_hosts"),
            }
            for vm in entry["vms"]
        ],
        "server_groups": [
            {"id": f"anti_affinity[{g}]", "policy": "anti-affinity", "members": group}
            for g, group in enumerate(entry.get("anti_affinity", ()))
        ],
    }

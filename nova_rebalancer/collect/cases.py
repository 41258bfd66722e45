# SPDX-License-Identifier: Apache-2.0
"""Files of cases for the path-finder: small clouds, each with a placement and a target.

The format, ``nova-rebalancer-path/1``, has nothing but what decides about a path: hosts with
capacities, instances ("vms") with demands and a cost, where they are and where they should be.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from nova_rebalancer import exceptions
from nova_rebalancer.collect import files
from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import schema
from nova_rebalancer.model import state

FORMAT = "nova-rebalancer-path/1"

MOVE_S = 1.0
"""How long every migration of a case takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Costs:
    """The price of each instance's migrations, (V,), as the case has it; all take MOVE_S."""

    of: tuple[int, ...]

    def cost(self, start: state.PlacementState, v: int) -> float:
        """Return the price of moving instance ``v`` once."""
        return float(self.of[v])

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """Return MOVE_S."""
        return MOVE_S


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One question: how do the instances of ``start`` come to ``host_of`` (V,)?

    ``cells_of`` (V, 0) is there for whoever asks: cases have no NUMA cells.
    """

    id: str
    start: state.PlacementState
    host_of: arrays.Ints
    cells_of: arrays.Ints
    costs: Costs


def load(path: str) -> list[Case]:
    """Read the cases in the file ``path``, gzip or not, in their order.

    Raises
    ------
    InputError
        With the file, the case and the place in it, if the file cannot be read, breaks the
        schema, names what is not there or twice, or has a placement that is not sane.
    """
    document = files.parse_json(files.read_bytes(path), path)
    found = problems(document, 1)
    if found:
        raise exceptions.InputError(f"{path}: {found[0]}")
    return [_case(item) for item in document["instances"]]


def problems(document: Any, limit: int = 10) -> list[str]:
    """Say what keeps ``document`` from being a sound file of cases, at most ``limit`` lines."""
    if not isinstance(document, dict):
        return ["the document: not a JSON object"]
    if document.get("format") != FORMAT:
        return [f'format: {document.get("format")!r} is not "{FORMAT}"']
    found = schema.problems(schema.CASES, document, limit, _named(document))
    if found:
        return found
    result = []
    for text in _meaning_problems(document["instances"]):
        # Names may hold line breaks.
        result.append(" ".join(text.split()))
        if len(result) == limit:
            break
    return result


def _named(document: Mapping[str, Any]) -> schema.Place:
    """Return what writes a place with the id of its case: ``instances[3] "P003": vms[2]``."""

    def write(path: list[str | int]) -> str:
        if path[:1] != ["instances"] or len(path) < 2:
            return schema.place(path)
        item = document["instances"][path[1]]
        name = item.get("id") if isinstance(item, dict) else None
        where = schema.place(path[:2]) + (f' "{name}"' if isinstance(name, str) else "")
        return f"{where}: {schema.place(path[2:])}" if len(path) > 2 else where

    return write


def _meaning_problems(items: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what the schema cannot say."""
    ids: dict[str, int] = {}
    for i, item in enumerate(items):
        where = f'instances[{i}] "{item["id"]}"'
        if ids.setdefault(item["id"], i) != i:
            yield f"{where}: id: it is that of instances[{ids[item['id']]}] too"
        named = list(_naming_problems(item))
        # What is overfull can be said only where everything named is there.
        for text in named or _sanity_problems(item):
            yield f"{where}: {text}"


def _naming_problems(item: dict[str, Any]) -> Iterator[str]:
    """Yield what is named twice, or not there, and lists of the wrong length."""
    yield from _twice("resources", "", item["resources"])
    hosts = [host["name"] for host in item["hosts"]]
    vms = [vm["name"] for vm in item["vms"]]
    yield from _twice("hosts", ".name", hosts)
    yield from _twice("vms", ".name", vms)
    for key, amounts, entries in (("hosts", "capacity", "hosts"), ("vms", "demand", "vms")):
        for i, entry in enumerate(item[entries]):
            if len(entry[amounts]) != len(item["resources"]):
                yield (
                    f'{key}[{i}].{amounts}: "{entry["name"]}" has {len(entry[amounts])} amounts, '
                    f"there are {len(item['resources'])} resources"
                )
    known_hosts, known_vms = set(hosts), set(vms)
    for i, vm in enumerate(item["vms"]):
        for k, host in enumerate(vm.get("allowed_hosts", ())):
            if host not in known_hosts:
                yield f'vms[{i}].allowed_hosts[{k}]: "{vm["name"]}": no host "{host}" in the case'
    for g, group in enumerate(item.get("anti_affinity", ())):
        yield from _twice(f"anti_affinity[{g}]", "", group)
        for k, vm_name in enumerate(group):
            if vm_name not in known_vms:
                yield f'anti_affinity[{g}][{k}]: no VM "{vm_name}" in the case'
    for key in ("initial", "final"):
        for name, host in item[key].items():
            if name not in known_vms:
                yield f'{key}: no VM "{name}" in the case'
            if host not in known_hosts:
                yield f'{key}.{name}: no host "{host}" in the case'
        for name in vms:
            if name not in item[key]:
                yield f'{key}: VM "{name}" is missing, every VM must have a host'


def _twice(key: str, field: str, names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if seen.setdefault(name, i) != i:
            yield f'{key}[{i}]{field}: "{name}" is at {key}[{seen[name]}] too'


def _sanity_problems(item: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with where the VMs are and where they should be."""
    for key in ("initial", "final"):
        hosts: Mapping[str, str] = item[key]
        for vm in item["vms"]:
            if hosts[vm["name"]] not in vm.get("allowed_hosts", (hosts[vm["name"]],)):
                yield (
                    f'{key}.{vm["name"]}: host "{hosts[vm["name"]]}" is not in its allowed_hosts'
                )
        used = {host["name"]: [0] * len(item["resources"]) for host in item["hosts"]}
        for vm in item["vms"]:
            row = used[hosts[vm["name"]]]
            for r, amount in enumerate(vm["demand"]):
                row[r] += int(amount)
        for host in item["hosts"]:
            for r, resource in enumerate(item["resources"]):
                taken, most = used[host["name"]][r], int(host["capacity"][r])
                if taken > most:
                    yield (
                        f'{key}: host "{host["name"]}" is overfull: its VMs take {taken} of '
                        f"{most} {resource}"
                    )
        for g, group in enumerate(item.get("anti_affinity", ())):
            first: dict[str, str] = {}
            for name in group:
                other = first.setdefault(hosts[name], name)
                if other != name:
                    yield (
                        f'{key}: VMs "{other}" and "{name}" of anti_affinity[{g}] are both on '
                        f'host "{hosts[name]}"'
                    )


def _case(item: dict[str, Any]) -> Case:
    """Build the arrays of a case that has no problems."""
    resources = item["resources"]
    # Placement knows the same: a host has capacities, an instance allocations and a host.
    start = state.build(
        cloud.Snapshot(
            cloud=item["id"],
            taken_at="1970-01-01T00:00:00Z",
            numa_choice="planner",
            hosts=tuple(
                cloud.Host(
                    host["name"],
                    host["name"],
                    {
                        resource: cloud.Inventory(int(amount))
                        for resource, amount in zip(resources, host["capacity"], strict=True)
                    },
                )
                for host in item["hosts"]
            ),
            instances=tuple(
                cloud.Instance(
                    vm["name"],
                    item["initial"][vm["name"]],
                    {
                        resource: int(amount)
                        for resource, amount in zip(resources, vm["demand"], strict=True)
                    },
                    allowed_hosts=tuple(vm["allowed_hosts"]) if "allowed_hosts" in vm else None,
                )
                for vm in item["vms"]
            ),
            server_groups=tuple(
                cloud.ServerGroup(f"anti_affinity[{g}]", "anti-affinity", tuple(group))
                for g, group in enumerate(item.get("anti_affinity", ()))
            ),
        )
    )
    index = {name: h for h, name in enumerate(start.hosts)}
    host_of = np.array([index[item["final"][name]] for name in start.instances], dtype=np.int64)
    return Case(
        item["id"],
        start,
        state.frozen(host_of),
        start.cells_of,
        Costs(tuple(int(vm["cost"]) for vm in item["vms"])),
    )

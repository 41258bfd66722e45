# SPDX-License-Identifier: Apache-2.0
"""The snapshot document: facts recorded as JSON."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import datetime
import hashlib
import itertools
import re
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.collect import files
from nova_rebalancer.model import cloud
from nova_rebalancer.model import schema

FORMAT = "nova-rebalancer-snapshot"
VERSION = 1


def load(path: str) -> tuple[cloud.Snapshot, str]:
    """Read the snapshot document in the file ``path``, gzip or not.

    Returns
    -------
    tuple
        The snapshot, and the sha256 of the document's bytes (after gunzip) in hex.

    Raises
    ------
    InputError
        If the file cannot be read or its content is not a sound snapshot.
    """
    return loads(files.read_bytes(path), path)


def loads(data: bytes, name: str) -> tuple[cloud.Snapshot, str]:
    """Read a snapshot document from ``data``; ``name`` stands for it in errors."""
    with files.no_garbage():
        return snapshot(files.parse_json(data, name), name), hashlib.sha256(data).hexdigest()


def snapshot(document: Any, name: str) -> cloud.Snapshot:
    """Return the snapshot of a parsed document; ``name`` stands for it in errors.

    Raises
    ------
    InputError
        If it is not sound.
    """
    found = problems(document, 1)
    if found:
        raise exceptions.InputError(f"{name}: {found[0]}")
    return _snapshot(document)


def problems(document: Any, limit: int = 10) -> list[str]:
    """Say what keeps ``document`` from being a sound snapshot, at most ``limit`` lines."""
    version = _version_problem(document)
    if version:
        return [version]
    found = schema.problems(schema.SNAPSHOT, document, limit)
    if found:
        return found
    result = []
    for text in _meaning_problems(document):
        # Ids may hold line breaks.
        result.append(" ".join(text.split()))
        if len(result) == limit:
            break
    return result


def _version_problem(document: Any) -> str | None:
    """Refuse other formats and newer versions before the schema speaks of details."""
    if not isinstance(document, dict):
        return "the document: not a JSON object"
    match = re.fullmatch(rf"{FORMAT}/([0-9]{{1,9}})", str(document.get("format")))
    if match is None:
        return f'format: {document.get("format")!r} is not "{FORMAT}/{VERSION}"'
    if int(match[1]) > VERSION:
        return (
            f"format: version {match[1]} is newer than {VERSION}, the newest this program "
            "reads; upgrade nova-rebalancer"
        )
    return None


def _meaning_problems(document: dict[str, Any]) -> Iterator[str]:
    """Yield what the schema cannot say: duplicates, dangling references, impossible amounts."""
    try:
        datetime.datetime.fromisoformat(document["taken_at"])
    except ValueError as error:
        yield f'taken_at: "{document["taken_at"]}" is no time: {error}'
    hosts, instances = document["hosts"], document["instances"]
    pools, groups = document.get("pools", []), document.get("server_groups", [])
    outside = document.get("outside", [])
    for key, items in (
        ("hosts", hosts),
        ("instances", [*instances, *outside]),
        ("pools", pools),
        ("server_groups", groups),
    ):
        yield from _duplicates(key, "id", [item["id"] for item in items])
    yield from _duplicates(
        "hosts", "service_host", [host.get("service_host") or host["id"] for host in hosts]
    )
    pool_ids = {pool["id"] for pool in pools}
    for key, providers in (("hosts", hosts), ("pools", pools)):
        for i, provider in enumerate(providers):
            yield from _provider_problems(f"{key}[{i}]", provider, pool_ids)
    by_id = {host["id"]: host for host in hosts}
    cells_of = {
        host["id"]: sorted(cell["id"] for cell in (host.get("numa") or {"cells": []})["cells"])
        for host in hosts
    }
    for i, instance in enumerate(instances):
        yield from _instance_problems(f"instances[{i}]", instance, cells_of)
    instance_ids = {instance["id"] for instance in instances}
    known_ids = instance_ids | {item["id"] for item in outside}
    for i, group in enumerate(groups):
        for member in group["members"]:
            if member not in known_ids:
                yield f'server_groups[{i}].members: no instance "{member}" in the snapshot'
    yield from _conflict_problems(document.get("conflicts", []), known_ids)
    for i, aggregate in enumerate(document.get("aggregates", [])):
        for host in aggregate["hosts"]:
            if host not in by_id:
                yield f'aggregates[{i}].hosts: no host "{host}" in the snapshot'
    for i, migration in enumerate(document.get("running_migrations", [])):
        for key, known in (("instance", instance_ids), ("source", by_id), ("dest", by_id)):
            if migration[key] not in known and not (key == "dest" and migration[key] is None):
                yield f'running_migrations[{i}].{key}: "{migration[key]}" is not in the snapshot'
    for i, lack in enumerate(document.get("missing", [])):
        for host in lack.get("hosts") or ():
            if host not in by_id:
                yield f'missing[{i}].hosts: no host "{host}" in the snapshot'


def _duplicates(key: str, field: str, values: Iterable[object]) -> Iterator[str]:
    for value, times in collections.Counter(values).items():
        if times > 1:
            yield f'{key}: the {field} "{value}" occurs {times} times'


def _conflict_problems(pairs: list[list[str]], known: set[str]) -> Iterator[str]:
    # There may be half a million: they are gone through one by one only where one is wrong.
    if not known.issuperset(itertools.chain.from_iterable(pairs)):
        for i, pair in enumerate(pairs):
            for name in pair:
                if name not in known:
                    yield f'conflicts[{i}]: no instance "{name}" in the snapshot'
    for i, (one, other) in enumerate(pairs):
        if one == other:
            yield f'conflicts[{i}]: instance "{one}" cannot conflict with itself'


def _provider_problems(where: str, provider: dict[str, Any], pools: set[str]) -> Iterator[str]:
    name = provider["id"]
    for resource, inventory in provider["inventories"].items():
        total, reserved = inventory["total"], inventory.get("reserved", 0)
        if reserved > total:
            yield (
                f'{where}.inventories.{resource}: capacity of "{name}" is negative '
                f"(total {total}, reserved {reserved})"
            )
    for resource, pool in provider.get("shared", {}).items():
        if pool not in pools:
            yield f'{where}.shared.{resource}: no pool "{pool}" in the snapshot'
    numa = provider.get("numa")
    if numa:
        yield from _duplicates(f"{where}.numa.cells", "id", [cell["id"] for cell in numa["cells"]])


def _instance_problems(
    where: str, instance: dict[str, Any], cells_of: dict[str, list[int]]
) -> Iterator[str]:
    name = instance["id"]
    known = cells_of.get(instance["host"])
    if known is None:
        yield f'{where}.host: instance "{name}" is on unknown host "{instance["host"]}"'
        return
    for allowed in instance.get("allowed_hosts") or ():
        if allowed not in cells_of:
            yield f'{where}.allowed_hosts: no host "{allowed}" in the snapshot'
    guests = instance.get("numa")
    if not guests:
        return
    cells = [guest["cell"] for guest in guests if guest["cell"] is not None]
    for cell in cells:
        if cell not in known:
            yield (
                f'{where}.numa: instance "{name}" is on cell {cell} of host "{instance["host"]}", '
                f"which has cells {known}"
            )
    if len(set(cells)) < len(cells):
        yield f'{where}.numa: two guest cells of instance "{name}" are on one host cell {cells}'
    demand: dict[str, int] = {}
    for guest in guests:
        for resource, amount in guest["resources"].items():
            demand[resource] = demand.get(resource, 0) + amount
    for resource, amount in demand.items():
        allocated = instance["allocations"].get(resource, 0)
        # Placement knows nothing of page sizes, and of an instance it lost it knows nothing.
        counted = instance["allocations"] and not resource.startswith(cloud.PAGES)
        if counted and amount > allocated:
            yield (
                f'{where}.numa: guest cells of instance "{name}" demand {amount} {resource}, '
                f"its allocation is {allocated}"
            )


def _snapshot(document: dict[str, Any]) -> cloud.Snapshot:
    """Build the facts from a document that has no problems."""
    lacks: dict[str, str] = {}
    for item in document.get("missing", ()):
        for host in item.get("hosts") or ():
            lacks.setdefault(host, item["what"])
    return cloud.Snapshot(
        cloud=document["cloud"],
        taken_at=document["taken_at"],
        numa_choice=document["numa_choice"],
        region=document.get("region"),
        several_cells=document.get("several_cells", False),
        hosts=tuple(_host(item, lacks.get(item["id"])) for item in document["hosts"]),
        instances=tuple(_instance(item) for item in document["instances"]),
        pools=tuple(
            cloud.Pool(item["id"], _inventories(item)) for item in document.get("pools", ())
        ),
        flavors=tuple(
            cloud.Flavor(
                item["id"],
                item["name"],
                _amounts(item.get("resources", {})),
                item.get("extra_specs", {}),
            )
            for item in document.get("flavors", ())
        ),
        server_groups=tuple(
            cloud.ServerGroup(
                **{
                    **item,
                    "members": tuple(dict.fromkeys(item["members"])),
                    "max_server_per_host": int(item.get("max_server_per_host", 1)),
                }
            )
            for item in document.get("server_groups", ())
        ),
        conflicts=tuple((one, other) for one, other in document.get("conflicts", ())),
        aggregates=tuple(
            cloud.Aggregate(
                item["name"], tuple(item["hosts"]), item.get("metadata", {}), item.get("id")
            )
            for item in document.get("aggregates", ())
        ),
        running_migrations=tuple(
            cloud.RunningMigration(**item) for item in document.get("running_migrations", ())
        ),
        missing=tuple(
            cloud.Missing(
                item["what"],
                item["reason"],
                None if item.get("hosts") is None else tuple(item["hosts"]),
            )
            for item in document.get("missing", ())
        ),
        outside=tuple(cloud.Outside(**item) for item in document.get("outside", ())),
        refused=tuple(cloud.Refused(**item) for item in document.get("refused", ())),
    )


def _inventories(item: dict[str, Any]) -> dict[str, cloud.Inventory]:
    return {
        resource: cloud.Inventory(
            **{
                name: value if name == "allocation_ratio" or value is None else int(value)
                for name, value in values.items()
            }
        )
        for resource, values in item["inventories"].items()
    }


def _amounts(item: dict[str, Any]) -> dict[str, int]:
    """Amounts as integers: JSON Schema takes 4.0 for one too."""
    return {resource: int(amount) for resource, amount in item.items()}


def _host(item: dict[str, Any], lacks: str | None) -> cloud.Host:
    values = dict(item)
    values["lacks"] = lacks
    values["service_host"] = item.get("service_host") or item["id"]
    values["inventories"] = _inventories(item)
    values["traits"] = tuple(item.get("traits", ()))
    numa = item.get("numa")
    if numa is not None:
        cells = tuple(
            cloud.NumaCell(int(cell["id"]), _amounts(cell["capacity"]), _detail(cell.get("detail")))
            for cell in numa["cells"]
        )
        values["numa"] = cloud.HostNuma(
            numa["provenance"], tuple(sorted(cells, key=lambda cell: cell.id))
        )
    for fact in cloud.FACTS:
        if item.get(fact) is not None:
            values[fact] = cloud.Fact(**item[fact])
    if item.get("watts") is not None:
        values["watts"] = tuple(float(one) for one in item["watts"])
    values["providers"] = tuple(
        cloud.Provider(
            nested["id"],
            nested["name"],
            nested["parent"],
            _inventories(nested),
            tuple(nested.get("traits", ())),
        )
        for nested in item.get("providers", ())
    )
    values["held"] = tuple(
        cloud.Held(held["consumer"], held["why"], _amounts(held["resources"]))
        for held in item.get("held", ())
    )
    return cloud.Host(**values)


def _detail(item: dict[str, Any] | None) -> cloud.CellDetail | None:
    if item is None:
        return None
    shared, dedicated = (
        frozenset(int(cpu) for cpu in item[key]) for key in ("shared_cpus", "dedicated_cpus")
    )
    siblings = [frozenset(int(cpu) for cpu in core) for core in item.get("siblings", ())]
    # A CPU that nobody names is a core of its own.
    siblings += [frozenset({cpu}) for cpu in sorted((shared | dedicated).difference(*siblings))]
    return cloud.CellDetail(
        shared,
        dedicated,
        tuple(siblings),
        int(item["memory_mib"]),
        {int(kib): int(count) for kib, count in item.get("pages", {}).items()},
        int(item.get("pci_devices", 0)),
    )


def _instance(item: dict[str, Any]) -> cloud.Instance:
    values = dict(item)
    values["allocations"] = _amounts(item["allocations"])
    if item.get("allowed_hosts") is not None:
        values["allowed_hosts"] = tuple(item["allowed_hosts"])
    if item.get("numa") is not None:
        values["numa"] = tuple(
            cloud.GuestCell(
                None if guest["cell"] is None else int(guest["cell"]),
                _amounts(guest["resources"]),
                None if guest.get("pinned") is None else tuple(int(c) for c in guest["pinned"]),
            )
            for guest in item["numa"]
        )
    for key in ("tags", "volumes", "vnic_types"):
        if item.get(key) is not None:
            values[key] = tuple(item[key])
    if item.get("image") is not None:
        values["image"] = cloud.Image(**item["image"])
    if "nested" in item:
        values["nested"] = {name: _amounts(amounts) for name, amounts in item["nested"].items()}
    if "usage" in item:
        values["usage"] = {
            resource: cloud.Usage(**usage) for resource, usage in item["usage"].items()
        }
    return cloud.Instance(**values)

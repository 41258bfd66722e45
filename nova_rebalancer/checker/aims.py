# SPDX-License-Identifier: Apache-2.0
"""A snapshot and a target file, {instance: host}, read as a question."""

import collections
from collections.abc import Mapping
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import question


def read(snapshot: bytes, snapshot_name: str, target: bytes, name: str) -> question.Question:
    """Return the question of ``target`` on ``snapshot``; errors call them by their names.

    Raises
    ------
    InputError
        If one of them is not sound, or the target overfills something.
    """
    cloud = facts.read(snapshot, snapshot_name)
    try:
        document, _ = documents.decode(target)
        if not isinstance(document, dict):
            raise documents.Malformed([], "not a JSON object {instance: host}")
        return _question(cloud, document)
    except documents.Malformed as error:
        raise exceptions.InputError(f"{name}: {' '.join(str(error).split())}") from error


def _question(cloud: facts.Cloud, document: documents.Document) -> question.Question:
    hosts = _names(
        ((host.name, host.id, host.entry.get("hypervisor_hostname")), host.id, host.name)
        for host in cloud.hosts.values()
    )
    instances = _names(
        ((one.id, one.entry.get("name")), one.id, one.id) for one in cloud.instances.values()
    )
    goal: dict[str, facts.Place] = {}
    stops: set[str] = set()
    starts: dict[str, documents.Document] = {}
    for key, value in document.items():
        entry = value if isinstance(value, dict) else {"host": value}
        there = entry.get("host")
        if there is not None and there not in hosts:
            raise documents.Malformed([key], f'no host "{there}", or several of this name')
        instance = instances.get(key)
        if instance is None:
            if there is None or not {"flavor", "resources"} & entry.keys():
                raise documents.Malformed([key], "no such instance, or several of this name")
            starts[key] = {**entry, "host": hosts[there]}
            continue
        if instance in goal or instance in stops:
            raise documents.Malformed([key], f'instance "{instance}" is there twice')
        if there is None:
            stops.add(instance)
            continue
        goal[instance] = facts.Place(hosts[there], _cells(cloud, instance, key, entry))
    left = _without(cloud, stops)
    target = {
        name: goal.get(name, facts.Place(place.host, None))
        for name, place in left.placement.items()
    }
    _check_sane(left, target, starts)
    return question.Question(
        None,
        left,
        target,
        stops=frozenset(stops),
        starts={name: left.hosts[entry["host"]].name for name, entry in starts.items()},
    )


def _cells(
    cloud: facts.Cloud, instance: str, key: str, entry: documents.Document
) -> tuple[int, ...] | None:
    """Return the host cells that the target names; None where it names none."""
    cells, guests = entry.get("numa"), cloud.instances[instance].guests
    if cells is None:
        return None
    if not isinstance(cells, list) or any(type(cell) is not int for cell in cells):
        raise documents.Malformed([key, "numa"], f"{cells!r} is not a list of cells")
    if guests is None or len(guests) != len(cells):
        raise documents.Malformed(
            [key, "numa"], f"{cells} are not as many cells as the instance has: {len(guests or ())}"
        )
    return tuple(cells)


def _names(found: Any) -> dict[str, str]:
    """Return ids by every name that belongs to one only; what comes first for each wins."""
    by_name: dict[str, set[str]] = collections.defaultdict(set)
    first: dict[str, str] = {}
    for names, one, own in found:
        first[own] = one
        for name in names:
            if name is not None:
                by_name[name].add(one)
    unique = {name: min(ones) for name, ones in by_name.items() if len(ones) == 1}
    return {**unique, **first}


def _without(cloud: facts.Cloud, stops: set[str]) -> facts.Cloud:
    """Return the cloud when ``stops`` have left."""
    if not stops:
        return cloud
    document = dict(cloud.document)
    document["instances"] = [one for one in document["instances"] if one["id"] not in stops]
    gone = [{"id": name, "reason": "no_host"} for name in sorted(stops)]
    document["outside"] = [*document.get("outside", ()), *gone]
    return facts.of(document, cloud.sha256)


def _check_sane(
    cloud: facts.Cloud,
    target: Mapping[str, facts.Place],
    starts: Mapping[str, documents.Document],
) -> None:
    """Refuse a target that overfills what something arrives on."""
    load: collections.Counter[facts.Limit] = collections.Counter(cloud.fixed)
    arriving: set[facts.Limit] = set()
    for name, place in target.items():
        home = cloud.placement[name]
        if place.host == home.host:
            place = home
        charged = facts.charges(cloud, name, place)
        load.update(charged)
        if place.host != home.host:
            arriving.update(charged.keys() - facts.charges(cloud, name, home).keys())
    for name, entry in starts.items():
        host = cloud.hosts[entry["host"]]
        for resource, amount in _size(cloud, name, entry).items():
            if amount and resource not in host.rows:
                raise documents.Malformed([name], f'host "{host.name}" has no {resource}')
            if amount:
                load[host.rows[resource]] += amount
                arriving.add(host.rows[resource])
    for name, others in cloud.conflicts.items():
        if name in target and target[name].host != cloud.placement[name].host:
            for other in sorted(others & target.keys()):
                if target[other].host == target[name].host:
                    raise documents.Malformed(
                        [], f'the target is not sane: "{name}" and "{other}" are in conflict'
                    )
    for limit in sorted(arriving, key=str):
        if load[limit] > facts.capacity(cloud, limit):
            raise documents.Malformed(
                [],
                f"the target is not sane: {facts.describe(cloud, limit)} is charged "
                f"{load[limit]} of {facts.capacity(cloud, limit)}",
            )


def _size(cloud: facts.Cloud, name: str, entry: documents.Document) -> Mapping[str, int]:
    """Return what a new instance takes."""
    found: Mapping[str, int] | None = entry.get("resources")
    for flavor in cloud.document.get("flavors", ()):
        if found is None and entry["flavor"] in (flavor["id"], flavor["name"]):
            found = flavor.get("resources")
    if not isinstance(found, dict) or any(type(amount) is not int for amount in found.values()):
        raise documents.Malformed([name], "what it takes is not known")
    return found

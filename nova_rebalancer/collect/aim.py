# SPDX-License-Identifier: Apache-2.0
"""Target files: where somebody wants the instances of a snapshot to be.

A target is a plain ``{instance: host}`` object, made by any tool.  Instances that it does not name
stay where they are.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
from typing import Any
from typing import TypeVar

from nova_rebalancer import exceptions
from nova_rebalancer.collect import aim_sanity
from nova_rebalancer.collect import files
from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base

TRIES = 20_000
"""NUMA cells of a host that are tried, at most, where the target names none."""

TOPOLOGY = ("hw:cpu_policy", "hw:mem_page_size", "hw:numa_nodes")
"""Extra specs that give an instance NUMA cells."""

_Thing = TypeVar("_Thing")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """A snapshot and a target.

    Attributes
    ----------
    snapshot
        The snapshot without what is stopped first.
    start
        Its arrays.
    host_of, cells_of
        The target, (V,) and (V, G).
    chosen
        Whether some of ``cells_of`` were chosen here, because the target leaves them open.
    stops
        Ids of instances that leave.
    starts
        Name and service host of each new instance.
    """

    snapshot: cloud.Snapshot
    start: state.PlacementState
    host_of: arrays.Ints
    cells_of: arrays.Ints
    chosen: bool
    stops: tuple[str, ...]
    starts: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Wish:
    """Where the target has one instance; ``host`` is None where it leaves."""

    name: str
    instance: cloud.Instance | None
    host: cloud.Host | None
    entry: Mapping[str, Any]


def load(
    path: str, snapshot: cloud.Snapshot, settings: base.Settings, allow_stop: bool = False
) -> Aim:
    """Read the target in the file ``path``, gzip or not, for ``snapshot``.

    Parameters
    ----------
    settings
        What the rules are judged by.
    allow_stop
        Whether the target may stop instances, or start new ones.

    Raises
    ------
    InputError
        With the file and the place in it, if it names what is not there or twice, wants what is
        not allowed, or overfills something.
    """
    data = files.read_bytes(path)
    document = files.parse_json(data, path)
    try:
        # The parser takes the last of two values of one key.
        json.loads(data, object_pairs_hook=_each_once)
        return _aim(document, snapshot, settings, allow_stop)
    except (_Wrong, aim_sanity.InsaneTargetError) as error:
        raise exceptions.InputError(f"{path}: {' '.join(str(error).split())}") from None


class _Wrong(Exception):
    """What is wrong with the target."""


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    for name, times in collections.Counter(name for name, _ in pairs).items():
        if times > 1:
            raise _Wrong(f'"{name}": it is there {times} times')


def _aim(document: Any, snapshot: cloud.Snapshot, settings: base.Settings, allow_stop: bool) -> Aim:
    wishes = _wishes(document, snapshot)
    _may_stop(wishes, snapshot, allow_stop)
    stops = {one.instance.id for one in wishes if one.instance is not None and one.host is None}
    if stops:
        left = tuple(one for one in snapshot.instances if one.id not in stops)
        snapshot = dataclasses.replace(snapshot, instances=left)
    start = narrowed.build(snapshot, settings)
    position = {name: v for v, name in enumerate(start.instances)}
    hosts = {name: h for h, name in enumerate(start.hosts)}
    host_of, cells_of = start.host_of.copy(), start.cells_of.copy()
    # Guest cells whose host cells are still to be chosen, by destination.
    open_ones: dict[int, list[int]] = {}
    for wish in wishes:
        if wish.instance is None or wish.host is None:
            continue
        v, h = position[wish.instance.id], hosts[wish.host.id]
        cells = _cells(wish, start, v, h)
        if h == start.host_of[v]:
            continue
        host_of[v] = h
        cells_of[v] = state.NOWHERE
        if cells is not None:
            cells_of[v, : len(cells)] = cells
        elif start.guests_of[v] and start.topologies is None and _may(start, v, h):
            open_ones.setdefault(h, []).append(v)
    for h, ones in open_ones.items():
        _choose_cells(start, host_of, cells_of, h, ones)
    new = {
        wish.name: _new(wish, wish.host, snapshot)
        for wish in wishes
        if wish.instance is None and wish.host is not None
    }
    aim_sanity.check(start, host_of, cells_of, snapshot, settings, new)
    services = {host.id: host.service_host for host in snapshot.hosts}
    return Aim(
        snapshot,
        start,
        state.frozen(host_of),
        state.frozen(cells_of),
        bool(open_ones),
        tuple(sorted(stops)),
        tuple((name, services[one.host]) for name, one in new.items()),
    )


def _wishes(document: Any, snapshot: cloud.Snapshot) -> list[_Wish]:
    """Return what the target says, with instances and hosts found by their names."""
    if not isinstance(document, dict):
        raise _Wrong("the document: not a JSON object {instance: host}")
    instances = _named((name, one) for one in snapshot.instances for name in (one.id, one.name))
    hosts = _named(
        (name, host)
        for host in snapshot.hosts
        for name in (host.service_host, host.id, host.hypervisor_hostname)
    )
    by_id = {one.id: one for one in snapshot.instances}
    services = {host.service_host: host for host in snapshot.hosts}
    outside = {name: one for one in snapshot.outside for name in (one.id, one.name)}
    seen: dict[str, str] = {}
    found = []
    for name, value in document.items():
        entry = value if isinstance(value, dict) else {"host": value}
        instance = by_id.get(name) or _one(name, instances.get(name, []), "instance")
        if instance is None and name in outside:
            why = outside[name].reason
            raise _Wrong(f'"{name}": it is on no host of the snapshot ({why})')
        if instance is not None and seen.setdefault(instance.id, name) != name:
            raise _Wrong(f'"{name}": instance {instance.id} is at "{seen[instance.id]}" too')
        if "host" not in entry or not isinstance(entry["host"], str | None):
            raise _Wrong(f'"{name}": the host must be a name, or null where the instance leaves')
        unknown = sorted(entry.keys() - {"host", "numa", "flavor", "resources"})
        if unknown:
            raise _Wrong(f'"{name}.{unknown[0]}": only host, numa, flavor and resources are known')
        host = None
        if entry["host"] is not None:
            there = entry["host"]
            host = services.get(there) or _one(there, hosts.get(there, []), "host")
            if host is None:
                raise _Wrong(f'"{name}": no host "{there}" in the snapshot')
        found.append(_Wish(name, instance, host, entry))
    return found


def _named(pairs: Iterable[tuple[str | None, _Thing]]) -> dict[str, list[_Thing]]:
    found: dict[str, list[_Thing]] = {}
    for name, one in pairs:
        if name is not None and all(one is not other for other in found.get(name, ())):
            found.setdefault(name, []).append(one)
    return found


def _one(name: str, found: list[Any], what: str) -> Any:
    """Return the only thing of a name, None if there is none."""
    if len(found) > 1:
        ids = base.listed([one.id for one in found])
        raise _Wrong(f'"{name}": {len(found)} {what}s are called so: {ids}')
    return found[0] if found else None


def _may_stop(wishes: list[_Wish], snapshot: cloud.Snapshot, allow_stop: bool) -> None:
    """Refuse stops and starts that nobody allowed, or that cannot be."""
    migrating = {migration.instance for migration in snapshot.running_migrations}
    for one in wishes:
        if one.instance is not None:
            for key in ("flavor", "resources"):
                if key in one.entry:
                    raise _Wrong(f'"{one.name}.{key}": it is in the snapshot and keeps its size')
            if one.host is None and one.instance.id in migrating:
                raise _Wrong(f'"{one.name}": null: it is being migrated just now')
        elif one.host is None or not {"flavor", "resources"} & one.entry.keys():
            raise _Wrong(
                f'"{one.name}": no instance of the snapshot is called so; a new one is written as '
                '{"host": HOST, "flavor": FLAVOR} or {"host": HOST, "resources": {CLASS: AMOUNT}}'
            )
        if not allow_stop and (one.host is None or one.instance is None):
            what = "stop it" if one.host is None else "start it"
            raise _Wrong(f'"{one.name}": the target would {what}; allow that with --allow-stop')


def _cells(wish: _Wish, start: state.PlacementState, v: int, h: int) -> tuple[int, ...] | None:
    """Return the host cells that the target names, by position; None where it names none."""
    asked = wish.entry.get("numa")
    if asked is None:
        return None
    where = f'"{wish.name}.numa"'
    known, guests = start.cell_ids[h], int(start.guests_of[v])
    if not isinstance(asked, list) or any(type(cell) is not int for cell in asked):
        raise _Wrong(f"{where}: {asked!r} is not a list of cell numbers")
    if len(asked) != guests:
        raise _Wrong(f"{where}: {asked} names {len(asked)} cells, the instance has {guests}")
    if len(set(asked)) < len(asked) or not set(asked) <= set(known):
        raise _Wrong(
            f"{where}: {asked} are not different cells of {start.service_hosts[h]}, which has "
            f"{sorted(known)}"
        )
    cells = tuple(known.index(cell) for cell in asked)
    if h == start.host_of[v] and cells != tuple(start.cells_of[v, :guests].tolist()):
        raise _Wrong(
            f"{where}: it is on {start.service_hosts[h]} already, on other cells than {asked}; "
            "a change of cells on one host is not a migration"
        )
    return cells


def _may(start: state.PlacementState, v: int, h: int) -> bool:
    """Whether the rules let it be there at all; if not, that is the path-finder's to say."""
    return bool(start.movable[v] and start.allowed[start.eligibility_of[v], h])


def _choose_cells(
    start: state.PlacementState,
    host_of: arrays.Ints,
    cells_of: arrays.Ints,
    h: int,
    ones: list[int],
) -> None:
    """Put the guest cells of ``ones`` on cells of host ``h``, beside all that will be there."""
    free = start.placed(host_of, cells_of).numa_free()[h]
    # What has most guest cells, and is largest, has least choice.
    order = sorted(ones, key=lambda v: (-int(start.guests_of[v]), -int(start.guest[v].sum()), v))
    left = TRIES

    def put(k: int) -> bool:
        nonlocal left
        if k == len(order):
            return True
        v = order[k]
        for cells in ledger.choices(int(start.guests_of[v]), int(start.cells[h])):
            left -= 1
            if left < 0:
                return False
            places = list(cells)
            size = start.guest[v, : len(cells)]
            if (free[places] >= size).all():
                free[places] -= size
                cells_of[v, : len(cells)] = cells
                if put(k + 1):
                    return True
                free[places] += size
        return False

    if not put(0):
        names = base.listed([start.instances[v] for v in ones])
        raise _Wrong(
            f"no NUMA cells of {start.service_hosts[h]} were found for what the target has there: "
            f"{names}; name them: {{host, numa}}"
        )


def _new(wish: _Wish, host: cloud.Host, snapshot: cloud.Snapshot) -> cloud.Instance:
    """Return an instance that is not there yet."""
    where, entry = f'"{wish.name}"', wish.entry
    if "numa" in entry:
        raise _Wrong(f"{where}: numa: a new instance has no NUMA cells yet")
    resources, specs = entry.get("resources"), {}
    if resources is None:
        named = _named((name, one) for one in snapshot.flavors for name in (one.id, one.name))
        flavor = _one(str(entry["flavor"]), named.get(str(entry["flavor"]), []), "flavor")
        if flavor is None:
            raise _Wrong(f'{where}: flavor: no flavor "{entry["flavor"]}" in the snapshot')
        if not flavor.resources:
            raise _Wrong(
                f'{where}: flavor: the snapshot does not say what "{entry["flavor"]}" takes; give '
                "resources"
            )
        resources, specs = flavor.resources, flavor.extra_specs
    known = set(host.inventories) | set(host.shared)
    if not isinstance(resources, Mapping) or not resources:
        raise _Wrong(f"{where}: resources: not a JSON object {{class: amount}}")
    for resource, amount in resources.items():
        if type(amount) is not int or amount < 0:
            raise _Wrong(f"{where}: resources.{resource}: {amount!r} is not an amount")
        if amount and resource not in known:
            raise _Wrong(f"{where}: resources.{resource}: {host.service_host} has none")
    if any(specs.get(key) for key in TOPOLOGY):
        raise _Wrong(
            f'{where}: flavor: "{entry["flavor"]}" has NUMA cells, and where Nova would put those '
            "of a new instance is not known"
        )
    return cloud.Instance(
        wish.name, host.id, dict(resources), flavor=entry.get("flavor"), extra_specs=specs
    )

# SPDX-License-Identifier: Apache-2.0
"""The value of each goal, computed again from where every instance is.

``start`` is where the snapshot has them: fair shares and heat are counted there.
"""

import collections
from collections.abc import Callable
from collections.abc import Mapping
import math

from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import fit
from nova_rebalancer.checker import placing

Placement = Mapping[str, facts.Place]
Options = documents.Document

CORES = ("VCPU", "PCPU")
FINE = 1000
STEP = 1e4


def value(name: str, cloud: facts.Cloud, options: Options, placement: Placement) -> float | None:
    """Return the value of the goal ``name``; None if there is no such goal."""
    found = _GOALS.get(name)
    return None if found is None else found(cloud, options, placement)


def combined(
    text: str, of: Callable[[str, bool], float | None]
) -> tuple[float, float, list[str]] | None:
    """Return the value before and after of several goals together, and their names.

    ``of`` gives the value of a goal by its name, before (True) or after.  None if one is not known.
    """
    before = after = 0.0
    names: list[str] = []
    levels = text.split(",")
    for k, level in enumerate(levels):
        sums, _, limit = level.partition("<=")
        parts = [part.rpartition("*")[::2] for part in sums.split("+")]
        values = [(weight, of(name, True), of(name, False)) for weight, name in parts]
        now = then = 0.0
        plain: list[float] = []
        for weight, old, new in values:
            if old is None or new is None:
                return None
            factor = float(weight or 1) / (old or 1.0) if len(parts) > 1 else 1.0
            now, then = now + factor * old, then + factor * new
            plain.append(old)
        if limit:
            now, then = max(0.0, now - float(limit)), max(0.0, then - float(limit))
        scale = now or sum(plain) / len(plain) or 1.0
        before += STEP ** (len(levels) - 1 - k) * now / scale
        after += STEP ** (len(levels) - 1 - k) * then / scale
        names += [name for _, name in parts]
    return before, after, names


def _usable(cloud: facts.Cloud) -> list[facts.Host]:
    return [host for host in cloud.hosts.values() if not host.unusable]


def _others(cloud: facts.Cloud, host: facts.Host, resources: tuple[str, ...]) -> int:
    """What is charged to a host's own inventories and never moves."""
    return sum(cloud.fixed.get(("host", host.id, resource), 0) for resource in resources)


def _active(cloud: facts.Cloud, placement: Placement) -> list[facts.Host]:
    """Usable hosts with anything on them."""
    on = {place.host for place in placement.values()}
    on |= {
        str(limit[1]) for limit, amount in cloud.fixed.items() if amount and limit[0] in OWN_KINDS
    }
    return [host for host in _usable(cloud) if host.id in on]


OWN_KINDS = ("host", "nested")


def _consolidate(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    return float(len(_active(cloud, placement)))


def _offered(cloud: facts.Cloud, host: facts.Host, resource: str) -> int:
    """Capacity of a resource for one host; that of a pool is shared out evenly."""
    row = host.rows.get(resource)
    if row is None:
        return 0
    sharing = sum(other.rows.get(resource) == row for other in cloud.hosts.values())
    return facts.capacity(cloud, row) // sharing


def _measured(
    cloud: facts.Cloud, name: str, way: str
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """What each instance takes, what each host has charged beside them, and what it offers."""
    resources = CORES if name == "VCPU" else (name,)
    fine = FINE if way == "use" else 1
    takes = {}
    for key, instance in cloud.instances.items():
        amount: float = sum(instance.allocations.get(resource, 0) for resource in resources)
        usage = instance.entry.get("usage") or {}
        if way == "use" and any(resource in usage for resource in resources):
            amount = sum(usage[resource]["mean"] for resource in resources if resource in usage)
        takes[key] = max(0, round(fine * float(amount)))
    fixed, offers = {}, {}
    for host in cloud.hosts.values():
        fixed[host.id] = fine * _others(cloud, host, resources)
        offers[host.id] = fine * sum(_offered(cloud, host, resource) for resource in resources)
    if not any(offers.values()):
        offers = {host.id: 0 if host.unusable else FINE for host in cloud.hosts.values()}
    return takes, fixed, offers


def _carried(
    takes: Mapping[str, int], fixed: Mapping[str, int], placement: Placement
) -> dict[str, int]:
    found = dict(fixed)
    for key, place in placement.items():
        found[place.host] += takes[key]
    return found


def _is_allocated(cloud: facts.Cloud, name: str) -> bool:
    """Whether anything offers or takes a resource, rather than that its use was measured alone."""
    resources = set(CORES) if name == "VCPU" else {name}
    offered = [host.inventories for host in cloud.hosts.values()] + list(cloud.pools.values())
    taken = [instance.allocations for instance in cloud.instances.values()]
    return any(resources & one.keys() for one in (*offered, *taken))


def _balance(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    on = options.get("balance_on", "allocation")
    names = options.get("balance_resources", ["VCPU", "MEMORY_MB"])
    total = 0.0
    usable = {host.id for host in _usable(cloud)}
    for name in names:
        ways = ("allocation", "use") if on == "both" else (on,)
        if not _is_allocated(cloud, name):
            ways = ("use",)
        for way in ways:
            takes, fixed, offers = _measured(cloud, name, way)
            start = _carried(takes, fixed, cloud.placement)
            whole = sum(start[host] for host in usable)
            offered = sum(offers[host] for host in usable)
            if not whole or not offered:
                continue
            now = _carried(takes, fixed, placement)
            above = sum(max(0, now[host] * offered - whole * offers[host]) for host in usable)
            total += above / offered / whole / (len(ways) * len(names))
    return total


def _drain(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    drained = placing.drained(cloud, options.get("drain", ()))
    return float(sum(place.host in drained for place in placement.values()))


def _repair(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    ignored = options.get("ignored_rules", ())
    misplaced = sum(
        placing.misplaced(cloud, name, ignored)
        for name, place in placement.items()
        if place.host == cloud.placement[name].host
    )
    members: dict[tuple[str, str], int] = {}
    for name, place in placement.items():
        for group in cloud.instances[name].exclusive:
            for host in (place.host, *cloud.also_at.get(name, ())):
                members[group, host] = members.get((group, host), 0) + 1
    crowded = sum(
        max(0, count - cloud.most_per_host[group]) for (group, _), count in members.items()
    )
    # Checks of the plan add to the cloud's conflicts; only the snapshot's own are to be ended.
    pairs = {frozenset(pair) for pair in cloud.document.get("conflicts", ())}
    paired = sum(
        len({placement[name].host for name in pair}) == 1
        for pair in pairs
        if pair <= placement.keys()
    )
    return float(misplaced + crowded + paired + _apart(cloud, placement))


def _apart(cloud: facts.Cloud, placement: Placement) -> int:
    """How many members of affinity groups are not where most of their group were at the start."""
    found = 0
    usable = {host.id for host in _usable(cloud)}
    order = {host: i for i, host in enumerate(cloud.hosts)}
    for name in dict.fromkeys(name for one in cloud.instances.values() for name in one.together):
        members = cloud.groups[name].intersection(placement)
        there = collections.Counter(cloud.placement[member].host for member in members)
        rank = {host: (-count, host not in usable, order[host]) for host, count in there.items()}
        main = min(rank, key=lambda host: rank[host])
        found += sum(placement[member].host != main for member in members)
    return found


def _watts(cloud: facts.Cloud, options: Options) -> dict[str, list[float]]:
    plain = [options.get("idle_w", 100.0), options.get("busy_w", 300.0)]
    return {host.id: host.entry.get("watts") or plain for host in cloud.hosts.values()}


def _at(table: list[float], share: float) -> float:
    """Read a table of equally spaced loads, and on beyond its end as at its end."""
    steps = len(table) - 1
    k = min(int(share * steps), steps - 1)
    return float(table[k] + (share * steps - k) * (table[k + 1] - table[k]))


def _load_way(options: Options) -> str:
    return "allocation" if options.get("balance_on", "allocation") == "allocation" else "use"


def _power(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    takes, fixed, offers = _measured(cloud, "VCPU", _load_way(options))
    now = _carried(takes, fixed, placement)
    tables = _watts(cloud, options)
    on = {host.id for host in _active(cloud, placement)}
    total = 0.0
    for host in _usable(cloud):
        table = tables[host.id]
        busy = _at(table, now[host.id] / max(1, offers[host.id])) - table[0]
        total += busy + (table[0] if host.id in on else 0.0)
    return total


def _thermal(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    takes, fixed, offers = _measured(cloud, "VCPU", _load_way(options))
    fine = FINE if _load_way(options) == "allocation" else 1
    tables = _watts(cloud, options)
    limit_c = options.get("inlet_limit_c", 40.0)
    inlets = {host.id: host.entry.get("inlet_c") for host in cloud.hosts.values()}
    known = [inlet for inlet in inlets.values() if inlet is not None]
    mean = sum(known) / len(known) if known else limit_c - 1.0
    usable = [host.id for host in _usable(cloud)]
    slope = {
        host: (tables[host][-1] - tables[host][0]) / max(1, max(1, offers[host]) * fine)
        for host in cloud.hosts
    }
    start, now = (_carried(takes, fixed, one) for one in (cloud.placement, placement))
    heat = sum(start[host] * fine * slope[host] for host in usable)
    if not heat:
        return 0.0
    air = {h: max(0.0, limit_c - (mean if inlets[h] is None else inlets[h])) for h in usable}
    whole = sum(air.values())
    total = 0.0
    for host in usable:
        share = air[host] / whole if whole else 1 / len(usable)
        if slope[host] > 0:
            room = math.floor(heat * share / slope[host])
            total += slope[host] / heat * max(0, now[host] * fine - room)
    return total


def _sharing(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    images = {
        name: (instance.entry.get("image") or {}).get("id")
        for name, instance in cloud.instances.items()
    }
    return _copies(images, placement)


def _locality(cloud: facts.Cloud, options: Options, placement: Placement) -> float:
    key = options.get("locality_key", "workload")
    names = {}
    for name, instance in cloud.instances.items():
        tags = [tag for tag in instance.entry.get("tags", ()) if tag.startswith(f"{key}=")]
        said = [tag[len(key) + 1 :] for tag in tags]
        names[name] = (instance.entry.get("metadata") or {}).get(key) or min(said, default=None)
    return _copies(names, placement)


def _copies(names: Mapping[str, str | None], placement: Placement) -> float:
    there = {
        (names[name], place.host) for name, place in placement.items() if names[name] is not None
    }
    return float(len(there))


_GOALS: dict[str, Callable[[facts.Cloud, Options, Placement], float | None]] = {
    "balance": _balance,
    "consolidate": _consolidate,
    "drain": _drain,
    "flavor-fit": fit.missing,
    "locality": _locality,
    "power": _power,
    "repair": _repair,
    "sharing": _sharing,
    "thermal": _thermal,
}

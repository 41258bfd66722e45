# SPDX-License-Identifier: Apache-2.0
"""Where an instance may be, whatever else is there.

Host rules judge every destination against where the instance was when the snapshot was taken;
relation rules judge each migration's two ends.  Each returns why not, None if nothing forbids it.

References
----------
Nova 34.0, ``scheduler/request_filter.py`` (``map_az_to_placement_aggregate``,
``compute_status_filter``) and ``conductor/tasks/live_migrate.py`` (cells, hypervisors);
``virt/libvirt/driver.py`` has libvirt compare the CPUs.
"""

from collections.abc import Callable
from collections.abc import Collection
from typing import Any

from nova_rebalancer.checker import abilities
from nova_rebalancer.checker import case
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import isolation
from nova_rebalancer.checker import options

PIN = "nova-rebalancer:pin-hosts"
BAN = "nova-rebalancer:ban-hosts"
"""Metadata of an instance: service hosts, comma separated."""


def unusable(host: facts.Host) -> str | None:
    """Say why nothing is moved from or to a host."""
    if host.unusable:
        return host.unusable
    if host.entry.get("forced_down", False):
        return "forced down"
    if "COMPUTE_STATUS_DISABLED" in host.entry.get("traits", ()):
        return "disabled in Placement (trait COMPUTE_STATUS_DISABLED)"
    return None


def host_in_scope(cloud: facts.Cloud, given: options.Options, host: facts.Host) -> bool:
    """Whether a plan may touch a host."""
    cell = (host.entry.get("cell") or {}).get("value")
    aggregates: list[str | None] = [
        one["name"] for one in cloud.document.get("aggregates", ()) if host.id in one["hosts"]
    ]
    belongs: dict[str, list[str | None]] = {
        "az": [host.az],
        "cell": [cell],
        "host": [host.name],
        "aggregate": aggregates,
    }
    return all(
        kind == "project" or not names.isdisjoint(belongs[kind])
        for kind, names in given.scope.items()
    )


def drained(cloud: facts.Cloud, names: Collection[str]) -> set[str]:
    """Return the ids of the hosts that names, of service hosts and aggregates, stand for."""
    found = {host.id for host in cloud.hosts.values() if host.name in names}
    for aggregate in cloud.document.get("aggregates", ()):
        if aggregate["name"] in names or aggregate.get("id") in names:
            found |= set(aggregate["hosts"])
    return found


def misplaced(cloud: facts.Cloud, name: str, ignored: Collection[str]) -> bool:
    """Whether one of Nova's rules, but those ``ignored``, forbids that an instance is there."""
    host = cloud.hosts[cloud.placement[name].host]
    given = case.Case(cloud, options.read({"options": {}}), cloud.instances[name], host, host)
    # The others are about what may be sent to a host; who is there already breaks none of them.
    return any(
        rule(given) is not None
        for rule_name, rule in HOST_RULES.items()
        if rule_name not in ("usable", "scope", "banned_hosts", "units", "provider_tree")
        and rule_name not in ignored
    )


def forbidden(given: case.Case, source: facts.Host) -> tuple[str, str] | None:
    """Return the first rule that keeps the instance from going from ``source`` to its ``dest``.

    Returns
    -------
    tuple or None
        The rule's name, and why.
    """
    return refused(given) or parted(given.cloud, given.options, source, given.dest)


def refused(given: case.Case) -> tuple[str, str] | None:
    """Return the first rule that keeps the instance off its ``dest``, wherever it comes from."""
    for name, rule in HOST_RULES.items():
        if name not in given.options.ignored and (why := rule(given)) is not None:
            return name, why
    return None


def parted(
    cloud: facts.Cloud, given: options.Options, source: facts.Host, dest: facts.Host
) -> tuple[str, str] | None:
    """Return the first rule that lets nothing migrate from ``source`` to ``dest``."""
    for name, relation in RELATIONS.items():
        if name not in given.ignored and (why := relation(cloud, source, dest)) is not None:
            return name, why
    return None


def _usable(given: case.Case) -> str | None:
    why = unusable(given.dest)
    return f'dest "{given.dest.name}" is {why}' if why else None


def _scope(given: case.Case) -> str | None:
    if host_in_scope(given.cloud, given.options, given.dest):
        return None
    return f'dest "{given.dest.name}" is not in the scope of the plan'


def _allowed_hosts(given: case.Case) -> str | None:
    dest, instance = given.dest, given.instance
    if instance.allowed is not None and dest.id not in instance.allowed:
        return f'dest "{dest.name}" is not in its allowed_hosts'
    for pins, whose in (
        (given.options.pins.get(instance.id), "the plan's pins of it"),
        (_named(instance, PIN), f"its metadata {PIN}"),
    ):
        if pins and dest.name not in pins:
            return f'dest "{dest.name}" is not in {whose}'
    return None


def _banned_hosts(given: case.Case) -> str | None:
    for banned, whose in (
        (given.options.banned, "the plan's banned_hosts"),
        (given.options.bans.get(given.instance.id, frozenset()), "the plan's bans of it"),
        (_named(given.instance, BAN), f"its metadata {BAN}"),
    ):
        if given.dest.name in banned:
            return f'dest "{given.dest.name}" is in {whose}'
    return None


def _named(instance: facts.Instance, key: str) -> frozenset[str]:
    text = instance.entry.get("metadata", {}).get(key, "")
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _pinned_zone(given: case.Case) -> str | None:
    pinned = given.instance.entry.get("pinned_az")
    if not pinned or given.dest.az == pinned:
        return None
    return (
        f'dest "{given.dest.name}" is in availability zone {_text(given.dest.az)}, '
        f"the instance was asked for {pinned}"
    )


def _keep_zone(given: case.Case) -> str | None:
    home, dest = given.home, given.dest
    if given.instance.entry.get("pinned_az") or dest.az == home.az:
        return None
    return (
        f'dest "{dest.name}" is in availability zone {_text(dest.az)}, '
        f"the instance is in {_text(home.az)}"
    )


def _units(given: case.Case) -> str | None:
    for resource, amount in given.instance.allocations.items():
        if amount:
            offered = given.dest.inventories.get(resource)
            why = "has no inventory of it" if offered is None else facts.units(offered, amount)
            if why is not None:
                return f'takes {amount} {resource}; dest "{given.dest.name}" {why}'
    return None


def _cell(cloud: facts.Cloud, source: facts.Host, dest: facts.Host) -> str | None:
    here, there = _nova_cell(source), _nova_cell(dest)
    if here is not None and there is not None:
        if here != there:
            return f'dest "{dest.name}" is in Nova cell {there}, "{source.name}" in {here}'
        return None
    several = cloud.document.get("several_cells", False) or any(
        _nova_cell(host) is not None for host in cloud.hosts.values()
    )
    unknown = dest if there is None else source
    return f'the Nova cell of host "{unknown.name}" is not known' if several else None


def _nova_cell(host: facts.Host) -> str | None:
    fact = host.entry.get("cell") or {"provenance": "unknown", "value": None}
    value: str | None = fact["value"]
    return value if fact["provenance"] in facts.RELIABLE else None


def _hypervisor(cloud: facts.Cloud, source: facts.Host, dest: facts.Host) -> str | None:
    kinds = [host.entry.get("hypervisor_type") for host in (source, dest)]
    if kinds[0] != kinds[1]:
        return f'dest "{dest.name}" has hypervisor {_text(kinds[1])}, not {_text(kinds[0])}'
    old, new = (host.entry.get("hypervisor_version") for host in (source, dest))
    if old is None and new is None:
        return None
    if old is None or new is None or new < old:
        return f'dest "{dest.name}" has hypervisor version {_text(new)}, older than {_text(old)}'
    return None


def _cpu(cloud: facts.Cloud, source: facts.Host, dest: facts.Host) -> str | None:
    here, there = (host.entry.get("cpu_info") or {} for host in (source, dest))
    if bool(here) != bool(there):
        unknown = dest if here else source
        return f'the CPUs of host "{unknown.name}" are not known'
    for key in ("arch", "vendor", "model"):
        if here.get(key) != there.get(key):
            return (
                f'dest "{dest.name}" has CPUs of {key} {_text(there.get(key))}, '
                f"not {_text(here.get(key))}"
            )
    lacking = sorted(_features(here) - _features(there))
    if lacking:
        return f'the CPUs of dest "{dest.name}" lack {", ".join(lacking[:8])}'
    return None


def _features(cpu_info: dict[str, Any]) -> set[str]:
    named = cpu_info.get("features")
    return {str(one) for one in named} if isinstance(named, list | dict) else set()


def _text(value: object) -> str:
    return "null" if value is None else str(value)


HOST_RULES: dict[str, Callable[[case.Case], str | None]] = {
    "usable": _usable,
    "scope": _scope,
    "allowed_hosts": _allowed_hosts,
    "banned_hosts": _banned_hosts,
    "pinned_zone": _pinned_zone,
    "keep_zone": _keep_zone,
    "units": _units,
    "tenant_isolation": isolation.tenant_isolation,
    "aggregate_extra_specs": isolation.aggregate_extra_specs,
    "image_isolation": isolation.image_isolation,
    "flavor_isolation": isolation.flavor_isolation,
    "isolated_traits": isolation.isolated_traits,
    "traits": abilities.traits,
    "image_traits": abilities.image_traits,
    "image_properties": abilities.image_properties,
    "capabilities": abilities.capabilities,
    "provider_tree": abilities.provider_tree,
}

RELATIONS: dict[str, Callable[[facts.Cloud, facts.Host, facts.Host], str | None]] = {
    "cell": _cell,
    "hypervisor": _hypervisor,
    "cpu": _cpu,
}

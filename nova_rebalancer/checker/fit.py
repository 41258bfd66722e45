# SPDX-License-Identifier: Apache-2.0
"""Room for instances of flavors, counted again.

A host has room for as many as the scarcest of what one takes allows, if the rules let a new
instance come there at all; without room is what could be had of what is free if it were in one
piece.
"""

from collections.abc import Mapping

from nova_rebalancer.checker import case
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import options
from nova_rebalancer.checker import placing

NOT_FOR_NEW = ("keep_zone", "scope")
"""Rules about what is somewhere already, or what a plan may touch."""


def missing(
    cloud: facts.Cloud, given: documents.Document, placement: Mapping[str, facts.Place]
) -> float | None:
    """Return the mean share of missing room over the flavors; None if one cannot be counted."""
    names = list(dict.fromkeys(given.get("flavors", ())))
    if not names:
        return None
    began, now = (facts.load(cloud, one) for one in (cloud.placement, placement))
    total = 0.0
    for name in names:
        one = _new(cloud, name)
        if one is None:
            return None
        ideal = min(
            _in_one_piece(cloud, began, resource) // amount
            for resource, amount in one.allocations.items()
        )
        if ideal:
            total += (ideal - room(cloud, one, now)) / ideal / len(names)
    return total


def room(cloud: facts.Cloud, one: facts.Instance, load: Mapping[facts.Limit, int]) -> int:
    """Return how many instances like ``one`` the hosts have room for."""
    rules = options.read({"options": {}})
    found = 0
    for host in cloud.hosts.values():
        asks = case.Case(cloud, rules, one, host, host)
        if any(
            rule(asks) is not None
            for name, rule in placing.HOST_RULES.items()
            if name not in NOT_FOR_NEW
        ):
            continue
        rows = {host.rows[resource]: amount for resource, amount in one.allocations.items()}
        found += min(
            max(0, facts.capacity(cloud, row) - load.get(row, 0)) // amount
            for row, amount in rows.items()
        )
    return found


def _new(cloud: facts.Cloud, name: str) -> facts.Instance | None:
    """Return an instance of a flavor, or of a size VCPUS:MEMORY_MIB."""
    entry: documents.Document = {"id": name}
    amounts: Mapping[str, int] | None = None
    for flavor in cloud.document.get("flavors", ()):
        if flavor["name"] == name and amounts is None:
            amounts = flavor.get("resources", {})
            entry = {"id": name, "flavor": name, "extra_specs": flavor.get("extra_specs", {})}
    if amounts is None:
        cores, colon, memory = name.partition(":")
        if not (colon and cores.isdecimal() and memory.isdecimal()):
            return None
        amounts = {"VCPU": int(cores), "MEMORY_MB": int(memory)}
    takes = {resource: int(amount) for resource, amount in amounts.items() if amount}
    return facts.Instance(name, takes, {}, None, None, (), (), entry) if takes else None


def _in_one_piece(cloud: facts.Cloud, load: Mapping[facts.Limit, int], resource: str) -> int:
    """Return what is free of a resource on all usable hosts."""
    rows = {
        host.rows[resource]
        for host in cloud.hosts.values()
        if not host.unusable and resource in host.rows
    }
    return sum(max(0, facts.capacity(cloud, row) - load.get(row, 0)) for row in rows)

# SPDX-License-Identifier: Apache-2.0
"""Whether Placement agrees with itself and with Nova: a full pass of its own, to be run at times.

A reading takes most of its allocations from the one before.  Here each provider is asked for its
sums, and where they are others the allocations are read again.
"""

import collections
from collections.abc import Mapping
import dataclasses

from nova_rebalancer.collect import nova
from nova_rebalancer.collect import placement
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.rest import client

USAGE = "usage"
"""Placement's sums are not those of its allocations, twice in a row."""

UNCHARGED = "uncharged"
"""Nothing is charged for a server, anywhere."""

ELSEWHERE = "elsewhere"
"""A server is charged on another host than Nova has it on, and not on that one."""

DOUBLED = "doubled"
"""A server is charged on its host and on others, and no migration is under way."""

ENDED = "ended_migration"
"""A migration that is over is still charged."""

NOBODY = "unknown_consumer"
"""Something is charged that Nova does not know."""

KINDS = (USAGE, UNCHARGED, ELSEWHERE, DOUBLED, ENDED, NOBODY)

TYPED = (1, 38)
"""From it on Placement tells what kind of thing a consumer is."""

LOOKED_UP = 500
"""Servers and other consumers looked at again one by one; more are reported as they are."""


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """One thing that two answers of the cloud tell differently."""

    kind: str
    """One of KINDS."""
    host: str | None
    """Name of the provider concerned; None when there is none."""
    subject: str
    """Id of the provider, server or other consumer."""
    text: str
    numbers: Mapping[str, int]
    """Amounts charged by resource class; for ``usage`` the sums less the allocations."""


def check(
    ask: client.Client, now: reading.Reading, progress: reader.Progress
) -> list[Disagreement]:
    """Compare what was read with Placement's sums, then Placement with Nova.

    The cloud moves: what looks wrong is read again before it is reported, and put into ``now``.

    Raises
    ------
    CloudError
        If Placement or Nova cannot be asked.
    """
    service, compute = placement.Placement(ask), nova.Nova(ask)
    found = sums(ask, now, progress)
    compared = against_nova(now)
    doubtful = list(dict.fromkeys(one.subject for one in compared))
    if not 0 < len(doubtful) <= LOOKED_UP:
        return found + compared
    answers = ask.each(
        lambda name: ask.get("placement", f"/allocations/{name}", service.version),
        doubtful,
        lambda done: None,
    )
    for name, answer in zip(doubtful, answers, strict=True):
        _charge(now, name, answer["allocations"])
    # Only an administrator can look at one server of another project, so the lists it is.
    since = now.started - reader.OVERLAP_S
    changed, gone = compute.changed(since)
    now.servers.update(changed)
    for name in gone:
        now.servers.pop(name, None)
    begun = {one["uuid"] for one in compute.migrations(since) if one["status"] in nova.IN_PROGRESS}
    migrations = {
        name
        for name, answer in zip(doubtful, answers, strict=True)
        if answer.get("consumer_type") == "MIGRATION"
    }
    for one in against_nova(now):
        if one.kind == NOBODY and one.subject in migrations:
            text = f"is a migration that is over, and is still charged on {one.host}"
            one = dataclasses.replace(one, kind=ENDED, text=text)
        # What is new now has been looked at once only.
        if one.subject in doubtful and one.subject not in begun:
            found.append(one)
    return found


def sums(ask: client.Client, now: reading.Reading, progress: reader.Progress) -> list[Disagreement]:
    """Compare the allocations of each provider with Placement's sums: one request for each.

    Where they differ the allocations are read again and put into ``now``.

    Raises
    ------
    CloudError
        If Placement cannot be asked.
    """
    service, total = placement.Placement(ask), len(now.providers)
    different = ask.each(
        lambda one: _recheck(service, one),
        list(now.providers.values()),
        lambda done: progress.step("usages", done, total),
    )
    return [one for one in different if one is not None]


def against_nova(now: reading.Reading) -> list[Disagreement]:
    """Compare the allocations of a reading with where its servers are; nothing is asked.

    Servers that something happens to right now are left out, and so is what is charged on
    providers that are no hypervisor's, such as a shared pool.
    """
    hosts = _hosts(now)
    migrating = {one.get("instance_uuid") for one in now.migrations.values()}
    charged: dict[str, dict[str, collections.Counter[str]]] = {}
    for provider in now.providers.values():
        if provider.root in hosts:
            for consumer, amounts in provider.allocations.items():
                at = charged.setdefault(consumer, {})
                at.setdefault(provider.root, collections.Counter()).update(amounts)
    node_of = {service: node for node, service in hosts.items() if service is not None}
    found = []
    for name, server in sorted(now.servers.items()):
        if server["task_state"] is not None or name in migrating:
            continue
        at = charged.get(name, {})
        here = node_of.get(server["host"])
        if server["host"] is not None and here is None:
            # Two hypervisors behind one service, or one that was not read: nothing to compare.
            continue
        others = sorted(now.providers[node].name for node in at if node != here)
        if here is not None and not at:
            found.append(
                _found(now, UNCHARGED, here, name, f"is on {server['host']}, charged nowhere", {})
            )
        elif others and (here is None or here not in at):
            where = f"on {server['host']}" if here else "on no host"
            text = f"is {where} by Nova, charged on {', '.join(others)}"
            found.append(_found(now, ELSEWHERE, min(at), name, text, at[min(at)]))
        elif others:
            far = min(node for node in at if node != here)
            text = f"is on {server['host']}, also charged on {', '.join(others)}"
            found.append(_found(now, DOUBLED, far, name, text, at[far]))
    known = now.servers.keys() | now.migrations.keys() | set(now.unreachable)
    for consumer in sorted(charged.keys() - known):
        for node, amounts in sorted(charged[consumer].items()):
            text = f"is charged on {now.providers[node].name}; Nova does not list it"
            found.append(_found(now, NOBODY, node, consumer, text, amounts))
    return found


def difference(usages: Mapping[str, int], provider: reading.Provider) -> dict[str, int]:
    """Return the sums Placement tells less those of the allocations, where they differ."""
    charged: collections.Counter[str] = collections.Counter()
    for amounts in provider.allocations.values():
        charged.update(amounts)
    differing = {name: usages.get(name, 0) - charged[name] for name in sorted({*usages, *charged})}
    return {name: amount for name, amount in differing.items() if amount}


def _recheck(service: placement.Placement, provider: reading.Provider) -> Disagreement | None:
    usages = service.usages(provider.id)
    if usages is None or not difference(usages, provider):
        return None
    allocations = service.allocations(provider.id)
    usages = service.usages(provider.id)
    if usages is None or allocations is None:
        return None
    provider.allocations = allocations
    differing = difference(usages, provider)
    if not differing:
        return None
    text = "Placement tells other sums than its allocations have: " + ", ".join(
        f"{name} {amount:+d}" for name, amount in differing.items()
    )
    return Disagreement(USAGE, provider.name, provider.id, text, differing)


def _charge(now: reading.Reading, name: str, charged: Mapping[str, reading.Json]) -> None:
    """Put what a consumer has now in the place of what it had."""
    for provider in now.providers.values():
        provider.allocations.pop(name, None)
        if provider.id in charged:
            provider.allocations[name] = charged[provider.id]["resources"]


def _hosts(now: reading.Reading) -> dict[str, str | None]:
    """Return service hosts by hypervisor, None for one of several.

    Hosts that were not read are left out, and those whose cell does not tell its servers.
    """
    services = collections.Counter(nova.service_host(node) for node in now.hypervisors)
    return {
        node["id"]: name if services[name] == 1 else None
        for node in now.hypervisors
        for name in [nova.service_host(node)]
        if node["id"] in now.providers and name not in now.dead_hosts
    }


def _found(
    now: reading.Reading,
    kind: str,
    node: str,
    subject: str,
    text: str,
    numbers: Mapping[str, int],
) -> Disagreement:
    return Disagreement(
        kind, now.providers[node].name, subject, text, dict(sorted(numbers.items()))
    )

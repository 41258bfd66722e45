# SPDX-License-Identifier: Apache-2.0
"""The last look before a request: would this migration still be planned as it is?

The rules are the planner's, on facts read a moment ago.  What this program has in flight and
Nova does not charge yet is charged here.
"""

from collections.abc import Iterable
import dataclasses

from nova_rebalancer.execute import base
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import ledger
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.store import records

PASSING = ("task_state", "migrating")
"""Obstacles that go by themselves."""

NUMA = ("numa", "numa_unknown")
"""So is this while something is on its way from or to a host: its cells are not known till then."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Why a migration must not be asked for; ``passing``: it may later."""

    code: str
    text: str
    passing: bool = False


def last_look(
    entry: records.Entry,
    facts: cloud.Snapshot,
    flying: Iterable[records.Entry],
    settings: rules.Settings,
    cold: bool = False,
) -> Finding | None:
    """Return why ``entry`` must not be asked for now, None if it may be.

    Parameters
    ----------
    facts
        Of both hosts and all that is on them, read just now.
    flying
        Migrations of this run that are in flight.
    settings
        How the rules are kept.
    cold
        Whether the operator lets instances be migrated cold.
    """
    instance = next((one for one in facts.instances if one.id == entry.instance), None)
    if instance is None:
        return Finding("gone", f"{entry.instance} is on no host any more")
    hosts = {host.service_host: host for host in facts.hosts}
    for name in (entry.source, entry.dest):
        if name not in hosts:
            return Finding("no_host", f"there is no host {name} that can be planned for")
    source, dest = hosts[entry.source], hosts[entry.dest]
    if instance.host != source.id:
        at = next((host.service_host for host in facts.hosts if host.id == instance.host), "?")
        return Finding("moved", f"{entry.instance} is on {at}, not on {entry.source}")
    if entry.method == base.COLD:
        if not cold:
            return Finding("cold", "cold migrations are not allowed (cold_migration in [execute])")
        if instance.status != "SHUTOFF":
            return Finding("status", f"{entry.instance} is {instance.status}, not SHUTOFF")
        # All else that keeps an instance from migrating live is taken to keep it from this, too.
        instance = dataclasses.replace(instance, status="ACTIVE", power_state=1)
        facts = _with(facts, instance)
    flying = tuple(flying)
    for host in (source, dest):
        if host.lacks is not None:
            # Something on it changed faster than it could be read.
            text = f"{host.service_host} could not be read whole ({host.lacks})"
            return Finding("not_read", text, passing=True)
    foreign = _foreign(facts, flying, source, dest)
    if foreign is not None:
        return foreign
    return _by_rules(instance, source, dest, _charging(facts, flying, hosts), settings)


def _foreign(
    facts: cloud.Snapshot, flying: Iterable[records.Entry], *ends: cloud.Host
) -> Finding | None:
    """Yield to whoever else migrates from or to one of the hosts: a person, a recovery service."""
    own = {one.instance for one in flying}
    names = {host.id: host.service_host for host in ends}
    # One that waits to be confirmed, or that Nova has forgotten, is charged and does no harm.
    idle = {one.id for one in facts.instances if one.task_state is None}
    for one in facts.running_migrations:
        shared = names.keys() & {one.source, one.dest}
        if shared and one.instance not in own | idle:
            name = names[min(shared)]
            text = f"somebody else migrates {one.instance} from or to {name} ({one.type})"
            return Finding("foreign", text, passing=True)
    return None


def _by_rules(
    instance: cloud.Instance,
    source: cloud.Host,
    dest: cloud.Host,
    facts: cloud.Snapshot,
    settings: rules.Settings,
) -> Finding | None:
    ends = {source.id, dest.id}
    busy = any(ends & {one.source, one.dest} for one in facts.running_migrations)
    passing = (*PASSING, *NUMA) if busy else PASSING
    placement = narrowed.build(facts, settings)
    v = placement.instances.index(instance.id)
    h = placement.hosts.index(dest.id)
    if v in placement.excluded:
        why = placement.excluded[v].reason
        if why.code != "no_host":
            return Finding(why.code, why.text, why.code in passing)
    view = state.view_of(facts, settings)
    seen = {host.id: host for host in view.hosts}
    for refusal in constraints.violations(view, instance, seen[source.id], seen[dest.id]):
        return Finding(refusal.rule, refusal.text, refusal.rule in passing)
    for why in narrowed.refused(narrowed.bound(facts, settings), instance, dest):
        return Finding(why.code, why.text)
    book = ledger.Ledger(placement)
    for k in book.groups_of.get(v, ()):
        group = placement.groups[k]
        if book.in_group[k, h] >= group.limit:
            text = f"{dest.service_host} has {group.limit} of server group {group.id} already"
            return Finding("group", text, passing=True)
    if not book.has_room(v, h):
        text = f"{dest.service_host} has no room for {instance.id}"
        return Finding("no_room", text, passing=True)
    if book.cells_for(v, h) is None:
        text = f"no NUMA cells of {dest.service_host} have room for {instance.id}"
        return Finding("no_room", text, passing=True)
    return None


def _charging(
    facts: cloud.Snapshot, flying: Iterable[records.Entry], hosts: dict[str, cloud.Host]
) -> cloud.Snapshot:
    """Charge what is on its way and has no claim at its destination yet."""
    running = {one.instance: one for one in facts.running_migrations}
    there = {one.id for one in facts.instances}
    for one in flying:
        source, dest = hosts.get(one.source), hosts.get(one.dest)
        if one.instance not in there or source is None or dest is None:
            continue
        known = running.get(one.instance)
        if known is None:
            running[one.instance] = cloud.RunningMigration(one.instance, source.id, dest.id)
        elif known.dest is None:
            running[one.instance] = dataclasses.replace(known, dest=dest.id)
    return dataclasses.replace(facts, running_migrations=tuple(running.values()))


def _with(facts: cloud.Snapshot, instance: cloud.Instance) -> cloud.Snapshot:
    """Return the facts with another one in place of an instance."""
    return dataclasses.replace(
        facts,
        instances=tuple(instance if one.id == instance.id else one for one in facts.instances),
    )

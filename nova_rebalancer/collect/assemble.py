# SPDX-License-Identifier: Apache-2.0
"""From the answers of a cloud to one snapshot document; nothing is asked here.

Nova says where an instance is, Placement what it takes.  Where they disagree, what Placement
charges stays charged, as load that never moves.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import math
import re
from typing import Any

from nova_rebalancer.collect import nova
from nova_rebalancer.collect import numa
from nova_rebalancer.collect import placement
from nova_rebalancer.collect import reading
from nova_rebalancer.model.constraints import migratable

LOG = logging.getLogger(__name__)

Json = dict[str, Any]

REFUSED_TYPES = {
    "ironic": "bare metal nodes (Ironic) do not migrate",
    "VMware vCenter Server": "a vCenter cluster behind one compute service places its own guests",
}

POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")

UNKNOWN = {"provenance": "unknown", "value": None}


def document(
    now: reading.Reading,
    cloud: str,
    region: str | None,
    hosts: frozenset[str] | None = None,
    say: Callable[[str], None] = LOG.warning,
) -> Json:
    """Return the snapshot document of what was read, of ``hosts`` (ids) only if given.

    ``say`` is told what a person should look at, each thing once.
    """
    return _Assembly(now, hosts, say).document(cloud, region)


class _Assembly:
    def __init__(
        self, now: reading.Reading, only: frozenset[str] | None, say: Callable[[str], None]
    ) -> None:
        self._now = now
        self._only = only
        self._say = say
        self._left_out: set[str] = set()
        """Service hosts out of scope."""
        self._missing: list[Json] = []
        self._refused: list[Json] = []
        self._outside: list[Json] = []
        self._warned: collections.Counter[str] = collections.Counter()
        self._nodes = self._usable_nodes()
        """Hypervisors that become hosts, by id, which is that of their provider."""
        self._node_of = {self._service_host(name): name for name in self._nodes}
        self._root_of = {name: one.root for name, one in now.providers.items()}
        self._at: dict[str, dict[str, reading.Amounts]] = {}
        """Allocations by consumer and provider."""
        for one in now.providers.values():
            for consumer, resources in one.allocations.items():
                self._at.setdefault(consumer, {})[one.id] = resources
        self._pools = self._shared()
        self._gets = {name: self._shared_by(now.providers[name]) for name in self._nodes}
        """Resource classes that each host gets from a pool, and from which."""
        self._services = {one.get("host"): one for one in now.services}
        self._dead = set(now.dead_hosts)
        self._placed = self._places()
        self._moving = {one.get("instance_uuid") for one in now.migrations.values()}
        self._counted: set[tuple[str, str]] = set()
        """(consumer, provider) that an instance or a running migration accounts for."""
        self._bound = {member for group in now.groups for member in group.get("members") or ()} | {
            name for name, server in now.servers.items() if numa.asked(server)
        }
        """Instances that count for more than their size where they are."""
        self._lacking: dict[str, str] = {}
        """Why the NUMA topology of an instance cannot be told."""

    def document(self, cloud: str, region: str | None) -> Json:
        now = self._now
        running = self._running()
        instances = [
            self._instance(server, running.get(name))
            for name, server in sorted(now.servers.items())
            if name in self._placed
        ]
        hosts = self._hosts(instances)
        self._lacks()
        for what, count in sorted(self._warned.items()):
            self._say(f"{what}: {count}")
        return {
            "format": "nova-rebalancer-snapshot/1",
            "cloud": cloud,
            "region": region,
            "taken_at": nova.moment(now.started),
            "numa_choice": "nova",
            "several_cells": self._several_cells(),
            "hosts": hosts,
            "pools": [
                {"id": one.id, "inventories": _inventories(one)} for one in self._pools.values()
            ],
            "flavors": [_flavor(one) for one in sorted(now.flavors, key=lambda one: one["id"])],
            "instances": instances,
            "server_groups": self._groups(),
            "aggregates": self._aggregates(),
            "running_migrations": [one for _, one in sorted(running.items())],
            "outside": self._outside,
            "refused": self._refused,
            "missing": self._missing,
            "collected": {
                "read_at": nova.moment(now.read_at),
                "requests": now.requests,
                "microversions": now.microversions,
            },
        }

    # Hosts

    def _usable_nodes(self) -> dict[str, Json]:
        """Hypervisors this program plans for; the others are refused with a reason."""
        by_host = collections.Counter(nova.service_host(node) for node in self._now.hypervisors)
        services = collections.Counter(one.get("host") for one in self._now.services)
        usable = {}
        for node in self._now.hypervisors:
            name = node.get("hypervisor_hostname") or node["id"]
            service = nova.service_host(node)
            if self._only is not None and node["id"] not in self._only:
                self._left_out.add(str(service))
                continue
            kind = node.get("hypervisor_type")
            provider = self._now.providers.get(node["id"])
            if kind in REFUSED_TYPES:
                why = REFUSED_TYPES[kind]
            elif service is None:
                why = "Nova names no compute service for it"
            elif by_host[service] > 1 or services[service] > 1:
                why = (
                    f"{by_host[service]} hypervisors and {services[service]} compute services are "
                    f"called {service}: a migration to it by name would be ambiguous"
                )
            elif provider is None:
                if any(node["id"] in (lack.hosts or ()) for lack in self._now.lacks):
                    why = "its provider could not be read"
                else:
                    why = f"Placement has no provider {node['id']} for it"
            elif provider.name != node.get("hypervisor_hostname"):
                why = f"its provider is called {provider.name}: was the host renamed?"
            elif not provider.inventories:
                why = "its provider has no inventory"
            else:
                usable[node["id"]] = node
                continue
            self._say(f"host {name} is left out: {why}")
            self._refused.append({"host": service or name, "reason": why})
        return usable

    def _service_host(self, name: str) -> str:
        return str(nova.service_host(self._nodes[name]))

    def _hosts(self, instances: Iterable[Json]) -> list[Json]:
        guests: dict[str, set[int]] = collections.defaultdict(set)
        for one in instances:
            for guest in one["numa"] or ():
                if guest["cell"] is not None:
                    guests[one["host"]].add(guest["cell"])
        nested: dict[str, list[reading.Provider]] = collections.defaultdict(list)
        for provider in self._now.providers.values():
            if provider.id != provider.root:
                nested[provider.root].append(provider)
        held = self._held()
        return [
            self._host(name, guests[name], nested[name], held[name])
            for name in sorted(self._nodes, key=self._service_host)
        ]

    def _host(
        self,
        name: str,
        guests: Iterable[int],
        nested: Iterable[reading.Provider],
        held: list[Json],
    ) -> Json:
        node, provider = self._nodes[name], self._now.providers[name]
        service_host = self._service_host(name)
        service: Json = self._services.get(service_host, {})
        if not service:
            self._missing.append(
                _lack(f"compute service {service_host}", "Nova lists none", [name])
            )
        elif service_host in self._dead:
            self._missing.append(
                _lack(f"instances of {service_host}", "its Nova cell does not answer", [name])
            )
        return {
            "id": name,
            "service_host": service_host,
            "hypervisor_hostname": node.get("hypervisor_hostname"),
            "az": service.get("zone"),
            "status": _one_of(service.get("status"), "enabled", "disabled"),
            "state": _one_of(service.get("state"), "up", "down"),
            "disabled_reason": service.get("disabled_reason"),
            "forced_down": service.get("forced_down") is True,
            "hypervisor_type": node.get("hypervisor_type"),
            "hypervisor_version": node.get("hypervisor_version"),
            "cpu_info": node.get("cpu_info") if isinstance(node.get("cpu_info"), dict) else {},
            "traits": provider.traits,
            "inventories": _inventories(provider),
            "providers": [
                {
                    "id": one.id,
                    "name": one.name,
                    "parent": one.parent,
                    "inventories": _inventories(one),
                    "traits": one.traits,
                }
                for one in sorted(nested, key=lambda one: (one.name, one.id))
            ],
            "held": held,
            "shared": self._gets[name],
            "numa": {
                # Cells seen from guests: there may be more, and how large they are nobody says.
                "provenance": "inferred" if guests else "unknown",
                "cells": [{"id": cell, "capacity": {}} for cell in sorted(guests)],
            },
            "cell": UNKNOWN,
            "rack": UNKNOWN,
            "power_zone": UNKNOWN,
            "migration_link": UNKNOWN,
            "migration_mibps": UNKNOWN,
        }

    def _shared(self) -> dict[str, reading.Provider]:
        """Sharing providers by id."""
        return {
            name: one
            for name, one in sorted(self._now.providers.items())
            if placement.SHARES in one.traits and name not in self._nodes
        }

    def _shared_by(self, host: reading.Provider) -> dict[str, str]:
        """Resource classes a host gets from a pool; what it has itself comes from itself."""
        found: dict[str, str] = {}
        for pool in self._pools.values():
            if set(pool.aggregates or ()) & set(host.aggregates or ()):
                for resource in pool.inventories:
                    if resource in found:
                        self._missing.append(
                            _lack(
                                f"{resource} of {host.name}",
                                f"two pools share it, {found[resource]} and {pool.id}: which one "
                                "an instance will get is not known",
                                [host.id],
                            )
                        )
                    elif resource not in host.inventories:
                        found[resource] = pool.id
        return found

    # Instances

    def _places(self) -> dict[str, str]:
        """Host of each instance that is on a host of the snapshot, by id."""
        refused = {one["host"] for one in self._refused}
        unreachable = set(self._now.unreachable)
        placed = {}
        for name, server in sorted(self._now.servers.items()):
            host = server["host"]
            if host in self._node_of and name not in unreachable:
                placed[name] = self._node_of[host]
                continue
            if name in unreachable or host in self._dead:
                why = "cell_down"
            elif not host:
                why = "no_host"
            elif host in self._left_out:
                why = "out_of_scope"
            else:
                why = "host_refused" if host in refused else "host_unknown"
            self._outside.append(
                {
                    "id": name,
                    "name": server["name"],
                    "project": server["project"],
                    "status": server["status"],
                    "task_state": server["task_state"],
                    "host": host,
                    "reason": why,
                }
            )
        for name in sorted(unreachable - self._now.servers.keys()):
            self._outside.append({"id": name, "reason": "cell_down"})
        return placed

    def _instance(self, server: Json, running: Json | None) -> Json:
        name = server["id"]
        host = self._placed[name]
        allocations, nested = self._charged(name, host) if running is None else running.pop("here")
        if not allocations:
            self._warned["instances Placement charges nothing for on their host"] += 1
        tags = server["tags"]
        metadata = {key: str(value) for key, value in server["metadata"].items()}
        return {
            "id": name,
            "name": server["name"],
            "project": server["project"],
            "flavor": server["flavor"],
            "host": host,
            "status": server["status"] or "UNKNOWN",
            "task_state": server["task_state"],
            "vm_state": server["vm_state"],
            "power_state": server["power_state"],
            # Who says nothing of a lock may have one.
            "locked": server["locked"] is not False,
            "locked_reason": server["locked_reason"],
            "allow_migration": not migratable.opted_out(metadata, tags),
            "allocations": allocations,
            "nested": nested,
            "numa": self._guest_cells(name, allocations),
            "numa_pagesize_kib": self._page_size(name),
            "metadata": metadata,
            "tags": sorted(tags),
            "launched_at": server["launched"],
            "updated_at": server["updated"],
            "pinned_az": server["pinned_az"],
            "image": {"id": server["image"]["id"], "properties": self._properties(server)},
            "extra_specs": {key: str(value) for key, value in server["extra_specs"].items()},
            "scheduler_hints": server["hints"],
            "volumes": sorted(server["volumes"]),
            "vnic_types": (
                None if self._now.vnic_types is None else self._now.vnic_types.get(name, [])
            ),
        }

    def _properties(self, server: Json) -> dict[str, str]:
        """Properties of an instance's image: what Nova shows, and traits that Glance knows.

        Nova's are those that count, from when the instance was made; so they go first.
        """
        image = server["image"]
        found = dict(self._now.images.get(image["id"]) or {})
        found.update((key, str(v)) for key, v in image["properties"].items() if v is not None)
        return found

    def _charged(
        self, server: str, host: str, migrations: Sequence[str] = ()
    ) -> tuple[reading.Amounts, dict[str, Any]]:
        """What is charged for an instance on a host and its pools, and on nested providers.

        While it migrates the charge is its own at one end and the migration's at the other;
        each is taken once, what is left of them is held.
        """
        gets = self._gets[host]
        total: reading.Amounts = {}
        nested: dict[str, Any] = {}
        for consumer in (server, *migrations):
            for provider, resources in sorted(self._at.get(consumer, {}).items()):
                if (consumer, provider) in self._counted:
                    continue
                if provider == host or (provider in self._pools and provider in gets.values()):
                    fits = provider == host or all(gets.get(r) == provider for r in resources)
                    if not fits or any(resource in total for resource in resources):
                        continue
                    total.update(resources)
                elif self._root_of.get(provider) == host and provider not in nested:
                    nested[provider] = resources
                else:
                    continue
                self._counted.add((consumer, provider))
        return dict(sorted(total.items())), nested

    def _page_size(self, name: str) -> int | None:
        """Page size that Nova chose, None when the instance asked for none."""
        known = self._now.topologies.get(name)
        size = None if known is None or known[0] is None else known[1].get("pagesize_kb")
        return size if isinstance(size, int) and size > 0 else None

    def _guest_cells(self, name: str, allocations: reading.Amounts) -> list[Json] | None:
        """Guest cells that agree with the allocations; otherwise its host is told as missing."""
        known = self._now.topologies.get(name)
        if known is None:
            if numa.asked(self._now.servers[name]):
                self._lacking[name] = "Nova does not show it to this account"
            return None
        if known[0] is None:
            self._lacking[name] = str(known[1])
            return None
        guests = numa.cells(known[1])
        if guests is None or not allocations:
            return guests
        if "PCPU" not in allocations:
            # Before hosts told pinned CPUs apart, these were charged as VCPU.
            guests = numa.unpinned(guests)
        demand: collections.Counter[str] = collections.Counter()
        for guest in guests:
            demand.update(guest["resources"])
        for resource in ("VCPU", "PCPU", "MEMORY_MB"):
            if demand[resource] > allocations.get(resource, 0):
                self._lacking[name] = (
                    f"its cells take {demand[resource]} {resource}, Placement charges "
                    f"{allocations.get(resource, 0)}"
                )
                return None
        return guests

    # Migrations and what else is charged

    def _running(self) -> dict[str, Json]:
        """Running migrations by instance: Nova lets each have one at a time.

        A record that a crash left behind may stand beside it; what it charges is held.
        """
        by_server: dict[str, list[str]] = collections.defaultdict(list)
        for name, one in sorted(self._now.migrations.items()):
            if one["instance_uuid"] in self._placed:
                by_server[one["instance_uuid"]].append(name)
        found = {}
        for server, names in by_server.items():
            here = self._placed[server]
            # The one that charges something, the newest of them.
            name = max(names, key=lambda one: (one in self._at, self._now.migrations[one]["id"]))
            one = self._now.migrations[name]
            ends = [self._node_of.get(one[end]) for end in ("source_compute", "dest_compute")]
            source, dest = ends[0] or here, ends[1]
            far = dest if source == here else source
            if far == here:
                far = None
            own = self._charged(server, here, [name])
            found[server] = {
                "id": name,
                "type": one["migration_type"],
                "instance": server,
                "source": source,
                "dest": dest,
                "status": one["status"],
                # At a destination that is not claimed yet it will take what it takes now.
                "far_allocations": (
                    None
                    if far is None
                    else self._far(server, name, far, here) or (None if far == dest else {})
                ),
                "here": own,
            }
        return found

    def _far(self, server: str, migration: str, far: str, here: str) -> reading.Amounts:
        """What is charged at the other end of a migration, common pools left out."""
        charged: reading.Amounts = {}
        pools = set(self._gets[far].values()) - set(self._gets[here].values())
        for consumer in (server, migration):
            for provider, resources in sorted(self._at.get(consumer, {}).items()):
                if (provider == far or provider in pools) and (
                    (consumer, provider) not in self._counted
                    and not any(resource in charged for resource in resources)
                ):
                    charged.update(resources)
                    self._counted.add((consumer, provider))
        return dict(sorted(charged.items()))

    def _held(self) -> dict[str, list[Json]]:
        """What is charged on each host for anything but its instances and running migrations."""
        first = self._first_of_pool()
        held: dict[str, list[Json]] = collections.defaultdict(list)
        for consumer, by_provider in sorted(self._at.items()):
            totals: dict[str, collections.Counter[str]] = collections.defaultdict(
                collections.Counter
            )
            for provider, resources in by_provider.items():
                host = provider if provider in self._nodes else first.get(provider)
                if host is None and self._root_of.get(provider) in self._nodes:
                    host = self._root_of[provider]
                if host is not None and (consumer, provider) not in self._counted:
                    totals[host].update(resources)
            for host, total in totals.items():
                why = self._why_held(consumer, host, host in by_provider)
                held[host].append(
                    {"consumer": consumer, "why": why, "resources": dict(sorted(total.items()))}
                )
        return held

    def _first_of_pool(self) -> dict[str, str]:
        """The host at which a pool's other load is told: it must be told once."""
        first: dict[str, str] = {}
        for host in sorted(self._nodes, key=self._service_host):
            for pool in self._gets[host].values():
                first.setdefault(pool, host)
        return first

    def _why_held(self, consumer: str, host: str, there: bool) -> str:
        """Say what a consumer is; ``there``: it is charged on the host itself, not on a pool."""
        if consumer in self._now.migrations:
            return "migration"
        server = self._now.servers.get(consumer)
        known = server is not None or consumer in self._now.unreachable
        if there and consumer not in self._placed:
            # It may well run here, and then it counts for server groups and NUMA cells.
            here = self._service_host(host)
            if server is not None and server["host"] in self._left_out:
                # Without a migration the charge was left behind, as between hosts in scope.
                if consumer in self._moving:
                    why = f"it is on {server['host']}, out of scope, and migrates to {here}"
                    self._missing.append(_lack(f"instance {consumer}", why, [host]))
            elif server is not None and server["host"]:
                why = f"Nova has it on {server['host']}, Placement on {here}"
                self._missing.append(_lack(f"instance {consumer}", why, [host]))
            elif server is None and known:
                why = "its Nova cell does not answer"
                self._missing.append(_lack(f"instance {consumer}", why, [host]))
            elif consumer in self._bound:
                why = f"Placement has it on {here}, Nova on no host"
                self._missing.append(_lack(f"instance {consumer}", why, [host]))
        if known:
            self._warned["instances Placement charges elsewhere than where Nova has them"] += there
            return "elsewhere"
        self._warned["consumers Placement charges and Nova does not list"] += 1
        return "unknown"

    # The rest

    def _several_cells(self) -> bool:
        """Whether two instances have one name on their hypervisors.

        Nova makes it of the instance's number in its cell's database (``instance_name_template``),
        so that it is unique in a cell.  What is on no host may be in cell 0, which always exists.
        """
        servers = self._now.servers.values()
        told = [server["label"] for server in servers if server.get("label") and server["host"]]
        return len(set(told)) < len(told)

    def _lacks(self) -> None:
        now = self._now
        known = {node["id"] for node in now.hypervisors}
        for lack in now.lacks:
            hosts = lack.hosts
            if hosts is not None:
                # A pool's lack is everybody's, and a host that was left out lacks nothing more.
                ours = [host for host in hosts if host in self._nodes]
                hosts = None if set(hosts) - known else ours
            self._missing.append(_lack(lack.what, lack.reason, hosts))
        for name, why in sorted(self._lacking.items()):
            host = self._placed[name]
            self._missing.append(_lack(f"NUMA topology of {name}", why, [host]))
        if now.unreachable or now.dead_hosts:
            named = f"hosts {', '.join(now.dead_hosts[:5])}" if now.dead_hosts else "unknown hosts"
            more = ", ..." if len(now.dead_hosts) > 5 else ""
            self._missing.append(
                _lack(
                    "a cell",
                    f"Nova does not reach one of its cells ({named}{more}; "
                    f"{len(now.unreachable)} instances told): heal its database or message queue",
                    [],
                )
            )
            self._say(self._missing[-1]["reason"])

    def _groups(self) -> list[Json]:
        known = self._placed.keys() | {one["id"] for one in self._outside}
        found = []
        for group in sorted(self._now.groups, key=lambda one: str(one["id"])):
            policy = group.get("policy")
            if policy not in POLICIES:
                self._missing.append(
                    _lack(f"policy of server group {group['id']}", f"it is {policy!r}", None)
                )
                continue
            members = [name for name in dict.fromkeys(group["members"]) if name in known]
            rules = group.get("rules") or {}
            found.append(
                {
                    "id": group["id"],
                    "name": group.get("name"),
                    "project": group.get("project_id"),
                    "policy": policy,
                    "max_server_per_host": max(1, int(rules.get("max_server_per_host") or 1)),
                    "members": sorted(members),
                }
            )
        return found

    def _aggregates(self) -> list[Json]:
        return [
            {
                "id": one.get("uuid"),
                "name": str(one.get("name")),
                "hosts": sorted(
                    self._node_of[host] for host in one.get("hosts") or () if host in self._node_of
                ),
                "metadata": {
                    key: str(value) for key, value in sorted((one.get("metadata") or {}).items())
                },
            }
            for one in sorted(self._now.aggregates, key=lambda one: str(one.get("uuid")))
        ]


def _inventories(provider: reading.Provider) -> dict[str, Json]:
    keys = ("total", "reserved", "allocation_ratio", "min_unit", "max_unit", "step_size")
    return {
        resource: {key: one[key] for key in keys if one.get(key) is not None}
        for resource, one in sorted(provider.inventories.items())
    }


def _flavor(flavor: Json) -> Json:
    """A flavor with what Nova would ask Placement for (nova ``scheduler/utils.py``)."""
    specs: Mapping[str, str] = {
        key: str(value) for key, value in (flavor.get("extra_specs") or {}).items()
    }
    vcpus = int(flavor.get("vcpus") or 0)
    pinned = numa.dedicated(vcpus, specs)
    swap = flavor.get("swap") or 0
    resources = {
        "VCPU": vcpus - pinned,
        "PCPU": pinned + (specs.get("hw:emulator_threads_policy") == "isolate"),
        "MEMORY_MB": flavor.get("ram") or 0,
        "DISK_GB": (flavor.get("disk") or 0)
        + (flavor.get("OS-FLV-EXT-DATA:ephemeral") or 0)
        + math.ceil(swap / 1024),
    }
    for key, value in specs.items():
        # What is not of this form Nova ignores or refuses; the list only informs.
        match = re.fullmatch(r"resources:([A-Z0-9_]+)", key)
        if match and re.fullmatch(r"[0-9]{1,12}", value):
            resources[match[1]] = int(value)
    return {
        "id": str(flavor["id"]),
        "name": str(flavor.get("name")),
        "resources": {name: amount for name, amount in sorted(resources.items()) if amount},
        "extra_specs": dict(sorted(specs.items())),
    }


def _lack(what: str, reason: str, hosts: list[str] | None) -> Json:
    return {"what": what, "reason": reason, "hosts": hosts}


def _one_of(value: object, good: str, bad: str) -> str:
    """What is neither is the worse of the two: Nova says UNKNOWN for a down cell."""
    return good if value == good else bad

# SPDX-License-Identifier: Apache-2.0
"""What a snapshot of a test cloud must say, from the databases of Nova and Placement alone.

It shares no code with nova_rebalancer and asks no API, so that the two can be compared: ``read``
builds a document from the tables, ``compare`` tells where another one differs, ``covered`` what
``compare`` did not look at.  The cloud has to be quiet between the two, for all is compared as it
is.  ``python3 -m tests.cloud.truth [--state DIR]`` prints the document.
"""

import argparse
import ast
import collections
from collections.abc import Iterator
import configparser
import contextlib
import datetime
import json
import math
import pathlib
import re
from typing import Any
from urllib import parse

import pymysql
from pymysql import cursors

from tests.cloud import configs
from tests.cloud import settings

Json = dict[str, Any]
Amounts = dict[str, int]
Row = dict[str, Any]
Path = tuple[str, ...]

# How the document was read; no database knows.
ABOUT_THE_READING = ("cloud", "taken_at", "collected")
# Facts no API gives; what is said of them must be called unknown or inferred.
NOT_GIVEN = tuple(
    ("hosts", "[]", fact)
    for fact in ("cell", "rack", "power_zone", "migration_link", "migration_mibps")
)
# For people; that there is one is all that can be checked.
PROSE = (("refused", "[]", "reason"),)

# Nova's word for vm_state and, where it matters, task_state: nova api/openstack/common.py.
STATUS = {
    "active": "ACTIVE",
    "building": "BUILD",
    "stopped": "SHUTOFF",
    "resized": "VERIFY_RESIZE",
    "paused": "PAUSED",
    "suspended": "SUSPENDED",
    "rescued": "RESCUE",
    "error": "ERROR",
    "deleted": "DELETED",
    "soft-delete": "SOFT_DELETED",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
}
_RESIZING = dict.fromkeys(
    ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish"), "RESIZE"
)
_REBUILDING = dict.fromkeys(
    ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"), "REBUILD"
)
STATUS_IN_TASK = {
    "active": {
        **dict.fromkeys(("rebooting", "reboot_pending", "reboot_started"), "REBOOT"),
        **dict.fromkeys(
            ("rebooting_hard", "reboot_pending_hard", "reboot_started_hard"), "HARD_REBOOT"
        ),
        "updating_password": "PASSWORD",
        "migrating": "MIGRATING",
        **_REBUILDING,
        **_RESIZING,
    },
    "stopped": {**_REBUILDING, **_RESIZING},
    "resized": {"resize_reverting": "REVERT_RESIZE"},
    "paused": {"migrating": "MIGRATING"},
    "error": _REBUILDING,
}

# Of migrations that hold two hosts: what nova/objects/migration.py and compute/manager.py write.
RUNNING = (
    "accepted",
    "queued",
    "preparing",
    "running",
    "pre-migrating",
    "migrating",
    "post-migrating",
    "finished",
    "confirming",
    "reverting",
)

OPT_OUT_METADATA = "nova-rebalancer:allow-migration"
OPT_OUT_TAG = "nova-rebalancer:stay"
SHARING = "MISC_SHARES_VIA_AGGREGATE"
FOREIGN_HYPERVISORS = ("ironic", "VMware vCenter Server")

ABSENT = object()


def read(cloud: settings.Settings) -> Json:
    """Build the document, but for what is about the reading and what no API gives."""
    with contextlib.closing(_connect(cloud)) as connection:
        return _Truth(cloud, connection).document()


def compare(document: Json, truth: Json) -> list[str]:
    """Say one line for each difference, with its place; none when all is as in the databases."""
    found = [
        f"{_shown(path)}: the document has {_said(here)}, the databases have {_said(there)}"
        for path, here, there in _pairs(document, _without_totals(truth), ())
        if not _left_out(path) and not _same(here, there)
    ]
    if found:
        return found
    # Both agree on who is charged for what; together that must be all that Placement charges.
    totals = _totals(document)
    for host, charged in truth["totals"].items():
        told = {name: amount for name, amount in totals[host].items() if name in charged}
        if told != charged:
            found.append(f"hosts[{host}]: parts sum up to {told}, Placement charges {charged}")
    return found


def covered(document: Json, truth: Json) -> list[str]:
    """Say one line for each field of a document that nobody vouches for.

    A field must have been compared with the databases, be about the reading, or be a fact that no
    API gives: then it has to say that it is unknown, with no value, or inferred.
    """
    compared = {
        path
        for path, here, there in _pairs(document, _without_totals(truth), ())
        if ABSENT not in (here, there)
    }
    found = []
    for path, _ in _leaves(document, ()):
        if path not in compared and not _left_out(path):
            found.append(f"{_shown(path)}: neither compared nor known to have no source")
    for host in document["hosts"]:
        for *_, fact in NOT_GIVEN:
            said = host.get(fact)
            unknown = said == {"provenance": "unknown", "value": None}
            if not unknown and (said or {}).get("provenance") != "inferred":
                found.append(f"hosts[{host['id']}].{fact}: no API gives it, but it is {said}")
    for refused in document["refused"]:
        if not refused["reason"]:
            found.append(f"refused[{refused['host']}]: no reason")
    return found


class _Truth:
    """The tables of one moment."""

    def __init__(
        self, cloud: settings.Settings, connection: "pymysql.Connection[cursors.DictCursor]"
    ) -> None:
        self._connection = connection
        # Some options may be given several times.
        nova = configparser.ConfigParser(interpolation=None, strict=False)
        nova.read(cloud.config / "nova/nova.conf")
        self._down_after_s = nova.getint("DEFAULT", "service_down_time", fallback=60)
        self._default_zone = nova.get("DEFAULT", "default_availability_zone", fallback="nova")
        # Nova 31 still shows all that it kept of an image, its own notes among them.
        self._image_properties = None if cloud.release == "2025.1" else _image_properties(cloud)
        self._placement()
        self._nova_api()
        self._cells()

    # The tables

    def _rows(self, query: str) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def _placement(self) -> None:
        self._providers = {
            row["uuid"]: row
            for row in self._rows(
                "SELECT p.uuid, p.name, r.uuid root, q.uuid parent"
                " FROM placement.resource_providers p"
                " LEFT JOIN placement.resource_providers r ON r.id = p.root_provider_id"
                " LEFT JOIN placement.resource_providers q ON q.id = p.parent_provider_id"
            )
        }
        self._inventories: dict[str, Json] = collections.defaultdict(dict)
        for row in self._rows(
            "SELECT p.uuid, c.name, i.total, i.reserved, i.min_unit, i.max_unit, i.step_size,"
            " i.allocation_ratio"
            " FROM placement.inventories i"
            " JOIN placement.resource_providers p ON p.id = i.resource_provider_id"
            " JOIN placement.resource_classes c ON c.id = i.resource_class_id"
        ):
            self._inventories[row.pop("uuid")][row.pop("name")] = row
        self._traits = self._lists(
            "SELECT p.uuid, t.name value FROM placement.resource_provider_traits a"
            " JOIN placement.resource_providers p ON p.id = a.resource_provider_id"
            " JOIN placement.traits t ON t.id = a.trait_id"
        )
        self._aggregates_of = self._lists(
            "SELECT p.uuid, g.uuid value FROM placement.resource_provider_aggregates a"
            " JOIN placement.resource_providers p ON p.id = a.resource_provider_id"
            " JOIN placement.placement_aggregates g ON g.id = a.aggregate_id"
        )
        self._charged: dict[tuple[str, str], Amounts] = collections.defaultdict(dict)
        """What a consumer has of a provider."""
        for row in self._rows(
            "SELECT a.consumer_id, p.uuid, c.name, a.used FROM placement.allocations a"
            " JOIN placement.resource_providers p ON p.id = a.resource_provider_id"
            " JOIN placement.resource_classes c ON c.id = a.resource_class_id"
        ):
            self._charged[row["consumer_id"], row["uuid"]][row["name"]] = row["used"]

    def _nova_api(self) -> None:
        self._mapped = {
            row["host"] for row in self._rows("SELECT host FROM nova_api.host_mappings")
        }
        self._aggregates = self._rows("SELECT id, uuid, name FROM nova_api.aggregates")
        self._aggregate_hosts = self._lists(
            "SELECT aggregate_id uuid, host value FROM nova_api.aggregate_hosts"
        )
        self._aggregate_metadata = self._maps(
            "SELECT aggregate_id uuid, `key`, value FROM nova_api.aggregate_metadata"
        )
        self._specs = {
            row["instance_uuid"]: json.loads(row["spec"])["nova_object.data"]
            for row in self._rows("SELECT instance_uuid, spec FROM nova_api.request_specs")
        }
        self._members = self._lists(
            "SELECT g.uuid, m.instance_uuid value FROM nova_api.instance_group_member m"
            " JOIN nova_api.instance_groups g ON g.id = m.group_id"
        )

    def _cells(self) -> None:
        self._nodes: list[Row] = []
        self._servers: dict[str, Row] = {}
        self._migrations: dict[str, Row] = {}
        self._metadata: dict[str, dict[str, str]] = {}
        self._system: dict[str, dict[str, str]] = {}
        self._tags: dict[str, list[str]] = {}
        self._volumes: dict[str, list[str]] = {}
        for row in self._rows("SELECT instance FROM nova_api.build_requests"):
            # Asked for, and in no cell yet.
            told = json.loads(row["instance"])["nova_object.data"]
            self._servers[told["uuid"]] = {**told, "host": None}
        urls = self._rows("SELECT database_connection url FROM nova_api.cell_mappings")
        names = [parse.urlsplit(row["url"]).path.strip("/") for row in urls]
        self._several_cells = len({*names} - {configs.CELL_0}) > 1
        for name in names:
            self._nodes += self._rows(
                "SELECT n.uuid, n.host, n.hypervisor_hostname, n.hypervisor_type,"
                " n.hypervisor_version, n.cpu_info, s.disabled, s.disabled_reason, s.forced_down,"
                " TIMESTAMPDIFF(SECOND, COALESCE(s.last_seen_up, s.created_at), UTC_TIMESTAMP())"
                " silent_s"
                f" FROM {name}.compute_nodes n JOIN {name}.services s"
                " ON s.host = n.host AND s.`binary` = 'nova-compute' AND s.deleted = 0"
                " WHERE n.deleted = 0"
            )
            # Deleted softly they keep their place.  Nova's API does not list the second copy of
            # an instance that changes its cell.
            for row in self._rows(
                "SELECT i.*, x.flavor, x.numa_topology"
                f" FROM {name}.instances i LEFT JOIN {name}.instance_extra x"
                " ON x.instance_uuid = i.uuid AND x.deleted = 0"
                " WHERE i.deleted = 0 AND NOT COALESCE(i.hidden, 0)"
            ):
                self._servers.setdefault(row["uuid"], row)
            for row in self._rows(f"SELECT * FROM {name}.migrations WHERE deleted = 0"):
                self._migrations[row["uuid"]] = row
            for table, found in (("metadata", self._metadata), ("system_metadata", self._system)):
                found |= self._maps(
                    f"SELECT instance_uuid uuid, `key`, value FROM {name}.instance_{table}"
                    " WHERE deleted = 0"
                )
            self._tags |= self._lists(f"SELECT resource_id uuid, tag value FROM {name}.tags")
            self._volumes |= self._lists(
                f"SELECT instance_uuid uuid, volume_id value FROM {name}.block_device_mapping"
                " WHERE deleted = 0 AND volume_id IS NOT NULL"
            )
        self._ports = self._lists(
            "SELECT DISTINCT p.device_id uuid, b.vnic_type value FROM neutron.ports p"
            " JOIN neutron.ml2_port_bindings b ON b.port_id = p.id WHERE b.vnic_type <> 'normal'"
        )

    def _lists(self, query: str) -> dict[Any, list[Any]]:
        found = collections.defaultdict(list)
        for row in self._rows(query):
            found[row["uuid"]].append(row["value"])
        return collections.defaultdict(list, {key: sorted(each) for key, each in found.items()})

    def _maps(self, query: str) -> dict[Any, dict[str, str]]:
        found: dict[Any, dict[str, str]] = collections.defaultdict(dict)
        for row in self._rows(query):
            found[row["uuid"]][row["key"]] = row["value"]
        return found

    # The document

    def document(self) -> Json:
        self._sort_hosts()
        self._pools = sorted(
            name
            for name in self._providers
            if SHARING in self._traits[name] and name not in self._hosts
        )
        consumers = {consumer for consumer, _ in self._charged}
        # A crash can leave a record behind: the one that runs is charged, and the newest.
        self._running = {
            row["instance_uuid"]: row
            for row in sorted(
                self._migrations.values(), key=lambda row: (row["uuid"] in consumers, row["id"])
            )
            if row["status"] in RUNNING and self._is_placed(row["instance_uuid"])
        }
        self._told: set[tuple[str, str]] = set()
        """Consumers and providers whose allocations an instance or a migration tells."""
        instances = [self._instance(name) for name in self._servers if self._is_placed(name)]
        migrations = [self._migration(row) for row in self._running.values()]
        return {
            "format": "nova-rebalancer-snapshot/1",
            "region": settings.REGION,
            "numa_choice": "nova",
            "several_cells": self._several_cells,
            "hosts": [self._host(name, instances) for name in self._hosts],
            "pools": [{"id": name, "inventories": self._inventories[name]} for name in self._pools],
            "flavors": self._flavors(),
            "instances": instances,
            "server_groups": self._groups(),
            "aggregates": self._host_aggregates(),
            "running_migrations": migrations,
            "outside": self._outside(),
            "refused": [{"host": name} for name in sorted(self._refused)],
            "missing": [],
            "totals": {name: self._total(name) for name in self._hosts},
        }

    def _sort_hosts(self) -> None:
        """Take the hosts a plan can be made for; refuse the others."""
        self._hosts: dict[str, Row] = {}
        self._refused: set[str] = set()
        nodes = [node for node in self._nodes if node["host"] in self._mapped]
        count = collections.Counter(node["host"] for node in nodes)
        for node in nodes:
            provider = self._providers.get(node["uuid"])
            if (
                node["hypervisor_type"] not in FOREIGN_HYPERVISORS
                and count[node["host"]] == 1
                and provider is not None
                and provider["name"] == node["hypervisor_hostname"]
                and self._inventories[node["uuid"]]
            ):
                self._hosts[node["uuid"]] = node
            else:
                self._refused.add(node["host"])
        self._id_of = {node["host"]: name for name, node in self._hosts.items()}

    def _is_placed(self, server: str) -> bool:
        return server in self._servers and self._servers[server]["host"] in self._id_of

    def _host(self, name: str, instances: list[Json]) -> Json:
        node = self._hosts[name]
        zones = {
            self._aggregate_metadata[one["id"]]["availability_zone"]
            for one in self._aggregates
            if node["host"] in self._aggregate_hosts[one["id"]]
            and "availability_zone" in self._aggregate_metadata[one["id"]]
        }
        cells = {
            guest["cell"]
            for instance in instances
            if instance["host"] == name
            for guest in instance["numa"] or ()
        }
        return {
            "id": name,
            "service_host": node["host"],
            "hypervisor_hostname": node["hypervisor_hostname"],
            "az": ",".join(sorted(zones)) or self._default_zone,
            "status": "disabled" if node["disabled"] else "enabled",
            "state": "up" if self._is_up(node) else "down",
            "disabled_reason": node["disabled_reason"],
            "forced_down": bool(node["forced_down"]),
            "hypervisor_type": node["hypervisor_type"],
            "hypervisor_version": node["hypervisor_version"],
            "cpu_info": json.loads(node["cpu_info"] or "{}"),
            "traits": self._traits[name],
            "inventories": self._inventories[name],
            "providers": [
                {
                    "id": below["uuid"],
                    "name": below["name"],
                    "parent": below["parent"],
                    "inventories": self._inventories[below["uuid"]],
                    "traits": self._traits[below["uuid"]],
                }
                for below in self._providers.values()
                if below["root"] == name and below["uuid"] != name
            ],
            "held": self._held(name),
            "shared": self._shared(name),
            "numa": {
                "provenance": "inferred" if cells else "unknown",
                "cells": [{"id": cell, "capacity": {}} for cell in sorted(cells)],
            },
        }

    def _is_up(self, node: Row) -> bool:
        return not node["forced_down"] and abs(node["silent_s"]) <= self._down_after_s

    def _shared(self, host: str) -> dict[str, str]:
        return {
            resource: pool
            for pool in self._pools
            if set(self._aggregates_of[pool]) & set(self._aggregates_of[host])
            for resource in self._inventories[pool]
            if resource not in self._inventories[host]
        }

    def _instance(self, name: str) -> Json:
        server = self._servers[name]
        host = self._id_of[server["host"]]
        flavor = json.loads(server["flavor"])["cur"]["nova_object.data"]
        metadata, tags = self._metadata.get(name, {}), self._tags.get(name, [])
        allowed = metadata.get(OPT_OUT_METADATA, "true").strip().lower() == "true"
        spec = self._specs.get(name, {})
        allocations, nested = self._take(name, host)
        return {
            "id": name,
            "name": server["display_name"],
            "project": server["project_id"],
            "flavor": flavor["name"],
            "host": host,
            "status": _status(server),
            "task_state": server["task_state"],
            "vm_state": server["vm_state"],
            "power_state": server["power_state"],
            "locked": server["locked_by"] is not None,
            "locked_reason": self._system.get(name, {}).get("locked_reason"),
            "allow_migration": allowed and OPT_OUT_TAG not in tags,
            "allocations": allocations,
            "nested": nested,
            "numa": _guest_cells(server["numa_topology"]),
            "numa_pagesize_kib": _page_size(server["numa_topology"]),
            "metadata": metadata,
            "tags": tags,
            "launched_at": _moment(server["launched_at"], "%Y-%m-%dT%H:%M:%S.%f"),
            "updated_at": _moment(server["updated_at"], "%Y-%m-%dT%H:%M:%SZ"),
            "pinned_az": spec.get("availability_zone"),
            "image": {
                "id": server["image_ref"] or None,
                "properties": self._properties(name) if server["image_ref"] else {},
            },
            "extra_specs": flavor["extra_specs"],
            "scheduler_hints": spec.get("scheduler_hints") or {},
            "volumes": self._volumes.get(name, []),
            "vnic_types": self._ports.get(name, []),
        }

    def _properties(self, server: str) -> dict[str, str]:
        """Image properties that Nova knows, with those whose names hold a trait's.

        Its API shows the first ones only; the others can be had from the image.
        """
        found = {}
        for key, value in self._system.get(server, {}).items():
            name = key.removeprefix("image_")
            known = self._image_properties
            shown = known is None or name in known or name.startswith("trait:")
            if name != key and shown and value is not None:
                found[name] = value
        return found

    # What is charged

    def _take(self, server: str, host: str) -> tuple[Amounts, dict[str, Amounts]]:
        """Tell what an instance has at one end of its migration, and of nested providers there.

        While it migrates, one end is charged under the instance's name and the other one under
        the migration's; Nova exchanges them.  What is told once is not told again.
        """
        migration = self._running.get(server)
        names = [server, migration["uuid"]] if migration else [server]
        ends = {
            (self._providers[provider]["root"], consumer)
            for consumer, provider in self._charged.keys() - self._told
        }
        for consumer in names:
            if (host, consumer) in ends:
                return self._take_as(consumer, host)
        return {}, {}

    def _take_as(self, consumer: str, host: str) -> tuple[Amounts, dict[str, Amounts]]:
        total: collections.Counter[str] = collections.Counter()
        nested = {}
        pools = set(self._shared(host).values())
        for (name, provider), resources in self._charged.items():
            if name != consumer or (name, provider) in self._told:
                continue
            if provider == host or provider in pools:
                total.update(resources)
            elif self._providers[provider]["root"] == host:
                nested[provider] = resources
            else:
                continue
            self._told.add((name, provider))
        return dict(total), nested

    def _migration(self, row: Row) -> Json:
        server = row["instance_uuid"]
        here = self._id_of[self._servers[server]["host"]]
        source = self._id_of.get(row["source_compute"], here)
        dest = self._id_of.get(row["dest_compute"])
        far = dest if source == here else source
        return {
            "id": row["uuid"],
            "type": row["migration_type"],
            "instance": server,
            "source": source,
            "dest": dest,
            "status": row["status"],
            # On one host there is no other end: the rest is held.
            "far_allocations": None if far in (None, here) else self._take(server, far)[0],
        }

    def _held(self, host: str) -> list[Json]:
        # What a pool holds is told once, at the first of its hosts.
        providers = {name for name, one in self._providers.items() if one["root"] == host}
        for pool in set(self._shared(host).values()):
            users = [one for one in self._hosts if pool in self._shared(one).values()]
            if host == min(users, key=lambda one: str(self._hosts[one]["host"])):
                providers.add(pool)
        held: dict[str, collections.Counter[str]] = {}
        for (consumer, provider), resources in self._charged.items():
            if provider in providers and (consumer, provider) not in self._told:
                held.setdefault(consumer, collections.Counter()).update(resources)
        return [
            {"consumer": consumer, "why": self._why(consumer), "resources": dict(total)}
            for consumer, total in held.items()
        ]

    def _why(self, consumer: str) -> str:
        if consumer in self._servers:
            return "elsewhere"
        record = self._migrations.get(consumer)
        return "migration" if record is not None and record["status"] in RUNNING else "unknown"

    def _total(self, host: str) -> Amounts:
        """All that Placement charges on a host itself."""
        total: collections.Counter[str] = collections.Counter(
            dict.fromkeys(self._inventories[host], 0)
        )
        for (_, provider), resources in self._charged.items():
            if provider == host:
                total.update(resources)
        return dict(total)

    # The rest

    def _flavors(self) -> list[Json]:
        specs = self._maps("SELECT flavor_id uuid, `key`, value FROM nova_api.flavor_extra_specs")
        return [
            {
                "id": row["flavorid"],
                "name": row["name"],
                "resources": _asked(row, specs[row["id"]]),
                "extra_specs": specs[row["id"]],
            }
            for row in self._rows("SELECT * FROM nova_api.flavors")
        ]

    def _groups(self) -> list[Json]:
        return [
            {
                "id": row["uuid"],
                "name": row["name"],
                "project": row["project_id"],
                "policy": row["policy"],
                "max_server_per_host": int(
                    json.loads(row["rules"] or "{}").get("max_server_per_host", 1)
                ),
                "members": [name for name in self._members[row["uuid"]] if name in self._servers],
            }
            for row in self._rows(
                "SELECT g.uuid, g.name, g.project_id, p.policy, p.rules"
                " FROM nova_api.instance_groups g"
                " JOIN nova_api.instance_group_policy p ON p.group_id = g.id"
            )
        ]

    def _host_aggregates(self) -> list[Json]:
        return [
            {
                "id": one["uuid"],
                "name": one["name"],
                "hosts": sorted(
                    self._id_of[host]
                    for host in self._aggregate_hosts[one["id"]]
                    if host in self._id_of
                ),
                "metadata": self._aggregate_metadata[one["id"]],
            }
            for one in self._aggregates
        ]

    def _outside(self) -> list[Json]:
        found = []
        for name, server in self._servers.items():
            if self._is_placed(name):
                continue
            host = server["host"]
            reason = "host_refused" if host in self._refused else "host_unknown"
            found.append(
                {
                    "id": name,
                    "name": server["display_name"],
                    "project": server["project_id"],
                    "status": _status(server),
                    "task_state": server["task_state"],
                    "host": host,
                    "reason": reason if host else "no_host",
                }
            )
        return found


def _connect(cloud: settings.Settings) -> "pymysql.Connection[cursors.DictCursor]":
    url = parse.urlsplit(configs.database(cloud, "nova_api"))
    connection = pymysql.connect(
        host=url.hostname,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        cursorclass=cursors.DictCursor,
    )
    with connection.cursor() as cursor:
        # All tables of all databases as they are now.
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    return connection


def _image_properties(cloud: settings.Settings) -> set[str]:
    """Names of the image properties that the installed Nova knows, old names too."""
    (file,) = cloud.venv.glob("lib/python*/site-packages/nova/objects/image_meta.py")
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef) and node.name == "ImageMetaProps":
            for item in node.body:
                if isinstance(item, ast.Assign) and isinstance(item.value, ast.Dict):
                    keys = (key for key in item.value.keys if isinstance(key, ast.Constant))
                    names |= {str(key.value) for key in keys}
    return names


def _status(server: Row) -> str:
    state = server["vm_state"]
    in_task = STATUS_IN_TASK.get(state, {})
    return in_task.get(server["task_state"], STATUS.get(state, "UNKNOWN"))


def _moment(when: datetime.datetime | None, form: str) -> str | None:
    return when.strftime(form) if when else None


def _guest_cells(topology: str | None) -> list[Json] | None:
    if topology is None:
        return None
    found = []
    for item in json.loads(topology)["nova_object.data"]["cells"]:
        cell = item["nova_object.data"]
        resources = {
            "VCPU": len(cell["cpuset"]),
            "PCPU": len(cell["pcpuset"]),
            "MEMORY_MB": cell["memory"],
        }
        # 4 KiB is no page to count, and no other size below 2 MiB is in use.
        if cell["pagesize"] and cell["pagesize"] > 4:
            pages = cell["memory"] * 1024 // cell["pagesize"]
            resources[f"HUGEPAGES_{cell['pagesize']}KB"] = pages
        resources = {name: amount for name, amount in resources.items() if amount}
        pinned = sorted((cell["cpu_pinning_raw"] or {}).values())
        found.append({"cell": cell["id"], "resources": resources, "pinned": pinned})
    return found


def _page_size(topology: str | None) -> int | None:
    """In KiB; Nova shows that of the last cell that has one."""
    if topology is None:
        return None
    cells = json.loads(topology)["nova_object.data"]["cells"]
    sizes = [cell["nova_object.data"]["pagesize"] for cell in cells]
    return next((size for size in reversed(sizes) if size), None)


def _asked(flavor: Row, specs: dict[str, str]) -> Amounts:
    """What Nova asks Placement for, for a guest of a flavor: nova ``scheduler/utils.py``."""
    policy = specs.get("hw:cpu_policy")
    pinned = flavor["vcpus"] if policy == "dedicated" else 0
    if policy == "mixed":
        pinned = len(_cpus(specs["hw:cpu_dedicated_mask"], flavor["vcpus"]))
    disk = flavor["root_gb"] + flavor["ephemeral_gb"] + math.ceil(flavor["swap"] / 1024)
    asked = {
        "VCPU": flavor["vcpus"] - pinned,
        "PCPU": pinned,
        "MEMORY_MB": flavor["memory_mb"],
        "DISK_GB": disk,
    }
    for key, value in specs.items():
        if key.startswith("resources:"):
            asked[key.removeprefix("resources:")] = int(value)
    return {name: amount for name, amount in asked.items() if amount}


def _cpus(mask: str, count: int) -> set[int]:
    """The CPUs of a mask such as ``0-2,^1``; one that begins with ``^`` takes from all."""
    wanted: set[int] = set(range(count)) if mask.startswith("^") else set()
    for part in mask.split(","):
        first, _, last = part.strip().lstrip("^").partition("-")
        named = set(range(int(first), int(last or first) + 1))
        wanted = wanted - named if part.strip().startswith("^") else wanted | named
    return wanted


# Documents side by side


def _pairs(here: Any, there: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    """All that has no parts, in both; ``ABSENT`` where one has nothing of it."""
    ours, theirs = _parts(here), _parts(there)
    if not ours or not theirs:
        yield path, here, there
        return
    for name in sorted(ours.keys() | theirs.keys()):
        yield from _pairs(ours.get(name, ABSENT), theirs.get(name, ABSENT), (*path, name))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    parts = _parts(value)
    if not parts:
        yield path, value
    for name, part in parts.items():
        yield from _leaves(part, (*path, name))


def _parts(value: Any) -> dict[str, Any]:
    """What a value is made of by name; objects in a list are called by what identifies them."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return {}
    for key in ("id", "consumer", "host"):
        names = [f"[{item[key]}]" for item in value if key in item]
        if len(names) == len(value) == len(set(names)):
            return dict(zip(names, value, strict=True))
    return {f"[{number}]": item for number, item in enumerate(value)}


def _left_out(path: Path) -> bool:
    pattern = tuple("[]" if part.startswith("[") else part for part in path)
    return pattern[0] in ABOUT_THE_READING or any(
        pattern[: len(known)] == known for known in NOT_GIVEN + PROSE
    )


def _same(here: Any, there: Any) -> bool:
    # For Python True is 1; for JSON it is not.
    return type(here) is type(there) and bool(here == there)


def _shown(path: Path) -> str:
    return re.sub(r"\.\[", "[", ".".join(path))


def _said(value: Any) -> str:
    return "nothing" if value is ABSENT else json.dumps(value, sort_keys=True)


def _without_totals(truth: Json) -> Json:
    return {name: value for name, value in truth.items() if name != "totals"}


def _totals(document: Json) -> dict[str, collections.Counter[str]]:
    """What the parts of a document sum up to on each host."""
    total: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    here = {instance["id"]: instance for instance in document["instances"]}
    for instance in here.values():
        total[instance["host"]].update(instance["allocations"])
    for migration in document["running_migrations"]:
        instance = here[migration["instance"]]
        for end in {migration["source"], migration["dest"]} - {instance["host"], None}:
            total[end].update(migration["far_allocations"] or {})
    for host in document["hosts"]:
        total[host["id"]].update(dict.fromkeys(host["inventories"], 0))
        for held in host["held"]:
            total[host["id"]].update(held["resources"])
    return total


def main() -> None:
    """Print what a snapshot must say."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.cloud.truth")
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    print(json.dumps(read(settings.load(parser.parse_args().state)), indent=2, sort_keys=True))


if __name__ == "__main__":
    main()

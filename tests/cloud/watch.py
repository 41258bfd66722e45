# SPDX-License-Identifier: Apache-2.0
"""Watches a test cloud from its databases while something migrates its servers.

It shares no code with nova_rebalancer and asks no API.  About once a second it takes one
consistent look at the tables of Nova and Placement and writes down what must not be: a host with
more than it has room for, a broken server group, more migrations at a time than agreed, one that
started before what it depends on had ended well. ::

    with watch.Watcher(cloud, watch.Limits(source=1, dest=1, total=8), plan) as watcher:
        carry_the_plan_out()
    assert not watcher.report.violations
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import dataclasses
import datetime
import json
import threading
import time
from typing import Any

import pymysql
from pymysql import cursors

from tests.cloud import configs
from tests.cloud import settings

Json = dict[str, Any]

# What nova/objects/migration.py and compute/manager.py write while two hosts are concerned.
IN_FLIGHT = ("accepted", "queued", "preparing", "running", "post-migrating", "pre-migrating")
COMPLETED = "completed"
LIVE = "live-migration"


@dataclasses.dataclass(frozen=True)
class Server:
    """An instance as Nova's database has it."""

    name: str
    host: str | None
    vm_state: str | None
    task_state: str | None
    locked: bool


@dataclasses.dataclass(frozen=True)
class Record:
    """A migration as Nova's database has it; times are UTC, whole seconds."""

    uuid: str
    number: int
    """Nova's id in the API; unique in one cell."""
    instance: str
    kind: str
    status: str
    source: str | None
    dest: str | None
    user: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Room:
    """What a provider has of one resource class, and what of it is allocated."""

    capacity: float
    used: int


@dataclasses.dataclass(frozen=True)
class Group:
    """A server group; ``limit`` is of a hard anti-affinity."""

    uuid: str
    policy: str
    limit: int
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Look:
    """All tables at one moment."""

    at: float
    servers: Mapping[str, Server]
    records: Mapping[str, Record]
    """By uuid, in the order in which each cell made them."""
    rooms: Mapping[tuple[str, str], Room]
    """By the provider's name and the resource class."""
    charges: Mapping[str, Mapping[str, Mapping[str, int]]]
    """By consumer, the provider's name and the resource class."""
    groups: tuple[Group, ...]

    def records_of(self, instance: str, known: Iterable[str] = ()) -> list[Record]:
        """Its live migrations in order, but those that were ``known`` before."""
        old = set(known)
        return [
            record
            for record in self.records.values()
            if record.instance == instance and record.kind == LIVE and record.uuid not in old
        ]


class Tables:
    """The databases of one cloud; a connection that broke is made anew with the next look."""

    def __init__(self, cloud: settings.Settings) -> None:
        self._cloud = cloud
        self._connection: pymysql.Connection[cursors.DictCursor] | None = None

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            with contextlib.suppress(pymysql.MySQLError):
                self._connection.close()
            self._connection = None

    def look(self) -> Look:
        """Read all in one transaction.

        Raises
        ------
        pymysql.MySQLError
            If the database does not answer.
        """
        try:
            if self._connection is None:
                self._connection = pymysql.connect(
                    host=settings.ADDRESS,
                    port=self._cloud.port("mariadb"),
                    user="cloud",
                    password=self._cloud.password,
                    cursorclass=cursors.DictCursor,
                    connect_timeout=5,
                    read_timeout=30,
                )
            # All databases are MariaDB's own, so one snapshot holds for all of them.
            self._rows("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            at = time.time()
            servers: dict[str, Server] = {}
            records: dict[str, Record] = {}
            for cell in self._cloud.cells:
                self._read_cell(configs.cell_database(cell), servers, records)
            look = Look(at, servers, records, self._rooms(), self._charges(), self._groups())
            self._rows("COMMIT")
            return look
        except Exception:
            self.close()
            raise

    def _rows(self, query: str) -> list[Json]:
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def _read_cell(
        self, database: str, servers: dict[str, Server], records: dict[str, Record]
    ) -> None:
        for row in self._rows(
            "SELECT uuid, display_name, host, vm_state, task_state, locked"
            f" FROM {database}.instances WHERE deleted = 0"
        ):
            servers[row["uuid"]] = Server(
                row["display_name"],
                row["host"],
                row["vm_state"],
                row["task_state"],
                bool(row["locked"]),
            )
        for row in self._rows(
            "SELECT uuid, id, instance_uuid, migration_type, status, source_compute, dest_compute,"
            f" user_id, created_at, updated_at FROM {database}.migrations"
            " WHERE deleted = 0 ORDER BY id"
        ):
            records[row["uuid"]] = Record(
                row["uuid"],
                row["id"],
                row["instance_uuid"],
                row["migration_type"],
                row["status"],
                row["source_compute"],
                row["dest_compute"],
                row["user_id"],
                row["created_at"],
                row["updated_at"],
            )

    def _rooms(self) -> dict[tuple[str, str], Room]:
        return {
            (row["provider"], row["class"]): Room(
                (row["total"] - row["reserved"]) * row["allocation_ratio"], int(row["used"])
            )
            for row in self._rows(
                "SELECT p.name provider, c.name class, i.total, i.reserved, i.allocation_ratio,"
                " COALESCE((SELECT SUM(a.used) FROM placement.allocations a"
                "   WHERE a.resource_provider_id = i.resource_provider_id"
                "   AND a.resource_class_id = i.resource_class_id), 0) used"
                " FROM placement.inventories i"
                " JOIN placement.resource_providers p ON p.id = i.resource_provider_id"
                " JOIN placement.resource_classes c ON c.id = i.resource_class_id"
            )
        }

    def _charges(self) -> dict[str, dict[str, dict[str, int]]]:
        found: dict[str, dict[str, dict[str, int]]] = {}
        for row in self._rows(
            "SELECT a.consumer_id, p.name provider, c.name class, a.used"
            " FROM placement.allocations a"
            " JOIN placement.resource_providers p ON p.id = a.resource_provider_id"
            " JOIN placement.resource_classes c ON c.id = a.resource_class_id"
        ):
            of = found.setdefault(row["consumer_id"], {}).setdefault(row["provider"], {})
            of[row["class"]] = row["used"]
        return found

    def _groups(self) -> tuple[Group, ...]:
        members: dict[int, list[str]] = collections.defaultdict(list)
        for row in self._rows("SELECT group_id, instance_uuid FROM nova_api.instance_group_member"):
            members[row["group_id"]].append(row["instance_uuid"])
        return tuple(
            Group(
                row["uuid"],
                row["policy"],
                int(json.loads(row["rules"] or "{}").get("max_server_per_host", 1)),
                tuple(members[row["id"]]),
            )
            for row in self._rows(
                "SELECT g.id, g.uuid, p.policy, p.rules FROM nova_api.instance_groups g"
                " JOIN nova_api.instance_group_policy p ON p.group_id = g.id"
            )
        )


@dataclasses.dataclass(frozen=True)
class Limits:
    """Most live migrations at a time; None is no limit.

    With ``user`` only that user's migrations are counted and compared with a plan.
    """

    source: int | None = None
    dest: int | None = None
    total: int | None = None
    user: str | None = None


@dataclasses.dataclass
class Report:
    """What was seen.

    Attributes
    ----------
    polls, missed
        Looks that were taken, and those that the database did not answer.
    violations
        One line each, said once.
    most
        The most migrations in flight at a time.
    known
        Uuids of the migrations there were before.
    """

    polls: int = 0
    missed: int = 0
    violations: list[str] = dataclasses.field(default_factory=list)
    most: int = 0
    known: frozenset[str] = frozenset()

    def text(self) -> str:
        """Say it in one line."""
        return (
            f"{self.polls} polls ({self.missed} missed), at most {self.most} in flight, "
            f"{len(self.violations)} violations"
        )


class Watcher:
    """Looks as long as its ``with`` runs, and once more at its end.

    Parameters
    ----------
    plan
        The plan document that is carried out, if dependencies are to be judged.
    every_s
        From one look to the next.
    """

    def __init__(
        self,
        cloud: settings.Settings,
        limits: Limits,
        plan: Json | None = None,
        every_s: float = 1.0,
    ) -> None:
        self.report = Report()
        self._tables = Tables(cloud)
        self._judge: Judge | None = None
        self._limits = limits
        self._plan = plan
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watcher":
        first = self._tables.look()
        self.report.known = frozenset(first.records)
        self._judge = Judge(first, self._limits, self._plan, self.report)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._poll()
        self._tables.close()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._poll()

    def _poll(self) -> None:
        assert self._judge is not None
        try:
            look = self._tables.look()
        except pymysql.MySQLError:
            self.report.missed += 1
            return
        self.report.polls += 1
        self._judge.judge(look)


class Judge:
    """Compares looks with the first one, and with what is allowed."""

    def __init__(self, first: Look, limits: Limits, plan: Json | None, report: Report) -> None:
        self._limits = limits
        self._report = report
        self._planned = plan["migrations"] if plan else []
        self._overfull = {
            key: room.used for key, room in first.rooms.items() if room.used > room.capacity
        }
        self._crowded = {
            (group.uuid, host): count for group in first.groups for host, count in _on(group, first)
        }
        self._apart = {group.uuid for group in first.groups if len(dict(_on(group, first))) > 1}
        self._said: set[str] = set()

    def judge(self, look: Look) -> None:
        """Add what is wrong now to the report."""
        for line in (
            *self._capacity(look),
            *self._groups(look),
            *self._flights(look),
            *self._dependencies(look),
        ):
            if line not in self._said:
                self._said.add(line)
                when = datetime.datetime.fromtimestamp(look.at, datetime.UTC)
                self._report.violations.append(f"{when:%H:%M:%S} {line}")

    def _capacity(self, look: Look) -> Iterable[str]:
        for key, room in look.rooms.items():
            # What was overfull before may stay so, and no more.
            if room.used > max(room.capacity, self._overfull.get(key, 0)):
                provider, name = key
                yield f"capacity: {provider} {name}: {room.used} of {room.capacity:g}"

    def _groups(self, look: Look) -> Iterable[str]:
        for group in look.groups:
            hosts = dict(_on(group, look))
            if group.policy == "anti-affinity":
                for host, count in hosts.items():
                    if count > max(group.limit, self._crowded.get((group.uuid, host), 0)):
                        yield f"anti-affinity: {count} of group {group.uuid} on {host}"
            if group.policy == "affinity" and len(hosts) > 1 and group.uuid not in self._apart:
                yield f"affinity: group {group.uuid} is on {', '.join(sorted(hosts))}"

    def _flights(self, look: Look) -> Iterable[str]:
        flying = [
            record
            for uuid, record in look.records.items()
            if uuid not in self._report.known
            and record.kind == LIVE
            and record.status in IN_FLIGHT
            and self._limits.user in (None, record.user)
        ]
        self._report.most = max(self._report.most, len(flying))
        for what, limit, hosts in (
            ("source", self._limits.source, [record.source for record in flying]),
            ("dest", self._limits.dest, [record.dest for record in flying]),
            ("total", self._limits.total, ["the cloud"] * len(flying)),
        ):
            for host, count in collections.Counter(hosts).items():
                if limit is not None and host is not None and count > limit:
                    yield f"limit per {what}: {count} at a time, {host} (limit {limit})"

    def _dependencies(self, look: Look) -> Iterable[str]:
        yield from dependency_violations(self._planned, look, self._report.known, self._limits.user)


def dependency_violations(
    planned: list[Json], look: Look, known: Iterable[str], user: str | None = None
) -> Iterable[str]:
    """Say which of the planned migrations began before all they depend on were completed.

    Nova's times are whole seconds, so this sees an overlap of a second or more; looks taken while
    it happens see all that lasts from one to the next.
    """
    found = matched(planned, look, known, user)
    for migration in planned:
        records = found[migration["id"]]
        for name in migration["depends_on"] if records else ():
            good = [one for one in found[name] if one.status == COMPLETED]
            if not good:
                yield f"order: {migration['id']} was asked for, {name} is not completed"
            elif good[-1].updated_at and records[0].created_at < good[-1].updated_at:
                yield f"order: {migration['id']} was asked for before {name} was completed"


def matched(
    planned: list[Json], look: Look, known: Iterable[str], user: str | None = None
) -> dict[str, list[Record]]:
    """Return the records that belong to each planned migration; with ``user`` only that user's.

    An instance may have several migrations planned, which follow one another; one that failed may
    have been asked for again.  Records without a destination were refused by Nova early.
    """
    old = set(known)
    found: dict[str, list[Record]] = {migration["id"]: [] for migration in planned}
    of: dict[str, list[Json]] = collections.defaultdict(list)
    for migration in planned:
        of[migration["instance"]].append(migration)
    for instance, migrations in of.items():
        left = list(migrations)
        for record in look.records_of(instance, old):
            if user not in (None, record.user):
                continue
            for migration in left:
                if record.source == migration["source"] and record.dest in (
                    None,
                    migration["dest"],
                ):
                    found[migration["id"]].append(record)
                    # What comes later belongs to it or to one after it.
                    left = left[left.index(migration) + (record.status == COMPLETED) :]
                    break
    return found


def wrong_ends(look: Look, ends: Mapping[str, str], before: Look) -> list[str]:
    """Say which instances are not on their host, as they were, at rest and charged there alone."""
    wrong = []
    for instance, host in ends.items():
        server = look.servers.get(instance)
        if server is None:
            wrong.append(f"{instance} is gone")
            continue
        if server.host != host:
            wrong.append(f"{server.name} is on {server.host}, not {host}")
        if server.vm_state != before.servers[instance].vm_state or server.task_state is not None:
            wrong.append(f"{server.name} is {server.vm_state}, task {server.task_state}")
        # A nested provider is called like its host, with more behind it.
        charged = {name.partition("_")[0] for name in look.charges.get(instance, {})}
        if charged != {host}:
            wrong.append(f"{server.name} on {host} is charged on {sorted(charged)}")
    migrations = {record.uuid for record in look.records.values() if record.instance in ends}
    for uuid in sorted(migrations & look.charges.keys()):
        wrong.append(f"migration {uuid} of {look.records[uuid].instance} still holds a host")
    return wrong


def _on(group: Group, look: Look) -> Iterable[tuple[str, int]]:
    """How many of a group are on each host."""
    hosts = (look.servers[name].host for name in group.members if name in look.servers)
    return collections.Counter(host for host in hosts if host is not None).items()

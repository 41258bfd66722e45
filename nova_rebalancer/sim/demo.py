# SPDX-License-Identifier: Apache-2.0
"""The demo cloud: a snapshot document made up from a seed.

Weeks of instances that come and go leave a cloud nine tenths full whose free cores lie in small
pieces, as in production; on top come what keeps planners honest there: hosts in maintenance,
one that is down, server groups, and instances that must stay.
"""

import bisect
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import datetime
import json
import random
from typing import Any
import uuid

from nova_rebalancer import exceptions

CLOUD = "demo"
TAKEN_AT = datetime.datetime(2026, 1, 12, 3, 0, tzinfo=datetime.UTC)

HOSTS = 60
MIN_HOSTS, MAX_HOSTS = 10, 2000

FRAGMENT_CORES = 16
"""X of the fragment rate that the churn is steered by."""

FILL = (88, 92)
"""Percent of the usable cores that are allocated at the end."""

FRAGMENT_RATE = (45, 60)
"""Percent at the end, where a cloud of this size reaches it."""

CELLS = 2
CELL_PCPU = 48
CELL_MIB = 384 * 1024
CELL_RESERVED_MIB = 8 * 1024
POOL_GIB_PER_HOST = 10_000

SIZES = {2: 26, 4: 28, 8: 22, 16: 12, 32: 8, 64: 4}
"""Weight of each flavor size, in cores, among new instances."""

FAMILIES = {"compute": (2, 4), "general": (4, 4), "memory": (8, 2)}
"""GiB per core, and weight, of each flavor family."""

PROJECTS = (
    "shop", "billing", "search", "media", "crm", "ci", "maps", "sensors", "reports", "wiki",
)  # fmt: skip
ROLES = ("web", "api", "worker", "cache", "batch", "queue", "app")
REASONS = ("kernel update", "firmware update of the disk controller", "memory module replaced")
TASKS = ("image_snapshot", "rebooting", "resize_prep")

EVENTS_PER_HOST = 45
"""Arrivals and departures for each host, after the cloud was first full."""

PACKED = 52
"""Percent of arrivals that go where they fit best; the others go anywhere they fit."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Size:
    """What an instance takes; each of its ``guests`` takes an equal part."""

    family: str
    cores: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.cores}c-{self.mib // 1024}g"

    @property
    def guests(self) -> int:
        return 1 if self.cores <= CELL_PCPU else 2

    @property
    def mib(self) -> int:
        return self.cores * FAMILIES[self.family][0] * 1024

    @property
    def resources(self) -> dict[str, int]:
        return {"PCPU": self.cores, "MEMORY_MB": self.mib, "DISK_GB": 20 + 5 * self.cores}

    @property
    def guest_resources(self) -> dict[str, int]:
        return {"PCPU": self.cores // self.guests, "MEMORY_MB": self.mib // self.guests}


@dataclasses.dataclass(slots=True)
class _Server:
    id: str
    name: str
    project: str
    size: _Size
    host: int
    cells: tuple[int, ...]
    group: "_Group | None"
    minute: int
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True, eq=False)
class _Group:
    """A server group; a ``lasting`` one is never deleted."""

    id: str
    name: str
    project: str
    policy: str
    lasting: bool
    members: list[_Server] = dataclasses.field(default_factory=list)


class _Dice:
    """Draws that are the same on every machine and in every Python.

    Of the methods of ``random.Random`` only ``random()`` is promised never to change; it gives
    multiples of 2**-53, so the product below is rounded in one way only.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, n: int) -> int:
        """Return a whole number in [0, n); n is far below 2**53."""
        return int(self._random.random() * n)

    def weighted(self, weights: Sequence[int]) -> int:
        """Return an index, each as likely as its weight."""
        sums = [sum(weights[: i + 1]) for i in range(len(weights))]
        return bisect.bisect_right(sums, self.below(sums[-1]))

    def sample(self, things: Sequence[Any], count: int) -> list[Any]:
        """Return ``count`` different ones of ``things``, or all."""
        left = list(things)
        taken: list[Any] = []
        while left and len(taken) < count:
            taken.append(left.pop(self.below(len(left))))
        return taken

    def uuid(self) -> str:
        """Return what looks like an id that Nova made."""
        words = [self.below(1 << 32) for _ in range(4)]
        number = sum(word << 32 * i for i, word in enumerate(words))
        return str(uuid.UUID(int=number, version=4))


class _Churn:
    """The cloud while it lives."""

    def __init__(self, seed: int, hosts: int) -> None:
        self.dice = _Dice(seed)
        self.zones = 3 if hosts >= 30 else 2
        self.host_ids = [self.dice.uuid() for _ in range(hosts)]
        self.zone_of = [h * self.zones // hosts for h in range(hosts)]
        self.in_zone = [
            [h for h in range(hosts) if self.zone_of[h] == z] for z in range(self.zones)
        ]
        self.cores = [[CELL_PCPU] * CELLS for _ in range(hosts)]
        self.mib = [[CELL_MIB - CELL_RESERVED_MIB] * CELLS for _ in range(hosts)]
        self.servers: list[_Server] = []
        self.groups: list[_Group] = []
        self.project_ids = {project: self.dice.uuid() for project in PROJECTS}
        self.pool_id = self.dice.uuid()
        self.minute = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._sizes = [_Size(family, cores) for family in FAMILIES for cores in SIZES]
        self._weights = [
            weight * SIZES[cores] for _, weight in FAMILIES.values() for cores in SIZES
        ]
        # One zone each in turn, so that none loses more than the others.
        out = [self.dice.sample(here, max(1, hosts // 20)) for here in self.in_zone]
        self.to_disable = [out[i % self.zones][i // self.zones] for i in range(max(1, hosts // 20))]
        last = len(self.to_disable)
        rest = [h for h in self.in_zone[last % self.zones] if h not in self.to_disable]
        self.to_fail = self.dice.sample(rest, 1)
        self.closed: set[int] = set()

    def live(self) -> None:
        """Go through the weeks up to the snapshot."""
        # What lasts keeps off the hosts that will be emptied.
        self.closed = {*self.to_disable, *self.to_fail}
        for _ in range(max(3, len(self.host_ids) // 12)):
            self.deploy_cluster(lasting=True)
        for _ in range(2):
            self.deploy_together("affinity", "app", "cache")
        self.deploy_together("soft-affinity", "web", "worker")
        self.closed = set()
        events = EVENTS_PER_HOST * len(self.host_ids)
        wanted = 90
        for event in range(events):
            if event % (2 * len(self.host_ids)) == 0:
                wanted = 84 + self.dice.below(10)
            if event == events * 3 // 4:
                self.maintain()
            self.step(wanted)
        # Go on to a moment that looks as promised; a small cloud may have none.
        for _ in range(events):
            if self.as_promised():
                break
            self.step(FILL[0] + 1 + self.dice.below(FILL[1] - FILL[0]))

    def step(self, wanted: int) -> None:
        """Let something come while less than ``wanted`` percent is used, else something go."""
        self.minute += 1 + self.dice.below(40)
        free, capacity, _ = self.free()
        arrives = 100 * (capacity - free) < wanted * capacity
        if not (arrives and self.arrive()):
            self.depart(self.dice.below(len(self.servers)))

    def free(self) -> tuple[int, int, int]:
        """Free cores, all cores and fragments of the hosts that are open."""
        free = capacity = fragments = 0
        for h, cells in enumerate(self.cores):
            if h not in self.closed:
                capacity += CELLS * CELL_PCPU
                for cores in cells:
                    free += cores
                    fragments += cores % FRAGMENT_CORES
        return free, capacity, fragments

    def as_promised(self) -> bool:
        """Whether fill and fragment rate are where they are to end."""
        free, capacity, fragments = self.free()
        return (
            FILL[0] * capacity <= 100 * (capacity - free) <= FILL[1] * capacity
            and FRAGMENT_RATE[0] * free <= 100 * fragments <= FRAGMENT_RATE[1] * free
        )

    def arrive(self) -> bool:
        """Something new is deployed; say whether there was room."""
        draw = self.dice.below(200)
        if draw < 2:
            return self.deploy_cluster(lasting=False)
        if draw < 3:
            return self.deploy_soft()
        project = PROJECTS[self.dice.below(len(PROJECTS))]
        role = ROLES[self.dice.below(len(ROLES))]
        size = self._sizes[self.dice.weighted(self._weights)]
        return self.boot(project, role, size, self.dice.below(self.zones), None, ())

    def deploy_cluster(self, lasting: bool) -> bool:
        """Boot a database of three servers that must not share a host."""
        project = PROJECTS[self.dice.below(len(PROJECTS))]
        size = _Size("memory", (4, 8, 16)[self.dice.below(3)])
        zone = self.dice.below(self.zones)
        group = self.group(project, "db", "anti-affinity", lasting)
        for _ in range(3):
            used = [member.host for member in group.members]
            if not self.boot(project, "db", size, zone, group, used):
                self.delete(group)
                return False
        return True

    def deploy_soft(self) -> bool:
        """Boot a few workers that would rather not share a host."""
        project = PROJECTS[self.dice.below(len(PROJECTS))]
        size = _Size("compute", (2, 4, 8)[self.dice.below(3)])
        zone = self.dice.below(self.zones)
        group = self.group(project, "worker", "soft-anti-affinity", False)
        for _ in range(4):
            if not self.boot(project, "worker", size, zone, group, ()):
                self.delete(group)
                return False
        return True

    def deploy_together(self, policy: str, *roles: str) -> None:
        """Boot servers on one host while there is still room everywhere."""
        project = PROJECTS[self.dice.below(len(PROJECTS))]
        group = self.group(project, roles[0], policy, True)
        zone, size = self.dice.below(self.zones), _Size("general", 4)
        for role in roles:
            here = [member.host for member in group.members]
            others = [h for h in self.in_zone[zone] if h not in here] if here else ()
            self.boot(project, role, size, zone, group, others)

    def group(self, project: str, role: str, policy: str, lasting: bool) -> _Group:
        number = self.number(project, f"{role}-group")
        group = _Group(
            self.dice.uuid(), f"{project}-{role}-group-{number}", project, policy, lasting
        )
        self.groups.append(group)
        return group

    def number(self, project: str, role: str) -> int:
        """Return the next number for a name."""
        self._numbers[project, role] = self._numbers.get((project, role), 0) + 1
        return self._numbers[project, role]

    def boot(
        self,
        project: str,
        role: str,
        size: _Size,
        zone: int,
        group: _Group | None,
        avoid: Sequence[int],
    ) -> bool:
        """Boot one server; say whether there was room."""
        spots = [
            (left, h, cells)
            for h in self.in_zone[zone]
            if h not in self.closed and h not in avoid
            for left, cells in self.spots(h, size)
        ]
        if not spots:
            return False
        if self.dice.below(100) < PACKED:
            _, h, cells = min(spots)
        else:
            _, h, cells = spots[self.dice.below(len(spots))]
        server = _Server(
            self.dice.uuid(), f"{project}-{role}-{self.number(project, role)}", project, size, h,
            cells, group, self.minute,
        )  # fmt: skip
        self.charge(server, -1)
        self.servers.append(server)
        if group is not None:
            group.members.append(server)
        return True

    def spots(self, h: int, size: _Size) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the cells of host ``h`` where ``size`` fits, with the cores left there then."""
        cores, mib = size.cores // size.guests, size.mib // size.guests
        fitting = [n for n in range(CELLS) if self.cores[h][n] >= cores and self.mib[h][n] >= mib]
        if size.guests == 1:
            for n in fitting:
                yield self.cores[h][n] - cores, (n,)
        elif len(fitting) == CELLS:
            yield sum(self.cores[h]) - size.cores, tuple(fitting)

    def charge(self, server: _Server, sign: int) -> None:
        """Give (1) or take (-1) what ``server`` uses."""
        for n in server.cells:
            self.cores[server.host][n] += sign * server.size.cores // server.size.guests
            self.mib[server.host][n] += sign * server.size.mib // server.size.guests

    def depart(self, s: int) -> None:
        """Delete the server at position ``s``, with its group if it has one that does not last."""
        group = self.servers[s].group
        if group is None:
            self.charge(self.servers[s], 1)
            # The order of servers means nothing; this is quicker than closing the gap.
            self.servers[s] = self.servers[-1]
            self.servers.pop()
        elif not group.lasting:
            self.delete(group)

    def delete(self, group: _Group) -> None:
        """Delete a group and its servers."""
        for server in group.members:
            self.charge(server, 1)
        self.servers = [server for server in self.servers if server.group is not group]
        self.groups.remove(group)

    def maintain(self) -> None:
        """Close hosts for maintenance, empty the first and half of the others; one host fails."""
        self.closed = {*self.to_disable, *self.to_fail}
        for i, h in enumerate(self.to_disable):
            here = [server for server in self.servers if server.host == h]
            for server in here if i == 0 else here[::2]:
                if server in self.servers:
                    self.depart(self.servers.index(server))

    def mark(self) -> None:
        """Give some servers what keeps them where they are."""
        plain = [
            server
            for server in self.servers
            if server.group is None and server.host not in self.closed
        ]
        count = len(plain)
        marks: list[dict[str, Any]] = [
            *[{"locked": True}] * max(1, count // 100),
            *[{"allow_migration": False}] * max(1, count // 50),
            *[{"status": "SHUTOFF"}] * max(1, count // 80),
            *[{"task_state": TASKS[i % 3]} for i in range(max(1, count // 200))],
        ]
        for server, facts in zip(self.dice.sample(plain, len(marks)), marks, strict=False):
            server.facts = facts


def document(seed: int, hosts: int = HOSTS) -> bytes:
    """Return the snapshot document of the demo cloud; the same bytes on every machine.

    Parameters
    ----------
    seed
        Any number makes another cloud.
    hosts
        From MIN_HOSTS to MAX_HOSTS.

    Raises
    ------
    UsageError
        If there are too few or too many hosts.
    """
    if not MIN_HOSTS <= hosts <= MAX_HOSTS:
        raise exceptions.UsageError(
            f"a demo cloud has {MIN_HOSTS} to {MAX_HOSTS} hosts, not {hosts}"
        )
    churn = _Churn(seed, hosts)
    churn.live()
    churn.mark()
    return (json.dumps(_document(churn), sort_keys=True, indent=1) + "\n").encode()


def _document(churn: _Churn) -> dict[str, Any]:
    zones = [f"zone-{_letter(z)}" for z in range(churn.zones)]
    pool = {"DISK_GB": {"total": POOL_GIB_PER_HOST * len(churn.host_ids)}}
    servers = sorted(churn.servers, key=lambda server: server.name)
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": CLOUD,
        "region": None,
        "taken_at": _time(TAKEN_AT),
        "numa_choice": "planner",
        "pools": [{"id": churn.pool_id, "inventories": pool}],
        "hosts": [_host(churn, h, zones[z]) for h, z in enumerate(churn.zone_of)],
        "aggregates": [
            {
                "name": zone,
                "hosts": [churn.host_ids[h] for h in here],
                "metadata": {"availability_zone": zone},
            }
            for zone, here in zip(zones, churn.in_zone, strict=True)
        ],
        "flavors": [_flavor(family, cores) for family in FAMILIES for cores in SIZES],
        "instances": [_instance(churn, server) for server in servers],
        "server_groups": [
            {
                "id": group.id,
                "name": group.name,
                "project": churn.project_ids[group.project],
                "policy": group.policy,
                "max_server_per_host": 1,
                "members": [member.id for member in group.members],
            }
            for group in churn.groups
        ],
    }


def _host(churn: _Churn, h: int, zone: str) -> dict[str, Any]:
    place = churn.in_zone[churn.zone_of[h]].index(h)
    letter = _letter(churn.zone_of[h])
    name = f"compute-{letter}-{place + 1:02}"
    pcpu, mib = CELLS * CELL_PCPU, CELLS * CELL_MIB
    host: dict[str, Any] = {
        "id": churn.host_ids[h],
        "service_host": name,
        "hypervisor_hostname": f"{name}.demo.example",
        "az": zone,
        "traits": ["COMPUTE_NODE", "HW_CPU_HYPERTHREADING"],
        "inventories": {
            "PCPU": {"total": pcpu, "max_unit": pcpu},
            "MEMORY_MB": {"total": mib, "reserved": CELLS * CELL_RESERVED_MIB, "max_unit": mib},
        },
        "shared": {"DISK_GB": churn.pool_id},
        "numa": {
            "provenance": "operator",
            "cells": [
                {
                    "id": n,
                    "capacity": {"PCPU": CELL_PCPU, "MEMORY_MB": CELL_MIB - CELL_RESERVED_MIB},
                }
                for n in range(CELLS)
            ],
        },
        "rack": {"provenance": "operator", "value": f"{letter}{place // 10 + 1}"},
    }
    if h in churn.to_disable:
        host["status"] = "disabled"
        host["disabled_reason"] = REASONS[churn.to_disable.index(h) % len(REASONS)]
    if h in churn.to_fail:
        host["state"] = "down"
    return host


def _flavor(family: str, cores: int) -> dict[str, Any]:
    size = _Size(family, cores)
    return {
        "id": f"{cores}-{family}",
        "name": size.name,
        "resources": size.resources,
        "extra_specs": {"hw:cpu_policy": "dedicated", "hw:numa_nodes": str(size.guests)},
    }


def _instance(churn: _Churn, server: _Server) -> dict[str, Any]:
    age = datetime.timedelta(minutes=churn.minute - server.minute + 10)
    return {
        "id": server.id,
        "name": server.name,
        "project": churn.project_ids[server.project],
        "flavor": server.size.name,
        "host": churn.host_ids[server.host],
        "allocations": server.size.resources,
        "numa": [{"cell": n, "resources": server.size.guest_resources} for n in server.cells],
        "launched_at": _time(TAKEN_AT - age),
        **server.facts,
    }


def _letter(z: int) -> str:
    return "abc"[z]


def _time(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

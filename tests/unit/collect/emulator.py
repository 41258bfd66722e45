# SPDX-License-Identifier: Apache-2.0
"""A small cloud on loopback: Keystone, Nova, Placement, ports and images over one World.

``running`` serves a World over HTTP to real clients, ``Direct`` answers the same without sockets.
Answers, pages and errors are those of Nova 34 and Placement 16 as far as the collector and the
executor ask; what they do not ask for is refused with 501.  A migration that was asked for does
not go on by itself: tests say what becomes of it.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import email.utils
import http.server
import itertools
import json
import pathlib
import re
import threading
import time
from typing import Any
from urllib import parse

from hypothesis import strategies as st
import orjson
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.rest import client
from nova_rebalancer.rest import connection

Json = dict[str, Any]
Amounts = dict[str, int]

SHARES = "MISC_SHARES_VIA_AGGREGATE"
SMALL = {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 10}
USER, PROJECT = "5" * 32, "9" * 32
HOST, NODE = "OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname"
LABEL = "OS-EXT-SRV-ATTR:instance_name"
TASK, STATE = "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state"
PROGRESS = tuple(
    f"{part}_{what}_bytes"
    for part in ("memory", "disk")
    for what in ("total", "processed", "remaining")
)


# The cloud


class World:
    """What the services know; tests change it as they like.

    Servers, hypervisors and the like are kept as the newest microversion shows them.
    """

    def __init__(self) -> None:
        self.ahead_s = 0.0
        """How far this cloud's clock is ahead of the machine's."""
        self.max_limit = 1000
        self.newest = {"compute": "2.100", "placement": "1.39"}
        self.catalogue = {"compute", "placement", "network", "image"}
        self.roles = ["admin", "member"]
        self.password = "secret"
        self.token = 1
        """The number of the only token that is valid."""
        self.servers: dict[str, Json] = {}
        self.down: set[str] = set()
        """Servers in a cell that does not answer."""
        self.hypervisors: list[Json] = []
        self.services: list[Json] = []
        self.aggregates: list[Json] = []
        self.flavors: list[Json] = []
        self.groups: list[Json] = []
        self.migrations: dict[str, Json] = {}
        self.actions: dict[str, list[Json]] = {}
        """Instance actions with their events by server, the newest first."""
        self.topologies: dict[str, Json] = {}
        self.ports: list[Json] = []
        self.port_pages = 1000
        self.images: dict[str, Json] = {}
        self.image("e" * 8)
        self.image_pages = 1000
        self.providers: dict[str, Json] = {}
        self.inventories: dict[str, dict[str, Json]] = {}
        self.traits: dict[str, list[str]] = {}
        self.member_of: dict[str, list[str]] = {}
        self.charges: dict[str, dict[str, Amounts]] = {}
        """By provider and consumer."""
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """Return an unused uuid; later ones are greater."""
        return f"{next(self._numbers):08x}-0000-4000-8000-000000000000"

    def time(self) -> float:
        """Return the time of this cloud."""
        return time.time() + self.ahead_s

    def stamp(self) -> str:
        """Return the time as Nova writes it."""
        moment = datetime.datetime.fromtimestamp(self.time(), datetime.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def provider(
        self, name: str, inventories: Amounts, parent: str | None = None, **more: Any
    ) -> str:
        """Add a resource provider; ``more`` may have traits and aggregates."""
        made = self.new()
        root = self.providers[parent]["root_provider_uuid"] if parent else made
        self.providers[made] = {
            "uuid": made,
            "name": name,
            "generation": 1,
            "parent_provider_uuid": parent,
            "root_provider_uuid": root,
        }
        self.inventories[made] = {
            resource: {
                "total": total,
                "reserved": 0,
                "min_unit": 1,
                "max_unit": total,
                "step_size": 1,
                "allocation_ratio": 1.0,
            }
            for resource, total in inventories.items()
        }
        self.traits[made] = list(more.get("traits", ()))
        self.member_of[made] = list(more.get("aggregates", ()))
        self.charges[made] = {}
        return made

    def host(self, name: str, inventories: Amounts | None = None, **more: Any) -> str:
        """Add a compute host; return its provider's uuid, which is the hypervisor's too."""
        if inventories is None:
            inventories = {"VCPU": 64, "MEMORY_MB": 65536, "DISK_GB": 1000}
        made = self.provider(name, inventories, **more)
        self.hypervisors.append(
            {
                "id": made,
                "hypervisor_hostname": name,
                "state": "up",
                "status": "enabled",
                "hypervisor_type": "QEMU",
                "hypervisor_version": 8002002,
                "host_ip": "10.0.0.1",
                "service": {"id": self.new(), "host": name, "disabled_reason": None},
                "cpu_info": {"arch": "x86_64", "model": "Cascadelake-Server"},
            }
        )
        self.services.append(
            {
                "id": self.new(),
                "binary": "nova-compute",
                "host": name,
                "zone": "nova",
                "status": "enabled",
                "state": "up",
                "updated_at": self.stamp(),
                "disabled_reason": None,
                "forced_down": False,
            }
        )
        return made

    def image(self, made: str | None = None, **fields: Any) -> str:
        """Add an image; custom properties stand beside the others, as in Glance."""
        made = made or self.new()
        self.images[made] = {
            "id": made,
            "name": f"image-{made[:8]}",
            "owner": PROJECT,
            "status": "active",
            "visibility": "public",
            "os_hidden": False,
            **fields,
        }
        return made

    def node(self, name: str) -> str:
        """Return the provider of the host called ``name``."""
        return next(one["id"] for one in self.hypervisors if one["service"]["host"] == name)

    def server(
        self, host: str | None = None, resources: Amounts | None = SMALL, **fields: Any
    ) -> str:
        """Add a server, on ``host`` with what it is charged there; ``fields`` as the API has."""
        made = self.new()
        specs = fields.pop("specs", {})
        self.servers[made] = {
            "id": made,
            "name": f"server-{made[:8]}",
            "tenant_id": PROJECT,
            "user_id": USER,
            "status": "ACTIVE",
            # Long ago: what happens while a test reads is a change, this is not.
            "updated": "2026-01-01T00:00:00Z",
            "created": "2026-01-01T00:00:00Z",
            "addresses": {},
            "metadata": {},
            "tags": [],
            "locked": False,
            "locked_reason": None,
            "flavor": {"original_name": "m1", "vcpus": 2, "ram": 2048, "extra_specs": specs},
            "image": {"id": "e" * 8, "properties": {"hw_machine_type": "q35"}},
            "scheduler_hints": {},
            "pinned_availability_zone": None,
            "OS-SRV-USG:launched_at": "2026-01-01T00:00:00.000000",
            HOST: host,
            NODE: host,
            LABEL: f"instance-{made[:8]}",
            TASK: None,
            STATE: "active",
            "OS-EXT-STS:power_state": 1,
            "os-extended-volumes:volumes_attached": [],
            **fields,
        }
        if host is not None and resources:
            self.claim(made, host, resources)
        return made

    def claim(self, consumer: str, host: str, resources: Amounts) -> None:
        """Allocate on a host and on the pools it shares, as the scheduler does."""
        own = self.node(host)
        mine = {name: n for name, n in resources.items() if name in self.inventories[own]}
        if mine:
            self.charge(consumer, own, mine)
        for pool, member_of in self.member_of.items():
            if SHARES in self.traits[pool] and set(member_of) & set(self.member_of[own]):
                shared = {
                    name: n
                    for name, n in resources.items()
                    if name not in mine and name in self.inventories[pool]
                }
                if shared:
                    self.charge(consumer, pool, shared)

    def touch(self, name: str, **fields: Any) -> None:
        """Change a server as Nova does: ``updated`` changes too."""
        self.servers[name].update(fields, updated=self.stamp())

    def delete(self, name: str, release: bool = True, purged: bool = True) -> None:
        """Delete a server; one that is not purged from the database is good as a marker still."""
        if release:
            self.release(name)
        for group in self.groups:
            group["members"] = [one for one in group["members"] if one != name]
        if purged:
            del self.servers[name]
        else:
            self.touch(name, status="DELETED")

    def charge(self, consumer: str, provider: str, resources: Amounts) -> None:
        """Write an allocation; it gives the provider a new generation."""
        self.charges[provider][consumer] = dict(resources)
        self.providers[provider]["generation"] += 1

    def release(self, consumer: str, provider: str | None = None) -> dict[str, Amounts]:
        """Delete a consumer's allocations, which changes no generation, and return them."""
        found = {}
        for name in [provider] if provider else list(self.charges):
            if consumer in self.charges[name]:
                found[name] = self.charges[name].pop(consumer)
        return found

    def charged(self, provider: str) -> collections.Counter[str]:
        """Return how much of each class of a provider is allocated."""
        total: collections.Counter[str] = collections.Counter()
        for resources in self.charges[provider].values():
            total.update(resources)
        return total

    def migration(self, server: str, dest: str | None, **fields: Any) -> str:
        """Add a migration of a server; its allocation goes to the migration, as Nova begins."""
        made = self.new()
        source = self.servers[server][HOST]
        for provider, resources in self.release(server).items():
            self.charge(made, provider, resources)
        self.migrations[made] = {
            "id": int(made[:8], 16),
            "uuid": made,
            "instance_uuid": server,
            "status": "accepted",
            "migration_type": "live-migration",
            "source_compute": source,
            "dest_compute": dest,
            "created_at": self.stamp(),
            # A record is not updated before it is saved for the second time.
            "updated_at": self.stamp() if fields.get("status", "accepted") != "accepted" else None,
            **fields,
        }
        return made

    def action(self, server: str, action: str, request: str | None = None) -> str:
        """Note that something is asked of a server, with no event yet; return the request's id."""
        request = request or f"req-{self.new()}"
        self.actions.setdefault(server, []).insert(
            0,
            {
                "action": action,
                "instance_uuid": server,
                "request_id": request,
                "user_id": USER,
                "project_id": PROJECT,
                "start_time": self.stamp(),
                "updated_at": self.stamp(),
                "message": None,
                "events": [],
            },
        )
        return request

    def event(self, request: str, event: str, details: str | None = None, **fields: Any) -> None:
        """Let an event of an action end, with an error if it has ``details``."""
        action = next(
            one for some in self.actions.values() for one in some if one["request_id"] == request
        )
        made = {
            "event": event,
            "start_time": self.stamp(),
            "finish_time": self.stamp(),
            "result": "Success" if details is None else "Error",
            "details": details,
            "traceback": None,
            "host": "a",
            "hostId": "a",
            **fields,
        }
        action["events"].insert(0, made)
        if made["result"] == "Error":
            action["message"] = "Error"

    def live(self, server: str, dest: str) -> str:
        """Let a live migration run: the server has on the destination what it had before."""
        made = self.migration(server, dest, status="running")
        asked: Amounts = {}
        for charges in self.charges.values():
            asked.update(charges.get(made, {}))
        self.claim(server, dest, asked)
        self.touch(server, status="MIGRATING", **{TASK: "migrating"})
        return made

    def arrived(self, name: str) -> None:
        """End a live migration well."""
        one = self.migrations[name]
        self.release(name)
        one.update(status="completed", updated_at=self.stamp())
        dest = one["dest_compute"]
        fields = {HOST: dest, NODE: dest, TASK: None}
        self.touch(one["instance_uuid"], status="ACTIVE", **fields)

    def resize(self, server: str, dest: str, resources: Amounts, done: bool = True) -> str:
        """Resize a server to ``dest``; if ``done`` it waits there for its confirmation."""
        status = "finished" if done else "migrating"
        made = self.migration(server, dest, status=status, migration_type="resize")
        self.claim(server, dest, resources)
        if done:
            self.touch(server, status="VERIFY_RESIZE", **{HOST: dest, NODE: dest, STATE: "resized"})
        else:
            self.touch(server, status="RESIZE", **{TASK: "resize_migrating"})
        return made

    def group(self, policy: str, *members: str, project: str = PROJECT) -> str:
        """Add a server group that its members hint at."""
        made = self.new()
        self.groups.append(
            {
                "id": made,
                "name": policy,
                "policy": policy,
                "rules": {},
                "members": list(members),
                "project_id": project,
                "user_id": USER,
            }
        )
        for member in members:
            self.servers[member]["scheduler_hints"] = {"group": [made]}
        return made

    def flavor(self, name: str, **fields: Any) -> str:
        """Add a flavor."""
        made = self.new()
        self.flavors.append(
            {
                "id": made,
                "name": name,
                "vcpus": 2,
                "ram": 2048,
                "disk": 10,
                "swap": 0,
                "OS-FLV-EXT-DATA:ephemeral": 0,
                "os-flavor-access:is_public": True,
                "extra_specs": {},
                **fields,
            }
        )
        return made


# What happens in it

EVENTS = (
    "boot",
    "delete",
    "leave a charge behind",
    "charge somebody unknown",
    "charge on another host",
    "shelve",
    "opt out",
    "lock",
    "begin to migrate",
    "migrate live",
    "arrive",
    "resize",
    "begin to resize",
    "confirm",
)

Event = tuple[str, int, int]


def events(most: int = 12) -> st.SearchStrategy[list[Event]]:
    """What may happen: a name of EVENTS and two numbers that choose servers and hosts."""
    number = st.integers(0, 7)
    return st.lists(st.tuples(st.sampled_from(EVENTS), number, number), max_size=most)


def sharing(pools: bool = True) -> World:
    """Four hosts: a and b share a disk pool, c has its own disk, d a nested provider too."""
    world = World()
    if pools:
        world.provider("pool", {"DISK_GB": 100_000}, traits=[SHARES], aggregates=["shared"])
    sizes = {"VCPU": 64, "MEMORY_MB": 65536}
    for name in "ab":
        own = sizes if pools else {**sizes, "DISK_GB": 1000}
        world.host(name, own, aggregates=["shared"] if pools else [])
    world.host("c")
    world.provider("gpu", {"VGPU": 16}, parent=world.host("d"))
    return world


def happen(world: World, event: Event) -> None:
    """Let something happen, if there is a server it can happen to; three seconds pass."""
    kind, a, b = event
    world.ahead_s += 3.0
    names = [one["service"]["host"] for one in world.hypervisors]
    host = names[b % len(names)]
    if kind == "boot":
        world.server(host, {"VCPU": 1 + a, "MEMORY_MB": 512 * (1 + b), "DISK_GB": 5 + a})
        return
    if kind == "charge somebody unknown":
        world.claim(world.new(), host, {"VCPU": 1, "DISK_GB": 3})
        return
    moves = [one for one in world.migrations.values() if one["status"] in ("running", "finished")]
    if kind in ("arrive", "confirm"):
        ready = [one for one in moves if (one["status"] == "running") == (kind == "arrive")]
        if ready and kind == "arrive":
            world.arrived(ready[a % len(ready)]["uuid"])
        elif ready:
            one = ready[a % len(ready)]
            world.release(one["uuid"])
            one.update(status="confirmed", updated_at=world.stamp())
            world.touch(one["instance_uuid"], status="ACTIVE", **{STATE: "active"})
        return
    idle = [
        name
        for name, one in world.servers.items()
        if one["status"] == "ACTIVE" and one[HOST] and one[TASK] is None
    ]
    if not idle:
        return
    name = idle[a % len(idle)]
    apart = host != world.servers[name][HOST]
    bigger = {"VCPU": 9 + b, "MEMORY_MB": 9000, "DISK_GB": 40 + a}
    match kind:
        case "delete":
            world.delete(name)
        case "leave a charge behind":
            world.delete(name, release=False)
        case "charge on another host" if apart:
            world.charge(name, world.node(host), {"VCPU": 3})
        case "shelve":
            world.release(name)
            world.touch(name, status="SHELVED_OFFLOADED", **{HOST: None, NODE: None})
        case "opt out":
            world.servers[name]["tags"] = ["nova-rebalancer:stay"]
        case "lock":
            world.touch(name, locked=True)
        case "begin to migrate":
            world.migration(name, host if a % 2 and apart else None)
            world.touch(name, status="MIGRATING", **{TASK: "migrating"})
        case "migrate live" if apart:
            world.live(name, host)
        case "resize":
            world.resize(name, host, bigger)
        case "begin to resize":
            world.resize(name, host, bigger, done=False)


# What the services say


class Fault(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def nova_fault(status: int, text: str) -> Fault:
    """An error in Nova's form."""
    names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest"}
    return Fault(status, {names.get(status, "computeFault"): {"code": status, "message": text}})


def placement_fault(status: int, text: str) -> Fault:
    """An error in Placement's form."""
    return Fault(status, {"errors": [{"status": status, "title": "Not Found", "detail": text}]})


def numbers(version: str) -> client.Version:
    """Read a microversion."""
    major, minor = version.split(".")
    return int(major), int(minor)


def questions(query: str) -> dict[str, str]:
    """Read a query; values of a name that is given again stand behind commas."""
    found: dict[str, str] = {}
    for name, value in parse.parse_qsl(query):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


class Api:
    """Answers requests over a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, service: str, path: str, query: dict[str, str], version: str | None) -> Any:
        """Return the document at ``path`` below the service's endpoint, or raise a Fault."""
        newest = self.world.newest.get(service)
        if version is not None and newest is not None and numbers(version) > numbers(newest):
            raise nova_fault(406, f"Version {version} is not supported by the API.")
        parts = path.strip("/").split("/")
        # Dumped and loaded: nobody changes the world through an answer.
        answer = getattr(self, f"_{service}")(parts, query, numbers(version or "2.1"))
        return orjson.loads(orjson.dumps(answer))

    def change(self, method: str, path: str, body: Any, version: str | None) -> str:
        """Do what Nova's API does of a request before it answers 202; return the request's id."""
        most = self.world.newest["compute"]
        if version is not None and numbers(version) > numbers(most):
            raise nova_fault(406, f"Version {version} is not supported by the API.")
        parts = path.strip("/").split("/")
        if parts[0] != "servers" or parts[1] not in self._ours():
            raise nova_fault(404, f"Instance {parts[1]} could not be found.")
        server = self.world.servers[parts[1]]
        match method, parts[2:], body:
            case "POST", ["action"], {"os-migrateLive": {"host": host, "block_migration": "auto"}}:
                self._ready(server, "os-migrateLive", ("active", "paused"))
                self._known(host)
                self.world.touch(server["id"], status="MIGRATING", **{TASK: "migrating"})
                return self.world.action(server["id"], "live-migration")
            case "POST", ["action"], {"migrate": {"host": host}}:
                self._ready(server, "migrate", ("active", "stopped"))
                self._known(host)
                self.world.touch(server["id"], status="RESIZE", **{TASK: "resize_prep"})
                return self.world.action(server["id"], "migrate")
            case "POST", ["action"], {"confirmResize": None}:
                self._ready(server, "confirmResize", ("resized",))
                return self.world.action(server["id"], "confirmResize")
            case "DELETE", ["migrations", name], None:
                self._migrating(server, name, "abort live migration", 404, "queued", "preparing")
                return self.world.action(server["id"], "live_migration_cancel")
            case "POST", ["migrations", name, "action"], {"force_complete": None}:
                self._migrating(server, name, "force complete", 400)
                return self.world.action(server["id"], "live_migration_force_complete")
        raise nova_fault(501, f"{method} {path} {body} is not played")

    def _ready(self, server: Json, what: str, states: tuple[str, ...]) -> None:
        """Refuse what Nova refuses before it does anything."""
        name = server["id"]
        # A lock keeps no administrator from anything.
        if server["locked"] and "admin" not in self.world.roles:
            raise nova_fault(409, f"Instance {name} is locked")
        for key, good in ((TASK, (None,)), (STATE, states)):
            if server[key] not in good:
                said = f"{'task' if key == TASK else 'vm'}_state {server[key]}"
                raise nova_fault(409, f"Cannot '{what}' instance {name} while it is in {said}")

    def _known(self, host: str) -> None:
        if all(one["service"]["host"] != host for one in self.world.hypervisors):
            raise nova_fault(400, f"Compute host {host} could not be found.")

    def _migrating(
        self, server: Json, migration: str, what: str, unknown: int, *states: str
    ) -> None:
        if server[TASK] != "migrating":
            text = f"Instance {server['id']} is in an invalid state for '{what}'"
            raise nova_fault(409, text)
        found = [one for one in self.world.migrations.values() if str(one["id"]) == migration]
        if not found or found[0]["instance_uuid"] != server["id"]:
            text = f"Migration {migration} not found for instance {server['id']}"
            raise nova_fault(unknown, text)
        if found[0]["status"] not in ("running", *states):
            text = f"Migration {migration} state of instance is {found[0]['status']}"
            raise nova_fault(400, text)

    def _compute(self, path: list[str], query: dict[str, str], version: client.Version) -> Any:
        world = self.world
        match path:
            case ["servers"]:
                # Stubs first, but no more than the listing has room for.
                up = self._up()[: world.max_limit]
                stubs = [{"id": one, "status": "UNKNOWN"} for one in sorted(world.down)]
                return {
                    "servers": stubs[: world.max_limit - len(up)]
                    + [{"id": one["id"], "name": one["name"]} for one in up]
                }
            case ["servers", "detail"]:
                return self._servers(query, version)
            case ["servers", name]:
                if name not in self._ours():
                    raise nova_fault(404, f"Instance {name} could not be found.")
                return {"server": self._server(world.servers[name], version)}
            case ["servers", name, "topology"]:
                if name not in self._ours():
                    raise nova_fault(404, f"Instance {name} could not be found.")
                return world.topologies.get(name, {"nodes": [], "pagesize_kb": None})
            case ["servers", name, "migrations", migration]:
                for one in world.migrations.values():
                    under_way = ("queued", "preparing", "running", "post-migrating")
                    if str(one["id"]) == migration and one["status"] in under_way:
                        return {"migration": {key: one.get(key) for key in PROGRESS}}
                raise nova_fault(404, f"Live migration {migration} for {name} is not in progress.")
            case ["servers", name, "os-instance-actions"]:
                shown = world.actions.get(name, [])[: int(query.get("limit", 1000))]
                keys = [key for key in (shown[0] if shown else ()) if key != "events"]
                return {"instanceActions": [{key: one[key] for key in keys} for one in shown]}
            case ["servers", name, "os-instance-actions", request]:
                for one in world.actions.get(name, ()):
                    if one["request_id"] == request:
                        return {"instanceAction": one}
                raise nova_fault(404, f"Action {request} not found")
            case ["os-hypervisors", "detail"]:
                return self._page("os-hypervisors/detail", world.hypervisors, query, "hypervisors")
            case ["os-services"]:
                lost = {world.servers[one][HOST] for one in world.down if one in world.servers}
                listed = [
                    {"binary": one["binary"], "host": one["host"], "status": "UNKNOWN"}
                    if one["host"] in lost
                    else one
                    for one in world.services
                ]
                return {"services": listed}
            case ["os-aggregates"]:
                return {"aggregates": world.aggregates}
            case ["flavors", "detail"]:
                return self._page("flavors/detail", world.flavors, query, "flavors")
            case ["os-server-groups"]:
                admin = "admin" in world.roles
                groups = [one for one in world.groups if admin or one["project_id"] == PROJECT]
                first = int(query.get("offset", 0))
                limit = min(int(query.get("limit", 0)) or world.max_limit, world.max_limit)
                return {"server_groups": groups[first : first + limit]}
            case ["os-server-groups", name]:
                for one in world.groups:
                    if one["id"] == name and (
                        "admin" in world.roles or one["project_id"] == PROJECT
                    ):
                        return {"server_group": one}
                raise nova_fault(404, f"Instance group {name} could not be found.")
            case ["os-migrations"]:
                chosen = [
                    one
                    for one in reversed(list(world.migrations.values()))
                    if one["status"] == query.get("status", one["status"])
                    and (one["updated_at"] or "") >= query.get("changes-since", "")
                    and query.get("instance_uuid", one["instance_uuid"]) == one["instance_uuid"]
                    and query.get("host", one["source_compute"])
                    in (one["source_compute"], one["dest_compute"])
                ]
                return self._page("os-migrations", chosen, query, "migrations", "uuid")
        raise nova_fault(501, f"{path} is not played")

    def _up(self) -> list[Json]:
        lost = self.world.down
        return [
            one
            for one in self.world.servers.values()
            if one["id"] not in lost and one["status"] != "DELETED"
        ]

    def _ours(self) -> set[str]:
        """Servers that are shown one by one: to no administrator those of other projects."""
        admin = "admin" in self.world.roles
        return {one["id"] for one in self._up() if admin or one["tenant_id"] == PROJECT}

    def _servers(self, query: dict[str, str], version: client.Version) -> Json:
        everything = sorted(self.world.servers.values(), key=lambda one: one["id"], reverse=True)
        since = query.get("changes-since")
        # Asking for the status SOFT_DELETED is no help: the database leaves them out before.
        hidden = {"DELETED"} if "soft_deleted" in query else {"DELETED", "SOFT_DELETED"}
        chosen = [
            one
            for one in everything
            if one["id"] not in self.world.down
            and (one["status"] not in hidden if since is None else one["updated"] >= since)
            and one["status"] == query.get("status", one["status"])
            and one[HOST] == query.get("host", one[HOST])
        ]
        if "admin" not in self.world.roles:
            # A group that may not be seen is taken out of the hints of its members.
            theirs = {one["id"] for one in self.world.groups if one["project_id"] != PROJECT}
            chosen = [_without_hint(one, theirs) for one in chosen]
        # A deleted server is a marker as long as the database has it.
        after = query.get("marker")
        if after is not None:
            if after not in self.world.servers:
                raise nova_fault(400, f"marker [{after}] not found")
            chosen = [one for one in chosen if one["id"] < after]
            query = {name: value for name, value in query.items() if name != "marker"}
        shown = [self._server(one, version) for one in chosen]
        return self._page("servers/detail", shown, query, "servers")

    def _server(self, server: Json, version: client.Version) -> Json:
        since = {
            "scheduler_hints": (2, 100),
            "pinned_availability_zone": (2, 96),
            "locked_reason": (2, 73),
        }
        return {k: v for k, v in server.items() if version >= since.get(k, (2, 1))}

    def _page(
        self, path: str, items: list[Json], query: dict[str, str], key: str, by: str = "id"
    ) -> Json:
        limit = min(int(query.get("limit", self.world.max_limit)), self.world.max_limit)
        if "marker" in query:
            places = [one[by] for one in items]
            if query["marker"] not in places:
                raise nova_fault(400, f"marker [{query['marker']}] not found")
            items = items[places.index(query["marker"]) + 1 :]
        page: Json = {key: items[:limit]}
        if limit and len(page[key]) == limit:
            more = parse.urlencode({**query, "marker": page[key][-1][by]})
            page[f"{key}_links"] = [{"rel": "next", "href": f"http://elsewhere/{path}?{more}"}]
        return page

    def _placement(self, path: list[str], query: dict[str, str], version: client.Version) -> Any:
        world = self.world
        match path:
            case ["resource_providers"]:
                tree = world.providers.get(query.get("in_tree", ""), {}).get("root_provider_uuid")
                return {
                    "resource_providers": [
                        one
                        for one in world.providers.values()
                        if "in_tree" not in query or one["root_provider_uuid"] == tree
                    ]
                }
            case ["resource_providers", name, what]:
                if name not in world.providers:
                    raise placement_fault(404, f"No resource provider with uuid {name} found")
                generation = {"resource_provider_generation": world.providers[name]["generation"]}
                if what == "inventories":
                    return {"inventories": world.inventories[name], **generation}
                if what == "traits":
                    return {"traits": world.traits[name], **generation}
                if what == "aggregates":
                    return {"aggregates": world.member_of[name], **generation}
                if what == "usages":
                    return {"usages": dict(world.charged(name)), **generation}
                if what == "allocations":
                    used = {
                        consumer: {"resources": resources, "consumer_generation": 1}
                        for consumer, resources in world.charges[name].items()
                    }
                    return {"allocations": used, **generation}
            case ["allocations", consumer]:
                held = {
                    name: {"resources": charges[consumer], "generation": 1}
                    for name, charges in world.charges.items()
                    if consumer in charges
                }
                return {"allocations": held}
        raise placement_fault(501, f"{path} is not played")

    def _network(self, path: list[str], query: dict[str, str], version: client.Version) -> Any:
        if path != ["v2.0", "ports"]:
            raise Fault(501, {"NeutronError": {"message": f"{path} is not played"}})
        chosen = self.world.ports
        if "device_id" in query:
            devices = query["device_id"].split(",")
            chosen = [one for one in chosen if one["device_id"] in devices]
        if "binding:vnic_type" in query:
            text = "['binding:vnic_type'] is invalid attribute for filtering"
            raise Fault(400, {"NeutronError": {"message": text}})
        ids = [one["id"] for one in chosen]
        first = ids.index(query["marker"]) + 1 if "marker" in query else 0
        page = chosen[first:][: self.world.port_pages]
        more = first + len(page) < len(chosen)
        return {"ports": page, **({"ports_links": [{"rel": "next"}]} if more else {})}

    def _image(self, path: list[str], query: dict[str, str], version: client.Version) -> Any:
        if path != ["v2", "images"] or not query["id"].startswith("in:"):
            raise Fault(501, {"message": f"{path} is not played"})
        world = self.world
        # Only who asks for all is shown the community's.
        hidden = set() if query.get("visibility") == "all" else {"community"}
        chosen = [
            one
            for one in world.images.values()
            if one["id"] in query["id"].removeprefix("in:").split(",")
            and one["os_hidden"] == (query.get("os_hidden") == "true")
            and one["visibility"] not in hidden
        ]
        if "admin" not in world.roles:
            theirs = ("public", "community")
            chosen = [
                one for one in chosen if one["visibility"] in theirs or one["owner"] == PROJECT
            ]
        if "marker" in query:
            ids = [one["id"] for one in chosen]
            if query["marker"] not in ids:
                raise Fault(400, {"message": "Image could not be found."})
            chosen = chosen[ids.index(query["marker"]) + 1 :]
        limit = min(int(query.get("limit", 25)), world.image_pages)
        # A full page has a link to the next one, which may be empty.
        more = {"next": "/v2/images?..."} if len(chosen) >= limit else {}
        return {"images": chosen[:limit], **more}

    def discovery(self, service: str, root: str) -> Any:
        """Return the version document of a service."""
        if service == "identity":
            link = {"rel": "self", "href": f"{root}/identity/v3/"}
            return {"version": {"id": "v3.14", "status": "stable", "links": [link]}}
        newest = self.world.newest[service]
        if service == "compute":
            link = {"rel": "self", "href": f"{root}/compute/v2.1/"}
            version = {"id": "v2.1", "status": "CURRENT", "version": newest, "min_version": "2.1"}
            return {"version": {**version, "links": [link]}}
        version = {"id": "v1.0", "status": "CURRENT", "max_version": newest, "min_version": "1.0"}
        return {"versions": [{**version, "links": [{"rel": "self", "href": ""}]}]}

    def login(self, asked: Json, root: str) -> Any:
        """Return a token's body with the catalogue."""
        auth = asked["auth"]["identity"]["password"]["user"]
        if auth["password"] != self.world.password:
            raise Fault(401, {"error": {"code": 401, "message": "The request requires a login."}})
        urls = {
            "identity": f"{root}/identity/v3",
            "compute": f"{root}/compute/v2.1",
            "placement": f"{root}/placement",
            "network": f"{root}/network",
            "image": f"{root}/image",
        }
        domain = {"id": "default", "name": "Default"}
        moment = datetime.datetime.fromtimestamp(self.world.time() + 86_400, datetime.UTC)
        return {
            "token": {
                "methods": ["password"],
                "user": {"domain": domain, "id": USER, "name": auth["name"]},
                "expires_at": moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
                "issued_at": self.world.stamp(),
                "project": {"domain": domain, "id": PROJECT, "name": "admin"},
                "roles": [{"id": name, "name": name} for name in self.world.roles],
                "catalog": [
                    {
                        "id": kind,
                        "type": kind,
                        "name": kind,
                        "endpoints": [
                            {
                                "id": kind,
                                "interface": "public",
                                "region": "RegionOne",
                                "region_id": "RegionOne",
                                "url": urls[kind],
                            }
                        ],
                    }
                    for kind in sorted({"identity", *self.world.catalogue})
                ],
            }
        }


# Over HTTP


@dataclasses.dataclass
class Rule:
    """What happens to requests that match: the ``at``-th and those after it, ``times`` of them."""

    pattern: str
    at: int = 1
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b"{}"
    delay_s: float = 0.0
    cut: int | None = None
    """Close the connection after this many bytes of the answer."""
    call: Callable[[str], None] | None = None
    """Called with the request's line before it is answered."""
    edit: Callable[[Any], Any] | None = None
    """Given the answer, returns what is sent instead."""
    seen: int = 0

    def hits(self, line: str) -> bool:
        """Whether the rule is meant; counts the requests that match."""
        if not re.search(self.pattern, line):
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request: "GET /compute/v2.1/servers?limit=5", its microversion, when it came."""

    line: str
    version: str | None
    at_s: float


class Emulator(http.server.ThreadingHTTPServer):
    """The services of a world on a port of loopback."""

    daemon_threads = True
    # Threads of connections that a client keeps open end with their sockets, not before.
    block_on_close = False

    def __init__(self, world: World) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.world = world
        self.api = Api(world)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.rules: list[Rule] = []
        self.asked: list[Asked] = []
        self.lock = threading.Lock()

    def on(self, pattern: str, **what: Any) -> Rule:
        """Add a rule."""
        rule = Rule(pattern, **what)
        self.rules.append(rule)
        return rule

    def lines(self, pattern: str = "") -> list[str]:
        """Return the requests that match, in the order they came."""
        return [one.line for one in self.asked if re.search(pattern, one.line)]

    def connect(self, timeout_s: float = 5.0) -> connection.Connection:
        """Open this cloud as a user would."""
        return connection.connect("here", timeout_s)

    def client(self, **limits: Any) -> client.Client:
        """Return a client of this cloud."""
        return client.Client(self.connect(), client.Limits(**{"workers": 4, **limits}))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: Emulator
    protocol_version = "HTTP/1.1"
    # One write for each answer: else the second waits for the first one's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer Nova, Placement, Neutron, Glance and discovery."""
        self._handle(None)

    def do_POST(self) -> None:
        """Answer a login, and Nova's actions."""
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_DELETE(self) -> None:
        """Answer Nova."""
        self._handle(None)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Tell this cloud's time."""
        return email.utils.formatdate(self.server.world.time(), usegmt=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _handle(self, body: Json | None) -> None:
        line = parse.unquote(f"{self.command} {self.path}")
        version = (self.headers.get("OpenStack-API-Version") or "").partition(" ")[2] or None
        with self.server.lock:
            self.server.asked.append(Asked(line, version, time.monotonic()))
            rules = [rule for rule in self.server.rules if rule.hits(line)]
            for rule in rules:
                if rule.call is not None:
                    rule.call(line)
        for rule in rules:
            time.sleep(rule.delay_s)
        status, headers, answer = self._answer(version, body)
        for rule in rules:
            if rule.edit is not None:
                answer = orjson.dumps(rule.edit(orjson.loads(answer)))
            if rule.status is not None:
                status, headers, answer = rule.status, rule.headers, rule.body
        cut = next((rule.cut for rule in rules if rule.cut is not None), None)
        if cut != 0:
            self.send_response_only(status)
            for name, value in {"Date": self.date_time_string(), **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[:cut])
        self.close_connection = self.close_connection or cut is not None

    def _answer(self, version: str | None, body: Json | None) -> tuple[int, dict[str, str], bytes]:
        url = parse.urlsplit(self.path)
        service, _, path = url.path.strip("/").partition("/")
        query = questions(url.query)
        api, world = self.server.api, self.server.world
        try:
            with self.server.lock:
                if path == "v3/auth/tokens":
                    token = {"X-Subject-Token": f"token-{world.token}"}
                    return 201, token, orjson.dumps(api.login(body or {}, self.server.root))
                if path in ("", "v3", "v2.1"):
                    return 200, {}, orjson.dumps(api.discovery(service, self.server.root))
                if self.headers.get("X-Auth-Token") != f"token-{world.token}":
                    raise Fault(401, {"error": {"code": 401, "message": "Unauthorized"}})
                path = path.removeprefix("v2.1/")
                if self.command != "GET":
                    if service != "compute":
                        raise Fault(501, {"message": f"{self.command} {path} is not played"})
                    asked = api.change(self.command, path, body, version)
                    return 202, {"x-openstack-request-id": asked}, b""
                return 200, {}, orjson.dumps(api.answer(service, path, query, version))
        except Fault as fault:
            return fault.status, {}, orjson.dumps(fault.body)


@contextlib.contextmanager
def running(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve a new world; clouds.yaml calls it "here"."""
    server = Emulator(World())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    path = tmp_path / "clouds.yaml"
    path.write_text(
        json.dumps(
            {
                "clouds": {
                    "here": {
                        "region_name": "RegionOne",
                        "auth": {
                            "auth_url": f"{server.root}/identity/v3",
                            "username": "planner",
                            "password": "secret",
                            "project_name": "admin",
                            "user_domain_name": "Default",
                            "project_domain_name": "Default",
                        },
                    }
                }
            }
        )
    )
    for name in ("OS_CLOUD", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Without HTTP


def _without_hint(server: Json, groups: set[str]) -> Json:
    hints = server.get("scheduler_hints") or {}
    if not groups.intersection(hints.get("group") or ()):
        return server
    return {**server, "scheduler_hints": {k: v for k, v in hints.items() if k != "group"}}


@dataclasses.dataclass
class DirectCloud:
    """Stands where a client's connection does."""

    name: str = "direct"
    region: str | None = None


class Direct(client.Client):
    """Answers a reader at once from a world; ``edit`` may change what it is told.

    For properties, which try hundreds of worlds.
    """

    def __init__(self, world: World, edit: Callable[[str, Any], Any] | None = None) -> None:
        self.cloud = DirectCloud()  # type: ignore[assignment]
        self.requests = 0
        self.skew_s = 0.0
        self._api = Api(world)
        self._edit = edit

    def identity(self) -> str:
        """Name the cloud."""
        return "direct"

    def account(self) -> connection.Account:
        """Name the account."""
        return connection.Account("user", PROJECT, tuple(self._api.world.roles))

    def newest(self, service: str) -> client.Version:
        """Return the newest microversion."""
        return numbers(self._api.world.newest[service])

    def get(
        self, service: str, path: str, version: str | None = None, accept: Iterable[int] = ()
    ) -> Any:
        """Answer."""
        self.requests += 1
        url = parse.urlsplit(path)
        try:
            answer = self._api.answer(service, url.path, questions(url.query), version)
        except Fault as fault:
            if fault.status in accept:
                return None
            if fault.status in client.AGAIN:
                raise exceptions.CloudError(f"{path}: {fault.status}") from None
            raise client.Refused(fault.status, path) from None
        return answer if self._edit is None else self._edit(f"{service} {path}", answer)

    def each(
        self, work: Callable[[Any], Any], items: Iterable[Any], done: Callable[[int], None]
    ) -> list[Any]:
        """Work in turn."""
        return [work(item) for item in items]

    def now(self) -> float:
        """Return the world's time."""
        return self._api.world.time()

    def renewed(self) -> "Direct":
        """Return itself: its time is never over."""
        return self

    def stop(self) -> None:
        """Nothing waits here."""

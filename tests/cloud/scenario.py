# SPDX-License-Identifier: Apache-2.0
"""Fills a running test cloud with all that a rebalancer has to respect.

What is asked for depends on the seed, the number of servers and the hosts only; where the servers
go is up to Nova's scheduler. A cloud is filled once: ``tests/cloud/down --wipe`` empties it.
"""

import argparse
from concurrent import futures
import dataclasses
import pathlib
import random
import signal
import sys
import time
from typing import Any

from keystoneauth1 import exceptions

from tests.cloud import catalogue
from tests.cloud import client
from tests.cloud import computes
from tests.cloud import hosts
from tests.cloud import settings

PROJECTS = ("red", "green", "blue")
ZONES = ("zone-1", "zone-2")
FAST_AGGREGATE = "fast-disks"

# How an owner says that a server must stay where it is: either is enough.
OPT_OUT_METADATA = {"nova-rebalancer:allow-migration": "false"}
OPT_OUT_TAG = "nova-rebalancer:stay"

# An image with wishes, known and unknown to Nova: as important as those of a flavor.
IMAGE = "test-image-numa"
IMAGE_PROPERTIES = {"hw_numa_nodes": "2", "os_distro": "debian", "team": "storage"}

POLL_S = 0.5


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor and how often it is drawn."""

    vcpus: int
    memory_mb: int
    weight: int
    extra_specs: dict[str, str] = dataclasses.field(default_factory=dict)
    swap_mb: int = 0
    ephemeral_gb: int = 0
    public: bool = True


FLAVORS = {
    "general.small": Flavor(1, 1024, 6),
    "general.medium": Flavor(2, 4096, 5),
    "general.large": Flavor(4, 8192, 3),
    "numa.one": Flavor(2, 4096, 2, {"hw:numa_nodes": "1"}),
    "numa.two": Flavor(4, 8192, 2, {"hw:numa_nodes": "2"}),
    "pinned.small": Flavor(2, 2048, 2, {"hw:cpu_policy": "dedicated"}),
    "hugepage.2m": Flavor(2, 2048, 1, {"hw:mem_page_size": "2MB"}),
    "hugepage.1g": Flavor(2, 2048, 1, {"hw:mem_page_size": "1GB", "hw:cpu_policy": "dedicated"}),
    "trait.fast": Flavor(1, 2048, 2, {f"trait:{hosts.FAST_DISK}": "required"}),
    "aggregate.fast": Flavor(1, 2048, 1, {"aggregate_instance_extra_specs:fast": "true"}),
}
# Never drawn by chance, so that they can be added to without changing the rest of a scenario.
RARE_FLAVORS = {
    "mixed.small": Flavor(2, 2048, 0, {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0"}),
    "scratch.small": Flavor(1, 1024, 0, swap_mb=1536, ephemeral_gb=2),
    "private.small": Flavor(1, 1024, 0, public=False),
}


@dataclasses.dataclass(frozen=True)
class Group:
    """A server group, with the members it gets."""

    policy: str
    members: int
    rules: dict[str, int] = dataclasses.field(default_factory=dict)


GROUPS = {
    "together": Group("affinity", 2),
    "apart": Group("anti-affinity", 3),
    "two-a-host": Group("anti-affinity", 3, {"max_server_per_host": 2}),
    "rather-together": Group("soft-affinity", 2),
    "rather-apart": Group("soft-anti-affinity", 2),
}


@dataclasses.dataclass
class Server:
    """One to be made."""

    name: str
    project: str
    flavor: str
    group: str | None = None
    zone: str | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: list[str] = dataclasses.field(default_factory=list)
    afterwards: dict[str, Any] | None = None
    """A server action once it is ACTIVE."""
    image: str | None = None
    """Its name, if not that of all the others."""


def zone(number: int) -> str:
    """Of the host with this number: every fourth one is in the second zone."""
    return ZONES[number % 4 == 0]


def servers(seed: int, count: int) -> list[Server]:
    """What to make: first one of each peculiarity, as far as the number goes, then a mixture."""
    chance = random.Random(seed)
    wanted: list[Server] = []

    def add(flavor: str, **values: Any) -> None:
        project = values.pop("project", None) or chance.choice(PROJECTS)
        wanted.append(Server(f"server-{len(wanted) + 1:04}", project, flavor, **values))

    add("general.small", afterwards={"lock": None})
    add("general.small", metadata=OPT_OUT_METADATA)
    add("general.medium", tags=[OPT_OUT_TAG])
    # A group belongs to a project, and only its servers can be members.
    for name, group in GROUPS.items():
        project = chance.choice(PROJECTS)
        for _ in range(group.members):
            add("general.small", project=project, group=name)
    for name in FLAVORS:
        if not name.startswith("general."):
            add(name)
    add("general.medium", zone=ZONES[1])
    add("general.small", afterwards={"os-stop": None})
    add("general.small", afterwards={"pause": None})
    for name in RARE_FLAVORS:
        add(name, metadata={"kind": name}, tags=[name, "rare"])
    add("general.medium", image=IMAGE)
    add("general.small", afterwards={"lock": {"locked_reason": "it must not stop"}})
    names = list(FLAVORS)
    weights = [FLAVORS[name].weight for name in names]
    while len(wanted) < count:
        add(chance.choices(names, weights)[0])
    return wanted[:count]


class Builder:
    """Makes a scenario on one cloud."""

    def __init__(self, cloud: settings.Settings):
        self._cloud = cloud
        self._admin = client.Client(cloud)
        self._clients: dict[str, client.Client] = {}
        self._flavors: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._images: dict[str | None, str] = {None: catalogue.image(cloud)}

    def build(self, seed: int, count: int) -> None:
        """All of it.

        Raises
        ------
        CloudError
            If the cloud was filled before, or a server does not get where it should.
        """
        began = time.monotonic()

        def say(what: str) -> None:
            print(f"[{time.monotonic() - began:6.1f} s] {what}", flush=True)

        wanted = servers(seed, count)
        self._projects()
        self._aggregates()
        self._make_flavors()
        self._make_image()
        self._make_groups(wanted)
        say("projects, aggregates, availability zones, flavors, server groups")
        # A few at a time, as users come. The computes are slower than the API on a small machine.
        with futures.ThreadPoolExecutor(4) as pool:
            made = pool.map(self._in_turn, _by_group(wanted))
            states = [state for some in made for state in some]
        say(f"{len(wanted)} servers: {_counted(states)}")
        self._spoil_hosts(say)

    def _projects(self) -> None:
        admin = self._admin
        if admin.list(admin.identity, f"/projects?name={PROJECTS[0]}", "projects"):
            raise settings.CloudError("this cloud has its scenario: tests/cloud/down --wipe first")
        user = admin.list(admin.identity, "/users?name=admin", "users")[0]["id"]
        role = admin.list(admin.identity, "/roles?name=admin", "roles")[0]["id"]
        for name in PROJECTS:
            body = {"project": {"name": name, "domain_id": "default"}}
            project = admin.identity.post("/projects", json=body).json()["project"]["id"]
            admin.identity.put(f"/projects/{project}/users/{user}/roles/{role}")
            self._clients[name] = client.Client(self._cloud, name)

    def _aggregates(self) -> None:
        named = self._cloud.hosts()
        metadata = {name: {"availability_zone": name} for name in ZONES}
        metadata[FAST_AGGREGATE] = {"fast": "true"}
        members: dict[str, list[str]] = {name: [] for name in metadata}
        for number, host in enumerate(named, 1):
            members[zone(number)].append(host)
            if hosts.FAST_DISK in hosts.description(self._cloud, host).get("traits", ()):
                members[FAST_AGGREGATE].append(host)
        for name, values in metadata.items():
            body: dict[str, Any] = {"aggregate": {"name": name}}
            made = self._admin.compute.post("/os-aggregates", json=body).json()["aggregate"]
            path = f"/os-aggregates/{made['id']}/action"
            self._admin.compute.post(path, json={"set_metadata": {"metadata": values}})
            for host in members[name]:
                self._admin.compute.post(path, json={"add_host": {"host": host}})

    def _make_flavors(self) -> None:
        compute = self._admin.compute
        for name, flavor in {**FLAVORS, **RARE_FLAVORS}.items():
            size = {
                "name": name,
                "vcpus": flavor.vcpus,
                "ram": flavor.memory_mb,
                "disk": 1,
                "swap": flavor.swap_mb,
                "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gb,
                "os-flavor-access:is_public": flavor.public,
            }
            made = compute.post("/flavors", json={"flavor": size}).json()["flavor"]["id"]
            for client_of in self._clients.values() if not flavor.public else ():
                access = {"addTenantAccess": {"tenant": client_of.session.get_project_id()}}
                compute.post(f"/flavors/{made}/action", json=access)
            if flavor.extra_specs:
                specs = {"extra_specs": flavor.extra_specs}
                compute.post(f"/flavors/{made}/os-extra_specs", json=specs)
            self._flavors[name] = made

    def _make_image(self) -> None:
        values = {
            "name": IMAGE,
            "disk_format": "raw",
            "container_format": "bare",
            "visibility": "public",
            **IMAGE_PROPERTIES,
        }
        made = self._admin.image.post("/v2/images", json=values).json()["id"]
        self._admin.image.put(
            f"/v2/images/{made}/file",
            data=b"\0" * 512,
            headers={"Content-Type": "application/octet-stream"},
        )
        self._images[IMAGE] = made

    def _make_groups(self, wanted: list[Server]) -> None:
        owners = {server.group: server.project for server in wanted if server.group}
        for name, group in GROUPS.items():
            body: dict[str, Any] = {"name": name, "policy": group.policy}
            if group.rules:
                body["rules"] = group.rules
            compute = self._clients[owners.get(name, PROJECTS[0])].compute
            made = compute.post("/os-server-groups", json={"server_group": body}).json()
            self._groups[name] = made["server_group"]["id"]

    def _in_turn(self, wanted: list[Server]) -> list[str]:
        return [self._server(server) for server in wanted]

    def _server(self, server: Server) -> str:
        """Make one; returns its status in the end."""
        compute = self._clients[server.project].compute
        body: dict[str, Any] = {
            "name": server.name,
            "flavorRef": self._flavors[server.flavor],
            "imageRef": self._images[server.image],
            "networks": "none",
            "metadata": server.metadata,
            "tags": server.tags,
        }
        if server.zone:
            body["availability_zone"] = server.zone
        request: dict[str, Any] = {"server": body}
        if server.group:
            request["os:scheduler_hints"] = {"group": self._groups[server.group]}
        made = compute.post("/servers", json=request).json()["server"]["id"]

        def settled() -> dict[str, Any] | None:
            found: dict[str, Any] = compute.get(f"/servers/{made}").json()["server"]
            busy = found["OS-EXT-STS:task_state"] or found["status"] == "BUILD"
            return None if busy else found

        found = client.until(settled, f"{server.name} settled", 120, POLL_S)
        if server.afterwards and found["status"] == "ACTIVE":
            compute.post(f"/servers/{made}/action", json=server.afterwards)
            found = client.until(settled, f"{server.name} after {[*server.afterwards]}", 60, POLL_S)
        status: str = found["status"]
        if status == "ERROR":
            why = found.get("fault", {}).get("message", "")
            print(f"{server.name} ({server.flavor}): {why}", file=sys.stderr, flush=True)
        return status

    def _spoil_hosts(self, say: Any) -> None:
        """Disable the first host and end the compute of the third, both with servers on them."""
        named = self._cloud.hosts()
        if len(named) < 4:
            say("fewer than four hosts: none disabled, none down")
            return
        compute = self._admin.compute
        path = "/os-services?binary=nova-compute"
        services = self._admin.list(compute, path, "services")
        identifiers = {service["host"]: service["id"] for service in services}
        disabled, dead = named[0], named[2]
        values = {"status": "disabled", "disabled_reason": "a new power supply"}
        compute.put(f"/os-services/{identifiers[disabled]}", json=values)
        computes.ask(self._cloud, "kill", [dead], signal.SIGKILL)

        def seen() -> bool:
            states = {s["host"]: s["state"] for s in self._admin.list(compute, path, "services")}
            return bool(states[dead] == "down")

        client.until(seen, f"{dead} seen as down", 90)
        say(f"{disabled} is disabled, {dead} is down")


def _by_group(wanted: list[Server]) -> list[list[Server]]:
    """The members of a group together: made at the same time, Nova lets them collide."""
    groups: dict[str, list[Server]] = {}
    for server in wanted:
        groups.setdefault(server.group or server.name, []).append(server)
    return list(groups.values())


def _counted(states: list[str]) -> str:
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests/cloud/scenario", description="Fill a test cloud.")
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    parser.add_argument("--seed", type=int, default=0, help="other servers (default: 0)")
    parser.add_argument("--servers", type=int, default=40, metavar="N", help="default: 40")
    arguments = parser.parse_args()
    try:
        Builder(settings.load(arguments.state)).build(arguments.seed, arguments.servers)
    except settings.CloudError as error:
        sys.exit(f"scenario: {error}")
    except exceptions.ClientException as error:
        sys.exit(f"scenario: the cloud refuses: {error}")


if __name__ == "__main__":
    main()

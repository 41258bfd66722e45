# SPDX-License-Identifier: Apache-2.0
"""Fills a running test cloud with the scenario. A cloud is filled once: ``tests/cloud/down --wipe``
empties it.
"""

import argparse
from concurrent import futures
import pathlib
import signal
import sys
import time
from typing import Any

from keystoneauth1 import exceptions

from tests.cloud import catalogue
from tests.cloud import client
from tests.cloud import computes
from tests.cloud import hosts
from tests.cloud import scenario
from tests.cloud import settings

POLL_S = 0.5
AGAIN = 2

# Numbers of the hosts that are not as they should be, and how many hosts that takes.
DISABLED, DOWN, FORCED_DOWN = 1, 3, 4
SPOIL_FROM, FORCE_FROM = 4, 16


class Builder:
    """Makes a scenario on one cloud."""

    def __init__(self, cloud: settings.Settings):
        self._cloud = cloud
        self._admin = client.Client(cloud, again=AGAIN)
        self._clients: dict[str, client.Client] = {}
        self._flavors: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._made: dict[str, str] = {}
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

        wanted = scenario.servers(seed, count, len(self._cloud.hosts()), self._cloud.release)
        self._projects()
        self._aggregates()
        self._make_flavors()
        self._make_images()
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
        if admin.list(admin.identity, f"/projects?name={scenario.PROJECTS[0]}", "projects"):
            raise settings.CloudError("this cloud has its scenario: tests/cloud/down --wipe first")
        user = admin.list(admin.identity, "/users?name=admin", "users")[0]["id"]
        role = admin.list(admin.identity, "/roles?name=admin", "roles")[0]["id"]
        for name in (*scenario.PROJECTS, scenario.TENANT):
            body = {"project": {"name": name, "domain_id": "default"}}
            project = admin.identity.post("/projects", json=body).json()["project"]["id"]
            admin.identity.put(f"/projects/{project}/users/{user}/roles/{role}")
            self._clients[name] = client.Client(self._cloud, name, again=AGAIN)

    def _aggregates(self) -> None:
        tenant = {"filter_tenant_id": self._clients[scenario.TENANT].session.get_project_id()}
        special = {**scenario.AGGREGATES, "violet-only": (scenario.TENANT_PAIR, tenant)}
        metadata: dict[str, dict[str, Any]] = {
            **{name: {"availability_zone": name} for name in scenario.ZONES},
            scenario.FAST_AGGREGATE: {"fast": "true"},
            **{f"tier-{tier}": {"tier": str(tier)} for tier in range(1, len(hosts.KINDS) + 1)},
            **{name: values for name, (_, values) in special.items()},
        }
        members: dict[str, list[str]] = {name: [] for name in metadata}
        for number, host in enumerate(self._cloud.hosts(), 1):
            pair = hosts.pair_of(number)
            members[scenario.zone(number)].append(host)
            members[f"tier-{1 + pair % len(hosts.KINDS)}"].append(host)
            if hosts.FAST_DISK in hosts.description(self._cloud, host).get("traits", ()):
                members[scenario.FAST_AGGREGATE].append(host)
            for name, (theirs, _) in special.items():
                if pair == theirs:
                    members[name].append(host)
        for name, values in metadata.items():
            body: dict[str, Any] = {"aggregate": {"name": name}}
            made = self._admin.compute.post("/os-aggregates", json=body).json()["aggregate"]
            path = f"/os-aggregates/{made['id']}/action"
            self._admin.compute.post(path, json={"set_metadata": {"metadata": values}})
            for host in members[name]:
                self._admin.compute.post(path, json={"add_host": {"host": host}})

    def _make_flavors(self) -> None:
        compute = self._admin.compute
        ruled = {name: flavor for name, (_, flavor) in scenario.RULE_FLAVORS.items()}
        for name, flavor in {**scenario.FLAVORS, **scenario.RARE_FLAVORS, **ruled}.items():
            if name in scenario.UNKNOWN.get(self._cloud.release, ()):
                continue
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

    def _make_images(self) -> None:
        for name, properties in scenario.IMAGES.items():
            self._images[name] = catalogue.image(self._cloud, name, properties)

    def _make_groups(self, wanted: list[scenario.Server]) -> None:
        owners = {server.group: server.project for server in wanted if server.group}
        for name, owner in owners.items():
            group = scenario.GROUPS[name.partition(".")[0]]
            body: dict[str, Any] = {"name": name, "policy": group.policy}
            if group.rules:
                body["rules"] = group.rules
            compute = self._clients[owner].compute
            made = compute.post("/os-server-groups", json={"server_group": body}).json()
            self._groups[name] = made["server_group"]["id"]

    def _in_turn(self, wanted: list[scenario.Server]) -> list[str]:
        return [self._server(server) for server in wanted]

    def _server(self, server: scenario.Server) -> str:
        """Make one; returns its status in the end."""
        compute = self._clients[server.project].compute
        values = server.values
        body: dict[str, Any] = {
            "name": server.name,
            "flavorRef": self._flavors[values.flavor],
            "imageRef": self._images[values.image],
            "networks": "none",
            "metadata": {"kind": server.kind, **values.metadata},
            "tags": list(values.tags),
        }
        if values.zone:
            body["availability_zone"] = values.zone
        request: dict[str, Any] = {"server": body}
        if server.group:
            request["os:scheduler_hints"] = {"group": self._groups[server.group]}
        elif server.beside:
            request["os:scheduler_hints"] = {values.hint: [self._made[server.beside]]}
        made = compute.post("/servers", json=request).json()["server"]["id"]
        self._made[server.name] = made

        def settled() -> dict[str, Any] | None:
            found: dict[str, Any] = compute.get(f"/servers/{made}").json()["server"]
            busy = found["OS-EXT-STS:task_state"] or found["status"] == "BUILD"
            return None if busy else found

        found = client.until(settled, f"{server.name} settled", 120, POLL_S)
        if found["status"] == "ACTIVE" and values.named:
            key, which = values.named
            named = self._from(found["OS-EXT-SRV-ATTR:host"])[which]
            metadata = {"metadata": {key: ",".join(named)}}
            compute.post(f"/servers/{made}/metadata", json=metadata)
        if found["status"] == "ACTIVE" and values.afterwards:
            compute.post(f"/servers/{made}/action", json=values.afterwards)
            found = client.until(settled, f"{server.name} after {[*values.afterwards]}", 60, POLL_S)
        status: str = found["status"]
        if status == "ERROR":
            why = found.get("fault", {}).get("message", "")
            print(f"{server.name} ({server.kind}): {why}", file=sys.stderr, flush=True)
        return status

    def _from(self, host: str) -> list[str]:
        """The hosts of its cell of Nova, from this one on, around to the one before it."""
        cells = {
            name: hosts.description(self._cloud, name).get("cell", "cell1")
            for name in self._cloud.hosts()
        }
        ours = [name for name, cell in cells.items() if cell == cells[host]]
        first = ours.index(host)
        return ours[first:] + ours[:first]

    def _spoil_hosts(self, say: Any) -> None:
        """Disable a host, end the compute of one and force one down, all with servers on them."""
        named = self._cloud.hosts()
        if len(named) < SPOIL_FROM:
            say(f"fewer than {SPOIL_FROM} hosts: none disabled, none down")
            return
        compute = self._admin.compute
        path = "/os-services?binary=nova-compute"
        services = self._admin.list(compute, path, "services")
        identifiers = {service["host"]: service["id"] for service in services}
        disabled, dead = named[DISABLED - 1], named[DOWN - 1]
        values: dict[str, Any] = {"status": "disabled", "disabled_reason": "a new power supply"}
        compute.put(f"/os-services/{identifiers[disabled]}", json=values)
        computes.ask(self._cloud, "kill", [dead], signal.SIGKILL)
        down = [dead]
        if len(named) >= FORCE_FROM:
            down.append(named[FORCED_DOWN - 1])
            compute.put(f"/os-services/{identifiers[down[-1]]}", json={"forced_down": True})

        def seen() -> bool:
            states = {s["host"]: s["state"] for s in self._admin.list(compute, path, "services")}
            return all(states[host] == "down" for host in down)

        client.until(seen, f"{down} seen as down", 90)
        say(f"{disabled} is disabled; down: {', '.join(down)}")


def _by_group(wanted: list[scenario.Server]) -> list[list[scenario.Server]]:
    """Servers of one group, or one hint, together: made at the same time Nova lets them collide."""
    groups: dict[str, list[scenario.Server]] = {}
    for server in wanted:
        groups.setdefault(server.group or server.beside or server.name, []).append(server)
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
    except exceptions.HttpError as error:
        # Of Nova's reasons keystoneauth understands only some.
        why = error.response.text if error.response is not None else ""
        sys.exit(f"scenario: the cloud refuses: {error} {why}")
    except exceptions.ClientException as error:
        sys.exit(f"scenario: the cloud refuses: {error}")


if __name__ == "__main__":
    main()

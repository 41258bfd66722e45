# SPDX-License-Identifier: Apache-2.0
"""A test cloud made ready for benchmarks: hosts alike and narrow, and mended after faults."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import json
from typing import Any

import pymysql

from tests.cloud import client
from tests.cloud import computes
from tests.cloud import configs
from tests.cloud import hosts
from tests.cloud import settings
from tests.cloud import watch

Json = dict[str, Any]

SETTLED_S = 120.0
# Hosts with hugepages need their memory.
LEAST_MIB = 45056
RESERVED_MIB = 512


def open_all(cloud: settings.Settings) -> None:
    """Enable every host, start those that are down, and wait until Nova sees them."""
    admin = client.Client(cloud)
    path = "/os-services?binary=nova-compute"
    for service in admin.list(admin.compute, path, "services"):
        if service["status"] == "disabled":
            body = {"status": "enabled"}
            admin.compute.put(f"/os-services/{service['id']}", json=body)
        if service["forced_down"]:
            body = {"forced_down": False}
            admin.compute.put(f"/os-services/{service['id']}", json=body)
    computes.ask(cloud, "start", cloud.hosts())

    def up() -> bool:
        services = admin.list(admin.compute, path, "services")
        return all(service["state"] == "up" for service in services)

    client.until(up, "every host is up", SETTLED_S)


def level(cloud: settings.Settings, headroom_mib: int) -> None:
    """Give all hosts one CPU and one hypervisor, and room for so much more memory than is used.

    So instances migrate to and fro between all hosts, and have to wait for one another.
    """
    newest: Json = {}
    for special in hosts.SPECIAL.values():
        if "gfni" in special.get("cpu", {}).get("features", ()):
            newest["cpu"] = special["cpu"]
        if "hypervisor_version" in special:
            newest["hypervisor_version"] = special["hypervisor_version"]
    tables = watch.Tables(cloud)
    rooms = tables.look().rooms
    tables.close()
    wanted = {}
    for host in cloud.hosts():
        used = rooms[host, "MEMORY_MB"].used
        wanted[host] = max(used + headroom_mib, LEAST_MIB if _has_pages(cloud, host) else 0)
        describe(cloud, host, {**newest, "memory_mb": wanted[host] + RESERVED_MIB})
    admin = client.Client(cloud)

    def told() -> bool:
        tables = watch.Tables(cloud)
        now = tables.look().rooms
        tables.close()
        nodes = admin.compute.get("/os-hypervisors/detail", microversion="2.87").json()
        versions = {node["hypervisor_version"] for node in nodes["hypervisors"]}
        return versions == {newest["hypervisor_version"]} and all(
            now[host, "MEMORY_MB"].capacity == amount for host, amount in wanted.items()
        )

    client.until(told, "Nova knows of the hosts' new sizes", SETTLED_S)


def describe(cloud: settings.Settings, host: str, values: Mapping[str, Any]) -> None:
    """Change a host's description, at once for those who read it."""
    file = cloud.host_file(host)
    new = file.with_suffix(".new")
    new.write_text(json.dumps({**hosts.description(cloud, host), **values}, indent=2) + "\n")
    new.replace(file)


@contextlib.contextmanager
def speed(cloud: settings.Settings, of: Callable[[str], Json]) -> Iterator[None]:
    """Let migrations away from each host take what ``of`` its name says while the body runs."""
    before = {host: hosts.description(cloud, host).get("migration", {}) for host in cloud.hosts()}
    try:
        for host in before:
            describe(cloud, host, {"migration": of(host)})
        yield
    finally:
        for host, values in before.items():
            describe(cloud, host, {"migration": values})


@contextlib.contextmanager
def faults(cloud: settings.Settings, *rules: Json) -> Iterator[None]:
    """Rules for the simulated hypervisors while the body runs."""
    file = cloud.driver / "faults.json"
    file.write_text(json.dumps(rules))
    try:
        yield
    finally:
        file.unlink()


def mend(cloud: settings.Settings) -> list[str]:
    """Bring every server back to ACTIVE, at rest and charged where it is; say what was done."""
    admin = client.Client(cloud)
    did = []
    computes.ask(cloud, "start", cloud.hosts())
    tables = watch.Tables(cloud)
    look = tables.look()
    tables.close()
    for uuid, server in look.servers.items():
        if server.vm_state == "error" and server.host is not None:
            admin.compute.post(
                f"/servers/{uuid}/action", json={"os-resetState": {"state": "active"}}
            )
            did.append(f"{server.name} reset")
    for record in look.records.values():
        held = look.charges.get(record.uuid)
        server_of = look.servers.get(record.instance)
        if not held or record.status in watch.IN_FLIGHT:
            continue
        charged = look.charges.get(record.instance, {})
        if server_of is not None and server_of.host not in charged:
            # What the migration holds is what the instance should.
            _charge(admin, record.instance, record.uuid)
        else:
            admin.placement.delete(f"/allocations/{record.uuid}")
        did.append(f"{record.instance}: allocations of migration {record.number} cleared")
    return did


def end_lost(cloud: settings.Settings) -> None:
    """Write an end to every migration that Nova still lists as in flight, and to its servers."""
    for act in ("stop", "start"):
        computes.ask(cloud, act, cloud.hosts())
    connection = pymysql.connect(
        host=settings.ADDRESS, port=cloud.port("mariadb"), user="cloud", password=cloud.password
    )
    flying = ", ".join(f"'{status}'" for status in watch.IN_FLIGHT)
    with connection, connection.cursor() as cursor:
        for cell in cloud.cells:
            name = configs.cell_database(cell)
            cursor.execute(
                f"UPDATE {name}.instances SET task_state = NULL, vm_state = 'error' WHERE uuid IN "
                f"(SELECT instance_uuid FROM {name}.migrations WHERE status IN ({flying}))"
            )
            cursor.execute(
                f"UPDATE {name}.migrations SET status = 'error' WHERE status IN ({flying})"
            )
        connection.commit()


def account(cloud: settings.Settings, name: str, projects: Iterable[str]) -> str:
    """Make an administrator of some projects unless there is one; return the user's id."""
    admin = client.Client(cloud)
    found = admin.list(admin.identity, f"/users?name={name}", "users")
    if not found:
        values = {"name": name, "password": cloud.password, "domain_id": "default"}
        found = [admin.identity.post("/users", json={"user": values}).json()["user"]]
    role = admin.list(admin.identity, "/roles?name=admin", "roles")[0]["id"]
    for project in projects:
        (of,) = admin.list(admin.identity, f"/projects?name={project}", "projects")
        admin.identity.put(f"/projects/{of['id']}/users/{found[0]['id']}/roles/{role}")
    identifier: str = found[0]["id"]
    return identifier


def _charge(admin: client.Client, instance: str, migration: str) -> None:
    """Give an instance the allocations of its migration."""
    theirs = admin.placement.get(f"/allocations/{migration}").json()
    ours = admin.placement.get(f"/allocations/{instance}").json()
    body = {
        "allocations": {
            provider: {"resources": held["resources"]}
            for provider, held in theirs["allocations"].items()
        },
        "project_id": ours["project_id"],
        "user_id": ours["user_id"],
        "consumer_generation": ours["consumer_generation"],
        "consumer_type": "INSTANCE",
    }
    admin.placement.delete(f"/allocations/{migration}")
    admin.placement.put(f"/allocations/{instance}", json=body)


def _has_pages(cloud: settings.Settings, host: str) -> bool:
    return "hugepages_1g_per_cell" in (hosts.description(cloud, host).get("numa") or {})

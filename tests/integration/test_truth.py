# SPDX-License-Identifier: Apache-2.0
"""What is collected is what the databases of Nova and Placement hold, field by field."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import signal
from typing import Any
import uuid

from keystoneauth1 import exceptions as ksa
import pymysql
import pytest

from tests.cloud import client
from tests.cloud import computes
from tests.cloud import configs
from tests.cloud import scenario
from tests.cloud import settings
from tests.cloud import truth
from tests.integration import common

Json = dict[str, Any]
Collected = Callable[[], Json]


def check(cloud: settings.Settings, document: Json) -> None:
    """Compare all of a document; the differences are the message."""
    held = truth.read(cloud)
    found = truth.compare(document, held) + truth.covered(document, held)
    assert not found, "\n".join(found)


def of(document: Json, name: str) -> Json:
    """The instance of a document with this id."""
    found: Json = next(one for one in document["instances"] if one["id"] == name)
    return found


def get(admin: client.Client, name: str) -> Json | None:
    """A server, None when it is gone."""
    try:
        found: Json = admin.compute.get(f"/servers/{name}").json()["server"]
    except ksa.NotFound:
        return None
    return found


def until_status(admin: client.Client, name: str, *wanted: str | None) -> None:
    """Wait until a server is in one of these, with nothing under way; None: gone."""

    def there() -> bool:
        server = get(admin, name)
        if server is None:
            return None in wanted
        return server["status"] in wanted and not server["OS-EXT-STS:task_state"]

    client.until(there, f"server {name} {wanted}", 90)


def flavor(admin: client.Client, name: str) -> str:
    """The id of a flavor."""
    found = admin.list(admin.compute, "/flavors", "flavors")
    return next(str(one["id"]) for one in found if one["name"] == name)


@contextlib.contextmanager
def server(
    admin: client.Client, kind: str = "general.small", status: str = "ACTIVE"
) -> Iterator[str]:
    """The id of a server that is there while the body runs."""
    image = admin.list(admin.image, "/v2/images?name=test-image", "images")[0]["id"]
    body = {
        "name": f"truth-{kind}",
        "flavorRef": flavor(admin, kind),
        "imageRef": image,
        "networks": "none",
        "metadata": {"asked": "by a test"},
        "tags": ["truth"],
    }
    made: str = admin.compute.post("/servers", json={"server": body}).json()["server"]["id"]
    try:
        until_status(admin, made, status)
        yield made
    finally:
        with contextlib.suppress(ksa.NotFound):
            admin.compute.delete(f"/servers/{made}")
        until_status(admin, made, None)


@contextlib.contextmanager
def frozen(cloud: settings.Settings, host: str) -> Iterator[None]:
    """Stop a host's compute, so that nothing changes: shorter than it takes to look down."""
    computes.ask(cloud, "kill", [host], signal.SIGSTOP)
    try:
        yield
    finally:
        computes.ask(cloud, "kill", [host], signal.SIGCONT)


@contextlib.contextmanager
def sql(cloud: settings.Settings) -> Iterator[Callable[[str], Any]]:
    """Run statements as the databases' administrator."""
    connection = pymysql.connect(
        host=settings.ADDRESS,
        port=cloud.port("mariadb"),
        user="cloud",
        password=cloud.password,
        autocommit=True,
    )

    def run(statement: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    with contextlib.closing(connection):
        yield run


def act(admin: client.Client, name: str, action: str, **values: Any) -> None:
    """Ask for a server action."""
    admin.compute.post(f"/servers/{name}/action", json={action: values or None})


def migration(admin: client.Client, name: str, *statuses: str) -> Json:
    """Wait for the last migration of a server to be in one of these."""

    def there() -> Json | None:
        path = f"/os-migrations?instance_uuid={name}"
        found = admin.list(admin.compute, path, "migrations")
        last = max(found, key=lambda one: int(one["id"]), default=None)
        return last if last and last["status"] in statuses else None

    return client.until(there, f"migration of {name} {statuses}", 60)


def changes(value: Any) -> Iterator[Any]:
    """Copies of a JSON value with one thing changed, added or left out in each."""
    if isinstance(value, dict):
        yield {**value, "added": 1}
        for key, part in value.items():
            yield {name: kept for name, kept in value.items() if name != key}
            yield from ({**value, key: changed} for changed in changes(part))
    elif isinstance(value, list):
        yield [*value, {"id": "added"}]
        if value:
            yield value[1:]
            yield from ([changed, *value[1:]] for changed in changes(value[0]))
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield value + "?"
    else:
        yield (value or 0) + 1


def test_scenario(cloud: settings.Settings, collected: Collected) -> None:
    """A quiet cloud with all that a rebalancer has to respect is collected as it is."""
    document = collected()
    check(cloud, document)
    used = {one["flavor"] for one in document["instances"]}
    kinds = {*scenario.FLAVORS, *scenario.RARE_FLAVORS}
    assert {name for name in kinds if not name.startswith("general.")} <= used
    groups = {one["policy"] for one in document["server_groups"] if one["members"]}
    assert groups == {group.policy for group in scenario.GROUPS.values()}
    assert 2 in {one["max_server_per_host"] for one in document["server_groups"]}
    assert {*scenario.ZONES} <= {one["az"] for one in document["hosts"]}
    assert scenario.FAST_AGGREGATE in {one["name"] for one in document["aggregates"]}
    topologies = [guest for one in document["instances"] for guest in one["numa"] or ()]
    classes = {name for guest in topologies for name in guest["resources"]}
    assert {"PCPU", "HUGEPAGES_2048KB", "HUGEPAGES_1048576KB"} <= classes
    assert any(one["pinned_az"] for one in document["instances"])
    assert any(one["locked_reason"] for one in document["instances"])
    assert any(one["image"]["properties"] for one in document["instances"])
    assert {one["status"] for one in document["hosts"]} == {"enabled", "disabled"}


def test_every_change_is_noticed(cloud: settings.Settings, collected: Collected) -> None:
    """A document with anything changed, added or left out differs; so ``check`` proves something.

    But for what is about the reading, and the wording of what is left out.
    """
    held = truth.read(cloud)
    document = collected()
    for name in truth.ABOUT_THE_READING:
        del document[name]
    # One of each kind with everything in it is enough.
    for number, host in enumerate(document["hosts"]):
        if host["numa"]["cells"]:
            document["hosts"].insert(0, document["hosts"].pop(number))
            break
    document["instances"].sort(key=lambda one: -len(json.dumps(one)))
    document["refused"].clear()
    tried = 0
    for changed in changes(document):
        tried += 1
        found = truth.compare(changed, held) or truth.covered(changed, held)
        assert found, [key for key in document if changed.get(key) != document[key]]
    assert tried > 200


def test_while_it_migrates(
    cloud: settings.Settings, admin: client.Client, collected: Collected
) -> None:
    """During a live migration both ends are charged, and said to be."""
    with server(admin) as name, common.fault(cloud, fault="copy-hang", server=name):
        act(admin, name, "os-migrateLive", host=None, block_migration="auto")
        running = migration(admin, name, "running")
        # Its progress changes the server each second.
        with frozen(cloud, running["source_compute"]):
            document = collected()
            check(cloud, document)
        (told,) = document["running_migrations"]
        assert told["far_allocations"] == of(document, name)["allocations"] != {}
        admin.compute.delete(f"/servers/{name}/migrations/{running['id']}")
        until_status(admin, name, "ACTIVE")
    check(cloud, collected())


def test_failed_migration(
    cloud: settings.Settings, admin: client.Client, collected: Collected
) -> None:
    """What a migration that broke down leaves behind at both ends is told as held."""
    with server(admin) as name:
        with common.fault(cloud, fault="copy-error", server=name):
            act(admin, name, "os-migrateLive", host=None, block_migration="auto")
            failed = migration(admin, name, "error")
            until_status(admin, name, "ERROR")
        try:
            document = collected()
            check(cloud, document)
        finally:
            # Nova leaves it there for good.
            admin.placement.delete(f"/allocations/{failed['uuid']}")
        held = {one["consumer"]: one["why"] for host in document["hosts"] for one in host["held"]}
        assert held[name] == "elsewhere"
        assert failed["uuid"] in held


@pytest.mark.parametrize(
    ("old", "new"), [("general.small", "general.medium"), ("general.medium", "general.small")]
)
def test_resize(
    cloud: settings.Settings, admin: client.Client, collected: Collected, old: str, new: str
) -> None:
    """A resize is charged at both ends, with the old size at one and the new one at the other."""
    with server(admin, old) as name:
        source = get(admin, name)
        assert source is not None
        with frozen(cloud, source["OS-EXT-SRV-ATTR:host"]):
            act(admin, name, "resize", flavorRef=flavor(admin, new))
            migration(admin, name, "pre-migrating")
            document = collected()
            check(cloud, document)
            assert of(document, name)["flavor"] == old
        until_status(admin, name, "VERIFY_RESIZE")
        document = collected()
        check(cloud, document)
        assert of(document, name)["flavor"] == new
        (told,) = document["running_migrations"]
        assert told["far_allocations"] != of(document, name)["allocations"]
        act(admin, name, "confirmResize")
        until_status(admin, name, "ACTIVE")
    check(cloud, collected())


def test_no_host(cloud: settings.Settings, admin: client.Client, collected: Collected) -> None:
    """Servers on no host are outside: given up by the scheduler (in cell 0) or offloaded."""
    size = {"name": "nowhere", "vcpus": 10000, "ram": 1024, "disk": 1}
    huge = admin.compute.post("/flavors", json={"flavor": size}).json()["flavor"]["id"]
    try:
        with server(admin, "nowhere", "ERROR") as lost, server(admin) as shelved:
            act(admin, shelved, "shelve")
            until_status(admin, shelved, "SHELVED_OFFLOADED")
            document = collected()
            check(cloud, document)
            reasons = {one["id"]: one["reason"] for one in document["outside"]}
            assert reasons[lost] == reasons[shelved] == "no_host"
    finally:
        admin.compute.delete(f"/flavors/{huge}")
    document = collected()
    check(cloud, document)
    assert not {lost, shelved} & {one["id"] for one in document["outside"]}


def test_soft_deleted(cloud: settings.Settings, admin: client.Client, collected: Collected) -> None:
    """A server that waits to be deleted keeps its host, its group and what it is charged."""
    with server(admin) as name, sql(cloud) as run:
        # This cloud deletes at once, so it is said to Nova's database.
        cell = next(
            cell
            for cell in map(configs.cell_database, cloud.cells)
            if run(f"SELECT 1 FROM {cell}.instances WHERE uuid = '{name}'")
        )
        for state in ("soft-delete", "active"):
            # Long ago, or it would be among what has changed lately.
            run(
                f"UPDATE {cell}.instances SET vm_state = '{state}',"
                f" updated_at = created_at - INTERVAL 1 DAY WHERE uuid = '{name}'"
            )
            document = collected()
            check(cloud, document)
            assert of(document, name)["vm_state"] == state


def test_other_providers(
    cloud: settings.Settings, admin: client.Client, collected: Collected
) -> None:
    """Nested providers, pools that hosts share, and what others take of a host and a pool."""
    ask = admin.placement
    nested, pool, aggregate, other = (str(uuid.uuid4()) for _ in range(4))
    hosts = admin.list(ask, "/resource_providers", "resource_providers")
    users = [host["uuid"] for host in hosts if host["name"] in ("host-002", "host-004")]
    ask.put("/resource_classes/CUSTOM_IOPS")

    def provider(name: str, identifier: str, inventory: Json, **more: str) -> None:
        body = {"name": f"{name}-{identifier}", "uuid": identifier, **more}
        ask.post("/resource_providers", json=body)
        values = {"resource_provider_generation": 0, "inventories": inventory}
        ask.put(f"/resource_providers/{identifier}/inventories", json=values)

    def join(identifier: str, *aggregates: str) -> None:
        path = f"/resource_providers/{identifier}/aggregates"
        now = ask.get(path).json()
        ask.put(path, json={**now, "aggregates": [*{*now["aggregates"], *aggregates}]})

    def leave(identifier: str) -> None:
        path = f"/resource_providers/{identifier}/aggregates"
        now = ask.get(path).json()
        ask.put(path, json={**now, "aggregates": [*{*now["aggregates"]} - {aggregate}]})

    provider("gpu", nested, {"VGPU": {"total": 4}}, parent_provider_uuid=users[0])
    provider("pool", pool, {"CUSTOM_IOPS": {"total": 4000}})
    try:
        traits = {"resource_provider_generation": 1, "traits": [truth.SHARING]}
        ask.put(f"/resource_providers/{pool}/traits", json=traits)
        for identifier in (pool, *users):
            join(identifier, aggregate)
        taken = {
            nested: {"resources": {"VGPU": 1}},
            pool: {"resources": {"CUSTOM_IOPS": 7}},
            users[0]: {"resources": {"VCPU": 1}},
        }
        body = {
            "allocations": taken,
            "project_id": "truth",
            "user_id": "truth",
            "consumer_generation": None,
            "consumer_type": "TRUTH",
        }
        ask.put(f"/allocations/{other}", json=body)
        document = collected()
        check(cloud, document)
        assert [one["id"] for one in document["pools"]] == [pool]
        held: Json = {}
        for host in document["hosts"]:
            for one in host["held"]:
                if one["consumer"] == other:
                    held |= one["resources"]
        assert held == {"CUSTOM_IOPS": 7, "VCPU": 1, "VGPU": 1}
    finally:
        with contextlib.suppress(ksa.NotFound):
            ask.delete(f"/allocations/{other}")
        for identifier in users:
            leave(identifier)
        for identifier in (nested, pool):
            ask.delete(f"/resource_providers/{identifier}")
    check(cloud, collected())

# SPDX-License-Identifier: Apache-2.0
"""A cloud in trouble, for real: what is read is right, or refused with the reason."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import signal
import time
from typing import Any
import uuid

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa
import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.collect import live
from nova_rebalancer.collect import neutron
from nova_rebalancer.plan import base
from nova_rebalancer.rest import client as collect_client
from nova_rebalancer.rest import connection
from tests.cloud import cells
from tests.cloud import client
from tests.cloud import computes
from tests.cloud import control
from tests.cloud import hosts
from tests.cloud import proxy
from tests.cloud import settings
from tests.integration import common

NOVA = "/v2.1"


@pytest.fixture
def compute(cloud: settings.Settings) -> Iterator[proxy.Proxy]:
    """Nova's API behind a proxy."""
    with proxy.Proxy(cloud.url("nova-api")) as between:
        yield between


@pytest.fixture
def placement(cloud: settings.Settings) -> Iterator[proxy.Proxy]:
    """Placement's API behind a proxy."""
    with proxy.Proxy(cloud.url("placement")) as between:
        yield between


def plan(found: live.Live) -> set[str]:
    """Instances that a plan for the snapshot moves."""
    made = controller.run(
        found.snapshot, found.sha256, controller.Options(planner="greedy"), base.Watch()
    )
    return {found.snapshot.instances[m.hop.v].id for m in made.path.migrations}


def server(found: live.Live, name: str) -> Any:
    """The instance of this id."""
    return next((one for one in found.snapshot.instances if one.id == name), None)


def host(found: live.Live, name: str) -> Any:
    """The host with this service host."""
    return next((one for one in found.snapshot.hosts if one.service_host == name), None)


def delete(admin: client.Client, name: str) -> None:
    """Delete a server and wait until it is gone."""
    with contextlib.suppress(ksa.NotFound):
        admin.compute.delete(f"/servers/{name}")
    client.until(lambda: common.status(admin, name) is None, f"server {name} gone", 60)


def migrate(admin: client.Client, name: str) -> None:
    """Ask for a live migration to any host."""
    body = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
    admin.compute.post(f"/servers/{name}/action", json=body)


def migration(admin: client.Client, name: str) -> dict[str, Any]:
    """The newest migration of a server; its status is None while Nova has not begun."""
    found = admin.list(admin.compute, f"/os-migrations?instance_uuid={name}", "migrations")
    return max(found, key=lambda one: one["id"], default={"status": None})


def test_quiet(collect):
    """A cloud at rest is read whole; the host that is down and the disabled one are known."""
    found = collect()
    assert not found.snapshot.missing and not found.snapshot.refused
    assert host(found, "host-001").status == "disabled"
    assert host(found, "host-003").state == "down"
    assert len(found.snapshot.hosts) == 8
    assert found.snapshot.cloud == "test-cloud"


def test_compute_killed(cloud, collect):
    """The host of a compute that was killed is down: nothing is planned from or to it."""
    name = "host-006"
    computes.ask(cloud, "kill", [name], signal.SIGKILL)
    try:
        found = client.until(
            lambda: one if host(one := collect(), name).state == "down" else None, "down", 60
        )
        there = {one.id for one in found.snapshot.instances if one.host == host(found, name).id}
        assert not there & plan(found)
    finally:
        computes.ask(cloud, "start", [name])
        client.until(lambda: host(collect(), name).state == "up", f"{name} up", 60)


@pytest.mark.parametrize("how", ["deleted", "made"])
def test_between_two_pages(admin, collect, compute, how):
    """Servers that go or come between two pages are as they are in the end."""
    made = [common.boot(admin)]
    change = {
        "deleted": lambda: delete(admin, made[0]),
        "made": lambda: made.append(common.boot(admin)),
    }
    rule = proxy.Rule("GET /v2.1/servers/detail.*marker=", count=1, before=change[how])
    compute.rules.append(rule)
    try:
        found = collect(endpoints={"compute": compute.url + NOVA})
        assert rule.applied == 1
        if how == "deleted":
            assert server(found, made[0]) is None
        else:
            assert server(found, made[1]).allocations["MEMORY_MB"] == 1024
        assert common.facts(found) == common.facts(collect())
    finally:
        for name in made:
            delete(admin, name)


def test_inventory_deleted(cloud, admin, collect):
    """A host whose provider has no inventory is refused with that reason, and comes back."""
    name = hosts.write_missing(cloud, 9)[-1]
    computes.ask(cloud, "start", [name])
    client.until(lambda: host(collect(), name), f"{name} up", 90)
    new = host(collect(), name).id
    # A living compute would put it back.
    computes.ask(cloud, "kill", [name], signal.SIGKILL)
    try:
        admin.placement.delete(f"/resource_providers/{new}/inventories")
        found = collect()
        assert [one.host for one in found.snapshot.refused] == [name]
        assert "no inventory" in found.snapshot.refused[0].reason
        assert host(found, name) is None
    finally:
        services = admin.list(admin.compute, "/os-services?binary=nova-compute", "services")
        gone = next(one["id"] for one in services if one["host"] == name)
        client.until(
            lambda: host(collect(), name) is None or host(collect(), name).state == "down",
            "down",
            60,
        )
        admin.compute.delete(f"/os-services/{gone}")
        cloud.host_file(name).unlink()
    assert len(collect().snapshot.hosts) == 8


def test_renamed(admin, collect):
    """A provider with another name than its hypervisor is refused: which is it?"""
    one = collect().snapshot.hosts[1]
    path = f"/resource_providers/{one.id}"
    try:
        admin.placement.put(path, json={"name": "renamed"})
        found = collect()
        assert [lost.host for lost in found.snapshot.refused] == [one.service_host]
        assert "renamed" in found.snapshot.refused[0].reason
        gone = {lost.id for lost in found.snapshot.outside if lost.reason == "host_refused"}
        assert gone == {i.id for i in collect_all(admin) if i.host == one.service_host}
    finally:
        admin.placement.put(path, json={"name": one.hypervisor_hostname})


def collect_all(admin: client.Client) -> list[Any]:
    """Servers as Nova lists them, with their hosts."""
    import types

    listed = admin.list(admin.compute, "/servers/detail?all_tenants=1", "servers")
    return [types.SimpleNamespace(id=one["id"], host=one["OS-EXT-SRV-ATTR:host"]) for one in listed]


def test_placement_stopped(cloud, collect):
    """Without Placement there is no snapshot but an error that names it."""
    control.stop_api(cloud, "placement")
    try:
        with pytest.raises(exceptions.CloudError, match="placement"):
            collect()
    finally:
        control.start_api(cloud, "placement")


def test_nova_stopped_half_way(cloud, collect, compute):
    """When Nova's API ends while it is read there is no snapshot but an error that names it."""
    rule = proxy.Rule("topology", count=1, before=lambda: control.stop_api(cloud, "nova-api"))
    compute.rules.append(rule)
    try:
        with pytest.raises(exceptions.CloudError, match=r"compute|topology"):
            found = collect(endpoints={"compute": compute.url + NOVA})
            assert found is None
    finally:
        control.start_api(cloud, "nova-api")
    assert rule.applied == 1


def test_nova_restarted_half_way(cloud, collect, compute):
    """When Nova's API is started again while it is read, the reading goes on."""

    def restart() -> None:
        control.stop_api(cloud, "nova-api")
        control.start_api(cloud, "nova-api")

    compute.rules.append(proxy.Rule("topology", count=1, before=restart))
    patient = collect_client.Limits(attempts=8, timeout_s=60.0)
    found = collect(endpoints={"compute": compute.url + NOVA}, limits=patient)
    assert common.facts(found) == common.facts(collect())


def test_token_expires(admin, collect, compute):
    """A token that ends half way is replaced by a new one."""
    rule = proxy.Rule("topology", count=3, status=401)
    compute.rules.append(rule)
    found = collect(endpoints={"compute": compute.url + NOVA})
    assert rule.applied == 3
    assert common.facts(found) == common.facts(collect())


def test_wrong_password(cloud, collect, monkeypatch, tmp_path):
    """Credentials that are not accepted are told at once."""
    wrong = cloud.__class__(**{**cloud.__dict__, "password": "wrong"})
    monkeypatch.setattr("tests.integration.conftest.configs.write_clients", writer(wrong))
    with pytest.raises(exceptions.CloudError, match="credentials are not accepted"):
        collect()


def writer(cloud: settings.Settings) -> Callable[..., None]:
    """Write clouds.yaml of another cloud than asked."""
    from tests.cloud import configs

    real = configs.write_clients
    return lambda _, path, endpoints: real(cloud, path, endpoints)


def test_cell_down(cloud, collect):
    """With a dead cell there is no plan for its hosts, whatever Nova's lists leave out."""
    before = collect()
    limits = collect_client.Limits(attempts=2, timeout_s=20.0, deadline_s=60.0)
    cells.cut(cloud, "cell2")
    try:
        found = collect(limits=limits)
    except exceptions.CloudError as error:
        # Nova does not list its hypervisors then.
        assert "compute" in str(error)
    else:
        assert "a cell" in {one.what for one in found.snapshot.missing}
        seen = {one.id for one in found.snapshot.hosts if one.usable}
        for one in before.snapshot.instances:
            assert server(found, one.id) is not None or one.host not in seen
    finally:
        cells.heal(cloud, "cell2")
    assert common.facts(collect()) == common.facts(before)


def test_cell_down_meanwhile(cloud, collect, compute):
    """A cell that dies while the cloud is read, and the lists already are, is noticed."""
    rule = proxy.Rule("os-aggregates", count=1, before=lambda: time.sleep(3))
    last = proxy.Rule("changes-since", count=1, before=lambda: cells.cut(cloud, "cell2"))
    compute.rules += [rule, last]
    limits = collect_client.Limits(attempts=2, timeout_s=20.0, deadline_s=60.0)
    try:
        found = collect(endpoints={"compute": compute.url + NOVA}, limits=limits)
        assert "a cell" in {one.what for one in found.snapshot.missing}
        dead = {one.service_host for one in found.snapshot.hosts if one.lacks}
        assert {"host-004", "host-007"} <= dead
        away = {
            host_id(found, one.host) for one in found.snapshot.instances if one.id in plan(found)
        }
        assert not away & dead
    finally:
        cells.heal(cloud, "cell2")


def test_ports(admin, collect):
    """Neutron says which servers have ports that are devices, as this program asks it."""
    network = adapter.Adapter(admin.session, service_type="network")
    made = network.post("/v2.0/networks", json={"network": {"name": "n"}}).json()["network"]["id"]
    owners = [uuid.uuid4().hex for _ in range(2)]
    ports = []
    try:
        for owner, kind in zip(owners, ("direct", "normal"), strict=True):
            body = {"network_id": made, "device_id": owner, "binding:vnic_type": kind}
            ports.append(network.post("/v2.0/ports", json={"port": body}).json()["port"]["id"])
        collect()
        source = connection.connect("test-cloud", 60)
        ask = collect_client.Client(source, collect_client.Limits())
        assert neutron.vnic_types(ask, owners) == {owners[0]: ["direct"]}
        with pytest.raises(exceptions.CloudError, match="shows no port of server"):
            neutron.vnic_types(ask, [uuid.uuid4().hex])
    finally:
        for name in ports:
            network.delete(f"/v2.0/ports/{name}")
        network.delete(f"/v2.0/networks/{made}")


def test_slow(collect, compute):
    """Slow answers are waited for."""
    compute.rules.append(proxy.Rule("GET", chance=0.3, delay_s=0.7))
    found = collect(endpoints={"compute": compute.url + NOVA})
    assert common.facts(found) == common.facts(collect())


def test_deadline(collect, compute):
    """What is not read within the deadline is not read at all."""
    compute.rules.append(proxy.Rule("GET", delay_s=2.0))
    limits = collect_client.Limits(deadline_s=5.0)
    began = time.monotonic()
    with pytest.raises(exceptions.CloudError, match="deadline_s"):
        collect(endpoints={"compute": compute.url + NOVA}, limits=limits)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("close", ["before", "midway", "after"])
def test_connections_cut(collect, compute, placement, close):
    """Connections that a proxy cuts are opened again."""
    for between in (compute, placement):
        between.rules.append(proxy.Rule("GET .*/", chance=0.15, close=close))
    found = collect(
        endpoints={"compute": compute.url + NOVA, "placement": placement.url},
        limits=collect_client.Limits(attempts=10),
    )
    assert any(one.status is None for one in [*compute.requests, *placement.requests])
    assert common.facts(found) == common.facts(collect())


def test_too_many_requests(collect, placement):
    """A 429 is waited out, for as long as it says, and nothing is lost."""
    rule = proxy.Rule("inventories", skip=3, count=4, status=429, headers={"Retry-After": "2"})
    placement.rules.append(rule)
    began = time.monotonic()
    found = collect(endpoints={"placement": placement.url})
    assert time.monotonic() - began >= 2
    assert rule.applied == 4
    assert common.facts(found) == common.facts(collect())


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_errors_that_pass(collect, compute, placement, code):
    """Errors of a proxy or an overloaded service are tried again."""
    for between in (compute, placement):
        between.rules.append(proxy.Rule("GET .*/", chance=0.1, status=code))
    found = collect(
        endpoints={"compute": compute.url + NOVA, "placement": placement.url},
        limits=collect_client.Limits(attempts=10),
    )
    assert common.facts(found) == common.facts(collect())


def test_provider_unreadable(collect, placement):
    """One provider that cannot be read costs its own host, with the reason, and no other."""
    one = collect().snapshot.hosts[4]
    placement.rules.append(proxy.Rule(f"{one.id}/traits", status=500))
    found = collect(endpoints={"placement": placement.url})
    assert [lost.host for lost in found.snapshot.refused] == [one.service_host]
    assert len(found.snapshot.hosts) == 7
    assert not plan(found) & {i.id for i in collect().snapshot.instances if i.host == one.id}


def test_leaked_allocations(admin, collect):
    """What Placement charges for nobody stays charged, and nothing else changes."""
    before = collect()
    one = next(h for h in before.snapshot.hosts if h.usable)
    consumer = str(uuid.uuid4())
    body = {
        "allocations": {one.id: {"resources": {"VCPU": 2, "MEMORY_MB": 512}}},
        "project_id": uuid.uuid4().hex,
        "user_id": uuid.uuid4().hex,
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
    }
    admin.placement.put(f"/allocations/{consumer}", json=body)
    try:
        found = collect()
        held = host(found, one.service_host).held
        assert [(h.consumer, h.why, dict(h.resources)) for h in held] == [
            (consumer, "unknown", {"MEMORY_MB": 512, "VCPU": 2})
        ]
    finally:
        admin.placement.delete(f"/allocations/{consumer}")
    assert common.facts(collect()) == common.facts(before)


def test_migrating(cloud, admin, collect):
    """An instance that migrates is charged on both hosts and planned on neither."""
    name = common.boot(admin)
    try:
        with common.fault(cloud, fault="copy-hang", server=name):
            migrate(admin, name)
            running = client.until(
                lambda: one if (one := migration(admin, name))["status"] == "running" else None,
                "running",
                60,
            )
            found = collect()
            ours = [m for m in found.snapshot.running_migrations if m.instance == name]
            assert [(m.type, host_id(found, m.source), host_id(found, m.dest)) for m in ours] == [
                ("live-migration", running["source_compute"], running["dest_compute"])
            ]
            assert server(found, name).allocations == ours[0].far_allocations
            assert server(found, name).allocations["VCPU"] == 1
            assert name not in plan(found)
            assert not [held for one in found.snapshot.hosts for held in one.held]
            admin.compute.delete(f"/servers/{name}/migrations/{running['id']}")
            client.until(lambda: common.status(admin, name) == "ACTIVE", "aborted", 60)
        client.until(
            lambda: migration(admin, name)["status"] == "cancelled", "record of the abort", 60
        )
        assert not collect().snapshot.running_migrations
    finally:
        delete(admin, name)


def host_id(found: live.Live, name: str | None) -> str | None:
    """The service host of a host's id."""
    return next((one.service_host for one in found.snapshot.hosts if one.id == name), None)


def test_failed_migration(cloud, admin, collect):
    """After a migration that failed on both ends the leaked charges stay, and it is not planned."""
    name = common.boot(admin)
    try:
        with common.fault(cloud, fault="copy-error", server=name):
            migrate(admin, name)
            client.until(lambda: migration(admin, name)["status"] == "error", "failed", 60)
            client.until(lambda: common.status(admin, name) == "ERROR", "in error", 60)
        found = collect()
        assert name not in plan(found)
        held = [(h.consumer, h.why) for one in found.snapshot.hosts for h in one.held]
        charged = admin.placement.get(f"/allocations/{name}").json()["allocations"]
        here = server(found, name).host
        assert (name, "elsewhere") in held or here in charged
        for one in found.snapshot.hosts:
            assert_charges(admin, found, one)
    finally:
        delete(admin, name)
        for one in admin.list(admin.compute, f"/os-migrations?instance_uuid={name}", "migrations"):
            admin.placement.delete(f"/allocations/{one['uuid']}")


def assert_charges(admin: client.Client, found: live.Live, one: Any) -> None:
    """What the model charges on a host is what Placement says."""
    from nova_rebalancer.model import state

    built = state.build(found.snapshot)
    h = built.hosts.index(one.id)
    usages = admin.placement.get(f"/resource_providers/{one.id}/usages").json()["usages"]
    used = dict(zip(built.resources, built.used()[h].tolist(), strict=True))
    assert {key: used[key] for key in usages} == usages


def test_half_made_and_half_deleted(cloud, admin, collect):
    """Servers that are being built or deleted count where they are, and are not planned."""
    made = common.boot(admin)
    name = host_of(admin, made)
    # Its compute hears of nothing, so what is asked of it stays half done.
    computes.ask(cloud, "kill", [name], signal.SIGSTOP)
    half: list[str] = []
    try:
        admin.compute.delete(f"/servers/{made}")
        half.append(
            common.boot(admin, wait=False, availability_zone=f"{zone_of(admin, name)}:{name}")
        )
        found = client.until(
            lambda: one if server(one := collect(), made).task_state == "deleting" else None,
            "deleting",
            30,
        )
        new = server(found, half[0]) or next(
            one for one in found.snapshot.outside if one.id == half[0]
        )
        assert new.status == "BUILD"
        assert not {made, half[0]} & plan(found)
        assert_charges(admin, found, host(found, name))
    finally:
        computes.ask(cloud, "kill", [name], signal.SIGCONT)
        for one in (made, *half):
            settled(admin, one)
            delete(admin, one)
        client.until(lambda: host(collect(), name).state == "up", f"{name} up", 60)


def settled(admin: client.Client, name: str) -> None:
    """Wait until nothing is being done with a server."""
    client.until(
        lambda: common.status(admin, name) in ("ACTIVE", "ERROR", None), f"server {name}", 90
    )


def host_of(admin: client.Client, name: str) -> str:
    """The service host of a server."""
    found: str = admin.compute.get(f"/servers/{name}").json()["server"]["OS-EXT-SRV-ATTR:host"]
    return found


def zone_of(admin: client.Client, name: str) -> str:
    """The availability zone of a host."""
    services = admin.list(admin.compute, "/os-services?binary=nova-compute", "services")
    return next(str(one["zone"]) for one in services if one["host"] == name)


def test_no_valid_host(admin, collect):
    """A server no host was found for is outside, with its status."""
    flavor = {"name": "enormous", "vcpus": 1000, "ram": 1024, "disk": 1}
    made = admin.compute.post("/flavors", json={"flavor": flavor}).json()["flavor"]["id"]
    name = common.boot(admin, wait=False, flavorRef=made)
    try:
        client.until(lambda: common.status(admin, name) == "ERROR", "no valid host", 60)
        found = collect()
        lost = {one.id: (one.reason, one.status) for one in found.snapshot.outside}
        assert lost == {name: ("no_host", "ERROR")}
    finally:
        delete(admin, name)
        admin.compute.delete(f"/flavors/{made}")


def test_opted_out_meanwhile(admin, collect):
    """Tags and metadata set since the last reading count, although a tag is no change to Nova."""
    made = [common.boot(admin) for _ in range(2)]
    try:
        first = collect(cache=True)
        before = admin.compute.get(f"/servers/{made[1]}").json()["server"]["updated"]
        body = {"metadata": {"nova-rebalancer:allow-migration": "false"}}
        admin.compute.post(f"/servers/{made[0]}/metadata", json=body)
        admin.compute.put(f"/servers/{made[1]}/tags/nova-rebalancer:stay")
        second = collect(cache=True)
        assert second.requests < first.requests / 2
        assert admin.compute.get(f"/servers/{made[1]}").json()["server"]["updated"] == before
        assert [server(second, name).allow_migration for name in made] == [False, False]
        assert not set(made) & plan(second)
    finally:
        for name in made:
            delete(admin, name)


def test_second_reading(admin, collect):
    """A second reading with little effort says what a fresh one says, whatever happened between."""
    gone, moved = common.boot(admin), common.boot(admin)
    made = [gone, moved]
    try:
        collect(cache=True)
        delete(admin, gone)
        migrate(admin, moved)
        client.until(lambda: migration(admin, moved)["status"] == "completed", "moved", 60)
        made.append(common.boot(admin))
        assert common.facts(collect(cache=True)) == common.facts(collect())
    finally:
        for name in made:
            delete(admin, name)

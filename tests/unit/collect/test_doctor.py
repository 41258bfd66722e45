# SPDX-License-Identifier: Apache-2.0
"""Each check of the doctor sees what is out of order, and says nothing where nothing is."""

import json
from typing import Any

import pytest

from nova_rebalancer.collect import doctor
from nova_rebalancer.collect import facts
from nova_rebalancer.collect import notifications
from nova_rebalancer.collect import reader
from nova_rebalancer.rest import client
from tests.unit.collect import emulator

OTHER = "8" * 32
"""A project that is not the account's."""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A cloud in order: two hosts, and on each a server of another project."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.04)
    with emulator.running(tmp_path, monkeypatch) as running:
        for name in ("a", "b"):
            running.world.host(name)
            running.world.server(name, tenant_id=OTHER)
        yield running


def examine(cloud: emulator.Emulator, **options: Any) -> list[doctor.Finding]:
    """The doctor's findings."""
    return doctor.examine(cloud.client(attempts=2), doctor.Options(**options), reader.Progress())


def bad(cloud: emulator.Emulator, **options: Any) -> dict[str, tuple[str, str]]:
    """Result and finding by check of what is not in order, the broker nobody named left out."""
    return {
        one.check: (one.result, one.finding)
        for one in examine(cloud, **options)
        if one.result != doctor.OK and one.check != "notifications"
    }


def refuse(cloud: emulator.Emulator, pattern: str, status: int = 403) -> None:
    """Let a service refuse some requests for good."""
    body = json.dumps({"forbidden": {"message": "Policy does not allow it"}}).encode()
    cloud.on(pattern, times=10**6, status=status, body=body)


def change(cloud: emulator.Emulator, pattern: str, edit) -> None:
    """Let a service answer otherwise."""
    cloud.on(pattern, times=10**6, edit=edit)


def servers(cloud: emulator.Emulator) -> list[str]:
    """The servers' ids."""
    return list(cloud.world.servers)


def test_a_cloud_in_order(cloud):
    """Every check has its row, and none but the unknown notifications is not ok."""
    found = examine(cloud)
    names = {one.check for one in found}
    # Without a facts file there is nothing to say of it.
    assert names == {"credentials", *doctor.CHECKS} - {"facts"}
    assert [one.check for one in found if one.result != doctor.OK] == ["notifications"]
    assert not any(one.consequence or one.fix for one in found if one.result == doctor.OK)


def test_every_fault_has_a_consequence_and_a_fix(cloud):
    """Whatever is out of order, the reader learns what comes of it and what to do."""
    cloud.world.newest.update(placement="1.37")
    cloud.world.ahead_s = 60
    cloud.world.roles = ["reader"]
    cloud.world.services[0]["state"] = "down"
    cloud.world.release(servers(cloud)[1])
    cloud.world.hypervisors[0]["hypervisor_type"] = "ironic"
    faults = [one for one in examine(cloud) if one.result != doctor.OK]
    assert len({one.check for one in faults}) > 5
    assert all(one.consequence and one.fix for one in faults)


def test_a_wrong_password(cloud):
    """Nobody else is asked then."""
    cloud.world.password = "another"
    (found,) = examine(cloud)
    assert (found.check, found.result) == ("credentials", doctor.ERROR)
    assert "not accepted" in found.finding
    assert not cloud.lines("compute")


def test_no_administrator(cloud):
    """Enough for a plan, not for carrying it out."""
    cloud.world.roles = ["reader"]
    result, text = bad(cloud)["credentials"]
    assert result == doctor.WARNING
    assert "reader" in text


def test_no_right_in_placement(cloud):
    """The one list that is refused is named, the others are fine, the rest was not looked at."""
    refuse(cloud, "GET /placement/resource_providers")
    found = examine(cloud)
    refused = [
        one.finding
        for one in found
        if one.check == "lists" and one.finding.startswith("resource providers: ")
    ]
    assert len(refused) == 1
    assert "403" in refused[0]
    ok = {one.finding for one in found if one.check == "lists" and one.result == doctor.OK}
    assert "servers are listed" in ok
    results = {one.check: one.result for one in found}
    assert results["allocations"] == results["numa"] == doctor.UNKNOWN
    # What needs no reading is looked at.
    assert results["fields"] == results["clock"] == doctor.OK


def test_a_service_that_does_not_answer(cloud):
    """Placement down is told once as the reason, and the checks go on."""
    refuse(cloud, "GET /placement", 503)
    results = {one.check: one.result for one in examine(cloud)}
    assert results["lists"] == doctor.ERROR
    assert results["fields"] == doctor.OK


def test_only_servers_of_our_own_project(cloud):
    """No status tells of hidden servers: a foreign project or Placement's consumers do."""
    for one in cloud.world.servers.values():
        one["tenant_id"] = emulator.PROJECT
    assert bad(cloud)["lists"][0] == doctor.UNKNOWN
    for _ in range(3):
        cloud.world.charge(cloud.world.new(), cloud.world.node("a"), emulator.SMALL)
    result, text = bad(cloud)["lists"]
    assert result == doctor.ERROR
    assert "3 consumers" in text


@pytest.mark.parametrize(
    ("hide", "what"),
    [
        (lambda one: one.pop(emulator.HOST), "without their hosts"),
        (lambda one: one["flavor"].pop("extra_specs"), "without the extra specs"),
    ],
)
def test_fields_the_account_may_not_see(cloud, hide, what):
    """Nova leaves keys out of its answers without a word."""

    def edit(answer):
        for one in answer["servers"]:
            hide(one)
        return answer

    change(cloud, "GET /compute/v2.1/servers/detail", edit)
    result, text = bad(cloud)["fields"]
    assert result == doctor.ERROR
    assert what in text


def test_groups_that_are_not_listed(cloud):
    """That an account is shown no groups of other projects is an error, and why it matters."""
    cloud.world.group("anti-affinity", *servers(cloud), project=OTHER)
    assert "server groups" not in bad(cloud)
    cloud.world.roles = ["reader"]
    result, text = bad(cloud)["server groups"]
    assert result == doctor.ERROR
    assert "administrators only" in text


def test_ports_of_others_are_hidden(cloud):
    """Servers with addresses and without a visible port: the ports are hidden."""
    for one in cloud.world.servers.values():
        one["addresses"] = {"net": [{"addr": "10.0.0.2"}]}
    assert bad(cloud)["ports"][0] == doctor.ERROR
    cloud.world.ports += [
        {"id": name, "device_id": name, "binding:vnic_type": "normal"} for name in servers(cloud)
    ]
    assert "ports" not in bad(cloud)


def test_a_cell_is_down(cloud):
    """Its hosts are named, and what they are charged is no disagreement."""
    cloud.world.down.add(servers(cloud)[0])
    found = bad(cloud)
    assert found["cells"][0] == doctor.ERROR
    assert "1: a" in found["cells"][1]
    assert "allocations" not in found


def test_hosts_that_are_left_out(cloud):
    """Each reason has a row, with the hosts."""
    cloud.world.host("c")
    cloud.world.hypervisors[0]["hypervisor_type"] = "ironic"
    cloud.world.inventories[cloud.world.node("c")] = {}
    found = [one for one in examine(cloud) if one.check == "hosts"]
    assert [one.result for one in found] == [doctor.WARNING, doctor.WARNING, doctor.OK]
    texts = " ".join(one.finding for one in found)
    assert "1: a left out: bare metal" in texts
    assert "1: c left out: its provider has no inventory" in texts


def test_services_down_and_disabled(cloud):
    """They are named; a host that is both is told once, as down."""
    cloud.world.services[0].update(state="down", status="disabled")
    cloud.world.services[1].update(status="disabled", disabled_reason="new disks")
    found = [one.finding for one in examine(cloud) if one.check == "services"]
    assert found == ["1: a down", "1: b (new disks) disabled"]


@pytest.mark.parametrize(
    ("ahead_s", "result"),
    [(0, doctor.OK), (-10, doctor.WARNING), (10, doctor.WARNING), (60, doctor.ERROR)],
)
def test_clocks(cloud, ahead_s, result):
    """Two seconds are noise, half a minute breaks things."""
    cloud.world.ahead_s = ahead_s
    (found,) = [one for one in examine(cloud) if one.check == "clock"]
    assert found.result == result
    assert ("behind" in found.finding) == (ahead_s < 0) or ahead_s == 0


@pytest.mark.parametrize(
    ("compute", "placement", "results"),
    [
        ("2.104", "1.39", [doctor.OK, doctor.OK]),
        ("2.100", "1.37", [doctor.OK, doctor.WARNING]),
        ("2.99", "1.38", [doctor.ERROR, doctor.OK]),
        ("2.99", "1.18", [doctor.ERROR, doctor.ERROR, doctor.WARNING]),
    ],
)
def test_microversions(cloud, compute, placement, results):
    """Every feature that is lost has a row; what no plan can do without is an error."""
    cloud.world.newest.update(compute=compute, placement=placement)
    found = [one.result for one in examine(cloud) if one.check == "microversions"]
    assert found == results


def test_disagreements(cloud):
    """Placement against Nova: the kinds, with the servers and hosts."""
    first, second = servers(cloud)
    cloud.world.release(first)
    cloud.world.charge(second, cloud.world.node("a"), emulator.SMALL)
    found = {one.finding: one.result for one in examine(cloud) if one.check == "allocations"}
    assert found == {
        f"1 uncharged: {first} is on a, charged nowhere": doctor.ERROR,
        f"1 doubled: {second} is on b, also charged on a": doctor.WARNING,
    }


def test_topologies(cloud, tmp_path):
    """Cells of hosts come from a facts file; a topology that is not shown is an error."""
    name = cloud.world.server("a", specs={"hw:numa_nodes": "1"}, tenant_id=OTHER)
    node = {"memory_mb": 2048, "host_node": 0, "vcpu_set": [0, 1], "cpu_pinning": {}}
    cloud.world.topologies[name] = {"nodes": [node], "pagesize_kb": 4}
    result, text = bad(cloud)["numa"]
    assert result == doctor.WARNING
    assert text.startswith("1: a with NUMA servers")
    path = tmp_path / "facts.yaml"
    path.write_text(
        "format: nova-rebalancer-facts/1\n"
        "hosts:\n"
        "  a:\n"
        "    numa:\n"
        "      - {cell: 0, memory_mib: 65536, shared_cpus: 0-63}\n"
    )
    told = facts.load(str(path))
    assert not bad(cloud, told=told)
    refuse(cloud, "GET /compute/v2.1/servers/.*/topology", 404)
    result, text = bad(cloud, told=told)["numa"]
    assert result == doctor.ERROR
    assert text.startswith("1 of 1 servers")


def test_a_facts_file_of_another_cloud(cloud, tmp_path):
    """Hosts that the cloud does not have are told."""
    path = tmp_path / "facts.yaml"
    path.write_text("format: nova-rebalancer-facts/1\nhosts:\n  z: {rack: r1}\n")
    result, text = bad(cloud, told=facts.load(str(path)))["facts"]
    assert result == doctor.WARNING
    assert "z" in text


def test_more_migrations_than_nova_runs(cloud):
    """Counting on two is a mistake, unless two are seen to run from one host."""
    assert "concurrency" not in bad(cloud, host_outgoing=1)
    assert bad(cloud, host_outgoing=2)["concurrency"][0] == doctor.WARNING
    for _ in range(2):
        cloud.world.live(cloud.world.server("a", tenant_id=OTHER), "b")
    assert "concurrency" not in bad(cloud, host_outgoing=2)


def messages(cloud: emulator.Emulator, url: str, listen_s: float = 0.3) -> doctor.Finding:
    """What is found at one broker."""
    found = examine(cloud, transport_urls=[url], listen_s=listen_s)
    return next(one for one in found if one.check == "notifications")


@pytest.mark.needs("oslo_messaging")
@pytest.mark.parametrize(
    ("content", "result", "text"),
    [
        ({"nova_object.data": {"uuid": "s"}}, doctor.OK, "1 versioned"),
        ({"instance_id": "s"}, doctor.WARNING, "old format"),
        (None, doctor.UNKNOWN, "nothing came"),
    ],
)
def test_what_a_broker_sends(cloud, monkeypatch, content, result, text):
    """Versioned ones are good, the old format is not, and silence tells nothing."""
    ready = notifications.Listener.wait

    def wait(self, timeout_s):
        stands = ready(self, 10)
        if content is not None:
            self.take("instance.update", content)
        return stands

    monkeypatch.setattr(notifications.Listener, "wait", wait)
    found = messages(cloud, "fake://")
    assert found.result == result
    assert text in found.finding


@pytest.mark.needs("oslo_messaging")
@pytest.mark.parametrize("url", ["rabbit://u:secret@127.0.0.1:9/", "rabbit://u:secret@h:port/"])
def test_a_broker_that_cannot_be_reached(cloud, url):
    """It is an error, for somebody named it; the password is not told."""
    found = messages(cloud, url, 1.0)
    assert found.result == doctor.ERROR
    assert "secret" not in found.finding

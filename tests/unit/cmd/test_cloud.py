# SPDX-License-Identifier: Apache-2.0
"""Commands that read a live cloud, here one that is played over HTTP."""

import argparse
import io
import json
import time

from cliff import app
from cliff import commandmanager
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import plan
from nova_rebalancer.cmd import settings
from nova_rebalancer.cmd import snapshot
from nova_rebalancer.rest import client
from nova_rebalancer.store import journal
from tests.unit.collect import emulator


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """Two hosts, one with two servers that would both fit on the other."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.04)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with emulator.running(tmp_path, monkeypatch) as running:
        running.world.host("a")
        running.world.host("b")
        for host in ("a", "a", "b"):
            running.world.server(host)
        yield running


def run(kind, *arguments: str) -> tuple[int, str, str]:
    """Run a command as the application does: exit code, standard output and error."""
    output, errors = io.StringIO(), io.StringIO()
    manager = commandmanager.CommandManager("nova_rebalancer.test_none")
    program = app.App("test", "0", manager, stdout=output, stderr=errors)
    command = kind(program, argparse.Namespace(config_file=None))
    parsed = command.get_parser("nova-rebalance").parse_args(list(arguments))
    return command.run(parsed), output.getvalue(), errors.getvalue()


def test_save(cloud, tmp_path):
    """The snapshot is written, and one line says what was read and what it took."""
    out = tmp_path / "cloud.json"
    code, _, errors = run(snapshot.Save, "--os-cloud", "here", str(out))
    assert code == 0
    assert "read here: 2 hosts, 3 instances in " in errors
    assert len(json.loads(out.read_text())["instances"]) == 3


def test_cache(cloud, tmp_path):
    """The second time nothing is asked per provider, unless it is to be --fresh."""
    for arguments, asked in (((), 6), ((), 0), (("--fresh",), 6)):
        cloud.asked.clear()
        assert run(snapshot.Save, "--os-cloud", "here", *arguments, str(tmp_path / "x"))[0] == 0
        assert len(cloud.lines("resource_providers/")) == asked


def test_a_failed_reading_leaves_nothing(cloud, tmp_path):
    """When Placement does not answer there is no file, neither of the snapshot nor in the cache."""
    cloud.on("placement/resource_providers", times=99, status=500)
    with pytest.raises(exceptions.CloudError, match="placement"):
        run(snapshot.Save, "--os-cloud", "here", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "cache").exists()


def test_learnt(cloud, tmp_path, monkeypatch):
    """What the journal says cannot be migrated is left out of a plan, with the reason."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    name = next(iter(cloud.world.servers))
    book, now = journal.open(None), time.time()
    book.learn("here", name, "never", "it has a strange device", now, now + 60)
    book.learn("elsewhere", name, "never", "of another cloud", now, now + 60)
    output = tmp_path / "plan.json"
    code, _, _ = run(plan.Plan, "--os-cloud", "here", "--output", str(output))
    assert code in (0, 3)
    made = json.loads(output.read_text())
    assert made["options"]["learnt"] == {name: "it has a strange device"}
    why = {one["instance"]: one["reason"] for one in made["excluded"]}[name]
    assert why["code"] == "learnt"
    assert "it has a strange device" in why["text"]


def test_cooldown(cloud, tmp_path, monkeypatch):
    """What Nova has migrated lately stays too, whoever asked for it.

    A resize on the spot does not count. Nova is asked only with --cooldown.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    world = cloud.world
    names = list(world.servers)
    for name, source, dest, status in (
        (names[0], "b", "a", "completed"),
        (names[1], "b", "a", "error"),
        (names[2], "b", "b", "confirmed"),
    ):
        made = world.new()
        world.migrations[made] = {
            "id": 1 + len(world.migrations), "uuid": made, "instance_uuid": name, "status": status,
            "source_compute": source, "dest_compute": dest, "migration_type": "live-migration",
            "created_at": world.stamp(), "updated_at": world.stamp(),
        }  # fmt: skip
    output = tmp_path / "plan.json"
    for options, expected in (((), {}), (("--cooldown", "1"), {names[0]})):
        cloud.asked.clear()
        run(plan.Plan, "--os-cloud", "here", *options, "--output", str(output))
        made = json.loads(output.read_text())
        assert made["options"]["last_moved"].keys() == set(expected)
        codes = {one["instance"]: one["reason"]["code"] for one in made["excluded"]}
        assert {name for name, code in codes.items() if code == "cooldown"} == set(expected)


def test_facts(cloud, tmp_path):
    """Facts of the operator come into the snapshot; a bad file is told before anything is asked."""
    file = tmp_path / "facts.yaml"
    file.write_text("format: nova-rebalancer-facts/1\nhosts: {a: {rack: r1}}\n")
    out = tmp_path / "cloud.json"
    arguments = ("--os-cloud", "here", "--facts", str(file), str(out))
    assert run(snapshot.Save, *arguments)[0] == 0
    racks = {one["service_host"]: one["rack"] for one in json.loads(out.read_text())["hosts"]}
    assert racks["a"] == {"provenance": "operator", "value": "r1"}
    assert racks["b"] == {"provenance": "unknown", "value": None}
    file.write_text("format: nova-rebalancer-facts/1\nhosts: {a: {rak: r1}}\n")
    cloud.asked.clear()
    with pytest.raises(exceptions.InputError, match="rak"):
        run(snapshot.Save, *arguments)
    assert cloud.asked == []


def test_save_a_part(cloud, tmp_path):
    """With a scope only its hosts are in the snapshot; instances elsewhere are outside."""
    out = tmp_path / "cloud.json"
    assert run(snapshot.Save, "--os-cloud", "here", "--scope", "host=a", str(out))[0] == 0
    document = json.loads(out.read_text())
    assert [host["service_host"] for host in document["hosts"]] == ["a"]
    assert [one["reason"] for one in document["outside"]] == ["out_of_scope"]


def test_save_refuses_projects(cloud):
    """A snapshot of one project would show hosts emptier than they are."""
    with pytest.raises(exceptions.UsageError, match="emptier than they are"):
        run(snapshot.Save, "--os-cloud", "here", "--scope", "project=x", "-")


def test_plan(cloud, tmp_path):
    """A plan of the cloud and one of the snapshot it saved differ in nothing but id and times."""
    saved = str(tmp_path / "cloud.json.gz")
    live = run(plan.Plan, "--os-cloud", "here", "--save-snapshot", saved, "-f", "json")
    offline = run(plan.Plan, "--snapshot", saved, "-f", "json")
    assert live[0] == offline[0] in (0, 3)
    documents = [json.loads(one[1]) for one in (live, offline)]
    for document in documents:
        for key in ("id", "created_at", "expires_at", "runtime_s"):
            del document[key]
    assert documents[0] == documents[1]


def test_plan_refuses_what_is_not_whole(cloud):
    """When something is missing that concerns all hosts, there is no plan but the reason."""
    cloud.world.ports = [{"id": "p", "device_id": "x", "binding:vnic_type": "normal"}]
    for server in cloud.world.servers.values():
        server["addresses"] = {"net": [{"addr": "10.0.0.1"}]}
    with pytest.raises(exceptions.InputError, match="here: the snapshot is not whole: ports"):
        run(plan.Plan, "--os-cloud", "here")


def test_plan_says_what_is_narrowed(cloud, caplog):
    """When something is missing of one host, the plan is made without it, and a line says so."""
    name = cloud.world.server("a", specs={"hw:numa_nodes": "1"})
    cloud.on(f"servers/{name}/topology", times=99, status=500)
    assert run(plan.Plan, "--os-cloud", "here")[0] in (0, 3)
    assert "nothing is moved from or to a" in caplog.text


def test_no_cloud_is_named(cloud, monkeypatch):
    """Without any name the error says how to give one and which there are."""
    monkeypatch.delenv("OS_CLOUD", raising=False)
    monkeypatch.delenv("OS_AUTH_URL", raising=False)
    with pytest.raises(exceptions.UsageError, match=r"give --os-cloud NAME.*clouds.yaml has: here"):
        run(plan.Plan)


@pytest.mark.parametrize("option", ["--fresh", "--facts=x", "--save-snapshot=x"])
def test_options_of_a_live_cloud(option):
    """What counts for a live cloud only is refused elsewhere, not silently ignored."""
    with pytest.raises(exceptions.UsageError, match="is for a live cloud"):
        run(plan.Plan, "--demo", option)


def test_no_usable_host(cloud):
    """A cloud none of whose hosts can be planned for is an error, not a plan that gains nothing."""
    for service in cloud.world.services:
        service["state"] = "down"
    with pytest.raises(exceptions.CloudError, match="none of its hosts can be planned for"):
        run(plan.Plan, "--os-cloud", "here")


def test_allocation_deleted_by_hand(cloud, tmp_path, monkeypatch):
    """What left no sign is found by comparing sums, every check_every_s."""
    out = tmp_path / "cloud.json"
    name = next(iter(cloud.world.servers))

    def allocations(*arguments: str) -> dict[str, int]:
        assert run(snapshot.Save, "--os-cloud", "here", *arguments, str(out))[0] == 0
        instances = json.loads(out.read_text())["instances"]
        return next(one["allocations"] for one in instances if one["id"] == name)

    assert allocations()
    cloud.world.release(name)
    assert allocations()
    conf = tmp_path / "our.conf"
    conf.write_text("[collect]\ncheck_every_s = 0\n")
    monkeypatch.setattr(
        "nova_rebalancer.cmd.settings.load",
        lambda files, load=settings.load: load([str(conf)]),
    )
    assert allocations() == {}

# SPDX-License-Identifier: Apache-2.0
"""A part of a cloud that is read later is as a whole snapshot of that moment has it."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import document
from nova_rebalancer.collect import facts
from nova_rebalancer.collect import files
from nova_rebalancer.collect import live
from nova_rebalancer.collect import part
from nova_rebalancer.collect import reader
from nova_rebalancer.model import cloud
from tests import parts
from tests.unit.collect import emulator

Json = dict[str, Any]
Edit = Callable[[str, Any], Any]

NUMA = {"hw:numa_nodes": "1"}


@pytest.fixture
def world():
    """Hosts a and b share a pool, c has its own disk, d a GPU; two servers on each."""
    made = emulator.sharing()
    for name in "abcd":
        made.server(name)
        made.server(name)
    return made


def whole(world: emulator.World) -> live.Live:
    """The whole cloud, as ``live.snapshot`` returns it."""
    now = reader.Reader(emulator.Direct(world), reader.Progress()).read()
    made = assemble.document(now, "c", None, say=lambda text: None)
    return live.Live(b"", document.snapshot(made, "whole"), "", 0, now)


def look(
    world: emulator.World,
    before: live.Live,
    instance: str,
    hosts: Iterable[str],
    edit: Edit | None = None,
    told: facts.Facts | None = None,
) -> cloud.Snapshot:
    """A part, read now."""
    return part.Parts(emulator.Direct(world, edit), before, told).look(instance, list(hosts))


def narrowed(world: emulator.World, hosts: Iterable[str]) -> cloud.Snapshot:
    """The whole cloud read now, of some hosts (ids)."""
    now = reader.Reader(emulator.Direct(world), reader.Progress()).read()
    made = assemble.document(now, "c", None, frozenset(hosts), lambda text: None)
    return document.snapshot(made, "narrowed")


def names(snapshot: cloud.Snapshot) -> list[str]:
    """The service hosts."""
    return [host.service_host for host in snapshot.hosts]


def the(world: emulator.World, host: str) -> str:
    """The first server on a host."""
    return next(name for name, one in world.servers.items() if one[emulator.HOST] == host)


def agrees(world: emulator.World, before: live.Live, instance: str, hosts: Iterable[str]) -> None:
    """Compare a part with the whole."""
    found = look(world, before, instance, hosts)
    fresh = narrowed(world, {host.id for host in found.hosts} | _refused(found, world))
    mine, theirs = parts.seen(found, fresh, instance), parts.seen(fresh, fresh, instance)
    for key, value in theirs.items():
        assert mine[key] == value, key


def _refused(found: cloud.Snapshot, world: emulator.World) -> set[str]:
    return {world.node(one.host) for one in found.refused}


@given(
    emulator.events(6),
    emulator.events(8),
    st.sets(st.sampled_from("abcd"), min_size=1, max_size=2),
    st.integers(0, 20),
    st.booleans(),
)
def test_part_is_as_fresh_as_the_whole(first, then, hosts, n, pools):
    """Whatever happens after the whole reading: a part shows what a new whole reading would."""
    world = emulator.sharing(pools)
    for name in "abcd":
        world.server(name)
    world.server("a", specs=NUMA)
    world.group("anti-affinity", the(world, "a"), the(world, "b"))
    for event in first:
        emulator.happen(world, event)
    before = whole(world)
    for event in then:
        emulator.happen(world, event)
    # What is read below begins after the last change.
    world.ahead_s += 3.0
    known = sorted({*before.reading.servers, *world.servers}) or [world.new()]
    agrees(world, before, known[n % len(known)], hosts)


@given(emulator.events(6), emulator.events(12), st.lists(st.integers(0, 6), max_size=12))
def test_cloud_moves_while_a_part_is_read(first, then, pauses):
    """Whatever happens between two answers, what comes out is sound."""
    world = emulator.sharing()
    for name in "abcd":
        world.server(name)
    world.server("a", specs=NUMA)
    for event in first:
        emulator.happen(world, event)
    before = whole(world)
    instance = sorted(before.reading.servers)[0]
    waiting = [*pauses]
    events = iter(then)

    def move(line: str, answer: Any) -> Any:
        if waiting and waiting[0] > 0:
            waiting[0] -= 1
        elif waiting:
            waiting.pop(0)
            event = next(events, None)
            if event is not None:
                emulator.happen(world, event)
        return answer

    found = look(world, before, instance, ["a", "b"], move)
    assert {"a", "b"} <= {*names(found)}


def test_hosts_of_a_part(world):
    """It has the hosts that were asked for, the instance's, and far ends of their migrations."""
    before = whole(world)
    other = the(world, "b")
    world.live(other, "c")
    assert names(look(world, before, the(world, "d"), ["a"])) == ["a", "d"]
    found = look(world, before, the(world, "d"), ["c"])
    assert names(found) == ["b", "c", "d"]
    assert [one.instance for one in found.running_migrations] == [other]
    # An arriving instance is no sign that something is wrong with the host.
    assert all(host.usable for host in found.hosts)


def test_pages_of_a_host(world):
    """A host with more servers than a page is read whole."""
    for _ in range(5):
        world.server("b")
    world.max_limit = 2
    before = whole(world)
    found = look(world, before, the(world, "a"), ["b"])
    assert len([one for one in found.instances if one.host == world.node("b")]) == 7


def test_server_that_a_list_leaves_out(world):
    """Nova may drop a server from a page that it has cut; what is charged there is looked at."""
    before = whole(world)
    name = the(world, "b")

    def drop(line: str, answer: Any) -> Any:
        if "/servers/detail" in line and "host=b" in line:
            answer["servers"] = [one for one in answer["servers"] if one["id"] != name]
        return answer

    found = look(world, before, the(world, "a"), ["b"], drop)
    assert name in {one.id for one in found.instances}


def test_instance_is_where_it_is_now(world):
    """It moved away after the whole reading, to a host nobody asked for."""
    before = whole(world)
    name = the(world, "a")
    world.arrived(world.live(name, "d"))
    found = look(world, before, name, ["a", "b"])
    assert names(found) == ["a", "b", "d"]
    assert next(one for one in found.instances if one.id == name).host == world.node("d")


def test_instance_is_gone(world):
    """One that was deleted is in nothing."""
    before = whole(world)
    name = the(world, "a")
    world.delete(name)
    found = look(world, before, name, ["a", "b"])
    assert name not in {one.id for one in (*found.instances, *found.outside)}


@pytest.mark.parametrize(
    ("change", "shows"),
    [
        ({"locked": True}, lambda one: one.locked),
        ({"tags": ["nova-rebalancer:stay"]}, lambda one: not one.allow_migration),
        (
            {"metadata": {"nova-rebalancer:allow-migration": "false"}},
            lambda o: not o.allow_migration,
        ),
        ({emulator.TASK: "rebooting"}, lambda one: one.task_state == "rebooting"),
    ],
)
def test_instance_is_read_last(world, change, shows):
    """A lock or a tag that is set while a part is read, after all but the last answer, is seen."""
    before = whole(world)
    name = the(world, "a")
    lines: list[str] = []

    def count(line: str, answer: Any) -> Any:
        lines.append(line)
        return answer

    look(world, before, name, ["a", "b"], count)
    assert lines[-1] == f"compute /servers/{name}"
    asked = len(lines)

    def set_it(line: str, answer: Any) -> Any:
        nonlocal asked
        asked -= 1
        if asked == 1:
            world.servers[name].update(change)
        return answer

    found = look(world, before, name, ["a", "b"], set_it)
    assert shows(next(one for one in found.instances if one.id == name))


def test_instance_that_moves_meanwhile(world):
    """One that arrives somewhere else while its part is read is charged where it is."""
    before = whole(world)
    name = the(world, "a")
    running = world.live(name, "c")
    ready = False

    def arrive(line: str, answer: Any) -> Any:
        nonlocal ready
        if line == f"compute /servers/{name}" and ready:
            ready = False
        elif "/os-aggregates" in line:
            world.arrived(running)
            ready = True
        return answer

    found = look(world, before, name, ["a", "c"], arrive)
    (one,) = (one for one in found.instances if one.id == name)
    assert one.host == world.node("c")
    assert one.allocations == emulator.SMALL
    assert not found.running_migrations


def test_facts_of_other_hosts_are_no_mistake(world, caplog):
    """A facts file is applied to the hosts that are there, without a word about the others."""
    text = {
        "format": "nova-rebalancer-facts/1",
        "hosts": {name: {"cell": "one", "rack": f"rack-{name}"} for name in "abcd"},
    }
    told = facts.loads(json.dumps(text).encode(), "facts")
    found = look(world, whole(world), the(world, "a"), ["a", "b"], told=told)
    assert [host.rack.value for host in found.hosts] == ["rack-a", "rack-b"]
    assert not caplog.records


def test_several_cells_are_known_from_the_whole(world):
    """That names on hypervisors occur twice shows only where all servers are read."""
    world.servers[the(world, "a")][emulator.LABEL] = "instance-00000001"
    world.servers[the(world, "d")][emulator.LABEL] = "instance-00000001"
    before = whole(world)
    assert before.snapshot.several_cells
    assert look(world, before, the(world, "b"), ["b", "c"]).several_cells


def test_group_members_elsewhere(world):
    """Members of the instance's group that are on other hosts are told with where they are now."""
    name, other, third = the(world, "a"), the(world, "c"), the(world, "d")
    world.group("anti-affinity", name, other, third)
    before = whole(world)
    world.arrived(world.live(other, "d"))
    found = look(world, before, name, ["a", "b"])
    (group,) = found.server_groups
    assert set(group.members) == {name, other, third}
    assert {one.id: one.host for one in found.outside} == {other: "d", third: "d"}


def test_new_group(world):
    """A group that was made after the whole reading is known with its policy."""
    before = whole(world)
    name, other = world.server("a"), world.server("b")
    world.group("anti-affinity", name, other)
    for instance in (name, the(world, "a")):
        (group,) = look(world, before, instance, ["a", "b"]).server_groups
        assert group.policy == "anti-affinity" and set(group.members) == {name, other}


def test_member_that_is_made_meanwhile(world):
    """A member that comes to a host after the group was read is known as one."""
    name = the(world, "a")
    world.group("anti-affinity", name)
    before = whole(world)
    made: list[str] = []

    def boot(line: str, answer: Any) -> Any:
        if "/os-aggregates" in line:
            hints = {"group": [world.groups[0]["id"]]}
            made.append(world.server("b", scheduler_hints=hints))
            world.touch(made[0])
        return answer

    (group,) = look(world, before, name, ["a", "b"], boot).server_groups
    assert set(group.members) == {name, *made}


def test_deleted_group(world):
    """A group that was deleted binds nobody any more."""
    name = the(world, "a")
    world.group("anti-affinity", name, the(world, "b"))
    before = whole(world)
    world.groups.clear()
    assert not look(world, before, name, ["a", "b"]).server_groups


def test_leak_of_a_server_elsewhere(world):
    """What is charged on a host for a server elsewhere takes room there, and is no lack."""
    before = whole(world)
    name = the(world, "c")
    world.charge(name, world.node("b"), emulator.SMALL)
    found = look(world, before, the(world, "a"), ["a", "b"])
    b = next(host for host in found.hosts if host.service_host == "b")
    assert [(one.consumer, one.why) for one in b.held] == [(name, "elsewhere")]
    assert b.lacks is None


def test_service_that_was_disabled(world):
    """A host that was disabled or went down since is known as that."""
    before = whole(world)
    world.services[1].update(status="disabled", disabled_reason="broken")
    found = look(world, before, the(world, "a"), ["a", "b"])
    assert [host.unusable for host in found.hosts] == [None, "disabled (broken)"]


def test_aggregates_and_inventories_are_new(world):
    """What an operator changes of a host is seen at once."""
    before = whole(world)
    world.aggregates.append(
        {"uuid": world.new(), "name": "ssd", "hosts": ["b"], "metadata": {"ssd": "true"}}
    )
    own = world.node("b")
    world.inventories[own]["VCPU"]["reserved"] = 60
    world.traits[own].append("CUSTOM_NEW")
    found = look(world, before, the(world, "a"), ["a", "b"])
    assert [one.name for one in found.aggregates] == ["ssd"]
    assert found.hosts[1].inventories["VCPU"].reserved == 60
    assert found.hosts[1].traits == ("CUSTOM_NEW",)


def test_ports_of_new_servers(world):
    """A device that was plugged in since, to an old server or a new one, is known."""
    old = the(world, "a")
    for name in world.servers:
        world.servers[name]["addresses"] = {"net": []}
        world.ports.append({"id": world.new(), "device_id": name, "binding:vnic_type": "normal"})
    before = whole(world)
    new = world.server("b", addresses={"net": []})
    for name in (old, new):
        world.ports.append({"id": world.new(), "device_id": name, "binding:vnic_type": "direct"})
    found = look(world, before, old, ["a", "b"])
    special = {one.id for one in found.instances if one.vnic_types == ("direct",)}
    assert special == {old, new}


def test_ports_that_cannot_be_seen(world):
    """Where Neutron shows no port of a server that has addresses, that is missing."""
    before = whole(world)
    name = the(world, "a")
    world.servers[name]["addresses"] = {"net": []}
    found = look(world, before, name, ["a", "b"])
    assert [one.what for one in found.missing] == ["ports"]
    assert all(one.vnic_types is None for one in found.instances)


def test_image_of_a_new_server(world):
    """What the image of a new server requires is asked for."""
    before = whole(world)
    image = world.image(**{"trait:CUSTOM_FAST": "required"})
    name = world.server("a", image={"id": image, "properties": {}})
    found = look(world, before, name, ["a", "b"])
    (one,) = (one for one in found.instances if one.id == name)
    assert one.image.properties == {"trait:CUSTOM_FAST": "required"}


def test_topology_of_a_new_server(world):
    """The cells of a new server are asked for, those of an unchanged one are known."""
    old = world.server("a", specs=NUMA)
    node = {"memory_mb": 2048, "host_node": 1, "vcpu_set": [0, 1], "cpu_pinning": {}}
    world.topologies[old] = {"nodes": [node], "pagesize_kb": None}
    before = whole(world)
    new = world.server("b", specs=NUMA)
    world.topologies[new] = {"nodes": [node], "pagesize_kb": None}
    lines: list[str] = []

    def note(line: str, answer: Any) -> Any:
        lines.append(line)
        return answer

    found = look(world, before, old, ["a", "b"], note)
    assert {one.id for one in found.instances if one.numa} == {old, new}
    assert [line for line in lines if "topology" in line] == [f"compute /servers/{new}/topology"]


def test_host_without_inventory_is_refused(world):
    """A host that lost its inventory since is refused as in a whole snapshot."""
    before = whole(world)
    world.inventories[world.node("b")] = {}
    found = look(world, before, the(world, "a"), ["a", "b"])
    assert names(found) == ["a"]
    assert [one.host for one in found.refused] == ["b"]


def test_dead_cell(world):
    """Hosts of a cell that went down since are not usable."""
    before = whole(world)
    world.down = {name for name, one in world.servers.items() if one[emulator.HOST] == "b"}
    found = look(world, before, the(world, "a"), ["a", "b"])
    assert [host.usable for host in found.hosts] == [True, False]


def test_requests_do_not_grow_with_the_cloud(world):
    """With more hosts and servers elsewhere a part takes as many requests, and no whole list."""
    counts = []
    for _ in range(2):
        before = whole(world)
        lines: list[str] = []

        def note(line: str, answer: Any, lines: list[str] = lines) -> Any:
            lines.append(line)
            return answer

        look(world, before, the(world, "a"), ["a", "c"], note)
        counts.append(len(lines))
        listings = [line for line in lines if "/servers/detail" in line]
        assert all("host=" in line or "changes-since=" in line for line in listings)
        for n in range(20):
            world.host(f"more-{n}")
            world.server(f"more-{n}")
        # Long enough ago to be no change any more.
        world.ahead_s += 10.0
    assert counts[0] == counts[1] <= 40


def test_failure_ends_it(world):
    """What cannot be read is an error, not a part that looks whole."""
    before = whole(world)

    def fail(line: str, answer: Any) -> Any:
        if "/os-services" in line:
            raise exceptions.CloudError("no answer")
        return answer

    with pytest.raises(exceptions.CloudError, match="no answer"):
        look(world, before, the(world, "a"), ["a", "b"], fail)


def test_whole_reading_stays_as_it_was(world):
    """Looking at parts changes nothing of the whole reading, which serves the next look, too."""
    name = the(world, "a")
    world.group("anti-affinity", name, the(world, "b"))
    before = whole(world)
    kept = files.to_json(dataclasses.asdict(before.reading))
    world.live(name, "c")
    look(world, before, name, ["a", "c"])
    assert files.to_json(dataclasses.asdict(before.reading)) == kept

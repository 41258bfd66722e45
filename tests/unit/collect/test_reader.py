# SPDX-License-Identifier: Apache-2.0
"""A pass over a cloud is whole or says what it lacks; a later one is as good and asks less."""

import pathlib
import re
import time
from typing import Any

from hypothesis import given
from hypothesis import settings
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import document
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.rest import client
from tests.unit.collect import emulator

NUMA = {"hw:numa_nodes": "1"}
TOPOLOGY = {
    "nodes": [{"vcpu_set": [0, 1], "memory_mb": 2048, "host_node": 0, "cpu_pinning": {}}],
    "pagesize_kb": None,
}
CHANGES = r"servers/detail.*changes-since"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An empty cloud whose failures are not waited for."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.04)
    with emulator.running(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def world():
    """Two hosts, a and b, with two servers each."""
    made = emulator.World()
    for name in "ab":
        made.host(name)
        for _ in range(2):
            made.server(name)
    return made


def fill(server: emulator.Emulator, world: emulator.World) -> None:
    """Let the emulator serve this world."""
    server.world = server.api.world = world


def over_http(server: emulator.Emulator, earlier: reading.Earlier | None = None) -> reading.Reading:
    """One pass with a real client."""
    server.asked.clear()
    return reader.Reader(server.client(attempts=2), reader.Progress()).read(earlier)


def directly(
    world: emulator.World, earlier: reading.Earlier | None = None, **more: Any
) -> reading.Reading:
    """One pass without sockets; fast enough for properties."""
    return reader.Reader(emulator.Direct(world), reader.Progress()).read(earlier, **more)


def remembered(now: reading.Reading, tmp_path: pathlib.Path) -> reading.Earlier:
    """What the next pass finds on disk."""
    path = tmp_path / "reading.json"
    reading.save(now, path)
    earlier = reading.load(path, now.identity)
    assert earlier is not None
    return earlier


def written(now: reading.Reading) -> dict[str, Any]:
    """The document of a pass, without what tells how it was read."""
    made = assemble.document(now, "c", None)
    assert document.problems(made) == []
    return {key: value for key, value in made.items() if key not in ("taken_at", "collected")}


def missing(now: reading.Reading) -> dict[str, Any]:
    """Hosts by what is missing."""
    return {one["what"]: one["hosts"] for one in written(now)["missing"]}


def by_id(document: dict[str, Any]) -> dict[str, Any]:
    """Instances by id."""
    return {one["id"]: one for one in document["instances"]}


# One pass


def test_same_over_http(server, world):
    """What tests without sockets see is what real clients see."""
    world.group("anti-affinity", *list(world.servers)[:2])
    world.live(world.server("a"), "b")
    world.flavor("m1")
    fill(server, world)
    found = written(over_http(server))
    assert found == written(directly(world))
    assert len(found["instances"]) == 5
    assert len(found["server_groups"][0]["members"]) == 2
    assert found["missing"] == found["refused"] == found["outside"] == []


def test_requests_of_a_first_pass(server, world):
    """S/500 + 4P + T + 40 requests are enough, S servers, T with a topology, P providers."""
    for _ in range(3):
        world.server("a", specs=NUMA)
    fill(server, world)
    over_http(server)
    assert len(server.lines("/(compute|placement|network|image)")) <= 7 / 500 + 4 * 2 + 3 + 40


def test_server_vanishes_before_its_topology_is_asked(server, world):
    """A server that goes between two calls is not in the snapshot, and nothing is missing."""
    gone = world.server("a", specs=NUMA)
    fill(server, world)
    server.on(f"{gone}/topology", call=lambda line: world.delete(gone, purged=False))
    found = over_http(server)
    assert gone not in found.servers
    assert missing(found) == {}
    assert [host["held"] for host in written(found)["hosts"]] == [[], []]


@pytest.mark.parametrize("what", ["inventories", "traits", "allocations"])
def test_provider_vanishes(server, world, what):
    """A host that is removed between two calls is left out with the reason, its servers outside."""
    fill(server, world)
    node = world.node("a")

    def remove(line: str) -> None:
        del world.providers[node]

    server.on(f"{node}/{what}", call=remove)
    found = written(over_http(server))
    assert [(one["host"], node in one["reason"]) for one in found["refused"]] == [("a", True)]
    assert {one["reason"] for one in found["outside"]} == {"host_refused"}
    assert len(found["outside"]) == 2


def test_catch_up(server, world):
    """What is created, deleted and moved while the cloud is read is read again."""
    _, gone, moved, _ = world.servers
    made = []

    def change(line: str) -> None:
        if made:
            return
        world.delete(gone, purged=False)
        world.release(moved)
        world.claim(moved, "a", emulator.SMALL)
        world.touch(moved, **{emulator.HOST: "a"})
        made.append(world.server("b", specs=NUMA))
        world.touch(made[0])
        world.topologies[made[0]] = TOPOLOGY

    fill(server, world)
    server.on(CHANGES, call=change)
    found = by_id(written(over_http(server)))
    assert found.keys() == {*world.servers} - {gone}
    assert found[moved]["host"] == world.node("a")
    assert found[made[0]]["allocations"] == emulator.SMALL
    assert found[made[0]]["numa"] is not None


@pytest.mark.parametrize("ahead_s", [-7200.0, 7200.0])
def test_catch_up_with_wrong_clocks(server, world, ahead_s):
    """Changes are asked for in the cloud's time, however wrong ours is."""
    world.ahead_s = ahead_s
    name = next(iter(world.servers))
    fill(server, world)
    server.on(CHANGES, call=lambda line: world.touch(name, locked=True))
    assert over_http(server).servers[name]["locked"] is True


def test_migration_begins_meanwhile(server, world):
    """A live migration that begins after its list was read is found all the same."""
    name = next(iter(world.servers))
    fill(server, world)
    server.on(CHANGES, call=lambda line: world.live(name, "b"))
    found = written(over_http(server))
    assert [one["instance"] for one in found["running_migrations"]] == [name]
    assert [host["held"] for host in found["hosts"]] == [[], []]


def test_migration_ends_meanwhile(server, world):
    """One that ends meanwhile is over, and its instance is at its new place."""
    name = next(iter(world.servers))
    running = world.live(name, "b")
    fill(server, world)
    server.on(CHANGES, call=lambda line: world.arrived(running))
    found = written(over_http(server))
    assert found["running_migrations"] == []
    assert by_id(found)[name]["host"] == world.node("b")
    assert by_id(found)[name]["allocations"] == emulator.SMALL
    assert [host["held"] for host in found["hosts"]] == [[], []]


def test_disagreement_is_looked_at_twice(server, world):
    """A server that Placement has elsewhere is asked for once more before that is believed."""
    name = next(iter(world.servers))
    fill(server, world)

    def purge(line: str) -> None:
        world.delete(name)

    # No list of changes tells of what is purged from the database.
    server.on("resource_providers$", call=purge)
    assert name not in written(over_http(server))["outside"]
    assert name not in over_http(server).servers


def test_disagreement_about_another_project(world):
    """Who is no administrator is not shown that server, which does not mean that it is gone."""
    name = world.server("a", tenant_id="another")
    world.release(name)
    world.roles = ["reader"]
    assert name in directly(world).servers


def test_one_worker(server, world):
    """One request at a time is enough, though lists and providers are read side by side."""
    fill(server, world)
    found = reader.Reader(server.client(workers=1), reader.Progress()).read()
    assert written(found) == written(directly(world))


def test_end_of_a_pass_that_fails(server, world):
    """After the error nothing more is asked: what was under way ends, the rest never begins."""
    for n in range(60):
        world.host(f"host-{n}")
    fill(server, world)
    server.on("os-aggregates", status=403)
    server.on("resource_providers/", times=999, delay_s=0.02)
    with pytest.raises(client.Refused):
        over_http(server)
    time.sleep(0.1)
    before = len(server.asked)
    time.sleep(0.2)
    assert len(server.asked) == before


# A later pass


def test_nothing_changed(server, world, tmp_path):
    """Then nothing is asked for a provider, a consumer or a server, and the result is the same."""
    for _ in range(3):
        world.topologies[world.server("a", specs=NUMA)] = TOPOLOGY
    world.live(world.server("a"), "b")
    fill(server, world)
    first = over_http(server)
    again = over_http(server, remembered(first, tmp_path))
    assert written(again) == written(first)
    assert server.lines(r"resource_providers/|/topology|/servers/[0-9a-f]{8}-") == []
    # A migration at the same stage still has its allocations.
    assert server.lines("placement/allocations/") == []
    assert len(server.lines("/(compute|placement|network|image)")) <= 25


def test_nothing_changed_with_pools(tmp_path):
    """Nor is anything asked for providers that are in no aggregate where pools are shared."""
    world = emulator.sharing()
    world.server("a")
    first = directly(world)
    ask = emulator.Direct(world)
    asked = []
    ask._edit = lambda path, answer: asked.append(path) or answer
    again = reader.Reader(ask, reader.Progress()).read(remembered(first, tmp_path))
    assert written(again) == written(first)
    assert [path for path in asked if "resource_providers/" in path] == []


def test_only_what_changed_is_asked(server, world, tmp_path):
    """A provider with a new generation is asked again, and so is a server that changed."""
    changed = next(iter(world.servers))
    fill(server, world)
    earlier = remembered(over_http(server), tmp_path)
    world.ahead_s += 60
    world.inventories[world.node("b")]["VCPU"]["reserved"] = 7
    world.providers[world.node("b")]["generation"] += 1
    world.touch(changed, locked=True)
    found = written(over_http(server, earlier))
    assert found["hosts"][1]["inventories"]["VCPU"]["reserved"] == 7
    assert by_id(found)[changed]["locked"] is True
    assert {re.split("[/?]", line)[3] for line in server.lines("resource_providers/")} == {
        world.node("b")
    }
    assert server.lines("placement/allocations/") == [f"GET /placement/allocations/{changed}"]


def test_new_server(server, world, tmp_path):
    """A server that was made since is in the snapshot with its allocation and topology."""
    fill(server, world)
    earlier = remembered(over_http(server), tmp_path)
    world.ahead_s += 60
    made = world.server("a", specs=NUMA)
    world.topologies[made] = TOPOLOGY
    found = by_id(written(over_http(server, earlier)))
    assert found[made]["allocations"] == emulator.SMALL
    assert found[made]["numa"][0]["cell"] == 0


def test_deleted_server_frees_its_host(server, world, tmp_path):
    """Placement gives no sign when allocations are deleted; it is noticed by the server."""
    name = next(iter(world.servers))
    fill(server, world)
    earlier = remembered(over_http(server), tmp_path)
    generation = world.providers[world.node("a")]["generation"]
    world.delete(name)
    assert world.providers[world.node("a")]["generation"] == generation
    found = over_http(server, earlier)
    assert name not in found.servers
    assert all(name not in one.allocations for one in found.providers.values())


def test_ended_migration_frees_the_source(server, world, tmp_path):
    """So it is with what a migration held on its source."""
    name = next(iter(world.servers))
    running = world.live(name, "b")
    fill(server, world)
    earlier = remembered(over_http(server), tmp_path)
    world.ahead_s += 60
    world.arrived(running)
    found = over_http(server, earlier)
    assert found.migrations == {}
    assert all(running not in one.allocations for one in found.providers.values())
    assert by_id(written(found))[name]["host"] == world.node("b")


def test_leak_that_is_cleaned_up(world, tmp_path):
    """What Placement charged for nobody is asked for each time, as its end gives no sign."""
    leak = world.new()
    world.charge(leak, world.node("a"), {"VCPU": 5})
    first = directly(world)
    assert written(first)["hosts"][0]["held"][0]["consumer"] == leak
    earlier = remembered(first, tmp_path)
    world.release(leak)
    assert written(directly(world, earlier))["hosts"][0]["held"] == []


@pytest.mark.parametrize(
    "choice",
    [
        {"metadata": {"nova-rebalancer:allow-migration": "false"}},
        {"tags": ["nova-rebalancer:stay"]},
    ],
)
def test_opt_out_since_the_last_pass(world, tmp_path, choice):
    """What owners say counts at once, though a tag leaves ``updated`` as it was."""
    name = next(iter(world.servers))
    first = directly(world)
    assert by_id(written(first))[name]["allow_migration"] is True
    world.servers[name].update(choice)
    again = directly(world, remembered(first, tmp_path))
    assert by_id(written(again))[name]["allow_migration"] is False


def test_hints(world, tmp_path):
    """Servers and hosts that somebody says have changed are looked at."""
    a, _, b, _ = world.servers
    earlier = remembered(directly(world), tmp_path)
    for name in (a, b):
        # An administrator deletes an allocation by hand: nothing shows it.
        world.release(name)
    hints = reader.Hints(frozenset({a}), frozenset({"b"}))
    found = by_id(written(directly(world, earlier, hints=hints)))
    assert found[a]["allocations"] == found[b]["allocations"] == {}


def test_many_changes_read_the_providers_again(monkeypatch, tmp_path):
    """When more consumers are in doubt than there are providers, pools stay pools."""
    monkeypatch.setattr(reader, "SINGLE", 1)
    world = emulator.sharing()
    for _ in range(3):
        for name in "abcd":
            world.server(name)
    earlier = remembered(directly(world), tmp_path)
    world.ahead_s += 60
    for name in world.servers:
        world.touch(name, locked=True)
    again = written(directly(world, earlier))
    assert again == written(directly(world))
    assert again["hosts"][0]["shared"].keys() == {"DISK_GB"}


@settings(max_examples=80)
@given(emulator.events(), emulator.events())
def test_later_pass_is_as_good_as_a_first(tmp_path_factory, before, after):
    """Whatever happens between two passes, the second has what a pass from nothing has."""
    world = emulator.sharing()
    for event in before:
        emulator.happen(world, event)
    earlier = remembered(directly(world), tmp_path_factory.getbasetemp())
    world.ahead_s += 60
    for event in after:
        emulator.happen(world, event)
    assert written(directly(world, earlier)) == written(directly(world))


# What cannot be read


def test_one_provider_fails(server, world):
    """A provider that cannot be read leaves its host out, and the snapshot says so."""
    fill(server, world)
    server.on(f"{world.node('a')}/traits", times=99, status=500)
    found = written(over_http(server))
    assert [one["host"] for one in found["refused"]] == ["a"]
    assert [(one["what"], one["hosts"]) for one in found["missing"]] == [("provider a", [])]
    assert "500" in found["missing"][0]["reason"]
    assert {one["host"] for one in found["outside"]} == {"a"}


def test_nested_provider_fails(server, world):
    """A nested one makes its host one that is not planned for."""
    child = world.provider("gpu", {"VGPU": 4}, parent=world.node("a"))
    fill(server, world)
    server.on(f"{child}/inventories", times=99, status=500)
    assert missing(over_http(server)) == {"provider gpu": [world.node("a")]}


def test_pool_fails(server):
    """Without a pool nobody knows the disks of any host that uses it: it matters for all."""
    world = emulator.sharing()
    world.server("a")
    fill(server, world)
    pool = next(name for name, one in world.providers.items() if one["name"] == "pool")
    server.on(f"{pool}/inventories", times=99, status=500)
    assert missing(over_http(server)) == {"provider pool": None}


def test_placement_is_down(server, world):
    """Providers that fail one after the other end the pass: Placement does not work at all."""
    for name in "cdefgh":
        world.host(name)
    fill(server, world)
    server.on("resource_providers/.*/inventories", times=999, status=503)
    with pytest.raises(exceptions.CloudError, match=r"placement .*503"):
        over_http(server)
    assert len(server.lines("resource_providers/")) < 4 * 8


def test_no_right_to_providers(server, world):
    """A right that is lacking is told at the first provider."""
    fill(server, world)
    server.on("resource_providers/.*/inventories", times=999, status=403)
    with pytest.raises(client.Refused, match="403"):
        over_http(server)


def test_no_right_to_flavors(server, world):
    """No plan needs the flavors, so that they are missing hinders none."""
    fill(server, world)
    server.on("flavors/detail", times=99, status=403)
    assert missing(over_http(server)) == {"flavors": []}


@pytest.mark.parametrize("path", ["os-hypervisors", "os-services", "os-server-groups", "os-migr"])
def test_lists_there_is_no_snapshot_without(server, world, path):
    """A list that cannot be read ends the pass with its name."""
    fill(server, world)
    server.on(path, times=99, status=500)
    with pytest.raises(exceptions.CloudError, match=path):
        over_http(server)


def test_topology_fails(server, world):
    """A topology that cannot be read makes the server's host one that is not planned for."""
    name = world.server("b", specs=NUMA)
    fill(server, world)
    server.on(f"{name}/topology", times=99, status=500)
    found = over_http(server)
    assert missing(found) == {f"NUMA topology of {name}": [world.node("b")]}


def test_topology_is_asked_again_after_a_failure(server, world, tmp_path):
    """What failed is not remembered as read."""
    name = world.server("b", specs=NUMA)
    world.topologies[name] = TOPOLOGY
    fill(server, world)
    server.on(f"{name}/topology", times=2, status=500)
    earlier = remembered(over_http(server), tmp_path)
    assert missing(over_http(server, earlier)) == {}


def test_topology_of_another_project(world):
    """Who is no administrator gets 404 for servers of others: that is no "has no topology"."""
    name = world.server("b", specs=NUMA, tenant_id="another")
    world.topologies[name] = TOPOLOGY
    world.roles = ["reader"]
    lacking = missing(directly(world))
    assert lacking[f"NUMA topology of {name}"] == [world.node("b")]


@pytest.mark.parametrize("how", ["absent", "down", "blind"])
def test_no_ports(server, world, how):
    """Without Neutron's ports nobody knows which servers have devices of their host."""
    for one in world.servers.values():
        one["addresses"] = {"net": []}
    fill(server, world)
    if how == "absent":
        world.catalogue.remove("network")
    if how == "down":
        server.on("/network", times=99, status=503)
    found = over_http(server)
    assert missing(found) == {"ports": None}
    assert {one["vnic_types"] for one in written(found)["instances"]} == {None}


def test_ports(world):
    """Ports that are not normal are told with their servers."""
    first, second, *_ = world.servers
    for name in (first, second):
        world.servers[name]["addresses"] = {"net": []}
        world.ports.append({"id": "p", "device_id": name, "binding:vnic_type": "normal"})
    world.ports.append({"id": "q", "device_id": first, "binding:vnic_type": "direct"})
    found = by_id(written(directly(world)))
    assert found[first]["vnic_types"] == ["direct"]
    assert found[second]["vnic_types"] == []


# Images


FAST = {"trait:CUSTOM_FAST": "required"}


def made_of(world: emulator.World, image: str | None, **properties: str) -> str:
    """Add a server that was made of an image."""
    return world.server("a", image={"id": image, "properties": properties})


def properties(now: reading.Reading) -> dict[str, dict[str, str]]:
    """Image properties by instance."""
    return {name: one["image"]["properties"] for name, one in by_id(written(now)).items()}


def test_image_traits(server, world):
    """Traits that an image requires stand beside what Nova shows of it; a volume has none."""
    name = made_of(world, world.image(os_distro="debian", **FAST), hw_disk_bus="virtio")
    plain, volume = made_of(world, world.image()), made_of(world, None)
    fill(server, world)
    now = over_http(server)
    found = properties(now)
    assert found[name] == {"hw_disk_bus": "virtio", **FAST}
    assert found[plain] == found[volume] == {}
    assert missing(now) == {}
    assert len(server.lines("GET /image/v2/images")) == 1


def test_image_traits_that_nova_tells(server, world):
    """Nova's own word, of when the server was made, counts; then Glance is not asked."""
    world.servers.clear()
    image = world.image(**FAST)
    old = {"trait:CUSTOM_OLD": "required", "base_image_ref": image}
    name = made_of(world, image, **old)
    fill(server, world)
    now = over_http(server)
    assert properties(now)[name] == old
    assert server.lines("/image/") == []


@pytest.mark.parametrize("how", ["absent", "down", "forbidden"])
def test_no_images(server, world, how):
    """Without Glance no image's traits are known; it is said once, and no host is left out."""
    fill(server, world)
    made_of(world, world.image(**FAST))
    if how == "absent":
        world.catalogue.remove("image")
    if how == "down":
        server.on("/image", times=99, status=503)
    if how == "forbidden":
        server.on("/image", times=99, status=403)
    now = over_http(server)
    assert missing(now) == {"image traits": []}
    (lack,) = written(now)["missing"]
    assert "image" in lack["reason"] and len(lack["reason"]) < 300


def test_images_that_are_gone(world):
    """Images that Glance does not show are counted and some are named, with their servers."""
    for image in ("gone-1", "gone-1", "gone-2", "gone-3", "gone-4"):
        made_of(world, image)
    now = directly(world)
    (lack,) = written(now)["missing"]
    assert (lack["what"], lack["hosts"]) == ("image traits", [])
    assert "gone-1, gone-2, gone-3 and 1 more" in lack["reason"]
    assert lack["reason"].endswith("servers made of that: 5")


def test_images_of_servers_without_a_host(world):
    """A server on no host is not moved, so its image does not matter."""
    world.server(None, image={"id": "gone", "properties": {}})
    assert missing(directly(world)) == {}


def test_images_that_are_known(server, world, tmp_path):
    """What an image required when its servers were made still counts after it is gone."""
    image = world.image(**FAST)
    name = made_of(world, image)
    made_of(world, "gone")
    fill(server, world)
    earlier = remembered(over_http(server), tmp_path)
    del world.images[image]
    again = over_http(server, earlier)
    assert properties(again)[name] == FAST
    assert server.lines("/image/") == []
    assert "does not show gone," in written(again)["missing"][0]["reason"]


@pytest.mark.parametrize("kind", ["new", "changed"])
def test_images_of_what_changed(world, tmp_path, kind):
    """An image is looked at again when a server made of it is new or changed."""
    image = world.image()
    name = made_of(world, image)
    earlier = remembered(directly(world), tmp_path)
    world.ahead_s += 60
    world.images[image].update(FAST)
    if kind == "new":
        made_of(world, image)
    else:
        world.touch(name)
    assert properties(directly(world, earlier))[name] == FAST


def test_images_are_asked_again_after_a_failure(server, world, tmp_path):
    """What failed is not remembered as read."""
    name = made_of(world, world.image(**FAST))
    fill(server, world)
    server.on("/image/", times=1, status=403)
    earlier = remembered(over_http(server), tmp_path)
    assert properties(over_http(server, earlier))[name] == FAST


# Cells


def test_several_cells(world):
    """Two servers with one name on their hypervisors show that there are several cells."""
    assert written(directly(world))["several_cells"] is False
    first, second, *_ = world.servers
    world.servers[second][emulator.LABEL] = world.servers[first][emulator.LABEL]
    assert written(directly(world))["several_cells"] is True


@pytest.mark.parametrize("label", [None, ""])
def test_one_cell(world, label):
    """Servers whose names on the hypervisors Nova does not show are no sign of anything."""
    for one in world.servers.values():
        one[emulator.LABEL] = label
    assert written(directly(world))["several_cells"] is False


# Down cells


@pytest.mark.parametrize("max_limit", [1000, 2])
def test_down_cell(server, world, max_limit):
    """A cell that does not answer is noticed, however many servers the others have."""
    world.max_limit = max_limit
    lost = [name for name, one in world.servers.items() if one[emulator.HOST] == "b"]
    world.down.update(lost)
    world.hypervisors = [one for one in world.hypervisors if one["hypervisor_hostname"] == "a"]
    fill(server, world)
    found = written(over_http(server))
    assert [one["what"] for one in found["missing"]] == ["a cell"]
    assert "b" in found["missing"][0]["reason"]
    assert {one["host"] for one in found["instances"]} == {world.node("a")}
    if max_limit == 1000:
        assert {one["id"] for one in found["outside"]} == set(lost)


def test_cell_goes_down_meanwhile(server, world):
    """When it goes down between two lists, its hosts are not planned for."""
    lost = [name for name, one in world.servers.items() if one[emulator.HOST] == "b"]
    fill(server, world)
    server.on(CHANGES, call=lambda line: world.down.update(lost))
    assert world.node("b") in missing(over_http(server))["instances of b"]


# Server groups


def test_groups_of_other_projects(world):
    """Nova hides these, and the hints at them, from who is no administrator: they are missing."""
    world.server("a", tenant_id="another")
    first, second, *_ = world.servers
    group = world.group("anti-affinity", first, second, project="another")
    (told,) = written(directly(world))["server_groups"]
    assert (told["id"], told["members"]) == (group, [first, second])
    world.roles = ["reader"]
    assert missing(directly(world)) == {"private flavors": [], "server groups": None}


def test_own_project_only(world):
    """Where all servers are of the account's own project, its own groups are all there are."""
    world.group("anti-affinity", *list(world.servers)[:2])
    world.roles = ["reader"]
    found = directly(world)
    assert len(written(found)["server_groups"]) == 1
    assert missing(found) == {"private flavors": []}


def test_group_made_meanwhile(server, world):
    """A group and its member that are made while the cloud is read are both there."""
    fill(server, world)

    def make(line: str) -> None:
        name = server.world.server("a")
        made.append((server.world.group("anti-affinity", name), name))
        server.world.touch(name)

    made: list[tuple[str, str]] = []
    server.on(CHANGES, call=make)
    found = written(over_http(server))
    assert [(one["id"], one["members"]) for one in found["server_groups"]] == [
        (made[0][0], [made[0][1]])
    ]


def test_changed_beside_an_odd_one(server, world):
    """What changed while a server that Placement lacks was looked at again is read whole."""
    odd = world.server("a")
    world.release(odd)
    fill(server, world)

    def change(line: str) -> None:
        world.touch(world.server("b", {"VCPU": 7}))

    # The second list of changes is the one after the look at what is odd.
    server.on(CHANGES, at=2, call=change)
    found = written(over_http(server))
    assert {"VCPU": 7} in [one["allocations"] for one in found["instances"]]
    assert by_id(found)[odd]["allocations"] == {}


# Progress


def test_progress(world):
    """Each thing that is many is counted to its end."""
    seen: dict[str, tuple[int, int | None]] = {}

    class Listener(reader.Progress):
        def step(self, what: str, done: int, total: int | None = None) -> None:
            seen[what] = (done, total)

    ask = emulator.Direct(world)
    reader.Reader(ask, Listener()).read()
    assert seen["servers"][0] == 4
    assert seen["hypervisors"][0] == 2

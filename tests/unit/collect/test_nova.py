# SPDX-License-Identifier: Apache-2.0
"""Listings of Nova are read whole, whatever happens between two pages."""

import time

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import nova
from nova_rebalancer.rest import client
from tests.unit.collect import emulator

DETAIL = "GET /compute/v2.1/servers/detail"
GROUPS = "GET /compute/v2.1/os-server-groups"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A cloud with pages of five."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.04)
    with emulator.running(tmp_path, monkeypatch) as running:
        running.world.max_limit = 5
        yield running


def reading(server: emulator.Emulator) -> nova.Nova:
    """Nova as the collector sees it."""
    return nova.Nova(server.client())


def nothing(done: int) -> None:
    """Hear of no progress."""


def marker(line: str) -> str:
    """The marker of a request."""
    return line.rpartition("marker=")[2]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10, 13])
def test_every_page_is_read(server, count):
    """A cloud that gives less than was asked for is read whole, each server once."""
    ids = {server.world.server() for _ in range(count)}
    told: list[int] = []
    assert reading(server).servers(told.append).keys() == ids
    assert told[-1] == count
    assert len(server.lines(DETAIL)) <= count // 5 + 3


@pytest.mark.parametrize("at_end", [1, 3])
def test_servers_at_the_end_of_a_page_vanish(server, at_end):
    """Servers purged just when they are the marker cost some requests and no other server."""
    ids = [server.world.server() for _ in range(12)]
    gone: list[str] = []

    def purge(line: str) -> None:
        if len(gone) < at_end:
            gone.append(marker(line))
            server.world.delete(gone[-1])

    server.on(f"{DETAIL}.*marker", times=at_end, call=purge)
    found = reading(server).servers(nothing)
    assert len(gone) == at_end
    assert found.keys() >= set(ids) - set(gone)


def test_deleted_marker_that_is_not_purged(server):
    """A deleted server that the database still has is a good marker, as it always is in Nova."""
    ids = [server.world.server() for _ in range(7)]
    gone: list[str] = []

    def delete(line: str) -> None:
        gone.append(marker(line))
        server.world.delete(gone[0], purged=False)

    server.on(f"{DETAIL}.*marker", call=delete)
    assert reading(server).servers(nothing).keys() == set(ids)
    markers = [marker(line) for line in server.lines(f"{DETAIL}.*marker")]
    assert len(set(markers)) == len(markers)


def test_servers_are_created_meanwhile(server):
    """New servers before and behind the current page do not hide or double others."""
    ids = {server.world.server() for _ in range(12)}
    server.on(f"{DETAIL}.*marker", times=99, call=lambda line: server.world.server())
    found = reading(server).servers(nothing)
    assert found.keys() >= ids


def test_short_page_is_not_the_last(server):
    """Nova drops a server twice on a page after cutting it, and then links to no next page."""
    ids = {server.world.server() for _ in range(12)}
    dropped: list[str] = []

    def shorten(answer):
        dropped.append(answer["servers"].pop(0)["id"])
        del answer["servers_links"]
        return answer

    server.on(DETAIL, edit=shorten)
    assert reading(server).servers(nothing).keys() == ids - set(dropped)


def test_short_page_of_hypervisors(server):
    """Nor does a hypervisor whose service was deleted hide those on the pages after its own."""
    ids = {server.world.host(f"host-{n}") for n in range(12)}

    def shorten(answer):
        ids.remove(answer["hypervisors"].pop(2)["id"])
        answer.pop("hypervisors_links", None)
        return answer

    server.on("GET .*/os-hypervisors/detail", edit=shorten)
    assert {one["id"] for one in reading(server).hypervisors()} == ids


def test_soft_deleted_servers(server):
    """Servers that wait to be reclaimed keep their place and allocations, so they are listed."""
    name = server.world.server()
    server.world.touch(name, status="SOFT_DELETED")
    assert reading(server).servers(nothing).keys() == {name}


def test_error_within_the_pages(server):
    """A page that cannot be had ends it: half of a list is never taken for all of it."""
    for _ in range(12):
        server.world.server()
    server.on(f"{DETAIL}.*marker", times=99, status=500)
    with pytest.raises(exceptions.CloudError, match="servers/detail"):
        reading(server).servers(nothing)


def test_request_nova_does_not_understand(server):
    """A 400 for any other reason than the marker ends it, too."""
    server.on(DETAIL, times=99, status=400, body=b'{"badRequest": {"message": "no sort_key"}}')
    with pytest.raises(client.Refused, match="no sort_key"):
        reading(server).servers(nothing)


def test_400_at_every_marker(server):
    """A Nova that knows none of the markers is told, it is not asked for ever."""
    for _ in range(12):
        server.world.server()
    server.on(f"{DETAIL}.*marker", times=999, status=400)
    with pytest.raises(client.Refused):
        reading(server).servers(nothing)
    assert len(server.lines(DETAIL)) <= 2 * nova.MARKERS_TRIED


@pytest.mark.parametrize("count", [0, 1, 5, 6, 9, 10, 11])
def test_groups_of_all_pages(server, count):
    """Server groups have offsets; all pages are read, each group once."""
    ids = [server.world.group("affinity") for _ in range(count)]
    assert [one["id"] for one in reading(server).groups()] == ids


@pytest.mark.parametrize("place", [0, 3, 4, 6])
def test_group_is_deleted_between_two_pages(server, place):
    """One that goes away moves the others forward, and none of these is missed."""
    ids = [server.world.group("affinity") for _ in range(12)]
    server.on(GROUPS, at=2, call=lambda line: server.world.groups.pop(place))
    found = [one["id"] for one in reading(server).groups()]
    left = [name for name in ids if name != ids[place]]
    # The one that went was perhaps read before.
    assert [name for name in found if name != ids[place]] == left


def test_groups_that_never_hold_still(server):
    """When groups go away between all pages it says so instead of guessing."""
    for _ in range(60):
        server.world.group("affinity")
    server.on(GROUPS, times=99, call=lambda line: server.world.groups.pop(0))
    with pytest.raises(exceptions.CloudError, match="server groups change"):
        reading(server).groups()


def test_changes_since(server):
    """What changed and what is gone since a moment, in whole seconds of the cloud's time."""
    world = server.world
    world.ahead_s = -3600.0
    old, changed, gone = world.server(), world.server(), world.server()
    world.touch(changed, locked=True)
    world.delete(gone, purged=False)
    found, ended = reading(server).changed(world.time() - 2)
    assert found.keys() == {changed}
    assert found[changed]["locked"] is True
    assert ended == [gone]
    assert old not in found


def test_migrations(server):
    """Those in progress, or with a moment all that changed since."""
    world = server.world
    world.host("a")
    world.host("b")
    moved = world.live(world.server("a"), "b")
    ended = world.live(world.server("a"), "b")
    world.arrived(ended)
    asked = reading(server)
    assert [one["uuid"] for one in asked.migrations(None)] == [moved]
    assert {one["uuid"] for one in asked.migrations(world.time() - 60)} == {moved, ended}
    assert asked.migrations(world.time() + 60) == []


def test_what_is_gone_is_none(server):
    """The topology of a server that does not exist is None, no error."""
    assert reading(server).topology("x") is None


def test_stubs_of_a_down_cell(server):
    """Servers whose cell does not answer are found as far as Nova gives them."""
    world = server.world
    server.world.max_limit = 1000
    lost = [world.server() for _ in range(3)]
    world.server()
    world.down.update(lost)
    assert reading(server).unreachable() == sorted(lost)
    # A full listing has no room for stubs: the services must tell (see test_reader).
    world.max_limit = 1
    assert reading(server).unreachable() == []


def test_versions(server):
    """The uptime of each host that newer versions fetch is avoided; the rest is 2.100."""
    server.world.newest["compute"] = "2.103"
    asked = reading(server)
    assert asked.version == "2.100"
    asked.hypervisors()
    assert server.asked[-1].version == "2.87"


def test_cloud_without_hints(server):
    """Before 2.100 nobody knows all server groups, so an older Nova is refused."""
    server.world.newest["compute"] = "2.99"
    with pytest.raises(exceptions.CloudError, match=r"up to 2\.99; 2\.100 is needed"):
        reading(server)


def test_reduced_needs_nothing_but_an_id():
    """Whatever else Nova leaves out of a server, or has null, is no error."""
    bare = nova.reduced({"id": "i"})
    whole = emulator.World()
    name = whole.server()
    keys = whole.servers[name].keys() - {"id"}
    nulls = nova.reduced({"id": "i", **dict.fromkeys(keys)})
    assert {**nulls, "host_shown": False} == bare
    assert nova.reduced(whole.servers[name]).keys() == bare.keys()
    assert nova.reduced({"id": "i", "image": ""}) == bare


def test_moment():
    """Times are asked for in UTC, whole seconds, rounded down."""
    text = nova.moment(1.9)
    assert text == "1970-01-01T00:00:01Z"
    assert nova.moment(time.time()).endswith("Z")

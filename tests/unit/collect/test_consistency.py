# SPDX-License-Identifier: Apache-2.0
"""Placement is compared with itself and with Nova, and the cloud may move meanwhile."""

from hypothesis import given
from hypothesis import strategies
import pytest

from nova_rebalancer.collect import consistency
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from tests.unit.collect import emulator

Json = emulator.Json


@pytest.fixture
def world():
    """Two hosts, a server on each."""
    made = emulator.World()
    for name in ("a", "b"):
        made.host(name)
        made.server(name)
    return made


def read(world: emulator.World) -> reading.Reading:
    """A reading of the world."""
    return reader.Reader(emulator.Direct(world), reader.Progress()).read()


def check(world: emulator.World, now: reading.Reading | None = None, edit=None):
    """What the check finds, as (kind, host, subject)."""
    ask = emulator.Direct(world, edit)
    found = consistency.check(ask, now or read(world), reader.Progress())
    return [(one.kind, one.host, one.subject) for one in found]


def some(world: emulator.World, host: str) -> str:
    """The server on a host."""
    return next(name for name, one in world.servers.items() if one[emulator.HOST] == host)


def typed(kind: str):
    """Let Placement tell what consumers are."""

    def edit(line: str, answer: Json) -> Json:
        return {**answer, "consumer_type": kind} if "/allocations/" in line else answer

    return edit


def test_a_cloud_in_order(world):
    """Where all agrees nothing is found, also while servers migrate, resize and are built."""
    world.live(some(world, "a"), "b")
    world.resize(some(world, "b"), "a", emulator.SMALL)
    building = world.server(None, None, status="BUILD", **{emulator.TASK: "spawning"})
    world.charge(building, world.node("a"), emulator.SMALL)
    assert check(world) == []


def test_a_change_after_the_reading_is_no_disagreement(world):
    """What was charged since is read again and put into the reading."""
    now = read(world)
    later = world.server("a")
    world.touch(later)
    assert check(world, now) == []
    assert later in now.providers[world.node("a")].allocations


def test_a_server_that_left_after_the_reading(world):
    """A server that moved on, or is gone, is looked at again before anything is said."""
    now = read(world)
    name = world.live(some(world, "a"), "b")
    world.arrived(name)
    gone = some(world, "b")
    world.delete(gone, purged=False)
    assert check(world, now) == []
    assert gone not in now.servers


def test_sums_that_stay_different(world):
    """Placement's sums are not those of its allocations: told by class, with the difference."""

    def edit(line: str, answer: Json) -> Json:
        if line.endswith(f"{world.node('b')}/usages"):
            return {"usages": {**answer["usages"], "VCPU": 5, "PCPU": 1}}
        return answer

    ask = emulator.Direct(world, edit)
    (found,) = consistency.check(ask, read(world), reader.Progress())
    assert (found.kind, found.host) == ("usage", "b")
    # The server has 2 VCPU.
    assert found.numbers == {"VCPU": 3, "PCPU": 1}
    assert "VCPU +3" in found.text


def test_a_provider_that_is_gone(world):
    """A host deleted since the reading is no disagreement."""
    now = read(world)
    del world.providers[world.node("b")]
    assert check(world, now) == []


def test_nothing_is_charged(world):
    """A server without an allocation makes its host look emptier than it is."""
    name = some(world, "a")
    world.release(name)
    assert check(world) == [("uncharged", "a", name)]


def test_charged_on_another_host(world):
    """A server charged where Nova does not have it is told with the host that is charged."""
    name = some(world, "a")
    world.release(name)
    world.charge(name, world.node("b"), emulator.SMALL)
    assert check(world) == [("elsewhere", "b", name)]


def test_charged_though_on_no_host(world):
    """A shelved server that Placement still charges has no host in Nova."""
    name = world.server(None, None, status="SHELVED_OFFLOADED")
    world.charge(name, world.node("b"), emulator.SMALL)
    assert check(world) == [("elsewhere", "b", name)]


def test_charged_twice(world):
    """An evacuated server is charged on the old host until its nova-compute comes back."""
    name = some(world, "a")
    world.charge(name, world.node("b"), emulator.SMALL)
    assert check(world) == [("doubled", "b", name)]


def test_a_migration_that_is_over(world):
    """A migration that holds allocations after its end is told as one."""
    name = world.live(some(world, "a"), "b")
    server = world.migrations[name]["instance_uuid"]
    world.migrations[name]["status"] = "error"
    world.touch(server, status="ACTIVE", **{emulator.TASK: None})
    found = check(world, edit=typed("MIGRATION"))
    # The server is on the source, and its own allocation is on the destination.
    assert found == [("elsewhere", "b", server), ("ended_migration", "a", name)]


def test_a_consumer_nobody_knows(world):
    """What neither lists nor a look at it by its id show is told."""
    name = world.new()
    world.charge(name, world.node("a"), {"VCPU": 7})
    assert check(world, edit=typed("INSTANCE")) == [("unknown_consumer", "a", name)]
    world.newest["placement"] = "1.37"
    assert check(world) == [("unknown_consumer", "a", name)]


def test_a_migration_that_began_after_the_reading(world):
    """It is on nobody's list of migrations yet, and is no disagreement."""
    now = read(world)
    world.live(some(world, "a"), "b")
    assert check(world, now, typed("MIGRATION")) == []


def test_servers_of_a_down_cell(world):
    """What a cell that is down has is charged rightly, and not told as unknown."""
    world.down.add(some(world, "a"))
    assert check(world) == []


def test_an_account_that_is_no_administrator(world):
    """Nova shows it no single server of another project, so none is asked for."""

    def edit(line: str, answer: Json) -> Json:
        assert not line.startswith("compute /servers/0")
        return answer

    name = some(world, "a")
    now = read(world)
    world.release(name)
    assert check(world, now, edit) == [("uncharged", "a", name)]


def test_two_hypervisors_behind_one_service(world):
    """Where Nova does not say which of two a server is on, nothing is compared."""
    world.host("a2")
    world.hypervisors[-1]["service"]["host"] = "a"
    world.release(some(world, "a"))
    assert check(world) == []


amounts = strategies.dictionaries(
    strategies.sampled_from(("VCPU", "MEMORY_MB", "PCPU")), strategies.integers(0, 9)
)


@given(amounts, strategies.lists(amounts, max_size=4))
def test_the_difference_makes_up_for_it(usages, charged):
    """Sums less the difference are the sums of the allocations, whatever both are."""
    allocations = {str(number): one for number, one in enumerate(charged)}
    provider = reading.Provider("p", "p", None, "p", 1, {}, [], None, allocations)
    differing = consistency.difference(usages, provider)
    assert 0 not in differing.values()
    for name in ("VCPU", "MEMORY_MB", "PCPU"):
        total = sum(one.get(name, 0) for one in charged)
        assert usages.get(name, 0) - differing.get(name, 0) == total

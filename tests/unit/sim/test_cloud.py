# SPDX-License-Identifier: Apache-2.0
"""The cloud in memory."""

import collections

import hypothesis
from hypothesis import strategies
import pytest

from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud as facts
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.sim import cloud
from nova_rebalancer.sim import demo
from tests import clouds as random_clouds
from tests.unit.sim import clouds

SMALL_DEMO = document.loads(demo.document(4, demo.MIN_HOSTS), "the demo cloud")[0]


def refusal(sim: cloud.SimCloud, *order: object) -> cloud.RefusedError:
    """Why the cloud does not start a migration; what it looks like has not changed."""
    before = sim.snapshot()
    with pytest.raises(cloud.RefusedError) as caught:
        sim.live_migrate(*order)
    assert sim.snapshot() == before
    return caught.value


def test_takes_as_long_as_copying_memory():
    """4 GiB at 1024 MiB/s are 4 s, and 1 s is for everything else."""
    sim = cloud.SimCloud(clouds.three_hosts(clouds.instance("v", "a", 4)), 1024.0)
    flight = sim.live_migrate("v", "id-a", "id-b", (1,))
    assert (flight.start_s, flight.end_s, sim.next_end_s) == (0.0, 5.0, 5.0)
    assert flight.progress(2.5) == 0.5
    assert sim.advance(4.9) == []
    assert sim.in_flight == (flight,)
    assert sim.advance(7.0) == [flight]
    assert (sim.in_flight, sim.next_end_s, sim.now_s) == ((), None, 7.0)


def test_snapshot_follows():
    """In flight it is on its source with a running migration; then on its destination's cells."""
    sim = cloud.SimCloud(clouds.three_hosts(clouds.instance("v", "a", 4)), 1024.0)
    sim.live_migrate("v", "id-a", "id-b", (1,))
    sim.advance(2.0)
    during = sim.snapshot()
    assert during.instances[0].host == "id-a"
    assert during.taken_at == "2026-01-01T00:00:02Z"
    assert during.running_migrations == (facts.RunningMigration("v", "id-a", "id-b", "running"),)
    sim.advance(5.0)
    after = sim.snapshot()
    assert after.instances[0].host == "id-b"
    assert [guest.cell for guest in after.instances[0].numa] == [1]
    assert after.running_migrations == ()


def test_both_hosts_are_charged_in_flight():
    """The source's room is free only once the migration is confirmed."""
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("leaves", "a", 8), clouds.instance("comes", "b", 8, (1,))
        )
    )
    sim.live_migrate("leaves", "id-a", "id-b", (0,))
    assert refusal(sim, "comes", "id-b", "id-a", (0,)).code == "numa"
    sim.advance(sim.next_end_s)
    sim.live_migrate("comes", "id-b", "id-a", (0,))


def test_room_on_the_way_is_taken():
    """What is on its way to a host counts there."""
    sim = cloud.SimCloud(
        clouds.three_hosts(clouds.instance("first", "a", 5), clouds.instance("second", "b", 5))
    )
    sim.live_migrate("first", "id-a", "id-c", (0,))
    why = refusal(sim, "second", "id-b", "id-c", (0,))
    assert str(why) == "c has 3 PCPU of NUMA cell 0 left of 8, second needs 5"


def test_a_pool_is_charged_once():
    """The disk stays where it is, so a full pool is no reason to stay."""
    instances = (clouds.instance("v", "a", 8), clouds.instance("w", "b", 8, (0,)))
    sim = cloud.SimCloud(
        clouds.three_hosts(
            *instances, pools=(facts.Pool("pool", {"DISK_GB": facts.Inventory(16)}),)
        )
    )
    sim.live_migrate("v", "id-a", "id-b", (1,))
    sim.advance(100.0)
    sim.live_migrate("v", "id-b", "id-a", (0,))


def test_the_cloud_picks_cells():
    """Without cells in the call the first that fit are taken, each guest cell on its own."""
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("here", "b", 6, (0,)),
            clouds.instance("one", "a", 4),
            clouds.instance("two", "a", 4, (0, 1)),
        )
    )
    assert sim.live_migrate("one", "id-a", "id-b").cells == (1,)
    assert sim.live_migrate("two", "id-a", "id-b").cells == (0, 1)
    assert sim.in_flight[0].instance == "one"


def test_without_topology():
    """An instance without NUMA topology charges the host and no cell."""
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 8, None),
            clouds.instance("w", "b", 7, None),
            clouds.instance("x", "c", 7, (1,)),
        )
    )
    assert sim.live_migrate("v", "id-a", "id-b").cells is None
    assert refusal(sim, "x", "id-c", "id-b", (0,)).code == "capacity"


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (("nobody", "id-a", "id-b", (0,)), "unknown_instance"),
        (("v", "id-a", "id-x", (0,)), "unknown_host"),
        (("v", "id-b", "id-c", (0,)), "wrong_source"),
        (("v", "id-a", "id-a", (1,)), "same_host"),
        (("v", "id-a", "id-b", (0, 1)), "numa"),
        (("two", "id-a", "id-b", (1, 1)), "numa"),
        (("v", "id-a", "id-b", (2,)), "numa"),
        (("plain", "id-a", "id-b", (0,)), "numa"),
    ],
)
def test_refuses_nonsense(order, code):
    """Calls that do not fit the cloud are refused with the reason."""
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 4),
            clouds.instance("two", "a", 4, (0, 1)),
            clouds.instance("plain", "a", 1, None),
        )
    )
    assert refusal(sim, *order).code == code


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"locked": True}, "locked"),
        ({"allow_migration": False}, "opted_out"),
        ({"task_state": "rebooting"}, "task_state"),
        ({"status": "SHUTOFF"}, "status"),
        ({"allocations": {}}, "no_allocations"),
        ({"nested": {"gpu": {"VGPU": 1}}}, "nested_resources"),
        ({"allowed_hosts": ("id-a", "id-c")}, "not_allowed"),
    ],
)
def test_refuses_instances_that_stay(values, code):
    """An instance's own state or pin keeps it from going to b."""
    sim = cloud.SimCloud(clouds.three_hosts(clouds.instance("v", "a", 4, **values)))
    assert refusal(sim, "v", "id-a", "id-b", (0,)).code == code


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("b", {"status": "disabled"}, "host_not_usable"),
        ("b", {"state": "down"}, "host_not_usable"),
        ("a", {"state": "down"}, "host_not_usable"),
        ("a", {"lacks": "topologies"}, "host_not_usable"),
        ("b", {"lacks": "topologies"}, "host_not_usable"),
        ("b", {"az": "elsewhere"}, "not_allowed"),
        ("b", {"inventories": {"PCPU": facts.Inventory(16)}}, "not_allowed"),
        (
            "b",
            {"inventories": {
                "PCPU": facts.Inventory(16, max_unit=2), "MEMORY_MB": facts.Inventory(16384),
            }},
            "not_allowed",
        ),
        ("b", {"numa": None}, "numa"),
        ("b", {"numa": facts.HostNuma("inferred", (facts.NumaCell(0, {"PCPU": 8}),))}, "numa"),
    ],
)  # fmt: skip
def test_refuses_hosts(name, values, code):
    """A host that the scheduler would not choose is refused, whatever its room."""
    small = clouds.with_host(clouds.three_hosts(clouds.instance("v", "a", 4)), name, **values)
    assert refusal(cloud.SimCloud(small), "v", "id-a", "id-b", (0,)).code == code


def test_anti_affinity_counts_what_is_on_its_way():
    """Two members of a group cannot be on their way to one host, nor meet there."""
    group = facts.ServerGroup("g", "anti-affinity", ("v", "w"))
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 1), clouds.instance("w", "b", 1), server_groups=(group,)
        )
    )
    sim.live_migrate("v", "id-a", "id-c", (0,))
    assert refusal(sim, "w", "id-b", "id-c", (1,)).code == "anti_affinity"
    # Nor may it go where the other has not left yet.
    assert refusal(sim, "w", "id-b", "id-a", (1,)).code == "anti_affinity"
    sim.advance(10.0)
    sim.live_migrate("w", "id-b", "id-a", (1,))


def test_conflicts_count_what_is_on_its_way():
    """Two instances in conflict cannot be on their way to one host, nor meet there."""
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 1), clouds.instance("w", "b", 1), conflicts=(("w", "v"),)
        )
    )
    sim.live_migrate("v", "id-a", "id-c", (0,))
    assert refusal(sim, "w", "id-b", "id-c", (1,)).code == "conflicts"
    # Nor may it go where the other has not left yet.
    assert refusal(sim, "w", "id-b", "id-a", (1,)).code == "conflicts"
    sim.advance(10.0)
    sim.live_migrate("w", "id-b", "id-a", (1,))


def test_affinity_does_not_split():
    """A member may not leave the others, but may join them."""
    group = facts.ServerGroup("g", "affinity", ("v", "w"))
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 1), clouds.instance("w", "b", 1), server_groups=(group,)
        )
    )
    assert refusal(sim, "v", "id-a", "id-c", (0,)).code == "affinity"
    sim.live_migrate("v", "id-a", "id-b", (1,))


def test_one_migration_at_a_time():
    """What is in flight, or was when the snapshot was taken, is not migrated again."""
    running = facts.RunningMigration("w", "id-a", "id-b")
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 1),
            clouds.instance("w", "a", 8, (1,)),
            clouds.instance("x", "c", 12, None),
            running_migrations=(running,),
        )
    )
    sim.live_migrate("v", "id-a", "id-c", (0,))
    assert refusal(sim, "v", "id-a", "id-b", (0,)).code == "migrating"
    assert refusal(sim, "w", "id-a", "id-c", (1,)).code == "migrating"
    # It takes 8 of b's 16 cores, although it will not get there.
    assert refusal(sim, "x", "id-c", "id-b").code == "capacity"


@pytest.mark.parametrize(
    ("running", "charged"),
    [
        (facts.RunningMigration("w", "id-a", "id-b", far_allocations={"PCPU": 3}), 3),
        (facts.RunningMigration("w", "id-b", "id-a"), 8),
        (facts.RunningMigration("w", "id-a", None), 0),
        (facts.RunningMigration("w", "id-b", None, far_allocations={"PCPU": 5}), 5),
    ],
)
def test_far_end_is_charged_what_the_snapshot_says(running, charged):
    """w's 8 cores or what is said instead, on b's 16 if b is an end, told twice or once."""
    for cores, code in ((16 - charged, None), (17 - charged, "capacity")):
        small = clouds.three_hosts(
            clouds.instance("w", "a", 8, None),
            clouds.instance("x", "c", cores, None, allocations={"PCPU": cores}),
            running_migrations=(running, running),
        )
        sim = cloud.SimCloud(small)
        assert refusal(sim, "w", "id-a", "id-c").code == "migrating"
        if code is None:
            sim.live_migrate("x", "id-c", "id-b")
        else:
            assert refusal(sim, "x", "id-c", "id-b").code == code


@pytest.mark.parametrize(("far", "left"), [(8, 12), (3, 12), (11, 9)])
def test_far_end_in_the_same_pool(far, left):
    """Of the pool's 20 GiB w's 8 are charged once, or what its far end takes if that is more."""
    for disk, code in ((left, None), (left + 1, "capacity")):
        running = facts.RunningMigration("w", "id-a", "id-b", far_allocations={"DISK_GB": far})
        alone = {"DISK_GB": facts.Inventory(20)}
        small = clouds.three_hosts(
            clouds.instance("w", "a", 8),
            clouds.instance("x", "c", 1, allocations={"DISK_GB": disk}),
            running_migrations=(running,),
        )
        sim = cloud.SimCloud(clouds.with_host(small, "c", inventories=alone, shared={}))
        if code is None:
            sim.live_migrate("x", "id-c", "id-b", (0,))
        else:
            assert refusal(sim, "x", "id-c", "id-b", (0,)).code == code


def test_held_is_charged():
    """What Placement holds for others takes room on its host and in the pool behind it.

    b has 16 - 3 cores left, and the pool behind b and c 20 - 6 GiB.
    """
    held = (facts.Held("other", "unknown", {"PCPU": 3, "DISK_GB": 6, "CUSTOM_X": 9}),)
    for cores, code in ((13, None), (14, "capacity")):
        small = clouds.three_hosts(clouds.instance("v", "a", cores, None))
        sim = cloud.SimCloud(clouds.with_host(small, "b", held=held))
        if code is None:
            sim.live_migrate("v", "id-a", "id-b")
        else:
            assert str(refusal(sim, "v", "id-a", "id-b")) == "b has 13 PCPU left of 16, v needs 14"
    small = clouds.three_hosts(
        clouds.instance("v", "a", 1, allocations={"DISK_GB": 15}),
    )
    small = clouds.with_host(small, "a", inventories={"DISK_GB": facts.Inventory(20)}, shared={})
    sim = cloud.SimCloud(clouds.with_host(small, "b", held=held))
    assert str(refusal(sim, "v", "id-a", "id-c", (0,))) == (
        "c has 14 DISK_GB left of 20, v needs 15"
    )


def test_pool_without_the_resource():
    """A host named with a pool that lacks the resource gives its own."""
    small = clouds.three_hosts(clouds.instance("v", "a", 4), pools=(facts.Pool("pool", {}),))
    assert refusal(cloud.SimCloud(small), "v", "id-a", "id-b", (0,)).code == "not_allowed"
    offered = {**small.hosts[1].inventories, "DISK_GB": facts.Inventory(4)}
    sim = cloud.SimCloud(clouds.with_host(small, "b", inventories=offered))
    sim.live_migrate("v", "id-a", "id-b", (0,))


def test_members_outside_occupy_nothing():
    """A group with a member on no host of the snapshot leaves its place free."""
    small = clouds.three_hosts(
        clouds.instance("v", "a", 1),
        server_groups=(facts.ServerGroup("g", "anti-affinity", ("v", "away")),),
        outside=(facts.Outside("away", "no_host"),),
    )
    cloud.SimCloud(small).live_migrate("v", "id-a", "id-b", (0,))


@hypothesis.given(random_clouds.snapshots(4, 8))
@hypothesis.settings(max_examples=150)
def test_starts_what_the_ledger_has_room_for(made):
    """The cloud and the planners' ledger, which share no books, agree on what may start.

    They agree on NUMA cells too but for one case: the ledger adds nothing to an overfull cell,
    not even a guest that takes nothing of what is overfull.
    """
    snapshot = document.loads(random_clouds.as_bytes(made), "test")[0]
    start = state.build(snapshot)
    book = ledger.Ledger(start)
    for v, instance in enumerate(snapshot.instances):
        if v in start.excluded and start.excluded[v].reason.code == "affinity":
            continue  # The cloud lets it join the others.
        for h, host in enumerate(snapshot.hosts):
            try:
                cloud.SimCloud(snapshot).live_migrate(instance.id, instance.host, host.id)
                started = True
            except cloud.RefusedError as error:
                started, why = False, error
            expected = bool(start.movable[v]) and book.cells_for(v, h) is not None
            if instance.numa is None or start.numa_free().min(initial=0) >= 0:
                assert started == expected
            else:
                assert started or not expected, why


def test_overfull_is_tolerated_but_not_made_worse():
    """An overfull host gives, and takes nothing."""
    sim = cloud.SimCloud(
        clouds.three_hosts(
            clouds.instance("v", "a", 7, (0,)),
            clouds.instance("w", "a", 7, (0,)),
            clouds.instance("x", "b", 1),
        )
    )
    assert refusal(sim, "x", "id-b", "id-a", (0,)).code == "numa"
    sim.live_migrate("w", "id-a", "id-b", (1,))


def test_the_clock_does_not_go_back():
    """Time passes one way."""
    sim = cloud.SimCloud(clouds.three_hosts())
    sim.advance(3.0)
    with pytest.raises(ValueError, match="does not go back"):
        sim.advance(2.0)


def test_rate_is_positive():
    """Memory that is never copied would keep a migration in flight for ever."""
    with pytest.raises(ValueError, match="rate_mibps"):
        cloud.SimCloud(clouds.three_hosts(), 0.0)


def assert_sane(sim: cloud.SimCloud) -> None:
    """Count again what everything takes, both hosts charged, and compare with what there is."""
    now = sim.snapshot()
    assert state.build(now).overfull() == []
    cells: collections.Counter[tuple[str, int, str]] = collections.Counter()
    members: dict[str, set[str]] = collections.defaultdict(set)
    guests = {instance.id: instance.numa for instance in now.instances}
    places = [
        (instance.id, instance.host, [guest.cell for guest in instance.numa])
        for instance in now.instances
    ]
    places += [(flight.instance, flight.dest, flight.cells) for flight in sim.in_flight]
    for instance, host, on in places:
        members[host].add(instance)
        for cell, guest in zip(on, guests[instance], strict=True):
            for resource, amount in guest.resources.items():
                cells[host, cell, resource] += amount
    for host in now.hosts:
        for cell in host.cells:
            for resource, amount in cell.capacity.items():
                assert cells[host.id, cell.id, resource] <= amount
        for group in now.server_groups:
            if group.policy == "anti-affinity":
                assert len(members[host.id].intersection(group.members)) <= 1


@hypothesis.given(
    strategies.lists(
        strategies.tuples(
            strategies.integers(0, len(SMALL_DEMO.instances) - 1),
            strategies.integers(0, len(SMALL_DEMO.hosts) - 1),
            strategies.floats(0, 10),
        ),
        max_size=40,
    )
)
@hypothesis.settings(max_examples=30)
def test_always_sane(orders):
    """Whatever is asked of the cloud, and whenever, no rule is broken on any host."""
    sim = cloud.SimCloud(SMALL_DEMO)
    for v, h, pause_s in orders:
        instance = sim.snapshot().instances[v]
        try:
            sim.live_migrate(instance.id, instance.host, SMALL_DEMO.hosts[h].id)
        except cloud.RefusedError:
            pass
        assert_sane(sim)
        sim.advance(sim.now_s + pause_s)
        assert_sane(sim)

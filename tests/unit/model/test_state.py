# SPDX-License-Identifier: Apache-2.0
"""The arrays say what the snapshot says, and stay true while instances move."""

import dataclasses
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer.checker import facts
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from tests import clouds


@pytest.mark.parametrize(
    ("inventory", "capacity"),
    [
        (cloud.Inventory(8), 8),
        (cloud.Inventory(8, reserved=2), 6),
        (cloud.Inventory(8, reserved=1, allocation_ratio=1.5), 10),  # 10.5
        (cloud.Inventory(7, allocation_ratio=0.7), 4),  # 4.9
        (cloud.Inventory(8, reserved=8, allocation_ratio=16.0), 0),
        (cloud.Inventory(0), 0),
    ],
)
def test_capacity(inventory: cloud.Inventory, capacity: int) -> None:
    """Capacity is (total - reserved) x ratio, cut to whole units as Placement does."""
    assert inventory.capacity == capacity


@pytest.mark.parametrize(("amount", "fits"), [(1, False), (2, True), (3, False), (6, True), (8, 0)])
def test_units(amount: int, fits: bool) -> None:
    """An amount is at least min_unit, at most max_unit, and whole steps."""
    inventory = cloud.Inventory(100, min_unit=2, max_unit=6, step_size=2)
    assert (inventory.refuses_units(amount) is None) == fits


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 2**32))
def test_ledger_agrees_with_state(made: clouds.Document, seed: int) -> None:
    """After any legal moves the ledger's charges are those of the state it gives back."""
    start = clouds.state_of(made)
    book, placed, rng = ledger.Ledger(start), start, random.Random(seed)
    for _ in range(12):
        if not start.instances:
            break
        v = rng.randrange(len(start.instances))
        hosts = [h for h in range(len(start.hosts)) if book.has_room(v, h)]
        assert book.hosts_with_room(v).tolist() == hosts
        h = rng.randrange(len(start.hosts))
        cells = book.cells_for(v, h)
        if cells is None:
            continue
        assert h in hosts and book.fits(v, h, cells)
        book.move(v, h, cells)
        placed = placed.moved(v, h, cells)
        now = book.placement()
        assert (now.host_of == placed.host_of).all() and (now.cells_of == placed.cells_of).all()
        assert (book.used == now.used()).all()
        assert (book.cell_used == now.cell_used()).all()
        assert (book.topologyless == now.topologyless()).all()
        assert (book.in_group == state.in_groups(now)).all()


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(4, 8))
def test_charges_are_the_checkers(made: clouds.Document) -> None:
    """Every row, cell and group is charged what the independent checker charges it."""
    start = clouds.state_of(made)
    seen = facts.read(clouds.as_bytes(made), "test")
    load = facts.load(seen, seen.placement)
    used, cell_used, members = start.used(), start.cell_used(), state.in_groups(start)
    pools = list(seen.pools)
    for h, name in enumerate(start.hosts):
        host = seen.hosts[name]
        for r, resource in enumerate(start.resources):
            row = int(start.row_of[h, r])
            assert (row == state.NOWHERE) == (resource not in host.rows)
            if row == state.NOWHERE:
                continue
            limit = host.rows[resource]
            owner = name if row < len(start.hosts) else pools[row - len(start.hosts)]
            assert limit == ("host" if row < len(start.hosts) else "pool", owner, resource)
            assert start.capacity[row, r] == facts.capacity(seen, limit)
            assert used[row, r] == load.get(limit, 0)
            for n, cell in enumerate(start.cell_ids[h]):
                if resource in host.cells[cell]:
                    limit = ("cell", name, cell, resource)
                    assert start.cell_capacity[h, n, r] == facts.capacity(seen, limit)
                    assert cell_used[h, n, r] == load.get(limit, 0)
        for k, group in enumerate(start.groups):
            assert members[k, h] == load.get(("group", group.id, name), 0)


def test_moved_is_pure() -> None:
    """A move gives a new state; every array of a state is read-only."""
    start = clouds.state_of(clouds.numa_doubles())
    moved = start.moved(2, 0, (0,))
    assert (start.host_of[2], start.cells_of[2].tolist()) == (1, [1, state.NOWHERE])
    assert (moved.host_of[2], moved.cells_of[2].tolist()) == (0, [0, state.NOWHERE])
    for one in (start, moved):
        for field in dataclasses.fields(one):
            value = getattr(one, field.name)
            if isinstance(value, np.ndarray):
                with pytest.raises(ValueError, match="read-only"):
                    value[...] = 0


def test_pool_is_one_row() -> None:
    """A move inside a pool costs the pool nothing; out of it, it frees its share."""
    start = clouds.state_of(clouds.shared_pool())
    disk = start.resources.index("DISK_GB")
    pool = int(start.row_of[0, disk])
    assert pool == start.row_of[1, disk] == 3 != start.row_of[2, disk]
    assert start.used()[pool, disk] == 10
    assert start.moved(0, 1).used()[pool, disk] == 10
    assert start.moved(0, 2).used()[pool, disk] == 5


def test_pool_without_the_resource() -> None:
    """A host named with a pool that lacks the resource has its own."""
    made = clouds.shared_pool()
    made["pools"][0]["inventories"] = {}
    made["hosts"][0]["inventories"]["DISK_GB"] = {"total": 7}
    start = clouds.state_of(made)
    disk = start.resources.index("DISK_GB")
    assert (start.row_of[0, disk], start.capacity[0, disk]) == (0, 7)
    assert start.row_of[1, disk] == state.NOWHERE


@pytest.mark.parametrize(
    ("source", "dest", "charged"),
    [("a", "b", [6, 6, 4]), ("b", "a", [6, 6, 4]), ("b", "c", [6, 6, 10]), ("a", "a", [6, 0, 4])],
)
def test_running_migration(source: str, dest: str, charged: list[int]) -> None:
    """Instance i (6 cores) on a is charged there and wherever its migration starts or ends."""
    made = clouds.running_migration()
    made["running_migrations"] = [{"instance": "i", "source": source, "dest": dest}] * 2
    start = clouds.state_of(made)
    assert start.used()[:, start.resources.index("VCPU")].tolist() == charged
    assert start.excluded[0].reason.code == "migrating"


@pytest.mark.parametrize(
    ("ends", "charged"),
    [
        ({"source": "a", "dest": "b", "far_allocations": {"VCPU": 2, "CUSTOM_X": 1}}, [6, 2, 4]),
        ({"source": "b", "dest": "a", "far_allocations": {"VCPU": 7}}, [6, 7, 4]),
        ({"source": "a", "dest": "b", "far_allocations": {}}, [6, 0, 4]),
        ({"source": "a", "dest": None}, [6, 0, 4]),
        ({"source": "b", "dest": None}, [6, 6, 4]),
        ({"source": "b", "dest": None, "far_allocations": {"VCPU": 1}}, [6, 1, 4]),
    ],
)
def test_far_allocations(ends: clouds.Document, charged: list[int]) -> None:
    """The known far end of a migration is charged what the snapshot says, i (6 cores) on a whole.

    A resize charges another size there than the instance has; no destination is charged that
    Nova has not chosen; what a host has no inventory of is charged nowhere.
    """
    made = clouds.running_migration()
    made["running_migrations"] = [{"instance": "i", **ends}]
    start = clouds.state_of(made)
    assert start.used()[:, start.resources.index("VCPU")].tolist() == charged
    assert start.excluded[0].reason.code == "migrating"


def test_each_migration_has_its_own_far_allocations() -> None:
    """Of two migrations of i each charges its own far end: 2 cores on b, 3 on c beside j's 4."""
    made = clouds.running_migration()
    made["running_migrations"] = [
        {"instance": "i", "source": "a", "dest": "b", "far_allocations": {"VCPU": 2}},
        {"instance": "i", "source": "a", "dest": "c", "far_allocations": {"VCPU": 3}},
        {"instance": "i", "source": "a", "dest": None, "far_allocations": {"VCPU": 5}},
    ]
    start = clouds.state_of(made)
    assert start.used()[:, start.resources.index("VCPU")].tolist() == [6, 2, 7]


@pytest.mark.parametrize(("far", "charged"), [(3, 10), (5, 10), (7, 12)])
def test_far_end_in_the_same_pool(far: int, charged: int) -> None:
    """A pool behind both ends is charged the larger of the two; i and j take 5 each of it."""
    made = clouds.shared_pool(20)
    made["running_migrations"] = [
        {"instance": "i", "source": "a", "dest": "b", "far_allocations": {"DISK_GB": far}}
    ]
    start = clouds.state_of(made)
    assert start.used()[3, start.resources.index("DISK_GB")] == charged


def test_held() -> None:
    """What Placement holds for others is charged like an instance that never moves.

    On a 3 of 8 cores, from two consumers; on b disk, which comes from the pool; what a host has
    no inventory of is charged nowhere.
    """
    made = clouds.shared_pool(20)
    made["hosts"][0]["held"] = [
        {"consumer": "x", "why": "elsewhere", "resources": {"VCPU": 2, "CUSTOM_X": 1}},
        {"consumer": "y", "why": "migration", "resources": {"VCPU": 1}},
    ]
    made["hosts"][1]["held"] = [{"consumer": "z", "why": "unknown", "resources": {"DISK_GB": 4}}]
    start = clouds.state_of(made)
    cores, disk = start.resources.index("VCPU"), start.resources.index("DISK_GB")
    assert start.base[:, cores].tolist() == [3, 0, 0, 0]
    assert start.base[:, disk].tolist() == [0, 0, 0, 4]
    assert start.used()[:, cores].tolist() == [2 + 3, 6, 2, 0]
    assert start.used()[3, disk] == 10 + 4
    assert (start.moved(0, 2).used()[0, cores], start.base.sum()) == (3, 7)


def test_held_takes_room() -> None:
    """j (2 cores) may go to b, which has 2 free, until something holds one of them."""
    made = clouds.three_hosts()
    assert ledger.Ledger(clouds.state_of(made)).hosts_with_room(1).tolist() == [1, 2]
    made["hosts"][1]["held"] = [{"consumer": "x", "why": "unknown", "resources": {"VCPU": 1}}]
    assert ledger.Ledger(clouds.state_of(made)).hosts_with_room(1).tolist() == [2]


def test_members_outside_occupy_nothing() -> None:
    """A group may have members on no host of the snapshot: they count nowhere."""
    made = clouds.anti_affinity_triple()
    made["outside"] = [{"id": "away", "reason": "host_unknown", "host": "elsewhere"}]
    made["server_groups"][0]["members"] = ["away", "i", "j", "k"]
    start = clouds.state_of(made)
    assert start.groups[0].members == (0, 1, 2)
    assert state.in_groups(start).tolist() == [[1, 1, 1, 0]]
    assert ledger.Ledger(start).hosts_with_room(0).tolist() == [3]


def test_affinity_with_members_outside() -> None:
    """Whoever shares an affinity group with an instance elsewhere stays where it is."""
    made = clouds.three_hosts()
    made["outside"] = [{"id": "away", "reason": "cell_down"}]
    made["server_groups"] = [{"id": "g", "policy": "affinity", "members": ["i", "away"]}]
    start = clouds.state_of(made)
    assert {v: why.reason.code for v, why in start.excluded.items()} == {0: "affinity"}


@pytest.mark.parametrize("provenance", ["unknown", "inferred"])
def test_cells_nobody_vouches_for(provenance: str) -> None:
    """Cells seen from guests only may be a part: none is known, and no topology goes there."""
    made = clouds.numa_doubles()
    made["hosts"][0]["numa"]["provenance"] = provenance
    start = clouds.state_of(made)
    assert (start.cells.tolist(), start.cell_ids) == ([0, 2], ((), (0, 1)))
    # The guests on a may leave; single on b may not come.
    assert [start.allowed[e].tolist() for e in start.eligibility_of] == [[False, True]] * 3
    assert {v: why.reason.code for v, why in start.excluded.items()} == {2: "no_host"}
    assert (start.cells_of[0] == state.NOWHERE).all()
    assert not start.cell_used()[0].any()


def test_a_host_not_read_whole() -> None:
    """Nothing leaves or enters a host of which something is missing, and it is no part of rates.

    What is missing for no host in particular, or for none, excludes nothing here.
    """
    made = clouds.three_hosts()
    made["missing"] = [
        {"what": "metrics", "reason": "timeout", "hosts": []},
        {"what": "topologies", "reason": "refused", "hosts": ["b", "b"]},
        {"what": "ports", "reason": "refused", "hosts": ["b"]},
    ]
    start = clouds.state_of(made)
    why = start.excluded[2].reason
    assert (why.code, why.params["what"]) == ("host_not_usable", "not read whole")
    assert why.text == "its host b is not read whole (topologies)"
    assert list(start.excluded) == [2]
    assert start.usable.tolist() == [True, False, True]
    assert not start.allowed[:, 1].any()


def test_pages_count_in_cells_only() -> None:
    """Pages of one size fill a cell that lists them, and no inventory is asked for them."""
    made = clouds.snapshot(
        [clouds.numa_host("a"), clouds.numa_host("b"), clouds.numa_host("c")],
        [
            clouds.numa_instance("v", "a", {0: 2}),
            clouds.numa_instance("w", "b", {0: 1}),
            clouds.numa_instance("x", "c", {1: 1}),
        ],
    )
    for one in made["instances"]:
        one["numa"][0]["resources"]["HUGEPAGES_2048KB"] = 3
    for cell in made["hosts"][1]["numa"]["cells"]:
        cell["capacity"]["HUGEPAGES_2048KB"] = 5 - 5 * cell["id"]
    start = clouds.state_of(made)
    book = ledger.Ledger(start)
    # b: 3 of 5 pages are taken on cell 0, and cell 1 has none; c does not count them.
    assert (book.cells_for(0, 1), book.cells_for(0, 2)) == (None, (0,))
    assert book.hosts_with_room(0).tolist() == [1, 2]
    assert start.overfull() == []


def test_running_migration_in_a_group() -> None:
    """Where a member is on its way to, another may not go."""
    made = clouds.anti_affinity_triple()
    made["running_migrations"] = [{"instance": "i", "source": "a", "dest": "d"}]
    start = clouds.state_of(made)
    assert state.in_groups(start).tolist() == [[1, 1, 1, 1]]
    assert ledger.Ledger(start).hosts_with_room(1).tolist() == []


def test_overfull_is_told() -> None:
    """A host charged above its capacity is named with resource, charge and capacity."""
    assert clouds.state_of(clouds.overfull()).overfull() == [("a", "VCPU", 10, 8)]
    assert clouds.state_of(clouds.full()).overfull() == []


def test_an_overfull_pool_and_cell_are_told() -> None:
    """A pool is named by a host that draws from it, a cell by its host and number.

    i and j take 10 of the pool's 8; v takes 5 of cell 1's 4 cores, the host still has room.
    """
    pool = clouds.state_of(clouds.shared_pool(8))
    assert pool.overfull() == [("the pool of a", "DISK_GB", 10, 8)]
    made = clouds.snapshot([clouds.numa_host("a")], [clouds.numa_instance("v", "a", {1: 5})])
    assert clouds.state_of(made).overfull() == [("a cell 1", "VCPU", 5, 4)]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"allow_migration": False}, "opted_out"),
        ({"status": "SHUTOFF"}, "status"),
        ({"task_state": "spawning"}, "task_state"),
        ({"locked": True}, "locked"),
        ({"allocations": {}}, "no_allocations"),
        ({"nested": {"gpu": {"VGPU": 1}}}, "nested_resources"),
        ({"nested": {}}, None),
        ({"status": "PAUSED"}, None),
    ],
)
def test_not_migratable(facts: clouds.Document, code: str | None) -> None:
    """What Nova would refuse, or somebody does not want, is left out with the reason."""
    made = clouds.three_hosts()
    made["instances"][0].update(facts)
    start = clouds.state_of(made)
    assert start.movable.tolist() == [code is None, True, True, True]
    assert [why.reason.code for why in start.excluded.values()] == ([] if code is None else [code])


@pytest.mark.parametrize(
    ("facts", "text"),
    [({"status": "disabled"}, "disabled (fan)"), ({"state": "down"}, "down")],
)
def test_host_not_usable(facts: clouds.Document, text: str) -> None:
    """Nothing leaves or enters a host that is disabled or down; why it is disabled is told."""
    made = clouds.three_hosts()
    made["hosts"][1].update(facts, disabled_reason="fan")
    start = clouds.state_of(made)
    assert start.excluded[2].reason.code == "host_not_usable"
    assert start.excluded[2].reason.text == f"its host b is {text}"
    assert not start.allowed[:, 1].any()


def test_affinity_members_stay() -> None:
    """Members of an affinity group do not move, not even one alone: its host is the group's."""
    made = clouds.three_hosts()
    made["server_groups"] = [
        {"id": "g", "policy": "affinity", "members": ["i", "j", "i"]},
        {"id": "alone", "policy": "affinity", "members": ["k", "k"]},
        {"id": "soft", "policy": "soft-affinity", "members": ["k", "m"]},
    ]
    start = clouds.state_of(made)
    assert {v: why.reason.code for v, why in start.excluded.items()} == {
        0: "affinity",
        1: "affinity",
        2: "affinity",
    }


def test_where_an_instance_may_be() -> None:
    """Zone, pinned hosts, inventories and unit sizes each keep instances off hosts."""
    made = clouds.snapshot(
        [
            clouds.host("here", az="east"),
            clouds.host("west", az="west"),
            clouds.host("none"),
            clouds.host("cores", az="east", core="PCPU"),
            clouds.host("east", az="east"),
            clouds.host("steps", az="east"),
        ],
        [
            clouds.instance("any", "here", 3),
            clouds.instance("pinned", "here", 3, allowed_hosts=["east", "west"]),
            clouds.instance("celled", "here", 0, numa=[{"cell": None, "resources": {}}]),
        ],
    )
    made["hosts"][5]["inventories"]["VCPU"]["step_size"] = 2
    start = clouds.state_of(made)
    names = [
        [name for h, name in enumerate(start.hosts) if start.allowed[e, h]]
        for e in start.eligibility_of
    ]
    assert names == [["here", "east"], ["east"], []]


def test_forbidding_takes_in_likes() -> None:
    """What is forbidden to one is forbidden to all that the rules treat alike."""
    start = clouds.state_of(clouds.swap_cycle())
    less = start.forbidding([(0, 2)])
    assert less.allowed[less.eligibility_of[1]].tolist() == [True, True, False]
    assert start.allowed.all()

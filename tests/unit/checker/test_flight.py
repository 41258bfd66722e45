# SPDX-License-Identifier: Apache-2.0
"""What may be in flight together: the minimum cut against every moment there is."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nova_rebalancer.checker import flight
from tests.unit.checker import documents
from tests.unit.checker.documents import verdict


def moments(depends_on):
    """Yield every (confirmed, in flight) that the dependencies allow."""
    every = range(len(depends_on))
    for states in itertools.product("waiting flying done".split(), repeat=len(depends_on)):
        started = [i for i in every if states[i] != "waiting"]
        if all(states[d] == "done" for i in started for d in depends_on[i]):
            yield (
                {i for i in every if states[i] == "done"},
                {i for i in every if states[i] == "flying"},
            )


def fullest(row, depends_on, count):
    """Return the fullest moment with an arrival of the first ``count`` migrations charged."""
    found = None
    for done, flying in moments(depends_on[:count]):
        charged = [row.arrivals[i] for i in row.arrivals if i in done | flying]
        freed = [row.departures[i] for i in row.departures if i in done]
        if charged:
            load = row.load + sum(charged) - sum(freed)
            found = load if found is None else max(found, load)
    return found


@st.composite
def dependency_lists(draw):
    """Up to six migrations; chains are likely, because what is waited for at one remove counts."""
    count = draw(st.integers(1, 6))
    return [
        sorted(draw(st.sets(st.integers(max(0, i - 2), i - 1), max_size=2))) if i else []
        for i in range(count)
    ]


@st.composite
def rows(draw, count, key):
    """Rows that arrivals and departures fill about to the limit; few are far from it."""
    arrivals: dict[int, int] = {}
    departures: dict[int, int] = {}
    for i in range(count):
        side = draw(st.sampled_from([arrivals, departures, {}]))
        side[i] = draw(st.integers(1, 6))
    load = draw(st.integers(0, 12))
    capacity = max(0, load + draw(st.integers(-4, 6)))
    return flight.Row(key, capacity, load, arrivals, departures)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_first_excess_is_the_first_of_all_moments(data):
    """An excess is reported iff some moment is one, at the first migration that allows one."""
    depends_on = data.draw(dependency_lists())
    count = len(depends_on)
    given_rows = [data.draw(rows(count, key)) for key in range(data.draw(st.integers(1, 3)))]
    expected = None
    for length in range(1, count + 1):
        bad = [
            row
            for row in given_rows
            if (load := fullest(row, depends_on, length)) is not None and load > row.capacity
        ]
        if bad:
            expected = (length - 1, bad[0].key)
            break
    found = flight.first_excess(given_rows, depends_on)
    assert (found and (found.position, found.row.key)) == expected
    if found:
        # The witness is a moment, and it is as full as it says.
        assert (set(found.confirmed), set(found.in_flight)) in list(moments(depends_on))
        row = found.row
        present = {*found.confirmed, *found.in_flight}
        assert found.charged > row.capacity
        assert found.charged == row.load + sum(
            amount for i, amount in row.arrivals.items() if i in present
        ) - sum(amount for i, amount in row.departures.items() if i in found.confirmed)
        assert found.position in present


@given(st.data())
def test_blocks_do_not_change_the_answer(data):
    """Tracing a few departures at a time finds what tracing all finds."""
    depends_on = data.draw(dependency_lists())
    given_rows = [data.draw(rows(len(depends_on), key)) for key in range(3)]
    whole, before = flight.first_excess(given_rows, depends_on), flight.BLOCK
    try:
        flight.BLOCK = 1
        assert flight.first_excess(given_rows, depends_on) == whole
    finally:
        flight.BLOCK = before


def test_departures_shared_by_arrivals_count_once():
    """9 of 10 are charged; 3 and 3 come, and both wait for the same 4 to leave.

    9 + 6 - 4 = 11 is too much.  If one of them waits for another 2 as well, both together are
    9 + 6 - 4 - 2 = 9 and the other alone is 9 + 3 - 4 = 8.
    """
    row = flight.Row("r", 10, 9, {2: 3, 3: 3}, {0: 4, 1: 2})
    assert flight.first_excess([row], [[], [], [0], [0, 1]]) is None
    found = flight.first_excess([row], [[], [], [0], [0]])
    assert found is not None and (found.charged, found.in_flight) == (11, [2, 3])


def test_greedy_flow_is_not_the_last_word():
    """Arrival 3 may use up departure 0, which arrival 4 needs, or 1, which it does not.

    10 of 10 are charged.  3 alone: 10 + 4 - 8; 4 alone: 10 + 4 - 5; both: 10 + 8 - 9 = 9.
    """
    row = flight.Row("r", 10, 10, {3: 4, 4: 4}, {0: 4, 1: 4, 2: 1})
    assert flight.first_excess([row], [[], [], [], [0, 1], [0, 2]]) is None


def test_waiting_at_one_remove_counts():
    """Migration 2 waits for 1, which waits for the departure 0 that makes its room."""
    row = flight.Row("r", 4, 4, {2: 4}, {0: 4})
    assert flight.first_excess([row], [[], [0], [1]]) is None
    assert flight.first_excess([row], [[], [], [1]]) is not None


CELLS: dict[str, dict[int, int]] = {"n": {0: 4, 1: 4}, "m": {0: 4, 1: 4}}


@st.composite
def clouds_and_plans(draw):
    """Tiny clouds with pools, cells and groups, some overfull, and chains of hops on them."""
    hosts: list[documents.Document] = []
    for name in ("h", "g", "n", "m"):
        build = documents.numa_host if name in CELLS else documents.host
        hosts.append(build(name, 8 if name in CELLS else draw(st.integers(2, 8))))
        if draw(st.booleans()):
            hosts[-1]["shared"] = {"DISK_GB": "pool"}
    disk = draw(st.integers(0, 8))
    pools = [{"id": "pool", "inventories": {"DISK_GB": {"total": disk}}}]
    for entry in hosts:
        entry["inventories"]["DISK_GB"] = {"total": draw(st.integers(0, 8))}
        held = {"DISK_GB": draw(st.integers(0, 2)), "VCPU": draw(st.integers(0, 2))}
        entry["held"] = [{"consumer": "other", "why": "unknown", "resources": held}]
    instances = []
    for i in range(draw(st.integers(1, 4))):
        guests = draw(st.integers(0, 2))
        at = draw(st.sampled_from(["n", "m"] if guests else ["h", "g", "n", "m"]))
        cells = draw(st.permutations([0, 1]))[:guests]
        cores = draw(st.integers(1, 2)) * 2
        entry = (
            documents.numa_instance(f"i{i}", at, list(cells), cores)
            if guests
            else documents.instance(f"i{i}", at, cores)
        )
        entry["allocations"]["DISK_GB"] = draw(st.integers(0, 4))
        instances.append(entry)
    names = [entry["id"] for entry in instances]
    groups = [
        {
            "id": "apart",
            "policy": "anti-affinity",
            "max_server_per_host": draw(st.integers(1, 2)),
            "members": sorted(draw(st.sets(st.sampled_from(names)))),
        }
    ]
    cloud = documents.snapshot(hosts, instances, pools=pools, server_groups=groups)
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
    drawn = draw(st.lists(pairs, max_size=3))
    cloud["conflicts"] = [[one, other] for one, other in drawn if one != other]
    at_host = {e["id"]: (e["host"], [g["cell"] for g in e.get("numa", [])]) for e in instances}
    last: dict[str, str] = {}
    moves: list[documents.Document] = []
    for i in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(names))
        source, cells = at_host[name]
        choices = [h for h in (["n", "m"] if cells else ["h", "g", "n", "m"]) if h != source]
        dest = draw(st.sampled_from(choices))
        goal = list(draw(st.permutations([0, 1])))[: len(cells)]
        after = (
            draw(st.sets(st.sampled_from([m["id"] for m in moves]), max_size=2)) if moves else set()
        )
        if name in last:
            after.add(last[name])
        move = documents.migration(str(i), name, source, dest, tuple(sorted(after)))
        move |= {"source_numa": cells or None, "dest_numa": goal or None, "wave": i + 1}
        move |= {"start_s": 10 * i, "end_s": 10 * i + 10}
        for earlier in moves:
            if earlier["instance"] == name:
                earlier["role"] = "bypass"
        moves.append(move)
        last[name], at_host[name] = move["id"], (dest, goal)
    return cloud, documents.plan(cloud, moves)


def tables(cloud: documents.Document) -> dict[Any, int]:
    """Every capacity, by a name of it."""
    found: dict[Any, int] = {"pool": cloud["pools"][0]["inventories"]["DISK_GB"]["total"]}
    for entry in cloud["hosts"]:
        for resource, inventory in entry["inventories"].items():
            found[entry["id"], resource] = inventory["total"]
        for cell in (entry.get("numa") or {"cells": []})["cells"]:
            found[entry["id"], cell["id"]] = cell["capacity"]["VCPU"]
        found[entry["id"], "apart"] = cloud["server_groups"][0]["max_server_per_host"]
        for pair in cloud["conflicts"]:
            found[entry["id"], *sorted(pair)] = 1
    return found


def charged_at(cloud, entry, host_name, cells) -> dict[Any, int]:
    """What one instance charges at one place."""
    there = next(h for h in cloud["hosts"] if h["id"] == host_name)
    found: dict[Any, int] = {}
    for resource, amount in entry["allocations"].items():
        shared = resource == "DISK_GB" and "shared" in there
        found["pool" if shared else (host_name, resource)] = amount
    for cell, guest in zip(cells or [], entry.get("numa", []), strict=True):
        found[host_name, cell] = guest["resources"]["VCPU"]
    if entry["id"] in cloud["server_groups"][0]["members"]:
        found[host_name, "apart"] = 1
    for pair in cloud["conflicts"]:
        if entry["id"] in pair:
            found[host_name, *sorted(pair)] = 1
    return {key: amount for key, amount in found.items() if amount}


def held_at(there) -> dict[Any, int]:
    """What others than instances charge at a host, or at the pool behind it."""
    (held,) = there["held"]
    shared = "pool" if "shared" in there else (there["id"], "DISK_GB")
    amounts = held["resources"]
    return {shared: amounts["DISK_GB"], (there["id"], "VCPU"): amounts["VCPU"]}


def some_moment_is_bad(cloud, plan) -> bool:
    """Replay every moment with an instance in flight charged on both hosts.

    A moment is bad if something is charged above capacity that an instance has come to: one
    that was there from the start and never left has not come.
    """
    capacity, moves = tables(cloud), plan["migrations"]
    index = {m["id"]: i for i, m in enumerate(moves)}
    depends_on = [[index[d] for d in m["depends_on"]] for m in moves]
    for done, flying in moments(depends_on):
        load: dict[Any, int] = dict.fromkeys(capacity, 0)
        for there in cloud["hosts"]:
            for key, amount in held_at(there).items():
                load[key] += amount
        arrived = set()
        for entry in cloud["instances"]:
            cells = [guest["cell"] for guest in entry.get("numa", [])]
            charges = charged_at(cloud, entry, entry["host"], cells)
            never_left = set(charges)
            for i, move in enumerate(moves):
                if move["instance"] == entry["id"] and i in done | flying:
                    there = charged_at(cloud, entry, move["dest"], move["dest_numa"])
                    if i in done:
                        charges = there
                        never_left &= there.keys()
                    else:
                        charges = charges | there
            arrived |= charges.keys() - never_left
            for key, amount in charges.items():
                load[key] += amount
        if any(load[key] > capacity[key] for key in arrived):
            return True
    return False


@settings(max_examples=400, deadline=None)
@given(clouds_and_plans())
def test_documents_agree_with_every_moment(case):
    """On tiny clouds the checker finds a full row, cell, group or pair iff some moment has one."""
    cloud, plan = case
    found = verdict(cloud, plan)
    # The plans claim no rates: those that are safe are rejected for that alone, or accepted.
    assert found.ok or found.kind in ("objective", "capacity", "numa", "anti_affinity"), found
    bad = found.kind in ("capacity", "numa", "anti_affinity")
    assert bad == some_moment_is_bad(cloud, plan), found


def test_overfull_host_takes_nothing_until_it_has_room():
    """a is charged 20 of 16: 4 must leave before the first arrives, and 2 more for 2."""
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b", 64)],
        [
            documents.instance("big", "a", 10),
            documents.instance("left", "a", 6),
            documents.instance("right", "a", 4),
            documents.instance("x", "b", 2),
        ],
    )
    away = [
        documents.migration("1", "left", "a", "b"),
        documents.migration("2", "right", "a", "b"),
    ]
    cases: list[tuple[tuple[str, ...], str | None]] = [
        ((), "capacity"),
        (("2",), "capacity"),
        (("1",), None),
        (("1", "2"), None),
    ]
    for after, kind in cases:
        moves = [*away, documents.migration("3", "x", "b", "a", after)]
        # Before: b has 62 free, 14 beyond 16s. After: a 4, b 64 - 10 = 54 free, 6 beyond.
        plan = documents.plan(cloud, moves, 14 / 62, 10 / 58)
        found = verdict(cloud, plan)
        assert found.kind == kind, (after, found)
        if kind:
            assert "(charged in the snapshot: 20)" in found.detail
    # Leaving an overfull host needs no room there.
    assert verdict(cloud, documents.plan(cloud, away[:1], 14 / 62, (2 + 8) / (2 + 56))).kind is None


def test_move_inside_a_full_pool_is_free():
    """The disk stays where it is: no charge in flight, none freed; from outside it counts."""
    hosts = [documents.host("a", shared={"DISK_GB": "p"}), documents.host("b")]
    hosts.append(documents.host("c", shared={"DISK_GB": "p"}))
    hosts[1]["inventories"]["DISK_GB"] = {"total": 100}
    cloud = documents.snapshot(
        hosts,
        [documents.instance("x", "a"), documents.instance("y", "b")],
        pools=[{"id": "p", "inventories": {"DISK_GB": {"total": 7}}}],
    )
    for entry in cloud["instances"]:
        entry["allocations"]["DISK_GB"] = 5
    inside = documents.migration("1", "x", "a", "c")
    assert verdict(cloud, documents.plan(cloud, [inside], 24 / 40, 24 / 40)).ok
    # y waits for x to leave a, which frees nothing in the pool.
    outside = documents.migration("2", "y", "b", "a", ("1",))
    found = verdict(cloud, documents.plan(cloud, [inside, outside]))
    assert (found.kind, found.migration) == ("capacity", "2")
    assert 'shared pool "p" DISK_GB would be charged 10 of 7' in found.detail


def test_double_numa_instance_needs_both_cells():
    """Guest cells of 4 fit in 8 beside 4, and not beside 6 on one of the two."""
    for taken, kind in ((4, None), (6, "numa")):
        there = documents.numa_host("b")
        there["inventories"]["VCPU"]["total"] = 64
        cloud = documents.snapshot(
            [documents.numa_host("a"), there],
            [
                documents.numa_instance("x", "a", [0, 1], 8),
                documents.numa_instance("y", "b", [1], taken),
            ],
        )
        moves = [documents.migration("1", "x", "a", "b", source_numa=[0, 1], dest_numa=[0, 1])]
        # No cell ever has 16 free, so every free core is a fragment.
        found = verdict(cloud, documents.plan(cloud, moves, 1.0, 1.0))
        assert found.kind == kind, found


def test_group_counts_on_both_hosts_in_flight():
    """x -> b and y -> a swap group mates: whoever moves first meets the other."""
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b"), documents.host("c")],
        [documents.instance("x", "a"), documents.instance("y", "b")],
        server_groups=[{"id": "g", "policy": "anti-affinity", "members": ["x", "y"]}],
    )
    swap = [documents.migration("1", "x", "a", "b"), documents.migration("2", "y", "b", "a")]
    assert verdict(cloud, documents.plan(cloud, swap)).kind == "anti_affinity"
    # By way of c: y -> a must wait until x has left a, and x -> b until y has left b.
    rate = 24 / 40
    detour = [
        documents.migration("1", "x", "a", "c", role="bypass"),
        documents.migration("2", "y", "b", "a", ("1",)),
        documents.migration("3", "x", "c", "b", ("1", "2")),
    ]
    plan = documents.plan(cloud, detour, rate, rate)
    assert verdict(cloud, plan).ok
    plan["migrations"][2]["depends_on"] = ["1"]
    found = verdict(cloud, plan)
    assert (found.kind, found.migration) == ("anti_affinity", "3")


def test_coming_back_counts():
    """x leaves a, y takes its room, and x finds no room when it comes back."""
    cloud = documents.snapshot(
        [documents.host("a", 4), documents.host("b"), documents.host("c")],
        [documents.instance("x", "a"), documents.instance("y", "c")],
    )
    moves = [
        documents.migration("1", "x", "a", "b", role="bypass"),
        documents.migration("2", "y", "c", "a", ("1",), role="bypass"),
        documents.migration("3", "x", "b", "a", ("1",)),
        documents.migration("4", "y", "a", "c", ("1", "2"), start_s=20, end_s=30, wave=3),
    ]
    found = verdict(cloud, documents.plan(cloud, moves))
    assert (found.kind, found.migration) == ("capacity", "3")
    moves[2] |= {"depends_on": ["1", "4"], "wave": 4, "start_s": 30, "end_s": 40}
    moves[2:] = [moves[3], moves[2]]
    assert verdict(cloud, documents.plan(cloud, moves, 28 / 28 - 16 / 28, 12 / 28)).ok

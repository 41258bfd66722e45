# SPDX-License-Identifier: Apache-2.0
"""From a target to a path: every order its dependencies allow is sane, nothing is forgotten."""

import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer import checker
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.path import base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory
from tests import clouds
from tests.unit.path import documents

MANY = base.Limits(10**7)


def random_target(start: state.PlacementState, seed: int) -> state.PlacementState:
    """Send instances anywhere: to hosts that are full, forbidden, or by way of a cycle."""
    rng = random.Random(seed)
    placed = start
    for v in range(len(start.instances)):
        h = rng.randrange(len(start.hosts))
        cells = ledger.choices(int(start.guests_of[v]), int(start.cells[h]))
        if cells and h != start.host_of[v] and rng.random() < 0.7:
            placed = placed.moved(v, h, rng.choice(cells))
    return placed


def swapped(start: state.PlacementState, *order: str) -> state.PlacementState:
    """Send each of ``order`` to where the next one is, the last to where the first is."""
    placed = start
    for name, other in zip(order, (*order[1:], order[0]), strict=True):
        v, u = start.instances.index(name), start.instances.index(other)
        placed = placed.moved(v, int(start.host_of[u]))
    return placed


def find(
    start: state.PlacementState, target: state.PlacementState, limits: base.Limits = MANY
) -> path.MigrationPath:
    """The path to ``target``."""
    return finder.find(start, target.host_of, target.cells_of, memory.Memory(), limits)


def role_of(start: state.PlacementState, found: path.MigrationPath) -> list[tuple[str, str, str]]:
    """Instance, destination and role of each migration."""
    return [
        (start.instances[m.hop.v], start.hosts[m.hop.dest], m.hop.role) for m in found.migrations
    ]


@hypothesis.settings(max_examples=200)
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 2**32), st.integers(0, 9))
def test_path(made: clouds.Document, seed: int, most: int) -> None:
    """The checker accepts any path; what is not reached is named and the rest is where it belongs.

    The checker tries every set of confirmed and in-flight migrations that the dependencies allow.
    """
    start = clouds.state_of(made)
    target = random_target(start, seed)
    found = find(start, target, base.Limits(most))
    reached = found.replay(start)
    assert len(found.migrations) <= most
    asked = np.nonzero(target.host_of != start.host_of)[0]
    for v in asked:
        there = (
            reached.host_of[v] == target.host_of[v]
            and (reached.cells_of[v] == target.cells_of[v]).all()
        )
        assert there != (v in found.unreachable), start.instances[v]
    for v in np.setdiff1d(np.arange(len(start.instances)), asked):
        home = reached.host_of[v] == start.host_of[v]
        assert home != (v in found.unreachable)
        if home:
            assert (reached.cells_of[v] == start.cells_of[v]).all()
    for k, migration in enumerate(found.migrations):
        assert all(j < k for j in migration.depends_on)
        assert all(found.migrations[j].wave < migration.wave for j in migration.depends_on)
    document = documents.plan(made, start, found)
    verdict = checker.check(clouds.as_bytes(made), document)
    assert verdict.ok, verdict


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 2**32))
def test_interleavings(made: clouds.Document, seed: int) -> None:
    """Started at random as their dependencies allow, and ended at random, all migrations fit.

    Both hosts are charged from the start of a migration to its end.
    """
    start = clouds.state_of(made)
    found = find(start, random_target(start, seed)).migrations
    rng = random.Random(seed)
    used, cell_used = start.used(), start.cell_used()
    members = state.in_groups(start)
    there = {(v, int(h)) for v, h in enumerate(start.host_of)}
    confirmed: set[int] = set()
    flying: set[int] = set()

    def charge(hop: path.Hop, sign: int, h: int, cells: tuple[int, ...], other: int) -> None:
        for r in np.nonzero(start.demand[hop.v])[0]:
            row = start.row_of[h, r]
            if row not in (state.NOWHERE, start.row_of[other, r]):
                used[row, r] += sign * start.demand[hop.v, r]
                assert sign < 0 or used[row, r] <= start.capacity[row, r]
        for g, n in enumerate(cells):
            if n != state.NOWHERE:
                cell_used[h, n] += sign * start.guest[hop.v, g]
                took = start.guest[hop.v, g] > 0
                assert sign < 0 or (cell_used[h, n] <= start.cell_capacity[h, n])[took].all()
        for k, group in enumerate(start.groups):
            if hop.v in group.members:
                members[k, h] += sign
                assert sign < 0 or members[k, h] <= group.limit
        if sign > 0:
            assert not any((u, h) in there for u in start.conflicts.of(hop.v).tolist())
            there.add((hop.v, h))
        else:
            there.remove((hop.v, h))

    while len(confirmed) < len(found):
        ready = [
            k
            for k, migration in enumerate(found)
            if k not in confirmed | flying and confirmed.issuperset(migration.depends_on)
        ]
        if ready and (not flying or rng.random() < 0.6):
            k = rng.choice(ready)
            hop = found[k].hop
            charge(hop, 1, hop.dest, hop.dest_cells, hop.source)
            flying.add(k)
        else:
            k = rng.choice(sorted(flying))
            hop = found[k].hop
            charge(hop, -1, hop.source, hop.source_cells, hop.dest)
            flying.remove(k)
            confirmed.add(k)


def test_bypass_breaks_a_swap() -> None:
    """i and j each fill their host: one waits on c, at a price of one migration more.

    i goes first to c (it is the cheapest and first of two equal ones), then j, then i.
    """
    start = clouds.state_of(clouds.swap_cycle())
    found = find(start, swapped(start, "i", "j"))
    assert found.unreachable == {}
    assert sorted(role for _, _, role in role_of(start, found)) == ["bypass", "direct", "direct"]
    first, second, third = role_of(start, found)
    assert first[1:] == ("c", "bypass")
    assert second[0] != first[0] == third[0]
    assert [m.depends_on for m in found.migrations] == [(), (0,), (1,)]
    assert [m.wave for m in found.migrations] == [1, 2, 3]


def test_no_path_without_room() -> None:
    """Without room on c nobody can step aside: no migrations, and both are named."""
    start = clouds.state_of(clouds.swap_cycle(spare=7))
    found = find(start, swapped(start, "i", "j"))
    assert found.migrations == ()
    assert [found.unreachable[v].code for v in (0, 1)] == ["no_path", "no_path"]


def test_others_stand() -> None:
    """What has nothing to do with an impossible swap is carried out all the same."""
    made = clouds.swap_cycle(spare=7)
    made["instances"].append(clouds.instance("k", "c", 2))
    made["hosts"].append(clouds.host("d", 2))
    start = clouds.state_of(made)
    found = find(start, swapped(start, "i", "j").moved(2, 3))
    assert role_of(start, found) == [("k", "d", "direct")]
    assert sorted(found.unreachable) == [0, 1]


def test_limit_counts_bypasses() -> None:
    """A swap by way of c takes three migrations; with a limit of two it is left out and named."""
    start = clouds.state_of(clouds.swap_cycle())
    found = find(start, swapped(start, "i", "j"), base.Limits(2))
    assert len(found.migrations) <= 2
    assert set(found.unreachable) & {0, 1}
    assert find(start, swapped(start, "i", "j"), base.Limits(0)).migrations == ()


def test_one_that_stays_steps_aside_and_returns() -> None:
    """i and j change places; k, which stays on b, waits on c, where only k fits, and returns.

    i (4 cores) needs 4 on b, of which 2 are free and k has 2; j (4) needs 4 on a, of which 2 are
    free until i has left.
    """
    start = clouds.state_of(
        clouds.snapshot(
            [clouds.host("a"), clouds.host("b"), clouds.host("c", 2)],
            [
                clouds.instance("i", "a", 4),
                clouds.instance("fixed", "a", 2, locked=True),
                clouds.instance("j", "b", 4),
                clouds.instance("k", "b", 2),
            ],
        )
    )
    found = find(start, swapped(start, "i", "j"))
    assert found.unreachable == {}
    assert role_of(start, found) == [
        ("k", "c", "bypass"),
        ("i", "b", "direct"),
        ("j", "a", "direct"),
        ("k", "b", "direct"),
    ]


def test_stopped() -> None:
    """A search that is told to stop still gives the moves that need no search."""
    start = clouds.state_of(clouds.swap_cycle())
    found = find(start, swapped(start, "i", "j"), base.Limits(9, stopped=lambda: True))
    assert found.migrations == ()
    assert len(found.unreachable) == 2


def test_refused() -> None:
    """What must not move, or must not be there, is named with that reason."""
    made = clouds.three_hosts()
    made["instances"][0]["locked"] = True
    made["instances"][1]["allowed_hosts"] = ["a", "b"]
    start = clouds.state_of(made)
    found = find(start, start.moved(0, 2).moved(1, 2))
    assert found.migrations == ()
    assert [found.unreachable[v].code for v in (0, 1)] == ["locked", "not_allowed"]


@pytest.mark.parametrize("name", ["outgoing", "incoming"])
def test_limits_of_a_host(name: str) -> None:
    """A host that may do none at a time is refused at once."""
    with pytest.raises(ValueError, match=name):
        base.Limits(1, **{name: 0})


def test_schedule() -> None:
    """Two instances of 1 GiB leave one host: 2.024 s each at 1000 MiB/s, one after the other.

    With two outgoing migrations at a time to two hosts they run side by side.
    """
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b"), clouds.host("c")],
        [clouds.instance("i", "a", 2), clouds.instance("j", "a", 2)],
    )
    start = clouds.state_of(made)
    target = start.moved(0, 1).moved(1, 2)
    assert [(m.start_s, m.end_s) for m in find(start, target).migrations] == [
        (0.0, 2.024),
        (2.024, 4.048),
    ]
    beside = find(start, target, base.Limits(9, outgoing=2))
    assert [(m.start_s, m.end_s) for m in beside.migrations] == [(0.0, 2.024)] * 2
    assert beside.makespan_s == 2.024

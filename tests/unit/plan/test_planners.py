# SPDX-License-Identifier: Apache-2.0
"""What every planner promises, and what the exact one proves."""

import dataclasses
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import aim
from nova_rebalancer.plan import base
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import mip
from nova_rebalancer.plan import search
from nova_rebalancer.plan import solver
from tests import clouds
from tests.unit.plan import brute

GOAL = fragmentation.Fragmentation(clouds.CORES)

GOALS = st.sampled_from(
    [GOAL, fragmentation.Fragmentation(clouds.CORES, 2), fragmentation.Fragmentation(6, 3)]
)
"""The fragment rate of one size, and of several."""

WORK = 0.05
"""Enough for a proof on nearly all of these clouds, and few steps of the search."""


def planned(
    planner: base.Planner,
    made: clouds.Document,
    moves: int,
    work: float | None = WORK,
    goal: fragmentation.Fragmentation = GOAL,
    max_mib: int | None = None,
) -> target.Target:
    """What ``planner`` answers for the snapshot ``made``."""
    budget = base.Budget(moves, work=work, max_mib=max_mib)
    return planner(clouds.state_of(made), goal, budget, 0, base.Watch())


def check(
    made: clouds.Document,
    start: state.PlacementState,
    found: target.Target,
    moves: int,
    goal: fragmentation.Fragmentation = GOAL,
) -> None:
    """Every promise about a target."""
    cloud = brute.read(clouds.as_bytes(made))
    reached = start.placed(found.host_of, found.cells_of)
    moved = np.nonzero(found.host_of != start.host_of)[0]
    assert len(moved) <= moves
    assert start.movable[moved].all()
    stayed = np.setdiff1d(np.arange(len(start.instances)), moved)
    assert (found.cells_of[stayed] == start.cells_of[stayed]).all()
    where = brute.placement(cloud, reached)
    assert brute.broken(cloud, where) == []
    assert found.value.value == pytest.approx(brute.rate(cloud, where, *goal.cores), abs=1e-12)
    assert found.value == goal.evaluate(reached)
    assert found.value.value <= goal.evaluate(start).value
    if found.bound is not None:
        assert 0 <= found.bound <= found.value.value
    proven = found.bound is not None and found.value.value - found.bound <= target.TOLERANCE
    assert proven == (found.status == target.OPTIMAL)
    assert proven or found.status == target.FEASIBLE


@pytest.mark.parametrize("planner", [greedy.plan, mip.plan, search.plan])
def test_promises(planner: base.Planner) -> None:
    """A target is never worse, breaks no rule, moves only what may move, and at most so many."""

    @hypothesis.settings(max_examples=20 if planner is search.plan else 150)
    @hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 8), GOALS)
    def law(made: clouds.Document, moves: int, goal: fragmentation.Fragmentation) -> None:
        found = planned(planner, made, moves, 0.01 if planner is search.plan else WORK, goal)
        check(made, clouds.state_of(made), found, moves, goal)

    law()


@hypothesis.settings(max_examples=60)
@hypothesis.given(clouds.snapshots(3, 4), st.integers(0, 4), st.integers(0, 4), GOALS)
def test_budget_of_memory(
    made: clouds.Document, moves: int, mib: int, goal: fragmentation.Fragmentation
) -> None:
    """What is proven is the best of all placements whose migrations copy no more than that."""
    start, cloud = clouds.state_of(made), brute.read(clouds.as_bytes(made))
    found = planned(mip.plan, made, moves, None, goal, mib)
    memory = {name: one.allocations.get("MEMORY_MB", 0) for name, one in cloud.instances.items()}

    def copied(where: brute.Placement) -> int:
        return sum(memory[v] for v in where if where[v].host != cloud.placement[v].host)

    reached = start.placed(found.host_of, found.cells_of)
    assert copied(brute.placement(cloud, reached)) <= mib
    rates = [
        brute.rate(cloud, where, *goal.cores)
        for where in brute.placements(cloud, moves)
        if copied(where) <= mib
    ]
    assert found.bound <= min(rates) + 1e-9
    assert found.status == target.OPTIMAL
    assert found.value.value == pytest.approx(min(rates), abs=1e-9)


@hypothesis.settings(max_examples=60)
@hypothesis.given(clouds.snapshots(6, 14), st.integers(0, 2**32))
@hypothesis.example(clouds.Draw(404, 6, 14).document(), 404)
@hypothesis.example(clouds.Draw(1296, 6, 14).document(), 1296)
@hypothesis.example(clouds.Draw(1328, 6, 14).document(), 1328)
def test_step_of_the_search(made: clouds.Document, seed: int) -> None:
    """What a step keeps fixed stays legal beside what it changes, whichever hosts are open.

    The examples are ones where an instance that comes back would meet another in its old place.
    """
    start = clouds.state_of(made)
    first = planned(greedy.plan, made, 6)
    meter = solver.Meter(base.Budget(6), 0, base.Watch())
    rng = np.random.default_rng(seed)
    for _ in range(3):
        hosts = (rng.random(len(start.hosts)) < 0.5) & ~search._overfull(start)
        found, _ = search._step(start, aim.Aim(start, GOAL), first, hosts, meter, 0.1)
        if found is not None:
            check(made, start, dataclasses.replace(found, bound=None), 6)


@hypothesis.settings(max_examples=60)
@hypothesis.given(clouds.snapshots(3, 4), st.integers(1, 4))
def test_last_step_of_the_search(made: clouds.Document, moves: int) -> None:
    """A step that opened everything, and was solved to the end, leaves nothing to find."""
    start = clouds.state_of(made)
    first = planned(greedy.plan, made, moves)
    meter = solver.Meter(base.Budget(moves), 0, base.Watch())
    hosts = ~search._overfull(start)
    found, last = search._step(start, aim.Aim(start, GOAL), first, hosts, meter, 1.0)
    # Where moves change the free cores a step looks at the slots alone.
    if last and flow.FlowModel(start, (clouds.CORES,), base.Limit(moves)).free_is_constant():
        best = brute.best(brute.read(clouds.as_bytes(made)), moves, clouds.CORES)
        assert found.value.value == pytest.approx(best, abs=1e-9)


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(3, 4), st.integers(0, 4), GOALS)
def test_exact(made: clouds.Document, moves: int, goal: fragmentation.Fragmentation) -> None:
    """No placement within the limit is below the exact planner's bound; a proof is the optimum."""
    cloud = brute.read(clouds.as_bytes(made))
    optimum = brute.best(cloud, moves, *goal.cores)
    found = planned(mip.plan, made, moves, None, goal)
    assert found.bound <= optimum + 1e-9 <= found.value.value + 2e-9
    assert found.status == target.OPTIMAL
    assert found.value.value == pytest.approx(optimum, abs=1e-9)


@pytest.mark.parametrize("work", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("make", [clouds.exchange, clouds.overfull, clouds.numa_doubles])
def test_no_proof_without_work(make, work: float) -> None:
    """A solver stopped before it has a bound proves nothing: the bound is then still true."""
    made = make()
    cloud = brute.read(clouds.as_bytes(made))
    found = planned(mip.plan, made, 3, work=work)
    assert found.bound <= brute.best(cloud, 3, clouds.CORES) + 1e-9
    check(made, clouds.state_of(made), found, 3)


def test_pace() -> None:
    """Who sleeps gets little of a processor; over an instant nothing is measured."""
    pace = base.Pace()
    assert pace.share() == 1.0
    time.sleep(1.5 * base.Pace.LEAST_S)
    assert pace.share() < 0.5


def test_optimum_by_hand() -> None:
    """Free 2, 2, 4 (rate 4 / 8) becomes 4, 0, 4 (rate 0) with one move, of j from a to b."""
    found = planned(mip.plan, clouds.three_hosts(), 50)
    assert (found.value.value, found.bound, found.status) == (0.0, 0.0, target.OPTIMAL)
    assert found.host_of.tolist() == [0, 1, 1, 2]


def test_free_cores_vanish() -> None:
    """The optimum may be that nothing is free, which counts as 0.

    Host a is charged 6 of 4 cores, b has 2 free: moving 2 fills both, and 2 / 2 becomes 0.
    """
    made = clouds.snapshot(
        [clouds.host("a", 4), clouds.host("b", 2)],
        [clouds.instance("i", "a", 4), clouds.instance("j", "a", 2)],
    )
    found = planned(mip.plan, made, 1)
    assert GOAL.evaluate(clouds.state_of(made)).value == 1.0
    assert (found.value.value, found.bound, found.status) == (0.0, 0.0, target.OPTIMAL)


def test_other_cells_by_way_of_its_like() -> None:
    """Two alike may change hosts so that one cell of a host empties and the other fills.

    a has 4 + 4 cores with i (2) on cell 0 beside 2 that are fixed on cell 1, so 2 + 2 are free;
    b is full but for the 2 of j, like i.  j goes to cell 1 of a, i to where j was: 4 + 0.
    """
    made = clouds.snapshot(
        [clouds.numa_host("a"), clouds.numa_host("b")],
        [
            clouds.numa_instance("i", "a", {0: 2}),
            clouds.numa_instance("fixed", "a", {1: 2}, locked=True),
            clouds.numa_instance("j", "b", {0: 2}),
            clouds.numa_instance("rest", "b", {0: 2}, locked=True),
            clouds.numa_instance("more", "b", {1: 4}, locked=True),
        ],
    )
    found = planned(mip.plan, made, 2)
    check(made, clouds.state_of(made), found, 2)
    assert (found.value.value, found.status) == (0.0, target.OPTIMAL)
    assert found.host_of.tolist() == [1, 0, 0, 1, 1]
    assert planned(mip.plan, made, 1).value.value == 1.0


def test_overfull_pool_exchanges() -> None:
    """Inside a pool that is overfull an instance still moves: it costs the pool nothing.

    i (2 cores) leaves a for b, or j b for a: free 6, 2 become 8, 0.  Nothing goes from c into the
    pool, and nothing fits c.
    """
    made = clouds.shared_pool(total=1)
    made["hosts"][2]["inventories"]["DISK_GB"]["total"] = 1
    found = planned(mip.plan, made, 1)
    check(made, clouds.state_of(made), found, 1)
    cloud = brute.read(clouds.as_bytes(made))
    assert found.value.value == brute.best(cloud, 1, clouds.CORES)
    assert found.host_of.tolist() in ([1, 1, 2], [0, 0, 2])


def test_interrupted_at_once() -> None:
    """A watch that wants an end gets the start or better, with a true bound."""

    class Now(base.Watch):
        def stopped(self) -> bool:
            return True

    start = clouds.state_of(clouds.three_hosts())
    for planner in (greedy.plan, search.plan, mip.plan):
        found = planner(start, GOAL, base.Budget(9, work=1.0), 0, Now())
        assert found.status in (target.INTERRUPTED, target.OPTIMAL)
        assert found.value.value <= GOAL.evaluate(start).value
        assert not found.bound


def test_other_goals_are_refused() -> None:
    """A planner says that it does not know a goal."""
    start = clouds.state_of(clouds.empty())
    for planner in (greedy.plan, search.plan, mip.plan):
        with pytest.raises(exceptions.UsageError, match="calm"):
            planner(start, type("Other", (), {"name": "calm"})(), base.Budget(1), 0, base.Watch())


def test_numbers_too_large_for_the_solver() -> None:
    """Amounts that no cloud has prove nothing false and end in no error."""
    made = clouds.overfull()
    for one in made["hosts"]:
        one["inventories"]["VCPU"].update(total=10**12, allocation_ratio=100000.0)
    made["instances"][0]["allocations"]["VCPU"] = 10**12 - 1
    made["instances"].append(clouds.instance("plain", "b", 3))
    found = planned(mip.plan, made, 2)
    check(made, clouds.state_of(made), found, 2)
    cloud = brute.read(clouds.as_bytes(made))
    assert found.bound <= brute.best(cloud, 2, clouds.CORES) + 1e-9


@hypothesis.settings(max_examples=40)
@hypothesis.given(clouds.snapshots(3, 5), st.integers(0, 3))
def test_more_migrations_are_never_worse(made: clouds.Document, moves: int) -> None:
    """The proven optimum falls, or stays, as the limit grows."""
    found = [planned(mip.plan, made, limit, work=None) for limit in (moves, moves + 1)]
    assert [one.status for one in found] == [target.OPTIMAL] * 2
    assert found[1].value.value <= found[0].value.value + target.TOLERANCE


def renamed(made: clouds.Document, seed: int) -> clouds.Document:
    """The cloud with other names for hosts and instances, each in another order."""
    rng = np.random.default_rng(seed)
    entries = [*made["hosts"], *made["instances"]]
    names = {
        entry["id"]: f"n{number}"
        for entry, number in zip(entries, rng.permutation(len(entries)).tolist(), strict=True)
    }

    def changed(value):
        if isinstance(value, dict):
            return {key: changed(part) for key, part in value.items()}
        if isinstance(value, list):
            return [changed(part) for part in value]
        return names.get(value, value) if isinstance(value, str) else value

    new = changed(made)
    for key in ("hosts", "instances"):
        new[key] = [new[key][k] for k in rng.permutation(len(new[key])).tolist()]
    return new


@hypothesis.settings(max_examples=40)
@hypothesis.given(clouds.snapshots(3, 5), st.integers(0, 3), st.integers(0, 2**32))
def test_names_do_not_matter(made: clouds.Document, moves: int, seed: int) -> None:
    """Other names and another order of hosts and instances lead to the same optimum."""
    found = planned(mip.plan, made, moves, work=None)
    other = planned(mip.plan, renamed(made, seed), moves, work=None)
    assert other.status == found.status == target.OPTIMAL
    assert other.value.value == pytest.approx(found.value.value, abs=1e-12)
    assert other.bound == pytest.approx(found.bound, abs=1e-9)

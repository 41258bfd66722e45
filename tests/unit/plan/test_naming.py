# SPDX-License-Identifier: Apache-2.0
"""Placements by pattern that keep conflicts: who of those that are alike goes where."""

import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import mip
from nova_rebalancer.plan import naming
from nova_rebalancer.plan import patterns
from nova_rebalancer.plan import solver
from tests import clouds
from tests.unit.plan import brute
from tests.unit.plan import test_patterns


def placed(
    made: clouds.Document, moves: int, watch: base.Watch | None = None
) -> tuple[patterns.Bound, state.PlacementState | None]:
    """The bound that ignores conflicts, and the placement that keeps them."""
    start = clouds.state_of(made)
    given = exchange.cloud(start, (clouds.CORES,))
    assert given is not None
    market = exchange.Market(given)
    meter = solver.Meter(base.Budget(moves), 0, base.Watch())
    most = patterns.bound(market, base.Limit(moves), meter)
    meter = solver.Meter(base.Budget(moves), 0, watch or base.Watch())
    return most, naming.place(start, market, most, base.Limit(moves), meter)


@hypothesis.settings(max_examples=30)
@hypothesis.given(test_patterns.plain_clouds(), st.integers(1, 4), st.integers(0, 2**32))
def test_placement(made: clouds.Document, moves: int, seed: int) -> None:
    """What is found breaks no rule and wins slots, at most as many as the best placement does."""
    names = [one["id"] for one in made["instances"]]
    hypothesis.assume(len(names) > 1)
    rng = random.Random(seed)
    made["conflicts"] = [rng.sample(names, 2) for _ in range(rng.randint(1, 12))]
    start = clouds.state_of(made)
    hypothesis.assume(exchange.cloud(start, (clouds.CORES,)) is not None)
    most, found = placed(made, moves)
    cloud = brute.read(clouds.as_bytes(made))
    now = test_patterns.slots(start)
    best = round(
        test_patterns.free(start) * (1 - brute.best(cloud, moves, clouds.CORES)) / clouds.CORES
    )
    assert best <= now + most.whole()
    if found is not None:
        assert now < test_patterns.slots(found) <= best
        assert brute.broken(cloud, brute.placement(cloud, found)) == []
        assert (found.host_of != start.host_of).sum() <= moves


def twins(*conflicts: list[str]) -> clouds.Document:
    """Free are 2 (a), 2 (b) and 0 (c, full); i or j of a on b would make 4 and 0.

    i and j are alike, each of 2 cores; k and m are on b and c.
    """
    return clouds.snapshot(
        [clouds.host("a"), clouds.host("b"), clouds.host("c")],
        [
            clouds.instance("i", "a", 2),
            clouds.instance("j", "a", 2),
            clouds.instance("rest", "a", 2, locked=True),
            clouds.instance("k", "b", 6),
            clouds.instance("m", "c", 8),
        ],
        conflicts=list(conflicts),
    )


@pytest.mark.parametrize(("other", "goes"), [("i", "j"), ("j", "i")])
def test_the_other_twin_goes(other: str, goes: str) -> None:
    """Of two alike the one goes that does not conflict with who is there: the bound is reached."""
    made = twins([other, "k"])
    start = clouds.state_of(made)
    most, found = placed(made, 1)
    assert most.whole() == 1
    assert found is not None
    (moved,) = np.nonzero(found.host_of != start.host_of)[0]
    assert (start.instances[moved], found.host_of[moved]) == (goes, 1)


def test_nobody_may_go() -> None:
    """The bound ignores conflicts, so it may be out of reach; the flow model proves the rest."""
    made = twins(["i", "k"], ["k", "j"])
    most, found = placed(made, 1)
    assert (most.whole(), found) == (1, None)
    start = clouds.state_of(made)
    goal = test_patterns.GOAL
    planned = mip.plan(start, goal, base.Budget(1), 0, base.Watch())
    assert planned.status == target.OPTIMAL
    assert planned.value == goal.evaluate(start)
    assert planned.bound == planned.value.value


def test_who_leaves_makes_room() -> None:
    """i may enter b because the one it conflicts with, n, leaves b for a.

    Free are 2 of 8 on a (i has 4) and 2 of 8 on b (n has 2): afterwards 4 and 0.
    """
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [
            clouds.instance("i", "a", 4),
            clouds.instance("rest", "a", 2, locked=True),
            clouds.instance("n", "b", 2),
            clouds.instance("more", "b", 4, locked=True),
        ],
        conflicts=[["n", "i"]],
    )
    _, found = placed(made, 2)
    assert found is not None
    assert found.host_of.tolist() == [1, 0, 0, 1]


def test_stopped() -> None:
    """A watch that wants an end gets one before anything is built."""

    class Now(base.Watch):
        def stopped(self) -> bool:
            return True

    assert placed(twins(), 1, Now())[1] is None

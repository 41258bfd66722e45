# SPDX-License-Identifier: Apache-2.0
"""Annealing: what it finds is sane, within the limits, and better than single steps."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import anneal
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import solver
from tests import clouds
from tests.unit.plan import brute
from tests.unit.plan import test_patterns

GOAL = fragmentation.Fragmentation(clouds.CORES, 2)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clouds are small."""
    monkeypatch.setattr(anneal, "STEPS", 3000)


def annealed(made: clouds.Document, budget: base.Budget) -> target.Target:
    """What annealing makes of a cloud."""
    start = clouds.state_of(made)
    first = greedy.plan(start, GOAL, budget, 0, base.Watch())
    return anneal.improve(start, GOAL, first, 10**9, solver.Meter(budget, 0, base.Watch()))


def test_sane_within_limits() -> None:
    """No rule is broken, no limit exceeded, nothing is worse, and a seed repeats itself."""

    @hypothesis.settings(max_examples=100)
    @hypothesis.given(
        st.one_of(test_patterns.plain_clouds(), clouds.snapshots(4, 8)),
        st.integers(0, 4),
        st.integers(0, 4),
    )
    def law(made: clouds.Document, moves: int, gib: int) -> None:
        start, cloud = clouds.state_of(made), brute.read(clouds.as_bytes(made))
        hypothesis.assume(exchange.cloud(start, GOAL.cores) is not None)
        budget = base.Budget(moves, max_mib=1024 * gib)
        found = annealed(made, budget)
        moved = found.host_of != start.host_of
        reached = start.placed(found.host_of, found.cells_of)
        assert moved.sum() <= moves
        assert base.memories(start)[moved].sum() <= 1024 * gib
        assert brute.broken(cloud, brute.placement(cloud, reached)) == []
        assert found.value == GOAL.evaluate(reached)
        assert found.value.value <= GOAL.evaluate(start).value
        assert np.array_equal(found.host_of, annealed(made, budget).host_of)

    law()


@pytest.mark.parametrize("price", [anneal.PRICE, 0.6])
def test_a_swap(price: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A free core on each of two hosts: an instance of 3 changes places with one of 2.

    The price of a move steers the walk; what is found counts by its rate alone.
    """
    monkeypatch.setattr(anneal, "PRICE", price)
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [
            clouds.instance("a3", "a", 3),
            clouds.instance("a4", "a", 4, locked=True),
            clouds.instance("b2", "b", 2),
            clouds.instance("b5", "b", 5, locked=True),
        ],
    )
    start = clouds.state_of(made)
    assert greedy.plan(start, GOAL, base.Budget(2), 0, base.Watch()).value.value == 1.0
    found = annealed(made, base.Budget(2))
    hosts = dict(zip(start.instances, (start.service_hosts[h] for h in found.host_of), strict=True))
    assert hosts == {"a3": "b", "a4": "a", "b2": "a", "b5": "b"}
    # The 2 free cores are room for one of 2, and none of half a one of 4.
    assert found.value.value == pytest.approx(1 / 3)

# SPDX-License-Identifier: Apache-2.0
"""Placements from the numbers of the pattern model's relaxation."""

import dataclasses
import random

import hypothesis
import hypothesis.strategies as st

from nova_rebalancer.model import state
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import patterns
from nova_rebalancer.plan import rounding
from nova_rebalancer.plan import solver
from tests import clouds
from tests.unit.plan import brute
from tests.unit.plan import test_patterns


def relaxed(start: state.PlacementState, moves: int) -> tuple[exchange.Cloud, patterns.Bound]:
    """The cloud as shapes, and its bound with what the relaxation chooses."""
    given = exchange.cloud(start, (clouds.CORES,))
    assert given is not None
    meter = solver.Meter(base.Budget(moves), 0, base.Watch())
    return given, patterns.bound(exchange.Market(given), base.Limit(moves), meter)


@hypothesis.settings(max_examples=60)
@hypothesis.given(test_patterns.plain_clouds(), st.integers(1, 4), st.integers(0, 2**32))
def test_sound_whatever_is_chosen(made: clouds.Document, moves: int, seed: int) -> None:
    """However wrong the numbers are, no rule is broken, conflicts included, nor the limit."""
    rng = random.Random(seed)
    names = [one["id"] for one in made["instances"]]
    if len(names) > 1 and rng.random() < 0.5:
        made["conflicts"] = [rng.sample(names, 2) for _ in range(3)]
    start = clouds.state_of(made)
    hypothesis.assume(exchange.cloud(start, (clouds.CORES,)) is not None)
    given, most = relaxed(start, moves)
    chosen = [
        dataclasses.replace(one, count=one.count * rng.choice([0.5, 1.0, 1.7, 3.0]))
        for one in most.chosen
    ]
    found = rounding.placement(start, given, chosen, base.Limit(moves))
    cloud = brute.read(clouds.as_bytes(made))
    assert brute.broken(cloud, brute.placement(cloud, found)) == []
    assert (found.host_of != start.host_of).sum() <= moves


def test_whole_numbers_are_the_placement() -> None:
    """Free 2, 2, 4: the relaxation moves j from a to b, once, and so does the placement."""
    start = clouds.state_of(clouds.three_hosts())
    given, most = relaxed(start, 1)
    assert {one.count for one in most.chosen} == {1.0}
    found = rounding.placement(start, given, most.chosen, base.Limit(1))
    assert found.host_of.tolist() == [0, 1, 1, 2]


def test_who_leaves_must_enter() -> None:
    """An exchange that lets j leave, without one that takes it, moves nobody."""
    start = clouds.state_of(clouds.three_hosts())
    given, most = relaxed(start, 2)
    (one,) = [one for one in most.chosen if any(part.leave for part in one.parts)]
    assert rounding.placement(start, given, [one], base.Limit(2)).host_of.tolist() == [0, 0, 1, 2]

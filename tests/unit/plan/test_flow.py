# SPDX-License-Identifier: Apache-2.0
"""From counts back to instances."""

import collections

import hypothesis
import hypothesis.strategies as st
from ortools.sat.python import cp_model
import pytest

from nova_rebalancer.plan import base
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import kinds
from tests import clouds

PLACES = st.tuples(st.integers(0, 3), st.sampled_from([(0,), (1,)]))


@st.composite
def counts(draw: st.DrawFn) -> tuple[dict[kinds.Place, int], dict[kinds.Place, int]]:
    """Moves drawn one by one, each to another host, then only counted."""
    moves = draw(st.lists(st.tuples(PLACES, PLACES), max_size=12))
    moves = [(source, dest) for source, dest in moves if source[0] != dest[0]]
    return (
        dict(collections.Counter(source for source, _ in moves)),
        dict(collections.Counter(dest for _, dest in moves)),
    )


@hypothesis.settings(max_examples=200)
@hypothesis.given(counts())
def test_pairs(ends: tuple[dict[kinds.Place, int], dict[kinds.Place, int]]) -> None:
    """Counts that come from moves are paired completely, and never two of one host."""
    leave, enter = ends
    pairs = kinds.pairs(leave, enter)
    assert collections.Counter(source for source, _ in pairs) == leave
    assert collections.Counter(dest for _, dest in pairs) == enter
    assert all(source[0] != dest[0] for source, dest in pairs)


def model() -> flow.FlowModel:
    """Two NUMA hosts with alike guests of one cell on each: a has two of them, b one."""
    made = clouds.snapshot(
        [clouds.numa_host("a"), clouds.numa_host("b")],
        [
            clouds.numa_instance("i", "a", {0: 2}),
            clouds.numa_instance("j", "a", {1: 2}),
            clouds.numa_instance("k", "b", {0: 2}),
        ],
    )
    return flow.FlowModel(clouds.state_of(made), (clouds.CORES,), base.Limit(3))


def test_kinds() -> None:
    """Alike guests are one kind wherever they are."""
    (kind,) = model().kinds
    assert kind.size == 3
    assert kind.at == {(0, (0,)): (0,), (0, (1,)): (1,), (1, (0,)): (2,)}


@pytest.mark.parametrize(
    ("leave", "enter", "breaks"),
    [
        ({}, {}, False),
        ({(0, (0,)): 1}, {(1, (1,)): 1}, False),
        ({(0, (0,)): 1, (1, (0,)): 1}, {(0, (1,)): 1, (1, (1,)): 1}, False),
        # One that leaves a and enters a would have moved within its host.
        ({(0, (0,)): 1}, {(0, (1,)): 1}, True),
        ({(0, (0,)): 2}, {(0, (1,)): 1, (1, (1,)): 1}, True),
    ],
)
def test_separate(leave, enter, breaks: bool) -> None:
    """Rows are added exactly when more leave and enter at a host than move, and once only."""
    made = model()
    before = len(made.model.proto.constraints)
    broken = kinds.Flow((leave,), (enter,), 0, 0)
    assert made.separate(broken) == breaks
    assert (len(made.model.proto.constraints) > before) == breaks
    assert not made.separate(broken)


def test_an_instance_on_its_way_around_is_kept() -> None:
    """What leaves and enters one place cancels only if the rest can still be paired.

    i leaves cell 0 of a, one enters cell 1 of a, and by way of b it is k that comes.
    """
    made = model()
    for leave in made.leave[0].items():
        made.model.add(leave[1] == (leave[0] in ((0, (0,)), (1, (0,)))))
    for place, var in made.enter[0].items():
        made.model.add(var == (place in ((0, (1,)), (1, (0,)))))
    solver = cp_model.CpSolver()
    assert solver.solve(made.model) == cp_model.OPTIMAL
    found = made.flow(solver)
    assert not made.separate(found)
    assert made.placement(found).host_of.tolist() == [1, 0, 0]


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(4, 8), st.integers(1, 5), st.booleans())
def test_model_counts_what_the_goal_counts(made: clouds.Document, most: int, up: bool) -> None:
    """Whatever the model is asked for, its slots and free cores are those of the placement."""
    from nova_rebalancer.model.objectives import fragmentation

    start = clouds.state_of(made)
    one = flow.FlowModel(start, (clouds.CORES,), base.Limit(most))
    # Slots are forced down by nothing, so they are pushed up beside what is asked.
    one.model.maximize(1000 * one.slots + (one.free if up else -one.free))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(one.model) == cp_model.OPTIMAL
    found = one.flow(solver)
    if one.separate(found):
        return
    value = fragmentation.Fragmentation(clouds.CORES).evaluate(one.placement(found))
    parts = {part.name: part.value for part in value.parts}
    assert found.free == parts["free_cores"]
    assert found.slots * clouds.CORES == parts["free_cores"] - parts["fragment_cores"]
    if one.free_is_constant():
        before = fragmentation.Fragmentation(clouds.CORES).evaluate(start)
        assert found.free == {part.name: part.value for part in before.parts}["free_cores"]

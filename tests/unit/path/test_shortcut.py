# SPDX-License-Identifier: Apache-2.0
"""Detours are taken out of a sequence and nothing else changes."""

import random

import hypothesis
import hypothesis.strategies as st

from nova_rebalancer.model import path
from nova_rebalancer.path import board
from nova_rebalancer.path import shortcut
from tests import clouds
from tests.unit.path import test_proof


def test_waiting_was_not_needed() -> None:
    """x waits on b for room on c that was there all the time: one hop in place of two."""
    start = test_proof.rods({"a": 10, "b": 10, "c": 10}, {"x": (5, "a")})
    hops = [path.Hop(0, 0, (), 1, (), path.BYPASS), path.Hop(0, 1, (), 2, (), path.DIRECT)]
    assert shortcut.shorten(board.Board(start), hops) == [path.Hop(0, 0, (), 2, (), path.BYPASS)]


def test_waiting_was_needed() -> None:
    """x leaves a so that y can come, and c has room for x only when y has left: both hops stay."""
    start = test_proof.rods({"a": 10, "b": 10, "c": 10}, {"x": (6, "a"), "y": (6, "c")})
    hops = [
        path.Hop(0, 0, (), 1, (), path.BYPASS),
        path.Hop(1, 2, (), 0, (), path.DIRECT),
        path.Hop(0, 1, (), 2, (), path.DIRECT),
    ]
    assert shortcut.shorten(board.Board(start), hops) == hops


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(clouds.snapshots(4, 7), st.integers(0, 2**32))
def test_same_end(made: clouds.Document, seed: int) -> None:
    """What is left is sane, ends at the same placement, and is no longer than before."""
    start = clouds.state_of(made)
    rng = random.Random(seed)
    on = board.Board(start)
    movable = board.indices(start.movable)
    hops: list[path.Hop] = []
    for _ in range(15 if movable else 0):
        v, h = rng.choice(movable), rng.randrange(len(start.hosts))
        cells = on.spot(v, h)
        if cells is not None:
            hops.append(path.Hop(v, on.host_of[v], on.cells_of[v], h, cells, path.DIRECT))
            on.move(v, h, cells)
    ends = list(on.host_of), list(on.cells_of)
    for _ in hops:
        on.take_back()
    free = list(on.free)
    kept = shortcut.shorten(on, hops)
    assert len(kept) <= len(hops)
    assert on.free == free
    assert shortcut.sane(on, kept)
    for hop in kept:
        assert hop.source == on.host_of[hop.v]
        on.move(hop.v, hop.dest, hop.dest_cells)
    assert (list(on.host_of), list(on.cells_of)) == ends

# SPDX-License-Identifier: Apache-2.0
"""The board judges as the ledger does."""

import random

import hypothesis
import hypothesis.strategies as st

from nova_rebalancer.model import ledger
from nova_rebalancer.path import board
from tests import clouds


@hypothesis.settings(max_examples=120, deadline=None)
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 2**32))
def test_as_the_ledger(made: clouds.Document, seed: int) -> None:
    """After any moves, some of them undone, both say of every instance, host and cell the same.

    Which hosts have room is asked first as a quick guess, which must not miss any.
    """
    start = clouds.state_of(made)
    rng = random.Random(seed)
    quick, slow = board.Board(start), ledger.Ledger(start)
    for _ in range(12):
        assert quick.host_of == slow.host_of.tolist()
        for v in range(len(start.instances)):
            guessed = quick.hosts_with_room(v)
            for h in range(len(start.hosts)):
                spot = quick.spot(v, h)
                assert spot == slow.cells_for(v, h)
                assert spot is None or h in guessed
                for cells in ledger.choices(int(start.guests_of[v]), int(start.cells[h])):
                    assert quick.fits(v, h, cells) == slow.fits(v, h, cells)
        v = rng.randrange(len(start.instances))
        h = rng.randrange(len(start.hosts))
        cells = quick.spot(v, h)
        if cells is not None:
            quick.move(v, h, cells)
            slow.move(v, h, cells)
            if rng.random() < 0.3:
                quick.take_back()
                slow.take_back()

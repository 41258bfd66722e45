import random

import hypothesis
import hypothesis.strategies as st

from nova_rebalancer.model import ledger
from nova_rebalancer.path import board
from tests import clouds


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 2**32))
def test_board(made, seed):
    start = clouds.state_of(made)
    rng = random.Random(seed)
    one, other = board.Board(start), ledger.Ledger(start)
    for _ in range(12):
        for v in range(len(start.instances)):
            assert other.host_of[v] == one.host_of[v]
            roomy = set(one.hosts_with_room(v))
            for h in range(len(start.hosts)):
                assert one.spot(v, h) == other.cells_for(v, h), (v, h)
                if one.spot(v, h) is not None:
                    assert h in roomy
                for cells in ledger.choices(int(start.guests_of[v]), int(start.cells[h])):
                    assert one.fits(v, h, cells) == other.fits(v, h, cells)
        v = rng.randrange(len(start.instances))
        h = rng.randrange(len(start.hosts))
        cells = one.spot(v, h)
        if cells is not None:
            one.move(v, h, cells)
            other.move(v, h, cells)
            if rng.random() < 0.3:
                one.take_back()
                other.take_back()

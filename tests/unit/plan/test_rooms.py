# SPDX-License-Identifier: Apache-2.0
"""What moves change of the room for a size, in the relaxation."""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from nova_rebalancer.plan import rooms

moves = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 4)), min_size=1, max_size=4)


@hypothesis.given(st.integers(0, 40), st.integers(1, 12), moves)
def test_rounding_is_a_bound(free, need, some) -> None:
    """No numbers of instances that leave or come change the room by more than the rows say."""
    amount, count = (np.array(column) for column in zip(*some, strict=True))
    room = (free - int((amount * count).sum())) // need
    by = rooms.rounded(amount, np.array([free]), need)[:, 0]
    assert room <= free // need + float((by * count).sum()) + 1e-9
    # For a single instance they are never looser than the straight line.
    straight = free / need + rooms.straight(amount, np.array([free]), need)[:, 0]
    assert (free // need + by <= straight + 1e-9).all()

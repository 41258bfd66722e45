# SPDX-License-Identifier: Apache-2.0
"""Conflicts: who must not meet whom, and where."""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from nova_rebalancer.model import ledger
from nova_rebalancer.model.constraints import conflicts
from tests import clouds

NAMES = [f"i{v}" for v in range(6)]
PAIRS = st.lists(
    st.tuples(st.sampled_from([*NAMES, "away"]), st.sampled_from(NAMES)).filter(
        lambda pair: pair[0] != pair[1]
    )
)


@hypothesis.given(PAIRS, st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(0, 3))
def test_against_the_pairs(pairs: list[tuple[str, str]], places: list[int], far: int) -> None:
    """Partners, barred hosts and broken pairs are what the pairs say one by one.

    i0 is on its way to ``far``; "away" is on no host.
    """
    index = {name: v for v, name in enumerate(NAMES)}
    found = conflicts.of(pairs, index, {0: {far}})
    host_of = np.array(places)
    together = set()
    for v, name in enumerate(NAMES):
        partners = {
            index[other]
            for pair in pairs
            for one, other in (pair, pair[::-1])
            if one == name and other in index
        }
        assert found.of(v).tolist() == sorted(partners)
        hosts = {places[u] for u in partners} | ({far} if 0 in partners else set())
        assert set(found.hosts(v, host_of).tolist()) == hosts
        if places[v] in hosts:
            together.add(v)
    assert set(np.nonzero(found.broken(host_of))[0].tolist()) == together
    assert bool(found) == any("away" not in pair for pair in pairs)


@hypothesis.given(clouds.snapshots(4, 8))
def test_one_answer_for_one_host_and_for_all(made: clouds.Document) -> None:
    """The ledger lets an instance into a host exactly when it lists that host as roomy."""
    start = clouds.state_of(made)
    book = ledger.Ledger(start)
    for v in range(len(start.instances)):
        roomy = set(book.hosts_with_room(v).tolist())
        assert roomy == {h for h in range(len(start.hosts)) if book.has_room(v, h)}
        assert roomy.isdisjoint(start.host_of[start.conflicts.of(v)].tolist())


def test_the_same_facts_without_pairs() -> None:
    """A snapshot without the key has no conflicts, and nobody is asked about them."""
    start = clouds.state_of(clouds.three_hosts())
    assert not start.conflicts
    assert not start.conflicts.broken(start.host_of).any()
    assert start.conflicts.of(0).size == 0


def test_who_leaves_makes_room() -> None:
    """i may go to b only when j has left it, and to d, which holds nobody."""
    start = clouds.state_of(clouds.conflict_triple())
    book = ledger.Ledger(start)
    assert book.hosts_with_room(0).tolist() == [3]
    assert not book.has_room(0, 1)
    book.move(1, 2, ())
    assert book.hosts_with_room(0).tolist() == [1, 3]
    # j and k are no pair; i's own host is none for them.
    assert not book.has_room(1, 0)
    book.take_back()
    assert not book.has_room(0, 1)

# SPDX-License-Identifier: Apache-2.0
"""Minimal conflicts of rules, and the fewest to lift, by trying every part of them."""

import itertools

import hypothesis
import hypothesis.strategies as st

from nova_rebalancer.model import conflict

WAYS = st.lists(st.frozensets(st.sampled_from("abcdef")), max_size=7)


def parts(rules: tuple[str, ...]) -> list[frozenset[str]]:
    """All parts of some rules but the whole."""
    return [frozenset(part) for k in range(len(rules)) for part in itertools.combinations(rules, k)]


@hypothesis.given(WAYS)
def test_a_conflict_is_minimal(barred) -> None:
    """It bars every way, and no part of it does; there is none if a way is open."""
    found = conflict.smallest(barred)
    if not barred or not all(barred):
        assert found == ()
        return
    assert all(way & frozenset(found) for way in barred)
    assert not any(all(way & part for way in barred) for part in parts(found))


@hypothesis.given(WAYS, st.sets(st.sampled_from("abcdef")))
def test_the_least_is_the_fewest(barred, easy) -> None:
    """Lifting it opens a way, and lifting fewer rules, whichever, opens none.

    Nor does any as small set with more that are easy to lift.
    """
    found = conflict.least(barred, easy)
    if not barred:
        assert found == ()
        return
    assert any(way <= frozenset(found) for way in barred)
    fewer = itertools.chain.from_iterable(
        itertools.combinations("abcdef", k) for k in range(len(found))
    )
    assert not any(way <= frozenset(rules) for rules in fewer for way in barred)
    assert not any(
        len(way) == len(found) and len(way & easy) > len(easy & {*found}) for way in barred
    )


@hypothesis.given(WAYS.filter(bool))
def test_each_that_is_left_is_needed(ways) -> None:
    """Rules that are not needed go; here a set is enough that has one of the ways in it."""

    def enough(rules: frozenset[str]) -> bool:
        return any(way <= rules for way in ways)

    found = frozenset(conflict.without_needless("abcdef", enough))
    assert enough(found)
    assert not any(enough(found - {rule}) for rule in found)

# SPDX-License-Identifier: Apache-2.0
"""Soft groups cost what their pairs are apart or together against their wish."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import soft_groups

GROUPS = st.lists(
    st.builds(
        soft_groups.SoftGroup,
        st.booleans(),
        st.lists(st.integers(0, 9), min_size=2, max_size=10, unique=True).map(tuple),
    ),
    max_size=3,
)


@hypothesis.given(GROUPS, st.lists(st.integers(0, 4), min_size=10, max_size=10))
def test_cost(groups: list[soft_groups.SoftGroup], host_of: list[int]) -> None:
    """The cost is the number of pairs, one by one, that are not as their group wishes."""
    expected = sum(
        (host_of[a] == host_of[b]) != group.together
        for group in groups
        for a, b in itertools.combinations(group.members, 2)
    )
    assert soft_groups.cost(groups, np.array(host_of)) == expected


def test_of() -> None:
    """Soft groups with two members or more that are on hosts of the snapshot; others cost nothing.

    "away" is on none, so one member is left of its group.
    """
    made = [
        cloud.ServerGroup("together", "soft-affinity", ("k", "i", "away")),
        cloud.ServerGroup("apart", "soft-anti-affinity", ("i", "j", "k")),
        cloud.ServerGroup("hard", "affinity", ("i", "j")),
        cloud.ServerGroup("hard-apart", "anti-affinity", ("i", "j")),
        cloud.ServerGroup("alone", "soft-affinity", ("i", "away")),
        cloud.ServerGroup("empty", "soft-anti-affinity", ()),
    ]
    assert soft_groups.of(made, {"i": 0, "j": 1, "k": 2}) == (
        soft_groups.SoftGroup(True, (0, 2)),
        soft_groups.SoftGroup(False, (0, 1, 2)),
    )


def test_larger_groups_than_two() -> None:
    """Three that want to be together on two hosts: of three pairs, two are parted.

    Three that want to be apart on the same hosts: one pair is together.
    """
    host_of = np.array([0, 0, 1])
    assert soft_groups.cost([soft_groups.SoftGroup(True, (0, 1, 2))], host_of) == 2
    assert soft_groups.cost([soft_groups.SoftGroup(False, (0, 1, 2))], host_of) == 1

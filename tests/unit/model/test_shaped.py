# SPDX-License-Identifier: Apache-2.0
"""Options that shape no goal that is asked for are refused."""

import importlib.metadata

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import goals
from nova_rebalancer.model.objectives import shaped


def test_all_our_goals_are_known() -> None:
    """Those that the help tells of, and that the program has."""
    points = importlib.metadata.entry_points(group="nova_rebalancer.goals")
    ours = {one.name for one in points if one.value.startswith("nova_rebalancer.")}
    assert set(shaped.OPTIONS) == set(goals.GOALS) == ours


def test_a_goal_of_somebody_else_may_be_shaped_by_any() -> None:
    """Only that goal itself could tell; beside ours it is the same."""
    shaped.check("theirs", "headroom", "--headroom 0.2")
    shaped.check("balance,theirs", "headroom", "--headroom 0.2")
    with pytest.raises(exceptions.UsageError, match="consolidate; the goal is balance"):
        shaped.check("balance", "headroom", "--headroom 0.2")

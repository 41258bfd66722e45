# SPDX-License-Identifier: Apache-2.0
"""The states of a migration."""

import itertools

import pytest

from nova_rebalancer.execute import states
from nova_rebalancer.store import records

NAMES = tuple(states.TRANSITIONS)


def reachable(first: str) -> set[str]:
    """All states that a migration in state ``first`` may come to."""
    found: set[str] = set()
    waiting = [first]
    while waiting:
        for after in states.TRANSITIONS[waiting.pop()]:
            if after not in found:
                found.add(after)
                waiting.append(after)
    return found


def test_every_state_is_explained():
    """Each state has a meaning, and each change of state a cause in words."""
    assert states.MEANING.keys() == states.TRANSITIONS.keys()
    causes = [cause for after in states.TRANSITIONS.values() for cause in after.values()]
    assert all([*states.MEANING.values(), *states.RUN_MEANING.values(), *causes])
    assert {after for row in states.TRANSITIONS.values() for after in row} <= set(NAMES)


def test_every_migration_can_end():
    """From each state that is not final there is a way to a final one, and to none from those."""
    assert set(states.FINAL) == {"CONFIRMED", "FAILED", "ABORTED", "SKIPPED"}
    for name in NAMES:
        assert (
            reachable(name) == set()
            if name in states.FINAL
            else set(states.FINAL) & reachable(name)
        )


def test_nothing_is_left_out():
    """A migration begins as PLANNED, and every other state can be reached from there."""
    assert reachable(states.PLANNED) >= set(NAMES) - {states.PLANNED}


def test_in_flight():
    """Whatever may hold two hosts is in flight: all that is neither planned nor final."""
    assert set(states.IN_FLIGHT) == set(NAMES) - set(states.FINAL) - {states.PLANNED}


def test_a_timeout_is_no_failure():
    """A request without an answer is UNKNOWN, and nothing is confirmed that was not seen."""
    assert states.UNKNOWN in states.TRANSITIONS[states.REQUESTED]
    assert states.CONFIRMED not in states.TRANSITIONS[states.REQUESTED]
    assert states.CONFIRMED not in states.TRANSITIONS[states.PLANNED]


def test_nothing_ended_is_planned_again():
    """What has come to an end is not asked for a second time."""
    assert not [one for one in states.FINAL if states.TRANSITIONS[one]]


@pytest.mark.parametrize(("before", "after"), [*itertools.product(NAMES, NAMES)])
def test_check(before, after):
    """Exactly the changes of the table are let through, and the others named."""
    if after in states.TRANSITIONS[before]:
        states.check(before, after)
    else:
        with pytest.raises(ValueError, match=f"from {before} to {after}"):
            states.check(before, after)


def test_the_journal_means_the_same():
    """The words that the journal knows by itself are those of the table."""
    assert records.PLANNED == states.PLANNED
    assert records.CONFIRMED == states.CONFIRMED
    assert records.OPEN == states.OPEN

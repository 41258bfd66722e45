# SPDX-License-Identifier: Apache-2.0
"""Policies: how they are written, and how they keep to their budget."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.model import state
from nova_rebalancer.sim import days
from nova_rebalancer.sim import policy
from tests import clouds

GREEDY = controller.Options(planner="greedy", fragment_cores=(clouds.CORES,), time_limit_s=None)


def test_a_policy_as_it_is_written():
    """All of its words."""
    text = "mip every=12h at=90m max-migrations=7 max-gib=1.5 fragment-cores=8 seed=3 work-limit=2"
    read = policy.parse(text, {"opt_in": True}, (16,))
    assert read.name == text
    assert (read.every_s, read.first_s, read.options.max_gib) == (43200.0, 5400.0, 1.5)
    assert read.options == controller.Options(
        planner="mip",
        max_migrations=7,
        max_gib=1.5,
        fragment_cores=(8,),
        seed=3,
        work_limit=2,
        time_limit_s=None,
        opt_in=True,
    )
    room = policy.parse("mip goal=flavor-fit flavor=m1.large,4:8192", {}, (16,)).options
    assert (room.goal, room.flavors) == ("flavor-fit", ("m1.large", "4:8192"))
    assert read.times_s(100.0, 100.0 + 2 * 43200) == [5500.0, 48700.0]


def test_the_clock_is_not_asked_unless_the_policy_says_so():
    """Without a limit of its own a policy has one of work; with a time-limit it has that alone."""
    plain, timed, both = (
        policy.parse(f"auto{words}", {}, (16,)).options
        for words in ("", " time-limit=2", " time-limit=2 work-limit=4")
    )
    assert (plain.work_limit, plain.time_limit_s) == (policy.WORK, None)
    assert (timed.work_limit, timed.time_limit_s) == (None, 2.0)
    assert (both.work_limit, both.time_limit_s) == (4, 2.0)
    assert policy.parse("auto", {}, (5,)).options.fragment_cores == (5,)


def test_no_rebalancing():
    """It has no options and no plans."""
    none = policy.parse("none", {}, (16,))
    assert none.options is None
    assert none.times_s(0.0, 1e9) == []
    assert policy.goal(none) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with a planner"),
        ("every=24h", "begins with a planner"),
        ("none every=24h", "none takes no further words"),
        ("auto often", "'often' is not understood"),
        ("auto speed=3", "'speed=3' is not understood"),
        ("auto seed=1 seed=2", "each KEY once"),
        ("auto every=24", "every=24 is not a time"),
        ("auto every=0h", "every=0h is not a time"),
        ("auto min-gain=-1", "min-gain must be a number of at least 0, not -1"),
        ("auto cooldown=24", "cooldown=24 is not a time"),
        ("auto max-gib=-1", "max-gib must be a number of at least 0, not -1"),
        ("auto flavor=4:8192", "flavor=4:8192: it is for the goal flavor-fit; the goal is frag"),
        ("auto goal=balance fragment-cores=4", "cores=4: it is for the goal fragmentation; the"),
        ("auto max-gib=nan", "max-gib must be a number"),
        ("auto max-migrations=1.5", "max-migrations must be a whole number, not 1.5"),
        ("auto fragment-cores=0", "fragment cores must be at least 1, not 0"),
    ],
)
def test_a_bad_policy_is_refused(text, why):
    """The error says which word and what would do."""
    with pytest.raises(exceptions.UsageError, match=why):
        policy.parse(text, {}, (16,))


def test_what_migrations_are_worth():
    """The policy's words win over the configuration."""
    rules = {"min_gain": 0.5, "cost_per_gib": 0.25, "cooldown_h": 1.0}
    plain = policy.parse("auto", rules, (16,)).options
    assert (plain.min_gain, plain.cost_per_gib, plain.cooldown_h) == (0.5, 0.25, 1.0)
    text = "auto min-gain=0 cost-per-gib=0.125 cooldown=90m"
    own = policy.parse(text, rules, (16,)).options
    assert (own.min_gain, own.cost_per_gib, own.cooldown_h) == (0.0, 0.125, 1.5)


def test_what_was_migrated_cools_down():
    """Of two that could go to the other's host only the one is moved that did not move lately."""
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 2), clouds.instance("j", "b", 2)],
    )
    one = policy.Policy("some", dataclasses.replace(GREEDY, cooldown_h=1.0))
    for ago_s, moved in ((3599.0, "j"), (3600.0, "i")):
        decided = policy.decide(one, clouds.facts_of(made), days.Watch(), {"i": ago_s})
        assert [decided.start.instances[hop.v] for hop in decided.hops] == [moved]


@hypothesis.given(clouds.snapshots(4, 8), st.floats(0, 0.004), st.integers(0, 5))
def test_a_plan_keeps_to_its_budget(made, max_gib, most):
    """Neither memory nor migrations are exceeded, and what is done is never worse than nothing."""
    options = dataclasses.replace(GREEDY, max_migrations=most, max_gib=max_gib)
    one = policy.Policy("some", options)
    decided = policy.decide(one, clouds.facts_of(made), days.Watch())
    moved_mib = sum(state.memory_mib(decided.start, hop.v) or 0 for hop in decided.hops)
    assert moved_mib <= 1024 * max_gib
    assert len(decided.hops) <= most
    assert decided.after <= decided.before
    if not decided.hops:
        assert decided.after == decided.before


def test_a_plan_that_is_cut_does_what_it_can():
    """Two migrations of 1 GiB would gain; with a GiB and a half there is one.

    Hosts of 8 cores with 2, 2, 2 and 2 taken have 6 free each and a fragment of 2; each migration
    to another of them makes two hosts without.
    """
    made = clouds.snapshot(
        [clouds.host(name) for name in "abcd"],
        [clouds.instance(f"i-{name}", name, 2) for name in "abcd"],
    )
    facts = clouds.facts_of(made)
    whole = policy.decide(policy.Policy("all", GREEDY), facts, days.Watch())
    assert len(whole.hops) == 2
    cut = policy.decide(
        policy.Policy("cut", dataclasses.replace(GREEDY, max_gib=1.5)), facts, days.Watch()
    )
    assert len(cut.hops) == 1
    assert whole.after < cut.after < cut.before

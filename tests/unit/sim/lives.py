# SPDX-License-Identifier: Apache-2.0
"""Clouds that live for some days, for the tests of the simulation."""

from collections.abc import Sequence
import dataclasses

import hypothesis

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import books
from nova_rebalancer.sim import days
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import scheduler
from tests import clouds

SHORT = arrivals.Lifetimes(arrivals.DAY_S / 2)


def begun(
    made: clouds.Document, seed: int = 0, load: float = 1.2, rule: str = scheduler.SPREAD
) -> days.Days:
    """A cloud at the begin of three busy days; random clouds without room for any are left out."""
    try:
        there = kinds.build(clouds.facts_of(made))
        story = arrivals.generate(there, 3, load, SHORT, seed)
    except exceptions.InputError:
        hypothesis.reject()
    # One after the other, members of a group too, so that tests can look between two boots.
    boots = [
        dataclasses.replace(boot, at_s=boot.at_s + k / 1000)
        for k, boot in enumerate(story.boots[:100])
    ]
    story = arrivals.Story(tuple(boots), story.ends_s)
    return days.Days(there, story, rule)


def of_boots(
    snapshot: cloud.Snapshot,
    *boots: tuple[float, kinds.Size, float | None, str],
    groups: Sequence[str | None] = (),
    rule: str = scheduler.SPREAD,
) -> days.Days:
    """A cloud where nothing ends but what is booted: (at_s, size, lifetime_s, name)."""
    there = kinds.build(snapshot, [size for _, size, _, _ in boots])
    in_groups = [*groups, *[None] * (len(boots) - len(groups))]
    story = arrivals.Story(
        tuple(
            arrivals.Boot(
                at_s,
                name,
                there.of_size[size],
                lifetime_s,
                group and books.Group(group, "anti-affinity"),
            )
            for (at_s, size, lifetime_s, name), group in zip(boots, in_groups, strict=True)
        ),
        {},
    )
    return days.Days(there, story, rule)

# SPDX-License-Identifier: Apache-2.0
"""Soft server groups are wishes: not rules, but a cost of a placement.

Nova weighs hosts by how many members they hold (``scheduler/weights/affinity.py``) when it places
an instance, and never again.  Here the pairs of members are counted that are not as their group
wishes.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud


@dataclasses.dataclass(frozen=True, slots=True)
class SoftGroup:
    """Members (indices) that would rather be on one host (``together``), or on different ones."""

    together: bool
    members: tuple[int, ...]


def of(
    groups: Iterable[cloud.ServerGroup], instance_index: dict[str, int]
) -> tuple[SoftGroup, ...]:
    """Return the soft groups with at least two members that have an index."""
    found = []
    for group in groups:
        members = tuple(sorted(instance_index[m] for m in group.members if m in instance_index))
        if group.policy.startswith("soft-") and len(members) > 1:
            found.append(SoftGroup(group.policy == "soft-affinity", members))
    return tuple(found)


def cost(groups: Iterable[SoftGroup], host_of: arrays.Ints) -> int:
    """Return how many pairs of members are not as their group wishes when at ``host_of`` (V,)."""
    total = 0
    for group in groups:
        _, counts = np.unique(host_of[list(group.members)], return_counts=True)
        pairs = len(group.members) * (len(group.members) - 1) // 2
        same = int((counts * (counts - 1) // 2).sum())
        total += pairs - same if group.together else same
    return total


def changes(
    groups: Sequence[SoftGroup], host_of: arrays.Ints, moves: Iterable[tuple[int, int]]
) -> list[int]:
    """Return by how much the cost has grown after each of some moves of v to h, in order."""
    of_member: dict[int, list[SoftGroup]] = {}
    for group in groups:
        for v in group.members:
            of_member.setdefault(v, []).append(group)
    now = host_of.copy()
    grown, found = 0, []
    for v, h in moves:
        mine = of_member.get(v, ())
        grown -= cost(mine, now)
        now[v] = h
        grown += cost(mine, now)
        found.append(grown)
    return found

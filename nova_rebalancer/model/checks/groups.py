# SPDX-License-Identifier: Apache-2.0
"""Soft server groups are kept as if they were hard ones.

Hard groups always are.  Members of a soft anti-affinity group do not come together; a member of a
soft affinity group does not leave a host where another one is.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import itertools
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model.checks import base


@dataclasses.dataclass(frozen=True, slots=True)
class Groups(base.Check):
    """Pairs that stay apart, and the group that keeps an instance where it is, by its id."""

    pairs: tuple[tuple[str, str], ...]
    held: Mapping[str, str]

    def instance(self, instance: cloud.Instance) -> base.Verdict:
        """Keep who would leave a member of its group behind."""
        group = self.held.get(instance.id)
        if group is None:
            return base.PASS
        return base.refuse(
            f"{instance.id} would leave other members of soft affinity group {group}", group=group
        )

    def apart(self) -> Iterable[tuple[str, str]]:
        """Return all pairs of members of soft anti-affinity groups."""
        return self.pairs


def make(snapshot: cloud.Snapshot, value: str | None, options: Mapping[str, Any]) -> Groups:
    """Return the check; it takes no value."""
    if value is not None:
        raise ValueError("it takes no value")
    at = {one.id: one.host for one in snapshot.instances}
    pairs: list[tuple[str, str]] = []
    held: dict[str, str] = {}
    for group in snapshot.server_groups:
        members = [member for member in dict.fromkeys(group.members) if member in at]
        if group.policy == "soft-anti-affinity":
            pairs += itertools.combinations(members, 2)
        elif group.policy == "soft-affinity":
            crowd = collections.Counter(at[member] for member in members)
            held.update((member, group.id) for member in members if crowd[at[member]] > 1)
    return Groups(tuple(pairs), held)

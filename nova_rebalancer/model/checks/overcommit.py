# SPDX-License-Identifier: Apache-2.0
"""Hosts are filled up to a lower allocation ratio than Placement's, 1 for no overcommit at all."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model.checks import base


@dataclasses.dataclass(frozen=True, slots=True)
class Overcommit(base.Check):
    """The highest allocation ratio of each resource class, None for those not named."""

    ratios: Mapping[str | None, float]

    def most(self, resource: str, inventory: cloud.Inventory) -> int:
        """Return the capacity at the ratio of the check, if that is the lower one."""
        ratio = self.ratios.get(resource, self.ratios.get(None))
        if ratio is None:
            return inventory.capacity
        return math.floor((inventory.total - inventory.reserved) * ratio)


def make(snapshot: cloud.Snapshot, value: str | None, options: Mapping[str, Any]) -> base.Check:
    """Return the check for ``RATIO`` or ``CLASS:RATIO,...``."""
    return Overcommit(base.amounts(value, "RATIO", 0.0, math.inf))

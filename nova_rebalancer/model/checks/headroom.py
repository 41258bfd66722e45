# SPDX-License-Identifier: Apache-2.0
"""A share of what each host offers stays free where instances are sent to."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model.checks import base


@dataclasses.dataclass(frozen=True, slots=True)
class Headroom(base.Check):
    """The share of each resource class, in [0, 1); None for those not named."""

    shares: Mapping[str | None, float]

    def most(self, resource: str, inventory: cloud.Inventory) -> int:
        """Return what is left when the share stays free."""
        share = self.shares.get(resource, self.shares.get(None, 0.0))
        return inventory.capacity - math.ceil(inventory.capacity * share)


def make(snapshot: cloud.Snapshot, value: str | None, options: Mapping[str, Any]) -> base.Check:
    """Return the check for ``SHARE`` or ``CLASS:SHARE,...``."""
    shares = base.amounts(value, "SHARE", 0.0, 1.0)
    if "VCPU" in shares:
        # Cores are PCPU on some hosts.
        shares.setdefault("PCPU", shares["VCPU"])
    return Headroom(shares)

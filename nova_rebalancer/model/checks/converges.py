# SPDX-License-Identifier: Apache-2.0
"""Only what a live migration comes to an end for is moved, by pre-copy alone."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model import precopy
from nova_rebalancer.model.checks import base


@dataclasses.dataclass(frozen=True, slots=True)
class Converges(base.Check):
    """How memory is copied from each host, by its id, and what instances write by default."""

    links: Mapping[str, precopy.Link]
    dirty_mibps: float

    def instance(self, instance: cloud.Instance) -> base.Verdict:
        """Keep what Nova would give up, or never end."""
        written = precopy.dirty_mibps(instance, self.dirty_mibps)
        memory = instance.allocations.get("MEMORY_MB", 0)
        why = precopy.endless(memory, written, self.links[instance.host])
        if why is None:
            return base.PASS
        return base.refuse(f"{instance.id} {why}", dirty_mibps=written)


def make(snapshot: cloud.Snapshot, value: str | None, options: Mapping[str, Any]) -> Converges:
    """Return the check; what it computes with are the options of the cost ``precopy``."""
    if value is not None:
        raise ValueError("it takes no value")
    rate = float(options.get("migration_rate_mibps", 1000.0))
    links = {
        host.id: precopy.Link(
            precopy.rate_mibps(host, rate),
            float(options.get("migration_downtime_s", 0.5)),
            float(options.get("migration_timeout_s", 800.0)),
        )
        for host in snapshot.hosts
    }
    return Converges(links, float(options.get("dirty_rate_mibps", 2.5)))

# SPDX-License-Identifier: Apache-2.0
"""Cost of a migration by what it sends: memory, and what is written while that is copied."""

from collections.abc import Sequence
import dataclasses
import math

from nova_rebalancer.model import cloud
from nova_rebalancer.model import precopy
from nova_rebalancer.model import state
from nova_rebalancer.path import costs
from nova_rebalancer.path import memory

NEVER_S = 30 * 86400.0
"""Counted for a migration that nobody ends."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Precopy:
    """One unit for each MiB that is sent.

    What Nova would give up, because it takes too long or never ends, counts with the time until
    then and what is sent in that.

    Attributes
    ----------
    links
        How each instance is copied from where it is at the start, (V,).
    dirty_mibps
        What each writes in a second, (V,).
    """

    links: Sequence[precopy.Link]
    dirty_mibps: Sequence[float]

    def _seconds(self, start: state.PlacementState, v: int) -> float:
        """Return how long the copying takes, if need be until Nova gives up."""
        size, link = state.memory_mib(start, v) or 0, self.links[v]
        seconds = min(precopy.copy(size, self.dirty_mibps[v], link).seconds, link.limit_s(size))
        # Without a timeout, what never ends still is to be compared with others.
        return seconds if math.isfinite(seconds) else NEVER_S

    def cost(self, start: state.PlacementState, v: int) -> float:
        """Return what is sent, in MiB."""
        return self._seconds(start, v) * self.links[v].rate_mibps

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """Return seconds for all rounds of copying."""
        return memory.SETUP_S + self._seconds(start, v)

    def doubt(self, start: state.PlacementState, v: int) -> str | None:
        """Say that Nova would not bring a migration of ``v`` to an end."""
        size = state.memory_mib(start, v) or 0
        why = precopy.endless(size, self.dirty_mibps[v], self.links[v])
        return None if why is None else f"{start.instances[v]} {why}"


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: costs.Settings
) -> Precopy:
    """Return the cost for one cloud."""
    hosts = {
        host.id: precopy.Link(
            precopy.rate_mibps(host, settings.migration_rate_mibps),
            settings.migration_downtime_s,
            settings.migration_timeout_s,
        )
        for host in snapshot.hosts
    }
    return Precopy(
        tuple(hosts[one.host] for one in snapshot.instances),
        tuple(precopy.dirty_mibps(one, settings.dirty_rate_mibps) for one in snapshot.instances),
    )

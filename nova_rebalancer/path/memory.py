# SPDX-License-Identifier: Apache-2.0
"""Cost of a migration by memory: what live migration has to copy."""

import dataclasses

from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.path import costs

SETUP_S = 1.0
"""Least time of a migration: checks at both hosts, and the ports' move."""


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """One unit for each MiB of RAM, copied once at ``rate_mibps``.

    Pages that are written again while they are copied are not counted, so a busy instance
    takes longer than this says.
    """

    rate_mibps: float = 1000.0

    def __post_init__(self) -> None:
        if not self.rate_mibps > 0:
            raise ValueError(f"rate_mibps must be more than 0, not {self.rate_mibps}")

    def cost(self, start: state.PlacementState, v: int) -> float:
        """Return the instance's memory in MiB."""
        return float(state.memory_mib(start, v) or 0)

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """Return seconds for one copy of its memory."""
        return SETUP_S + (state.memory_mib(start, v) or 0) / self.rate_mibps


def make(snapshot: cloud.Snapshot, start: state.PlacementState, settings: costs.Settings) -> Memory:
    """Return the cost at the rate of ``settings``."""
    return Memory(settings.migration_rate_mibps)

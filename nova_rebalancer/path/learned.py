# SPDX-License-Identifier: Apache-2.0
"""Cost of a migration by memory, corrected by how long migrations of the flavor really took."""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import statistics

from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.path import costs
from nova_rebalancer.path import memory

ALL = "*"
"""Stands for flavors of which nothing was measured."""

LEAST = 0.01
"""Least factor: a migration that was over at once still costs something."""

PRIOR = 1
"""Migrations that the factor of all flavors weighs for one flavor's own."""

Measured = tuple[str | None, int, float]
"""Flavor (None: not known), memory in MiB and seconds of a live migration that arrived."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The memory of each instance times its factor, (V,), at ``rate_mibps``."""

    plain: memory.Memory
    factors: Sequence[float]

    def cost(self, start: state.PlacementState, v: int) -> float:
        """Return the memory in MiB that would take as long, copied once."""
        return self.plain.cost(start, v) * self.factors[v]

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """Return seconds for the copying."""
        return memory.SETUP_S + self.cost(start, v) / self.plain.rate_mibps


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: costs.Settings
) -> Learned:
    """Return the cost with the factors of ``settings``; 1 where nothing is known of any flavor."""
    known = settings.time_factors
    other = known.get(ALL, 1.0)
    factors = tuple(known.get(one.flavor or ALL, other) for one in snapshot.instances)
    return Learned(memory.Memory(settings.migration_rate_mibps), factors)


def factors(seen: Iterable[Measured], rate_mibps: float) -> dict[str, float]:
    """Return by how much migrations took longer than one copy of the memory at ``rate_mibps``.

    By flavor, and for ALL together; medians, so that a few odd ones change nothing.  Empty if
    nothing was measured.
    """
    of_flavor: dict[str | None, list[float]] = collections.defaultdict(list)
    for flavor, memory_mib, seconds in seen:
        if memory_mib > 0:
            copying_s = max(0.0, seconds - memory.SETUP_S)
            of_flavor[flavor].append(copying_s * rate_mibps / memory_mib)
    if not of_flavor:
        return {}
    overall = statistics.median(ratio for ratios in of_flavor.values() for ratio in ratios)
    found = {ALL: overall}
    for flavor, ratios in of_flavor.items():
        if flavor is not None:
            found[flavor] = statistics.median([*ratios, *[overall] * PRIOR])
    return {flavor: max(LEAST, round(factor, 4)) for flavor, factor in sorted(found.items())}

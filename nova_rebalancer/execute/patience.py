# SPDX-License-Identifier: Apache-2.0
"""How long a migration should take, learnt from those that arrived, and when it is too long."""

import collections
from collections.abc import Iterable
import dataclasses
import statistics

from nova_rebalancer.execute import base

Seen = tuple[str, str, str, int | None, float]
"""Source, destination, method, memory in MiB and seconds of a migration that arrived."""

ROUNDS = 4
"""Of fitting overhead and rates in turn; they settle after two or three."""

PRIOR = 1
"""Migrations that the rate of all hosts weighs for one host's own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a migration takes: ``overhead_s`` and so much for each MiB, by source.

    The source copies, so what one host's migrations took tells most of its next.

    Parameters
    ----------
    overhead_s
        What a migration takes beside copying.
    s_per_mib
        Of hosts that nothing is known of.
    by_source
        Of hosts that something is known of.
    """

    overhead_s: float
    s_per_mib: float
    by_source: dict[str, float] = dataclasses.field(default_factory=dict)

    def predict(self, source: str, memory_mib: int | None) -> float:
        """Return how long it should take, in seconds."""
        rate = self.by_source.get(source, self.s_per_mib)
        return self.overhead_s + rate * (memory_mib or 0)


def learn(seen: Iterable[Seen], rate_mibps: float, overhead_s: float) -> Patience:
    """Fit the model to migrations that arrived; medians, so that a few odd ones change nothing.

    Parameters
    ----------
    seen
        Those that arrived, the newest first.
    rate_mibps, overhead_s
        What is said where nothing is known.
    """
    live = [one for one in seen if one[2] == base.LIVE]
    first = 1.0 / rate_mibps
    if not live:
        return Patience(overhead_s, first)
    overall, by_source = first, dict[str, float]()
    overhead = overhead_s
    for _ in range(ROUNDS):
        rests: dict[str, list[float]] = collections.defaultdict(list)
        for source, _, _, memory, seconds in live:
            if memory:
                rests[source].append(max(0.0, seconds - overhead) / memory)
        every = [rest for ones in rests.values() for rest in ones]
        if every:
            overall = statistics.median(every)
        by_source = {
            source: statistics.median([*ones, *[overall] * PRIOR]) for source, ones in rests.items()
        }
        overhead = max(
            0.0,
            statistics.median(
                seconds - by_source.get(source, overall) * (memory or 0)
                for source, _, _, memory, seconds in live
            ),
        )
    return Patience(overhead, overall, by_source)

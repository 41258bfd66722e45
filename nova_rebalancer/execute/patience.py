# SPDX-License-Identifier: Apache-2.0
"""How long a migration should take, learnt from those that arrived, and when it is too long."""

import collections
from collections.abc import Iterable
import dataclasses
import itertools
import statistics

from nova_rebalancer.execute import base

Seen = tuple[str, str, str, int | None, float]
"""Source, destination, method, memory in MiB and seconds of a migration that arrived."""

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
        What is said where nothing is known: the overhead, too, while no host has sent two sizes.
    """
    ended: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
    for source, _, method, memory, seconds in seen:
        if method == base.LIVE and memory:
            ended[source].append((memory, seconds))
    if not ended:
        return Patience(overhead_s, 1.0 / rate_mibps)
    slopes = {source: _slope(ones) for source, ones in ended.items()}
    rests = [
        seconds - slope * memory
        for source, slope in slopes.items()
        if slope is not None
        for memory, seconds in ended[source]
    ]
    if rests:
        overhead_s = max(0.0, statistics.median(rests))
    rates = {
        source: [max(0.0, seconds - overhead_s) / memory for memory, seconds in ones]
        for source, ones in ended.items()
    }
    overall = statistics.median(rate for ones in rates.values() for rate in ones)
    by_source = {
        source: statistics.median([*ones, *[overall] * PRIOR]) for source, ones in rates.items()
    }
    return Patience(overhead_s, overall, by_source)


def _slope(ones: Iterable[tuple[int, float]]) -> float | None:
    """Return the seconds that a MiB more takes, None where all are of one size.

    References
    ----------
    Theil (1950), Sen (1968): the median of the slopes between all pairs of points.
    """
    slopes = [
        (more_s - less_s) / (more - less)
        for (less, less_s), (more, more_s) in itertools.combinations(ones, 2)
        if less != more
    ]
    return statistics.median(slopes) if slopes else None

# SPDX-License-Identifier: Apache-2.0
"""When each migration would start and end, and its wave: a view of the partial order.

Execution follows the dependencies; these times only tell people what to expect.
"""

from collections.abc import Sequence
import heapq

from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.path import base


def schedule(
    start: state.PlacementState,
    hops: Sequence[path.Hop],
    depends_on: Sequence[tuple[int, ...]],
    cost: base.Cost,
    limits: base.Limits,
) -> list[path.Migration]:
    """Start each hop as early as its dependencies and its hosts' limits allow, in order."""
    free_out: dict[int, list[float]] = {}
    free_in: dict[int, list[float]] = {}
    migrations: list[path.Migration] = []
    for hop, depends in zip(hops, depends_on, strict=True):
        out = free_out.setdefault(hop.source, [0.0] * limits.outgoing)
        into = free_in.setdefault(hop.dest, [0.0] * limits.incoming)
        start_s = max([out[0], into[0], *(migrations[j].end_s for j in depends)])
        end_s = start_s + cost.duration_s(start, hop.v)
        heapq.heapreplace(out, end_s)
        heapq.heapreplace(into, end_s)
        wave = 1 + max((migrations[j].wave for j in depends), default=0)
        migrations.append(path.Migration(hop, depends, wave, round(start_s, 3), round(end_s, 3)))
    return migrations

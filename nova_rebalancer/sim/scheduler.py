# SPDX-License-Identifier: Apache-2.0
"""Where a boot goes in a simulation: Nova's filters, then its weighers of free resources.

The filters are the rules of the model.  Hosts that are left are weighed as Nova does: each of free
cores, memory and disk is scaled to [0, 1] over these hosts, and the sum decides; among equals the
first host.  Nova's other weighers (I/O operations, build failures, soft server groups) play no
part.

References
----------
nova ``weights.py``, ``normalize``; ``scheduler/weights/cpu.py``, ``ram.py`` and ``disk.py``.
"""

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.sim import books

SPREAD, PACK = "spread", "pack"
RULES = (SPREAD, PACK)
"""Most free first, which is Nova's default, or least free first (negative weight multipliers)."""


def choose(
    there: books.Books, kind: int, group: books.Group | None, rule: str
) -> books.Spot | None:
    """Return where an instance of ``kind`` is booted, None where no host takes it."""
    hosts = np.nonzero(there.hosts_with_room(kind, group))[0]
    if hosts.size == 0:
        return None
    weight = _free(there, hosts)
    order = np.argsort(weight if rule == PACK else -weight, kind="stable")
    for h in hosts[order].tolist():
        spot = there.cells(kind, h, rule == PACK)
        if spot is not None:
            return spot
    return None


def fill(there: books.Books, kind: int, rule: str) -> int:
    """Boot instances of ``kind`` until one is refused; return how many there are then."""
    count = 0
    while (spot := choose(there, kind, None, rule)) is not None:
        there.add(f"{there.kinds.names[kind]} number {count}", kind, spot, None)
        count += 1
    return count


def _free(there: books.Books, hosts: arrays.Ints) -> arrays.Floats:
    """Sum of the scaled free amounts of each host, (hosts.size,)."""
    start = there.kinds.start
    weight = np.zeros(hosts.size)
    named = [start.resources.index(n) for n in ("MEMORY_MB", "DISK_GB") if n in start.resources]
    for columns in (start.core[hosts], *(np.full(hosts.size, r) for r in named)):
        rows = start.row_of[hosts, columns]
        known = (rows != state.NOWHERE) & (columns != state.NOWHERE)
        free = np.where(known, start.capacity[rows, columns] - there.used[rows, columns], 0)
        span = free.max() - free.min()
        if span:
            # Rounded, so that the order of the sums cannot tell equal hosts apart.
            weight += np.round((free - free.min()) / span, 9)
    return np.round(weight, 9)

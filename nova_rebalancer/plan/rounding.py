# SPDX-License-Identifier: Apache-2.0
"""A placement at once: how often the pattern model's relaxation makes each exchange, rounded.

Nearly all of these numbers are whole at the end of the column generation.  They are rounded down,
then the largest rests up while hosts and migrations last.  What then leaves without anybody of its
kind entering, or enters without anybody leaving, is left out.  Where the whole does not fit, one
migration after another is made that does.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import math

import numpy as np

from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import patterns

LEAST = 0.3
"""What of an exchange is rounded up, at least."""


def placement(
    start: state.PlacementState,
    given: exchange.Cloud,
    chosen: Sequence[patterns.Chosen],
    limit: base.Limit,
) -> state.PlacementState:
    """Return a placement near ``chosen`` that keeps to all rules and to the limit."""
    leave: list[list[kinds.Place]] = [[] for _ in given.kinds]
    enter: list[list[kinds.Place]] = [[] for _ in given.kinds]
    for part, place in _places(given, chosen, limit):
        for counts, ends in ((part.leave, leave), (part.enter, enter)):
            for k, count in counts.items():
                ends[k] += [place] * count
    net = [_net(*ends) for ends in zip(leave, enter, strict=True)]
    flow = kinds.Flow(tuple(out for out, _ in net), tuple(into for _, into in net), 0, 0)
    reached = kinds.placement(start, given.kinds, flow)
    return reached if patterns.sound(start, reached) else _one_by_one(start, reached)


def _places(
    given: exchange.Cloud, chosen: Sequence[patterns.Chosen], limit: base.Limit
) -> Iterator[tuple[exchange.Part, kinds.Place]]:
    """Yield what goes on where, host by host."""
    hosts = [iter(shape.hosts) for shape in given.shapes]
    left = [len(shape.hosts) for shape in given.shapes]
    ordered = sorted(chosen, key=lambda one: -one.count)
    whole = [one for one in ordered for _ in range(_whole(one.count))]
    rests = [one for one in ordered if one.count - _whole(one.count) >= LEAST]
    moves, mib = limit.moves, math.inf if limit.mib is None else limit.mib
    rests.sort(key=lambda one: _whole(one.count) - one.count)
    for one in (*whole, *rests):
        leaving = sum(sum(part.leave.values()) for part in one.parts)
        copied = sum(int(given.mib[k]) * n for part in one.parts for k, n in part.leave.items())
        if not left[one.shape] or leaving > moves or copied > mib:
            continue
        left[one.shape] -= 1
        moves, mib = moves - leaving, mib - copied
        h, cells = next(hosts[one.shape])
        *single, both = one.parts
        yield both, (h, tuple(sorted(n for cell in cells for n in cell)))
        yield from ((part, (h, cell)) for part, cell in zip(single, cells, strict=True))


def _whole(count: float) -> int:
    return math.floor(count + patterns.EXACT)


def _net(
    leave: list[kinds.Place], enter: list[kinds.Place]
) -> tuple[collections.Counter[kinds.Place], collections.Counter[kinds.Place]]:
    """Count the places left and entered, of as many instances as do both; none if they cannot."""
    out = collections.Counter(leave[: len(enter)])
    into = collections.Counter(enter[: len(leave)])
    if kinds.crowded(out, into):
        return collections.Counter(), collections.Counter()
    return out, into


def _one_by_one(start: state.PlacementState, reached: state.PlacementState) -> state.PlacementState:
    """Return where those migrations to ``reached`` lead that find room, in any order."""
    book = ledger.Ledger(start)
    left = np.nonzero(reached.host_of != start.host_of)[0].tolist()
    while left:
        later = []
        for v in left:
            h, cells = int(reached.host_of[v]), reached.cells_of[v, : start.guests_of[v]].tolist()
            spot = book.spot_for(v, h, tuple(cells))
            if spot is None:
                later.append(v)
            else:
                book.move(v, h, spot)
        if len(later) == len(left):
            break
        left = later
    return book.placement()

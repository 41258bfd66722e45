# SPDX-License-Identifier: Apache-2.0
"""When each hop of a sequence would start, many at a time.

Time goes from one end of a migration to the next.  A hop may start when its destination has room
for it beside all that is there or on its way there; of those that may start those go first whose
hosts have most to do.  Hops that are let start like this can block each other for ever.  Not so
where room is kept for those that come to a host earlier in the sequence: the first that has not
started always finds its room in the end.  Both are tried.

Execution follows the dependencies that come from these times; the times only tell people what to
expect.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import heapq
import operator

from nova_rebalancer.model import path
from nova_rebalancer.path import base
from nova_rebalancer.path import charges


def bound_s(
    hops: Iterable[tuple[int, int]], durations: Sequence[float], limits: base.Limits
) -> float:
    """Return a time before which no schedule ends that has all ``hops``, (source, dest) each.

    The busiest of what is limited has to carry all that it carries.
    """
    out: dict[int, float] = {}
    into: dict[int, float] = {}
    shared = [0.0] * len(limits.links)
    for (source, dest), duration in zip(hops, durations, strict=True):
        out[source] = out.get(source, 0.0) + duration
        into[dest] = into.get(dest, 0.0) + duration
        for k, link in enumerate(limits.links):
            shared[k] += duration * link.carries(source, dest)
    least = [max(durations, default=0.0)]
    least += [load / limits.outgoing for load in out.values()]
    least += [load / limits.incoming for load in into.values()]
    least += [load / link.limit for load, link in zip(shared, limits.links, strict=True)]
    if limits.total is not None:
        least.append(sum(durations) / limits.total)
    return max(least)


def begins_s(
    held: charges.Charges,
    hops: Sequence[path.Hop],
    durations: Sequence[float],
    limits: base.Limits,
) -> list[float]:
    """Return when each hop starts, seconds from the start of the path.

    First it is tried to let every hop start as soon as there is room for it, whatever comes later.
    That may end with hops that block each other, or take longer; then room is kept for those that
    come earlier in the sequence.
    """
    careful = _Clock(held, hops, durations, limits, keeps=True).run()
    assert careful is not None
    eager = _Clock(held, hops, durations, limits, keeps=False).run()
    if eager is None:
        return careful
    return min(
        careful, eager, key=lambda begins: max(map(operator.add, begins, durations), default=0.0)
    )


class _Clock:
    def __init__(
        self,
        held: charges.Charges,
        hops: Sequence[path.Hop],
        durations: Sequence[float],
        limits: base.Limits,
        keeps: bool,
    ) -> None:
        self._hops, self._durations, self._limits = hops, durations, limits
        self._keeps = keeps
        self._before = [set(first) for first in held.before(hops)]
        self._after: list[list[int]] = [[] for _ in hops]
        for k, first in enumerate(self._before):
            for j in first:
                self._after[j].append(k)
        self._arrival = [held.arrival(hop) for hop in hops]
        self._departure = [held.departure(hop) for hop in hops]
        self._free: dict[charges.Name, int] = {}
        # By what is limited: who has not started yet and will take some, in order.
        self._coming: dict[charges.Name, dict[int, int]] = {}
        for k, arrival in enumerate(self._arrival):
            for name, amount in arrival:
                if name not in self._free:
                    self._free[name] = held.room(name)
                coming = self._coming.setdefault(name, {})
                coming[k] = coming.get(k, 0) + amount
        self._from: dict[int, set[int]] = {}
        self._to: dict[int, set[int]] = {}
        self._out_left: dict[int, float] = {}
        self._in_left: dict[int, float] = {}
        for k, (hop, duration) in enumerate(zip(hops, durations, strict=True)):
            self._from.setdefault(hop.source, set()).add(k)
            self._to.setdefault(hop.dest, set()).add(k)
            self._out_left[hop.source] = self._out_left.get(hop.source, 0.0) + duration
            self._in_left[hop.dest] = self._in_left.get(hop.dest, 0.0) + duration
        self._out: dict[int, int] = {}
        self._in: dict[int, int] = {}
        self._flying = 0
        self._on_link = [0] * len(limits.links)
        self._links = [
            [n for n, link in enumerate(limits.links) if link.carries(hop.source, hop.dest)]
            for hop in hops
        ]

    def run(self) -> list[float] | None:
        """Return the starts, None if hops are left that can never start."""
        begins = [0.0] * len(self._hops)
        ends: list[tuple[float, int]] = []
        now = 0.0
        candidates = self._by_urgency(range(len(self._hops)))
        # Where all migrations share something any may start when one ends, and the urgent ones
        # are not told anew each time.
        shared = self._limits.total is not None or bool(self._limits.links)
        left = dict.fromkeys(candidates)
        while candidates or ends:
            for k in candidates:
                if self._flying == self._limits.total:
                    break
                if self._may_start(k):
                    del left[k]
                    self._start(k)
                    begins[k] = now
                    heapq.heappush(ends, (now + self._durations[k], k))
            if not ends:
                break
            now = ends[0][0]
            freed: set[int] = set()
            while ends and ends[0][0] <= now + 1e-9:
                freed |= self._end(heapq.heappop(ends)[1])
            candidates = list(left) if shared else self._by_urgency(freed)
        return None if left else begins

    def _by_urgency(self, some: Iterable[int]) -> list[int]:
        return sorted(some, key=lambda k: (-self._urgency(k), k))

    def _urgency(self, k: int) -> float:
        hop = self._hops[k]
        return max(
            self._out_left[hop.source] / self._limits.outgoing,
            self._in_left[hop.dest] / self._limits.incoming,
        )

    def _may_start(self, k: int) -> bool:
        hop, limits = self._hops[k], self._limits
        if (
            self._before[k]
            or self._out.get(hop.source, 0) >= limits.outgoing
            or self._in.get(hop.dest, 0) >= limits.incoming
            or any(self._on_link[n] >= limits.links[n].limit for n in self._links[k])
        ):
            return False
        for name, amount in self._arrival[k]:
            left = self._free[name] - amount
            for j, more in self._coming[name].items() if self._keeps else ():
                # Those that come earlier stand first, and mostly few of them fill it.
                if left < 0 or j >= k:
                    break
                left -= more
            if left < 0:
                return False
        return True

    def _start(self, k: int) -> None:
        hop = self._hops[k]
        self._count(k, 1)
        self._out_left[hop.source] -= self._durations[k]
        self._in_left[hop.dest] -= self._durations[k]
        self._from[hop.source].discard(k)
        self._to[hop.dest].discard(k)
        for name, amount in self._arrival[k]:
            self._coming[name].pop(k, None)
            self._free[name] -= amount

    def _count(self, k: int, sign: int) -> None:
        hop = self._hops[k]
        self._out[hop.source] = self._out.get(hop.source, 0) + sign
        self._in[hop.dest] = self._in.get(hop.dest, 0) + sign
        self._flying += sign
        for n in self._links[k]:
            self._on_link[n] += sign

    def _end(self, k: int) -> set[int]:
        """End hop ``k``; return which hops that may let start."""
        hop = self._hops[k]
        self._count(k, -1)
        for i in self._after[k]:
            self._before[i].discard(k)
        freed = self._from[hop.source] | self._to[hop.dest]
        freed.update(self._after[k])
        for name, amount in self._departure[k]:
            if name in self._free:
                self._free[name] += amount
                freed.update(self._coming[name])
        return freed

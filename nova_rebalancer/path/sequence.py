# SPDX-License-Identifier: Apache-2.0
"""One hop after another: what fits goes, and what blocks steps aside.

Every hop is checked with its instance on both hosts, so any prefix of the sequence is sane.  When
nothing fits, the cheapest set of instances that keeps one out of its host is sent elsewhere (a
bypass): first such that have to leave anyway, which costs one hop more, then such that come back,
which costs two.  Where they find no refuge, room is made for them in turn, a few levels deep.

Nothing that is done here can make a target unreachable: moves can be undone.
"""

import collections
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence as Sequence_
import heapq
import itertools
import random

from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.path import base
from nova_rebalancer.path import board

Spot = tuple[int, board.Cells]
"""A host and the host cells of the guest cells."""

DEPTH = 2
"""How many levels deep room is made for those who step aside."""

SETS = 6
"""How many sets of blockers are tried for one instance and host."""

TOGETHER = 3
"""Most instances that step aside together."""

REFUGES = 6
"""How many full hosts are tried as a refuge."""

STEPS = 4
"""How often room is made for each instance, on average and at most."""

LOOKED = 300
"""How many sets of blockers are looked at for one instance and host."""


class Sequence:
    """The hops from a board's placement to the target, found by ``find``.

    Parameters
    ----------
    on
        The board; the hops are made on it.
    goal
        Where each instance that is not there yet belongs.
    price
        Of one move of each instance, (V,), > 0.
    rng
        Shakes the order, and the prices by up to a half, so that another attempt takes another
        way; None: no.

    Attributes
    ----------
    hops
        What was found, each sane after those before it.
    pending
        Who is not where it belongs, and where that is.
    """

    def __init__(
        self,
        on: board.Board,
        goal: Mapping[int, Spot],
        price: Sequence_[int],
        rng: random.Random | None = None,
    ) -> None:
        self.board = on
        self.hops: list[path.Hop] = []
        # Host by host: what leaves one host makes useful room together, so that a path that is
        # stopped half-way has paid for what it did.
        order = sorted(goal, key=lambda v: (on.host_of[v], v))
        if rng is not None:
            rng.shuffle(order)
        self.pending = {v: goal[v] for v in order}
        self._price, self._rng = price, rng
        self._waiting: dict[int, dict[int, None]] = collections.defaultdict(dict)
        for v, (h, _) in self.pending.items():
            self._waiting[h][v] = None
        self._on: dict[int, set[int]] = collections.defaultdict(set)
        for v in board.indices(on.start.movable):
            self._on[on.host_of[v]].add(v)
        # Who stepped aside from where it belongs: it goes home when the others are done, so that
        # the room that it has made serves more than one.
        self._parked: set[int] = set()
        # For each hop, whether its instance was pending and parked before.
        self._was: list[tuple[bool, bool]] = []
        # How often each host was touched, to see what is out of date.
        self._version: collections.Counter[int] = collections.Counter()
        self._tried: collections.Counter[tuple[int, frozenset[int]]] = collections.Counter()
        self._most = 0

    def find(self, limits: base.Limits) -> bool:
        """Fill ``hops``, at most ``limits.max_migrations``; return whether nothing is pending.

        If something is, the hops end where least was.
        """
        self._most = limits.max_migrations
        least = (len(self.pending), 0)
        self._settle(list(self.pending))
        steps = STEPS * len(self.pending) + 50
        queue: list[tuple[float, int, int]] = []
        aside = list(self.pending)
        went = True
        while self.pending and steps and len(self.hops) < self._most and not limits.spent():
            least = min(least, (len(self.pending), len(self.hops)))
            if not queue:
                if not went or len(self._parked) == len(self.pending):
                    if not self._bring_back():
                        break
                    aside = list(self.pending)
                went = False
                for v in dict.fromkeys(aside):
                    if v in self.pending and v not in self._parked:
                        self._enqueue(queue, v)
                aside = []
                continue
            _, v, version = heapq.heappop(queue)
            if v not in self.pending:
                continue
            if version != self._version[self.pending[v][0]]:
                self._enqueue(queue, v)
                continue
            steps -= 1
            if self._unblock(v):
                went = True
            else:
                aside.append(v)
        if (len(self.pending), len(self.hops)) > least:
            self._back_to(least[1])
        return not self.pending

    def rollback(self) -> None:
        """Undo all hops on the board; ``hops`` and ``pending`` stay as they were found."""
        for _ in self.hops:
            self.board.take_back()

    def _enqueue(self, queue: list[tuple[float, int, int]], v: int) -> None:
        """Put ``v`` into the queue with the price of the cheapest set that blocks it."""
        h, cells = self.pending[v]
        first = next(self._blocking_sets(v, h, cells, ()), None)
        price = float("inf") if first is None else first[0]
        if self._rng is not None:
            price *= 1 + self._rng.random() / 2
        heapq.heappush(queue, (price, v, self._version[h]))

    def _bring_back(self) -> bool:
        """Let those that stepped aside go home as well; say whether there are any."""
        parked = list(self._parked)
        self._parked.clear()
        self._settle(parked)
        return bool(parked)

    def _settle(self, ready: Iterable[int]) -> None:
        """Move all that fit where they belong, and whom this lets fit, until nobody does."""
        queue = collections.deque(ready)
        on = self.board
        while queue and len(self.hops) < self._most:
            v = queue.popleft()
            if v not in self.pending or v in self._parked:
                continue
            source = on.host_of[v]
            if self._arrive(v):
                queue.extend(self.pending if on.pooled else self._waiting[source])

    def _arrive(self, v: int) -> bool:
        """Move ``v`` to where it belongs if it fits now; say whether it went."""
        h, cells = self.pending[v]
        spot = self.board.spot_for(v, h, cells)
        if spot is None or len(self.hops) >= self._most:
            return False
        self._hop(v, h, spot)
        return True

    def _hop(self, v: int, h: int, cells: board.Cells) -> None:
        """Move ``v``, which is pending from then on unless it belongs there."""
        on = self.board
        source, here = on.host_of[v], on.cells_of[v]
        pending, parked = v in self.pending, v in self._parked
        self._was.append((pending, parked))
        if not pending:
            self.pending[v] = (source, here)
            self._waiting[source][v] = None
            self._parked.add(v)
        elif h == self.pending[v][0]:
            del self._waiting[h][v]
            del self.pending[v]
            self._parked.discard(v)
        self.hops.append(path.Hop(v, source, here, h, cells, path.DIRECT))
        on.move(v, h, cells)
        self._moved(v, source, h)

    def _moved(self, v: int, source: int, h: int) -> None:
        self._on[source].discard(v)
        self._on[h].add(v)
        self._version[source] += 1
        self._version[h] += 1

    def _back_to(self, count: int) -> None:
        """Undo hops until ``count`` are left."""
        while len(self.hops) > count:
            hop = self.hops.pop()
            pending, parked = self._was.pop()
            self.board.take_back()
            self._moved(hop.v, hop.dest, hop.source)
            if not pending:
                del self._waiting[hop.source][hop.v]
                del self.pending[hop.v]
            elif hop.v not in self.pending:
                self.pending[hop.v] = (hop.dest, hop.dest_cells)
                self._waiting[hop.dest][hop.v] = None
            if parked:
                self._parked.add(hop.v)
            else:
                self._parked.discard(hop.v)

    def _unblock(self, v: int) -> bool:
        """Make room for ``v`` and let it and all whom that helps go; say whether it went."""
        h, cells = self.pending[v]
        for depth in range(DEPTH + 1):
            for _, blockers in itertools.islice(self._blocking_sets(v, h, cells, ()), SETS):
                key = (v, frozenset(blockers))
                if self._tried[key] > 2:
                    continue
                count = len(self.hops)
                if self._clear(h, blockers, depth, {v}) and self._arrive(v):
                    self._tried[key] += 1
                    for host in dict.fromkeys(hop.source for hop in self.hops[count:]):
                        self._settle(list(self._waiting[host]))
                    return True
                self._back_to(count)
        return False

    def _clear(self, h: int, blockers: Collection[int], depth: int, locked: set[int]) -> bool:
        """Send ``blockers`` of host ``h`` elsewhere; say whether all found a place.

        What was done is not undone here when one did not.
        """
        if len(self.hops) + len(blockers) >= self._most:
            return False
        return all(self._refuge(u, depth, locked.union(blockers)) for u in blockers)

    def _refuge(self, u: int, depth: int, locked: set[int]) -> bool:
        """Send ``u`` to another host, making room there if need be; say whether it went."""
        if u in self.pending and self._arrive(u):
            return True
        for t in self._refuges(u):
            if self._step_aside(u, t):
                return True
        if depth:
            for t in self.board.nearly(u, REFUGES):
                for _, blockers in itertools.islice(self._blocking_sets(u, t, None, locked), 2):
                    count = len(self.hops)
                    if self._clear(t, blockers, depth - 1, locked) and self._step_aside(u, t):
                        return True
                    self._back_to(count)
        return False

    def _step_aside(self, u: int, t: int) -> bool:
        """Move ``u`` to host ``t`` if it fits; say whether it went."""
        if u in self.pending and t == self.pending[u][0]:
            return self._arrive(u)
        spot = self.board.spot(u, t)
        if spot is None or len(self.hops) >= self._most:
            return False
        self._hop(u, t, spot)
        return True

    def _refuges(self, u: int) -> Iterator[int]:
        """Hosts with room for ``u``: first where nobody waits for room, then the emptiest."""
        on = self.board
        hosts = on.hosts_with_room(u)
        if len(hosts) > 1:
            spare = on.room[hosts].min(axis=1) if on.room.shape[1] == 1 else on.room[hosts, 0]
            keys = [
                (bool(self._waiting.get(t)), -room)
                for t, room in zip(hosts, spare.tolist(), strict=True)
            ]
            if self._rng is not None:
                keys = [(waited, self._rng.random()) for waited, _ in keys]
            hosts = [t for _, t in sorted(zip(keys, hosts, strict=True))]
        return iter(hosts)

    def _blocking_sets(
        self, v: int, h: int, cells: board.Cells | None, locked: Collection[int]
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Sets of instances on ``h`` without which ``v`` fits, the cheapest of each size first.

        Sets that are ever larger are yielded only while they are cheaper than all before, or
        nothing was found.
        """
        on = self.board
        if not on.may_ever(v, h):
            return
        prices: dict[int, int] = {}
        for u in self._on[h]:
            if u != v and u not in locked:
                if u in self.pending:
                    prices[u] = self._price[u]
                elif state.NOWHERE not in on.cells_of[u]:
                    prices[u] = 2 * self._price[u]
        must = on.rivals(v, h)
        if any(u not in prices for u in must):
            return
        mates = on.mates(v, h)
        others = sorted((u for u in prices if u not in must), key=lambda u: (prices[u], u))
        fixed = sum(prices[u] for u in must)
        found: list[tuple[int, tuple[int, ...]]] = []
        if must and on.fits_without(v, h, cells, must, mates):
            found.append((fixed, tuple(must)))
        looked = 0
        for some in _combinations(others, prices):
            looked += 1
            price = fixed + sum(prices[u] for u in some)
            if looked > LOOKED or (found and price > 2 * found[0][0]) or len(found) >= SETS:
                break
            if any(set(less) <= {*must, *some} for _, less in found):
                continue
            if on.fits_without(v, h, cells, (*must, *some), mates):
                found.append((price, (*must, *some)))
        if not found:
            # More than a few have to go: the large ones are fewer, the small ones find room.
            for sign in (-1, 1):
                order = sorted(
                    others, key=lambda u: (u not in self.pending, sign * self._price[u], u)
                )
                gone = self._enough(v, h, cells, must, mates, order)
                if gone is not None:
                    found.append((sum(prices[u] for u in gone), gone))
        yield from sorted(found)

    def _enough(
        self,
        v: int,
        h: int,
        cells: board.Cells | None,
        must: Sequence_[int],
        mates: Sequence_[frozenset[int]],
        order: Sequence_[int],
    ) -> tuple[int, ...] | None:
        """Return as many of ``order`` as have to go, and no more; None if all are not enough."""
        on = self.board
        gone = list(must)
        for u in order:
            if on.fits_without(v, h, cells, gone, mates):
                break
            gone.append(u)
        if not on.fits_without(v, h, cells, gone, mates):
            return None
        for u in gone[len(must) :]:
            fewer = [w for w in gone if w != u]
            if on.fits_without(v, h, cells, fewer, mates):
                gone = fewer
        return tuple(gone)


def _combinations(
    candidates: Sequence_[int], prices: Mapping[int, int]
) -> Iterator[tuple[int, ...]]:
    """Yield one, two or three of ``candidates``, which ascend in price, the cheapest first."""
    heap: list[tuple[int, tuple[int, ...]]] = []
    if candidates:
        heap.append((prices[candidates[0]], (0,)))
    while heap:
        price, some = heapq.heappop(heap)
        yield tuple(candidates[i] for i in some)
        last = some[-1] + 1
        if last == len(candidates):
            continue
        more = prices[candidates[last]]
        heapq.heappush(heap, (price - prices[candidates[some[-1]]] + more, (*some[:-1], last)))
        if len(some) < TOGETHER:
            heapq.heappush(heap, (price + more, (*some, last)))

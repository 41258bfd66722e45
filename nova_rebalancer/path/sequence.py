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
        Shakes the prices by up to a half, so that another attempt takes another way; None: no.
    depth
        How deep room is made.
    """

    def __init__(
        self,
        on: board.Board,
        goal: Mapping[int, Spot],
        price: Sequence_[int],
        rng: random.Random | None = None,
        depth: int = DEPTH,
    ) -> None:
        self.board = on
        self.hops: list[path.Hop] = []
        # Host by host: what leaves one host makes useful room together, so that a path that is
        # stopped half-way has paid for what it did.
        order = sorted(goal, key=lambda v: (on.host_of[v], v))
        self.pending = {v: goal[v] for v in order}
        self._price = price
        self._rng, self._depth = rng, depth
        self._waiting: dict[int, dict[int, None]] = collections.defaultdict(dict)
        for v, (h, _) in self.pending.items():
            self._waiting[h][v] = None
        self._movable: list[bool] = on.start.movable.tolist()
        self._on: dict[int, set[int]] = collections.defaultdict(set)
        for v in board.indices(on.start.movable):
            self._on[on.host_of[v]].add(v)
        self._version: collections.Counter[int] = collections.Counter()
        self._tried: collections.Counter[tuple[int, frozenset[int]]] = collections.Counter()
        self._homes: list[int] = []
        self._most = 0

    def find(self, limits: base.Limits) -> bool:
        """Fill ``hops``, at most ``limits.max_migrations``; return whether nothing is pending."""
        self._most = limits.max_migrations
        self._settle(list(self.pending))
        steps = 4 * len(self.pending) + 50
        queue: list[tuple[float, int, int]] = []
        aside: list[int] = list(self.pending)
        went = True
        while self.pending and steps and len(self.hops) < self._most and not limits.spent():
            if not queue:
                if not went:
                    break
                went = False
                for v in aside:
                    if v in self.pending:
                        self._enqueue(queue, v)
                aside = []
                if not queue:
                    break
            price, v, version = heapq.heappop(queue)
            if v not in self.pending:
                continue
            if version != self._version[self.pending[v][0]]:
                self._enqueue(queue, v)
                continue
            steps -= 1
            before = set(self.pending)
            if self._unblock(v):
                went = True
                for u in self.pending.keys() - before:
                    self._enqueue(queue, u)
            if v in self.pending:
                aside.append(v)
        return not self.pending

    def rollback(self) -> None:
        """Undo all hops on the board; ``hops`` and ``pending`` stay as they were found."""
        for _ in self.hops:
            self.board.take_back()

    def _enqueue(self, queue: list[tuple[float, int, int]], v: int) -> None:
        """Put ``v`` into the queue with the price of the cheapest set that blocks it."""
        h = self.pending[v][0]
        sets = self._blocking_sets(v, *self.pending[v], ())
        first = next(iter(sets), None)
        price = float("inf") if first is None else first[0]
        if self._rng is not None:
            price *= 1 + self._rng.random() / 2
        heapq.heappush(queue, (price, v, self._version[h]))

    def _settle(self, ready: Iterable[int]) -> None:
        """Move all that fit where they belong, and whom this lets fit, until nobody does."""
        queue = collections.deque(ready)
        on = self.board
        while queue and len(self.hops) < self._most:
            v = queue.popleft()
            if v not in self.pending:
                continue
            h, cells = self.pending[v]
            spot = on.spot_for(v, h, cells)
            if spot is None:
                continue
            source = on.host_of[v]
            self._hop(v, h, spot, path.DIRECT)
            del self.pending[v]
            del self._waiting[h][v]
            queue.extend(self.pending if on.pooled else self._waiting[source])

    def _hop(self, v: int, h: int, cells: board.Cells, role: str) -> None:
        on = self.board
        source = on.host_of[v]
        self.hops.append(path.Hop(v, source, on.cells_of[v], h, cells, role))
        on.move(v, h, cells)
        self._moved(v, source, h)

    def _moved(self, v: int, source: int, h: int) -> None:
        self._on[source].discard(v)
        self._on[h].add(v)
        self._version[source] += 1
        self._version[h] += 1

    def _back_to(self, count: int) -> None:
        """Undo hops until ``count`` are left, and what they made pending."""
        while len(self.hops) > count:
            hop = self.hops.pop()
            self.board.take_back()
            self._moved(hop.v, hop.dest, hop.source)

    def _forget(self, homes: int) -> None:
        """Take those off the list that were put there since it had ``homes`` entries."""
        while len(self._homes) > homes:
            u = self._homes.pop()
            del self._waiting[self.pending.pop(u)[0]][u]

    def _unblock(self, v: int) -> bool:
        """Make room for ``v`` and let it and all whom that helps go; say whether it went."""
        h, cells = self.pending[v]
        for depth in range(self._depth + 1):
            for _, blockers in itertools.islice(self._blocking_sets(v, h, cells, ()), SETS):
                key = (v, frozenset(blockers))
                if self._tried[key] > 2:
                    continue
                count, homes = len(self.hops), len(self._homes)
                if self._clear(v, h, blockers, depth, {v}) and self._arrive(v, h, cells):
                    self._tried[key] += 1
                    self._homes.clear()
                    freed = [hop.source for hop in self.hops[count:]]
                    for host in dict.fromkeys(freed):
                        self._settle(list(self._waiting[host]))
                    return True
                self._back_to(count)
                self._forget(homes)
        return False

    def _arrive(self, v: int, h: int, cells: board.Cells) -> bool:
        """Move ``v`` to where it belongs if it fits now."""
        spot = self.board.spot_for(v, h, cells)
        if spot is None or len(self.hops) >= self._most:
            return False
        self._hop(v, h, spot, path.DIRECT)
        del self.pending[v]
        del self._waiting[h][v]
        return True

    def _clear(
        self, v: int, h: int, blockers: Collection[int], depth: int, locked: set[int]
    ) -> bool:
        """Send ``blockers`` of host ``h`` elsewhere; say whether all found a place.

        What was done is not undone here when one did not.
        """
        if len(self.hops) + len(blockers) >= self._most:
            return False
        for u in blockers:
            if not self._refuge(u, h, depth, locked | set(blockers)):
                return False
        return True

    def _refuge(self, u: int, h: int, depth: int, locked: set[int]) -> bool:
        """Send ``u`` from ``h`` to another host, making room there if need be."""
        on = self.board
        home = (h, on.cells_of[u])
        for t in self._refuges(u):
            spot = on.spot(u, t)
            if spot is not None:
                self._hop(u, t, spot, path.BYPASS)
                self._return_later(u, home)
                return True
        if not depth:
            return False
        for t in self._full_refuges(u):
            for _, blockers in itertools.islice(self._blocking_sets(u, t, None, locked), 2):
                count, homes = len(self.hops), len(self._homes)
                if self._clear(u, t, blockers, depth - 1, locked | {u}):
                    spot = on.spot(u, t)
                    if spot is not None and len(self.hops) < self._most:
                        self._hop(u, t, spot, path.BYPASS)
                        self._return_later(u, home)
                        return True
                self._back_to(count)
                self._forget(homes)
        return False

    def _return_later(self, u: int, home: Spot) -> None:
        if u not in self.pending:
            self.pending[u] = home
            self._waiting[home[0]][u] = None
            self._homes.append(u)

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

    def _full_refuges(self, u: int) -> list[int]:
        """Hosts that may have ``u`` but have no room, those first that lack least."""
        return self.board.nearly(u, REFUGES)

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
            # More than a few have to go: those that leave anyway first, then the largest.
            gone = list(must)
            for u in sorted(others, key=lambda u: (u not in self.pending, -self._price[u], u)):
                if on.fits_without(v, h, cells, gone, mates):
                    break
                gone.append(u)
            for u in list(gone):
                fewer = [w for w in gone if w != u]
                if u not in must and on.fits_without(v, h, cells, fewer, mates):
                    gone = fewer
            if on.fits_without(v, h, cells, gone, mates):
                found.append((sum(prices[u] for u in gone), tuple(gone)))
        yield from sorted(found)


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

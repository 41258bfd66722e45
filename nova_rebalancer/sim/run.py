# SPDX-License-Identifier: Apache-2.0
"""Carrying migrations out on the cloud in memory: each as soon as it may start.

What may start follows from the dependencies and the hosts' limits alone; no planned time is
looked at.
"""

import collections
from collections.abc import Sequence
import dataclasses
import heapq

from nova_rebalancer.sim import cloud


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """One migration to carry out; ``depends_on`` holds ids of orders to be confirmed before."""

    id: str
    instance: str
    source: str
    dest: str
    cells: tuple[int, ...] | None
    depends_on: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """An order that the cloud did not start, and why."""

    order: Order
    why: cloud.RefusedError


class Run:
    """Carries orders out on ``sim``: call ``start`` and ``finish`` in turn until all is still.

    Parameters
    ----------
    sim
        The cloud.
    orders
        In the order that decides who starts first when several may.
    outgoing, incoming
        Most migrations at a time from, and to, one host, at least 1.

    Raises
    ------
    ValueError
        If two orders have one id, an order waits for one that is not there, or orders wait for
        each other.
    """

    def __init__(
        self,
        sim: cloud.SimCloud,
        orders: Sequence[Order],
        outgoing: int = 1,
        incoming: int = 1,
    ) -> None:
        self.sim = sim
        self.orders = tuple(orders)
        self.confirmed: list[Order] = []
        self.refused: list[Refusal] = []
        self.flying: dict[str, tuple[Order, cloud.Flight]] = {}
        self._limits = (outgoing, incoming)
        self._stopped = False
        self._busy: collections.Counter[tuple[str, str]] = collections.Counter()
        position = {order.id: k for k, order in enumerate(self.orders)}
        if len(position) < len(self.orders):
            twice = collections.Counter(order.id for order in self.orders).most_common(1)[0][0]
            raise ValueError(f'two migrations have the id "{twice}"')
        self._waits_for = [set(order.depends_on) for order in self.orders]
        self._waiting: dict[str, list[int]] = collections.defaultdict(list)
        for k, needed in enumerate(self._waits_for):
            for other in needed:
                if other not in position:
                    raise ValueError(
                        f'migration "{self.orders[k].id}" depends on "{other}", which is not there'
                    )
                self._waiting[other].append(k)
        self._ready = [k for k, needed in enumerate(self._waits_for) if not needed]
        self._refuse_circles()

    def stop(self) -> None:
        """Start nothing more; what is in flight is finished."""
        self._stopped = True

    def start(self) -> list[Order | Refusal]:
        """Start all that may start now; return what was started and what was refused."""
        if self._stopped:
            return []
        done: list[Order | Refusal] = []
        later: list[int] = []
        outgoing, incoming = self._limits
        while self._ready:
            k = heapq.heappop(self._ready)
            order = self.orders[k]
            out, into = ("out", order.source), ("in", order.dest)
            if self._busy[out] >= outgoing or self._busy[into] >= incoming:
                later.append(k)
                continue
            try:
                flight = self.sim.live_migrate(
                    order.instance, order.source, order.dest, order.cells
                )
            except cloud.RefusedError as why:
                self.refused.append(Refusal(order, why))
                done.append(self.refused[-1])
                continue
            self.flying[order.instance] = (order, flight)
            self._busy[out] += 1
            self._busy[into] += 1
            done.append(order)
        self._ready = later  # ascending, so a heap
        return done

    def finish(self) -> list[tuple[Order, cloud.Flight]]:
        """Let time pass until the next confirmation; return all of that moment, empty if none."""
        if self.sim.next_end_s is None:
            return []
        done = []
        for flight in self.sim.advance(self.sim.next_end_s):
            order, _ = self.flying.pop(flight.instance)
            self._busy["out", order.source] -= 1
            self._busy["in", order.dest] -= 1
            self.confirmed.append(order)
            for k in self._waiting[order.id]:
                self._waits_for[k].discard(order.id)
                if not self._waits_for[k]:
                    heapq.heappush(self._ready, k)
            done.append((order, flight))
        return done

    def to_end(self) -> float:
        """Carry out all that can be and return the cloud's clock."""
        while self.start() or self.flying:
            self.finish()
        return self.sim.now_s

    def not_started(self) -> list[Order]:
        """Orders that were neither started nor refused: stopped, or waiting for ever."""
        known = {order.id for order in self.confirmed}
        known.update(refusal.order.id for refusal in self.refused)
        known.update(order.id for order, _ in self.flying.values())
        return [order for order in self.orders if order.id not in known]

    def _refuse_circles(self) -> None:
        left = [len(needed) for needed in self._waits_for]
        free = list(self._ready)
        for k in free:
            for other in self._waiting[self.orders[k].id]:
                left[other] -= 1
                if not left[other]:
                    free.append(other)
        if len(free) < len(self.orders):
            k = min(set(range(len(self.orders))).difference(free))
            raise ValueError(f'migration "{self.orders[k].id}" waits, over others, for itself')

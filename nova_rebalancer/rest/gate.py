# SPDX-License-Identifier: Apache-2.0
"""How many requests may be under way: as many as the cloud answers without getting slower.

Additive increase and multiplicative decrease, as TCP does it (Chiu and Jain 1989): each answer
in good time opens the gate a little, a refusal for load or a latency far above the usual halves
it.
"""

from collections.abc import Callable
import threading
import time

SLOW = 4.0
"""An answer this many times slower than the best average of its kind is a sign of load."""

NOTICEABLE_S = 0.1
"""Differences below it are noise."""

LOOK_S = 0.5
"""How often who waits looks whether it is over."""

WEIGHT = 0.2
"""Of the newest answer in the moving average of latencies."""


class Gate:
    """Lets at most ``limit`` requests through at once, and ``per_s`` a second.

    Threads call ``enter`` before a request and ``leave`` after it.
    """

    def __init__(self, most: int, per_s: float) -> None:
        self.most = most
        self.limit = float(most)
        self._apart_s = 1.0 / per_s
        self._next = 0.0
        self._inside = 0
        self._closed_until = 0.0
        self._shrunk = 0.0
        self._average: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._changed = threading.Condition()

    def enter(self, over: Callable[[], bool]) -> bool:
        """Wait until a request may be sent; False if ``over`` says so before."""
        with self._changed:
            while not over():
                now = time.monotonic()
                wait_s = max(self._next, self._closed_until) - now
                full = self._inside >= max(1, int(self.limit))
                if not full and wait_s <= 0:
                    self._inside += 1
                    self._next = now + self._apart_s
                    return True
                self._changed.wait(LOOK_S if full else min(wait_s, LOOK_S))
        return False

    def leave(self, kind: str, latency_s: float, refused_s: float | None = None) -> None:
        """Tell how it went.

        ``kind`` are the requests whose latencies compare; ``refused_s`` is given when the cloud
        refused for load: how long it wants to be left alone, 0 if it did not say.
        """
        with self._changed:
            self._inside -= 1
            if refused_s is not None:
                self._closed_until = max(self._closed_until, time.monotonic() + refused_s)
                self._shrink()
            elif self._slow(kind, latency_s):
                self._shrink()
            else:
                self.limit = min(self.most, self.limit + 1.0 / self.limit)
            self._changed.notify_all()

    def _slow(self, kind: str, latency_s: float) -> bool:
        average = self._average.get(kind, latency_s)
        average += WEIGHT * (latency_s - average)
        self._average[kind] = average
        best = self._best[kind] = min(self._best.get(kind, average), average)
        return average > SLOW * best + NOTICEABLE_S

    def _shrink(self) -> None:
        # What was under way at the last step down says nothing of what came of it.
        now = time.monotonic()
        if now - self._shrunk > 1.0:
            self._shrunk = now
            self.limit = max(1.0, self.limit / 2)

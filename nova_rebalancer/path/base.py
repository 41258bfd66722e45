# SPDX-License-Identifier: Apache-2.0
"""What the path-finder is given: a cost, limits, and a way to be stopped."""

from collections.abc import Callable
import dataclasses
import math
import time
from typing import Protocol

from nova_rebalancer.model import state


class Cost(Protocol):
    """What a migration costs and how long it takes."""

    def cost(self, start: state.PlacementState, v: int) -> float:
        """Return the cost of moving instance ``v`` once; only comparisons matter."""

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """Return the estimated seconds that moving instance ``v`` takes, > 0."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a path may use.

    Parameters
    ----------
    max_migrations
        Most migrations, bypasses included.
    outgoing, incoming
        Most migrations at a time from, and to, one host; Nova's own default is 1 outgoing
        (``max_concurrent_live_migrations``).
    deadline
        ``time.monotonic()`` value to end the search at.
    stopped
        Asked now and then whether to end the search.
    """

    max_migrations: int
    outgoing: int = 1
    incoming: int = 1
    deadline: float = math.inf
    stopped: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        for name in ("outgoing", "incoming"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def spent(self) -> bool:
        """Whether to end the search now."""
        return self.stopped() or time.monotonic() >= self.deadline

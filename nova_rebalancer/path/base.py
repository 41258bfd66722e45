# SPDX-License-Identifier: Apache-2.0
"""What the path-finder is given: a cost, limits, and a way to be stopped."""

from collections.abc import Callable
import dataclasses
import math
import time
from typing import Protocol

from nova_rebalancer.model import links
from nova_rebalancer.model import state


class Cost(Protocol):
    """What a migration costs and how long it takes."""

    def cost(self, start: state.PlacementState, v: int) -> float:
        """Return the cost of moving instance ``v`` once, >= 0; only comparisons matter."""

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """Return the estimated seconds that moving instance ``v`` takes, > 0."""


COST, MAKESPAN = "cost", "makespan"
"""What to make small first: the sum of the costs, or the time until the last migration ends."""


Link = links.Link


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
    total
        Most migrations at a time in the whole cloud, None for any number.
    links
        What several migrations share on their way.
    prefer
        COST or MAKESPAN.
    work
        Most placements that the exact search looks at; the same number gives the same path on
        any machine, as long as the deadline does not come first.
    """

    max_migrations: int
    outgoing: int = 1
    incoming: int = 1
    deadline: float = math.inf
    stopped: Callable[[], bool] = lambda: False
    total: int | None = None
    links: tuple[Link, ...] = ()
    prefer: str = COST
    work: int = 2_000_000

    def __post_init__(self) -> None:
        for name in ("outgoing", "incoming", "total", "work"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.prefer not in (COST, MAKESPAN):
            raise ValueError(f"prefer must be {COST} or {MAKESPAN}, not {self.prefer}")

    def spent(self) -> bool:
        """Whether to end the search now."""
        return self.stopped() or time.monotonic() >= self.deadline

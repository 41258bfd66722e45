# SPDX-License-Identifier: Apache-2.0
"""What every planner is given and what it tells while it works."""

import dataclasses
import math
import time
from typing import Protocol

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base

LAST_S = 0.05
"""Seconds before the deadline that are not worth starting anything in."""


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """What a planner may spend.

    Parameters
    ----------
    max_migrations
        Most instances it may move.
    deadline
        ``time.monotonic()`` value to end at; infinity for none.
    work
        Solver work, in its own deterministic units; None for no limit.
    max_mib
        Most memory of the instances it moves, in all; None for no limit.
    """

    max_migrations: int
    deadline: float = math.inf
    work: float | None = None
    max_mib: int | None = None

    @property
    def limit(self) -> "Limit":
        """What it may move."""
        return Limit(self.max_migrations, self.max_mib)

    def left_s(self) -> float:
        """Seconds to the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def over(self) -> bool:
        """Whether the clock has ended the work; solvers stop a little before their limit."""
        return self.left_s() <= LAST_S


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """Most instances that may move, and most memory of them in all; None for no limit."""

    moves: int
    mib: int | None = None

    def less(self, start: state.PlacementState, moved: arrays.Bools) -> "Limit":
        """Return what is left beside those that ``moved``, (V,)."""
        mib = None if self.mib is None else self.mib - int(memories(start)[moved].sum())
        return Limit(self.moves - int(moved.sum()), mib)


def memories(start: state.PlacementState) -> arrays.Ints:
    """Return the memory that a migration of each instance copies, (V,), 0 where it is not told."""
    if "MEMORY_MB" not in start.resources:
        return np.zeros(start.host_of.size, dtype=np.int64)
    found: arrays.Ints = start.demand[:, start.resources.index("MEMORY_MB")]
    return found


class Pace:
    """What part of a processor this process gets, since this was made."""

    LEAST_S = 0.2
    """What is measured over less than that says nothing."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.monotonic(), time.process_time()

    def share(self) -> float:
        """Return the part, in [0, 1]; 1 where it is not known."""
        wall_s = time.monotonic() - self._wall_s
        if wall_s < self.LEAST_S:
            return 1.0
        return min(1.0, (time.process_time() - self._cpu_s) / wall_s)


class Watch:
    """Hears how the work goes and can end it; this one hears nothing.

    Planners call these from whatever thread they work in.
    """

    def incumbent(self, value: float) -> None:
        """A placement of this value was found."""

    def bound(self, value: float) -> None:
        """No placement is better than this."""

    def stopped(self) -> bool:
        """Whether to end now with the best found."""
        return False


class Planner(Protocol):
    """A planner answers with a target that is never worse than ``start``.

    It moves only movable instances, at most ``budget.max_migrations`` of them with at most
    ``budget.max_mib`` of memory, each to another host, and breaks no hard rule that ``start`` does
    not break.
    """

    def __call__(
        self,
        start: state.PlacementState,
        goal: base.Goal,
        budget: Budget,
        seed: int,
        watch: Watch,
    ) -> target.Target:
        """Return where the instances should be."""

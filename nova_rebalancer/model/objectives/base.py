# SPDX-License-Identifier: Apache-2.0
"""What a goal is."""

from collections.abc import Iterable
import dataclasses
from typing import Protocol

from nova_rebalancer.model import path
from nova_rebalancer.model import state


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One term of an objective; ``unit`` says what ``value`` counts."""

    name: str
    unit: str
    weight: float
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """The value of a placement and its breakdown."""

    value: float
    parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """The value after one hop, and in words what the hop did."""

    value: float
    text: str


class Goal(Protocol):
    """Something to minimise."""

    @property
    def name(self) -> str:
        """The word after ``--goal``."""

    def evaluate(self, placement: state.PlacementState) -> Value:
        """Return the value of ``placement``."""

    def trace(self, start: state.PlacementState, hops: Iterable[path.Hop]) -> list[Step]:
        """Return what each of ``hops``, carried out in order from ``start``, does."""

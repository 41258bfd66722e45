# SPDX-License-Identifier: Apache-2.0
"""What a goal is."""

from collections.abc import Iterable
import dataclasses
from typing import Protocol

from nova_rebalancer.model import cloud
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


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What operators may set about goals.

    Attributes
    ----------
    fragment_cores
        Each X of the fragment rate.
    flavors
        Flavors by name, and sizes as VCPUS:MEMORY_MIB, to have room for.
    drain
        Service hosts and aggregates, by name, to empty.
    balance_resources
        What to even out: resource classes, and names of measured use; VCPU stands for all cores.
    balance_on
        "allocation", "use" (measured; the allocation where nothing was measured) or "both".
    headroom, headroom_of
        Share of a host's capacity of every resource that consolidation leaves free, in [0, 1), and
        of single resource classes in its place; VCPU stands for all cores where PCPU is not named.
    spare_hosts
        How many of the largest hosts' capacity consolidation leaves free in all, for failures.
    idle_w, busy_w
        Watts of a host without a power model of its own, without load and with all cores busy.
    inlet_limit_c
        Inlet temperature at which a host should carry no heat.
    locality_key
        Metadata key, or the beginning of tags before "=", that names an instance's workload.
    ignored_rules
        Rules of Nova that are not kept; whoever breaks one has nothing to repair.
    """

    fragment_cores: tuple[int, ...] = (16,)
    flavors: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    balance_resources: tuple[str, ...] = ("VCPU", "MEMORY_MB")
    balance_on: str = "allocation"
    headroom: float = 0.0
    headroom_of: dict[str, float] = dataclasses.field(default_factory=dict)
    spare_hosts: int = 0
    idle_w: float = 100.0
    busy_w: float = 300.0
    inlet_limit_c: float = 40.0
    locality_key: str = "workload"
    ignored_rules: tuple[str, ...] = ()


class Make(Protocol):
    """What an entry point of ``nova_rebalancer.goals`` is."""

    def __call__(
        self, snapshot: cloud.Snapshot, start: state.PlacementState, settings: Settings
    ) -> Goal:
        """Return the goal for one cloud, whose arrays are ``start``.

        Raises
        ------
        UsageError
            If the settings name what this cloud does not have.
        """

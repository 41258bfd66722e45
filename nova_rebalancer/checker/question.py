# SPDX-License-Identifier: Apache-2.0
"""What a path answers: a cloud, and where its instances should be."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from nova_rebalancer.checker import facts


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A cloud and a target.

    Attributes
    ----------
    id
        What the question is called; None for a snapshot, whose paths may be called anything.
    cloud
        Without the instances that are stopped first.
    target
        Where each instance belongs; ``cells`` is None where the target names none.
    costs
        Price of a migration by instance; None where it is the memory that migrations copy.
    move_s
        How long each migration takes; None where it may take any time.
    known
        What the file of cases says is proved about it.
    stops, starts
        Instances that leave first, and the host of each one that comes last.
    """

    id: str | None
    cloud: facts.Cloud
    target: Mapping[str, facts.Place]
    costs: Mapping[str, int] | None = None
    move_s: float | None = None
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stops: frozenset[str] = frozenset()
    starts: Mapping[str, str] = dataclasses.field(default_factory=dict)

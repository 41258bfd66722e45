# SPDX-License-Identifier: Apache-2.0
"""Where instances should be, and how good that is."""

import dataclasses

from nova_rebalancer.model import arrays
from nova_rebalancer.model.objectives import base

OPTIMAL, FEASIBLE, TIME_LIMIT, INTERRUPTED = "optimal", "feasible", "time_limit", "interrupted"
INFEASIBLE, NOTHING_TO_DO = "infeasible", "nothing_to_do"

TOLERANCE = 1e-9
"""Values closer than this are equal."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What a planner answers.

    Attributes
    ----------
    host_of, cells_of
        (V,) and (V, G), as in a placement state.
    value
        The goal there.
    bound
        No placement within the limit on migrations has a lower value, whatever the order of
        moves; None when the planner has no bound.
    status
        How the planner ended: OPTIMAL, FEASIBLE, TIME_LIMIT or INTERRUPTED.
    planner, seed
        Who made it, from which seed.
    """

    host_of: arrays.Ints
    cells_of: arrays.Ints
    value: base.Value
    bound: float | None
    status: str
    planner: str
    seed: int


def gap(after: float, bound: float | None) -> float | None:
    """Return (after - bound) / abs(after); 0 when both are 0, None without a bound."""
    if bound is None:
        return None
    if after == bound:
        return 0.0
    return (after - bound) / abs(after) if after else None

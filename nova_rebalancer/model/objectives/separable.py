# SPDX-License-Identifier: Apache-2.0
"""A goal that is a formula of what each host carries."""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import formula


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Separable:
    """A goal for one cloud.

    Attributes
    ----------
    name, unit
        What it is called and what its value counts.
    formula
        The value.
    details
        Further parts of the breakdown, of weight 0, from (V,) hosts.
    reserve
        (R,) share of each host's capacity that stays free where instances are sent to, or None.
    needs
        (R,) capacity of usable hosts with anything on them, in all, that must remain, or None.
    """

    name: str
    unit: str
    formula: formula.Formula
    details: Callable[[arrays.Ints], tuple[base.Part, ...]] = lambda host_of: ()
    reserve: arrays.Floats | None = None
    needs: arrays.Ints | None = None

    def evaluate(self, placement: state.PlacementState) -> base.Value:
        """Return the value and its breakdown."""
        value = self.formula.value(placement.host_of)
        part = base.Part(self.name, self.unit, 1.0, value)
        return base.Value(value, (part, *self.details(placement.host_of)))

    def counted(self, placement: state.PlacementState) -> arrays.Bools:
        """Return which instances the value would be lower without, (V,) mask."""
        every = np.arange(placement.host_of.size)
        change = formula.Tally(self.formula, placement.host_of).leaving(every)
        counts: arrays.Bools = change < 0
        return counts

    def trace(self, start: state.PlacementState, hops: Iterable[path.Hop]) -> list[base.Step]:
        """Return the value after each hop."""
        tally = formula.Tally(self.formula, start.host_of)
        steps = []
        for hop in hops:
            before = tally.value
            tally.move(hop.v, hop.dest)
            text = f"{self.name}: {before:.6g} -> {tally.value:.6g}"
            steps.append(base.Step(tally.value, text))
        return steps

    def narrowed(self, start: state.PlacementState) -> state.PlacementState:
        """Return the state whose rows keep the reserve; what is above it takes nothing more."""
        if self.reserve is None:
            return start
        kept = np.floor(start.capacity * (1.0 - self.reserve)).astype(np.int64)
        return dataclasses.replace(start, capacity=state.frozen(kept))

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
class Needs:
    """What hosts with anything on them go on to offer in all.

    Attributes
    ----------
    amount
        (R,) how much.
    offered
        (H, R) what each host counts for as long as anything is on it.
    """

    amount: arrays.Ints
    offered: arrays.Ints


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
        What must remain, or None; such a goal has one term, of what each host has on it.
    """

    name: str
    unit: str
    formula: formula.Formula
    details: Callable[[arrays.Ints], tuple[base.Part, ...]] = lambda host_of: ()
    reserve: arrays.Floats | None = None
    needs: Needs | None = None

    def enough(self, host_of: arrays.Ints) -> bool:
        """Whether a placement, (V,) hosts, leaves what must remain."""
        if self.needs is None:
            return True
        (term,) = self.formula.terms
        on = term.carried(host_of)[0] > 0
        return bool((self.needs.offered[on].sum(axis=0) >= self.needs.amount).all())

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

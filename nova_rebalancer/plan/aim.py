# SPDX-License-Identifier: Apache-2.0
"""What a neighbourhood search needs of a goal: a model to minimise, and hosts worth opening."""

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import base as budgets
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import terms

WIDEST = 40
"""Hosts opened at most at first; for the fragment rate on 279 hosts 25 to 60 did as well."""

NARROWEST = 6

NAMED = 12
"""Hosts opened at first where conflicts tell all instances apart."""

PLACES = 6000
"""Places that the model of a neighbourhood may have at first, about."""


class Aim:
    """The goal of a search.

    Parameters
    ----------
    start
        The placement that migrations are counted from.
    """

    def __init__(self, start: state.PlacementState, goal: base.Goal) -> None:
        self.goal = goal
        self._cores = terms.cores(goal)
        self._apart = terms.told_apart(start, goal)
        self._plain = isinstance(goal, fragmentation.Fragmentation)
        count = len(kinds.kinds(start, self._apart)) / max(1, len(start.hosts))
        wide = WIDEST if self._plain else (PLACES / max(1.0, count)) ** 0.5
        most = NAMED if start.conflicts else WIDEST
        self.width = float(min(most, max(NARROWEST, wide)))

    def model(
        self, part: state.PlacementState, limit: budgets.Limit, best: state.PlacementState
    ) -> flow.FlowModel:
        """Return the model of ``part``, whose objective is the value and then the migrations.

        ``best`` is a placement to start from.
        """
        model = flow.FlowModel(
            part,
            self._cores,
            limit,
            tolerant=False,
            all_kinds=kinds.kinds(kinds.apart(part), self._apart),
        )
        model.hint(best.host_of, best.cells_of)
        if self._plain:
            # Also where moves change the free cores, which slots alone do not tell.
            model.model.maximize(model.slots * (model.limit + 1) - model.moves)
            return model
        encoded = terms.Encoded(model, self.goal)
        encoded.hint(best)
        model.model.minimize(encoded.value.expr * (model.limit + 1) + model.moves)
        return model

    def weights(self, now: state.PlacementState) -> arrays.Floats:
        """Return how much each host is worth opening, (H,); 0 for those that are not usable."""
        found = np.ones(len(now.hosts))
        goals = (
            list(self.goal.members()) if isinstance(self.goal, combined.Combined) else [self.goal]
        )
        for goal in goals:
            if isinstance(goal, fragmentation.Fragmentation):
                free = fragmentation.unit_free(now, now.used(), now.cell_used(), now.topologyless())
                found += goal.residue(free).sum(axis=1) / goal.per_core
            elif isinstance(goal, separable.Separable):
                found += _prices(goal.formula, now) * len(now.hosts)
                found += _room(goal.formula, now) * len(now.hosts)
        return found * now.usable


def _prices(given: formula.Formula, now: state.PlacementState) -> arrays.Floats:
    """Return each host's part in the value, (H,), all together 1 or, without any, 0."""
    found = np.zeros(len(now.hosts))
    np.add.at(found, now.host_of, given.stay * (now.host_of == given.home))
    for term in given.terms:
        found += term.by_host(term.carried(now.host_of))
    total = float(found.sum())
    return found / total if total > 0 else found


def _room(given: formula.Formula, now: state.PlacementState) -> arrays.Floats:
    """Return each host's part in what hosts could carry more without a price, (H,)."""
    found = np.zeros(len(now.hosts))
    for term in given.terms:
        if not isinstance(term, formula.Term):
            continue
        if isinstance(term.curve, formula.Excess) and term.labels == 1:
            spare = np.maximum(0, term.curve.limit - term.carried(now.host_of)[0])
            found += spare / max(1, int(spare.sum()))
    total = float(found.sum())
    return found / total if total > 0 else found

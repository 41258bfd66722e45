# SPDX-License-Identifier: Apache-2.0
"""End what breaks the rules now: instances where none may be, groups too close or split."""

from collections.abc import Iterator

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.model.constraints import conflicts
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable

NOT_BROKEN = (
    *("usable", "scope", "banned_hosts", "numa", "provider_tree", "units"),
    *constraints.RELATIONS,
)
"""Rules on what may be sent to a host, or between two; who is there already breaks none of them."""


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal: instances that break a host rule, pairs, and members too many or apart."""
    view = state.view_of(snapshot, rules.Settings(frozenset(settings.ignored_rules)))
    stay = np.zeros(start.host_of.size)
    for v, instance in enumerate(snapshot.instances):
        here = view.hosts[int(start.host_of[v])]
        stay[v] = any(
            refusal.rule not in NOT_BROKEN
            for refusal in constraints.violations(view, instance, here, here)
        )
    crowding = tuple(_group(start, group) for group in start.groups)
    meeting = tuple(_pairs(snapshot, start))
    parting = tuple(_split(snapshot, start))

    def details(host_of: arrays.Ints) -> tuple[base.Part, ...]:
        misplaced = float(stay[host_of == start.host_of].sum())
        crowded = sum(term.price(term.carried(host_of)) for term in crowding)
        paired = sum(term.price(term.carried(host_of)) for term in meeting)
        apart = sum(term.price(term.carried(host_of)) for term in parting)
        return (
            base.Part("repair_misplaced", "instances", 0.0, misplaced),
            base.Part("repair_crowded", "members", 0.0, crowded),
            base.Part("repair_paired", "pairs", 0.0, paired),
            base.Part("repair_apart", "members", 0.0, apart),
        )

    terms = (*crowding, *meeting, *parting)
    return separable.Separable(
        "repair", "violations", formula.Formula(terms, stay, start.host_of), details
    )


def _group(start: state.PlacementState, group: state.Group) -> formula.Term:
    """Count the members of an anti-affinity group beyond its limit on each host."""
    amount = np.zeros_like(start.host_of)
    amount[list(group.members)] = 1
    hosts = len(start.hosts)
    arriving = np.bincount(np.array(group.arriving, dtype=np.int64), minlength=hosts)
    curve = formula.Excess(np.full(hosts, group.limit, dtype=np.int64), np.ones(hosts))
    return formula.plain(amount, arriving.astype(np.int64), curve)


def _pairs(snapshot: cloud.Snapshot, start: state.PlacementState) -> Iterator[formula.Term]:
    """Count the pairs of the snapshot's conflicts that are on one host; no others ever meet."""
    index = {name: v for v, name in enumerate(start.instances)}
    for pair in conflicts.of(snapshot.conflicts, index, {}).together(start.host_of).tolist():
        yield _group(start, state.Group("", 1, tuple(pair), ()))


def _split(snapshot: cloud.Snapshot, start: state.PlacementState) -> Iterator[formula.Term]:
    """Count the members of each split affinity group that are not on its main host.

    That is the host with most of them, of several a usable one.  Nothing migrates the members (see
    ``migratable``), so these are counted for a person to end, and groups on one host are left out.
    """
    hosts = len(start.hosts)
    index = {name: v for v, name in enumerate(start.instances)}
    for group in snapshot.server_groups:
        members = [index[member] for member in group.members if member in index]
        if group.policy != "affinity" or len({*start.host_of[members].tolist()}) < 2:
            continue
        there = np.bincount(start.host_of[members], minlength=hosts)
        main = max(range(hosts), key=lambda h: (there[h], start.usable[h]))
        amount = np.zeros_like(start.host_of)
        amount[members] = 1
        price = np.ones(hosts)
        price[main] = 0.0
        nothing = np.zeros(hosts, dtype=np.int64)
        yield formula.plain(amount, nothing, formula.Excess(nothing, price))

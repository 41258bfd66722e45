# SPDX-License-Identifier: Apache-2.0
"""The placement as arrays, narrowed to what the chosen checks leave of it.

What a check allows less of than Placement is a further resource of the name ``VCPU@checked`` and
the like, with the demand of the first and a capacity of its own: everything that keeps to
capacities keeps to it, and no goal counts it.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import reason
from nova_rebalancer.model import state
from nova_rebalancer.model.checks import base as checks
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import migratable

Named = tuple[str, checks.Check]
"""A check and what it is called."""


def build(snapshot: cloud.Snapshot, settings: base.Settings) -> state.PlacementState:
    """Build the arrays of ``snapshot`` under the rules and the checks of ``settings``.

    Raises
    ------
    UsageError
        If the value of a check is none of it.
    """
    if not settings.checks:
        return state.build(snapshot, settings)
    chosen = bound(snapshot, settings)
    pairs = itertools.chain.from_iterable(check.apart() for _, check in chosen)
    apart = dataclasses.replace(snapshot, conflicts=(*snapshot.conflicts, *pairs))
    start = state.build(apart, settings)
    start = _capacities(snapshot, start, chosen)
    return _moves(snapshot, start, chosen)


def bound(snapshot: cloud.Snapshot, settings: base.Settings) -> list[Named]:
    """Return the checks of ``settings`` for one snapshot."""
    return [(chosen.name, chosen.of(snapshot)) for chosen in settings.checks]


def stays(chosen: Sequence[Named], instance: cloud.Instance) -> migratable.Obstacle | None:
    """Return the first check's answer that keeps an instance where it is."""
    for name, check in chosen:
        verdict = check.instance(instance)
        if not verdict.allowed:
            return migratable.Obstacle(_reason(name, verdict))
    return None


def refused(
    chosen: Sequence[Named], instance: cloud.Instance, dest: cloud.Host
) -> Iterator[reason.Reason]:
    """Yield why checks keep an instance off a host."""
    for name, check in chosen:
        verdict = check.arrival(instance, dest)
        if not verdict.allowed:
            yield _reason(name, verdict)


def _reason(name: str, verdict: checks.Verdict) -> reason.Reason:
    why = verdict.why or "no reason is given"
    return reason.Reason("check", {"check": name, **verdict.params}, f"check {name}: {why}")


def _has(chosen: Sequence[Named], method: str) -> list[Named]:
    """Return the checks that have something of their own to say there."""
    plain = getattr(checks.Check, method)
    return [one for one in chosen if getattr(type(one[1]), method, plain) is not plain]


def _capacities(
    snapshot: cloud.Snapshot, start: state.PlacementState, chosen: Sequence[Named]
) -> state.PlacementState:
    """Add a resource for each that a check leaves less of than Placement."""
    asked = _has(chosen, "most")
    most = start.capacity.copy()
    providers: tuple[cloud.Host | cloud.Pool, ...] = (*snapshot.hosts, *snapshot.pools)
    index = {resource: r for r, resource in enumerate(start.resources)}
    for p, provider in enumerate(providers):
        for resource, inventory in provider.inventories.items():
            r = index[resource]
            for _, check in asked:
                most[p, r] = min(most[p, r], check.most(resource, inventory))
    less = np.nonzero((most < start.capacity).any(axis=0))[0]
    if not less.size:
        return start

    def wider(array: arrays.Ints, more: arrays.Ints) -> arrays.Ints:
        return state.frozen(np.concatenate((array, more), axis=-1))

    return dataclasses.replace(
        start,
        resources=(*start.resources, *(start.resources[r] + state.CHECKED for r in less)),
        capacity=wider(start.capacity, np.maximum(0, most[:, less])),
        row_of=wider(start.row_of, start.row_of[:, less]),
        base=wider(start.base, start.base[:, less]),
        demand=wider(start.demand, start.demand[:, less]),
        load=state.frozen(np.concatenate((start.load, start.load[:, less]), axis=1)),
        guest=wider(start.guest, np.zeros((*start.guest.shape[:2], less.size), dtype=np.int64)),
        cell_capacity=wider(
            start.cell_capacity,
            np.full((*start.cell_capacity.shape[:2], less.size), state.UNLIMITED),
        ),
    )


def _moves(
    snapshot: cloud.Snapshot, start: state.PlacementState, chosen: Sequence[Named]
) -> state.PlacementState:
    """Take away the moves that a check forbids."""
    keeping, sending = _has(chosen, "instance"), _has(chosen, "arrival")
    excluded = dict(start.excluded)
    rows = list(start.allowed)
    classes: dict[tuple[int, bytes], int] = {}
    eligibility_of = start.eligibility_of.copy()
    for v, instance in enumerate(snapshot.instances):
        if v in excluded:
            continue
        found = stays(keeping, instance)
        if found is not None:
            excluded[v] = found
            continue
        if not sending:
            continue
        e, here = int(eligibility_of[v]), int(start.host_of[v])
        mask, first = start.allowed[e].copy(), None
        for h in np.nonzero(mask)[0].tolist():
            why = next(refused(sending, instance, snapshot.hosts[h]), None) if h != here else None
            if why is not None:
                mask[h], first = False, first or why
        if first is not None:
            key = e, mask.tobytes()
            if key not in classes:
                classes[key] = len(rows)
                rows.append(mask)
            eligibility_of[v] = classes[key]
            if mask.sum() <= mask[here]:
                excluded[v] = migratable.Obstacle(first)
    movable = start.movable.copy()
    movable[list(excluded)] = False
    return dataclasses.replace(
        start,
        eligibility_of=state.frozen(eligibility_of),
        allowed=state.frozen(np.array(rows, dtype=bool).reshape(len(rows), len(start.hosts))),
        movable=state.frozen(movable),
        excluded=dict(sorted(excluded.items())),
    )

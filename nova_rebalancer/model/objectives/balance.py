# SPDX-License-Identifier: Apache-2.0
"""Even load: the share of the load that is on hosts with more than their fair share.

References
----------
VMware DRS minimises the spread of the hosts' loads.  The sum of what lies above the mean is used in
place of the standard deviation: it has a unit that people understand (the share of the load that
would have to be elsewhere) and exact linear models.  Maximum, standard deviation and entropy of the
hosts' loads are in the breakdown.
"""

import math

import numpy as np

from nova_rebalancer import exceptions
from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable

FINE = 1000
"""Measured use is counted in thousandths."""

CORES = "VCPU"


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal for the resources of ``settings.balance_resources``.

    Raises
    ------
    UsageError
        If a resource is neither allocated nor measured anywhere.
    """
    terms, loads = [], []
    for name in settings.balance_resources:
        _known(snapshot, start, name)
        ways = _ways(snapshot, name, settings.balance_on)
        weight = 1.0 / (len(ways) * len(settings.balance_resources))
        for way in ways:
            amount, fixed, capacity = measured(snapshot, start, name, way)
            capacity = np.where(start.usable, capacity, 0)
            carried = formula.summed(amount, fixed, start.host_of)
            total = int(carried[start.usable].sum())
            if not total or not capacity.sum():
                continue
            price = np.where(start.usable, weight / total, 0.0)
            fair = float(total) * capacity / capacity.sum()
            term = formula.plain(amount, fixed, formula.Excess(fair, price))
            terms.append(term)
            loads.append((f"{name.lower()}_{way}", term, capacity))
    if not terms:
        names = ", ".join(settings.balance_resources)
        raise exceptions.UsageError(f"goal balance: no host of this cloud carries any {names}")

    def details(host_of: arrays.Ints) -> tuple[base.Part, ...]:
        found: list[base.Part] = []
        for name, term, capacity in loads:
            counted = capacity > 0
            carried = term.carried(host_of)[0][counted]
            load = carried / capacity[counted]
            share = carried[carried > 0] / carried.sum()
            even = math.log(max(2, int(np.count_nonzero(counted))))
            for what, value in (
                ("max", float(load.max())),
                ("spread", float(load.std())),
                ("entropy", float(-(share * np.log(share)).sum() / even)),
            ):
                found.append(base.Part(f"{name}_{what}", "load", 0.0, value))
        return tuple(found)

    return separable.Separable(
        "balance",
        "share",
        formula.Formula(tuple(terms), np.zeros(start.host_of.size), start.host_of),
        details,
    )


def _classes(name: str) -> tuple[str, ...]:
    """Return the resource classes that ``name`` stands for."""
    return (CORES, "PCPU") if name == CORES else (name,)


def _known(snapshot: cloud.Snapshot, start: state.PlacementState, name: str) -> None:
    """Refuse what is no resource of the cloud and was not measured."""
    there = any(r in start.resources for r in _classes(name))
    if not there and not any(name in one.usage for one in snapshot.instances):
        raise exceptions.UsageError(
            f"goal balance: {name} is neither a resource of this cloud nor measured; there are: "
            + ", ".join(start.resources)
        )


def _ways(snapshot: cloud.Snapshot, name: str, on: str) -> tuple[str, ...]:
    """Return how a resource is counted; what nobody offers or allocates, by its use alone."""
    names = {name, "PCPU"} if name == CORES else {name}
    known = {r for host in snapshot.hosts for r in host.inventories}
    known |= {r for pool in snapshot.pools for r in pool.inventories}
    known |= {r for one in snapshot.instances for r in one.allocations}
    if names.isdisjoint(known):
        return ("use",)
    return ("allocation", "use") if on == "both" else (on,)


def measured(
    snapshot: cloud.Snapshot, start: state.PlacementState, name: str, way: str
) -> tuple[arrays.Ints, arrays.Ints, arrays.Ints]:
    """Return what instances take (V,), what else is charged (H,), and what hosts have (H,).

    Cores are VCPU and PCPU together.  All three in units of the resource, of measured use in
    thousandths.  Where hosts have no inventory of something measured, they count as equal.
    """
    hosts = len(start.hosts)
    usage = [one.usage for one in snapshot.instances]
    asked = _classes(name)
    columns = [start.resources.index(r) for r in asked if r in start.resources]
    amount = start.demand[:, columns].sum(axis=1)
    fixed, capacity = np.zeros(hosts, dtype=np.int64), np.zeros(hosts, dtype=np.int64)
    for r in columns:
        # A pool's charges belong to no host.
        own = start.row_of[:, r] == np.arange(hosts)
        fixed += np.where(own, start.base[:hosts, r], 0)
        capacity += np.where(start.row_of[:, r] != state.NOWHERE, _offered(start, r), 0)
    if way == "use":
        used = [
            sum(one[r].mean for r in asked if r in one) if any(r in one for r in asked) else None
            for one in usage
        ]
        amount = np.array(
            [
                round(FINE * (float(allocated) if mean is None else mean))
                for allocated, mean in zip(amount.tolist(), used, strict=True)
            ],
            dtype=np.int64,
        )
        fixed, capacity = FINE * fixed, FINE * capacity
    if not capacity.any():
        capacity = np.where(start.usable, FINE, 0)
    return np.maximum(amount, 0), np.maximum(fixed, 0), capacity


def _offered(start: state.PlacementState, r: int) -> arrays.Ints:
    """Capacity of resource ``r`` for each host, (H,); a pool's is shared out evenly."""
    rows = start.row_of[:, r]
    sharing = np.bincount(rows[rows >= 0], minlength=len(start.capacity))
    found: arrays.Ints = start.capacity[rows, r] // np.maximum(1, sharing[rows])
    return found

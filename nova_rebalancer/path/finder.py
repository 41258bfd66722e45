# SPDX-License-Identifier: Apache-2.0
"""From a state and a target to a migration path."""

from collections.abc import Sequence
import dataclasses

from nova_rebalancer.model import arrays
from nova_rebalancer.model import path
from nova_rebalancer.model import reason
from nova_rebalancer.model import state
from nova_rebalancer.path import base
from nova_rebalancer.path import dependencies
from nova_rebalancer.path import schedule
from nova_rebalancer.path import sequence


def find(
    start: state.PlacementState,
    host_of: arrays.Ints,
    cells_of: arrays.Ints,
    cost: base.Cost,
    limits: base.Limits,
) -> path.MigrationPath:
    """Find an order of live migrations from ``start`` to ``host_of`` (V,), ``cells_of`` (V, G).

    What cannot be reached stays where it is, or where its last bypass left it, and is named with
    the reason; the other migrations stand.  A change of cells on one host is not a migration.
    """
    goal: dict[int, sequence.Spot] = {}
    refused: dict[int, reason.Reason] = {}
    for v in (host_of != start.host_of).nonzero()[0].tolist():
        name, host = start.instances[v], start.service_hosts[host_of[v]]
        if v in start.excluded:
            refused[v] = start.excluded[v].reason
        elif not start.allowed[start.eligibility_of[v], host_of[v]]:
            refused[v] = reason.Reason(
                "not_allowed", {"host": host}, f"{name} must not be on {host}"
            )
        else:
            cells = tuple(int(n) for n in cells_of[v, : start.guests_of[v]])
            goal[v] = (int(host_of[v]), cells)
    order = sequence.Sequence(start, goal, cost)
    order.find(limits)
    return from_hops(start, order.hops, {**refused, **order.unreachable}, cost, limits)


def from_hops(
    start: state.PlacementState,
    hops: Sequence[path.Hop],
    unreachable: dict[int, reason.Reason],
    cost: base.Cost,
    limits: base.Limits,
) -> path.MigrationPath:
    """Make a path of ``hops`` that are sane one after another."""
    last = {hop.v: k for k, hop in enumerate(hops)}
    hops = [
        dataclasses.replace(hop, role=path.DIRECT if last[hop.v] == k else path.BYPASS)
        for k, hop in enumerate(hops)
    ]
    depends_on = dependencies.find(start, hops)
    migrations = schedule.schedule(start, hops, depends_on, cost, limits)
    return path.MigrationPath(tuple(migrations), dict(sorted(unreachable.items())))

# SPDX-License-Identifier: Apache-2.0
"""Is a target a placement that may be at all?

What the snapshot itself overfills is no fault of the target, until something arrives there.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base


class InsaneTargetError(ValueError):
    """Something is overfull, or together that must be apart; the text says what and where."""


def check(
    start: state.PlacementState,
    host_of: arrays.Ints,
    cells_of: arrays.Ints,
    snapshot: cloud.Snapshot,
    settings: base.Settings,
    new: Mapping[str, cloud.Instance],
) -> None:
    """Refuse a target with something overfull that anything arrives on.

    Parameters
    ----------
    host_of, cells_of
        The target, (V,) and (V, G).
    snapshot, settings
        What ``start`` was built of.
    new
        Instances that are started in the end, by name.

    Raises
    ------
    InsaneTargetError
        If it is one.
    """
    whole, arrive = start, (host_of != start.host_of)
    if new:
        instances = (*snapshot.instances, *new.values())
        whole = narrowed.build(dataclasses.replace(snapshot, instances=instances), settings)
        host_of = np.concatenate((host_of, whole.host_of[host_of.size :]))
        cells_of = np.concatenate((cells_of, whole.cells_of[cells_of.shape[0] :]))
        arrive = np.concatenate((arrive, np.ones(len(new), dtype=bool)))
        for v in range(len(start.instances), len(whole.instances)):
            if not whole.allowed[whole.eligibility_of[v], host_of[v]]:
                name = whole.service_hosts[host_of[v]]
                raise InsaneTargetError(
                    f'"{whole.instances[v]}": a rule keeps new instances off {name}'
                )
    end = whole.placed(host_of, cells_of)
    arriving = np.nonzero(arrive)[0].tolist()
    rows: dict[tuple[int, int], list[int]] = {}
    for v in arriving:
        for r in np.nonzero(whole.demand[v])[0].tolist():
            row = int(whole.row_of[host_of[v], r])
            old = state.NOWHERE
            if v < start.host_of.size:
                old = int(whole.row_of[start.host_of[v], r])
            if row not in (state.NOWHERE, old):
                rows.setdefault((row, r), []).append(v)
    used = end.used()
    for (row, r), ones in sorted(rows.items()):
        if used[row, r] > whole.capacity[row, r]:
            host = whole.service_hosts[host_of[ones[0]]]
            what = host if row < len(whole.hosts) else f"the pool of {host}"
            raise InsaneTargetError(
                f"the target overfills {what}: {used[row, r]} of {whole.capacity[row, r]} "
                f"{_named(whole.resources[r])}; there arrive "
                f"{base.listed([whole.instances[v] for v in ones])}"
            )
    _refuse_full_cells(end, arriving)
    count = state.in_groups(end)
    for k, group in enumerate(whole.groups):
        for v in set(group.members).intersection(arriving):
            if count[k, host_of[v]] > group.limit:
                raise InsaneTargetError(
                    f'"{whole.instances[v]}": the target has {count[k, host_of[v]]} members of '
                    f"anti-affinity group {group.id} on {whole.service_hosts[host_of[v]]}, which "
                    f"may have {group.limit}"
                )
    for v in arriving:
        others = [u for u in whole.conflicts.of(v).tolist() if host_of[u] == host_of[v]]
        if others:
            raise InsaneTargetError(
                f'"{whole.instances[v]}": the target has it on {whole.service_hosts[host_of[v]]} '
                f"with {whole.instances[others[0]]}, which it must never be with"
            )


def _refuse_full_cells(end: state.PlacementState, arriving: list[int]) -> None:
    """Refuse overfull NUMA cells, where the target decides on them."""
    if end.topologies is not None:
        return
    free = end.numa_free()
    for v in arriving:
        h = int(end.host_of[v])
        # Where a rule keeps it off the host, it has no cells there.
        for n in end.cells_of[v][end.cells_of[v] != state.NOWHERE].tolist():
            for r in np.nonzero(free[h, n] < 0)[0].tolist():
                most = int(end.cell_capacity[h, n, r])
                raise InsaneTargetError(
                    f'"{end.instances[v]}": the target overfills NUMA cell {end.cell_ids[h][n]} of '
                    f"{end.service_hosts[h]}: {most - int(free[h, n, r])} of {most} "
                    f"{end.resources[r]}"
                )


def _named(resource: str) -> str:
    """Name a resource for people."""
    checked = " as the checks have it" if resource.endswith(state.CHECKED) else ""
    return resource.removesuffix(state.CHECKED).removesuffix(state.NESTED) + checked

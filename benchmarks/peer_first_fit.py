# SPDX-License-Identifier: Apache-2.0
"""First-fit consolidation, as Watcher's strategy vm_workload_consolidation does it.

Our statement of the algorithm: hosts are put in order of how much of their CPU is used.  What is
on overloaded hosts is offloaded first; then, from the least used host on, each instance, the
largest first, goes to the most used host that has room for it, if that is a more used one.  In the
end a way A to B to C is made one migration A to C.

The files have allocations and no measurements, so the load is what is allocated; no host is
overloaded then and nothing is offloaded.  Watcher knows no NUMA nodes; here it is told of them, and
takes the first that has room, because a plan without them could not be carried out.  It stops when
the limit of migrations is reached.
"""

import time

import peer_cluster


def solve(cluster: peer_cluster.Cluster, limit: int) -> tuple[list[peer_cluster.Place], float]:
    """Return where the instances are then, and the seconds it took."""
    began = time.monotonic()
    places = cluster.start()
    free = cluster.free(places)
    left = free[:, :, 0].sum(axis=1) / cluster.capacity[:, :, 0].sum(axis=1)
    order = sorted(range(len(cluster.hosts)), key=lambda h: -left[h])
    on: dict[int, list[int]] = {h: [] for h in order}
    for v, one in enumerate(cluster.instances):
        if one.movable:
            on[one.start[0]].append(v)
    moved: set[int] = set()

    def room(v: int, host: int) -> tuple[int, ...] | None:
        fits = (free[host] >= cluster.instances[v].part).all(axis=1)
        if cluster.instances[v].double:
            return (0, 1) if fits.all() else None
        return next(((n,) for n, fit in enumerate(fits) if fit), None)

    for k, source in enumerate(order):
        for v in sorted(on[source], key=lambda v: -cluster.instances[v].cores):
            if v not in moved and len(moved) == limit:
                continue
            for dest in reversed(order[k + 1 :]):
                nodes = room(v, dest)
                if nodes is not None:
                    free[source, list(places[v][1])] += cluster.instances[v].part
                    free[dest, list(nodes)] -= cluster.instances[v].part
                    places[v] = dest, nodes
                    on[dest].append(v)
                    moved.add(v)
                    break
    return places, time.monotonic() - began

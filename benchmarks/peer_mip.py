# SPDX-License-Identifier: Apache-2.0
"""The plain model: a binary for each instance, host and NUMA node, solved by CP-SAT.

The published model of VMR2L (arXiv 2505.17359) as we understand it: an instance on one node is on
exactly one (host, node), one on two nodes on exactly one host with half of it on each node; cores
and memory of every node hold; whole slots of X cores are counted on each node and their number is
maximised; whatever is not where it was counts against the limit.  Its binary "host in use" plays
no part in this goal and is left out.  The order of migrations is no part of the model.

The placement as it is is the solver's hint, so that there is always an answer.
"""

import collections
import dataclasses
import time

from ortools.sat.python import cp_model
import peer_cluster

MOST_BINARIES = 2_000_000
"""A model of more takes longer to build and more memory than there is."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The best placement found and the most slots there can be; ``binaries`` of the model."""

    places: list[peer_cluster.Place]
    most_slots: int
    proven: bool
    binaries: int
    seconds: float


class TooLarge(Exception):
    """The model would have more binaries than are worth building."""


def choices(cluster: peer_cluster.Cluster, v: int) -> list[peer_cluster.Place]:
    """Where an instance could be were the cluster empty."""
    one = cluster.instances[v]
    if not one.movable:
        return [one.start]
    fits = (cluster.capacity >= one.part).all(axis=2).tolist()
    if one.double:
        return [(h, (0, 1)) for h, nodes in enumerate(fits) if all(nodes)]
    return [(h, (n,)) for h, nodes in enumerate(fits) for n, fit in enumerate(nodes) if fit]


def solve(cluster: peer_cluster.Cluster, limit: int, time_limit_s: float, workers: int) -> Answer:
    """Solve within ``time_limit_s``; building the model takes what it takes and is counted.

    Raises
    ------
    TooLarge
        Where the model has more than ``MOST_BINARIES``.
    """
    began = time.monotonic()
    sizes: dict[object, list[peer_cluster.Place]] = {}
    ways = []
    for v, one in enumerate(cluster.instances):
        key = (one.part, one.double) if one.movable else v
        if key not in sizes:
            sizes[key] = choices(cluster, v)
        ways.append(sizes[key])
    binaries = sum(map(len, ways))
    if binaries > MOST_BINARIES:
        raise TooLarge(f"{binaries} binaries")
    model = cp_model.CpModel()
    at: list[dict[peer_cluster.Place, cp_model.IntVar]] = []
    into = collections.defaultdict(list)
    for one, mine in zip(cluster.instances, ways, strict=True):
        here = {place: model.new_bool_var("") for place in mine}
        model.add_exactly_one(here.values())
        for place, var in here.items():
            model.add_hint(var, place == one.start)
            for node in place[1]:
                into[place[0], node].append((var, *one.part))
        at.append(here)
    stays = [here[one.start] for one, here in zip(cluster.instances, at, strict=True)]
    model.add(sum(stays) >= len(stays) - limit)
    slots = []
    free = cluster.free(cluster.start())
    for (host, node), terms in into.items():
        cores, memory = cluster.capacity[host, node].tolist()
        slots.append(model.new_int_var(0, cores // peer_cluster.X, ""))
        model.add_hint(slots[-1], int(free[host, node, 0]) // peer_cluster.X)
        variables, takes, megabytes = (list(column) for column in zip(*terms, strict=True))
        model.add(
            cp_model.LinearExpr.weighted_sum([*variables, slots[-1]], [*takes, peer_cluster.X])
            <= cores
        )
        model.add(cp_model.LinearExpr.weighted_sum(variables, megabytes) <= memory)
    model.maximize(sum(slots))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = workers
    solver.parameters.max_time_in_seconds = time_limit_s
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    places = cluster.start()
    if found:
        places = [
            next(place for place, var in here.items() if solver.boolean_value(var)) for here in at
        ]
    # Migrations do not change how many cores are free in all.
    most = int(free[:, :, 0].sum()) // peer_cluster.X
    if found:
        most = min(most, int(solver.best_objective_bound + 1e-6))
    return Answer(places, most, status == cp_model.OPTIMAL, binaries, time.monotonic() - began)

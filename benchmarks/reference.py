# SPDX-License-Identifier: Apache-2.0
"""Reference optimum of the fragment rate after at most K migrations, by an aggregated flow model.

    python benchmarks/reference.py FILE... [--max-migrations 50] [--time-limit 300]

Reads VMR2L-format files and shares no code with nova_rebalancer, so that neither can inherit the
other's errors.  The order of migrations is ignored: the optimum bounds every plan, and there may
be no way to carry it out.

Instances of one size are interchangeable.  For every size the model counts how many leave and
enter each NUMA node (each host for instances over two nodes), instead of one binary variable per
instance and place: 8,000 integers, not a million, for 279 hosts.  A migration goes to
another host, so those that leave a host must fit into what enters the others: for each size,
``leaving(h) + entering(h) <= all that leave``.  That is Hall's condition for a transportation
problem whose diagonal is forbidden, so it is exact.
"""

import argparse
import collections
import dataclasses
import gzip
import json
import pathlib
import time
from typing import Any

from ortools.sat.python import cp_model


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the solver found; rates are in [0, 1]."""

    before: float
    optimum: float
    bound: float
    proven: bool
    migrations: int
    seconds: float


@dataclasses.dataclass
class Node:
    """One NUMA node of an active host: what it has and what is free, in cores and MB."""

    cores: int
    memory: int
    free_cores: int
    free_memory: int

    def most(self, cores: int, memory: int) -> int:
        """How many instances of a size the empty node holds."""
        return min(self.cores // max(cores, 1), self.memory // max(memory, 1))


Place = tuple[str, int]
"""A NUMA node: host and node number."""

Size = tuple[int, int]
"""Cores and MB on each node that the instance uses."""


def read(path: str | pathlib.Path) -> dict[str, Any]:
    """Parse a VMR2L file, gzipped or not."""
    data = pathlib.Path(path).read_bytes()
    document: dict[str, Any] = json.loads(
        gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    )
    return document


def solve(
    document: dict[str, Any],
    max_migrations: int = 50,
    x: int = 16,
    time_limit_s: float = 300.0,
    workers: int = 2,
) -> Reference:
    """Best fragment rate within ``max_migrations``, with a bound where there is no proof.

    Parameters
    ----------
    document
        A parsed VMR2L file.  Disabled hosts do not count, and instances that must not migrate
        stay where they are.
    max_migrations
        The limit K.
    x
        The size in cores of the instance that fragments cannot hold.
    time_limit_s, workers
        Given to CP-SAT.  One worker alone is now and then stuck for minutes where two need
        seconds; a proven optimum is the same whatever the number.

    Raises
    ------
    ValueError
        If the file has what this model cannot say: deployment sets by host, an instance that is
        not split in halves, a node that is overfull.
    """
    nodes, singles, doubles = _counts(document)
    hosts = _pairs(nodes)
    free = sum(node.free_cores for node in nodes.values())
    before = sum(node.free_cores % x for node in nodes.values()) / free if free else 0.0
    started = time.monotonic()

    model = cp_model.CpModel()
    # What the migrations add to each node, as terms of a sum.
    cores: dict[Place, list[Any]] = {place: [] for place in nodes}
    memory: dict[Place, list[Any]] = {place: [] for place in nodes}
    leaving: list[Any] = []
    for sizes, targets in (
        (singles, {place: (place,) for place in nodes}),
        (doubles, hosts),
    ):
        for size, count_at in sorted(sizes.items()):
            out, into = [], []
            at_host: dict[str, list[Any]] = collections.defaultdict(list)
            for target, places in targets.items():
                most = min(nodes[place].most(*size) for place in places)
                gone = model.new_int_var(0, min(count_at[target], max_migrations), "")
                come = model.new_int_var(0, min(most, max_migrations), "")
                for place in places:
                    cores[place].append(size[0] * (come - gone))
                    memory[place].append(size[1] * (come - gone))
                out.append(gone)
                into.append(come)
                at_host[places[0][0]] += [gone, come]
            model.add(sum(out) == sum(into))
            for terms in at_host.values():
                model.add(sum(terms) <= sum(out))
            leaving += out
    slots = []
    for place, node in nodes.items():
        slots.append(model.new_int_var(0, node.cores // x, ""))
        model.add(x * slots[-1] + sum(cores[place]) <= node.free_cores)
        model.add(sum(memory[place]) <= node.free_memory)
    model.add(sum(leaving) <= max_migrations)
    model.maximize(sum(slots))

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = workers
    # The proof comes from the LP relaxation; at the default level too little of the model is in.
    solver.parameters.linearization_level = 2
    solver.parameters.max_time_in_seconds = time_limit_s
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise ValueError(f"no solution: {solver.status_name(status)}")
    # Whole slots: a bound of 152.7 slots is one of 152.
    best, most_slots = round(solver.objective_value), int(solver.best_objective_bound + 1e-6)
    return Reference(
        before=before,
        optimum=(free - x * best) / free if free else 0.0,
        bound=(free - x * most_slots) / free if free else 0.0,
        proven=status == cp_model.OPTIMAL,
        migrations=sum(solver.value(gone) for gone in leaving),
        seconds=time.monotonic() - started,
    )


def _counts(
    document: dict[str, Any],
) -> tuple[
    dict[Place, Node],
    dict[Size, collections.Counter[Any]],
    dict[Size, collections.Counter[Any]],
]:
    """Nodes of active hosts, and how many movable instances of each size each place has.

    Single-node instances are counted at nodes, those over two nodes at hosts.
    """
    nodes: dict[Place, Node] = {}
    for cluster in document["cluster_list"]:
        if any(
            entry["granularity"] == "host" and len(entry["data"]) > 1
            for entry in cluster.get("other_requirement", {}).get("deployment_set", ())
        ):
            raise ValueError("deployment sets by host are not in this model")
        for host in cluster["host_info"]:
            if host["status"] != "ACTIVE":
                continue
            for cell in host["numa"]:
                cores, memory = int(cell["total_cpu"]), int(cell["memory_huge_total_mb"])
                nodes[host["node_id"], cell["node"]] = Node(cores, memory, cores, memory)
    singles: dict[Size, collections.Counter[Any]] = collections.defaultdict(collections.Counter)
    doubles: dict[Size, collections.Counter[Any]] = collections.defaultdict(collections.Counter)
    for cluster in document["cluster_list"]:
        for instance in cluster["vm_instance"]:
            host, parts = instance["host_id"], instance["numa"]
            if (host, parts[0]["node"]) not in nodes:
                continue
            for part in parts:
                nodes[host, part["node"]].free_cores -= int(part["cpu"])
                nodes[host, part["node"]].free_memory -= int(part["mem_mb"])
            sizes = {(int(part["cpu"]), int(part["mem_mb"])) for part in parts}
            if len(sizes) != 1 or len(parts) > 2:
                raise ValueError(f"{instance['instance_id']} is not in equal halves")
            if not instance["allow_migration"]:
                continue
            if len(parts) == 1:
                singles[sizes.pop()][host, parts[0]["node"]] += 1
            else:
                doubles[sizes.pop()][host] += 1
    for place, node in nodes.items():
        if node.free_cores < 0 or node.free_memory < 0:
            raise ValueError(f"node {place} is overfull")
    return nodes, singles, doubles


def _pairs(nodes: dict[Place, Node]) -> dict[str, tuple[Place, ...]]:
    """The two nodes of each host that has two."""
    found: dict[str, list[Place]] = collections.defaultdict(list)
    for place in nodes:
        found[place[0]].append(place)
    return {host: tuple(places) for host, places in found.items() if len(places) == 2}


def main() -> None:
    """Print one line for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--max-migrations", type=int, default=50)
    parser.add_argument("--time-limit", type=float, default=300.0, help="seconds for each file")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(
        f"{'file':28} {'before':>8} {'optimum':>8} {'bound':>8} {'proven':>6} {'moves':>5} {'s':>6}"
    )
    for file in options.files:
        found = solve(
            read(file),
            options.max_migrations,
            time_limit_s=options.time_limit,
            workers=options.workers,
        )
        print(
            f"{pathlib.Path(file).name:28} {found.before:8.5f} {found.optimum:8.5f}"
            f" {found.bound:8.5f} {'yes' if found.proven else 'no':>6} {found.migrations:5}"
            f" {found.seconds:6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

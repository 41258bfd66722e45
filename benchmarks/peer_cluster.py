# SPDX-License-Identifier: Apache-2.0
"""What ``peers.py`` measures on: a cluster of a VMR2L file, and one judge for every placement."""

import dataclasses
from typing import Any

import numpy as np

X = 16
"""Cores of the instance that free capacity should have room for."""

Place = tuple[int, tuple[int, ...]]
"""Index of a host, and the NUMA nodes used there."""

Amount = tuple[int, int]
"""Cores and MB."""


@dataclasses.dataclass(frozen=True)
class Instance:
    """An instance; ``part`` is what it takes of each NUMA node that it is on."""

    name: str
    part: Amount
    start: Place
    movable: bool

    @property
    def double(self) -> bool:
        """Whether it is on two nodes."""
        return len(self.start[1]) == 2

    @property
    def cores(self) -> int:
        """What it takes in all."""
        return self.part[0] * len(self.start[1])


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Active hosts and what is on them; ``capacity`` is (H, nodes, 2): cores and MB."""

    hosts: tuple[str, ...]
    capacity: Any
    instances: tuple[Instance, ...]

    def start(self) -> list[Place]:
        """Where every instance is."""
        return [one.start for one in self.instances]

    def free(self, places: list[Place]) -> Any:
        """What is left with the instances at ``places``, (H, nodes, 2)."""
        free = self.capacity.copy()
        for one, (host, nodes) in zip(self.instances, places, strict=True):
            free[host, list(nodes)] -= np.array(one.part)
        return free

    def rate(self, places: list[Place]) -> float:
        """Share of the free cores that no X-core instance can use, 0 when nothing is free."""
        return self.rate_of(int((self.free(places)[:, :, 0] // X).sum()))

    def rate_of(self, slots: int) -> float:
        """The rate when there is room for so many X-core instances."""
        free = int(self.free(self.start())[:, :, 0].sum())
        return (free - X * slots) / free if free else 0.0

    def migrations(self, places: list[Place]) -> int:
        """How many instances are not where they were; another node of the same host counts."""
        return sum(one.start != place for one, place in zip(self.instances, places, strict=True))

    def judge(self, places: list[Place], limit: int) -> str:
        """Say what is wrong with a placement, ``ok`` when nothing is."""
        moved = self.migrations(places)
        if moved > limit:
            return f"{moved} migrations"
        for one, (_, nodes) in zip(self.instances, places, strict=True):
            if len(set(nodes)) != len(one.start[1]):
                return f"{one.name} is on nodes {nodes}"
        for one, place in zip(self.instances, places, strict=True):
            if not one.movable and place != one.start:
                return f"{one.name} must not move"
        overfull = np.argwhere(self.free(places) < 0)
        if len(overfull):
            host, node, _ = overfull[0]
            return f"node {node} of {self.hosts[host]} is overfull"
        return "ok"


def read(document: dict[str, Any]) -> Cluster:
    """Read a parsed VMR2L file whose hosts have two nodes and whose instances equal parts."""
    found = [
        host
        for cluster in document["cluster_list"]
        for host in cluster["host_info"]
        if host["status"] == "ACTIVE"
    ]
    index = {host["node_id"]: h for h, host in enumerate(found)}
    capacity = np.array(
        [
            [[cell["total_cpu"], cell["memory_huge_total_mb"]] for cell in host["numa"]]
            for host in found
        ],
        dtype=np.int64,
    )
    instances = []
    for cluster in document["cluster_list"]:
        for one in cluster["vm_instance"]:
            if one["host_id"] in index:
                parts = {(int(part["cpu"]), int(part["mem_mb"])) for part in one["numa"]}
                if len(parts) != 1:
                    raise ValueError(f"{one['instance_id']} is not in equal parts")
                nodes = tuple(sorted(int(part["node"]) for part in one["numa"]))
                place = index[one["host_id"]], nodes
                instances.append(
                    Instance(one["instance_id"], parts.pop(), place, one["allow_migration"])
                )
    return Cluster(tuple(index), capacity, tuple(instances))

# SPDX-License-Identifier: Apache-2.0
"""Small clouds with names, and a strategy of random ones; all as snapshot documents.

X of the fragment rate is CORES, 4, so that small numbers of cores have fragments and slots.
"""

from collections.abc import Sequence
import json
import random
from typing import Any

import hypothesis.strategies as st

from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state

Document = dict[str, Any]

CORES = 4
"""X in these tests."""


def host(name: str, cores: int = 8, core: str = "VCPU", **facts: Any) -> Document:
    """A host with ``cores`` cores and memory to spare."""
    inventories = {core: {"total": cores}, "MEMORY_MB": {"total": 1 << 20}}
    return {"id": name, "inventories": inventories, **facts}


def numa_host(name: str, cores: int = 8, core: str = "VCPU", **facts: Any) -> Document:
    """A host with cells 0 and 1 of half of ``cores`` each."""
    cells = [{"id": n, "capacity": {core: cores // 2}} for n in (0, 1)]
    return host(name, cores, core, numa={"provenance": "operator", "cells": cells}, **facts)


def instance(name: str, on: str, cores: int = 4, core: str = "VCPU", **facts: Any) -> Document:
    """An instance without NUMA topology, with a GiB of memory."""
    return {"id": name, "host": on, "allocations": {core: cores, "MEMORY_MB": 1024}, **facts}


def numa_instance(
    name: str, on: str, guests: dict[int, int], core: str = "VCPU", **facts: Any
) -> Document:
    """An instance with a guest cell for each host cell in ``guests``, of so many cores."""
    numa = [{"cell": cell, "resources": {core: cores}} for cell, cores in guests.items()]
    return instance(name, on, sum(guests.values()), core, numa=numa, **facts)


def snapshot(hosts: list[Document], instances: list[Document], **facts: Any) -> Document:
    """A snapshot document."""
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "small",
        "taken_at": "2026-01-01T00:00:00Z",
        "numa_choice": "planner",
        "hosts": hosts,
        "instances": instances,
        **facts,
    }


def as_bytes(made: Document) -> bytes:
    """The document as it lies in a file."""
    return json.dumps(made).encode()


def facts_of(made: Document) -> cloud.Snapshot:
    """The facts in a document."""
    return document.loads(as_bytes(made), "test")[0]


def state_of(made: Document) -> state.PlacementState:
    """The arrays of a document."""
    return state.build(facts_of(made))


def empty() -> Document:
    """No hosts, no instances."""
    return snapshot([], [])


def full() -> Document:
    """Two hosts without a free core."""
    return snapshot([host("a"), host("b")], [instance("i", "a", 8), instance("j", "b", 8)])


def overfull() -> Document:
    """Host a is charged 10 of 8 cores; b has 8 free."""
    hosts = [host("a"), host("b")]
    return snapshot(hosts, [instance("i", "a", 6), instance("j", "a", 4)])


def three_hosts() -> Document:
    """Three hosts of 8 cores with 6, 6 and 4 taken: free 2, 2, 4, so the rate is 4 / 8.

    Moving j (2 cores) from a to b gives free 4, 0, 4 and the rate 0.
    """
    return snapshot(
        [host("a"), host("b"), host("c")],
        [
            instance("i", "a", 4),
            instance("j", "a", 2),
            instance("k", "b", 6),
            instance("m", "c", 4),
        ],
    )


def swap_cycle(spare: int = 8) -> Document:
    """i on a and j on b each fill their host; host c has room for either when ``spare`` is 8."""
    return snapshot(
        [host("a"), host("b"), host("c", spare)],
        [instance("i", "a", 8), instance("j", "b", 8)],
    )


def exchange() -> Document:
    """The rate falls from 4 / 8 to 0 if i and j, neither fitting beside the other, are exchanged.

    Free are 2 on a (i 3, fixed 2, of 7), 2 on b (j 5 of 7) and 4 on c; afterwards 0, 4 and 4.
    """
    return snapshot(
        [host("a", 7), host("b", 7), host("c", 4)],
        [instance("i", "a", 3), instance("fixed", "a", 2, locked=True), instance("j", "b", 5)],
    )


def numa_doubles() -> Document:
    """Two NUMA hosts of 8 + 8 cores: on a guests of 2 + 2 and 4 + 2, on b one of 2."""
    return snapshot(
        [numa_host("a", 16), numa_host("b", 16)],
        [
            numa_instance("even", "a", {0: 2, 1: 2}),
            numa_instance("uneven", "a", {0: 4, 1: 2}),
            numa_instance("single", "b", {1: 2}),
        ],
    )


def mixed() -> Document:
    """NUMA hosts a and b of 4 + 4 cores; on a, beside guests of cells, one without topology."""
    return snapshot(
        [numa_host("a"), numa_host("b")],
        [
            numa_instance("celled", "a", {0: 2}),
            instance("plain", "a", 2),
            numa_instance("other", "b", {0: 3}),
        ],
    )


def anti_affinity_triple() -> Document:
    """i, j and k must be on different hosts; they are, on a, b and c; d is free."""
    return snapshot(
        [host(name) for name in "abcd"],
        [instance("i", "a", 2), instance("j", "b", 2), instance("k", "c", 2)],
        server_groups=[{"id": "g", "policy": "anti-affinity", "members": ["i", "j", "k"]}],
    )


def conflict_triple() -> Document:
    """i must meet neither j nor k; they are on a, b and c; d is free."""
    made = anti_affinity_triple()
    del made["server_groups"]
    return {**made, "conflicts": [["i", "j"], ["k", "i"]]}


def shared_pool(total: int = 10) -> Document:
    """a and b have their disk from one pool, which i and j fill; c has a disk of its own."""
    return snapshot(
        [
            host("a", shared={"DISK_GB": "pool"}),
            host("b", shared={"DISK_GB": "pool"}),
            host("c", inventories={"VCPU": {"total": 8}, "DISK_GB": {"total": 10}}),
        ],
        [
            {"id": "i", "host": "a", "allocations": {"VCPU": 2, "DISK_GB": 5}},
            {"id": "j", "host": "b", "allocations": {"VCPU": 6, "DISK_GB": 5}},
            {"id": "k", "host": "c", "allocations": {"VCPU": 2, "DISK_GB": 1}},
        ],
        pools=[{"id": "pool", "inventories": {"DISK_GB": {"total": total}}}],
    )


def running_migration() -> Document:
    """i is on its way from a to b, so b has 2 of its 8 cores left; j on c needs 4."""
    return snapshot(
        [host("a"), host("b"), host("c")],
        [instance("i", "a", 6), instance("j", "c", 4)],
        running_migrations=[{"instance": "i", "source": "a", "dest": "b"}],
    )


NAMED = (
    empty,
    full,
    overfull,
    three_hosts,
    swap_cycle,
    exchange,
    numa_doubles,
    mixed,
    anti_affinity_triple,
    conflict_triple,
    shared_pool,
    running_migration,
)


class Draw:
    """A small random cloud; all that a snapshot may say occurs, most of it seldom.

    Uniform numbers from a seed, where Hypothesis' own draws would make nearly every cloud one
    in which nothing can move.
    """

    def __init__(self, seed: int, most_hosts: int, most_instances: int) -> None:
        self._random = random.Random(seed)
        self._pooled, self._celled = self._seldom(0.25), self._seldom(0.5)
        self._mixed = self._seldom(0.3)
        self.hosts = [
            self._host(name)
            for name in "abcdef"[: max(self._among(2, most_hosts), self._among(2, most_hosts))]
        ]
        self._taken = {one["id"]: 0 for one in self.hosts}
        count = max(self._among(2, most_instances), self._among(2, most_instances))
        self.instances = [self._instance(f"i{v}") for v in range(count)]

    def document(self) -> Document:
        """Return the snapshot document."""
        made = snapshot(self.hosts, self.instances)
        names = [one["id"] for one in self.instances]
        if self._pooled:
            disk = {"DISK_GB": {"total": self._among(0, 4 + len(names))}}
            made["pools"] = [{"id": "pool", "inventories": disk}]
        if self._seldom(0.4):
            made["server_groups"] = [
                {
                    "id": f"g{k}",
                    "policy": "anti-affinity" if self._seldom(0.8) else self._of(POLICIES),
                    "max_server_per_host": self._among(1, 2),
                    "members": self._random.sample(names, self._among(0, min(4, len(names)))),
                }
                for k in range(self._among(1, 2))
            ]
        if self._seldom(0.15):
            made["running_migrations"] = [
                {
                    "instance": self._of(names),
                    "source": self._of(self.hosts)["id"],
                    "dest": self._of(self.hosts)["id"],
                }
                for _ in range(self._among(1, 2))
            ]
        self._trouble(made)
        if self._seldom(0.3):
            pairs = [self._random.sample(names, 2) for _ in range(self._among(1, 6)) if names[1:]]
            made["conflicts"] = pairs
        return made

    def _trouble(self, made: Document) -> None:
        """Put in what a cloud in use has: charges of others, half-read hosts, instances away."""
        classes = sorted({r for one in self.hosts for r in one["inventories"]} | {"DISK_GB"})
        for one in self.hosts:
            if self._seldom(0.1):
                amounts = {self._of(classes): self._among(0, 4) for _ in range(2)}
                why = self._of(["elsewhere", "migration", "unknown"])
                one["held"] = [{"consumer": "other", "why": why, "resources": amounts}]
            if "numa" in one and self._seldom(0.05):
                one["numa"]["provenance"] = "inferred"
        for one in self.instances:
            if self._seldom(0.03):
                one["nested"] = {"gpu": {"VGPU": 1}}
            if self._seldom(0.03):
                one["allocations"] = {}
        for running in made.get("running_migrations", ()):
            if self._seldom(0.3):
                running["dest"] = None
            if self._seldom(0.4):
                far = {self._of(classes): self._among(0, 4) for _ in range(3)}
                running["far_allocations"] = far
        if self._seldom(0.2):
            made["outside"] = [{"id": "away", "reason": "no_host"}]
            for group in made.get("server_groups", ()):
                if self._seldom(0.5):
                    group["members"].append("away")
        if self._seldom(0.1):
            lack = {"what": "topologies", "reason": "timeout"}
            made["missing"] = [{**lack, "hosts": [self._of(self.hosts)["id"]]}]
        if self._celled and self._seldom(0.2):
            for cell in [c for one in self.hosts for c in one.get("numa", {}).get("cells", ())]:
                cell["capacity"]["HUGEPAGES_2048KB"] = self._among(0, 3)
            for guest in [g for one in self.instances for g in one.get("numa", ())]:
                guest["resources"]["HUGEPAGES_2048KB"] = self._among(0, 2)

    def _among(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def _seldom(self, share: float) -> bool:
        return self._random.random() < share

    def _of(self, values: Sequence[Any]) -> Any:
        return self._random.choice(values)

    def _host(self, name: str) -> Document:
        cores = self._among(4, 14)
        core = "PCPU" if self._mixed and self._seldom(0.4) else "VCPU"
        inventory: Document = {"total": cores}
        if self._seldom(0.15):
            inventory["allocation_ratio"] = self._of([0.7, 1.5, 2.0])
            inventory["reserved"] = self._among(0, 3)
        if self._seldom(0.05):
            inventory["max_unit"] = self._among(1, 4)
            inventory["step_size"] = self._among(1, 2)
        inventories = {core: inventory, "MEMORY_MB": {"total": self._among(8, 20)}}
        if self._mixed and core == "PCPU" and self._seldom(0.7):
            inventories["VCPU"] = {"total": self._among(0, 8)}
        made: Document = {"id": name, "inventories": inventories}
        if self._seldom(0.1):
            made["service_host"] = f"nova-{name}"
        if self._pooled and self._seldom(0.8):
            made["shared"] = {"DISK_GB": "pool"}
        elif self._pooled:
            inventories["DISK_GB"] = {"total": self._among(0, 8)}
        if self._celled and self._seldom(0.85):
            counted = [core] if self._seldom(0.3) else [core, "MEMORY_MB"]
            if self._seldom(0.05):
                counted = ["MEMORY_MB"]
            made["numa"] = {
                "provenance": "unknown" if self._seldom(0.1) else "operator",
                "cells": [
                    {"id": n, "capacity": {r: self._among(cores // 3, cores) for r in counted}}
                    for n in (2, 5)
                ],
            }
        made["az"] = "east" if self._seldom(0.05) else None
        made["status"] = "disabled" if self._seldom(0.07) else "enabled"
        made["state"] = "down" if self._seldom(0.05) else "up"
        return made

    def _instance(self, name: str) -> Document:
        on = self._of(self.hosts)
        core = self._of([r for r in ("PCPU", "VCPU") if r in on["inventories"]])
        # A few sizes only, so that some instances are alike.
        cores, memory = self._of([0, 1, 2, 2, 3, 3, 4]), self._of([0, 1, 2])
        room = [
            one
            for one in self.hosts
            if core in one["inventories"]
            and self._taken[one["id"]] + cores <= one["inventories"][core]["total"]
        ]
        if room and not self._seldom(0.15):
            on = self._of(room)
        self._taken[on["id"]] += cores
        made: Document = {"id": name, "host": on["id"]}
        made["allocations"] = {core: cores, "MEMORY_MB": memory}
        if self._pooled:
            made["allocations"]["DISK_GB"] = self._among(0, 2)
        cells = [cell["id"] for cell in on.get("numa", {"cells": []})["cells"]]
        if self._seldom(0.8 if cells else 0.3 if self._celled else 0.05):
            parts = [(cores, memory)]
            if self._seldom(0.4):
                parts = [(cores // 2, memory // 2), (cores - cores // 2, memory - memory // 2)]
            self._random.shuffle(cells)
            where = [cell if not self._seldom(0.05) else None for cell in cells] or [None, None]
            made["numa"] = [
                {"cell": cell, "resources": {core: c, "MEMORY_MB": m}}
                for cell, (c, m) in zip(where, parts, strict=False)
            ]
        if self._seldom(0.07):
            ids = [one["id"] for one in self.hosts]
            made["allowed_hosts"] = self._random.sample(ids, self._among(0, len(ids)))
        if self._seldom(0.1):
            made.update(self._of(FIXED))
        return made


def snapshots(most_hosts: int = 3, most_instances: int = 5) -> st.SearchStrategy[Document]:
    """Small random clouds of two hosts or more."""
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(lambda seed: Draw(seed, most_hosts, most_instances).document())


POLICIES = ("affinity", "soft-affinity", "soft-anti-affinity")

FIXED: tuple[Document, ...] = (
    {"locked": True},
    {"allow_migration": False},
    {"status": "SHUTOFF"},
    {"status": "PAUSED"},
    {"task_state": "resize_prep"},
)

# SPDX-License-Identifier: Apache-2.0
"""Where Nova chooses the NUMA cells, its choice is the predicted one in every order allowed."""

from collections.abc import Iterable
import dataclasses
import json
import random

import hypothesis
import hypothesis.strategies as st

from nova_rebalancer import checker
from nova_rebalancer import controller
from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import numa
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as constraints
from nova_rebalancer.path import base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory
from nova_rebalancer.plan import base as plan_base
from tests import clouds
from tests.unit.path import documents
from tests.unit.path import nova_clouds

OPTIONS = controller.Options(
    planner="greedy", fragment_cores=(clouds.CORES,), time_limit_s=None, work_limit=1
)
PAGE_SIZES = {"small": -1, "large": -2, "any": -3, "2048": 2048, None: None}
"""As ``numa.Request`` has them."""


class Bench:
    """What is on the NUMA cells of each host, written down instance by instance."""

    def __init__(self, made: clouds.Document, packing: bool) -> None:
        self._packing = packing
        self._hosts = {one["id"]: one for one in made["hosts"]}
        self._instances = {one["id"]: one for one in made["instances"]}
        self._held: dict[tuple[str, str], list[tuple[int, frozenset[int]]]] = {}
        for one in made["instances"]:
            if "numa" in one:
                self._held[one["id"], one["host"]] = [
                    (self._numbers(one["host"]).index(guest["cell"]), frozenset(guest["pinned"]))
                    for guest in one["numa"]
                ]

    def _numbers(self, host: str) -> list[int]:
        return [cell["id"] for cell in self._hosts[host]["numa"]["cells"]]

    def arrive(self, instance: str, host: str) -> list[int] | None:
        """Put an instance where Nova would, beside all that is there; return its cells."""
        one = self._instances[instance]
        ratios = [
            self._hosts[host]["inventories"][resource].get("allocation_ratio", 1.0)
            for resource in ("VCPU", "MEMORY_MB")
        ]
        places = numa.fit(self._cells(host), request(one), numa.Limits(*ratios), self._packing)
        if places is None:
            return None
        self._held[instance, host] = [(place.cell, place.pinned) for place in places]
        return [place.cell for place in places]

    def leave(self, instance: str, host: str) -> None:
        """Take an instance away."""
        del self._held[instance, host]

    def _cells(self, host: str) -> list[numa.Cell]:
        cells = [
            numa.Cell(cell["id"], detail_of(cell["detail"]))
            for cell in self._hosts[host]["numa"]["cells"]
        ]
        for (name, there), places in self._held.items():
            if there != host:
                continue
            one = self._instances[name]
            for guest, (n, pinned) in zip(one["numa"], places, strict=True):
                mib, cell = guest["resources"]["MEMORY_MB"], cells[n]
                kib = one["numa_pagesize_kib"] or nova_clouds.SMALL_KIB
                assert not cell.pinned & pinned, "a CPU is pinned twice"
                cell.pinned |= pinned
                cell.cpus_used += guest["resources"].get("VCPU", 0)
                cell.memory_used_mib += mib
                cell.pages_used[kib] = cell.pages_used.get(kib, 0) + mib * 1024 // kib
        return cells


def detail_of(written: clouds.Document) -> cloud.CellDetail:
    """The detail of a cell as ``numa.fit`` wants it."""
    return cloud.CellDetail(
        frozenset(written["shared_cpus"]),
        frozenset(written["dedicated_cpus"]),
        tuple(frozenset(core) for core in written["siblings"]),
        written["memory_mib"],
        {int(kib): count for kib, count in written["pages"].items()},
        written["pci_devices"],
    )


def request(one: clouds.Document) -> numa.Request:
    """What an instance of ``nova_clouds`` asks for."""
    specs = one["extra_specs"]
    return numa.Request(
        tuple(
            numa.GuestCell(*(guest["resources"].get(r, 0) for r in ("VCPU", "PCPU", "MEMORY_MB")))
            for guest in one["numa"]
        ),
        specs.get("hw:cpu_policy", "shared"),
        specs.get("hw:cpu_thread_policy", "prefer"),
        PAGE_SIZES[specs.get("hw:mem_page_size")],
        one["numa_pagesize_kib"],
    )


def foretold(
    bench: Bench, start: state.PlacementState, found: path.MigrationPath, seed: int
) -> int:
    """Carry out a path in an order drawn; return how often several migrations were under way."""
    rng = random.Random(seed)
    several = 0
    confirmed: set[int] = set()
    flying: set[int] = set()
    while len(confirmed) < len(found.migrations):
        ready = [
            k
            for k, migration in enumerate(found.migrations)
            if k not in confirmed | flying and confirmed.issuperset(migration.depends_on)
        ]
        start_one = ready and (not flying or rng.random() < 0.6)
        k = rng.choice(ready if start_one else sorted(flying))
        hop = found.migrations[k].hop
        name, topology = start.instances[hop.v], start.guests_of[hop.v] > 0
        if start_one:
            flying.add(k)
            several += len(flying) > 1
            if topology:
                assert bench.arrive(name, start.hosts[hop.dest]) == list(hop.dest_cells), k
        else:
            flying.remove(k)
            confirmed.add(k)
            if topology:
                bench.leave(name, start.hosts[hop.source])
    return several


def walk(start: state.PlacementState, seed: int) -> state.PlacementState:
    """Move instances here and there, one after another; where that leads can be reached."""
    rng = random.Random(seed)
    book = ledger.Ledger(start)
    movable = start.movable.nonzero()[0].tolist()
    for _ in range(3 * len(movable)):
        v, h = rng.choice(movable), rng.randrange(len(start.hosts))
        cells = book.cells_for(v, h)
        if cells is not None:
            book.move(v, h, cells)
    return book.placement()


def law(
    made: clouds.Document,
    start: state.PlacementState,
    found: path.MigrationPath,
    seeds: Iterable[int],
    packing: bool,
) -> int:
    """All that must hold of a path; return how often several migrations were under way."""
    end = found.replay(start)
    assert end.host_of.tolist() == found.ends(start).tolist()
    return sum(foretold(Bench(made, packing), start, found, seed) for seed in seeds)


CLOUDS = st.integers(0, 2**32 - 1).map(lambda seed: nova_clouds.Draw(seed, 4, 14).document())


def test_path() -> None:
    """Every arrival of a path comes to ``dest_numa``, in any order its dependencies allow.

    The checker, which has code of its own for Nova's choice, agrees.
    """
    seen = {"topologies": 0, "several": 0, "reached": 0}

    @hypothesis.settings(max_examples=100)
    @hypothesis.given(CLOUDS, st.integers(0, 2**32), st.booleans())
    def judge(made: clouds.Document, seed: int, packing: bool) -> None:
        settings = constraints.Settings(numa_packing=packing)
        start = state.build(clouds.facts_of(made), settings)
        target = walk(start, seed)
        limits = base.Limits(10**7, outgoing=2, incoming=2)
        found = finder.find(start, target.host_of, target.cells_of, memory.Memory(), limits)
        seen["several"] += law(made, start, found, range(seed, seed + 4), packing)
        seen["topologies"] += sum(len(m.hop.dest_cells) > 0 for m in found.migrations)
        seen["reached"] += (found.ends(start) == target.host_of).all()
        plan = json.loads(documents.plan(made, start, found))
        plan["options"]["numa_packing"] = packing
        verdict = checker.check(clouds.as_bytes(made), json.dumps(plan).encode())
        assert verdict.ok, verdict

    judge()
    # The law would hold of nothing, too.
    assert seen["topologies"] > 200 and seen["several"] > 200 and seen["reached"] > 30, seen


def test_plan() -> None:
    """So does every arrival of a plan."""
    seen = {"topologies": 0}

    @hypothesis.settings(max_examples=60)
    @hypothesis.given(CLOUDS, st.integers(0, 2**32), st.booleans())
    def judge(made: clouds.Document, seed: int, packing: bool) -> None:
        snapshot, sha256 = document.loads(clouds.as_bytes(made), "cloud.json")
        options = dataclasses.replace(OPTIONS, numa_packing=packing)
        plan = controller.run(snapshot, sha256, options, plan_base.Watch())
        law(made, plan.start, plan.path, range(seed, seed + 4), packing)
        seen["topologies"] += sum(len(m.hop.dest_cells) > 0 for m in plan.path.migrations)

    judge()
    assert seen["topologies"] > 15, seen


def test_departures_wait_for_arrivals() -> None:
    """What is free on a host must be known when something arrives, so its changes queue up.

    x goes from a to b and y from b to a; z follows to b.  All three have a topology: y leaves b
    only when x has arrived there, and z arrives there when y has left.
    """
    made = nova_clouds.Draw(0, 2, 0).document()
    for one in made["hosts"]:
        one["traits"], one["numa"]["provenance"] = [], "operator"
        for cell in one["numa"]["cells"]:
            cell["detail"]["pci_devices"] = 0
    for name, on in (("x", "h0"), ("y", "h1"), ("z", "h0")):
        cell = made["hosts"][0 if on == "h0" else 1]["numa"]["cells"][0]["id"]
        guest = {"cell": cell, "resources": {"MEMORY_MB": 512}, "pinned": []}
        made["instances"].append(
            {"id": name, "host": on, "allocations": {"MEMORY_MB": 512}, "numa": [guest]}
            | {"numa_pagesize_kib": None, "extra_specs": {}}
        )
    start = clouds.state_of(made)
    book = ledger.Ledger(start)
    hops = []
    for v, dest in ((0, 1), (1, 0), (2, 1)):
        cells = book.cells_for(v, dest)
        assert cells is not None
        here = tuple(int(n) for n in book.cells_of[v, :1])
        hops.append(path.Hop(v, int(book.host_of[v]), here, dest, cells, path.DIRECT))
        book.move(v, dest, cells)
    found = finder.from_hops(start, hops, {}, memory.Memory(), base.Limits(9))
    assert [m.depends_on for m in found.migrations] == [(), (0,), (1,)]
    plain = dataclasses.replace(start, topologies=None)
    alone = finder.from_hops(plain, hops, {}, memory.Memory(), base.Limits(9))
    assert [m.depends_on for m in alone.migrations] == [(), (), ()]

# SPDX-License-Identifier: Apache-2.0
"""Hosts have NUMA cells for an instance as in Nova's filter, where all about them is known."""

import dataclasses

import hypothesis.strategies as st
from nova.scheduler.filters import numa_topology_filter

from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import numa
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from tests import clouds
from tests.unit.model.constraints import nova_objects
from tests.unit.model.constraints import numa_objects


def host_of(name: str, cells: list[numa.Cell], limits: numa.Limits, *traits: str) -> cloud.Host:
    """A host with these cells."""
    return nova_objects.host(
        name,
        traits=traits,
        numa=cloud.HostNuma(
            "operator", tuple(cloud.NumaCell(cell.number, {}, cell.detail) for cell in cells)
        ),
        inventories={
            "VCPU": cloud.Inventory(1000, allocation_ratio=limits.cpu_ratio),
            "PCPU": cloud.Inventory(1000),
            "MEMORY_MB": cloud.Inventory(1 << 20, allocation_ratio=limits.memory_ratio),
        },
    )


def instance_of(
    name: str, on: str, wanted: numa.Request, places: tuple[numa.Place, ...]
) -> cloud.Instance:
    """An instance that asked for so much and has got these places."""
    specs = {"hw:cpu_policy": wanted.cpu_policy}
    if wanted.pins:
        specs["hw:cpu_thread_policy"] = wanted.thread_policy
    if wanted.page_size is not None:
        size = numa_objects.WORDS.get(wanted.page_size, str(wanted.page_size))
        specs["hw:mem_page_size"] = size
    guests = tuple(
        cloud.GuestCell(
            place.cell,
            {"VCPU": cell.shared, "PCPU": cell.dedicated, "MEMORY_MB": cell.memory_mib},
            tuple(sorted(place.pinned)),
        )
        for cell, place in zip(wanted.cells, places, strict=True)
    )
    return nova_objects.instance(
        on,
        name,
        numa=guests,
        extra_specs=specs,
        numa_pagesize_kib=places[0].page_size,
        allocations={"VCPU": 1, "PCPU": 1, "MEMORY_MB": 512},
    )


def somewhere(wanted: numa.Request, page_size: int | None) -> tuple[numa.Place, ...]:
    """Where an instance is on a large host."""
    return tuple(
        numa.Place(n, frozenset(range(n * 100, n * 100 + guest.dedicated)), page_size)
        for n, guest in enumerate(wanted.cells)
    )


LARGE_HOST = [
    numa.Cell(
        n,
        cloud.CellDetail(
            frozenset(range(n * 100 + 50, n * 100 + 100)),
            frozenset(range(n * 100, n * 100 + 50)),
            tuple(frozenset([cpu]) for cpu in range(n * 100, n * 100 + 100)),
            1 << 20,
            {4: 1 << 28},
        ),
    )
    for n in range(3)
]


DETAIL = {"shared_cpus": [0, 1, 2, 3], "dedicated_cpus": [], "memory_mib": 4096}


@nova_objects.judged(
    placements=300,
    cells=numa_objects.cells(),
    before=st.lists(numa_objects.requests(), max_size=4),
    wanted=numa_objects.requests(),
    limits=numa_objects.LIMITS,
    packing=st.booleans(),
)
def test_as_nova(
    cells: list[numa.Cell],
    before: list[numa.Request],
    wanted: numa.Request,
    limits: numa.Limits,
    packing: bool,
) -> bool:
    """The rule and the ledger together take the hosts that Nova's filter takes.

    But for the two cases of ``tests/unit/model/test_numa.py``, where they are stricter on purpose.
    """
    # Threads that are required are a trait too, which the filter does not look at.
    threads = ["HW_CPU_HYPERTHREADING"] if wanted.thread_policy == "require" else []
    dest = host_of("b", cells, limits, *threads)
    others = []
    for n, other in enumerate(before if cells[0].detail.pages else []):
        got, remembered = numa_objects.nova_fit(cells, other, limits, packing)
        if got is not None and not remembered:
            places = numa_objects.places_of(got)
            numa.charge(cells, other, places)
            others.append(instance_of(f"j{n}", "b", other, places))
    got, remembered = numa_objects.nova_fit(cells, wanted, limits, packing)
    now = None if got is None else got.cells[0].pagesize
    one = instance_of("i", "a", wanted, somewhere(wanted, now))
    view = nova_objects.view(
        [host_of("a", LARGE_HOST, numa.Limits()), dest],
        [one, *others],
        base.Settings(numa_packing=packing),
    )
    there = nova_objects.host_state(view, dest)
    there.numa_topology = numa_objects.topology_of(cells)
    there.pci_stats = numa_objects.devices_of(cells)
    there.cpu_allocation_ratio = limits.cpu_ratio
    there.ram_allocation_ratio = limits.memory_ratio
    spec = nova_objects.request_spec(one, numa_topology=numa_objects.instance_of(wanted))
    with nova_objects.options("compute", packing_host_numa_cells_allocation_strategy=packing):
        allowed = numa_topology_filter.NUMATopologyFilter().host_passes(there, spec)
    book = ledger.Ledger(state.build(view.snapshot, view.settings))
    ours = nova_objects.allows("numa", view, dest)
    found = book.cells_for(0, 1) if ours else None
    if found is None:
        assert not allowed or remembered
        return False
    assert got is not None and found == tuple(cell.id for cell in got.cells)
    return allowed


@nova_objects.judged(
    cells=numa_objects.cells(),
    wanted=numa_objects.requests(),
    other=numa_objects.requests(),
    hidden=st.sampled_from(["cells", "detail", "place", "pins", "emulator", "nothing", "nothing"]),
)
def test_unknown(
    cells: list[numa.Cell], wanted: numa.Request, other: numa.Request, hidden: str
) -> bool:
    """A host about whose cells something is not known takes no instance with a topology."""
    dest = host_of("b", cells, numa.Limits())
    assert dest.numa is not None
    places = tuple(numa.Place(0, frozenset(range(g.dedicated)), None) for g in other.cells)
    there = instance_of("j", "b", other, places)
    pinned = wanted.pins and other.pins
    assert there.numa is not None
    if hidden == "cells":
        dest = dataclasses.replace(dest, numa=dataclasses.replace(dest.numa, provenance="inferred"))
    elif hidden == "detail":
        bare = tuple(dataclasses.replace(cell, detail=None) for cell in dest.numa.cells[:1])
        known = dataclasses.replace(dest.numa, cells=(*bare, *dest.numa.cells[1:]))
        dest = dataclasses.replace(dest, numa=known)
    elif hidden == "place":
        guests = tuple(dataclasses.replace(guest, cell=None) for guest in there.numa)
        there = dataclasses.replace(there, numa=guests)
    elif hidden == "pins":
        guests = tuple(dataclasses.replace(guest, pinned=None) for guest in there.numa)
        there = dataclasses.replace(there, numa=guests)
    elif hidden == "emulator":
        specs = {**there.extra_specs, "hw:emulator_threads_policy": "isolate"}
        there = dataclasses.replace(there, extra_specs=specs)
    one = instance_of("i", "a", wanted, somewhere(wanted, None))
    view = nova_objects.view([host_of("a", LARGE_HOST, numa.Limits()), dest], [one, there])
    allowed = nova_objects.allows("numa", view, dest)
    unknown = {
        "nothing": False,
        "emulator": pinned,
        "pins": other.pins,
    }.get(hidden, True)
    assert allowed == (not unknown and len(wanted.cells) <= len(cells))
    return allowed


def test_devices_in_use() -> None:
    """Where an instance has a device Nova's order of the cells is not known, if order matters."""
    cells = [{"id": n, "capacity": {}, "detail": DETAIL} for n in (0, 1)]
    numa_of = {"provenance": "operator", "cells": cells}
    made = clouds.snapshot(
        [clouds.host(name, 16, numa=numa_of) for name in "ab"],
        [
            clouds.instance(
                "one", "a", 1, numa=[{"cell": 0, "resources": {"VCPU": 1}, "pinned": []}]
            ),
            clouds.instance(
                "two",
                "a",
                2,
                numa=[{"cell": n, "resources": {"VCPU": 1}, "pinned": []} for n in (0, 1)],
            ),
            clouds.instance("gpu", "b", 1, extra_specs={"pci_passthrough:alias": "gpu:1"}),
        ],
        numa_choice="nova",
    )
    start = clouds.state_of(made)
    assert [bool(start.allowed[start.eligibility_of[v], 1]) for v in (0, 1)] == [False, True]

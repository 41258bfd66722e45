# SPDX-License-Identifier: Apache-2.0
"""NUMA cells, pinned CPUs and page sizes are chosen as Nova's own code chooses them."""

from collections.abc import Sequence
import dataclasses

import hypothesis.strategies as st
from nova.virt import hardware

from nova_rebalancer.model import numa
from tests.unit.model.constraints import nova_objects
from tests.unit.model.constraints import numa_objects


def usage(cell: numa.Cell) -> tuple[object, ...]:
    """What is used of a cell."""
    pages = {kib: cell.pages_used.get(kib, 0) for kib in cell.detail.pages}
    return cell.cpus_used, cell.memory_used_mib, frozenset(cell.pinned), pages


def told(
    host: Sequence[numa.Cell], places: Sequence[numa.Place] | None
) -> list[tuple[object, ...]] | None:
    """Cells, page sizes, and how many CPUs of each core.

    Which of the free threads of a core comes first is the order of Python's sets, and free threads
    of one core are alike.
    """
    if places is None:
        return None
    return [
        (
            place.cell,
            place.page_size,
            len(place.pinned),
            [len(core & place.pinned) for core in host[place.cell].detail.siblings],
        )
        for place in places
    ]


def charged(
    host: Sequence[numa.Cell], made: Sequence[numa.Request], limits: numa.Limits, packing: bool
) -> list[tuple[numa.Request, tuple[numa.Place, ...]]]:
    """Put instances on a host where Nova puts them, and compare what is used then."""
    found = []
    for wanted in made:
        got, remembered = numa_objects.nova_fit(host, wanted, limits, packing)
        if got is None or remembered or not host[0].detail.pages:
            continue
        used = hardware.numa_usage_from_instance_numa(numa_objects.topology_of(host), got)
        places = numa_objects.places_of(got)
        numa.charge(host, wanted, places)
        assert [usage(cell) for cell in host] == [
            usage(cell) for cell in numa_objects.cells_of(used, host)
        ]
        found.append((wanted, places))
    return found


@nova_objects.judged(
    placements=600,
    host=numa_objects.cells(),
    before=st.lists(numa_objects.requests(), max_size=4),
    wanted=numa_objects.requests(),
    limits=numa_objects.LIMITS,
    packing=st.booleans(),
    changed=st.integers(0, 4),
)
def test_fit(
    host: list[numa.Cell],
    before: list[numa.Request],
    wanted: numa.Request,
    limits: numa.Limits,
    packing: bool,
    changed: int,
) -> bool:
    """The same choice, on hosts where others are already.

    Stricter on purpose in two cases.  Another page size than it has now is a choice that Nova's
    claim refuses (``MoveClaim._test_live_migration_page_size``).  And where Nova takes what it
    remembers of a host cell, the CPUs are those of the cell that it tried last.
    """
    charged(host, before, limits, packing)
    got, remembered = numa_objects.nova_fit(host, wanted, limits, packing)
    now = None if got is None else got.cells[0].pagesize
    if now is not None and not changed:
        now = 4 if now != 4 else 2048
    ours = numa.fit(host, dataclasses.replace(wanted, page_size_now=now), limits, packing)
    if ours is None and got is not None:
        assert remembered or got.cells[0].pagesize != now
    else:
        expected = None if got is None else numa_objects.places_of(got)
        assert told(host, ours) == told(host, expected)
    return ours is not None


def test_isolated_without_own_cpus() -> None:
    """Nova puts no guest cell of an isolated instance that has only shared CPUs there."""
    host = [numa_objects.cell(0, shared=[0], dedicated=[1])]
    wanted = numa.Request((numa.GuestCell(1, 0, 512),), "mixed", "isolate", None, None)
    assert numa_objects.nova_fit(host, wanted, numa.Limits(), False)[0] is None
    assert numa.fit(host, wanted, numa.Limits(), False) is None


def test_renumbered_by_a_cell_that_refuses() -> None:
    """A host cell whose CPUs fit and whose share of shared ones does not renumbers a guest cell.

    So it is remembered by another number, and the CPUs it is told are of that host cell.
    """
    host = [
        numa_objects.cell(0, shared=[0, 1], dedicated=[2], cpus_used=1),
        numa_objects.cell(1, shared=[3, 4, 5], dedicated=[6, 7, 8], cpus_used=3),
        numa_objects.cell(2, shared=[9], dedicated=[10], cpus_used=1, memory_used_mib=1024),
    ]
    guests = (numa.GuestCell(1, 1, 512), numa.GuestCell(0, 1, 512))
    wanted = numa.Request(guests, "mixed", "prefer", None, None)
    got, remembered = numa_objects.nova_fit(host, wanted, numa.Limits(), False)
    assert got is not None and not remembered
    assert numa.fit(host, wanted, numa.Limits(), False) == numa_objects.places_of(got)


@nova_objects.judged(
    host=numa_objects.cells(),
    made=st.lists(numa_objects.requests(), min_size=2, max_size=6),
    limits=numa_objects.LIMITS,
    packing=st.booleans(),
    kept=st.sets(st.integers(0, 5)),
)
def test_charge(
    host: list[numa.Cell],
    made: list[numa.Request],
    limits: numa.Limits,
    packing: bool,
    kept: set[int],
) -> bool:
    """What comes and what leaves is charged as Nova charges it."""
    there = charged(host, made, limits, packing)
    for n, (wanted, places) in enumerate(there):
        if n in kept:
            continue
        topology = numa_objects.instance_of(wanted)
        for cell, place in zip(topology.cells, places, strict=True):
            cell.id, cell.pagesize = place.cell, place.page_size
            cell.cpu_pinning = dict(zip(sorted(cell.pcpuset), sorted(place.pinned), strict=True))
        used = hardware.numa_usage_from_instance_numa(
            numa_objects.topology_of(host), topology, free=True
        )
        numa.charge(host, wanted, places, -1)
        assert [usage(cell) for cell in host] == [
            usage(cell) for cell in numa_objects.cells_of(used, host)
        ]
    return len(there) > 1

# SPDX-License-Identifier: Apache-2.0
"""Hosts with NUMA cells and instances that ask for some, for Nova's code and for ours."""

from collections.abc import Sequence
from unittest import mock

import hypothesis.strategies as st
from nova import objects
from nova.pci import stats
from nova.virt import hardware

from nova_rebalancer.model import asked
from nova_rebalancer.model import cloud
from nova_rebalancer.model import numa
from tests.unit.model.constraints import nova_objects

PAGES_KIB = (4, 2048, 1 << 20)
WORDS = {asked.SMALL: "small", asked.LARGE: "large", asked.ANY: "any"}

POLICIES = st.sampled_from(
    [("shared", "prefer")] * 2
    + [
        (cpus, threads)
        for cpus in ("dedicated", "mixed")
        for threads in ("prefer", "prefer", "require", "isolate")
    ]
)
RATIOS = st.sampled_from([1.0, 1.0, 1.5, 4.0])
LIMITS = st.builds(numa.Limits, RATIOS, RATIOS)


def cell(number: int, *, shared: Sequence[int], dedicated: Sequence[int], **used: int) -> numa.Cell:
    """A cell of 4 GiB with so many CPUs of one thread."""
    siblings = tuple(frozenset([cpu]) for cpu in [*shared, *dedicated])
    detail = cloud.CellDetail(
        frozenset(shared), frozenset(dedicated), siblings, 4096, {4: 4096 * 256}
    )
    return numa.Cell(number, detail, **used)


@st.composite
def cells(draw: st.DrawFn) -> list[numa.Cell]:
    """Empty cells of a host: CPUs of one or two threads, each dedicated or shared or both."""
    count = draw(st.integers(1, 4))
    threads = draw(st.sampled_from([1, 2]))
    cores = draw(st.integers(2, 5))
    # Threads of one core are neighbours, or as far apart as they can be.
    apart = count * cores if draw(st.booleans()) else 1
    both = draw(st.booleans())
    sizes = draw(st.sampled_from([(), PAGES_KIB[:1], PAGES_KIB[:2], PAGES_KIB, PAGES_KIB]))
    found = []
    for number in range(count):
        siblings = []
        for core in range(number * cores, (number + 1) * cores):
            first = core if apart > 1 else core * threads
            siblings.append([first + thread * apart for thread in range(threads)])
        cpus = [cpu for core in siblings for cpu in core]
        dedicated = set(cpus)
        shared = set(cpus)
        if not both:
            alone = draw(st.integers(0, cores // 2))
            shared = {cpu for core in siblings[:alone] for cpu in core}
            dedicated -= shared
        free = memory = draw(st.integers(2, 8)) * 1024
        pages: dict[int, int] = {}
        for kib in sorted(sizes, reverse=True):
            mib = free if kib == 4 else min(free, draw(st.integers(0, 4)) * 1024)
            pages[kib] = mib * 1024 // kib
            free -= mib
        detail = cloud.CellDetail(
            frozenset(shared),
            frozenset(dedicated),
            tuple(frozenset(core) for core in siblings),
            memory,
            pages,
            draw(st.sampled_from([0, 0, 1, 2])),
        )
        found.append(numa.Cell(number, detail))
    return found


@st.composite
def requests(draw: st.DrawFn) -> numa.Request:
    """What an instance asks for, ``page_size_now`` left open."""
    cpu_policy, thread_policy = draw(POLICIES)
    guests = []
    for _ in range(draw(st.integers(1, 3))):
        cpus = draw(st.integers(1, 4))
        dedicated = {"shared": 0, "dedicated": cpus}.get(cpu_policy)
        if dedicated is None:
            dedicated = draw(st.integers(0, cpus))
        memory = draw(st.sampled_from([1, 512, 512, 1024, 2048]))
        guests.append(numa.GuestCell(cpus - dedicated, dedicated, memory))
    size = draw(st.sampled_from([None, None, None, *WORDS, *PAGES_KIB]))
    return numa.Request(tuple(guests), cpu_policy, thread_policy, size, None)


def topology_of(host: Sequence[numa.Cell]) -> objects.NUMATopology:
    """The same cells as Nova has them."""
    return objects.NUMATopology(
        cells=[
            objects.NUMACell(
                id=cell.number,
                cpuset=set(cell.detail.shared_cpus),
                pcpuset=set(cell.detail.dedicated_cpus),
                memory=cell.detail.memory_mib,
                cpu_usage=cell.cpus_used,
                memory_usage=cell.memory_used_mib,
                pinned_cpus=set(cell.pinned),
                siblings=[set(core) for core in cell.detail.siblings],
                mempages=[
                    objects.NUMAPagesTopology(
                        size_kb=kib, total=total, used=cell.pages_used.get(kib, 0)
                    )
                    for kib, total in cell.detail.pages.items()
                ],
                socket=None,
            )
            for cell in host
        ]
    )


def instance_of(wanted: numa.Request) -> objects.InstanceNUMATopology:
    """The same request as Nova has it, guest CPUs numbered through."""
    found, next_cpu = [], 0
    for number, guest in enumerate(wanted.cells):
        middle, end = next_cpu + guest.shared, next_cpu + guest.shared + guest.dedicated
        found.append(
            objects.InstanceNUMACell(
                id=number,
                cpuset=set(range(next_cpu, middle)),
                pcpuset=set(range(middle, end)),
                memory=guest.memory_mib,
                pagesize=wanted.page_size,
                cpu_policy=wanted.cpu_policy,
                cpu_thread_policy=None if wanted.cpu_policy == "shared" else wanted.thread_policy,
            )
        )
        next_cpu = end
    return objects.InstanceNUMATopology(cells=found, emulator_threads_policy=None)


def devices_of(host: Sequence[numa.Cell]) -> stats.PciDeviceStats:
    """The devices that are free for passing through, by cell; Nova tries cells with few first."""
    devices = stats.PciDeviceStats(topology_of(host))
    devices.pools = [{"numa_node": cell.number, "count": cell.detail.pci_devices} for cell in host]
    return devices


def nova_fit(
    host: Sequence[numa.Cell], wanted: numa.Request, limits: numa.Limits, packing: bool
) -> tuple[objects.InstanceNUMATopology | None, bool]:
    """What Nova's code chooses, and whether it took a guest cell's place from what it remembered.

    Nova remembers that a guest cell fits a host cell, but the CPUs are those of the host cell it
    fitted last.
    """
    topology = topology_of(host)
    last: dict[int, int] = {}

    def one_cell(
        host_cell: objects.NUMACell, instance_cell: objects.InstanceNUMACell, *rest: object
    ) -> objects.InstanceNUMACell | None:
        got = real(host_cell, instance_cell, *rest)
        if got is not None:
            last[id(got)] = host_cell.id
        return got

    real = hardware._numa_fit_instance_cell
    with (
        nova_objects.options("compute", packing_host_numa_cells_allocation_strategy=packing),
        mock.patch.object(hardware, "_numa_fit_instance_cell", one_cell),
    ):
        got = hardware.numa_fit_instance_to_host(
            topology,
            instance_of(wanted),
            provider_mapping=None,
            limits=objects.NUMATopologyLimits(
                cpu_allocation_ratio=limits.cpu_ratio, ram_allocation_ratio=limits.memory_ratio
            ),
            pci_requests=[],
            pci_stats=devices_of(host),
        )
    return got, got is not None and any(last.get(id(cell)) != cell.id for cell in got.cells)


def places_of(got: objects.InstanceNUMATopology) -> tuple[numa.Place, ...]:
    """Nova's choice in our words; cells have their positions as numbers here."""
    return tuple(
        numa.Place(cell.id, frozenset((cell.cpu_pinning or {}).values()), cell.pagesize)
        for cell in got.cells
    )


def cells_of(topology: objects.NUMATopology, host: Sequence[numa.Cell]) -> list[numa.Cell]:
    """What Nova has of the cells of a host in our words."""
    return [
        numa.Cell(
            cell.id,
            ours.detail,
            cell.cpu_usage,
            cell.memory_usage,
            set(cell.pinned_cpus),
            {pages.size_kb: pages.used for pages in cell.mempages},
        )
        for cell, ours in zip(topology.cells, host, strict=True)
    ]

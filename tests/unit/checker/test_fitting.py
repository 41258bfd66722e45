# SPDX-License-Identifier: Apache-2.0
"""Where Nova puts guest cells, by our statement of its rules and by Nova itself."""

import logging

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from nova import exception
from nova import objects
import nova.conf
from nova.virt import hardware
import pytest

from nova_rebalancer.checker import fitting
from nova_rebalancer.checker import wants


@pytest.fixture(autouse=True, scope="module")
def nova_objects():
    """Nova finds its objects by name; its debug lines of each cell are left out."""
    objects.register_all()
    logging.getLogger("nova").setLevel(logging.CRITICAL)


@st.composite
def cells(draw, number):
    """One host cell, about a third used: its CPUs shared, dedicated or both, in cores of 1-4."""
    threads = draw(st.sampled_from([1, 2, 2, 4]))
    count = draw(st.integers(2, 8 // threads)) * threads
    # Threads of a core are neighbours or, as on most machines, far from each other.
    base, step = draw(st.sampled_from([(8 * number, 1), (3 * number, 24), (40 - 9 * number, 7)]))
    cpus = [base + i * step for i in range(count)]
    cores = [cpus[i * threads : (i + 1) * threads] for i in range(count // threads)]
    if draw(st.integers(0, 3)) == 0:
        cores = [[cpu for cpu in core if draw(st.integers(0, 7))] for core in cores]
        cores = [core for core in cores if core]
    cpus = [cpu for core in cores for cpu in core]
    kind = draw(st.sampled_from(["both", "both", "split", "dedicated", "shared"]))
    dedicated = {"dedicated": cpus, "both": cpus, "shared": [], "split": cpus[: len(cpus) // 2 + 1]}
    shared = {"dedicated": [], "both": cpus, "shared": cpus, "split": cpus[len(cpus) // 2 + 1 :]}
    memory = draw(st.sampled_from([1024, 2048, 4096]))
    sizes = draw(st.sampled_from([(), (4,), (4, 2048), (2048, 4), (4, 64, 2048), (4, 1048576)]))
    most = {size: memory * 1024 // size for size in sizes}
    pages = {size: draw(st.sampled_from([n, n, n // 2, n // 8, 0])) for size, n in most.items()}
    used = draw(st.integers(0, 2)) * memory // 4
    found = fitting.Cell(
        number,
        frozenset(shared[kind]),
        frozenset(dedicated[kind]),
        [set(core) for core in cores],
        memory,
        pages,
        devices=draw(st.sampled_from([0, 0, 1])),
        cpus_used=draw(st.integers(0, len(shared[kind]))),
        memory_used=used,
    )
    found.pages_used = {size: draw(st.sampled_from([0, n // 4])) for size, n in pages.items()}
    pinned = {cpu for cpu in dedicated[kind] if draw(st.integers(0, 4)) == 0}
    found.free = set(found.dedicated) - pinned
    return found


@st.composite
def requests(draw):
    """One to three guest cells of any CPU policy, thread policy and page size."""
    policy = draw(st.sampled_from([None, "shared", "dedicated", "dedicated", "mixed", "mixed"]))
    guests = [
        fitting.Guest(
            shared=0 if policy == "dedicated" else draw(st.integers(1, 2)),
            dedicated=draw(st.integers(0 if policy == "mixed" else 1, 3))
            if policy in ("dedicated", "mixed")
            else 0,
            memory=draw(st.sampled_from([128, 256, 256, 512, 255])),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    threads = None
    if policy in ("dedicated", "mixed"):
        threads = draw(st.sampled_from([None, "prefer", "require", "isolate"]))
    page = draw(
        st.sampled_from(
            [None, None, None, wants.SMALL, wants.LARGE, wants.ANY, wants.ANY, 2048, 16]
        )
    )
    return fitting.Request(guests, policy, threads, page)


def as_nova(cell):
    """Return the cell as Nova has it."""
    return objects.NUMACell(
        id=cell.id,
        cpuset=set(cell.shared),
        pcpuset=set(cell.dedicated),
        memory=cell.memory,
        cpu_usage=cell.cpus_used,
        memory_usage=cell.memory_used,
        pinned_cpus=set(cell.dedicated) - cell.free,
        siblings=[set(core) for core in cell.cores],
        socket=0,
        mempages=[
            objects.NUMAPagesTopology(
                size_kb=size, total=count, used=cell.pages_used[size], reserved=0
            )
            for size, count in cell.pages.items()
        ],
    )


def as_nova_request(request):
    """Return the request as Nova has it."""
    made, cpu = [], 0
    for number, guest in enumerate(request.guests):
        shared = set(range(cpu, cpu + guest.shared))
        dedicated = set(range(cpu + guest.shared, cpu + guest.shared + guest.dedicated))
        cpu += guest.shared + guest.dedicated
        made.append(
            objects.InstanceNUMACell(
                id=number,
                cpuset=shared,
                pcpuset=dedicated,
                memory=guest.memory,
                pagesize=request.page,
                cpu_policy=request.policy,
                cpu_thread_policy=request.threads,
            )
        )
    return objects.InstanceNUMATopology(cells=made)


class Pools:
    """What Nova reads of its devices: where how many are free."""

    def __init__(self, given_cells):
        self.pools = [{"numa_node": cell.id, "count": cell.devices} for cell in given_cells]


def nova_fits(given_cells, request, limits, packing):
    """Ask Nova itself; (cell, page size, pinned CPUs) of each guest cell, and the topologies."""
    host = objects.NUMATopology(cells=[as_nova(cell) for cell in given_cells])
    nova.conf.CONF.set_override(
        "packing_host_numa_cells_allocation_strategy", packing, group="compute"
    )
    found = hardware.numa_fit_instance_to_host(
        host,
        as_nova_request(request),
        provider_mapping=None,
        limits=objects.NUMATopologyLimits(
            cpu_allocation_ratio=limits.cpus, ram_allocation_ratio=limits.memory
        ),
        pci_stats=Pools(given_cells),
    )
    if found is None:
        return None, host, None
    said = [
        (cell.id, cell.pagesize, [cpu for _, cpu in sorted((cell.cpu_pinning or {}).items())])
        for cell in found.cells
    ]
    return said, host, found


LIMITS = st.builds(
    fitting.Limits, st.sampled_from([1.0, 1.5, 16.0]), st.sampled_from([1.0, 1.25, 0.75])
)


@st.composite
def cases(draw):
    """Host cells and a request."""
    count = draw(st.integers(1, 4))
    return [draw(cells(number)) for number in range(count)], draw(requests())


@settings(max_examples=400, deadline=None)
@given(cases(), LIMITS, st.booleans())
def test_cells_pages_and_cpus_are_those_that_nova_chooses(case, limits, packing):
    """Our fitting and Nova's agree on whether, on which cells and CPUs and with which pages."""
    given_cells, request = case
    theirs, host, _ = nova_fits(given_cells, request, limits, packing)
    chosen = fitting.fit(given_cells, request, limits, packing)
    ours = chosen and [(mine.cell, mine.page, mine.pinned) for mine in chosen]
    # Which thread of a core comes first is up to Python's sets, and makes no difference.
    if all(list(core) == sorted(core) for cell in host.cells for core in cell.free_siblings):
        assert ours == theirs
    else:
        core_of = {
            (cell.id, cpu): min(core) for cell in given_cells for core in cell.cores for cpu in core
        }
        for said in (ours, theirs):
            for i, (cell, page, pinned) in enumerate(said or ()):
                said[i] = (cell, page, [core_of.get((cell, cpu), cpu) for cpu in pinned])
        assert ours == theirs


@settings(max_examples=150, deadline=None)
@given(cases(), st.lists(requests(), max_size=3))
def test_what_has_arrived_is_charged_as_nova_charges_it(case, more):
    """One request after the other into one host: what is left of it is the same each time."""
    given_cells, first = case
    by_number = {cell.id: cell for cell in given_cells}
    for request in (first, *more):
        _, host, found = nova_fits(given_cells, request, fitting.Limits(), False)
        chosen = fitting.fit(given_cells, request, fitting.Limits())
        assert (chosen is None) == (found is None)
        pinned_free = chosen is not None and all(
            by_number[mine.cell].free.issuperset(mine.pinned) for mine in chosen
        )
        # Nova has no page sizes to charge where a host shows none; real ones show all.
        if not chosen or not all(cell.pages for cell in given_cells):
            return
        try:
            host = hardware.numa_usage_from_instance_numa(host, found)
        except (exception.CPUPinningInvalid, exception.CPUPinningUnknown):
            assert not pinned_free
            return
        for guest, mine in zip(request.guests, chosen, strict=True):
            alone = request.threads == "isolate"
            by_number[mine.cell].take(guest, mine.pinned, mine.page, alone)
        for cell in host.cells:
            ours = by_number[cell.id]
            # Thread by thread they may differ, see above.
            assert [len(core & ours.free) for core in ours.cores] == [
                len(core) for core in cell.free_siblings
            ]
            assert (cell.cpu_usage, cell.memory_usage) == (ours.cpus_used, ours.memory_used)
            assert {page.size_kb: page.used for page in cell.mempages} == ours.pages_used

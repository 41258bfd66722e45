# SPDX-License-Identifier: Apache-2.0
"""Which NUMA cells and CPUs of a host Nova gives to an instance.

On a live cloud that is Nova's choice.  This module makes the same choice from the same facts, so
that a plan knows it beforehand and never counts on another one.

References
----------
nova 34.0 (2026.2): ``virt/hardware.py``, ``numa_fit_instance_to_host`` and what it calls;
``objects/numa.py``, ``NUMACell``; ``compute/claims.py``,
``MoveClaim._test_live_migration_page_size``.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools

from nova_rebalancer.model import asked
from nova_rebalancer.model import cloud


@dataclasses.dataclass(frozen=True, slots=True)
class GuestCell:
    """What one NUMA cell of an instance takes: CPUs by kind, memory in MiB."""

    shared: int
    dedicated: int
    memory_mib: int


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """The NUMA topology that an instance asks for; the page sizes are those of ``asked``.

    ``page_size_now`` is what Nova chose for it, which must not change on the way.
    """

    cells: tuple[GuestCell, ...]
    cpu_policy: str
    thread_policy: str
    page_size: int | None
    page_size_now: int | None

    @property
    def pins(self) -> bool:
        """Whether it has CPUs of its own."""
        return self.cpu_policy != "shared"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much more than there is may be promised of a host's cells."""

    cpu_ratio: float = 1.0
    memory_ratio: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where one guest cell goes: the host cell by position, its own CPUs, its page size."""

    cell: int
    pinned: frozenset[int]
    page_size: int | None


@dataclasses.dataclass(slots=True)
class Cell:
    """A host's NUMA cell and what is used of it; pages by size in KiB."""

    number: int
    detail: cloud.CellDetail
    cpus_used: int = 0
    memory_used_mib: int = 0
    pinned: set[int] = dataclasses.field(default_factory=set)
    pages_used: dict[int, int] = dataclasses.field(default_factory=dict)

    def copy(self) -> "Cell":
        """Return one that can be changed without changing this."""
        return Cell(
            self.number,
            self.detail,
            self.cpus_used,
            self.memory_used_mib,
            set(self.pinned),
            dict(self.pages_used),
        )

    @property
    def free_cpus(self) -> frozenset[int]:
        """CPUs that could be pinned."""
        return self.detail.dedicated_cpus - self.pinned

    def pages(self, kib: int, mib: int) -> int:
        """Return how many pages of a size so much memory takes."""
        return mib * 1024 // kib

    def smallest(self) -> int | None:
        """Return the smallest page size, None when the cell names none."""
        return min(self.detail.pages, default=None)

    def has_pages(self, kib: int, mib: int, *, free: bool = True) -> bool:
        """Whether memory fits into pages of a size: free ones, or all there are."""
        used = self.pages_used.get(kib, 0) if free else 0
        return (mib * 1024) % kib == 0 and self.pages(kib, mib) <= self.detail.pages[kib] - used

    def charge(self, guest: GuestCell, place: Place, isolate: bool, sign: int) -> None:
        """Add what a guest cell takes here; take it away with ``sign`` -1."""
        self.cpus_used = max(0, self.cpus_used + sign * guest.shared)
        self.memory_used_mib = max(0, self.memory_used_mib + sign * guest.memory_mib)
        kib = place.page_size or self.smallest()
        if kib is not None and kib in self.detail.pages:
            used = self.pages_used.get(kib, 0) + sign * self.pages(kib, guest.memory_mib)
            self.pages_used[kib] = max(0, used)
        pinned = set(place.pinned)
        if isolate:
            # The other threads of its cores are nobody's.
            pinned = set().union(*(core for core in self.detail.siblings if core & pinned))
        if sign > 0:
            self.pinned |= pinned
        else:
            self.pinned -= pinned


def request(instance: cloud.Instance, asks: asked.Asked) -> Request | None:
    """Return the topology an instance asks for, None without one."""
    if not instance.numa:
        return None
    cells = []
    for guest in instance.numa:
        memory_mib = guest.resources.get("MEMORY_MB", 0)
        # Hosts of the old configuration charge pinned CPUs as VCPU, too.
        shared = 0 if asks.cpu_policy == "dedicated" else guest.resources.get("VCPU", 0)
        cells.append(GuestCell(shared, len(guest.pinned or ()), memory_mib))
    return Request(
        tuple(cells),
        asks.cpu_policy,
        asks.thread_policy,
        asks.page_size,
        instance.numa_pagesize_kib,
    )


def pins(instance: cloud.Instance, asks: asked.Asked) -> bool:
    """Whether an instance has CPUs of its own, by what it asks for or by what it has."""
    return asks.cpu_policy != "shared" or any(
        guest.pinned or guest.resources.get("PCPU") for guest in instance.numa or ()
    )


def fit(
    host: Sequence[Cell], wanted: Request, limits: Limits, packing: bool
) -> tuple[Place, ...] | None:
    """Return where Nova puts each guest cell on ``host``, None where it refuses or cannot be told.

    Nova tries the cells in an order of its own and remembers what did not fit by numbers that it
    changes on the way, which now and then makes it refuse what fits or take what does not.  The
    first is repeated here; the second is refused.
    """
    if len(host) < len(wanted.cells):
        return None
    order = list(range(len(host)))
    if len(host) > len(wanted.cells):
        order = _order(host, wanted, packing)
    guests = [_Guest(g, wanted.page_size) for g in range(len(wanted.cells))]
    fits: set[tuple[int, int]] = set()
    fails: set[tuple[int, int]] = set()
    for chosen in itertools.permutations(order, len(guests)):
        for n, guest, cell in zip(chosen, guests, wanted.cells, strict=True):
            pair = (host[n].number, guest.number)
            if pair in fails:
                break
            if pair in fits:
                guest.number = host[n].number
                continue
            place = _fit_cell(host[n], n, guest, cell, wanted, limits)
            if place is None:
                fails.add(pair)
                break
            fits.add(pair)
            guest.number, guest.place = host[n].number, place
        else:
            return _sure(chosen, guests, wanted)
    return None


@dataclasses.dataclass(slots=True)
class _Guest:
    """A guest cell while Nova tries: number and page size change with each cell that is tried."""

    number: int
    page_size: int | None
    place: Place | None = None


def _sure(
    chosen: Sequence[int], guests: Sequence[_Guest], wanted: Request
) -> tuple[Place, ...] | None:
    """Return the places, unless what was remembered is about another cell."""
    places = []
    for n, guest in zip(chosen, guests, strict=True):
        if guest.place is None or guest.place.cell != n:
            return None
        places.append(guest.place)
    if places[0].page_size != wanted.page_size_now:
        return None
    return tuple(places)


def _order(host: Sequence[Cell], wanted: Request, packing: bool) -> list[int]:
    """Return the cells in the order in which Nova tries them; equal ones stay as they are."""
    order = sorted(
        range(len(host)),
        key=lambda n: host[n].detail.memory_mib - host[n].memory_used_mib,
        reverse=not packing,
    )
    if wanted.pins:
        order.sort(key=lambda n: len(host[n].free_cpus), reverse=not packing)
    else:
        order.sort(key=lambda n: host[n].cpus_used, reverse=packing)
    order.sort(key=lambda n: host[n].detail.pci_devices)
    return order


def _fit_cell(
    host: Cell, n: int, guest: _Guest, cell: GuestCell, wanted: Request, limits: Limits
) -> Place | None:
    """Return where a guest cell goes on host cell ``n``, None if it does not fit."""
    if not _has_memory(host, guest, cell, wanted):
        return None
    detail = host.detail
    pinned: frozenset[int] = frozenset()
    if wanted.pins:
        if cell.dedicated > len(host.free_cpus):
            return None
        found = _pack(host, cell.dedicated, wanted.thread_policy)
        if found is None:
            return None
        pinned = found
        # Nova writes the number and the CPUs before it looks at the limits.
        guest.number, guest.place = host.number, Place(n, pinned, guest.page_size)
    if wanted.cpu_policy != "dedicated" and (
        cell.shared > len(detail.shared_cpus)
        or host.cpus_used + cell.shared > len(detail.shared_cpus) * limits.cpu_ratio
        or host.memory_used_mib + cell.memory_mib > detail.memory_mib * limits.memory_ratio
    ):
        return None
    return Place(n, pinned, guest.page_size)


def _has_memory(host: Cell, guest: _Guest, cell: GuestCell, wanted: Request) -> bool:
    """Whether the memory fits; what page size it gets is written into ``guest``."""
    if guest.page_size:
        sizes = sorted(host.detail.pages, reverse=True)
        if guest.page_size == asked.SMALL:
            sizes = sizes[-1:]
        elif guest.page_size == asked.LARGE:
            sizes = sizes[:-1]
        elif guest.page_size != asked.ANY:
            sizes = [guest.page_size] if guest.page_size in host.detail.pages else []
        for kib in sizes:
            if host.has_pages(kib, cell.memory_mib):
                guest.page_size = kib
                return True
        return False
    smallest = host.smallest()
    if smallest is not None:
        # Pinned instances are not overcommitted.
        return host.has_pages(smallest, cell.memory_mib, free=wanted.pins)
    used = host.memory_used_mib if wanted.pins else 0
    return cell.memory_mib <= host.detail.memory_mib - used


def _pack(host: Cell, count: int, policy: str) -> frozenset[int] | None:
    """Return the CPUs that ``count`` pinned ones get, None where the thread policy forbids."""
    detail, free = host.detail, host.free_cpus
    threads = max((len(core) for core in detail.siblings), default=1)
    cores = [set(core) & free for core in detail.siblings]
    if policy == "isolate":
        whole = [core for core in cores if len(core) >= threads]
        # A core that is shared with other threads is given to one instance only on hosts of the
        # old configuration (vcpu_pin_set), where every CPU may be either kind.
        if not whole or not count or (threads > 1 and detail.dedicated_cpus != detail.shared_cpus):
            return None
        return _take(whole, 1, count)
    if policy == "require" and threads == 1:
        return None
    most = max((len(core) for core in cores), default=0)
    for number in range(most, 1 if policy == "require" else 0, -1):
        found = _take([core for core in cores if len(core) >= number], number, count)
        if found is not None:
            return found
    if policy == "require":
        return None
    return _take([{cpu} for core in cores for cpu in core], 1, count)


def _take(cores: Iterable[set[int]], threads: int, count: int) -> frozenset[int] | None:
    """Return ``count`` CPUs, up to ``threads`` of each core in turn; None if they are too few."""
    found = list(itertools.islice(_threads(cores, threads), count))
    return frozenset(found) if len(found) == count else None


def _threads(cores: Iterable[set[int]], threads: int) -> Iterator[int]:
    for core in cores:
        yield from list(core)[:threads]


@dataclasses.dataclass(frozen=True, slots=True)
class Topologies:
    """The NUMA side of a live cloud: what hosts have, what instances ask for and hold.

    Attributes
    ----------
    hosts
        Cells of each host with what its instances use, (H,); None where that is not known.
    limits
        Of each host, (H,).
    requests
        What each instance asks for, (V,); None without a NUMA topology.
    places
        Where the guest cells of each instance are, (V,); None where that is not known.
    packing
        Whether Nova fills used cells first.
    """

    hosts: tuple[tuple[Cell, ...] | None, ...]
    limits: tuple[Limits, ...]
    requests: tuple[Request | None, ...]
    places: tuple[tuple[Place, ...] | None, ...]
    packing: bool


class Book:
    """What is used of the cells while instances move; starts as ``start``."""

    def __init__(self, start: Topologies) -> None:
        self._start = start
        self._hosts: dict[int, list[Cell]] = {}
        self._places: dict[int, tuple[Place, ...] | None] = {}

    def predict(self, v: int, h: int) -> tuple[Place, ...] | None:
        """Return where Nova puts the guest cells of ``v`` on host ``h`` now, None if nowhere."""
        wanted = self._start.requests[v]
        cells = self._cells(h)
        if wanted is None or cells is None:
            return None
        return fit(cells, wanted, self._start.limits[h], self._start.packing)

    def places(self, v: int) -> tuple[Place, ...] | None:
        """Return where the guest cells of ``v`` are."""
        return self._places.get(v, self._start.places[v])

    def move(self, v: int, source: int, dest: int, places: tuple[Place, ...] | None) -> None:
        """Take ``v`` from ``source`` and put it on ``places`` of ``dest``."""
        self._charge(v, source, -1)
        self._places[v] = places
        self._charge(v, dest, 1)

    def _charge(self, v: int, h: int, sign: int) -> None:
        wanted, places, cells = self._start.requests[v], self.places(v), self._cells(h)
        if wanted is None or places is None or cells is None:
            return
        if h not in self._hosts:
            cells = self._hosts[h] = [cell.copy() for cell in cells]
        charge(cells, wanted, places, sign)

    def _cells(self, h: int) -> Sequence[Cell] | None:
        return self._hosts.get(h, self._start.hosts[h])


def charge(cells: Sequence[Cell], wanted: Request, places: Sequence[Place], sign: int = 1) -> None:
    """Add what an instance takes of a host's cells; take it away with ``sign`` -1."""
    for guest, place in zip(wanted.cells, places, strict=True):
        cells[place.cell].charge(guest, place, wanted.thread_policy == "isolate", sign)

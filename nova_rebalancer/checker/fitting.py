# SPDX-License-Identifier: Apache-2.0
"""Which host cells Nova gives the guest cells of an instance, and which CPUs it pins them to.

Nova tries one choice of host cells after the other and takes the first that fits.  While it
does, it writes what it finds (host cell, page size, CPUs) into the request itself, and remembers
what fitted by the cell number it finds there: what it tried in vain has a say in what it takes.
So the same has to be done in the same order.

References
----------
Nova 34.0, ``virt/hardware.py``: ``numa_fit_instance_to_host``, ``_numa_fit_instance_cell``,
``_pack_instance_onto_cores``, ``_numa_cell_supports_pagesize_request``; usage is counted as by
``numa_usage_from_instance_numa``.  Left out are emulator threads with a CPU of their own, PCI
requests and physical networks: instances with the first two are not moved, the last is not in
Nova's API.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import itertools

from nova_rebalancer.checker import wants

KIB = 1024
"""KiB in a MiB."""


@dataclasses.dataclass(slots=True)
class Cell:
    """A NUMA cell of a host and what is used of it; memory in MiB, page sizes in KiB.

    Attributes
    ----------
    cores
        The threads of each core, shared and dedicated ones.
    free
        Dedicated CPUs that nobody is pinned to.
    pages, pages_used
        Number of pages by size.
    devices
        How many devices are free for passing through.
    """

    id: int
    shared: frozenset[int]
    dedicated: frozenset[int]
    cores: Sequence[set[int]]
    memory: int
    pages: dict[int, int]
    devices: int = 0
    cpus_used: int = 0
    memory_used: int = 0
    free: set[int] = dataclasses.field(default_factory=set)
    pages_used: dict[int, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free = set(self.dedicated)
        self.pages_used = dict.fromkeys(self.pages, 0)

    def take(self, guest: "Guest", pinned: Collection[int], page: int | None, alone: bool) -> None:
        """Charge a guest cell; ``alone``: no other one may use the rest of its cores."""
        self.cpus_used += guest.shared
        self.memory_used += guest.memory
        size = page or min(self.pages, default=None)
        if size in self.pages:
            assert size is not None
            self.pages_used[size] += guest.memory * KIB // size
        self.free.difference_update(pinned)
        for core in self.cores if alone else ():
            if not core.isdisjoint(pinned):
                self.free -= core

    def has_pages(self, size: int, memory: int, overcommit: bool = False) -> bool:
        """Whether ``memory`` MiB are whole pages of one size and there are that many."""
        if size not in self.pages:
            return False
        count = self.pages[size] - (0 if overcommit else self.pages_used[size])
        return memory * KIB <= count * size and memory * KIB % size == 0


@dataclasses.dataclass(frozen=True, slots=True)
class Guest:
    """What a guest cell takes: numbers of shared and dedicated CPUs, memory in MiB."""

    shared: int
    dedicated: int
    memory: int


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What an instance asks for.

    Attributes
    ----------
    policy, threads
        CPU policy (dedicated, mixed, shared or None) and thread policy (prefer, require,
        isolate or None).
    page
        SMALL, LARGE, ANY or a size in KiB; None: whatever there is.
    """

    guests: Sequence[Guest]
    policy: str | None = None
    threads: str | None = None
    page: int | None = None

    @property
    def shares(self) -> bool:
        """Whether some of its CPUs are shared."""
        return self.policy in (None, "shared", "mixed")

    @property
    def pins(self) -> bool:
        """Whether some of its CPUs are pinned."""
        return self.policy in ("dedicated", "mixed")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How far the CPUs and the memory of a cell may be promised to several."""

    cpus: float = 1.0
    memory: float = 1.0


@dataclasses.dataclass(slots=True)
class Chosen:
    """What Nova has written into a guest cell; at first its number for the host cell."""

    cell: int
    page: int | None
    pinned: list[int] = dataclasses.field(default_factory=list)


def fit(
    cells: Sequence[Cell], request: Request, limits: Limits, packing: bool = False
) -> list[Chosen] | None:
    """Return what Nova chooses for each guest cell, None if the instance does not fit.

    Parameters
    ----------
    cells
        In the order of their numbers.
    packing
        Whether Nova fills cells up before it takes the next.
    """
    chosen = [Chosen(i, request.page) for i in range(len(request.guests))]
    if len(cells) < len(chosen):
        return None
    if len(cells) > len(chosen):
        cells = _preferred(cells, request, packing)
    fitted: dict[tuple[int, int], bool] = {}
    for tried in itertools.permutations(cells, len(chosen)):
        for cell, guest, mine in zip(tried, request.guests, chosen, strict=True):
            pair = cell.id, mine.cell
            if pair not in fitted:
                fitted[pair] = _fit_cell(cell, guest, mine, request, limits)
            if not fitted[pair]:
                break
            mine.cell = cell.id
        else:
            return chosen
    return None


def _preferred(cells: Sequence[Cell], request: Request, packing: bool) -> list[Cell]:
    """Sort cells: those without devices first, then those with the most (or least) free."""
    sign = 1 if packing else -1

    def rank(cell: Cell) -> tuple[int, int, int]:
        cpus = -cell.cpus_used if request.policy in (None, "shared") else len(cell.free)
        return cell.devices, sign * cpus, sign * (cell.memory - cell.memory_used)

    return sorted(cells, key=rank)


def _fit_cell(cell: Cell, guest: Guest, mine: Chosen, request: Request, limits: Limits) -> bool:
    """Whether one guest cell fits; what is found on the way stays in ``mine`` even if not."""
    if mine.page:
        page = _page(cell, guest.memory, mine.page)
        if page is None:
            return False
        mine.page = page
    elif cell.pages:
        if not cell.has_pages(min(cell.pages), guest.memory, overcommit=not request.pins):
            return False
    elif guest.memory > cell.memory - (cell.memory_used if request.pins else 0):
        return False
    if request.pins and guest.dedicated > len(cell.dedicated):
        return False
    if request.shares and guest.shared > len(cell.shared):
        return False
    if request.pins:
        if guest.dedicated > len(cell.free):
            return False
        pinned = _pin(cell, guest.dedicated, request.threads)
        if pinned is None:
            return False
        # Where no CPU is pinned, what was written before stays.
        mine.pinned = pinned or mine.pinned
        mine.cell = cell.id
    if request.shares:
        if cell.cpus_used + guest.shared > len(cell.shared) * limits.cpus:
            return False
        if cell.memory_used + guest.memory > cell.memory * limits.memory:
            return False
    return True


def _page(cell: Cell, memory: int, asked: int) -> int | None:
    """Return the largest page size that is asked for and has room."""
    sizes = sorted(cell.pages, reverse=True)
    if asked == wants.SMALL:
        sizes = sizes[-1:]
    elif asked == wants.LARGE:
        sizes = sizes[:-1]
    elif asked != wants.ANY:
        sizes = [asked]
    return next((size for size in sizes if cell.has_pages(size, memory)), None)


def _pin(cell: Cell, count: int, policy: str | None) -> list[int] | None:
    """Return the CPUs that ``count`` guest CPUs are pinned to, None if the policy cannot be kept.

    Emptier cores come first: as many threads of each core as ``count`` allows are used.
    """
    threads = max(map(len, cell.cores), default=1)
    # Of the threads of one core Nova takes those that a Python set has first. Which ones that
    # are changes nothing for whoever comes next: only how many of a core are free does.
    free = [sorted(core & cell.free) for core in cell.cores]
    if policy == "isolate":
        whole = [core for core in free if len(core) >= threads]
        # Other threads may be left idle only by the old vcpu_pin_set, which makes all CPUs both.
        if not whole or (threads != 1 and cell.dedicated != cell.shared):
            return None
        return _first(whole, 1, count) or None
    if policy == "require" and threads <= 1:
        return None
    least = 2 if policy == "require" else 1
    for number in range(max(map(len, free), default=0), least - 1, -1):
        pinned = _first([core for core in free if len(core) >= number], number, count)
        if pinned is not None:
            return pinned
    if policy == "require":
        return None
    return _first([[cpu] for core in free for cpu in core], 1, count)


def _first(cores: Iterable[list[int]], number: int, count: int) -> list[int] | None:
    """Return the first ``count`` CPUs with ``number`` of each core, None if there are fewer."""
    cpus = [cpu for core in cores for cpu in core[:number]]
    return cpus[:count] if len(cpus) >= count else None

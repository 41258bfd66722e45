# SPDX-License-Identifier: Apache-2.0
"""NUMA cells that Nova chooses: replaying a plan's list tells which they are.

A choice depends on what else is in the destination's cells at that moment, so a plan must keep
the order in which arrivals there and departures from there happen: that is its own rule.
"""

from collections.abc import Sequence
import dataclasses

from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import fitting
from nova_rebalancer.checker import migratable
from nova_rebalancer.checker import wants


@dataclasses.dataclass(frozen=True, slots=True)
class Guest:
    """An instance on cells; ``pinned``: CPUs of each of its guest cells, None if not known."""

    cells: tuple[int | None, ...]
    pinned: tuple[Sequence[int] | None, ...]


class Replay:
    """The instances with NUMA topologies on each host, while the list is walked through."""

    def __init__(self, cloud: facts.Cloud, packing: bool) -> None:
        self._cloud = cloud
        self._packing = packing
        self._on: dict[str, dict[str, Guest]] = {name: {} for name in cloud.hosts}
        for name, place in cloud.placement.items():
            if place.cells is not None:
                pinned = tuple(guest.get("pinned") for guest in cloud.instances[name].entry["numa"])
                self._on[place.host][name] = Guest(place.cells, pinned)
        # Hosts at an end of a running migration of such an instance.
        self._restless = {
            host: name
            for name, ends in cloud.ends.items()
            if cloud.instances[name].guests is not None
            for host in ends
        }

    def move(
        self, instance: facts.Instance, source: facts.Host, dest: facts.Host, stated: Sequence[int]
    ) -> str | None:
        """Move an instance with a topology; return why Nova does not put it where is ``stated``."""
        why = self._unsettled(instance, dest)
        if why is not None:
            return f'its cells on dest "{dest.name}" cannot be foretold: {why}'
        try:
            page = wants.page_size(instance.entry)
        except ValueError as error:
            return str(error)
        request = fitting.Request(
            guests=_guests(instance),
            policy=wants.cpu_policy(instance.entry),
            threads=wants.thread_policy(instance.entry),
            page=page,
        )
        cells = self._cells(dest)
        chosen = fitting.fit(cells, request, _limits(dest), self._packing)
        if chosen is None:
            return f'does not fit in the NUMA cells of dest "{dest.name}" then'
        found = [mine.cell for mine in chosen]
        if list(stated) != found:
            return f'dest_numa is {list(stated)}, Nova takes cells {found} of dest "{dest.name}"'
        present = instance.entry.get("numa_pagesize_kib")
        if chosen[0].page != present:
            return (
                f'its pages would be of {chosen[0].page} KiB on dest "{dest.name}", '
                f"they are of {present} KiB"
            )
        free = {cell.id: cell.free for cell in cells}
        if request.pins and any(not free[mine.cell].issuperset(mine.pinned) for mine in chosen):
            # What Nova remembers of cells tried before can belong to another guest cell.
            return f'Nova would pin it to CPUs of dest "{dest.name}" that are not free in its cells'
        del self._on[source.id][instance.id]
        pinned = tuple(mine.pinned for mine in chosen)
        self._on[dest.id][instance.id] = Guest(tuple(found), pinned)
        return None

    def _unsettled(self, instance: facts.Instance, dest: facts.Host) -> str | None:
        """Say what is not known of the host's cells."""
        if any(cell.get("detail") is None for cell in dest.entry["numa"]["cells"]):
            return "the CPUs and pages of its NUMA cells are not known"
        if dest.id in self._restless:
            return f'instance "{self._restless[dest.id]}" is on its way from or to it'
        pins = wants.cpu_policy(instance.entry) in migratable.PINNED
        for name, guest in self._on[dest.id].items():
            entry = self._cloud.instances[name].entry
            blind = None in guest.pinned and wants.cpu_policy(entry) in migratable.PINNED
            if None in guest.cells or blind:
                return f'where instance "{name}" is in it is not known'
            if pins and wants.isolates_emulator(entry):
                return f'which CPU has the emulator threads of instance "{name}" is not known'
        return None

    def _cells(self, host: facts.Host) -> list[fitting.Cell]:
        """Return the host's cells as they are used now."""
        numa = sorted(host.entry["numa"]["cells"], key=lambda cell: int(cell["id"]))
        cells = {int(cell["id"]): _cell(int(cell["id"]), cell["detail"]) for cell in numa}
        for name, guest in self._on[host.id].items():
            instance = self._cloud.instances[name]
            alone = wants.thread_policy(instance.entry) == "isolate"
            page = instance.entry.get("numa_pagesize_kib")
            for cell, size, pinned in zip(
                guest.cells, _guests(instance), guest.pinned, strict=True
            ):
                assert cell is not None
                cells[cell].take(size, pinned or (), page, alone)
        return list(cells.values())


def disorder(
    moves: Sequence[tuple[str, str] | None], depends_on: Sequence[Sequence[int]]
) -> tuple[int, int] | None:
    """Return the first migration that must wait for an earlier one and does not, and that one.

    Parameters
    ----------
    moves
        Source and destination of each migration of an instance with a NUMA topology, None for
        the others.
    depends_on
        Positions, all smaller than the migration's own.
    """
    before: list[int] = []
    touched: dict[str, list[int]] = {}
    arrived: dict[str, list[int]] = {}
    for position, (move, dependencies) in enumerate(zip(moves, depends_on, strict=True)):
        # A bit set of all that comes before.
        mask = 0
        for dependency in dependencies:
            mask |= before[dependency] | 1 << dependency
        before.append(mask)
        if move is None:
            continue
        source, dest = move
        for earlier in sorted({*touched.get(dest, ()), *arrived.get(source, ())}):
            if not mask >> earlier & 1:
                return position, earlier
        touched.setdefault(source, []).append(position)
        touched.setdefault(dest, []).append(position)
        arrived.setdefault(dest, []).append(position)
    return None


def _cell(number: int, detail: documents.Document) -> fitting.Cell:
    shared, dedicated = frozenset(detail["shared_cpus"]), frozenset(detail["dedicated_cpus"])
    cores = [set(map(int, core)) for core in detail.get("siblings", ())]
    alone = (shared | dedicated).difference(*cores)
    return fitting.Cell(
        id=number,
        shared=shared,
        dedicated=dedicated,
        cores=cores + [{cpu} for cpu in sorted(alone)],
        memory=int(detail["memory_mib"]),
        pages={int(size): int(count) for size, count in detail.get("pages", {}).items()},
        devices=int(detail.get("pci_devices", 0)),
    )


def _guests(instance: facts.Instance) -> list[fitting.Guest]:
    """Return what its guest cells take."""
    pinned = [len(guest.get("pinned") or ()) for guest in instance.entry["numa"]]
    # Where Placement charges pinned CPUs as VCPU, as it did of old, they are none that are shared.
    all_pinned = wants.cpu_policy(instance.entry) == "dedicated"
    return [
        fitting.Guest(
            shared=0 if all_pinned else guest.get("VCPU", 0),
            dedicated=count,
            memory=guest.get("MEMORY_MB", 0),
        )
        for guest, count in zip(instance.guests or (), pinned, strict=True)
    ]


def _limits(host: facts.Host) -> fitting.Limits:
    inventories = host.entry["inventories"]
    return fitting.Limits(
        *(
            float(inventories.get(resource, {}).get("allocation_ratio", 1.0))
            for resource in ("VCPU", "MEMORY_MB")
        )
    )

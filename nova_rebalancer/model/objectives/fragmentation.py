# SPDX-License-Identifier: Apache-2.0
"""The fragment rate: the share of free cores that no instance of a size, or of several, can use."""

from collections.abc import Iterable
import dataclasses
import math

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base

MOST = 1_000_000
"""Largest X, and largest least common multiple of several."""


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class Fragmentation:
    """Minimise sum(free mod X) / sum(free) over the units of usable hosts.

    With several X the sums are added up for all of them, each divided by its X: a slot, which is
    room for one more instance of X cores, counts as much whatever X is.

    A unit is a NUMA cell, or a whole host where cells are unknown or where an instance without
    NUMA topology runs: such an instance floats over the cells, so no cell's free cores are
    certain.  Cores are PCPU where a host has some, else VCPU, at Placement capacity; a unit
    charged above its capacity has none free.

    Attributes
    ----------
    cores
        Each X, at least 1, the largest first; the paper's is 16.

    Raises
    ------
    ValueError
        If there is no X, one is less than 1, or their least common multiple is more than MOST.

    References
    ----------
    VMR2L, arXiv 2505.17359, section 2 (the fragment rate); its code counts cores only, per NUMA
    cell, and has no value for a cloud without free cores, where ours is 0.
    """

    cores: tuple[int, ...]
    name = "fragmentation"

    def __init__(self, *cores: int) -> None:
        told = ", ".join(map(str, cores)) or "none"
        if not cores or min(cores) < 1:
            raise ValueError(f"fragment cores must be at least 1, not {told}")
        if math.lcm(*cores) > MOST:
            raise ValueError(
                f"fragment cores {told}: the least number of cores that is a multiple of each is "
                f"more than {MOST}"
            )
        object.__setattr__(self, "cores", tuple(sorted(set(cores), reverse=True)))

    @property
    def per_slot(self) -> int:
        """What a slot counts in whole numbers, and a free core ``per_core``."""
        return math.lcm(*self.cores)

    @property
    def per_core(self) -> int:
        """What a free core counts where a slot counts ``per_slot``."""
        return sum(self.per_slot // x for x in self.cores)

    def evaluate(self, placement: state.PlacementState) -> base.Value:
        """Return the rate, and its numerator and denominator in cores."""
        free = unit_free(
            placement, placement.used(), placement.cell_used(), placement.topologyless()
        )
        return self.of(free)

    def trace(self, start: state.PlacementState, hops: Iterable[path.Hop]) -> list[base.Step]:
        """Return the rate after each hop, and what it did to the cores of both hosts."""
        book = ledger.Ledger(start)
        before = _free(book)
        steps = []
        for hop in hops:
            book.move(hop.v, hop.dest, hop.dest_cells)
            after = _free(book)
            sides = []
            for h, cells in ((hop.source, hop.source_cells), (hop.dest, hop.dest_cells)):
                name, whole = start.service_hosts[h], not cells or book.topologyless[h]
                if whole:
                    sides.append(f"{name}: {before[h].sum()} -> {after[h].sum()}")
                    continue
                for n in cells:
                    if n != state.NOWHERE:
                        where = f"{name} cell {start.cell_ids[h][n]}"
                        sides.append(f"{where}: {before[h, n]} -> {after[h, n]}")
            value = self.rate(int(self.slots(after).sum()), int(after.sum()))
            steps.append(base.Step(value, "free cores on " + ", ".join(sides)))
            before = after
        return steps

    def of(self, free: arrays.Ints) -> base.Value:
        """Return the value of units with so many free cores each, and its breakdown."""
        all_free = int(free.sum())
        rate = self.rate(int(self.slots(free).sum()), all_free)
        fragments = {x: float((free % x).sum()) for x in self.cores}
        return base.Value(
            rate,
            (
                base.Part("fragmentation", "rate", 1.0, rate),
                *(base.Part(self._part(x), "cores", 0.0, fragments[x]) for x in self.cores),
                base.Part("free_cores", "cores", 0.0, float(all_free)),
            ),
        )

    def slots(self, free: arrays.Ints) -> arrays.Ints:
        """Return for how many instances each of ``free`` has room, for each X, in all."""
        found: arrays.Ints = np.sum([free // x for x in self.cores], axis=0)
        return found

    def residue(self, free: arrays.Ints) -> arrays.Ints:
        """Return what of ``free`` is in no slot, each core counted ``per_core`` times."""
        found: arrays.Ints = self.per_core * free - self.per_slot * self.slots(free)
        return found

    def rate(self, slots: int, free: int) -> float:
        """Return the value for so many slots, for each X, in all, and free cores."""
        whole = self.per_core * free
        return max(0, whole - self.per_slot * slots) / whole if free else 0.0

    def counts(self, value: base.Value) -> tuple[int, int]:
        """Return the free cores and the slots, for each X, in all, that a value tells of."""
        amounts = {part.name: round(part.value) for part in value.parts}
        free = amounts["free_cores"]
        return free, sum((free - amounts[self._part(x)]) // x for x in self.cores)

    def _part(self, x: int) -> str:
        return "fragment_cores" if len(self.cores) == 1 else f"fragment_cores_{x}"


def sizes(text: str) -> tuple[int, ...]:
    """Read sizes as they are written, with commas between them.

    Raises
    ------
    ValueError
        If there are none for a fragment rate.
    """
    try:
        given = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r}: write whole numbers with commas, as 32,16,8") from None
    return Fragmentation(*given).cores


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> Fragmentation:
    """Return the goal for instances of ``settings.fragment_cores``."""
    return Fragmentation(*settings.fragment_cores)


def _free(book: ledger.Ledger) -> arrays.Ints:
    return unit_free(book.state, book.used, book.cell_used, book.topologyless)


def unit_free(
    placement: state.PlacementState,
    used: arrays.Ints,
    cell_used: arrays.Ints,
    topologyless: arrays.Ints,
) -> arrays.Ints:
    """Free cores of each unit, (H, max(N, 1)); 0 where there is no unit.

    Parameters
    ----------
    placement
        Gives the hosts; where its instances are is not read.
    used, cell_used, topologyless
        What is charged, as the methods of these names of a state return it.
    """
    hosts, most = placement.cells.size, max(placement.cell_capacity.shape[1], 1)
    free = np.zeros((hosts, most), dtype=np.int64)
    counted = placement.usable & (placement.core != state.NOWHERE)
    by_cell = counted & (placement.cells > 0) & (topologyless == 0)
    whole = np.nonzero(counted & ~by_cell)[0]
    core = placement.core[whole]
    rows = placement.row_of[whole, core]
    free[whole, 0] = placement.capacity[rows, core] - used[rows, core]
    if by_cell.any():
        celled = np.nonzero(by_cell)[0]
        core = placement.core[celled]
        free[celled] = placement.cell_capacity[celled, :, core] - cell_used[celled, :, core]
    # A cell that does not count cores says nothing of them.
    free[free > state.UNLIMITED // 2] = 0
    return np.maximum(free, 0)

# SPDX-License-Identifier: Apache-2.0
"""The X-core fragment rate: the share of free cores that no X-core instance can use."""

from collections.abc import Iterable
import dataclasses

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base


@dataclasses.dataclass(frozen=True, slots=True)
class Fragmentation:
    """Minimise sum(free mod X) / sum(free) over the units of usable hosts.

    A unit is a NUMA cell, or a whole host where cells are unknown or where an instance without
    NUMA topology runs: such an instance floats over the cells, so no cell's free cores are
    certain.  Cores are PCPU where a host has some, else VCPU, at Placement capacity; a unit
    charged above its capacity has none free.

    Parameters
    ----------
    cores
        X, at least 1; the paper's is 16.

    References
    ----------
    VMR2L, arXiv 2505.17359, section 2 (the fragment rate); its code counts cores only, per NUMA
    cell, and has no value for a cloud without free cores, where ours is 0.
    """

    cores: int = 16
    name = "fragmentation"

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise ValueError(f"fragment cores must be at least 1, not {self.cores}")

    def evaluate(self, placement: state.PlacementState) -> base.Value:
        """Return the rate, and its numerator and denominator in cores."""
        free = unit_free(
            placement, placement.used(), placement.cell_used(), placement.topologyless()
        )
        return self.value(int((free % self.cores).sum()), int(free.sum()))

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
            value = self.value(int((after % self.cores).sum()), int(after.sum())).value
            steps.append(base.Step(value, "free cores on " + ", ".join(sides)))
            before = after
        return steps

    def value(self, fragments: int, free: int) -> base.Value:
        """Return the value for ``fragments`` of ``free`` cores."""
        rate = fragments / free if free else 0.0
        return base.Value(
            rate,
            (
                base.Part("fragmentation", "rate", 1.0, rate),
                base.Part("fragment_cores", "cores", 0.0, float(fragments)),
                base.Part("free_cores", "cores", 0.0, float(free)),
            ),
        )


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> Fragmentation:
    """Return the goal for instances of ``settings.fragment_cores``."""
    return Fragmentation(settings.fragment_cores)


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

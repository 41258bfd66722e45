# SPDX-License-Identifier: Apache-2.0
"""Detours that turn out not to be needed: two hops of an instance become one, or none.

A sequence that was found step by step sends instances aside for room that came later by itself.
For each two hops of one instance that follow each other it is tried to go the whole way with the
second, or with the first; what is in between must stay sane.
"""

from collections.abc import Sequence
import dataclasses

from nova_rebalancer.model import path
from nova_rebalancer.path import board

WINDOW = 300
"""Hops further apart than this are left as they are."""


def shorten(on: board.Board, hops: Sequence[path.Hop]) -> list[path.Hop]:
    """Return ``hops``, sane one after another from the board's placement, without such detours.

    The board is left as it was.
    """
    kept = list(hops)
    while True:
        shorter = _once(on, kept)
        if len(shorter) == len(kept):
            return kept
        kept = shorter


def _once(on: board.Board, hops: list[path.Hop]) -> list[path.Hop]:
    """Go through the hops once."""
    i = made = 0
    while i < len(hops):
        first = hops[i]
        j = next(
            (k for k in range(i + 1, min(len(hops), i + WINDOW)) if hops[k].v == first.v), None
        )
        if j is not None:
            between, rest = hops[i + 1 : j], hops[j + 1 :]
            whole = dataclasses.replace(first, dest=hops[j].dest, dest_cells=hops[j].dest_cells)
            ways = [[*between, whole], [whole, *between]]
            if whole.dest == whole.source:
                ways = [between] if whole.dest_cells == whole.source_cells else []
            better = next((way for way in ways if sane(on, way)), None)
            if better is not None:
                hops = [*hops[:i], *better, *rest]
                continue
        on.move(hops[i].v, hops[i].dest, hops[i].dest_cells)
        made += 1
        i += 1
    for _ in range(made):
        on.take_back()
    return hops


def sane(on: board.Board, hops: Sequence[path.Hop]) -> bool:
    """Whether the hops can be made one after another on the board as it is, which stays so."""
    made, all_sane = 0, True
    for hop in hops:
        if on.spot_for(hop.v, hop.dest, hop.dest_cells) != hop.dest_cells:
            all_sane = False
            break
        on.move(hop.v, hop.dest, hop.dest_cells)
        made += 1
    for _ in range(made):
        on.take_back()
    return all_sane

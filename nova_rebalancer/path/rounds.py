# SPDX-License-Identifier: Apache-2.0
"""The fewest rounds of a small zone in which every migration takes as long as any other.

In a round each host sends and takes as many instances as the limits say, all of them charged on
both hosts.  All placements that can be reached in one round, in two, and so on are listed, each
with the least price for which it is; those from which the end is too far are left out.
"""

from collections.abc import Iterator
import dataclasses

from nova_rebalancer.path import base
from nova_rebalancer.path import exact
from nova_rebalancer.path import zone


@dataclasses.dataclass(frozen=True, slots=True)
class _Try:
    """A move that a round may have."""

    move: exact.Move
    source: int
    dest: int
    packed: int
    top: int
    price: int


def fewest(
    puzzle: zone.Puzzle, most: int | None, fewer_than: int, work: exact.Work
) -> list[list[exact.Move]] | None:
    """Return rounds, each a list of moves, fewer than ``fewer_than``; None if there are none.

    Their moves cost ``most`` together, or less; without it as little as in so few rounds can be.
    None as well when the budget was used up.
    """
    start, goal = puzzle.start, puzzle.goal
    layer = {start: 0}
    best = {start: 0}
    came: list[dict[bytes, tuple[bytes, list[exact.Move]]]] = []
    for done in range(1, fewer_than):
        grown: dict[bytes, int] = {}
        way: dict[bytes, tuple[bytes, list[exact.Move]]] = {}
        for placed, paid in layer.items():
            if not work.spend() or work.limits.spent():
                return None
            for after, moves, price in _rounds(puzzle, placed, paid, most, work):
                if price >= min(best.get(after, price + 1), grown.get(after, price + 1)):
                    continue
                if done + _distance(puzzle, after, work.limits) >= fewer_than:
                    continue
                grown[after] = price
                way[after] = (placed, moves)
        came.append(way)
        for placed, price in grown.items():
            best[placed] = price
        if goal in grown:
            return _way(came, goal)
        layer = grown
        if not layer:
            return None
    return None


def _rounds(
    puzzle: zone.Puzzle, placed: bytes, paid: int, most: int | None, work: exact.Work
) -> Iterator[tuple[bytes, list[exact.Move], int]]:
    """Yield each placement after one round, with the round and the price so far."""
    host, price, goal = puzzle.host, puzzle.price, puzzle.goal
    missing = sum(c for c, p, g in zip(price, placed, goal, strict=True) if p != g)
    spare = None if most is None else most - paid - missing
    free = puzzle.free_at(placed)
    tries: list[_Try] = []
    for k, q, extra in exact.neighbours(puzzle, placed, None if spare is None else spare + 1):
        packed, top = puzzle.takes[k][q]
        tries.append(_Try((k, q), host[placed[k]], host[q], packed, top, extra))
    limits = work.limits
    chosen: list[_Try] = []
    out: dict[int, int] = {}
    into: dict[int, int] = {}

    def more(first: int, left: int | None) -> Iterator[tuple[bytes, list[exact.Move], int]]:
        for n in range(first, len(tries)):
            one = tries[n]
            if not work.spend():
                return
            if (
                out.get(one.source, 0) >= limits.outgoing
                or into.get(one.dest, 0) >= limits.incoming
                or (left is not None and one.price > left)
                or (free[one.dest] - one.packed) & one.top != one.top
                or any(other.move[0] == one.move[0] for other in chosen)
            ):
                continue
            chosen.append(one)
            out[one.source] = out.get(one.source, 0) + 1
            into[one.dest] = into.get(one.dest, 0) + 1
            free[one.dest] -= one.packed
            after = bytearray(placed)
            for other in chosen:
                after[other.move[0]] = other.move[1]
            moves = [other.move for other in chosen]
            yield bytes(after), moves, paid + sum(price[k] for k, _ in moves)
            yield from more(n + 1, None if left is None else left - one.price)
            free[one.dest] += one.packed
            into[one.dest] -= 1
            out[one.source] -= 1
            chosen.pop()

    yield from more(0, spare)


def _distance(puzzle: zone.Puzzle, placed: bytes, limits: base.Limits) -> int:
    """Return how many rounds it takes at least from ``placed`` to the goal."""
    host = puzzle.host
    out = [0] * len(puzzle.free)
    into = [0] * len(puzzle.free)
    for p, g in zip(placed, puzzle.goal, strict=True):
        if p != g:
            out[host[p]] += 1
            into[host[g]] += 1
    return max(-(-max(out) // limits.outgoing), -(-max(into) // limits.incoming))


def _way(
    came: list[dict[bytes, tuple[bytes, list[exact.Move]]]], goal: bytes
) -> list[list[exact.Move]]:
    found: list[list[exact.Move]] = []
    placed = goal
    for way in reversed(came):
        placed, moves = way[placed]
        found.append(moves)
    found.reverse()
    return found

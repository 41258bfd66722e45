# SPDX-License-Identifier: Apache-2.0
"""The cheapest order of a zone, or the proof that there is none.

The placements of a zone and the sane moves between them are a graph in which each move can be
undone.  ``cheapest`` is A* in it: what the instances that are not where they belong cost to move
once is a lower bound of what is to come, and each move away from the direct way costs its price on
top.  ``reach`` floods from both ends; when one end's component is exhausted without meeting the
other, no path exists.
"""

from collections.abc import Iterator
import dataclasses
import heapq
import itertools

from nova_rebalancer.path import base
from nova_rebalancer.path import zone

Move = tuple[int, int]
"""Position of an instance in the puzzle, and of the spot that it goes to."""

FORWARD, BACKWARD = "initial", "final"

LOOK = 256
"""After so many placements the clock is asked."""


@dataclasses.dataclass(slots=True)
class Work:
    """How many placements may still be looked at, and the clock."""

    left: int
    limits: base.Limits
    _until_look: int = LOOK

    def spend(self) -> bool:
        """Count one placement; return False when the budget is used up."""
        self.left -= 1
        self._until_look -= 1
        if not self._until_look:
            self._until_look = LOOK
            if self.limits.spent():
                self.left = min(self.left, 0)
        return self.left > 0


def neighbours(
    puzzle: zone.Puzzle, placed: bytes, spare: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """Yield each sane move from a placement, and what it costs on top of the direct way.

    Those that cost ``spare`` or more on top are left out.
    """
    host, goal, price, follows = puzzle.host, puzzle.goal, puzzle.price, puzzle.follows
    free = puzzle.free_at(placed)
    for k, (p, moves) in enumerate(zip(placed, puzzle.moves, strict=True)):
        here, belongs = host[p], goal[k]
        aside = 2 * price[k] if p == belongs else price[k]
        direct_only = spare is not None and aside >= spare
        if direct_only and p == belongs:
            continue
        for q, h, packed, top in moves:
            if direct_only and q != belongs:
                continue
            if (
                (free[h] - packed) & top == top
                and h != here
                and (follows is None or follows[here][h])
            ):
                yield k, q, 0 if q == belongs else aside


def cheapest(
    puzzle: zone.Puzzle, most: int | None, work: Work, hurry: int = 1
) -> tuple[list[Move] | None, bool]:
    """Return the cheapest moves that cost less than ``most`` together, and whether that is sure.

    None with True: there is none that is cheaper (or, without ``most``, none at all).  None with
    False: the budget was used up.  With more ``hurry`` than 1, what is to come counts that many
    times: some moves are found sooner, and it is not sure that there are no cheaper ones.
    """
    price, goal = puzzle.price, puzzle.goal
    start = puzzle.canonical(puzzle.start)
    misplaced = sum(c for c, p, g in zip(price, start, goal, strict=True) if p != g)
    if most is not None and misplaced >= most:
        return None, True
    # By placement: the least estimate of a whole path through it, where it came from, and the
    # instance that moved.
    seen: dict[bytes, tuple[int, bytes, int]] = {start: (misplaced, b"", -1)}
    heap: list[tuple[int, int, bytes]] = [(hurry * misplaced, misplaced, start)]
    closed: set[bytes] = set()
    while heap:
        _, left, placed = heapq.heappop(heap)
        if placed in closed:
            continue
        closed.add(placed)
        if placed == goal:
            return _moves(puzzle, seen, placed), hurry == 1
        if not work.spend():
            return None, False
        estimate, before, moved = seen[placed]
        spare = None if most is None else most - estimate
        for k, q, extra in neighbours(puzzle, placed, spare):
            # Twice in a row is once, for less, but where it comes to other cells of one host.
            if k == moved and puzzle.host[q] != puzzle.host[before[k]]:
                continue
            new, rest = estimate + extra, left + extra - price[k]
            after = bytearray(placed)
            after[k] = q
            key = puzzle.canonical(bytes(after))
            known = seen.get(key)
            if known is None or new < known[0]:
                # Among those that cannot be told apart it is not known which one moved.
                seen[key] = (new, placed, -1 if puzzle.alike else k)
                heapq.heappush(heap, (new + (hurry - 1) * rest, rest, key))
                closed.discard(key)
    return None, True


def _moves(
    puzzle: zone.Puzzle, seen: dict[bytes, tuple[int, bytes, int]], placed: bytes
) -> list[Move]:
    """Follow the way back and say who moved, telling apart again who cannot be told apart."""
    ways = [placed]
    while seen[ways[-1]][1]:
        ways.append(seen[ways[-1]][1])
    ways.reverse()
    group = list(range(len(placed)))
    for first, end in puzzle.alike:
        group[first:end] = [first] * (end - first)
    actual = list(puzzle.start)
    found: list[Move] = []
    for before, after in itertools.pairwise(ways):
        name, p, q = _difference(before, after, group)
        k = next(k for k, spot in enumerate(actual) if group[k] == name and spot == p)
        actual[k] = q
        found.append((k, q))
    return found


def _difference(before: bytes, after: bytes, group: list[int]) -> tuple[int, int, int]:
    """Return in which group of equals one left which spot for which."""
    changed = {group[k] for k in range(len(before)) if before[k] != after[k]}
    (name,) = changed
    gone = [p for k, p in enumerate(before) if group[k] == name]
    come = [q for k, q in enumerate(after) if group[k] == name]
    for p in list(gone):
        if p in come:
            gone.remove(p)
            come.remove(p)
    return name, gone[0], come[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Reached:
    """What flooding found: ``moves`` to the goal, or the ``side`` whose component is exhausted.

    ``placements`` counts that component.  Neither: the budget was used up.
    """

    moves: list[Move] | None = None
    side: str | None = None
    placements: int = 0


def reach(puzzle: zone.Puzzle, work: Work) -> Reached:
    """Flood from both ends, the smaller frontier first, until they meet or one is exhausted."""
    ends = [puzzle.start, puzzle.goal]
    if ends[0] == ends[1]:
        return Reached([])
    seen: list[dict[bytes, tuple[bytes, int]]] = [{end: (b"", -1)} for end in ends]
    layers = [[end] for end in ends]
    sides = (0, 1) if puzzle.undoable else (0,)
    while True:
        side = min(sides, key=lambda one: len(layers[one]))
        grown: list[bytes] = []
        for placed in layers[side]:
            if not work.spend():
                return Reached()
            for k, q, _ in neighbours(puzzle, placed):
                after = bytearray(placed)
                after[k] = q
                key = bytes(after)
                if key in seen[side]:
                    continue
                seen[side][key] = (placed, k)
                if key in seen[1 - side]:
                    return Reached(_joined(seen, key))
                grown.append(key)
        layers[side] = grown
        if not grown:
            return Reached(None, (FORWARD, BACKWARD)[side], len(seen[side]))


def _joined(seen: list[dict[bytes, tuple[bytes, int]]], middle: bytes) -> list[Move]:
    """Return the moves from the start to ``middle`` and on to the goal."""
    there: list[Move] = []
    placed = middle
    while seen[0][placed][1] >= 0:
        before, k = seen[0][placed]
        there.append((k, placed[k]))
        placed = before
    there.reverse()
    placed = middle
    while seen[1][placed][1] >= 0:
        after, k = seen[1][placed]
        there.append((k, after[k]))
        placed = after
    return there

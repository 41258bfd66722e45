# SPDX-License-Identifier: Apache-2.0
"""What the path-finder says is proved is so, on clouds with every kind of rule in them."""

import heapq
import itertools
import random
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.path import base
from nova_rebalancer.path import board
from nova_rebalancer.path import exact
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory
from nova_rebalancer.path import shortcut
from nova_rebalancer.path import zone
from tests import clouds
from tests.unit.path import test_finder

COST = memory.Memory()


class Timeless(memory.Memory):
    """Each migration takes a second."""

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """A second."""
        return 1.0


def least_cost(start: state.PlacementState, target: state.PlacementState) -> float | None:
    """The least cost from ``start`` to ``target`` by trying all moves; None if there is no way.

    Judged by the ledger, one move at a time.
    """
    key = tuple[tuple[int, ...], ...]

    def name(book: ledger.Ledger) -> key:
        return tuple(
            (int(h), *cells.tolist()) for h, cells in zip(book.host_of, book.cells_of, strict=True)
        )

    goal = name(ledger.Ledger(target))
    first = ledger.Ledger(start)
    dist = {name(first): 0.0}
    queue = [(0.0, name(first))]
    while queue:
        cost, placed = heapq.heappop(queue)
        if placed == goal:
            return cost
        if cost > dist[placed]:
            continue
        hosts = np.array([one[0] for one in placed])
        cells = np.array([one[1:] for one in placed], dtype=np.int64).reshape(start.cells_of.shape)
        book = ledger.Ledger(start.placed(hosts, cells))
        for v in np.nonzero(start.movable)[0].tolist():
            for h in range(len(start.hosts)):
                for spot in ledger.choices(int(start.guests_of[v]), int(start.cells[h])):
                    if book.fits(v, h, spot):
                        book.move(v, h, spot)
                        after, paid = name(book), cost + COST.cost(start, v)
                        book.take_back()
                        if paid < dist.get(after, float("inf")):
                            dist[after] = paid
                            heapq.heappush(queue, (paid, after))
    return None


def wandered(start: state.PlacementState, seed: int, moves: int) -> state.PlacementState:
    """Where random sane moves lead, some of them undone by random exchanges of two instances."""
    rng = random.Random(seed)
    book = ledger.Ledger(start)
    movable = np.nonzero(start.movable)[0].tolist()
    for _ in range(moves if movable else 0):
        v, h = rng.choice(movable), rng.randrange(len(start.hosts))
        spot = book.cells_for(v, h)
        if spot is not None:
            book.move(v, h, spot)
    return book.placement()


def crowded(
    seed: int, names: str, count: int, sizes: tuple[int, int], spare: int
) -> tuple[state.PlacementState, state.PlacementState]:
    """Hosts with little to spare, and where ``wandered`` leads from there."""
    rng = random.Random(seed)
    drawn = {f"v{k}": (rng.randint(*sizes), rng.choice(names)) for k in range(count)}
    full = {h: sum(size for size, on in drawn.values() if on == h) for h in names}
    start = rods({h: full[h] + rng.randint(0, spare) for h in names}, drawn)
    return start, wandered(start, seed, 12)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(clouds.snapshots(3, 5), st.integers(0, 2**32), st.booleans())
def test_all_paths(made: clouds.Document, seed: int, any_target: bool) -> None:
    """Reachable, unreachable and optimal are what trying all moves says."""
    start = clouds.state_of(made)
    target = (
        test_finder.random_target(start, seed) if any_target else wandered(start, seed, seed % 9)
    )
    found = finder.find(start, target.host_of, target.cells_of, COST, base.Limits(10**6))
    moved = (target.host_of != start.host_of).nonzero()[0]
    if (target.cells_of != start.cells_of)[target.host_of == start.host_of].any():
        return
    least = least_cost(start, target)
    if found.reachable is not None:
        assert found.reachable == (least is not None)
    if found.reachable and found.optimal:
        assert found.cost == least
    assert not (found.reachable and found.unreachable)
    assert (found.certificate is not None) == (found.reachable is False)
    if not any_target:
        assert found.reachable
    assert found.reachable or moved.size


def test_two_must_make_room_for_one() -> None:
    """An instance of 91 comes to a host of 100 only when both of 45 there have gone elsewhere.

    The published path-finder of 2013 says that there is no path (facts of its code: it never sends
    two instances of one host away for one that comes).  They wait on c: 45 + 45, then 91, then
    45 + 45 again is 271.
    """
    start = rods({"a": 100, "b": 100, "c": 90}, {"x": (91, "a"), "y": (45, "b"), "z": (45, "b")})
    found = way(start, {"x": "b", "y": "a", "z": "a"})
    assert (found.reachable, found.optimal, found.cost) == (True, True, 271)


def test_room_on_a_third_host() -> None:
    """Who makes room needs room made for it: five moves, 202, found and proved."""
    start = rods(
        dict.fromkeys("abc", 100),
        {"v": (47, "a"), "w": (42, "c"), "x": (25, "c"), "y": (39, "a"), "z": (58, "b")},
    )
    found = way(start, {"v": "b", "z": "a"})
    assert (found.reachable, found.optimal, found.cost) == (True, True, 202)
    assert len(found.migrations) == 5


def test_stuck() -> None:
    """Two that fill their hosts cannot change places; the proof names both."""
    start = rods({"a": 10, "b": 10}, {"x": (6, "a"), "y": (7, "b")})
    found = way(start, {"x": "b", "y": "a"})
    assert found.reachable is False and found.optimal and found.cost == 0
    assert found.certificate == {"kind": "relaxation", "side": "initial", "stuck": ["x", "y"]}
    assert {why.code for why in found.unreachable.values()} == {"no_path"}


def test_stuck_beyond_the_exact_search() -> None:
    """That nothing can move is proved before the time goes into trying.

    Two full hosts are to exchange all that they have, 150 instances each.
    """
    sizes = {f"{name}{k}": (2, name) for name in "ab" for k in range(150)}
    start = rods({"a": 300, "b": 300}, sizes)
    limits = base.Limits(10**6, deadline=time.monotonic() + 9)
    found = finder.find(start, 1 - start.host_of, start.cells_of, COST, limits)
    assert found.reachable is False and found.certificate is not None


def test_exhausted() -> None:
    """x and z can each move, but never pass each other; all that can be reached is listed.

    a has 3 free and b 4, so y (4) can go to b, z (6) then to a, and no more: three placements.
    """
    start = rods({"a": 14, "b": 10}, {"x": (7, "a"), "y": (4, "a"), "z": (6, "b")})
    found = way(start, {"x": "b", "z": "a"})
    assert found.certificate == {
        "kind": "component",
        "side": "initial",
        "hosts": ["a", "b"],
        "placements": 3,
    }
    assert found.reachable is False and found.migrations == ()


def test_beside_an_overfull_host() -> None:
    """A host that is overfull and stays so keeps nobody from proofs about what others do.

    d has 6 of 5.  The other hosts are those of the two tests above; in the first, nothing else can
    be done.
    """
    start = rods(
        {"a": 14, "b": 10, "d": 5}, {"x": (7, "a"), "y": (4, "a"), "z": (6, "b"), "o": (6, "d")}
    )
    found = way(start, {"x": "b", "z": "a"})
    assert found.reachable is False and found.certificate is not None
    start = rods(
        {"a": 100, "b": 100, "c": 90, "d": 5},
        {"x": (91, "a"), "y": (45, "b"), "z": (45, "b"), "o": (6, "d")},
    )
    found = way(start, {"x": "b", "y": "a", "z": "a"})
    assert (found.reachable, found.optimal, found.cost) == (True, True, 271)


def test_endpoint() -> None:
    """A target that a rule forbids is proved to be out of reach at once."""
    start = rods({"a": 10, "b": 10}, {"x": (6, "a"), "y": (1, "a")}, usable={"b": False})
    found = way(start, {"y": "b"})
    assert found.reachable is False
    assert found.certificate is not None and found.certificate["kind"] == "endpoint"


def test_budget_spent() -> None:
    """Without work to prove anything the verdict is unknown, and the blocking hosts are named."""
    start = rods({"a": 14, "b": 10}, {"x": (7, "a"), "y": (4, "a"), "z": (6, "b")})
    target = moved(start, {"x": "b", "z": "a"})
    limits = base.Limits(10**6, work=1)
    found = finder.find(start, target.host_of, target.cells_of, COST, limits)
    assert found.reachable is None and not found.optimal and found.certificate is None
    assert found.blocking == (0, 1)
    assert {why.code for why in found.unreachable.values()} == {"no_room"}


@pytest.mark.parametrize("most", [1, 2])
def test_too_few_migrations(most: int) -> None:
    """Where the only way has more migrations than are allowed, that is the reason given.

    Two have to make room for one and come back, which takes five (see above).
    """
    start = rods({"a": 100, "b": 100, "c": 90}, {"x": (91, "a"), "y": (45, "b"), "z": (45, "b")})
    target = moved(start, {"x": "b", "y": "a", "z": "a"})
    found = finder.find(start, target.host_of, target.cells_of, COST, base.Limits(most))
    assert found.reachable is None and found.migrations == ()
    assert {why.code for why in found.unreachable.values()} == {"max_migrations"}


def test_no_detours_half_way() -> None:
    """A part of the way has no migrations that lead nowhere: it cannot be shortened.

    Five nearly full hosts are each to have all that the one before has, in 40 migrations at most.
    """
    rng = random.Random(0)
    sizes: dict[str, tuple[int, str]] = {}
    for h in range(5):
        left = 97
        while left > 8:
            size = min(left, rng.randint(8, 30))
            sizes[f"v{len(sizes)}"] = (size, f"h{h}")
            left -= size
    start = rods({f"h{h}": 100 for h in range(5)}, sizes)
    limits = base.Limits(40, work=1)
    found = finder.find(start, (start.host_of + 1) % 5, start.cells_of, COST, limits)
    hops = [one.hop for one in found.migrations]
    assert found.reachable is None and hops
    assert len(shortcut.shorten(board.Board(start), hops)) == len(hops)


def test_zones_are_apart() -> None:
    """What cannot be done in one zone hinders nothing in another."""
    start = rods(
        {"a": 10, "b": 10, "c": 10, "d": 10},
        {"x": (6, "a"), "y": (7, "b"), "z": (3, "c")},
        allowed={"x": "ab", "y": "ab", "z": "cd"},
    )
    found = way(start, {"x": "b", "y": "a", "z": "d"})
    assert found.reachable is False
    assert [start.instances[one.hop.v] for one in found.migrations] == ["z"]


@pytest.mark.parametrize(("prefer", "seconds", "cost"), [("cost", 3.0, 12), ("makespan", 2.0, 19)])
def test_prefer(prefer: str, seconds: float, cost: float) -> None:
    """Cheap and slow, or dear and quick, as one likes.

    x (5) and y (5) change places, z (2) joins y on c.  c takes one at a time: y, then (when x has
    left) z, after x went to b, which y has left: three rounds, 12.  In the first of two rounds all
    three leave, x to a and z to b, in the second they arrive: 12 and once more x and z, 19.
    """
    start = rods({"a": 7, "b": 8, "c": 10}, {"x": (5, "c"), "y": (5, "b"), "z": (2, "a")})
    target = moved(start, {"x": "b", "y": "c", "z": "c"})
    limits = base.Limits(10**6, prefer=prefer)
    found = finder.find(start, target.host_of, target.cells_of, Timeless(), limits)
    assert (found.makespan_s, found.cost) == (seconds, cost)
    assert found.optimal == (prefer == "cost")


def test_small_costs() -> None:
    """Fewer rounds cost nothing more, however small the costs are.

    The cloud of the test above at costs of hundredths: 0.12 in three rounds, 0.19 in two.
    """

    class Cents(Timeless):
        """A hundredth of the memory."""

        def cost(self, start: state.PlacementState, v: int) -> float:
            """It."""
            return super().cost(start, v) / 100

    start = rods({"a": 7, "b": 8, "c": 10}, {"x": (5, "c"), "y": (5, "b"), "z": (2, "a")})
    target = moved(start, {"x": "b", "y": "c", "z": "c"})
    found = finder.find(start, target.host_of, target.cells_of, Cents(), base.Limits(10**6))
    assert found.cost == pytest.approx(0.12) and found.optimal


@pytest.mark.parametrize(
    ("prefer", "seconds", "cost"), [("cost", 27.0, 24_000), ("makespan", 23.0, 29_000)]
)
def test_prefer_with_sizes(prefer: str, seconds: float, cost: float) -> None:
    """A cheaper way that is proved does not take the place of a quicker one that was found.

    A second for each 1000 and one more.  v0 (5) goes to b, v2 (10) from there to a, v3 (9) to b,
    one after another: 6 + 11 + 10.  It is quicker when v0 waits on c (6), so that v3 goes to b and
    v0 away from a at once; then v2 (11) and v0 (6).
    """
    start = rods(
        {"a": 24_000, "b": 19_000, "c": 19_000},
        {"v0": (5_000, "a"), "v1": (11_000, "a"), "v2": (10_000, "b"), "v3": (9_000, "c")},
    )
    target = moved(start, {"v0": "b", "v2": "a", "v3": "b"})
    limits = base.Limits(10**6, prefer=prefer)
    found = finder.find(start, target.host_of, target.cells_of, COST, limits)
    assert (found.makespan_s, found.cost) == (seconds, cost)


def least_rounds(start: state.PlacementState, target: state.PlacementState) -> int | None:
    """The fewest rounds with one migration out of and into each host at a time, by trying all."""
    movable = np.nonzero(start.movable)[0].tolist()
    hosts = range(len(start.hosts))
    layer = {tuple(start.host_of.tolist())}
    seen = set(layer)
    goal = tuple(target.host_of.tolist())
    for count in itertools.count():
        if goal in layer:
            return count
        grown = set()
        for placed in layer:
            moves = [(v, h) for v in movable for h in hosts if h != placed[v]]
            for size in range(1, len(hosts) + 1):
                for some in itertools.combinations(moves, size):
                    out = [placed[v] for v, _ in some]
                    into = [h for _, h in some]
                    if len({v for v, _ in some}) < size or len(set(out)) < size:
                        continue
                    if len(set(into)) < size:
                        continue
                    used = [0] * len(hosts)
                    for v, h in enumerate(placed):
                        used[h] += int(start.demand[v, 0])
                    for v, h in some:
                        used[h] += int(start.demand[v, 0])
                    if any(used[h] > start.capacity[h, 0] for h in into):
                        continue
                    after = list(placed)
                    for v, h in some:
                        after[v] = h
                    if tuple(after) not in seen:
                        grown.add(tuple(after))
        if not grown:
            return None
        seen |= grown
        layer = grown
    return None


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.integers(0, 2**32))
def test_quicker_where_that_counts(seed: int) -> None:
    """Where the makespan counts the path takes no longer than the cheapest, and costs no less.

    Large instances take longer than small ones.
    """
    start, target = crowded(seed, "abcd", 6, (500, 45_000), 30_000)
    cheap, quick = (
        finder.find(start, target.host_of, target.cells_of, COST, base.Limits(10**6, prefer=prefer))
        for prefer in (base.COST, base.MAKESPAN)
    )
    assert quick.reachable and cheap.reachable
    assert quick.makespan_s <= cheap.makespan_s
    assert quick.cost >= cheap.cost


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(0, 2**32))
def test_fewest_rounds(seed: int) -> None:
    """Where the makespan counts and all migrations take equally long, no schedule is shorter."""
    start, target = crowded(seed, "abc", 5, (5, 45), 40)
    if (target.host_of == start.host_of).all():
        return
    limits = base.Limits(10**6, prefer=base.MAKESPAN)
    found = finder.find(start, target.host_of, target.cells_of, Timeless(), limits)
    assert found.makespan_s == least_rounds(start, target)
    assert found.makespan_bound_s <= found.makespan_s
    found.replay(start)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(clouds.snapshots(3, 6), st.integers(0, 2**32))
def test_puzzle_is_the_ledger(made: clouds.Document, seed: int) -> None:
    """A zone's puzzle allows the moves that the ledger allows, placement after placement."""
    start = clouds.state_of(made)
    rng = random.Random(seed)
    goal = {
        v: (int(h), tuple(cells[: start.guests_of[v]].tolist()))
        for v, (h, cells) in enumerate(
            zip(*(lambda one: (one.host_of, one.cells_of))(wandered(start, seed, 8)), strict=True)
        )
        if h != start.host_of[v]
    }
    on = board.Board(start)
    for part in zone.split(start, goal):
        puzzle = zone.puzzle(on, part, board.prices([1.0] * len(start.instances)))
        if puzzle is None:
            continue
        book = ledger.Ledger(start)
        placed = puzzle.start
        for _ in range(8):
            said = {
                (puzzle.instances[k], puzzle.spots[q])
                for k, q, _ in exact.neighbours(puzzle, placed)
            }
            true = {
                (v, (h, cells))
                for v in part.instances
                for h in range(len(start.hosts))
                for cells in ledger.choices(int(start.guests_of[v]), int(start.cells[h]))
                if book.fits(v, h, cells)
            }
            assert said == true
            if not said:
                break
            k, q, _ = rng.choice(sorted(exact.neighbours(puzzle, placed)))
            book.move(puzzle.instances[k], *puzzle.spots[q])
            after = bytearray(placed)
            after[k] = q
            placed = bytes(after)


def zoned(
    start: state.PlacementState, goal: dict[int, zone.Spot]
) -> tuple[board.Board, zone.Zone, zone.Puzzle]:
    """The only zone of ``start``, as a puzzle with the goal."""
    on = board.Board(start)
    (part,) = zone.split(start, goal)
    prices = board.prices([COST.cost(start, v) for v in range(len(start.instances))])
    puzzle = zone.puzzle(on, part, prices)
    assert puzzle is not None
    return on, part, puzzle


def test_who_must_not_return_is_told_apart() -> None:
    """Of two of one size on a only one may come back there, so only that one steps aside.

    x and y change places, and there is no room on a meanwhile unless i or j waits on c; i may be
    on c alone.
    """
    start = rods(
        {"a": 10, "c": 4, "d": 2},
        {"i": (4, "a"), "j": (4, "a"), "x": (2, "d"), "y": (2, "a")},
        allowed={"i": "c", "j": "ac", "x": "ad", "y": "ad"},
    )
    target = moved(start, {"x": "a", "y": "d"})
    goal = {v: (int(target.host_of[v]), ()) for v in (2, 3)}
    _, _, puzzle = zoned(start, goal)
    moves, sure = exact.cheapest(puzzle, None, exact.Work(10**5, base.Limits(10**6)))
    assert sure and moves is not None
    names = [start.instances[puzzle.instances[k]] for k, _ in moves]
    assert names == ["j", "x", "y", "j"]


def test_other_cells_of_the_same_host() -> None:
    """An instance comes to other cells of its host over another host, in two moves of its own."""
    start = clouds.state_of(
        clouds.snapshot(
            [clouds.numa_host("a"), clouds.numa_host("b")], [clouds.numa_instance("i", "a", {0: 2})]
        )
    )
    _, _, puzzle = zoned(start, {0: (0, (1,))})
    moves, sure = exact.cheapest(puzzle, None, exact.Work(10**5, base.Limits(10**6)))
    assert sure and moves is not None
    assert [start.hosts[puzzle.spots[q][0]] for _, q in moves] == ["b", "a"]


def rods(
    hosts: dict[str, int],
    instances: dict[str, tuple[int, str]],
    usable: dict[str, bool] | None = None,
    allowed: dict[str, str] | None = None,
) -> state.PlacementState:
    """Hosts and instances with memory alone; ``allowed`` names the hosts of an instance."""
    made = clouds.snapshot(
        [
            {
                "id": name,
                "inventories": {"MEMORY_MB": {"total": total}},
                **({} if (usable or {}).get(name, True) else {"status": "disabled"}),
            }
            for name, total in hosts.items()
        ],
        [
            {
                "id": name,
                "host": on,
                "allocations": {"MEMORY_MB": size},
                **({"allowed_hosts": list(allowed[name])} if allowed else {}),
            }
            for name, (size, on) in instances.items()
        ],
    )
    return clouds.state_of(made)


def moved(start: state.PlacementState, to: dict[str, str]) -> state.PlacementState:
    """``start`` with some instances on other hosts, by name."""
    placed = start
    for name, host in to.items():
        placed = placed.moved(start.instances.index(name), start.hosts.index(host))
    return placed


def way(start: state.PlacementState, to: dict[str, str]) -> "finder.path.MigrationPath":
    """The path to ``to``, replayed if there is one."""
    target = moved(start, to)
    found = finder.find(start, target.host_of, target.cells_of, COST, base.Limits(10**6))
    if found.reachable:
        assert (found.replay(start).host_of == target.host_of).all()
    return found

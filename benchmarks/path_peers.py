# SPDX-License-Identifier: Apache-2.0
"""Paths side by side: ours, dependency order with one host to park on, and the order given.

    python benchmarks/path_peers.py [FILE...] [--seeds 1 2 3]

============  ==============================================================================
peer          what it does
============  ==============================================================================
ours          ``finder.find``
parking       straight moves as soon as they fit; when nothing fits, one instance that has to
              move goes to the one parking host, the emptiest at first, each once at most; if
              none finds room there, it fails
in order      straight moves one after another in the order of the target; what does not fit
              fails, and the rest goes on
============  ==============================================================================

``parking`` is what proxlb-solver does, ``in order`` what OpenStack's Watcher does with a list of
migrations, both as we state it, without their code.  The cases are those of the files (by default
some of each family of ``path_cases.py``) and clouds of growing size, 70 and 90 % full, whose target
comes of a random walk and so can be reached.  Each gets ``--time-limit`` seconds.

Solved is the share of the cases with a path, there the share of instances that get to their targets
in all of them.  Cost is over the least that is known, the best of the three where nothing is.
Makespan is in rounds of one outgoing and one incoming migration a host, over the fewest that are
known or else the busiest host's.  Both are means over what the peer solves, which are the easier
cases: ``ours*`` is ours on what parking solves.
"""

import argparse
import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import random
import statistics
import sys
import tempfile
import time

import path_cases
import path_reference

from nova_rebalancer.collect import cases
from nova_rebalancer.path import base
from nova_rebalancer.path import finder

SIZES = (
    (5, 20), (10, 40), (10, 100), (20, 80), (20, 200), (50, 200), (50, 500), (100, 400), (100, 1000)
)  # fmt: skip
FILLS = (0.7, 0.9)
SAME = "ours*"
"""Ours on the cases that parking solves too."""
STEPS = 2
"""Moves of the random walk for each instance."""

Case = path_reference.Case
Sketch = path_cases.Sketch
Moves = list[tuple[str, str]]
"""Instances and hosts, one after another."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a peer makes of a case: the moves, the rounds they take, whether all is done."""

    moves: Moves
    rounds: float
    solved: bool
    seconds: float


def grown(hosts: int, size: int, fill: float, seed: int) -> Case:
    """A cloud with one resource whose target comes of a random walk of sane moves."""
    rng = random.Random(f"{hosts} {size} {fill} {seed}")
    # With ten instances a host, sizes in hundredths would be rough.
    capacity = [[1000]] * hosts
    initial = None
    while initial is None:
        amounts = path_cases.amounts(rng, size, [1000] * hosts, (fill, fill))
        demands = [(amount,) for amount in amounts]
        with contextlib.suppress(path_cases.NoRoom):
            initial = path_cases.placed(rng, capacity, demands, [range(hosts)] * size, ())
    case = path_cases.case_of(capacity, demands, initial, initial)
    sketch = Sketch(case, case["initial"])
    names = list(sketch.free)
    for _ in range(STEPS * size):
        vm = rng.choice(case["vms"])["name"]
        fitting = [h for h in names if h != sketch.host_of[vm] and sketch.fits(vm, h)]
        if fitting:
            sketch.move(vm, rng.choice(fitting))
    final = {name: sketch.host_of[name] for name in case["initial"]}
    key = f"{hosts}x{size}-{fill}-{seed}"
    return case | {"id": key, "family": f"{hosts}x{size}", "final": final, "known": {}}


def parking(case: Case) -> tuple[Moves, bool]:
    """Dependency order with one host to park on; the moves, and whether all is done."""
    sketch, moves = Sketch(case, case["initial"]), []
    pending = [name for name, host in case["final"].items() if sketch.host_of[name] != host]
    parked: set[str] = set()
    park = max(sketch.free, key=lambda host: min(sketch.free[host]))
    while pending:
        went = [name for name in pending if went_straight(sketch, name, moves)]
        if went:
            pending = [name for name in pending if name not in went]
            continue
        able = (
            name
            for name in pending
            if name not in parked and sketch.host_of[name] != park and sketch.fits(name, park)
        )
        one = next(able, None)
        if one is None:
            return moves, False
        parked.add(one)
        sketch.move(one, park)
        moves.append((one, park))
    return moves, True


def in_order(case: Case) -> tuple[Moves, bool]:
    """One after another; the moves that did not fail, and whether none did."""
    sketch, moves = Sketch(case, case["initial"]), []
    for name, host in case["final"].items():
        if sketch.host_of[name] != host:
            went_straight(sketch, name, moves)
    return moves, sketch.host_of == case["final"]


def went_straight(sketch: Sketch, name: str, moves: Moves) -> bool:
    """Move an instance to its target if it fits, and say whether it did."""
    host = sketch.case["final"][name]
    if not sketch.fits(name, host):
        return False
    sketch.move(name, host)
    moves.append((name, host))
    return True


def rounds(case: Case, moves: Moves) -> int:
    """Rounds that the moves take when each starts as soon as it can, in their order.

    A move waits for its instance, for a slot at both hosts, for room, and for the room of those
    before it that go to the same host.  Who moves is on both hosts until the round ends.
    """
    sketch = Sketch(case, case["initial"])
    left, count = list(moves), 0
    while left:
        count += 1
        leaving: set[str] = set()
        reached: set[str] = set()
        waiting: set[str] = set()
        begun: Moves = []
        kept: Moves = []
        for name, dest in left:
            source = sketch.host_of[name]
            # Whatever goes to a host goes in order, and so does an instance.
            ready = name not in waiting and dest not in waiting
            ready &= source not in leaving and dest not in reached
            if ready and sketch.fits(name, dest):
                leaving.add(source)
                reached.add(dest)
                begun.append((name, dest))
                waiting.add(name)
            else:
                kept.append((name, dest))
                waiting |= {name, dest}
        for name, dest in begun:
            sketch.move(name, dest)
        left = kept
    return count


def ours(case: cases.Case, time_limit: float) -> tuple[Moves, bool, float]:
    """The path-finder; the moves, whether all is done, the rounds."""
    limits = base.Limits(10**9, deadline=time.monotonic() + time_limit)
    found = finder.find(case.start, case.host_of, case.cells_of, case.costs, limits)
    moves = [
        (case.start.instances[one.hop.v], case.start.hosts[one.hop.dest])
        for one in sorted(found.migrations, key=lambda one: (one.end_s, one.start_s))
    ]
    return moves, found.reachable is True, found.makespan_s


def cost(case: Case, moves: Moves) -> int:
    """What the moves cost."""
    costs = {vm["name"]: vm["cost"] for vm in case["vms"]}
    return sum(costs[name] for name, _ in moves)


def there(case: Case, moves: Moves) -> float:
    """Share of the instances that have to move which end where they should."""
    wanted = {name for name, host in case["final"].items() if case["initial"][name] != host}
    ended = case["initial"] | dict(moves)
    arrived = sum(ended[name] == case["final"][name] for name in wanted)
    # Who steps aside and does not come back is one less.
    strayed = sum(ended[name] != host for name, host in case["final"].items() if name not in wanted)
    return (arrived - strayed) / max(1, len(wanted))


def busiest(case: Case) -> int:
    """Most instances that must leave one host, or come to it."""
    ends = [
        (case["initial"][name], host)
        for name, host in case["final"].items()
        if case["initial"][name] != host
    ]
    counts = [collections.Counter(side) for side in zip(*ends, strict=True)]
    return max((max(count.values()) for count in counts), default=0)


def compared(case: Case, loaded: cases.Case, time_limit: float) -> dict[str, Result]:
    """What each peer makes of a case."""
    began = time.monotonic()
    moves, solved, makespan = ours(loaded, time_limit)
    results = {"ours": Result(moves, makespan, solved, time.monotonic() - began)}
    peers: tuple[tuple[str, Callable[[Case], tuple[Moves, bool]]], ...] = (
        ("parking", parking),
        ("in order", in_order),
    )
    for name, peer in peers:
        began = time.monotonic()
        moves, solved = peer(case)
        seconds = time.monotonic() - began
        makespan = len(moves) if name == "in order" else rounds(case, moves) if solved else 0
        results[name] = Result(moves, makespan, solved, seconds)
    return results


@dataclasses.dataclass(slots=True)
class Figures:
    """What a peer gave on some cases."""

    solved: list[bool] = dataclasses.field(default_factory=list)
    there: list[float] = dataclasses.field(default_factory=list)
    costs: list[float] = dataclasses.field(default_factory=list)
    makespans: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)


def add(case: Case, results: dict[str, Result], table: dict[str, Figures]) -> None:
    """Add a case with a path to the figures."""
    known = case["known"]
    paid = [cost(case, result.moves) for result in results.values() if result.solved]
    least = known.get("optimal_cost") or min(paid, default=1) or 1
    fewest = known.get("optimal_rounds_1x1") or busiest(case) or 1
    rows = list(results.items())
    if results["parking"].solved:
        rows.insert(1, (SAME, results["ours"]))
    for name, result in rows:
        figures = table.setdefault(name, Figures())
        figures.solved.append(result.solved)
        figures.there.append(there(case, result.moves))
        figures.seconds.append(result.seconds)
        if result.solved:
            figures.costs.append(cost(case, result.moves) / least)
            figures.makespans.append(result.rounds / fewest)


def groups(options: argparse.Namespace, folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Files of cases, and what to call them."""
    for file in options.files:
        yield file.name, file
    if not options.files:
        file = folder / "small.json"
        path_cases.write(path_cases.cases("all", options.seeds[0], options.count), file)
        yield "small cases", file
    for fill in FILLS:
        for hosts, size in SIZES:
            file = folder / "grown.json"
            drawn = [grown(hosts, size, fill, seed) for seed in options.seeds]
            path_cases.write(drawn, file)
            yield f"{hosts}x{size}, {fill:.0%} full", file


def print_table(name: str, table: dict[str, Figures]) -> None:
    """The figures of some cases."""
    for peer, one in table.items():
        ratios = f"{'-':>8} {'-':>8} {'-':>9}"
        if one.costs:
            ratios = f"{statistics.mean(one.costs):8.4f} {max(one.costs):8.4f}"
            ratios += f" {statistics.mean(one.makespans):9.3f}"
        print(
            f"{name:24} {peer:9} {len(one.solved):5} {statistics.mean(one.solved):7.1%}"
            f" {statistics.mean(one.there):7.1%} {ratios} {max(one.seconds):7.2f}",
            flush=True,
        )


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument("--count", type=int, default=120, help="small cases (default 120)")
    parser.add_argument("--time-limit", type=float, default=10, help="of a case (default 10)")
    options = parser.parse_args()
    print(
        f"{'cases':24} {'peer':9} {'cases':>5} {'solved':>7} {'there':>7} {'cost':>8}"
        f" {'worst':>8} {'makespan':>9} {'most s':>7}"
    )
    totals: dict[bool, dict[str, Figures]] = {True: {}, False: {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name, file in groups(options, pathlib.Path(temporary)):
            table: dict[str, Figures] = {}
            for case, loaded in zip(path_reference.read(file), cases.load(str(file)), strict=True):
                if case["known"].get("reachable", True):
                    results = compared(case, loaded, options.time_limit)
                    add(case, results, table)
                    add(case, results, totals[not case["known"]])
            print_table(name, table)
    print_table("all small cases", totals[False])
    print_table("all growing clouds", totals[True])
    return 0


if __name__ == "__main__":
    sys.exit(main())

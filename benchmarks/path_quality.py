# SPDX-License-Identifier: Apache-2.0
"""How good paths are: verdicts, costs and rounds against what is proved of small cases.

    python benchmarks/path_quality.py FILE... [--all]
    python benchmarks/path_quality.py --families all tiny/any --seeds 1 2 --count 200

The cases are those of the files, or drawn by ``path_cases.py``; all have ``known``.  Each file is
given to the installed ``nova-rebalance path --problem`` in a process of its own, and its answers to
``nova-rebalance check``.  Then the heuristic is asked alone, in this process: the same search
with no work left for the exact one.

A case is hard if its target can be reached, but not by moving each instance straight there.
Rounds are compared where the file knows the fewest of any path; drawn cases also know the
fewest of a cheapest path, and ours is a cheapest path.  Prints the bars and whether they are met;
exit code 1 if one is not.  With ``--all`` a line for each case, without only for those that are
not as good as can be.
"""

import argparse
from collections.abc import Iterator
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import path_cases
import path_reference
import quality

from nova_rebalancer.collect import cases
from nova_rebalancer.path import base
from nova_rebalancer.path import finder

MISSES, HEURISTIC = 0.05, 1.03
ROUNDS, EXACT, WORST = 1.03, 0.85, 1.5


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What one case gave.

    ``quick`` is the cost that the heuristic alone finds, None without a path.
    """

    case: path_reference.Case
    answer: dict[str, Any]
    quick: float | None
    quick_s: float

    @property
    def known(self) -> dict[str, Any]:
        """What is true of the case."""
        known: dict[str, Any] = self.case["known"]
        return known

    @property
    def right(self) -> bool:
        """Whether the verdict is."""
        return bool(self.answer["reachable"] == self.known["reachable"])

    @property
    def cheapest(self) -> bool:
        """Whether the cost is the least, where there is a path."""
        return not self.known["reachable"] or self.answer["cost"] == self.known["optimal_cost"]

    @property
    def hard(self) -> bool:
        """Whether there is a path, but not a straight one."""
        return bool(
            self.known["reachable"] and self.known["optimal_cost"] > self.known["direct_cost"]
        )

    @property
    def rounds(self) -> float | None:
        """Rounds over the fewest; None where the fewest are not known, or there is no path."""
        fewest = self.known["optimal_rounds_1x1"]
        if not fewest or self.answer["reachable"] is not True:
            return None
        return float(self.answer["makespan_s"] / fewest)

    @property
    def best_rounds(self) -> float | None:
        """The fewest rounds of a cheapest path over the fewest of any; None like ``rounds``."""
        cheapest = self.known.get("cheapest_rounds_1x1")
        if self.rounds is None or cheapest is None:
            return None
        return float(cheapest / self.known["optimal_rounds_1x1"])

    @property
    def as_good_as_can_be(self) -> bool:
        """Whether nothing is to be said of it."""
        return self.right and self.cheapest and self.rounds in (1, None)

    def __str__(self) -> str:
        known, answer = self.known, self.answer
        return (
            f"{self.case['id']:28} {self.case['family']:26} {answer['reachable']!s:7}"
            f" {answer['cost']!s:>9} {known['optimal_cost']!s:>9}"
            f" {answer['makespan_s']:6g} {known['optimal_rounds_1x1']!s:>6}"
            f" {known.get('cheapest_rounds_1x1')!s:>8}"
            f" {self.quick!s:>9} {answer['runtime_s']:6.2f}"
        )


HEADER = (
    f"{'case':28} {'family':26} {'path':7} {'cost':>9} {'least':>9} {'rounds':>6} {'fewest':>6}"
    f" {'cheapest':>8}"
    f" {'heuristic':>9} {'s':>6}"
)


def answers(file: pathlib.Path, folder: pathlib.Path, options: argparse.Namespace) -> list[Any]:
    """What the command says of each case of a file; prints what the checker says of that."""
    written = folder / "answers.json"
    words = ("path", "--problem", str(file), "--time-limit", str(options.time_limit))
    text, wall_s = quality.call(options.command, *words, "-f", "json")
    written.write_text(text)
    began = time.monotonic()
    words = ("check", "--problem", str(file), "--path", str(written), "-f", "json")
    verdict, _ = quality.call(options.command, *words, accepted=(0, 1))
    judged = json.loads(verdict)
    print(
        f"{file.name}: {wall_s:.1f} s, checked in {time.monotonic() - began:.1f} s:"
        f" {'ok' if judged['ok'] else judged['kind']} ({judged['detail']})"
    )
    if not judged["ok"]:
        raise quality.Failed(f"{file.name}: {judged['detail']}")
    found: list[Any] = json.loads(text)
    return found


def quick(case: cases.Case, time_limit: float) -> float | None:
    """The cost that the heuristic alone finds; None without a path to the whole target."""
    limits = base.Limits(10**9, deadline=time.monotonic() + time_limit, work=1)
    found = finder.find(case.start, case.host_of, case.cells_of, case.costs, limits)
    return found.cost if found.reachable else None


def rows(file: pathlib.Path, folder: pathlib.Path, options: argparse.Namespace) -> Iterator[Row]:
    """All cases of a file."""
    said = answers(file, folder, options)
    loaded = cases.load(str(file))
    for case, answer, one in zip(path_reference.read(file), said, loaded, strict=True):
        began = time.monotonic()
        cost = quick(one, options.time_limit)
        yield Row(case, answer, cost, time.monotonic() - began)


def drawn(options: argparse.Namespace, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Files of drawn cases."""
    for family in options.families:
        for seed in options.seeds:
            file = folder / f"{family.replace('/', '_')}_{seed}.json"
            path_cases.write(path_cases.cases(family, seed, options.count), file)
            yield file


def print_figures(some: list[Row]) -> bool:
    """Figures and bars; whether all are met."""
    reachable = [row for row in some if row.known["reachable"]]
    hard = [row for row in some if row.hard]
    rounds = [row.rounds for row in some if row.rounds is not None]
    best = [row.best_rounds for row in some if row.best_rounds is not None]
    ratios = [row.quick / row.known["optimal_cost"] for row in reachable if row.quick]
    misses = sum(row.quick is None for row in hard) / max(1, len(hard))
    straight = sum(row.quick is None for row in reachable if not row.hard)
    runtime = [row.answer["runtime_s"] for row in some]
    print(
        f"{len(some)} cases, {len(reachable)} can be reached, {len(hard)} of them are hard;"
        f" seconds: median {statistics.median(runtime):.3f}, most {max(runtime):.2f}"
    )
    print(
        f"the heuristic alone finds {len(ratios)} of {len(reachable)} ({straight} of those it"
        f" misses are not hard), worst cost {max(ratios, default=1):.3f}, most"
        f" {max(row.quick_s for row in some):.2f} s"
    )
    if best:
        ours = [row.rounds / row.best_rounds for row in some if row.rounds and row.best_rounds]
        print(
            f"a cheapest path takes at least {statistics.mean(best):.4f} times the fewest rounds of"
            f" any, as few in {statistics.mean(b == 1 for b in best):.4f} of {len(best)} cases;"
            f" ours takes {statistics.mean(ours):.4f} times that, exact in"
            f" {statistics.mean(o == 1 for o in ours):.4f}"
        )
    unknown = sum(row.answer["reachable"] == "unknown" for row in some)
    wrong = sum(not row.right for row in some) - unknown
    dear = sum(not row.cheapest for row in some if row.right)
    exact = sum(ratio == 1 for ratio in rounds) / max(1, len(rounds))
    mean = statistics.mean(rounds or [1.0])
    mean_cost = statistics.mean(ratios or [1.0])
    bars = {
        f"wrong verdicts: {wrong}": wrong == 0,
        f"unknown: {unknown}": unknown == 0,
        f"not the cheapest: {dear}": dear == 0,
        f"the heuristic alone misses {misses:.4f} <= {MISSES} of the hard": misses <= MISSES,
        f"the heuristic's mean cost {mean_cost:.4f} <= {HEURISTIC}": mean_cost <= HEURISTIC,
        f"mean rounds {mean:.4f} <= {ROUNDS} ({len(rounds)} cases)": mean <= ROUNDS,
        f"exact rounds {exact:.4f} >= {EXACT}": exact >= EXACT,
        f"worst rounds {max(rounds, default=1):.3f} <= {WORST}": max(rounds, default=1) <= WORST,
    }
    for bar, met in bars.items():
        quality.print_bar(bar, met)
    return all(bars.values())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--families", nargs="+", default=["all"], help="without FILE: default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="default 1")
    parser.add_argument("--count", type=int, default=120, help="of each seed (default 120)")
    parser.add_argument("--time-limit", type=float, default=10, help="of a case (default 10)")
    parser.add_argument("--all", action="store_true", help="a line for each case")
    quality.add_command(parser)
    options = parser.parse_args()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for file in options.files or drawn(options, folder):
            print(HEADER)
            for row in rows(file, folder, options):
                found.append(row)
                if options.all or not row.as_good_as_can_be:
                    print(row, flush=True)
    return 0 if print_figures(found) else 1


if __name__ == "__main__":
    sys.exit(main())

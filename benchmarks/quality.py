# SPDX-License-Identifier: Apache-2.0
"""How good the plans are: ours, greedy and the proven optimum on instances made for it.

    python benchmarks/quality.py [--bars fifty] [--seeds 1000 1001 1002]
    python benchmarks/quality.py --bars curve FILE...

==========  ===========================================================================
bars        what is measured, and how good it has to be
==========  ===========================================================================
fifty       50 migrations, 279 hosts, 5 s: ratio to the optimum, time to its proof
proof       the same in 10 s: how often the optimum is proven
curve       10 to 200 migrations, 279 hosts, 15 s: ratio at each
large       50 migrations, 1,176 hosts, 5 s: share of what the bound allows to gain
==========  ===========================================================================

Every plan is made by the installed ``nova-rebalance plan`` in a process of its own, judged by
``nova-rebalance check``, and compared with the optimum of ``reference.py``, which shares no code
with it.  The optimum ignores the order of migrations, so a ratio of 1 may be out of reach.  The
reference proves nothing at 1,176 hosts: there, and where it runs out of time, a bound stands for
the optimum, marked * (the tighter one of its own and the plan's).
Nothing runs in parallel: on a machine that does other work the seconds mean nothing.
"""

import argparse
from collections.abc import Iterable
import dataclasses
import json
import math
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import instances
import reference

TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Bars:
    """What is measured, and how good it has to be where that is said.

    ``mean`` and ``worst`` are ratios to the optimum (the mean at each limit of migrations),
    ``gain`` the least share of the possible gain, ``proven`` the least share of optima that are
    proven, and ``median_s`` the median of the seconds this takes.
    """

    kinds: tuple[str, ...]
    limits: tuple[int, ...]
    time_limit: float
    reference_limit: float = 300.0
    mean: float | None = None
    worst: float | None = None
    gain: float | None = None
    proven: float | None = None
    median_s: float | None = None


SMALL = ("medium", "snapmed", "flex")
BARS = {
    "fifty": Bars(SMALL, (50,), 5, mean=1.005, worst=1.03, median_s=2),
    "proof": Bars(SMALL, (50,), 10, proven=0.95),
    "curve": Bars(SMALL, (10, 20, 30, 40, 50, 100, 200), 15, mean=1.02),
    "large": Bars(("large", "flexlarge"), (50,), 5, reference_limit=0, gain=0.98),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One instance with one limit of migrations; rates are in [0, 1]."""

    family: str
    name: str
    limit: int
    before: float
    greedy: float
    after: float
    bound: float | None
    optimum: float
    proven: bool
    status: str
    runtime_s: float
    wall_s: float
    migrations: int
    verdict: str

    @property
    def ratio(self) -> float:
        """Final rate over the optimum, 1 where both are 0."""
        if self.optimum == 0:
            return 1.0 if self.after == 0 else float("inf")
        return self.after / self.optimum

    @property
    def gain(self) -> float:
        """Share of the possible gain, 1 where there is none."""
        possible = self.before - self.optimum
        return (self.before - self.after) / possible if possible > TOLERANCE else 1.0

    @property
    def solved(self) -> bool:
        """Whether the plan proves the optimum of the placement, or of itself."""
        least = self.optimum if self.proven else self.after
        return self.bound is not None and self.bound >= least - TOLERANCE

    @property
    def honest(self) -> bool:
        """Whether bound <= optimum <= after, as far as the reference can tell."""
        bound = 0.0 if self.bound is None else self.bound
        true = not self.proven or bound <= self.optimum + TOLERANCE
        return true and self.optimum <= self.after + TOLERANCE


class Failed(Exception):
    """A command did not do what it was asked."""


def call(command: str, *arguments: str, accepted: tuple[int, ...] = (0,)) -> tuple[str, float]:
    """Run ``nova-rebalance`` and return what it printed and the seconds it took."""
    started = time.monotonic()
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in accepted:
        raise Failed(
            f"nova-rebalance {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout, time.monotonic() - started


def measure(
    source: pathlib.Path, family: str, limit: int, folder: pathlib.Path, options: argparse.Namespace
) -> Row:
    """Convert, plan twice, check, and solve the reference for one file and limit."""
    name = source.name.removesuffix(".gz").removesuffix(".json")
    snapshot = str(folder / f"{name}.snapshot.json.gz")
    call(options.command, "snapshot", "convert", "--from", "vmr2l", str(source), snapshot)

    def plan(planner: str) -> tuple[dict[str, Any], float, str]:
        output = folder / f"{name}.{limit}.{planner}.plan.json"
        _, wall_s = call(
            options.command, "plan", "--snapshot", snapshot, "--goal", "fragmentation",
            "--planner", planner, "--max-migrations", str(limit),
            "--time-limit", str(options.time_limit), "--output", str(output),
            accepted=(0, 3),
        )  # fmt: skip
        text, _ = call(
            options.command, "check", "--snapshot", snapshot, "--plan", str(output), "-f", "json",
            accepted=(0, 1),
        )  # fmt: skip
        verdict = json.loads(text)
        judged = "ok" if verdict["ok"] else f"{verdict['kind']}: {verdict['detail']}"
        return json.loads(output.read_bytes()), wall_s, judged

    greedy, _, greedy_verdict = plan("greedy")
    ours, wall_s, verdict = plan(options.planner)
    if verdict == "ok" and greedy_verdict != "ok":
        verdict = f"greedy: {greedy_verdict}"
    optimum, proven = optimal(reference.read(source), limit, options.reference_limit)
    if not proven:
        # The ratio can only look worse than it is.
        optimum = max(optimum, ours["objective"]["bound"] or 0.0)
    return Row(
        family=family,
        name=name,
        limit=limit,
        before=ours["objective"]["before"],
        greedy=greedy["objective"]["after"],
        after=ours["objective"]["after"],
        bound=ours["objective"]["bound"],
        optimum=optimum,
        proven=proven,
        status=ours["status"],
        runtime_s=ours["runtime_s"],
        wall_s=wall_s,
        migrations=len(ours["migrations"]),
        verdict=verdict,
    )


def optimal(document: dict[str, Any], limit: int, time_limit_s: float) -> tuple[float, bool]:
    """The reference's optimum and whether it is proven, else its bound."""
    if time_limit_s <= 0:
        return 0.0, False
    best = reference.solve(document, limit, time_limit_s=time_limit_s)
    return (best.optimum if best.proven else best.bound), best.proven


def print_row(row: Row) -> None:
    """One line of the table."""
    bound = "-" if row.bound is None else f"{row.bound:.5f}"
    optimum = f"{row.optimum:.5f}{'' if row.proven else '*'}"
    print(
        f"{row.name:16} {row.limit:5} {row.before:8.5f} {row.greedy:8.5f} {row.after:8.5f}"
        f" {bound:>8} {optimum:>9} {row.ratio:7.4f} {row.gain:6.3f} {row.status:12}"
        f" {row.runtime_s:9.2f} {row.wall_s:6.1f} {row.migrations:10}  {row.verdict}",
        flush=True,
    )


def print_summary(rows: list[Row], failures: int, bars: Bars) -> None:
    """Figures by family and by limit, and whether each bar is met."""
    for family in [*dict.fromkeys(row.family for row in rows), "all"]:
        for limit in dict.fromkeys(row.limit for row in rows):
            print_figures(
                f"{family}, {limit} migrations",
                [r for r in rows if family in (r.family, "all") and r.limit == limit],
            )
    ratios: dict[int, list[float]] = {}
    for row in rows:
        ratios.setdefault(row.limit, []).append(row.ratio)
    mean = max(statistics.mean(some) for some in ratios.values())
    worst = max(row.ratio for row in rows)
    gain = min(row.gain for row in rows)
    proven = statistics.mean(row.solved for row in rows)
    median_s = statistics.median(row.runtime_s if row.solved else math.inf for row in rows)
    for name, value, sign, bar in (
        ("mean ratio at each limit", mean, "<=", bars.mean),
        ("worst ratio", worst, "<=", bars.worst),
        ("least share of the gain", gain, ">=", bars.gain),
        ("share of proven optima", proven, ">=", bars.proven),
        ("median seconds to the proof", median_s, "<=", bars.median_s),
    ):
        if bar is not None:
            met = value <= bar if sign == "<=" else value >= bar
            print_bar(f"{name} {value:.4f} {sign} {bar}", met)
    print_bar("none worse than greedy", all(row.after <= row.greedy + TOLERANCE for row in rows))
    print_bar("bound <= optimum <= after", all(row.honest for row in rows))
    print_bar("every plan accepted by check", all(row.verdict == "ok" for row in rows))
    print_bar("every command succeeded", not failures)
    if not all(row.proven for row in rows):
        print("* the optimum is not proven by the reference: a bound stands for it")


def print_bar(bar: str, met: bool) -> None:
    """One bar."""
    print(f"bar met: {'yes' if met else 'no '}  {bar}")


def print_figures(name: str, rows: list[Row]) -> None:
    """Means of some rows."""
    if rows:
        print(
            f"{name}: {len(rows)} instances, ratio to the optimum: mean"
            f" {statistics.mean(row.ratio for row in rows):.4f}, worst"
            f" {max(row.ratio for row in rows):.4f} (greedy: mean"
            f" {statistics.mean(row.greedy / row.optimum for row in rows if row.optimum):.4f});"
            f" share of the gain {statistics.mean(row.gain for row in rows):.4f}; proven"
            f" {sum(row.solved for row in rows)}; median"
            f" {statistics.median(row.runtime_s for row in rows):.2f} s"
        )


def sources(
    options: argparse.Namespace, folder: pathlib.Path
) -> Iterable[tuple[pathlib.Path, str]]:
    """Files to measure and the family of each; generated ones are written to the folder."""
    if options.files:
        for file in options.files:
            yield file, file.name.split(".")[0].rsplit("_", 1)[0]
        return
    for kind in options.kinds:
        for seed in options.seeds:
            path = folder / f"{kind}_{seed}.json.gz"
            instances.write(instances.generate(kind, seed), path)
            yield path, kind


def add_sources(parser: argparse.ArgumentParser, seeds: list[int]) -> None:
    """Add the options that ``sources`` and ``call`` read, but for ``--kinds``."""
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    add_command(parser)


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the option for the program that is measured."""
    # Beside this Python first: a virtual environment need not be activated.
    beside = pathlib.Path(sys.executable).with_name("nova-rebalance")
    found = str(beside) if beside.exists() else shutil.which("nova-rebalance")
    parser.add_argument(
        "--command", default=found, required=not found, help="the nova-rebalance to measure"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_sources(parser, [1000, 1001, 1002])
    parser.add_argument("--bars", choices=BARS, default="fifty", help="what is measured")
    parser.add_argument("--kinds", nargs="+", choices=instances.KINDS)
    parser.add_argument("--planner", default="auto")
    parser.add_argument("--max-migrations", nargs="+", type=int, metavar="N")
    parser.add_argument("--time-limit", type=float, help="seconds for each plan")
    parser.add_argument(
        "--reference-limit", type=float, help="seconds for each reference optimum; 0 for none"
    )
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="keep all files here")
    options = parser.parse_args()
    bars = BARS[options.bars]
    options.kinds = options.kinds or bars.kinds
    options.max_migrations = options.max_migrations or bars.limits
    if options.time_limit is None:
        options.time_limit = bars.time_limit
    if options.reference_limit is None:
        options.reference_limit = bars.reference_limit
    rows: list[Row] = []
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(
            f"{'instance':16} {'limit':>5} {'before':>8} {'greedy':>8} {'after':>8} {'bound':>8}"
            f" {'optimum':>9} {'ratio':>7} {'gain':>6} {'status':12} {'runtime_s':>9} {'wall_s':>6}"
            f" {'migrations':>10}  check"
        )
        for source, family in sources(options, folder):
            for limit in options.max_migrations:
                try:
                    rows.append(measure(source, family, limit, folder, options))
                except Failed as error:
                    failures += 1
                    print(f"{source.name}: {error}", flush=True)
                else:
                    print_row(rows[-1])
    if rows:
        print_summary(rows, failures, bars)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""How good the plans are: ours, greedy and the proven optimum on instances made for it.

    python benchmarks/quality.py [--kinds medium snapmed flex] [--seeds 1000 1001 1002]
    python benchmarks/quality.py FILE...

Every plan is made by the installed ``nova-rebalance plan`` in a process of its own, judged by
``nova-rebalance check``, and compared with the optimum of ``reference.py``, which shares no code
with it.  The optimum ignores the order of migrations, so a ratio of 1 may be out of reach.
Nothing runs in parallel: on a machine that does other work the seconds mean nothing.
"""

import argparse
from collections.abc import Iterable
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import instances
import reference

TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Row:
    """One instance; rates are in [0, 1]."""

    family: str
    name: str
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
    def honest(self) -> bool:
        """Whether bound <= optimum <= after."""
        bound = 0.0 if self.bound is None else self.bound
        return bound <= self.optimum + TOLERANCE and self.optimum <= self.after + TOLERANCE


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
    source: pathlib.Path, family: str, folder: pathlib.Path, options: argparse.Namespace
) -> Row:
    """Convert, plan twice, check, and solve the reference for one file."""
    name = source.name.removesuffix(".gz").removesuffix(".json")
    snapshot = str(folder / f"{name}.snapshot.json.gz")
    call(options.command, "snapshot", "convert", "--from", "vmr2l", str(source), snapshot)

    def plan(planner: str) -> tuple[dict[str, Any], float, str]:
        output = folder / f"{name}.{planner}.plan.json"
        _, wall_s = call(
            options.command, "plan", "--snapshot", snapshot, "--goal", "fragmentation",
            "--planner", planner, "--max-migrations", str(options.max_migrations),
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
    best = reference.solve(
        reference.read(source), options.max_migrations, time_limit_s=options.reference_limit
    )
    return Row(
        family=family,
        name=name,
        before=ours["objective"]["before"],
        greedy=greedy["objective"]["after"],
        after=ours["objective"]["after"],
        bound=ours["objective"]["bound"],
        # Without a proof the bound stands in: the ratio can only look worse than it is.
        optimum=best.optimum if best.proven else best.bound,
        proven=best.proven,
        status=ours["status"],
        runtime_s=ours["runtime_s"],
        wall_s=wall_s,
        migrations=len(ours["migrations"]),
        verdict=verdict,
    )


def print_row(row: Row) -> None:
    """One line of the table."""
    bound = "-" if row.bound is None else f"{row.bound:.5f}"
    optimum = f"{row.optimum:.5f}{'' if row.proven else '*'}"
    print(
        f"{row.name:16} {row.before:8.5f} {row.greedy:8.5f} {row.after:8.5f} {bound:>8}"
        f" {optimum:>9} {row.ratio:7.4f} {row.status:12} {row.runtime_s:9.2f} {row.wall_s:6.1f}"
        f" {row.migrations:10}  {row.verdict}",
        flush=True,
    )


def print_summary(rows: list[Row], failures: int) -> None:
    """Means by family and whether each bar is met."""
    for family in [*dict.fromkeys(row.family for row in rows), "all"]:
        ratios = [row.ratio for row in rows if family in (row.family, "all")]
        print(
            f"{family}: {len(ratios)} instances, ratio to the optimum: mean"
            f" {sum(ratios) / len(ratios):.4f}, worst {max(ratios):.4f}"
        )
    mean = sum(row.ratio for row in rows) / len(rows)
    for bar, met in (
        (f"mean ratio {mean:.4f} <= 1.03", mean <= 1.03),
        ("none worse than greedy", all(row.after <= row.greedy + TOLERANCE for row in rows)),
        ("bound <= optimum <= after", all(row.honest for row in rows)),
        ("every plan accepted by check", all(row.verdict == "ok" for row in rows)),
        ("every command succeeded", not failures),
    ):
        print(f"bar met: {'yes' if met else 'no '}  {bar}")
    if not all(row.proven for row in rows):
        print("* no proof within --reference-limit: the bound of the reference")


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


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument(
        "--kinds", nargs="+", choices=instances.KINDS, default=["medium", "snapmed", "flex"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1000, 1001, 1002])
    parser.add_argument("--planner", default="auto")
    parser.add_argument("--max-migrations", type=int, default=50)
    parser.add_argument("--time-limit", type=float, default=30, help="seconds for each plan")
    parser.add_argument(
        "--reference-limit", type=float, default=300, help="seconds for each reference optimum"
    )
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="keep all files here")
    # Beside this Python first: a virtual environment need not be activated.
    beside = pathlib.Path(sys.executable).with_name("nova-rebalance")
    found = str(beside) if beside.exists() else shutil.which("nova-rebalance")
    parser.add_argument("--command", default=found, help="the nova-rebalance to measure")
    options = parser.parse_args()
    if options.command is None:
        parser.error("nova-rebalance is not installed here; see the README")
    rows: list[Row] = []
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(
            f"{'instance':16} {'before':>8} {'greedy':>8} {'after':>8} {'bound':>8} {'optimum':>9}"
            f" {'ratio':>7} {'status':12} {'runtime_s':>9} {'wall_s':>6} {'migrations':>10}  check"
        )
        for source, family in sources(options, folder):
            try:
                rows.append(measure(source, family, folder, options))
            except Failed as error:
                failures += 1
                print(f"{source.name}: {error}", flush=True)
            else:
                print_row(rows[-1])
    if rows:
        print_summary(rows, failures)


if __name__ == "__main__":
    main()

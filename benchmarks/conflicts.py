# SPDX-License-Identifier: Apache-2.0
"""How good the plans are where pairs of instances must not meet, at several levels of conflict.

    python benchmarks/conflicts.py [--kinds medium snapmed flex] [--seeds 1000] [--levels 5 50 500]
    python benchmarks/conflicts.py FILE...

The conflicts are the published ones of VMR2L: at level C each instance draws C of those on other
hosts, and a conflict holds both ways.  Every plan is made by the installed ``nova-rebalance plan``
in a process of its own and judged by ``nova-rebalance check``.  Level 5 is compared with the proven
optimum without conflicts, by ``reference.py``.  Higher levels are compared with what the plan's own
bound allows to gain where that is enough for the bar, and else with the gain of the same planner in
a run of ``--long`` seconds (0 leaves that out): ``of`` says which.  The bound of each plan holds
without conflicts too, so a gap of 0 is a proof.  Nothing runs in parallel: on a machine that does
other work a plan has less of a processor, and so less time; ``cpu_s``, of the whole process, tells.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import shutil
import sys
import tempfile
from typing import Any

import instances
import quality
import reference

LOW = 5
"""The level that is compared with the optimum without conflicts."""

LEAST = 0.95
"""Share of the gain of a long run that plans at higher levels must have."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One instance at one level; rates are in [0, 1], None where it was not measured."""

    name: str
    level: int
    pairs: int
    before: float
    after: float
    bound: float
    optimum: float | None
    longest: float | None
    status: str
    runtime_s: float
    cpu_s: float
    migrations: int
    verdict: str

    @property
    def ratio(self) -> float | None:
        """Final rate over the optimum without conflicts."""
        return None if self.optimum is None else self.after / self.optimum

    @property
    def compared(self) -> str:
        """What the gain is compared with at higher levels: the long run, the bound, or nothing."""
        if self.level == LOW or (self.longest is None and not self.settled):
            return "-"
        return "bound" if self.longest is None else "long"

    @property
    def share(self) -> float | None:
        """Gain over that of the long run, or of this plan where that is better.

        Where it is compared with the bound, which no run can beat: at least so much.
        """
        if self.compared == "-":
            return None
        return self._share(self.bound if self.longest is None else self.longest)

    @property
    def settled(self) -> bool:
        """Whether the bound shows that no run can gain so much more that the bar is missed."""
        return self._share(self.bound) >= LEAST

    def _share(self, least: float) -> float:
        most = self.before - min(least, self.after)
        return (self.before - self.after) / most if most > 0 else 1.0

    @property
    def gap(self) -> float:
        """How far the bound is from the final rate, as a share of that."""
        return (self.after - self.bound) / self.after if self.after else 0.0


def planned(
    snapshot: pathlib.Path, limit_s: float, options: argparse.Namespace
) -> tuple[dict[str, Any], float, str]:
    """Plan and check; return the document, the plan's processor seconds and the verdict."""
    output = snapshot.with_name("plan.json")
    before_s = _cpu_s()
    quality.call(
        options.command, "plan", "--snapshot", str(snapshot), "--goal", "fragmentation",
        "--planner", options.planner, "--max-migrations", str(options.max_migrations),
        "--time-limit", str(limit_s), "--output", str(output),
        accepted=(0, 3),
    )  # fmt: skip
    cpu_s = _cpu_s() - before_s
    text, _ = quality.call(
        options.command, "check", "--snapshot", str(snapshot), "--plan", str(output), "-f", "json",
        accepted=(0, 1),
    )  # fmt: skip
    verdict = json.loads(text)
    judged = "ok" if verdict["ok"] else f"{verdict['kind']}: {verdict['detail']}"
    return json.loads(output.read_bytes()), cpu_s, judged


def _cpu_s() -> float:
    """Processor seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    document: dict[str, Any],
    name: str,
    level: int,
    optimum: float | None,
    folder: pathlib.Path,
    options: argparse.Namespace,
) -> Row:
    """Plan one snapshot document with the conflicts of a level."""
    pairs = instances.conflicts(document, level, options.seed)
    path = folder / f"{name}.{level}.json"
    instances.write({**document, "conflicts": pairs}, path)
    ours, cpu_s, verdict = planned(path, options.time_limit, options)
    row = Row(
        name=name,
        level=level,
        pairs=len(pairs),
        before=ours["objective"]["before"],
        after=ours["objective"]["after"],
        bound=ours["objective"]["bound"] or 0.0,
        optimum=optimum,
        longest=None,
        status=ours["status"],
        runtime_s=ours["runtime_s"],
        cpu_s=cpu_s,
        migrations=len(ours["migrations"]),
        verdict=verdict,
    )
    if level == LOW or row.settled or not options.long:
        return row
    long, _, judged = planned(path, options.long, options)
    return dataclasses.replace(
        row,
        longest=long["objective"]["after"],
        verdict=judged if verdict == "ok" else verdict,
    )


def print_row(row: Row) -> None:
    """One line of the table."""

    def told(value: float | None) -> str:
        return "-" if value is None else f"{value:.5f}"

    print(
        f"{row.name:14} {row.level:5} {row.pairs:7} {row.before:8.5f} {row.after:8.5f}"
        f" {row.bound:8.5f} {row.gap:7.4f} {told(row.optimum):>8} {told(row.ratio):>8}"
        f" {told(row.longest):>8} {told(row.share):>8} {row.compared:5} {row.status:10}"
        f" {row.runtime_s:9.2f}"
        f" {row.cpu_s:6.1f} {row.migrations:10}  {row.verdict}",
        flush=True,
    )


def print_bars(rows: list[Row], failures: int) -> None:
    """Whether each bar is met."""
    low = [row.ratio for row in rows if row.level == LOW and row.ratio is not None]
    shares = [row.share for row in rows if row.share is not None]
    gaps = [row.gap for row in rows]
    print(f"gap to the bound: mean {sum(gaps) / len(gaps):.4f}, worst {max(gaps):.4f}")
    bars = [
        ("every plan accepted by check", all(row.verdict == "ok" for row in rows)),
        ("every command succeeded", not failures),
    ]
    if low:
        bars.append((f"level {LOW}: worst ratio {max(low):.4f} <= 1.03", max(low) <= 1.03))
    if shares:
        bars.append((f"higher: least share {min(shares):.4f} >= {LEAST}", min(shares) >= LEAST))
    for bar, met in bars:
        print(f"bar met: {'yes' if met else 'no '}  {bar}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=pathlib.Path, metavar="FILE")
    parser.add_argument(
        "--kinds", nargs="+", choices=instances.KINDS, default=["medium", "snapmed", "flex"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1000])
    parser.add_argument("--levels", nargs="+", type=int, default=[5, 50, 500])
    parser.add_argument("--seed", type=int, default=0, help="of the conflicts")
    parser.add_argument("--planner", default="auto")
    parser.add_argument("--max-migrations", type=int, default=50)
    parser.add_argument("--time-limit", type=float, default=5, help="seconds for each plan")
    parser.add_argument("--long", type=float, default=600, help="seconds of the long runs")
    parser.add_argument(
        "--reference-limit", type=float, default=300, help="seconds for each reference optimum"
    )
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
        folder = pathlib.Path(temporary)
        print(
            f"{'instance':14} {'level':>5} {'pairs':>7} {'before':>8} {'after':>8} {'bound':>8}"
            f" {'gap':>7} {'optimum':>8} {'ratio':>8} {'long':>8} {'share':>8} {'of':5}"
            f" {'status':10} {'runtime_s':>9} {'cpu_s':>6} {'migrations':>10}  check"
        )
        for source, _ in quality.sources(options, folder):
            name = source.name.removesuffix(".gz").removesuffix(".json")
            snapshot = folder / f"{name}.snapshot.json"
            optimum = None
            try:
                quality.call(
                    options.command, "snapshot", "convert", "--from", "vmr2l",
                    str(source), str(snapshot),
                )  # fmt: skip
                if LOW in options.levels:
                    best = reference.solve(
                        reference.read(source),
                        options.max_migrations,
                        time_limit_s=options.reference_limit,
                    )
                    # Without a proof the bound stands in: the ratio only looks worse.
                    optimum = best.optimum if best.proven else best.bound
                document = json.loads(snapshot.read_bytes())
                for level in options.levels:
                    compared = optimum if level == LOW else None
                    rows.append(measure(document, name, level, compared, folder, options))
                    print_row(rows[-1])
            except quality.Failed as error:
                failures += 1
                print(f"{source.name}: {error}", flush=True)
    if rows:
        print_bars(rows, failures)


if __name__ == "__main__":
    main()

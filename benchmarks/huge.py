# SPDX-License-Identifier: Apache-2.0
"""A plan for 10,000 hosts and 200,000 instances: seconds, memory, and how good it is.

    python benchmarks/huge.py --work FOLDER [--hosts 10000] [--seed 1000]

The cluster is the kind ``huge`` of ``instances.py``; it is made once and kept in the folder.  The
plan is made by the installed ``nova-rebalance plan`` in a process of its own and judged by
``nova-rebalance check``.  What goes before planning is then done again here, step by step, to say
what it takes.  Prints the bars and whether they are met; exit code 1 if one is not.
"""

import argparse
from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import instances
import quality

from nova_rebalancer.collect import document
from nova_rebalancer.collect import files
from nova_rebalancer.model import state

WALL_S, PEAK_MIB, GAIN = 60.0, 4096.0, 0.95


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=pathlib.Path, required=True, metavar="FOLDER")
    parser.add_argument("--hosts", type=int, default=10_000, help="default 10000")
    parser.add_argument("--seed", type=int, default=1000, help="default 1000")
    parser.add_argument("--max-migrations", type=int, default=1000, help="default 1000")
    parser.add_argument("--time-limit", type=float, default=40, help="seconds (default 40)")
    quality.add_command(parser)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    snapshot = made(options)
    plan = options.work / "plan.json"
    words = [options.command, "plan", "--snapshot", str(snapshot), "--output", str(plan)]
    words += ["--max-migrations", str(options.max_migrations)]
    words += ["--time-limit", str(options.time_limit), "-f", "value", "-c", "id"]
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"nova-rebalance plan ended with exit code {process.returncode}")
    # Linux counts in KiB.
    peak_mib = used.ru_maxrss / 1024
    found = json.loads(plan.read_bytes())
    goal = found["objective"]
    steps(snapshot)
    print(f"{'plan and path (runtime_s)':28} {found['runtime_s']:7.2f} s")
    print(
        f"{'the command in all':28} {wall_s:7.2f} s, {used.ru_utime + used.ru_stime:.2f} s of CPU"
    )
    print(
        f"{len(found['migrations'])} migrations, {found['status']}: {goal['name']}"
        f" {goal['before']:.5f} -> {goal['after']:.5f}, bound {goal['bound']:.5f}"
    )
    began = time.monotonic()
    verdict = judged(options.command, snapshot, plan)
    print(f"checked in {time.monotonic() - began:.2f} s: {verdict}")
    possible = goal["before"] - goal["bound"]
    gain = (goal["before"] - goal["after"]) / possible if possible > 0 else 1.0
    bars = {
        f"wall {wall_s:.1f} s <= {WALL_S:.0f} s": wall_s <= WALL_S,
        f"peak memory {peak_mib:.0f} MiB <= {PEAK_MIB:.0f} MiB": peak_mib <= PEAK_MIB,
        f"share of the bound's gain {gain:.4f} >= {GAIN}": gain >= GAIN,
        "accepted by check": verdict == "ok",
    }
    for bar, met in bars.items():
        quality.print_bar(bar, met)
    return 0 if all(bars.values()) else 1


def made(options: argparse.Namespace) -> pathlib.Path:
    """The snapshot, made if it is not there yet."""
    name = f"huge_{options.hosts}_{options.seed}"
    snapshot: pathlib.Path = options.work / f"{name}.snapshot.json.gz"
    if not snapshot.exists():
        source = options.work / f"{name}.json.gz"
        with timed("made the cluster"):
            instances.write(instances.generate("huge", options.seed, options.hosts), source)
        with timed("converted"):
            convert = ("snapshot", "convert", "--from", "vmr2l", str(source), str(snapshot))
            quality.call(options.command, *convert)
    return snapshot


def steps(path: pathlib.Path) -> None:
    """Do what goes before planning, and say what each step takes."""
    name = str(path)
    with timed("read and unpack"):
        data = files.read_bytes(name)
    with timed("parse"):
        parsed = files.parse_json(data, name)
    with timed("validate"):
        problems = document.problems(parsed)
    with timed("facts (validates again)"):
        snapshot = document.snapshot(parsed, name)
    with timed("arrays"):
        start = state.build(snapshot)
    print(f"{len(start.hosts)} hosts, {len(start.instances)} instances, {len(problems)} problems")


def judged(command: str, snapshot: pathlib.Path, plan: pathlib.Path) -> str:
    """What the checker says of the plan."""
    words = ("check", "--snapshot", str(snapshot), "--plan", str(plan), "-f", "json")
    text, _ = quality.call(command, *words, accepted=(0, 1))
    verdict = json.loads(text)
    return "ok" if verdict["ok"] else f"{verdict['kind']}: {verdict['detail']}"


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds that something takes."""
    began = time.monotonic()
    yield
    print(f"{what:28} {time.monotonic() - began:7.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())

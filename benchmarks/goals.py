# SPDX-License-Identifier: Apache-2.0
"""How far plans for other goals than the fragment rate are from a proven bound.

    python benchmarks/goals.py [--seeds 1000 1001 1002] [--time-limit 10] [--long 60]

Clouds of ``mixed_clouds.py``, with every rule in them, are planned with ``nova-rebalance plan`` and
the plans are judged by ``nova-rebalance check``.  For ``drain`` two hosts are to be emptied, drawn
from those that are enabled; the same is planned with ``--long`` seconds and any number of
migrations, and wherever its bound or its plan says that fewer instances can be left, the short plan
has failed.  Exit code 1 if a bar is missed: a violation, a gap of ``consolidate`` or ``balance``
above 3 %, or a drain that the long plan did better.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
from typing import Any

import mixed_clouds

MOST_GAP = 0.03

HEADER = (
    f"{'seed':>6} {'goal':12} {'before':>9} {'after':>9} {'bound':>9} {'gap':>7} {'moves':>5} "
    f"{'s':>6}  verdict"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``nova-rebalance``."""
    return subprocess.run(
        ["nova-rebalance", *arguments], capture_output=True, text=True, check=False
    )


def plan(snapshot: pathlib.Path, file: pathlib.Path, *arguments: str) -> dict[str, Any]:
    """Plan; return the document, with the checker's verdict as "verdict"."""
    made = run("plan", "--snapshot", str(snapshot), "--output", str(file), "-f", "csv", *arguments)
    if made.returncode not in (0, 3):
        sys.exit(made.stderr)
    found: dict[str, Any] = json.loads(file.read_bytes())
    judged = run("check", "--snapshot", str(snapshot), "--plan", str(file))
    found["verdict"] = "ok" if judged.returncode == 0 else judged.stdout.strip()
    return found


def line(seed: int, name: str, found: dict[str, Any], note: str = "") -> None:
    """Print one plan."""
    goal = found["objective"]
    print(
        f"{seed:6} {name:12} {goal['before']:9.4f} {goal['after']:9.4f} {goal['bound']:9.4f} "
        f"{goal['gap']:7.4f} {len(found['migrations']):5} {found['runtime_s']:6.1f}  "
        f"{found['verdict']} {note}",
        flush=True,
    )


def measure(seed: int, options: argparse.Namespace, folder: pathlib.Path) -> list[str]:
    """Plan for one cloud; return what is not as it should be."""
    made = mixed_clouds.cloud(seed, options.hosts, options.instances)
    snapshot, file = folder / f"{seed}.json", folder / "plan.json"
    snapshot.write_text(json.dumps(made))
    limit = ("--time-limit", str(options.time_limit))
    bad = []
    for name in options.goals:
        found = plan(snapshot, file, "--goal", name, *limit)
        line(seed, name, found)
        if found["verdict"] != "ok":
            bad.append(f"{seed} {name}: {found['verdict']}")
        if name in ("consolidate", "balance") and found["objective"]["gap"] > MOST_GAP:
            bad.append(f"{seed} {name}: gap {found['objective']['gap']:.4f}")
    if options.no_drain:
        return bad
    enabled = [
        host["service_host"]
        for host in made["hosts"]
        if host.get("status", "enabled") == "enabled" and host.get("state", "up") == "up"
    ]
    hosts = random.Random(seed).sample(enabled, 2)
    which = [part for host in hosts for part in ("--drain", host)]
    many = ("--max-migrations", "500")
    short = plan(snapshot, file, *which, *many, *limit)
    long = plan(snapshot, file, *which, *many, "--time-limit", str(options.long))
    least = long["objective"]["after"]
    line(seed, "drain", short, f"(in {options.long:g} s: {least:g} left)")
    if "ok" != short["verdict"]:
        bad.append(f"{seed} drain: {short['verdict']}")
    if short["objective"]["after"] > least:
        bad.append(f"{seed} drain: {short['objective']['after']:g} left, not {least:g}")
    return bad


def main() -> int:
    """Plan, check and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--hosts", type=int, default=100, help="default 100")
    parser.add_argument("--instances", type=int, default=2000, help="default 2000")
    parser.add_argument("--goals", nargs="*", default=["consolidate", "balance"])
    parser.add_argument("--no-drain", action="store_true", help="leave drain out")
    parser.add_argument("--time-limit", type=float, default=10.0, help="default 10")
    parser.add_argument("--long", type=float, default=60.0, help="default 60")
    options = parser.parse_args()
    print(HEADER)
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            bad += measure(seed, options, pathlib.Path(temporary))
    print(f"{len(bad)} missed" + "".join(f"\n    {text}" for text in bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

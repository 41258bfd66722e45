# SPDX-License-Identifier: Apache-2.0
"""Whether the planner obeys: plans for clouds with every rule in them, judged by the checker.

    python benchmarks/constraints.py [--clouds 50] [--hosts 100] [--instances 2000]

Each cloud is one of ``mixed_clouds.py``.  Its plan is made as ``nova-rebalance plan --work-limit``
makes it, so that it is the same each time, and judged by ``nova_rebalancer.checker``, which shares
no code with the planners.  Every fifth plan is that of the greedy planner unless one is named; the
operator's word differs from plan to plan too.  Exit code 1 if a plan breaks a rule, or if no plan
moves an instance: then nothing was tried.
"""

import argparse
import collections
import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
import sys
import tempfile
import time
from typing import Any
import uuid

import mixed_clouds

from nova_rebalancer import checker
from nova_rebalancer import controller
from nova_rebalancer.collect import document
from nova_rebalancer.model import constraints
from nova_rebalancer.model import plan_document
from nova_rebalancer.plan import base

EXPIRES_S = 86_400.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One cloud."""

    seed: int
    planner: str
    migrations: int
    numa: int
    """Different instances with a NUMA topology that it moves."""
    before: float
    after: float
    excluded: collections.Counter[str]
    verdict: str
    plan_s: float


def settings(seed: int, options: argparse.Namespace, made: dict[str, Any]) -> controller.Options:
    """What the plan of a cloud is made with; half of the plans with the defaults."""
    chosen = controller.Options(
        planner=options.planner or ("greedy" if seed % 5 == 4 else "auto"),
        max_migrations=options.max_migrations,
        time_limit_s=None,
        work_limit=options.work_limit,
    )
    names = [host["service_host"] for host in made["hosts"]]
    instances = [one["id"] for one in made["instances"]]
    said: dict[int, dict[str, Any]] = {
        1: {"banned_hosts": tuple(names[::7])},
        3: {"pins": {one: tuple(names[k % 5 :: 5]) for k, one in enumerate(instances[::4])}},
        5: {"bans": {one: tuple(names[k % 2 :: 2]) for k, one in enumerate(instances[::2])}},
        7: {"scope": (f"az={mixed_clouds.ZONES[1]}",), "numa_packing": True},
        9: {"ignored_rules": tuple(sorted(constraints.IGNORABLE))},
    }
    return dataclasses.replace(chosen, **said.get(seed % 10, {}))


def measure(seed: int, options: argparse.Namespace, folder: pathlib.Path) -> Row:
    """Plan for one cloud and check the plan."""
    made = mixed_clouds.cloud(seed, options.hosts, options.instances)
    file = folder / f"mixed-{seed}.json"
    file.write_bytes(json.dumps(made).encode())
    snapshot, sha256 = document.load(str(file))
    chosen = settings(seed, options, made)
    began = time.monotonic()
    plan = controller.run(snapshot, sha256, chosen, base.Watch())
    plan_s = time.monotonic() - began
    written = plan_document.document(
        plan,
        str(uuid.uuid4()),
        datetime.datetime.now(datetime.UTC),
        EXPIRES_S,
        {name: importlib.metadata.version(name) for name in ("nova-rebalancer", "ortools")},
    )
    data = plan_document.dumps(written)
    if options.keep:
        (folder / f"plan-{seed}.json").write_bytes(data)
    else:
        file.unlink()
    verdict = checker.check(json.dumps(made).encode(), data)
    moved = {migration["instance"] for migration in written["migrations"]}
    objective: dict[str, Any] = written["objective"]
    return Row(
        seed,
        written["planner"],
        len(written["migrations"]),
        sum(one.id in moved and one.numa is not None for one in snapshot.instances),
        objective["before"],
        objective["after"],
        collections.Counter(entry["reason"]["code"] for entry in written["excluded"]),
        "ok" if verdict.ok else f"{verdict.kind} {verdict.migration}: {verdict.detail}",
        plan_s,
    )


def main() -> int:
    """Plan, check and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clouds", type=int, default=50, help="default 50")
    parser.add_argument("--hosts", type=int, default=100, help="default 100")
    parser.add_argument("--instances", type=int, default=2000, help="default 2000")
    parser.add_argument("--first-seed", type=int, default=0, help="default 0")
    parser.add_argument("--planner", help="the same for all")
    parser.add_argument("--max-migrations", type=int, default=50, help="default 50")
    parser.add_argument(
        "--work-limit", type=int, default=2, help="solver work for each plan, default 2"
    )
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="keep all files here")
    options = parser.parse_args()
    rows: list[Row] = []
    print(
        f"{'seed':>5} {'planner':8} {'migrations':>10} {'NUMA':>5} {'before':>8} {'after':>8} "
        f"{'plan_s':>7}  verdict"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(options.first_seed, options.first_seed + options.clouds):
            row = measure(seed, options, folder)
            rows.append(row)
            print(
                f"{row.seed:5} {row.planner:8} {row.migrations:10} {row.numa:5} {row.before:8.5f} "
                f"{row.after:8.5f} {row.plan_s:7.1f}  {row.verdict}"
            )
            codes = ", ".join(f"{code} {count}" for code, count in sorted(row.excluded.items()))
            print(f"      excluded: {codes}", flush=True)
    total: collections.Counter[str] = sum((row.excluded for row in rows), collections.Counter())
    print(f"\nexcluded in all: {', '.join(f'{code} {n}' for code, n in sorted(total.items()))}")
    moving = sum(row.migrations > 0 for row in rows)
    violations = sum(row.verdict != "ok" for row in rows)
    print(
        f"{len(rows)} clouds, {moving} plans with migrations, "
        f"{sum(row.migrations for row in rows)} migrations, "
        f"{sum(row.numa for row in rows)} NUMA instances moved, "
        f"{violations} violations  {'ok' if moving and not violations else 'FAILED'}"
    )
    return 0 if moving and not violations else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Whether as many instances can be booted after a plan as the goal ``flavor-fit`` predicts.

    python benchmarks/room.py [--seeds 1000 1001 1002] [--flavors 8:16384] [--time-limit 10]

Clouds of ``mixed_clouds.py``, with every rule in them, are planned with ``nova-rebalance plan`` and
the plans are judged by ``nova-rebalance check``.  Then the migrations are carried out in the
simulator, one after another, and instances of the flavor are booted by its scheduler until one is
refused, spreading and packing.  Exit code 1 if a plan is not sound, a migration does not fit, or
another number is booted than predicted, before the plan or after it.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import goals
import mixed_clouds

from nova_rebalancer.collect import document
from nova_rebalancer.model.objectives import fit
from nova_rebalancer.sim import books
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import scheduler


def booted(there: books.Books, kind: int) -> set[int]:
    """Return how many instances can be booted, under each rule of the scheduler."""
    return {scheduler.fill(there.copy(), kind, rule) for rule in scheduler.RULES}


def measure(seed: int, flavor: str, options: argparse.Namespace, folder: pathlib.Path) -> list[str]:
    """Plan for one cloud and flavor; return what is not as it should be."""
    snapshot, file = folder / f"{seed}.json", folder / "plan.json"
    if not snapshot.exists():
        made = mixed_clouds.cloud(seed, options.hosts, options.instances)
        snapshot.write_text(json.dumps(made))
    limit = ("--time-limit", str(options.time_limit))
    plan = goals.plan(snapshot, file, "--goal", "flavor-fit", "--flavor", flavor, *limit)
    (part,) = [one for one in plan["objectives"] if one["name"] == f"room_{flavor}"]
    facts, _ = document.load(str(snapshot))
    one = fit.example(facts, flavor)
    there = books.Books(kinds.build(facts, others=[one]))
    kind, start = there.kinds.of_other[one.id], there.kinds.start
    before = booted(there, kind)
    bad = [] if plan["verdict"] == "ok" else [plan["verdict"]]
    for migration in plan["migrations"]:
        h = start.service_hosts.index(migration["dest"])
        cells = tuple(start.cell_ids[h].index(cell) for cell in migration["dest_numa"] or ())
        if not there.move(migration["instance"], h, cells):
            bad.append(f"{migration['id']} does not fit")
    after = booted(there, kind)
    goals.line(
        seed, flavor, plan, f"room {part['before']:g} -> {part['after']:g}, {before} -> {after}"
    )
    if before != {int(part["before"])} or after != {int(part["after"])}:
        bad.append("another number is booted")
    return [f"{seed} {flavor}: {text}" for text in bad]


def main() -> int:
    """Plan, carry out, boot and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--hosts", type=int, default=100, help="default 100")
    parser.add_argument("--instances", type=int, default=2000, help="default 2000")
    parser.add_argument("--flavors", nargs="+", default=["8:16384", "16:65536"])
    parser.add_argument("--time-limit", type=float, default=10.0, help="default 10")
    options = parser.parse_args()
    print(f"{goals.HEADER}, room predicted, booted")
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            for flavor in options.flavors:
                bad += measure(seed, flavor, options, pathlib.Path(temporary))
    print(f"{len(bad)} missed" + "".join(f"\n    {text}" for text in bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

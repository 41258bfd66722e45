# SPDX-License-Identifier: Apache-2.0
"""Draw the fragment rate against the migrations allowed: greedy, mip and the proven bound.

Each point is one run of ``nova-rebalance plan`` on a generated cluster; nothing is interpolated.
Needs matplotlib (``benchmarks/requirements.txt``).
"""

import argparse
import json
import pathlib
import subprocess
import sysconfig
import tempfile

import instances
import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # the backend is chosen before

PROGRAM = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"


def main() -> None:
    """Plan for each limit and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="medium", help="kind of cluster (default medium)")
    parser.add_argument("--seed", type=int, default=1000, help="its seed (default 1000)")
    parser.add_argument("--step", type=int, default=5, help="migrations between points (5)")
    parser.add_argument("--most", type=int, default=50, help="most migrations (50)")
    parser.add_argument("output", help="the picture, an .svg file")
    arguments = parser.parse_args()
    limits = range(0, arguments.most + 1, arguments.step)
    with tempfile.TemporaryDirectory() as folder:
        raw, snapshot = pathlib.Path(folder, "raw.json.gz"), pathlib.Path(folder, "cloud.json.gz")
        instances.write(instances.generate(arguments.kind, arguments.seed), raw)
        run("snapshot", "convert", "--from", "vmr2l", raw, snapshot)
        lines: dict[str, list[float]] = {"greedy": [], "mip": [], "bound": []}
        for limit in limits:
            for planner in ("greedy", "mip"):
                objective = plan(snapshot, planner, limit)
                lines[planner].append(objective["after"])
            lines["bound"].append(objective["bound"])
            print(limit, *(f"{name} {values[-1]:.4f}" for name, values in lines.items()))
    draw(list(limits), lines, arguments)


def plan(snapshot: pathlib.Path, planner: str, limit: int) -> dict[str, float]:
    """Return the objective of one plan."""
    done = run(
        "plan",
        "--snapshot",
        snapshot,
        "--planner",
        planner,
        "--max-migrations",
        limit,
        "-f",
        "json",
    )
    objective: dict[str, float] = json.loads(done)["objective"]
    return objective


def run(*arguments: object) -> str:
    """Run a command; 3 (nothing worth doing) is an answer too."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    return done.stdout


def draw(limits: list[int], lines: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """Write the picture."""
    plt.rcParams["svg.hashsalt"] = "fragment-rate"
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(limits, lines["greedy"], "o-", color="#d95f02", label="greedy")
    axes.plot(limits, lines["mip"], "s-", color="#1b9e77", label="mip")
    axes.plot(limits, lines["bound"], "--", color="#444444", label="proven bound")
    axes.set_xlabel("migrations allowed")
    axes.set_ylabel("fragment rate (16 cores)")
    axes.set_title(f"{arguments.kind} cluster, seed {arguments.seed}: 279 hosts")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(arguments.output, metadata={"Date": None})


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What everything but planning takes: help, checking a large snapshot, start and end of a plan.

Prints the median of the runs in seconds.  Each run is a process of its own.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sysconfig
import tempfile
import time

import instances

PROGRAM = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"
LARGE = 200_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default 5)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        large, raw, cloud = (pathlib.Path(folder, name) for name in ("l.json", "r.json", "c.json"))
        large.write_text(json.dumps(large_snapshot()))
        instances.write(instances.generate("medium", 1000), raw)
        run("snapshot", "convert", "--from", "vmr2l", raw, cloud)
        show("nova-rebalance --help", [timed("--help") for _ in range(runs)])
        show(f"validate {LARGE} instances", [timed("snapshot", "validate", large)])
        show("plan of 279 hosts without its runtime_s", [overhead(cloud) for _ in range(runs)])


def large_snapshot() -> dict[str, object]:
    """Return a snapshot of 5,000 hosts and LARGE instances with a NUMA cell each."""
    amounts = {"VCPU": 1, "MEMORY_MB": 2048}
    cells = [{"id": n, "capacity": {"VCPU": 64, "MEMORY_MB": 1 << 18}} for n in range(2)]
    inventories = {"VCPU": {"total": 128}, "MEMORY_MB": {"total": 1 << 19}}
    numa = {"provenance": "operator", "cells": cells}
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "large",
        "taken_at": "2026-01-01T00:00:00Z",
        "numa_choice": "planner",
        "hosts": [
            {"id": f"host-{h}", "inventories": inventories, "numa": numa} for h in range(5000)
        ],
        "instances": [
            {
                "id": f"instance-{v}",
                "host": f"host-{v % 5000}",
                "allocations": amounts,
                "numa": [{"cell": v % 2, "resources": amounts}],
            }
            for v in range(LARGE)
        ],
    }


def run(*arguments: object) -> str:
    """Run a command and return what it printed."""
    words = [PROGRAM, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def timed(*arguments: object) -> float:
    """Return the seconds that a command takes."""
    began = time.monotonic()
    run(*arguments)
    return time.monotonic() - began


def overhead(cloud: pathlib.Path) -> float:
    """Return the seconds of a plan that are not in its runtime_s."""
    began = time.monotonic()
    printed = run("plan", "--snapshot", cloud, "--planner", "greedy", "-f", "json")
    return time.monotonic() - began - float(json.loads(printed)["runtime_s"])


def show(what: str, seconds: list[float]) -> None:
    """Print one line."""
    print(f"{what:42} {statistics.median(seconds):6.2f}  (of {len(seconds)})")


if __name__ == "__main__":
    main()

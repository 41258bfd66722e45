# SPDX-License-Identifier: Apache-2.0
"""How long the arrays of a large cloud take, masks of all rules included, and how much memory.

    python benchmarks/mask_speed.py [--work FOLDER]

The cloud is one of ``mixed_clouds.py``; with ``--work`` it is made once and kept.  Each run reads
it in fresh processes and measures ``model.state.build`` alone: in one its seconds, in another how
far memory rises above what the snapshot takes.  Counting memory costs time, and what the process
holds would tell less: reading leaves free memory behind that building uses.  Exit code 1 if a
limit is exceeded.
"""

import argparse
import gc
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc

import mixed_clouds

LIMIT_S, LIMIT_MIB = 5.0, 1024.0


def build(path: str, count_memory: bool) -> None:
    """Read a snapshot and build its arrays once; print the figures as JSON."""
    # Here, so that the process that starts this one need not load it.
    from nova_rebalancer.collect import document
    from nova_rebalancer.model import state

    began = time.monotonic()
    snapshot, _ = document.load(path)
    read_s = time.monotonic() - began
    gc.collect()
    if count_memory:
        tracemalloc.start()
    began, cpu = time.monotonic(), time.process_time()
    built = state.build(snapshot)
    figures = {
        "read_s": read_s,
        "build_s": time.monotonic() - began,
        "build_cpu_s": time.process_time() - cpu,
        "build_mib": tracemalloc.get_traced_memory()[1] / 2**20,
        # Linux counts in KiB.
        "process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "hosts": len(built.hosts),
        "instances": len(built.instances),
        "movable": int(built.movable.sum()),
        "classes": len(built.allowed),
    }
    print(json.dumps(figures))


def fresh(file: pathlib.Path, *arguments: str) -> dict[str, float]:
    """Build in a process of its own; return the figures."""
    words = [sys.executable, __file__, "--build", str(file), *arguments]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the process that builds ended with exit code {done.returncode}")
    return dict(json.loads(done.stdout))


def made(folder: pathlib.Path, options: argparse.Namespace) -> pathlib.Path:
    """Return the file of the cloud, written if it is not there."""
    file = folder / f"mixed-{options.seed}-{options.hosts}x{options.instances}.json"
    if not file.exists():
        began = time.monotonic()
        cloud = mixed_clouds.cloud(options.seed, options.hosts, options.instances)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(cloud))
        part.rename(file)
        print(f"made {file.name} in {time.monotonic() - began:.1f} s")
    return file


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=1000, help="default 1000")
    parser.add_argument("--instances", type=int, default=30_000, help="default 30000")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--runs", type=int, default=1, help="default 1")
    parser.add_argument("--work", type=pathlib.Path, metavar="FOLDER", help="keep the cloud here")
    parser.add_argument("--build", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--count-memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(options.build, options.count_memory)
        return 0
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = made(folder, options)
        for run in range(options.runs):
            timed, counted = fresh(file), fresh(file, "--count-memory")
            print(
                f"run {run + 1}: {timed['hosts']} hosts, {timed['instances']} instances, "
                f"{timed['movable']} of them movable, {timed['classes']} classes; read in "
                f"{timed['read_s']:.2f} s; CPU time of building {timed['build_cpu_s']:.2f} s; "
                f"the process took {timed['process_mib']:.0f} MiB at most"
            )
            for what, value, limit in (
                ("masks and arrays, s", timed["build_s"], LIMIT_S),
                ("memory above the snapshot's, MiB", counted["build_mib"], LIMIT_MIB),
            ):
                good &= value <= limit
                verdict = "ok" if value <= limit else "FAILED"
                print(f"{what:34} {value:9.2f}  limit {limit:8.1f}  {verdict}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

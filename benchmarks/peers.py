# SPDX-License-Identifier: Apache-2.0
"""The ways to lower the fragment rate side by side: quality and seconds.

    python benchmarks/peers.py [--kinds medium snapmed flex large flexlarge] [--seeds 1000 1001]
    python benchmarks/peers.py FILE...

=========  =====================================================================================
method     what it is
=========  =====================================================================================
ours       ``nova-rebalance plan``
greedy     the production heuristic HA, as ``--planner greedy`` has it
first-fit  consolidation as Watcher's vm_workload_consolidation does it (``peer_first_fit.py``)
pop        the plain model on blocks of hosts (``peer_pop.py``)
mip        the plain model, a binary for each instance and place (``peer_mip.py``)
=========  =====================================================================================

Every result is a placement, judged (capacity, limit) and valued by the one ``peer_cluster.py``, and
compared with the proven optimum of ``reference.py``, or its bound (*).  Ours, greedy and first-fit
say in which order the migrations can be carried out; pop and mip ignore that.  Gain is the share of
what the optimum lowers the rate by.  The seconds do not include reading, nor making processes.
Nothing runs in parallel: on a machine that does other work the seconds mean nothing.
"""

import argparse
from collections.abc import Iterator
import dataclasses
import json
import pathlib
import tempfile
from typing import Any

import instances
import peer_cluster
import peer_first_fit
import peer_mip
import peer_pop
import quality
import reference

KINDS = ("medium", "snapmed", "flex", "large", "flexlarge")
METHODS = ("ours", "greedy", "first-fit", "pop", "mip")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a method made of a cluster; None where it could not."""

    places: list[peer_cluster.Place] | None
    seconds: float
    note: str = ""


def planned(
    planner: str, source: pathlib.Path, cluster: peer_cluster.Cluster, options: argparse.Namespace
) -> Result:
    """Where a plan of the installed program leads, and its ``runtime_s``."""
    host_of = {host: h for h, host in enumerate(cluster.hosts)}
    index = {one.name: v for v, one in enumerate(cluster.instances)}
    with tempfile.TemporaryDirectory() as folder:
        snapshot, output = f"{folder}/snapshot.json.gz", f"{folder}/plan.json"
        convert = ("snapshot", "convert", "--from", "vmr2l", str(source), snapshot)
        quality.call(options.command, *convert)
        quality.call(
            options.command, "plan", "--snapshot", snapshot, "--goal", "fragmentation",
            "--planner", planner, "--max-migrations", str(options.max_migrations),
            "--time-limit", str(options.time_limit), "--output", output, accepted=(0, 3),
        )  # fmt: skip
        plan = json.loads(pathlib.Path(output).read_bytes())
    places = cluster.start()
    for hop in plan["migrations"]:
        places[index[hop["instance"]]] = host_of[hop["dest"]], tuple(sorted(hop["dest_numa"]))
    return Result(places, plan["runtime_s"], plan["status"])


def results(
    source: pathlib.Path, cluster: peer_cluster.Cluster, options: argparse.Namespace
) -> Iterator[tuple[str, Result]]:
    """Run the methods that are asked for, one after another."""
    limit = options.max_migrations
    for method in options.methods:
        if method in ("ours", "greedy"):
            planner = "auto" if method == "ours" else "greedy"
            yield method, planned(planner, source, cluster, options)
        elif method == "first-fit":
            yield method, Result(*peer_first_fit.solve(cluster, limit))
        elif method == "pop":
            found = peer_pop.solve(
                cluster, limit, options.mip_limit, options.workers, options.blocks
            )
            yield method, Result(*found, f"{options.blocks} blocks")
        else:
            try:
                best = peer_mip.solve(cluster, limit, options.mip_limit, options.workers)
            except peer_mip.TooLarge as error:
                yield method, Result(None, 0.0, f"not built: {error}")
                continue
            bound = f"bound {cluster.rate_of(best.most_slots):.5f}, {best.binaries} binaries"
            yield method, Result(best.places, best.seconds, "proven" if best.proven else bound)


def show(*cells: Any) -> None:
    """Print one line of the table."""
    widths = (10, 6, 10, 8, 7, 7, 10, 8, 0)
    print(
        " ".join(f"{cell!s:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip(),
        flush=True,
    )


def main() -> None:
    """Measure and print the table, and the means by family and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    quality.add_sources(parser, [1000])
    parser.add_argument("--kinds", nargs="+", choices=instances.KINDS, default=list(KINDS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--max-migrations", type=int, default=50)
    parser.add_argument("--time-limit", type=float, default=5, help="seconds for each of our plans")
    parser.add_argument("--mip-limit", type=float, default=60, help="seconds for mip, and for pop")
    parser.add_argument("--workers", type=int, default=2, help="threads of the solver for these")
    parser.add_argument(
        "--reference-limit", type=float, default=300, help="seconds for each reference optimum"
    )
    parser.add_argument("--blocks", type=int, default=peer_pop.BLOCKS, help="k of pop")
    options = parser.parse_args()
    rows: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    show("family", "seed", "method", "rate", "ratio", "gain", "migrations", "seconds", "")
    with tempfile.TemporaryDirectory() as folder:
        for source, family in quality.sources(options, pathlib.Path(folder)):
            seed = source.name.split(".")[0].rpartition("_")[2]
            document = reference.read(source)
            cluster = peer_cluster.read(document)
            before = cluster.rate(cluster.start())
            best = reference.solve(
                document, options.max_migrations, time_limit_s=options.reference_limit
            )
            optimum = best.optimum if best.proven else best.bound
            note = "proven" if best.proven else "* bound only"
            show(family, seed, "(before)", f"{before:.5f}", "", "", "", "", "")
            show(
                family, seed, "(optimum)", f"{optimum:.5f}", "", "", "", f"{best.seconds:.2f}", note
            )
            for method, found in results(source, cluster, options):
                if found.places is None:
                    show(family, seed, method, "-", "-", "-", "-", "-", found.note)
                    continue
                verdict = cluster.judge(found.places, options.max_migrations)
                note = found.note if verdict == "ok" else f"NOT VALID: {verdict}"
                rate = cluster.rate(found.places)
                ratio = rate / optimum if optimum else float("inf")
                gain = (before - rate) / (before - optimum) if before > optimum else 1.0
                if verdict == "ok":
                    rows.setdefault((family, method), []).append((ratio, gain, found.seconds))
                show(
                    family, seed, method, f"{rate:.5f}", f"{ratio:.4f}", f"{gain:.3f}",
                    cluster.migrations(found.places), f"{found.seconds:.2f}", note,
                )  # fmt: skip
    for (family, method), all_rows in rows.items():
        ratio, gain, seconds = (
            sum(column) / len(all_rows) for column in zip(*all_rows, strict=True)
        )
        count = f"mean of {len(all_rows)}"
        show(family, "", method, "", f"{ratio:.4f}", f"{gain:.3f}", "", f"{seconds:.2f}", count)


if __name__ == "__main__":
    main()

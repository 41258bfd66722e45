# SPDX-License-Identifier: Apache-2.0
"""Clusters to measure planners on, in the VMR2L file format.

    python benchmarks/instances.py KIND SEED OUT.json.gz

The same kind and seed give the same file.  Hosts are those of the published VMR2L clusters: two
NUMA nodes of 44 cores and 184,388 MB; the mix of instance sizes is that of the same clusters.

==========  ========  ==============================================================
kind        hosts     how it is made
==========  ========  ==============================================================
medium      279       an empty cluster fills by best fit, a third of the arrivals goes
                      anywhere; then it churns, and departures at random make room
snapmed     279       a real cluster (data/real_medium.json.gz); 30 % of its
                      instances leave at random, others arrive by best fit
flex        279       a random part of the real population is placed anew at
                      random, large instances first
mid, low    279       as flex, less full
large       1,176     as medium, with the Large mix of 4 GB a core
flexlarge   1,176     as flex, with the Large mix
huge        10,000    as flex, with some 200,000 instances that are smaller
==========  ========  ==============================================================

A draw whose use, fragment rate or number of instances is outside the kind's windows is thrown away
and the next sub-seed tried, so that instances resemble each other and the published data sets.
"""

import argparse
import bisect
import collections
from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import functools
import gzip
import json
import pathlib
from typing import Any

import numpy as np

CORES, MEMORY_MB, NODES = 44, 184_388, 2
X = 16
STRAY = 0.33
"""Share of arrivals that best fit does not place, where a cluster grows."""
BATCH = 20
"""Instances that leave at once while it churns."""
REAL_MEDIUM = pathlib.Path(__file__).parent / "data" / "real_medium.json.gz"

# Instances by (cores, NUMA nodes) in the two published clusters.
MEDIUM_MIX = {
    (2, 1): 337, (4, 1): 906, (4, 2): 3, (8, 1): 311, (8, 2): 57, (16, 1): 184, (16, 2): 46,
    (32, 1): 61, (32, 2): 50, (64, 2): 130, (88, 2): 4,
}  # fmt: skip
LARGE_MIX = {
    (2, 1): 1030, (4, 1): 670, (4, 2): 10, (8, 1): 617, (8, 2): 84, (16, 1): 767, (16, 2): 152,
    (32, 1): 253, (32, 2): 479, (64, 2): 266, (84, 2): 2, (88, 2): 216,
}  # fmt: skip
HUGE_MIX = {
    (2, 1): 90_000, (4, 1): 110_000, (8, 1): 12_000, (16, 1): 1_500, (32, 2): 400, (64, 2): 100,
}  # fmt: skip
SIZE_NAMES = {
    2: "large", 4: "xlarge", 8: "2xlarge", 16: "4xlarge", 32: "8xlarge", 64: "16xlarge",
    84: "21xlarge", 88: "22xlarge",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    """What an instance asks for: cores in all, on one or two NUMA nodes, MB a core."""

    cores: int
    nodes: int
    mb_per_core: int

    @property
    def part(self) -> tuple[int, int]:
        """Cores and MB on each of its nodes."""
        cores = self.cores // self.nodes
        return cores, cores * self.mb_per_core


class Cluster:
    """Hosts and the instances on them; ``free`` is (H, nodes, 2): cores and MB."""

    def __init__(self, hosts: int) -> None:
        self.free = np.empty((hosts, NODES, 2), dtype=np.int64)
        self.free[:] = CORES, MEMORY_MB
        self.instances: list[tuple[Size, int, int]] = []

    @property
    def use(self) -> float:
        """Share of the cores in use."""
        return 1 - float(self.free[:, :, 0].sum()) / (len(self.free) * NODES * CORES)

    @property
    def rate(self) -> float:
        """Share of the free cores that no X-core instance can use."""
        cores = self.free[:, :, 0]
        return float((cores % X).sum() / max(cores.sum(), 1))

    def put(self, size: Size, host: int, node: int) -> None:
        """Place an instance; ``node`` is not read for one over both nodes."""
        self._charge(size, host, node, 1)
        self.instances.append((size, host, node))

    def remove(self, index: int) -> Size:
        """Take an instance off and say its size; the last one takes over its number."""
        size, host, node = self.instances[index]
        self._charge(size, host, node, -1)
        self.instances[index] = self.instances[-1]
        self.instances.pop()
        return size

    def _charge(self, size: Size, host: int, node: int, sign: int) -> None:
        where = (host,) if size.nodes == NODES else (host, node)
        self.free[where] -= sign * np.array(size.part)

    def fitting(self, size: Size, host: int | slice = slice(None)) -> Any:
        """Where it fits: (H, nodes) bool; one over both nodes is listed at node 0.

        For one ``host`` alone: (nodes,).
        """
        fits: Any = (self.free[host] >= np.array(size.part)).all(axis=-1)
        if size.nodes == NODES:
            fits[..., 0] &= fits[..., 1]
            fits[..., 1:] = False
        return fits

    def best_fit(self, size: Size, rng: np.random.Generator) -> bool:
        """Place where the least remains; among equals at random.  Says whether it fitted."""
        fits = self.fitting(size)
        if not fits.any():
            return False
        cores = self.free[:, :, 0]
        remains = np.repeat(cores.sum(axis=1, keepdims=True), NODES, axis=1)
        if size.nodes == 1:
            remains = cores
        least = remains[fits].min()
        return self._put_at_one_of(size, np.argwhere(fits & (remains == least)), rng)

    def anywhere(self, size: Size, rng: np.random.Generator) -> bool:
        """Place on any host that has room, node 0 before node 1.  Says whether it fitted."""
        fits = self.fitting(size)
        hosts = np.nonzero(fits.any(axis=1))[0]
        if not hosts.size:
            return False
        host = int(rng.choice(hosts))
        self.put(size, host, int(np.argmax(fits[host])))
        return True

    def _put_at_one_of(self, size: Size, places: Any, rng: np.random.Generator) -> bool:
        host, node = places[rng.integers(len(places))]
        self.put(size, int(host), int(node))
        return True


def depart(cluster: Cluster, use: float, rng: np.random.Generator) -> None:
    """Instances leave at random until the use is at most ``use``."""
    while cluster.use > use:
        cluster.remove(int(rng.integers(len(cluster.instances))))


def grown(
    hosts: int,
    mix: list[Size],
    use: float,
    rng: np.random.Generator,
    peak: float = 0.0,
    dip: float = 0.0,
) -> Cluster:
    """A cluster that filled up, churned and lost instances at random (``medium``, ``large``).

    It fills to ``peak`` (at least to ``use``), churns there, falls to ``use - dip`` and ends at
    ``use``.  Medium clusters had been fuller before: their many nodes with 2 or 4 free cores are
    where small instances left.
    """
    cluster = Cluster(hosts)

    def arrive(size: Size) -> None:
        # Other wishes of a scheduler, and hosts that were full or off at the time, send some
        # instances elsewhere than best fit would.  What fits nowhere goes to another cluster.
        if rng.random() < STRAY:
            cluster.anywhere(size, rng)
        else:
            cluster.best_fit(size, rng)

    while cluster.use < max(use, peak):
        arrive(mix[rng.integers(len(mix))])
    for _ in range(len(cluster.instances) // BATCH):
        # The sizes that leave come back, or the large ones would die out in a full cluster.
        left = [cluster.remove(int(rng.integers(len(cluster.instances)))) for _ in range(BATCH)]
        for size in sorted(left, key=lambda size: -size.cores):
            arrive(size)
    depart(cluster, use - dip, rng)
    while cluster.use < use:
        arrive(mix[rng.integers(len(mix))])
    return cluster


def churned(hosts: int, mix: list[Size], use: float, rng: np.random.Generator) -> Cluster:
    """The real cluster after 30 % of its instances left and others came (``snapmed``)."""
    cluster = real_medium()
    keep = 0.7 * len(cluster.instances)
    while len(cluster.instances) > keep:
        cluster.remove(int(rng.integers(len(cluster.instances))))
    while cluster.use < use:
        # Arrivals that do not fit go to another cluster.
        cluster.best_fit(mix[rng.integers(len(mix))], rng)
    return cluster


def replaced(hosts: int, mix: list[Size], use: float, rng: np.random.Generator) -> Cluster:
    """A random part of the population, placed anew at random (``flex`` and its kin).

    Instances of 32 cores and more go first.  This gives the pattern of free cores that the one
    published training sample has.
    """
    left = use * hosts * NODES * CORES
    drawn: list[Size] = []
    for i in rng.permutation(len(mix)):
        if left <= 0:
            break
        drawn.append(mix[i])
        left -= mix[i].cores
    cluster = Cluster(hosts)
    # The hosts that have room for each size.  Nothing leaves, so that only one at a time drops out:
    # looking at all of 10,000 hosts again for each of 200,000 instances would take minutes.
    room = {size: list(range(hosts)) for size in set(drawn)}
    for size in sorted(drawn, key=lambda size: size.cores < 32):
        if not room[size]:
            continue
        host = room[size][int(rng.integers(len(room[size])))]
        cluster.put(size, host, int(np.argmax(cluster.fitting(size, host))))
        for other, known in room.items():
            at = bisect.bisect_left(known, host)
            if known[at : at + 1] == [host] and not cluster.fitting(other, host).any():
                del known[at]
    return cluster


def sizes(mix: dict[tuple[int, int], int], mb_per_core: int) -> list[Size]:
    """One entry for each instance of a mix."""
    return [
        Size(cores, nodes, mb_per_core)
        for (cores, nodes), count in mix.items()
        for _ in range(count)
    ]


def real_medium() -> Cluster:
    """The published snapshot of a production cluster, its two parts merged."""
    document = json.loads(gzip.decompress(REAL_MEDIUM.read_bytes()))
    clusters = document["cluster_list"]
    hosts = [host["node_id"] for cluster in clusters for host in cluster["host_info"]]
    index = {host: h for h, host in enumerate(hosts)}
    result = Cluster(len(hosts))
    for cluster in clusters:
        for instance in cluster["vm_instance"]:
            parts = instance["numa"]
            size = Size(sum(part["cpu"] for part in parts), len(parts), 2048)
            result.put(size, index[instance["host_id"]], parts[0]["node"])
    return result


@dataclasses.dataclass(frozen=True)
class Kind:
    """A family: how it is made, and the windows of use, rate and number it must lie in."""

    make: Callable[[int, list[Size], float, np.random.Generator], Cluster]
    hosts: int
    mix: list[Size]
    use: tuple[float, float]
    rate: tuple[float, float] = (0.0, 1.0)
    instances: tuple[int, int] = (0, 1_000_000)

    def accepts(self, cluster: Cluster) -> bool:
        """Whether a draw lies in the windows."""
        return (
            self.use[0] <= cluster.use <= self.use[1]
            and self.rate[0] <= cluster.rate <= self.rate[1]
            and self.instances[0] <= len(cluster.instances) <= self.instances[1]
        )


MEDIUM, LARGE, HUGE = (sizes(MEDIUM_MIX, 2048), sizes(LARGE_MIX, 4096), sizes(HUGE_MIX, 2048))
KINDS = {
    "medium": Kind(
        functools.partial(grown, peak=0.97, dip=0.04),
        279,
        MEDIUM,
        (0.899, 0.911),
        (0.525, 0.585),
        (1_940, 2_090),
    ),
    "snapmed": Kind(churned, 279, MEDIUM, (0.902, 0.912), (0.525, 0.585)),
    "flex": Kind(replaced, 279, MEDIUM, (0.901, 0.911), (0.525, 0.585)),
    "mid": Kind(replaced, 279, MEDIUM, (0.67, 0.70)),
    "low": Kind(replaced, 279, MEDIUM, (0.39, 0.43)),
    "large": Kind(grown, 1176, LARGE, (0.815, 0.825), (0.55, 0.63)),
    "flexlarge": Kind(replaced, 1176, LARGE, (0.804, 0.819), (0.58, 0.66)),
    "huge": Kind(replaced, 10_000, HUGE, (0.80, 0.82)),
}


def generate(kind: str, seed: int, hosts: int | None = None) -> dict[str, Any]:
    """A VMR2L document of the kind; the same for the same seed.

    With ``hosts`` it has so many, and else is what the kind is.
    """
    family = KINDS[kind]
    if hosts is not None:
        family = dataclasses.replace(family, hosts=hosts)
    for attempt in range(1000):
        rng = np.random.default_rng([seed, attempt])
        cluster = family.make(family.hosts, family.mix, rng.uniform(*family.use), rng)
        if family.accepts(cluster):
            return _document(cluster, kind, seed, attempt)
    raise RuntimeError(f"{kind} {seed}: no draw in 1000 lies in the windows")


def _document(cluster: Cluster, kind: str, seed: int, attempt: int) -> dict[str, Any]:
    prefix = {2048: "c", 4096: "g"}
    names = {
        size: f"{prefix[size.mb_per_core]}.{SIZE_NAMES[size.cores]}"
        for size in sorted(set(KINDS[kind].mix), key=lambda size: (size.cores, size.nodes))
    }
    instances: list[dict[str, Any]] = [
        {
            "instance_id": f"vm_{i}",
            "instance_type": names[size],
            "host_id": f"pm_{host}",
            "numa": [
                {"node": n, "cpu": size.part[0], "mem_mb": size.part[1]}
                for n in (range(NODES) if size.nodes == NODES else [node])
            ],
            "allow_migration": True,
        }
        for i, (size, host, node) in enumerate(
            sorted(cluster.instances, key=lambda placed: placed[1])
        )
    ]
    return {
        "cluster_list": [
            {
                "cluster_name": "0",
                "host_info": [_host(h, free) for h, free in enumerate(cluster.free.tolist())],
                "vm_instance": instances,
                "vm_type_info": _limits(instance["instance_type"] for instance in instances),
                "other_requirement": {"deployment_set": []},
            }
        ],
        "vm_type_list": [
            {
                "vm_type": name,
                "request_cpu": size.cores,
                "request_mem_mb": size.cores * size.mb_per_core,
                "numa": size.nodes,
                "expected_newly_created_num": 0,
                "weight": 0.0,
            }
            for size, name in names.items()
        ],
        "general_requirement": {"optimization_objective": 1},
        "meta": {
            "kind": kind,
            "seed": seed,
            "draw": attempt,
            "x": X,
            "n_pm": len(cluster.free),
            "n_vm": len(instances),
            "fr": round(cluster.rate, 6),
            "util": round(cluster.use, 6),
        },
    }


def _host(h: int, free: list[list[int]]) -> dict[str, Any]:
    return {
        "node_id": f"pm_{h}",
        "status": "ACTIVE",
        "node_cpu": NODES * CORES,
        "node_mem_mb": NODES * MEMORY_MB,
        "rack_id": h // 20,
        "numa": [
            {
                "node": n,
                "total_cpu": CORES,
                "free_cpu": cores,
                "memory_huge_total_mb": MEMORY_MB,
                "memory_huge_free_mb": memory,
            }
            for n, (cores, memory) in enumerate(free)
        ],
    }


def _limits(types: Iterable[str]) -> list[dict[str, Any]]:
    counts = collections.Counter(types)
    return [{"vm_type": name, "flavor_limit": 2 * count} for name, count in counts.items()]


def conflicts(snapshot: dict[str, Any], level: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of instances in conflict: each instance draws ``level`` of those on other hosts.

    This is the published generator of VMR2L's anti-affinity: nothing is broken at first.  A
    conflict holds both ways, so an instance has up to twice as many partners as it draws.
    """
    rng = np.random.default_rng([seed, level])
    names = np.array([one["id"] for one in snapshot["instances"]])
    hosts = np.unique([one["host"] for one in snapshot["instances"]], return_inverse=True)[1]
    pairs: set[tuple[int, int]] = set()
    for v, host in enumerate(hosts):
        others = np.nonzero(hosts != host)[0]
        drawn = rng.choice(others, size=min(level, others.size), replace=False)
        pairs.update((min(v, int(u)), max(v, int(u))) for u in drawn)
    return [(str(names[v]), str(names[u])) for v, u in sorted(pairs)]


def write(document: dict[str, Any], path: str | pathlib.Path) -> None:
    """Write a document, gzipped (without a time in it) when the name ends in .gz."""
    data = json.dumps(document, separators=(",", ":")).encode() + b"\n"
    if str(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    pathlib.Path(path).write_bytes(data)


def main() -> None:
    """Write one instance and print what it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("seed", type=int)
    parser.add_argument("output", metavar="OUT.json.gz")
    options = parser.parse_args()
    document = generate(options.kind, options.seed)
    write(document, options.output)
    print(", ".join(f"{name} {value}" for name, value in document["meta"].items()))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""How the path-finder copes with large clouds: seconds, cost, makespan, memory.

    python benchmarks/path_scale.py [--bars] [--seeds 1 2 3]
    python benchmarks/path_scale.py --family swap --hosts 300 --fill 0.97 --seeds 1

======  ====================================================================================
family  how the target is drawn
======  ====================================================================================
walk    a random walk of sane moves; so it can be reached
swap    instances of one flavor change places in rings, so every host keeps its load
perm    instances drawn at random are taken off and packed anew, none on its old host
======  ====================================================================================

There are 30 instances a host, of flavors as clouds have them, and two resources; the hosts are
alike, each about as full, and so large that the fill is met in both.  One instance in six moves.
Clouds are built as arrays, without documents, and each is solved in a process of its own.  The
seconds are those of ``finder.find``, by the clock and of the CPU: on a machine that does nothing
else they are the same.  The memory is the most that the process took, generator and imports
included.

The path is not trusted: it is replayed here in time, every instance in flight on both hosts.  The
lower bound of the makespan is the busiest host's: what must leave it, or come to it, directly.
Without ``--bars`` one line is printed for each cloud; with it, all clouds that the bars are about,
and whether they are met; exit code 1 if one is not.  ``--uneven`` and ``--large`` make it harder
than the bars mean: hosts that are full in a cloud that is not, instances as large as all that is
free of a host.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import multiprocessing
import resource
import sys
import time

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import conflicts
from nova_rebalancer.path import base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory

A_HOST = 30
"""Instances a host."""

FLAVORS = (
    # VCPU, MEMORY_MB, how many in a thousand
    (1, 2048, 200),
    (1, 4096, 80),
    (2, 4096, 240),
    (2, 8192, 160),
    (4, 8192, 140),
    (4, 16384, 100),
    (8, 16384, 80),
)
LARGE_FLAVORS = (*FLAVORS, (8, 32768, 40), (16, 32768, 15), (16, 65536, 15))
"""With some that take a fifth of a host."""
RESOURCES = ("VCPU", "MEMORY_MB")
RING = (2, 10)
"""Fewest and most instances that change places in a ring."""
TRIES = (1, 2, 4, 8, 16, 64, 256, 1024)
"""Hosts looked at for an instance: with one it is random, with many all hosts are as full.

With more all fits more often, so the first is taken with which it does.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """Which clouds: ``fill`` is the share of both resources that is taken.

    On each host about as much is free; in ``uneven`` clouds much on some and nothing on others.
    ``large`` ones have larger flavors too.
    """

    family: str
    hosts: int
    moves: int
    fill: float
    ring: tuple[int, int] = RING
    uneven: bool = False
    large: bool = False

    def __str__(self) -> str:
        how = ("u" if self.uneven else "") + ("l" if self.large else "")
        return (
            f"{self.family:5} {self.hosts:5} {self.hosts * A_HOST:6} {self.moves:5}"
            f" {self.fill:4.2f} {how:2}"
        )


class Packed:
    """Instances on hosts, and what is free; built in place."""

    def __init__(self, demand: arrays.Ints, capacity: arrays.Ints, hosts: int) -> None:
        self.demand = demand.tolist()
        self.scale = 1.0 / capacity
        self.free = [np.full(hosts, amount) for amount in capacity.tolist()]
        self.host_of = np.full(len(demand), -1)

    def fitting(self, v: int) -> arrays.Ints:
        """Hosts with room for ``v``."""
        cores, mib = self.demand[v]
        return np.flatnonzero((self.free[0] >= cores) & (self.free[1] >= mib))

    def put(self, v: int, h: int) -> None:
        """Take ``v`` from where it is to ``h``; -1 is nowhere."""
        for free, amount in zip(self.free, self.demand[v], strict=True):
            if self.host_of[v] >= 0:
                free[self.host_of[v]] += amount
            if h >= 0:
                free[h] -= amount
        self.host_of[v] = h

    def pack(
        self, order: Sequence[int], banned: arrays.Ints, tries: int, rng: np.random.Generator
    ) -> bool:
        """Put each of ``order`` on the emptiest of ``tries`` random hosts that have room.

        Not on ``banned[v]``; False if one finds none.
        """
        for v in order:
            hosts = self.fitting(v)
            hosts = hosts[hosts != banned[v]]
            if not hosts.size:
                return False
            some = hosts[rng.integers(hosts.size, size=tries)]
            room = np.minimum(
                (self.free[0][some] - self.demand[v][0]) * self.scale[0],
                (self.free[1][some] - self.demand[v][1]) * self.scale[1],
            )
            self.put(v, int(some[room.argmax()]))
        return True


def largest_first(order: arrays.Ints, demand: arrays.Ints) -> list[int]:
    """``order`` sorted by size, as stable as it is."""
    size = (demand / demand.mean(axis=0)).max(axis=1)
    return order[np.argsort(-size[order], kind="stable")].tolist()


def packed_anew(
    demand: arrays.Ints,
    capacity: arrays.Ints,
    hosts: int,
    host_of: arrays.Ints,
    off: arrays.Ints,
    tries: Sequence[int],
    rng: np.random.Generator,
) -> Packed:
    """``off`` packed at random, none where it is; the others stay at ``host_of`` (V,)."""
    order = largest_first(rng.permutation(off), demand)
    stay = np.setdiff1d(np.arange(len(demand)), off).tolist()
    for tried in tries:
        packed = Packed(demand, capacity, hosts)
        for v in stay:
            packed.put(v, int(host_of[v]))
        if packed.pack(order, host_of, tried, rng):
            return packed
    raise RuntimeError("so many instances do not fit")


def drawn(kind: Kind, seed: int) -> tuple[state.PlacementState, arrays.Ints]:
    """The cloud and where its instances shall be, (V,); the same for the same kind and seed."""
    rng = np.random.default_rng([seed, round(1000 * kind.fill), kind.hosts])
    size = kind.hosts * A_HOST
    flavors = np.array(LARGE_FLAVORS if kind.large else FLAVORS)
    flavor_of = rng.choice(len(flavors), size=size, p=flavors[:, 2] / flavors[:, 2].sum())
    demand = flavors[flavor_of, :2]
    capacity = np.ceil(demand.sum(axis=0) / kind.fill / kind.hosts).astype(np.int64)
    nowhere = np.full(size, -1)
    tries = TRIES if kind.uneven else TRIES[-1:]
    first = packed_anew(demand, capacity, kind.hosts, nowhere, np.arange(size), tries, rng)
    host_of = first.host_of.copy()
    if kind.family == "walk":
        target = walked(first, kind.moves, rng)
    elif kind.family == "swap":
        target = swapped(host_of, flavor_of, kind.moves, kind.ring, rng)
    else:
        off = rng.choice(size, size=kind.moves, replace=False)
        target = packed_anew(demand, capacity, kind.hosts, host_of, off, tries, rng).host_of
    return placement(demand, capacity, host_of, kind.hosts), target


def walked(packed: Packed, moves: int, rng: np.random.Generator) -> arrays.Ints:
    """Where instances are when random sane moves have displaced ``moves`` of them."""
    home = packed.host_of.copy()
    displaced = 0
    while displaced < moves:
        v = int(rng.integers(home.size))
        was = int(packed.host_of[v])
        hosts = packed.fitting(v)
        hosts = hosts[hosts != was]
        if hosts.size:
            h = int(hosts[rng.integers(hosts.size)])
            packed.put(v, h)
            displaced += int(h != home[v]) - int(was != home[v])
    return packed.host_of


def swapped(
    host_of: arrays.Ints,
    flavor_of: arrays.Ints,
    moves: int,
    ring: tuple[int, int],
    rng: np.random.Generator,
) -> arrays.Ints:
    """Where instances are when ``moves`` of them have changed places within their flavors."""
    target = host_of.copy()
    left = {f: rng.permutation(np.flatnonzero(flavor_of == f)).tolist() for f in set(flavor_of)}
    order = rng.permutation(flavor_of).tolist()
    while moves:
        # A flavor as often as it has instances; each instance once at most.
        rest, wanted = left[order.pop()], int(rng.integers(ring[0], ring[1] + 1))
        members: dict[int, int] = {}
        while rest and len(members) < min(wanted, moves):
            members.setdefault(int(host_of[rest[-1]]), rest[-1])
            rest.pop()
        if moves - len(members) == 1:
            # There is no ring of one.
            members.popitem()
        if len(members) > 1:
            hosts = list(members)
            target[list(members.values())] = hosts[1:] + hosts[:1]
            moves -= len(members)
    return target


def placement(
    demand: arrays.Ints, capacity: arrays.Ints, host_of: arrays.Ints, hosts: int
) -> state.PlacementState:
    """The state of ``hosts`` like hosts of ``capacity`` (R,), where everything may be anywhere."""
    size, kinds = demand.shape
    instances = tuple(f"vm{v}" for v in range(size))
    names = tuple(f"host{h}" for h in range(hosts))
    zeros = np.zeros(size, dtype=np.int64)
    made = {
        "capacity": np.tile(capacity, (hosts, 1)),
        "row_of": np.repeat(np.arange(hosts), kinds).reshape(hosts, kinds),
        "base": np.zeros((hosts, kinds), dtype=np.int64),
        "demand": demand.astype(np.int64),
        "load": demand.astype(np.float64),
        "host_of": host_of.astype(np.int64),
        "cells_of": np.zeros((size, 0), dtype=np.int64),
        "guest": np.zeros((size, 0, kinds), dtype=np.int64),
        "guests_of": zeros,
        "cell_capacity": np.zeros((hosts, 0, kinds), dtype=np.int64),
        "cells": np.zeros(hosts, dtype=np.int64),
        "eligibility_of": zeros.copy(),
        "allowed": np.ones((1, hosts), dtype=bool),
        "kind_of": np.zeros(hosts, dtype=np.int64),
        "follows": np.ones((1, 1), dtype=bool),
        "movable": np.ones(size, dtype=bool),
        "usable": np.ones(hosts, dtype=bool),
        "core": np.zeros(hosts, dtype=np.int64),
        "floating": np.zeros(hosts, dtype=np.int64),
    }
    return state.PlacementState(
        hosts=names,
        service_hosts=names,
        instances=instances,
        resources=RESOURCES,
        cell_ids=((),) * hosts,
        groups=(),
        conflicts=conflicts.of((), dict.fromkeys(instances, 0), {}),
        soft=(),
        excluded={},
        numa_choice="planner",
        **{name: state.frozen(array) for name, array in made.items()},
    )


def flaw(
    start: state.PlacementState, target: arrays.Ints, found: path.MigrationPath, limits: base.Limits
) -> str:
    """What is wrong with a path that claims to reach ``target``; empty when nothing is.

    Ends come before starts at one moment.  Resources and limits only: these clouds have no rules.
    """
    free = (start.capacity - start.used())[: len(start.hosts)]
    host_of = start.host_of.copy()
    out, into = (np.zeros(len(start.hosts), dtype=np.int64) for _ in range(2))
    events = [(migration.start_s, 1, k) for k, migration in enumerate(found.migrations)]
    events += [(migration.end_s, 0, k) for k, migration in enumerate(found.migrations)]
    ended: set[int] = set()
    for _, begins, k in sorted(events):
        migration = found.migrations[k]
        v, source, dest = migration.hop.v, migration.hop.source, migration.hop.dest
        if begins:
            free[dest] -= start.demand[v]
            out[source] += 1
            into[dest] += 1
            if host_of[v] != source or not ended.issuperset(migration.depends_on):
                return f"migration {k} starts before what it waits for has ended"
            if (free[dest] < 0).any():
                return f"migration {k} finds no room"
            if out[source] > limits.outgoing or into[dest] > limits.incoming:
                return f"migration {k} is one too many on a host"
        else:
            free[source] += start.demand[v]
            out[source] -= 1
            into[dest] -= 1
            host_of[v] = dest
            ended.add(k)
    return "" if (host_of == target).all() else "the target is not reached"


def bound_s(
    start: state.PlacementState, target: arrays.Ints, durations: arrays.Floats, limits: base.Limits
) -> float:
    """No sooner can the busiest host have sent and taken what it must, seconds."""
    moved = np.flatnonzero(start.host_of != target)
    size = len(start.hosts)
    out = np.bincount(start.host_of[moved], durations[moved], size) / limits.outgoing
    into = np.bincount(target[moved], durations[moved], size) / limits.incoming
    return float(max(out.max(), into.max(), durations[moved].max(initial=0.0)))


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What one cloud gave; ratios are to the direct cost and to the bound."""

    kind: Kind
    seed: int
    seconds: float
    cpu_s: float
    verdict: str
    cost: float
    makespan: float
    bypasses: int
    peak_mib: float

    @property
    def solved(self) -> bool:
        """Whether there is a sane path to the whole target."""
        return self.verdict == "ok"

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.seed:4} {self.seconds:7.2f} {self.cpu_s:6.2f} {self.cost:8.4f}"
            f" {self.makespan:9.3f} {self.bypasses:6} {self.peak_mib:6.0f}  {self.verdict}"
        )


HEADER = (
    f"{'cloud':5} {'hosts':>5} {'VMs':>6} {'moves':>5} {'fill':7} {'seed':>4} {'s':>7} {'CPU':>6}"
    f" {'cost':>8} {'makespan':>9} {'bypass':>6} {'MiB':>6}  verdict"
)


def measure(kind: Kind, seed: int, time_limit: float) -> Row:
    """Draw a cloud and find its path, in this process."""
    start, target = drawn(kind, seed)
    price = memory.Memory()
    began, used = time.monotonic(), time.process_time()
    limits = base.Limits(10**9, deadline=began + time_limit)
    found = finder.find(start, target, start.cells_of, price, limits)
    seconds, cpu_s = time.monotonic() - began, time.process_time() - used
    # Linux counts in KiB.
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    moved = np.flatnonzero(start.host_of != target).tolist()
    durations = np.array([price.duration_s(start, v) for v in range(len(start.instances))])
    paid = sum(price.cost(start, migration.hop.v) for migration in found.migrations)
    if found.unreachable or found.reachable is False:
        verdict = f"{found.reachable}: {len(found.unreachable)} left"
    else:
        verdict = flaw(start, target, found, limits) or "ok"
    return Row(
        kind,
        seed,
        seconds,
        cpu_s,
        verdict,
        paid / sum(price.cost(start, v) for v in moved),
        found.makespan_s / bound_s(start, target, durations, limits),
        len(found.migrations) - len(moved),
        peak_mib,
    )


def alone(kind: Kind, seed: int, time_limit: float) -> Row:
    """The same in a process of its own, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (kind, seed, time_limit))


def kinds_of_bars() -> Iterator[Kind]:
    """All clouds of the bars."""
    for fill in (0.70, 0.80, 0.85, 0.90, 0.95):
        for family in ("walk", "swap", "perm"):
            yield Kind(family, 1000, 5000, fill)
    for family in ("walk", "swap", "perm"):
        yield Kind(family, 300, 1500, 0.97)


def missed(row: Row) -> list[str]:
    """The bars that a cloud misses."""
    kind = row.kind
    bars = {"memory below 1 GiB": row.peak_mib < 1024}
    if kind.fill <= 0.90:
        bars |= {
            "solved": row.solved,
            "at most 3 s": row.seconds <= 3,
            "cost at most 1.002 of direct": row.cost <= 1.002,
        }
    if kind.fill <= 0.85:
        bars["makespan at most 1.1 of the bound"] = row.makespan <= 1.1
    if kind.family == "swap" and kind.fill == 0.95:
        bars |= {
            "solved": row.solved,
            "at most 30 s": row.seconds <= 30,
            "cost at most 1.06 of direct": row.cost <= 1.06,
        }
    # Whether the other's targets can be reached at all when so little is free, nobody knows.
    if kind.family != "perm" and kind.fill == 0.97:
        bars |= {"solved": row.solved, "at most 30 s": row.seconds <= 30}
    return [bar for bar, met in bars.items() if not met]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bars", action="store_true", help="all clouds that the bars are about")
    parser.add_argument("--family", choices=("walk", "swap", "perm"), default="walk")
    parser.add_argument("--hosts", type=int, default=1000, help="default 1000")
    parser.add_argument("--moves", type=int, help="default: one instance in six")
    parser.add_argument("--fill", type=float, default=0.85, help="default 0.85")
    parser.add_argument(
        "--ring", type=int, nargs=2, default=RING, help="sizes of swap's rings (default 2 10)"
    )
    parser.add_argument(
        "--uneven", action="store_true", help="much free on some hosts, nothing on others"
    )
    parser.add_argument("--large", action="store_true", help="larger flavors too")
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[1], help="default 1")
    parser.add_argument("--time-limit", type=float, default=30, help="seconds (default 30)")
    options = parser.parse_args()
    moves = options.hosts * A_HOST // 6 if options.moves is None else options.moves
    ring = tuple(options.ring)
    one = Kind(options.family, options.hosts, moves, options.fill, ring)
    kinds = [
        dataclasses.replace(kind, uneven=options.uneven, large=options.large)
        for kind in (kinds_of_bars() if options.bars else [one])
    ]
    print(HEADER)
    bad = []
    for kind in kinds:
        for seed in options.seeds:
            row = alone(kind, seed, options.time_limit)
            misses = missed(row) if options.bars else []
            bad += misses
            print(row, *(f"MISSED {bar}" for bar in misses), sep="  ", flush=True)
    if options.bars:
        print(f"{len(bad)} bars missed" if bad else "all bars met")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

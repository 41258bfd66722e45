# SPDX-License-Identifier: Apache-2.0
"""What rebalancing is for: refused boots over 30 days, with nightly plans and without.

    python benchmarks/simulation.py [--clouds demo huawei] [--traces FOLDER] [--loads 0.9 1.0]
        [--seeds 0 1]

Two clouds at high load: the demo generator's with arrivals like its instances, and one of the
Huawei data (``huawei.py``).  A load is the share of all cores that would be in use if nothing were
refused.  Every night a plan is carried out within the same budget of migrations and GiB, by each
of:

none
    no rebalancing;
greedy
    the two-phase heuristic;
ours
    the planner ``auto``;
hindsight
    whoever knows the future: each night it tries nothing, the plans of ``ours`` and of ``greedy``
    for the same sizes and for 32 cores alone, and all of these without the instances that will be
    gone within a day; lets the boots and departures that will really come go by on a copy of the
    cloud for ``--foresight`` days after each; and takes the plan with the fewest refused boots,
    then refused cores.

one pool
    no cloud, but what each of them could hope for: all that is free on usable hosts lies in one
    piece, at every moment, and is open to everybody.  Where it refuses as much as ``none`` does,
    capacity is what is missing, and no migration helps.

Hindsight is a lower limit of what one could do who knows the future: it chooses among these plans
only, night by night.  So it may even end worse than ``ours`` or ``greedy``, whose days it could
have taken as a whole; the better of them then stands in for it, and a line says so.

The bar: ours has at least 60 % of hindsight's gain over none.  The half-life of the gain is that of
the goal (fragment rate): the cloud without a plan minus with it, summed over the nights' plans.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import heapq
import itertools
import json
import pathlib
import time

import huawei
import numpy as np

from nova_rebalancer.collect import document
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import days
from nova_rebalancer.sim import demo
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import policy
from nova_rebalancer.sim import trace

BAR = 0.6

SIZE = (32,)
"""Cores of the instances that hindsight's other plans are for."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What came out under one policy; half-life in hours."""

    cloud: str
    load: float
    seed: int
    policy: str
    boots: int
    refused: int
    refused_cores: int
    migrations: int
    moved_gib: float
    fragment_rate: float | None
    half_life_h: float | None
    cpu_s: float


def begin(
    name: str, given: argparse.Namespace, load: float, seed: int
) -> tuple[days.Days, arrivals.Story, float]:
    """Return the cloud where counting begins, its story, and the end."""
    lifetimes = arrivals.Lifetimes(given.lifetime * arrivals.DAY_S)
    if name == "demo":
        data = demo.document(1 + seed, given.hosts)
        snapshot, _ = document.loads(data, "the demo cloud")
        cloud = kinds.build(snapshot)
        story = arrivals.generate(cloud, given.days, load, lifetimes, seed)
        return days.Days(cloud, story, given.scheduler), story, given.days * arrivals.DAY_S
    whole = given.warm_up + given.days
    data, boots = huawei.make(
        given.traces, given.hosts, given.gib_per_core, whole, load, given.lifetime, seed
    )
    snapshot, _ = document.loads(data, "the Huawei cloud")
    rows = trace.read(boots, "the Huawei arrivals")
    cloud = kinds.build(snapshot, (row.size for row in rows))
    story = trace.story(rows, cloud, lifetimes, seed)
    begun = days.Days(cloud, story, given.scheduler)
    begun.advance(given.warm_up * arrivals.DAY_S)
    return begun, story, whole * arrivals.DAY_S


def one_pool(begun: days.Days, story: arrivals.Story, until_s: float) -> days.Counts:
    """Return what is refused if all that is free is in one piece."""
    there, start, counts = begun.books, begun.books.kinds.start, days.Counts()
    free = np.zeros(len(start.resources), dtype=np.int64)
    for r in range(free.size):
        rows = np.unique(start.row_of[start.usable, r])
        rows = rows[rows != state.NOWHERE]
        free[r] = (start.capacity - there.used)[rows, r].clip(min=0).sum()
    ends = [
        (end_s, there.residents[name].kind)
        for name, end_s in begun.ends_s.items()
        if start.usable[there.residents[name].spot.host]
    ]
    heapq.heapify(ends)
    for boot in story.boots:
        if not begun.now_s < boot.at_s <= until_s or boot.lifetime_s is None:
            continue
        while ends and ends[0][0] <= boot.at_s:
            free += start.demand[heapq.heappop(ends)[1]]
        counts.boots += 1
        if (start.demand[boot.kind] <= free).all():
            free -= start.demand[boot.kind]
            heapq.heappush(ends, (boot.at_s + boot.lifetime_s, boot.kind))
        else:
            counts.refused += 1
            counts.refused_cores += there.kinds.cores[boot.kind]
    return counts


def listed(cores: Sequence[int]) -> str:
    """Sizes as they are written."""
    return ",".join(map(str, cores))


class Hindsight:
    """Chooses plans by what will come of them."""

    def __init__(self, ours: policy.Policy, greedy: policy.Policy, foresight_s: float) -> None:
        self._policies = (ours, greedy)
        self._foresight_s = foresight_s
        self.chosen: dict[str, int] = {}

    def run(self, begun: days.Days, until_s: float) -> days.Days:
        """Return the cloud at the end."""
        now = begun.copy()
        now.counts = days.Counts()
        for at_s in self._policies[0].times_s(begun.now_s, until_s):
            now.advance(at_s)
            end_s = min(at_s + self._foresight_s, until_s)
            best = None
            for name, decided in self._candidates(now):
                trial = now.copy()
                if decided is not None:
                    trial.carry_out(decided)
                after = trial.copy()
                after.advance(end_s)
                score = (after.counts.refused, after.counts.refused_cores)
                if best is None or score < best[0]:
                    best = score, name, trial
            assert best is not None
            _, name, now = best
            self.chosen[name] = self.chosen.get(name, 0) + 1
        now.advance(until_s)
        return now

    def _candidates(self, now: days.Days) -> Iterator[tuple[str, policy.Decided | None]]:
        facts = now.books.snapshot()
        leaving = {
            name: "it is gone within a day"
            for name, end_s in sorted(now.ends_s.items())
            if end_s <= now.now_s + arrivals.DAY_S
        }
        for label, one in zip(("ours", "greedy"), self._policies, strict=True):
            assert one.options is not None
            sizes = dict.fromkeys((one.options.fragment_cores, SIZE))
            for cores, kept in itertools.product(sizes, ({}, leaving)):
                options = dataclasses.replace(one.options, learnt=kept, fragment_cores=cores)
                changed = dataclasses.replace(one, options=options)
                name = f"{label} {listed(cores)}" + (" stayers" if kept else "")
                yield name, policy.decide(changed, facts, days.Watch())
        yield "nothing", None


def measure(name: str, load: float, seed: int, given: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each policy."""
    begun, story, until_s = begin(name, given, load, seed)
    counts = one_pool(begun, story, until_s)
    yield Row(
        name, load, seed, "one pool", counts.boots, counts.refused, counts.refused_cores, 0, 0.0,
        None, None, 0.0,
    )  # fmt: skip
    goal = fragmentation.Fragmentation(*given.fragment_cores)
    words = f"max-migrations={given.max_migrations} max-gib={given.max_gib} every=24h"
    words += f" fragment-cores={listed(given.fragment_cores)} work-limit={given.work_limit}"
    # The simulated scheduler does not look at soft server groups, so no plan pays for them here.
    rules = {"soft_group_cost": 0.0}
    ours = policy.parse(f"auto {words}", rules, given.fragment_cores)
    greedy = policy.parse(f"greedy {words}", rules, given.fragment_cores)
    for label, one in (("none", policy.Policy("none")), ("greedy", greedy), ("ours", ours)):
        began = time.process_time()
        run = days.run(begun, one, until_s, goal, days.Watch(), policy.goal(one))
        yield Row(
            name, load, seed, label, run.counts.boots, run.counts.refused, run.counts.refused_cores,
            run.counts.migrations, run.counts.moved_mib / 1024,
            sum(sample.goal for sample in run.samples) / len(run.samples),
            None if run.half_life_s is None else run.half_life_s / 3600,
            time.process_time() - began,
        )  # fmt: skip
    if not given.foresight:
        return
    began = time.process_time()
    knowing = Hindsight(ours, greedy, given.foresight * arrivals.DAY_S)
    counts = knowing.run(begun, until_s).counts
    yield Row(
        name, load, seed, "hindsight", counts.boots, counts.refused, counts.refused_cores,
        counts.migrations, counts.moved_mib / 1024, None, None,
        time.process_time() - began,
    )  # fmt: skip
    told = ", ".join(f"{plan} {count}" for plan, count in sorted(knowing.chosen.items()))
    print(f"  hindsight took on {name}, load {load:g}, seed {seed}: {told}", flush=True)


def print_row(row: Row) -> None:
    """One line of the table."""
    rate = "-" if row.fragment_rate is None else f"{row.fragment_rate:.4f}"
    half_life = "-" if row.half_life_h is None else f"{row.half_life_h:.1f}"
    print(
        f"{row.cloud:8} {row.load:4g} {row.seed:4} {row.policy:10} {row.boots:6} {row.refused:8}"
        f" {row.refused_cores:14} {row.migrations:11} {row.moved_gib:10.0f}"
        f" {rate:>13} {half_life:>11} {row.cpu_s:6.0f}",
        flush=True,
    )


def print_verdict(rows: list[Row]) -> None:
    """Sums over the seeds at each load and over all loads, gains, and whether the bar is met."""
    for cloud in dict.fromkeys(row.cloud for row in rows):
        there = [row for row in rows if row.cloud == cloud]
        loads = list(dict.fromkeys(row.load for row in there))
        for load in loads:
            print_sums(f"{cloud}, load {load:g}", [row for row in there if row.load == load])
        if len(loads) > 1:
            print_sums(f"{cloud}, all loads", there)


def print_sums(label: str, rows: list[Row]) -> None:
    """The sums of some rows and what they say."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        total = sums.setdefault(row.policy, [0, 0])
        total[0] += row.refused
        total[1] += row.refused_cores
    if "hindsight" not in sums:
        return
    for k, what in enumerate(("boots", "cores")):
        none = sums["none"][k]
        gains = {name: none - total[k] for name, total in sums.items() if name != "none"}
        pool = gains.pop("one pool")
        best = max(gains, key=lambda name: (gains[name], name == "hindsight"))
        said = ", ".join(f"{name} {gain}" for name, gain in gains.items())
        print(f"{label}: refused {what} of none {none}, fewer by: {said}; one pool {pool}")
        if best != "hindsight":
            print(f"  hindsight, choosing night by night, ended behind {best}, which stands in")
        if gains[best] <= 0:
            print("  nobody gained, so there is no share to tell")
            continue
        share = gains["ours"] / gains[best]
        met = "yes" if share >= BAR else "no "
        print(f"  bar met: {met}  ours has {share:.0%} of hindsight's gain, at least {BAR:.0%}")


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clouds", nargs="+", choices=("demo", "huawei"), default=["demo"])
    parser.add_argument("--traces", type=pathlib.Path, help="folder of the Huawei files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--hosts", type=int, default=30)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=20, help="days that fill the empty hosts")
    parser.add_argument("--loads", nargs="+", type=float, default=[0.9, 1.0])
    parser.add_argument("--lifetime", type=float, default=5, help="mean, in days")
    parser.add_argument("--gib-per-core", type=float, default=2.6)
    parser.add_argument("--scheduler", choices=("spread", "pack"), default="pack")
    parser.add_argument(
        "--fragment-cores", type=fragmentation.sizes, default=(32, 16, 8, 4), metavar="X[,X]"
    )
    parser.add_argument("--max-migrations", type=int, default=20)
    parser.add_argument("--max-gib", type=float, default=500)
    parser.add_argument("--work-limit", type=int, default=1)
    parser.add_argument("--foresight", type=float, default=2, help="days; 0 for no hindsight")
    parser.add_argument("--output", type=pathlib.Path, help="write the rows here as JSON")
    given = parser.parse_args()
    if "huawei" in given.clouds and given.traces is None:
        parser.error("--traces FOLDER is needed for the Huawei cloud")
    print(
        f"{'cloud':8} {'load':>4} {'seed':>4} {'policy':10} {'boots':>6} {'refused':>8}"
        f" {'refused_cores':>14} {'migrations':>11} {'moved_gib':>10} {'fragment_rate':>13}"
        f" {'half_life_h':>11} {'cpu_s':>6}"
    )
    rows = []
    for name in given.clouds:
        for load, seed in itertools.product(given.loads, given.seeds):
            for row in measure(name, load, seed, given):
                rows.append(row)
                print_row(row)
                if given.output:
                    told = json.dumps([dataclasses.asdict(one) for one in rows], indent=1)
                    given.output.write_text(told + "\n")
    print_verdict(rows)


if __name__ == "__main__":
    main()

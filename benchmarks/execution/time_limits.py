# SPDX-License-Identifier: Apache-2.0
"""How well ``nova-rebalance apply`` knows how long a migration will take, and whom it gives up.

Hosts copy at rates of their own, servers have memory of several sizes, and every migration is
sound.  The first plan is carried out when nothing is known of the hosts; it is shown and does not
count.  Of the plans after it what was predicted when a migration was asked for is compared with
what it took.  The time limits are those that operators get by default.  Exits with 1 if the
predictions are too far off or if a migration was given up.
"""

import collections
from collections.abc import Sequence
import pathlib
import random
import statistics
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.execution import command
from benchmarks.execution import ground
from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import settings

Json = dict[str, Any]

RATES_MIBPS = (128.0, 512.0)
"""Hosts lie between."""
LEAST_MIB = 4096
"""Smaller servers take no time that could be told from the overhead."""
HEADROOM_MIB = 16384
END_S = 1200.0
MEDIAN, P95 = 0.25, 2.0
"""Bars: of the relative error, and of the quotient of the longer and the shorter time."""


def errors(entries: Sequence[Json]) -> tuple[float, float]:
    """Return the median of the relative errors and the 95th percentile of the quotients."""
    pairs = [(one["predicted_s"], one["seconds"]) for one in entries]
    relative = [abs(predicted - real) / real for predicted, real in pairs]
    quotients = sorted(max(predicted / real, real / predicted) for predicted, real in pairs)
    return statistics.median(relative), quotients[-(-95 * len(quotients) // 100) - 1]


def measure(
    cloud: settings.Settings, folder: pathlib.Path, *, runs: int, migrations: int, seed: int
) -> bool:
    """Carry the plans out, print the figures; return whether the bars are met."""
    # The servers come round again and again; all else is as operators get it.
    home = process.Home(cloud, folder, {"time_factor": 4.0, "time_extra_s": 120.0, "poll_s": 2.0})
    chance = random.Random(seed)
    rates = {host: round(chance.uniform(*RATES_MIBPS)) for host in cloud.hosts()}
    counted: list[Json] = []
    ended: collections.Counter[str] = collections.Counter()
    with ground.speed(cloud, lambda host: {"mib_per_s": rates[host], "overhead_s": 0.5}):
        for turn in range(runs + 1):
            source = plans.Source.load(home.snapshot())
            small = [
                one.id
                for one in source.snapshot.instances
                if one.allocations.get("MEMORY_MB", 0) < LEAST_MIB and chance.random() < 0.7
            ]
            plan = plans.wander(source, migrations, seed * 1000 + turn, without=small)
            apply = home.apply(home.write_plan(plan, f"plan-{turn}.json"))
            code = apply.end(END_S)
            if code is None:
                apply.kill()
            entries = home.entries()
            ended.update(one["state"] for one in entries)
            good = [one for one in entries if one["state"] == "CONFIRMED" and one["seconds"]]
            if turn:
                counted += good
            took = sorted(one["seconds"] for one in good)
            median, p95 = errors(good)
            print(
                f"{f'plan {turn}' if turn else 'nothing known yet'}: {len(good)} of "
                f"{len(entries)} confirmed, exit code {code}, {took[0]:.1f} to {took[-1]:.1f} s: "
                f"median error {median:.0%}, p95 {p95:.2f} x",
                flush=True,
            )
    sizes = collections.Counter(one["memory_mib"] for one in counted)
    print(f"memory in MiB: {', '.join(f'{sizes[size]} of {size}' for size in sorted(sizes))}")
    median, p95 = errors(counted)
    given_up = ended["ABORTED"] + ended["UNKNOWN"]
    lost = ended.total() - ended["CONFIRMED"]
    passed = median <= MEDIAN and p95 <= P95 and not given_up and not lost
    print(
        f"time limits: {len(counted)} migrations: median error {median:.1%} (limit {MEDIAN:.0%}), "
        f"p95 {p95:.2f} x (limit {P95:.0f} x), {given_up} of {ended.total()} healthy ones given up "
        f"(limit 0), {lost} not confirmed (limit 0): {'PASS' if passed else 'FAIL'}"
    )
    return passed


def main() -> None:
    """Make the cloud ready and measure."""
    parser = command.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(
            cloud,
            given.work,
            runs=given.runs,
            migrations=given.migrations,
            seed=given.seed,
        ),
    )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""How much longer ``nova-rebalance apply`` takes for a plan than its migrations have to.

Each migration takes the same time, half a minute, and at most eight are in flight.  What asking,
looking and Nova itself add to each is measured first, with migrations that wait for nothing: the
median of the time from one request to the end of that migration.  The plan's own makespan, with
this time for each, one migration from and one to each host, is the prediction.  Exits with 1 if
carrying the plan out takes more than 1.15 times as long.
"""

import pathlib
import statistics
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.execution import command
from benchmarks.execution import ground
from benchmarks.execution import plans
from benchmarks.execution import process
from nova_rebalancer.store import journal
from nova_rebalancer.store import records
from tests.cloud import settings
from tests.cloud import watch

Json = dict[str, Any]

SECONDS = 30.0
TOTAL = 8
MOST = 1.15
HEADROOM_MIB = 8192
END_S = 1800.0
# As operators get them; QUICK's are for benchmarks that kill and break things.
OPTIONS = {"poll_s": 2.0, "total": TOTAL}


def carry_out(home: process.Home, plan: Json, name: str) -> list[records.Entry]:
    """Carry a plan out; its migrations as the journal has them.

    Raises
    ------
    ProgramError
        If not all are confirmed.
    """
    limits = watch.Limits(source=1, dest=1, total=TOTAL)
    with watch.Watcher(home.cloud, limits, plan) as watcher:
        apply = home.apply(home.write_plan(plan, name))
        code = apply.end(END_S)
    if code is None:
        apply.kill()
    if code != 0:
        raise process.ProgramError(f"{name}: exit code {code}: {apply.text()[-500:]}")
    print(f"{name}: {watcher.report.text()}", flush=True)
    for line in watcher.report.violations:
        print(f"    {line}")
    # The commands tell whole seconds.
    book = journal.open(f"sqlite:///{home.journal}")
    return book.entries(str(home.runs()[0]["run"]))


def took_s(entries: list[records.Entry]) -> float:
    """Return the seconds from the first request to the last end."""
    begins = [one.requested_at for one in entries if one.requested_at is not None]
    ends = [one.ended_at for one in entries if one.ended_at is not None]
    return max(ends) - min(begins)


def measure(cloud: settings.Settings, folder: pathlib.Path, *, migrations: int, seed: int) -> bool:
    """Measure the overhead, then the plan; print both, return whether the bar is met."""
    home = process.Home(cloud, folder, OPTIONS)
    with ground.speed(cloud, lambda host: {"seconds": SECONDS}):
        source = plans.Source.load(home.snapshot())
        first = plans.wander(source, TOTAL, seed, each=1, waits=False, seconds=SECONDS)
        alone = [
            one.ended_at - one.requested_at
            for one in carry_out(home, first, "overhead.json")
            if one.ended_at is not None and one.requested_at is not None
        ]
        overhead_s = statistics.median(alone) - SECONDS
        print(
            f"overhead of one migration: {overhead_s:.1f} s "
            f"({min(alone) - SECONDS:.1f} to {max(alone) - SECONDS:.1f} s)",
            flush=True,
        )
        source = plans.Source.load(home.snapshot())
        plan = plans.wander(source, migrations, seed + 1, seconds=SECONDS + overhead_s)
        predicted_s = plans.makespan_s(plan["migrations"], TOTAL)
        began = time.monotonic()
        entries = carry_out(home, plan, "plan.json")
        whole_s = time.monotonic() - began
    real_s = took_s(entries)
    quotient = real_s / predicted_s
    good = quotient <= MOST
    print(
        f"throughput: {len(entries)} migrations of {SECONDS:.0f} s, "
        f"{plans.dependencies(plan)} depend on others: predicted {predicted_s:.0f} s, took "
        f"{real_s:.0f} s from the first request to the last end ({whole_s:.0f} s with reading the "
        f"cloud before and after): {quotient:.3f} x (limit {MOST} x): {'PASS' if good else 'FAIL'}"
    )
    return good


def main() -> None:
    """Make the cloud ready and measure."""
    parser = command.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(
            cloud,
            given.work,
            migrations=given.migrations,
            seed=given.seed,
        ),
    )


if __name__ == "__main__":
    main()

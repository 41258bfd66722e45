# SPDX-License-Identifier: Apache-2.0
"""How much longer ``nova-rebalance apply`` takes for a plan than its migrations have to.

Each migration takes the same time, half a minute, and at most eight are in flight.  What asking,
looking and Nova itself add to each is measured first, with migrations that wait for nothing: the
median of the time from one request to the end of that migration.  The plan's own makespan, with
this time for each, one migration from and one to each host, is the prediction.  Exits with 1 if
carrying the plan out takes more than 1.15 times as long.

With ``--watcher`` the servers are brought back and OpenStack's Watcher, with its defaults, is given
the same migrations in the plan's order.  That is to compare with; it decides nothing.
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
from benchmarks.execution import watcher as openstack_watcher
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
# Ours: Watcher itself has a limit for each migration, not for all.
WATCHER_END_S = 3600.0
BACK_SECONDS = 1.0
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


def compare(home: process.Home, plan: Json, predicted_s: float) -> None:
    """Bring the servers back, let Watcher carry the same migrations out, and print what came of it.

    Raises
    ------
    ProgramError
        If not all servers come back.
    """
    cloud, migrations = home.cloud, plan["migrations"]
    start = {one["instance"]: one["source"] for one in reversed(migrations)}
    with ground.speed(cloud, lambda host: {"seconds": BACK_SECONDS}):
        back = plans.towards(plans.Source.load(home.snapshot()), start, BACK_SECONDS)
        carry_out(home, back, "back.json")
    with (
        openstack_watcher.running(cloud) as peer,
        ground.speed(cloud, lambda host: {"seconds": SECONDS}),
        watch.Watcher(cloud, watch.Limits(), plan) as watcher,
    ):
        outcome = peer.carry_out(migrations, WATCHER_END_S)
    tables = watch.Tables(cloud)
    servers = tables.look().servers
    tables.close()
    elsewhere = [
        f"{servers[name].name} is on {servers[name].host}, not {host}"
        for name, host in plans.ends(plan).items()
        if servers[name].host != host
    ]
    early = outcome.too_early(migrations)
    counts = outcome.counts()
    good = counts.pop(openstack_watcher.SUCCEEDED, 0)
    others = "".join(f", {count} {state.lower()}" for state, count in counts.items())
    print(
        f"Watcher {openstack_watcher.VERSION}: {good} of {len(migrations)} migrations carried out"
        f"{others}; took {outcome.took_s():.0f} s from the first action's start to the last end: "
        f"{outcome.took_s() / predicted_s:.3f} x the same prediction; {len(elsewhere)} servers "
        f"ended elsewhere than planned; {len(early)} begun though what they depend on had not "
        f"ended well; action plan {outcome.state}",
        flush=True,
    )
    print(f"    seen in the databases: {watcher.report.text()}")
    for name, action in outcome.actions.items():
        if action.state != openstack_watcher.SUCCEEDED or name in early:
            when = ", begun too early" if name in early else ""
            print(f"    {name}: {action.state.lower()}{when}: {action.why or ''}")
    for line in elsewhere:
        print(f"    {line}")
    for line in watcher.report.violations:
        print(f"    {line}")


def measure(
    cloud: settings.Settings,
    folder: pathlib.Path,
    *,
    migrations: int,
    seed: int,
    with_watcher: bool,
) -> bool:
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
        plan = plans.wander(
            source,
            migrations,
            seed + 1,
            seconds=SECONDS + overhead_s,
            # The rest can be brought back.
            without=plans.strangers(source),
        )
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
        f"cloud before and after): {quotient:.3f} x (limit {MOST} x): {'PASS' if good else 'FAIL'}",
        flush=True,
    )
    if with_watcher:
        compare(home, plan, predicted_s)
    return good


def main() -> None:
    """Make the cloud ready and measure."""
    parser = command.parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--watcher",
        action="store_true",
        help="then let OpenStack's Watcher carry the same migrations out, to compare with",
    )
    given = parser.parse_args()
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(
            cloud,
            given.work,
            migrations=given.migrations,
            seed=given.seed,
            with_watcher=given.watcher,
        ),
    )


if __name__ == "__main__":
    main()

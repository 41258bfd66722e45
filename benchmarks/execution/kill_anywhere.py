# SPDX-License-Identifier: Apache-2.0
"""Whether ``nova-rebalance apply``, killed at any moment and started again, comes to the same end.

Each run carries a plan out on a test cloud.  SIGKILL strikes at moments drawn by chance: at the
start, when a request has just been written down, at a line of progress, while it waits.  Then the
same command is started again, until it ends.  Nova's own database has to show after each run that
no migration is lost, none was asked for twice, and that every server is where an unkilled run
leaves it, at rest and charged there alone.  Ends with 1 as soon as anything is otherwise.

What is done is kept in DIR/progress.json of the work folder: the same command goes on.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import random
import sqlite3
import sys
import time
from typing import Any
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.execution import command
from benchmarks.execution import ground
from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import watch

Json = dict[str, Any]

SECONDS = (3.0, 6.0)
"""How long migrations take, by host."""
LIMITS = watch.Limits(source=1, dest=1, total=8)
END_S = 900.0
HEADROOM_MIB = 3072


@dataclasses.dataclass
class Result:
    """What came of one run."""

    kills: int
    seconds: float
    code: int | None
    migrations: int
    lost: list[str] = dataclasses.field(default_factory=list)
    twice: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)
    trouble: list[str] = dataclasses.field(default_factory=list)
    hosts: dict[str, str | None] = dataclasses.field(default_factory=dict)
    where: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether all is as it should be."""
        return self.code == 0 and not (
            self.lost or self.twice or self.wrong or self.broken or self.trouble
        )

    def say(self, name: str) -> None:
        """Print the figures, and all that is wrong."""
        struck = ", ".join(f"{count} {where}" for where, count in sorted(self.where.items()))
        print(
            f"{name}: {self.kills} kills ({struck or 'none'}), {self.migrations} migrations, "
            f"exit code {self.code} after {self.seconds:.0f} s; {len(self.lost)} lost, "
            f"{len(self.twice)} issued twice, {len(self.wrong)} wrong final states, "
            f"{len(self.broken)} violations: {'PASS' if self.good else 'FAIL'}",
            flush=True,
        )
        for line in (*self.lost, *self.twice, *self.wrong, *self.broken, *self.trouble):
            print(f"    {line}", flush=True)


class Killer:
    """Draws the moments, some of them by what the journal says."""

    def __init__(self, home: process.Home, seed: int) -> None:
        self._chance = random.Random(seed)
        self._journal = home.journal

    def strike(self, apply: process.Apply) -> str | None:
        """Kill it at some moment; return how far it was, None if it ended before."""
        kind = self._chance.choice(("start", "line", "asking", "asking", "later"))
        if kind == "start":
            # Most of it is Python's imports; then the journal is read and Nova asked.
            ended = apply.end(self._chance.uniform(0.2, 8.0)) is not None
        elif kind == "asking":
            # It is written down, and being asked for or just answered.
            asked = self._wait_asked(apply, self._chance.randint(1, 2))
            ended = not asked or apply.end(self._chance.uniform(0.0, 0.3)) is not None
        else:
            # The first line says that the cloud was read.
            count = apply.wait_line(0, 60.0)
            pause_s = self._chance.uniform(0.0, 10.0)
            if kind == "line":
                # A line says that something has just been written down or was answered.
                for _ in range(self._chance.randint(1, 2)):
                    count = apply.wait_line(count, 30.0)
                pause_s = self._chance.choice((0.0, 0.2))
            ended = apply.end(pause_s) is not None
        if ended:
            return None
        apply.kill()
        return self._moment()

    def rest(self) -> float:
        """Seconds until it is started again: at once or when Nova has gone on meanwhile."""
        return self._chance.choice((0.0, 0.0, self._chance.uniform(0.0, 8.0)))

    def _wait_asked(self, apply: process.Apply, count: int) -> bool:
        """Wait until this process has written so many down; return whether it did so."""
        query = "SELECT COUNT(*) FROM migrations WHERE requested_at >= ?"
        while apply.end(0.005) is None:
            ((asked,),) = self._rows(query, apply.began) or [(0,)]
            if asked >= count:
                return True
        return False

    def _moment(self) -> str:
        """Return what the open run was at when it was killed."""
        rows = self._rows(
            "SELECT DISTINCT migrations.state FROM migrations JOIN runs ON runs.id = run"
            " WHERE runs.open IS NOT NULL"
        )
        states = {state for (state,) in rows}
        if "REQUESTED" in states:
            return "while asking"
        return "with some in flight" if states & {"RUNNING", "UNKNOWN"} else "with none in flight"

    def _rows(self, query: str, *values: float) -> list[Any]:
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self._journal.as_uri()}?mode=ro", uri=True)
            ) as book:
                return book.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            # It is not there yet.
            return []


def carry_out(home: process.Home, plan: Json, name: str, kills: int, killer: Killer) -> Result:
    """Carry a plan out with so many kills and compare with the databases."""
    tables = watch.Tables(home.cloud)
    before = tables.look()
    file = home.write_plan(plan, f"{name}.json")
    began = time.monotonic()
    struck: collections.Counter[str] = collections.Counter()
    trouble = []
    with watch.Watcher(home.cloud, LIMITS, plan) as watcher:
        while True:
            apply = home.apply(file)
            if struck.total() < kills:
                kind = killer.strike(apply)
                if kind is not None:
                    struck[kind] += 1
                    time.sleep(killer.rest())
                    continue
            code = apply.end(END_S)
            if code is None:
                apply.kill()
                trouble.append(f"it did not end within {END_S:.0f} s")
            break
    if "Traceback" in apply.text():
        trouble.append("its output has a traceback")
    if code != 0:
        trouble += apply.text().splitlines()[-5:]
    seconds = time.monotonic() - began
    look = tables.look()
    tables.close()
    result = Result(struck.total(), seconds, code, len(plan["migrations"]))
    result.where = dict(struck)
    result.trouble = trouble
    result.broken = watcher.report.violations
    result.hosts = {name: server.host for name, server in look.servers.items()}
    judge(result, plan, before, look, watcher.report.known)
    return result


def judge(
    result: Result, plan: Json, before: watch.Look, look: watch.Look, known: frozenset[str]
) -> None:
    """Compare with what the plan says: every migration of it once, and nothing else."""
    planned = collections.Counter(one["instance"] for one in plan["migrations"])
    names = {uuid: server.name for uuid, server in before.servers.items()}
    found = watch.matched(plan["migrations"], look, known)
    for one in plan["migrations"]:
        if not any(record.status == watch.COMPLETED for record in found[one["id"]]):
            said = ", ".join(record.status for record in found[one["id"]]) or "never asked for"
            result.lost.append(f"{one['id']} {names[one['instance']]}: {said}")
    for instance in look.servers:
        records = look.records_of(instance, known)
        if len(records) > planned[instance]:
            said = "; ".join(f"{r.source} -> {r.dest} {r.status}" for r in records)
            result.twice.append(f"{names.get(instance)}: {said}, planned {planned[instance]}")
    here = {name: server.host for name, server in before.servers.items() if server.host}
    result.wrong = watch.wrong_ends(look, {**here, **plans.ends(plan)}, before)


def again(plan: Json) -> Json:
    """Return the same plan as another one."""
    return {**plan, "id": str(uuid.uuid4())}


class Series:
    """Runs that can be interrupted between any two."""

    def __init__(self, home: process.Home, seed: int) -> None:
        self.home = home
        self._seed = seed
        self._file = self.home.folder / "progress.json"
        self.done: dict[str, Json] = {}
        if self._file.exists():
            self.done = json.loads(self._file.read_text())

    def run(self, name: str, plan: Json | None, migrations: int, kills: int) -> tuple[Result, Json]:
        """Do one run, unless it was done; return what came of it, and its plan."""
        if name in self.done:
            kept = dict(self.done[name])
            plan = kept.pop("plan")
            return Result(**kept), plan
        seed = self._seed * 1000 + len(self.done)
        self._end_interrupted(name)
        if plan is None:
            source = plans.Source.load(self.home.snapshot())
            plan = plans.wander(source, migrations, seed, without=plans.strangers(source))
        print(
            f"{name}: {len(plan['migrations'])} migrations, {plans.dependencies(plan)} depend on "
            "others",
            flush=True,
        )
        result = carry_out(self.home, plan, name, kills, Killer(self.home, seed))
        result.say(name)
        self.done[name] = {**dataclasses.asdict(result), "plan": plan}
        self._file.write_text(json.dumps(self.done))
        return result, plan

    def _end_interrupted(self, name: str) -> None:
        """End the run of this name that an earlier process left open; it does not count."""
        file = self.home.folder / f"{name}.json"
        if file.exists():
            self.home.apply(file).end(END_S)
            file.unlink()


def measure(
    home: process.Home,
    *,
    kills: int,
    runs: int,
    migrations: int,
    seed: int = 0,
    compare: bool = True,
) -> bool:
    """Do all runs and print the figures; return whether the bars are met.

    With ``compare`` the first plan is carried out without kills before, and the end compared.
    """
    series, cloud = Series(home, seed), home.cloud
    by_host = random.Random(seed)
    slow = {host: round(by_host.uniform(*SECONDS), 1) for host in cloud.hosts()}
    with ground.speed(cloud, lambda host: {"seconds": slow[host]}):
        results: list[Result] = []
        same = True
        if compare:
            unkilled, plan = series.run("unkilled", None, migrations, 0)
            start = {one["instance"]: one["source"] for one in reversed(plan["migrations"])}
            back_plan = None
            if "back" not in series.done:
                source = plans.Source.load(series.home.snapshot())
                back_plan = plans.towards(source, start)
            back, _ = series.run("back", back_plan, 0, 0)
            results += [unkilled, back]
        struck = number = 0
        # One that ended before all its kills is made up for; after a bad one nothing is comparable.
        while all(one.good for one in results) and (number < runs or struck < kills):
            number += 1
            share = -(-(kills - struck) // max(1, runs + 1 - number))
            first = again(plan) if compare and number == 1 else None
            result, _ = series.run(f"run-{number}", first, migrations, share)
            if first is not None:
                same = result.hosts == unkilled.hosts
                print(f"hosts of all servers as after the unkilled run: {'yes' if same else 'NO'}")
            results.append(result)
            struck += result.kills
    lost, twice, wrong, broken = (
        sum(len(getattr(result, name)) for result in results)
        for name in ("lost", "twice", "wrong", "broken")
    )
    good = same and all(result.good for result in results) and struck >= kills
    print(
        f"kill-anywhere: {struck} kills (at least {kills}) over {number} runs, "
        f"{sum(result.migrations for result in results)} migrations: {lost} lost (limit 0), "
        f"{twice} issued twice (limit 0), {wrong} wrong final states (limit 0), {broken} "
        f"violations (limit 0): {'PASS' if good else 'FAIL'}"
    )
    return good


def main() -> None:
    """Make the cloud ready, kill and compare."""
    parser = command.parser(__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--runs", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(
            process.Home(cloud, given.work),
            kills=given.kills,
            runs=given.runs,
            migrations=given.migrations,
            seed=given.seed,
        ),
        ready=(given.work / "progress.json").exists(),
    )


if __name__ == "__main__":
    main()

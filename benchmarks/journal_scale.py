# SPDX-License-Identifier: Apache-2.0
"""How fast the journal answers when it is large.

Fills a journal with a million migrations, most of them in runs of 50 on ten clouds and the rest in
one large open run, and measures the commands that read it, each a process of its own, and what the
executor asks it for.  The bar: ``nova-rebalance status`` in less than a second beyond the start of
the interpreter.  The figures are seconds, and of commands medians: the wall time, the same less the
interpreter's start, and the time of the processor, which tells a slow machine from a busy one.

--url must be that of an empty database; without it SQLite in a temporary folder is measured.
"""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib

import sqlalchemy as sa

from nova_rebalancer.store import journal
from nova_rebalancer.store import schema

PROGRAM = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"

BAR_S = 1.0
CLOUDS = 10
IN_A_RUN = 50
BATCH = 10_000
NOW = 1_800_000_000.0
MINUTE_S = 60.0


def main() -> int:
    """Fill, measure, print; 0 if the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="of an empty database (default: SQLite)")
    parser.add_argument("--rows", type=int, default=10**6, help="migrations (default 10**6)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each command (default 7)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or f"sqlite:///{folder}/journal.sqlite"
        settings = pathlib.Path(folder, "rebalancer.conf")
        settings.touch(mode=0o600)
        # A percent sign or a dollar sign means something in a configuration file.
        settings.write_text(f"[store]\nconnection = {url.replace('$', '$$')}\n")
        book = journal.open(url)
        print(f"{given.rows} migrations in {sa.make_url(url).render_as_string()}")
        began = time.monotonic()
        last = fill(url, given.rows)
        print(f"written in {time.monotonic() - began:.0f} s")
        print(f"load of the machine {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs")
        start, busy = median(given.runs, [sys.executable, "-c", "pass"])
        print(f"{'start of the interpreter':32} {start:7.3f} {0:7.3f} {busy:7.3f}")
        wall = {}
        for words in (["status"], ["history"], ["show", last], ["show", last, "--changes"]):
            command = [str(PROGRAM), "--config-file", str(settings), *words]
            wall[words[0]], busy = median(given.runs, command)
            name = " ".join("a run" if word == last else word for word in words)
            took = wall[words[0]]
            print(f"{name:32} {took:7.3f} {took - start:7.3f} {busy:7.3f}")
        questions(book, last)
    met = wall["status"] - start < BAR_S
    print(
        f"status within {BAR_S:.0f} s beyond the interpreter's start: {'PASS' if met else 'FAIL'}"
    )
    return 0 if met else 1


def fill(url: str, rows: int) -> str:
    """Write ``rows`` migrations; return the id of the last run of 50."""
    rng = random.Random(0)
    engine = sa.create_engine(url)
    plan = {"sha256": "0" * 64, "document": zlib.compress(b"{}")}
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.PLANS), plan)
    large = rows // 10
    sizes = [IN_A_RUN] * ((rows - large) // IN_A_RUN) + [large]
    batches: dict[str, list[dict[str, object]]] = {"runs": [], "migrations": [], "changes": []}
    migration = 0
    last = ""
    for number, size in enumerate(sizes):
        opened = size == large
        run = f"{rng.getrandbits(32):08x}-0000-4000-8000-{number:012x}"
        last = last if opened else run
        at = NOW + number * MINUTE_S
        batches["runs"].append(
            {
                "id": run,
                "plan": f"plan-{number}",
                "plan_sha256": plan["sha256"],
                "cloud": f"cloud-{number % CLOUDS}",
                "region": "RegionOne",
                "open": 1 if opened else None,
                "state": "OPEN" if opened else "DONE",
                "began_at": at,
                "ended_at": None if opened else at + MINUTE_S,
                "owner": "far.example:1:1" if opened else None,
                "beat_at": at if opened else None,
                "goal": "fragmentation",
                "before": 0.5,
                "predicted": 0.25,
                "after": None if opened else 0.25,
                "budget": size,
            }
        )
        for k in range(size):
            migration += 1
            state = rng.choice(("CONFIRMED", "PLANNED", "FAILED")) if opened else "CONFIRMED"
            took = rng.uniform(5, 50)
            batches["migrations"].append(
                {
                    "id": migration,
                    "run": run,
                    "key": f"m{k}",
                    "revision": 0,
                    "instance": f"{rng.getrandbits(15):08x}-0000-4000-8000-000000000000",
                    "source": f"compute-{rng.randrange(1000):04}.example",
                    "dest": f"compute-{rng.randrange(1000):04}.example",
                    "method": "live",
                    "role": "direct",
                    "memory_mib": 4096,
                    "project": f"{rng.getrandbits(10):032x}",
                    "depends_on": "[]",
                    "state": state,
                    "attempts": 1,
                    "known_record": 0,
                    "record": migration,
                    "predicted_s": 30.0,
                    "requested_at": at,
                    "running_at": at + 1,
                    "ended_at": at + 1 + took,
                    "aborting": False,
                    "bytes": 1 << 32,
                }
            )
            # Of a million rows the four changes of each are five million: two do here.
            for before, after in ((None, "PLANNED"), ("PLANNED", state)):
                change = {"migration": migration, "at": at, "before": before, "after": after}
                batches["changes"].append(change)
            if len(batches["migrations"]) == BATCH:
                write(engine, batches)
    write(engine, batches)
    if engine.dialect.name == "postgresql":
        # What it does by itself a minute later.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    return last


def write(engine: sa.Engine, batches: dict[str, list[dict[str, object]]]) -> None:
    """Write what has gathered, in one transaction."""
    with engine.begin() as connection:
        for name, rows in batches.items():
            if rows:
                connection.execute(sa.insert(schema.METADATA.tables[name]), rows)
                rows.clear()


def median(runs: int, command: list[str]) -> tuple[float, float]:
    """Return the seconds that a command takes, and those of the processor in it."""
    took, busy = [], []
    for _ in range(runs):
        began, before = time.monotonic(), os.times()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        took.append(time.monotonic() - began)
        after = os.times()
        users = after.children_user - before.children_user
        busy.append(users + after.children_system - before.children_system)
    return statistics.median(took), statistics.median(busy)


def questions(book: journal.Journal, run: str) -> None:
    """Ask what the executor asks, and print the seconds."""
    cloud = book.run(run).cloud
    instances = [f"{k:08x}-0000-4000-8000-000000000000" for k in range(1000)]
    (opened,) = [one for one in book.latest() if one.state == journal.OPEN]
    last = book.runs(cloud, 1)[0].began_at
    asked = {
        "counts of the largest run": lambda: book.counts(opened.id),
        "durations": lambda: book.durations(cloud),
        "asked in an hour": lambda: book.asked_since(cloud, last - 60 * MINUTE_S),
        "moved in a day, 1,000 instances": lambda: book.moved_since(
            cloud, instances, last - 24 * 60 * MINUTE_S
        ),
        "expire of 100 runs": lambda: book.expire(NOW + 101 * MINUTE_S),
    }
    for what, ask in asked.items():
        began = time.monotonic()
        ask()
        print(f"{what:32} {time.monotonic() - began:7.3f}")


if __name__ == "__main__":
    sys.exit(main())

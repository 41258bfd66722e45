# SPDX-License-Identifier: Apache-2.0
"""Plans carried out on a real cloud by the command, from the snapshot to the journal."""

from collections.abc import Iterator
import contextlib
import pathlib
from typing import Any

import pytest

from benchmarks.execution import kill_anywhere
from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import client
from tests.cloud import scenario
from tests.cloud import settings
from tests.cloud import watch
from tests.integration import common

Json = dict[str, Any]

PARTLY = 4
END_S = 120.0


@pytest.fixture
def home(cloud: settings.Settings, tmp_path: pathlib.Path) -> process.Home:
    """A folder for the commands, which know the cloud's cells; nothing is planned again."""
    return process.Home(cloud, tmp_path, {"replans": 0, "drift_share": 1.0}, facts=True)


def applied(home: process.Home, plan: Json, code: int) -> dict[str, Json]:
    """Carry a plan out while a watcher looks; the journal's migrations by id."""
    file = home.write_plan(plan, "plan.json")
    with watch.Watcher(home.cloud, kill_anywhere.LIMITS, plan) as watcher:
        apply = home.apply(file)
        assert apply.end(END_S) == code, apply.text()
    assert not watcher.report.violations
    return {one["id"]: one for one in home.entries()}


@contextlib.contextmanager
def kept(admin: client.Client, locked: str, tagged: str, marked: str) -> Iterator[None]:
    """Servers that must stay where they are, each for another reason, while the body runs."""
    ask = admin.compute
    ask.post(f"/servers/{locked}/action", json={"lock": None})
    ask.put(f"/servers/{tagged}/tags/{scenario.OPT_OUT_TAG}")
    ask.post(f"/servers/{marked}/metadata", json={"metadata": scenario.OPT_OUT_METADATA})
    try:
        yield
    finally:
        ask.post(f"/servers/{locked}/action", json={"unlock": None})
        ask.delete(f"/servers/{tagged}/tags/{scenario.OPT_OUT_TAG}")
        for key in scenario.OPT_OUT_METADATA:
            ask.delete(f"/servers/{marked}/metadata/{key}")


def test_kept_where_they_are(admin: client.Client, home: process.Home) -> None:
    """What was locked or opted out after it was planned is never asked for; all else goes on."""
    source = plans.Source.load(home.snapshot())
    # Which servers are drawn depends on their ids: some plans have one that waits for another.
    made = (plans.wander(source, 4, seed=seed, each=1, waits=False) for seed in range(1, 30))
    plan = next(one for one in made if not plans.dependencies(one))
    before = common.look(home.cloud)
    *stay, goes = (one["instance"] for one in plan["migrations"])
    with kept(admin, *stay):
        found = applied(home, plan, PARTLY)
    states = {one["instance"]: (one["state"], one["code"]) for one in found.values()}
    assert states[goes] == ("CONFIRMED", None)
    assert [states[name] for name in stay] == [
        ("SKIPPED", "locked"),
        ("SKIPPED", "opted_out"),
        ("SKIPPED", "opted_out"),
    ]
    after = common.look(home.cloud)
    assert not [one for name in stay for one in after.records_of(name, before.records)]


@pytest.fixture
def booted(admin: client.Client) -> Iterator[dict[str, str]]:
    """Servers that can migrate, by host; deleted in the end."""
    made: dict[str, str] = {}
    try:
        for host in ("host-002", "host-007"):
            made[host] = common.boot(admin, host=host)
        yield made
    finally:
        for name in made.values():
            admin.compute.delete(f"/servers/{name}")


def test_what_depends_on_a_failure(home: process.Home, booted: dict[str, str]) -> None:
    """What waits for a migration that is rolled back is never asked for; all else goes on."""
    source = plans.Source.load(home.snapshot())
    others = {one.id for one in source.snapshot.instances} - set(booted.values())
    # The hosts 2, 5 and 6 are one after the other for a server; 7 and 8 are a pair of their own.
    plan = plans.wander(source, 3, seed=2, without=others)
    chain = [one for one in plan["migrations"] if one["instance"] == booted["host-002"]]
    (alone,) = (one for one in plan["migrations"] if one["instance"] == booted["host-007"])
    failing, waiting = chain
    assert waiting["depends_on"] == [failing["id"]]
    before = common.look(home.cloud)
    with common.fault(home.cloud, fault="copy-rollback", server=failing["instance"]):
        found = applied(home, plan, PARTLY)
    states = {name: (one["state"], one["code"]) for name, one in found.items()}
    assert states[alone["id"]] == ("CONFIRMED", None)
    assert states[failing["id"]][0] == "FAILED"
    assert states[waiting["id"]] == ("SKIPPED", "dependency")
    after = common.look(home.cloud)
    (record,) = after.records_of(failing["instance"], before.records)
    assert (record.dest, record.status) == (failing["dest"], "failed")
    ends = {alone["instance"]: alone["dest"], failing["instance"]: failing["source"]}
    assert not watch.wrong_ends(after, ends, before)


def test_killed_anywhere(home: process.Home) -> None:
    """Killed five times and started again, the program loses nothing and asks for nothing twice."""
    assert kill_anywhere.measure(home, kills=5, runs=1, migrations=12, seed=5, compare=False)

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
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from tests.cloud import client
from tests.cloud import scenario
from tests.cloud import settings
from tests.cloud import watch
from tests.integration import common

Json = dict[str, Any]

PARTLY = 4
END_S = 120.0
CORES = 16


@pytest.fixture
def home(cloud: settings.Settings, tmp_path: pathlib.Path) -> process.Home:
    """A folder for the commands, which know the cloud's cells; nothing is planned again."""
    return process.Home(cloud, tmp_path, {"replans": 0, "drift_share": 1.0}, facts=True)


def look(cloud: settings.Settings) -> watch.Look:
    """What the databases hold."""
    tables = watch.Tables(cloud)
    with contextlib.closing(tables):
        return tables.look()


def value(snapshot: pathlib.Path) -> float:
    """The goal of a snapshot."""
    placement = state.build(plans.Source.load(snapshot).snapshot)
    return fragmentation.Fragmentation(CORES).evaluate(placement).value


def applied(home: process.Home, plan: Json, code: int) -> dict[str, Json]:
    """Carry a plan out while a watcher looks; the journal's migrations by id."""
    file = home.write_plan(plan, "plan.json")
    with watch.Watcher(home.cloud, kill_anywhere.LIMITS, plan) as watcher:
        apply = home.apply(file)
        assert apply.end(END_S) == code, apply.text()
    assert not watcher.report.violations
    return {one["id"]: one for one in home.entries()}


def test_from_snapshot_to_journal(home: process.Home) -> None:
    """As an operator does it: what was predicted is what a fresh snapshot shows in the end."""
    snapshot = home.snapshot()
    plan = home.folder / "plan.json"
    home.run(
        *("plan", "--snapshot", str(snapshot), "--output", str(plan)),
        *("--fragment-cores", str(CORES), "--max-migrations", "8"),
    )
    apply = home.apply(plan)
    assert apply.end(END_S) == 0, apply.text()
    (run,) = home.runs()
    # A plan tells six digits.
    assert run["before"] == pytest.approx(value(snapshot), abs=1e-6)
    assert run["after"] == pytest.approx(value(home.snapshot("after.json.gz")))
    assert run["predicted"] == pytest.approx(run["after"], abs=1e-6)
    assert run["after"] < run["before"]
    entries = home.entries(run["run"])
    assert run["migrations"] == {"CONFIRMED": len(entries)}
    assert {one["state"] for one in entries} == {"CONFIRMED"}
    servers = look(home.cloud).servers
    assert all(servers[one["instance"]].host == one["dest"] for one in entries)
    (now,) = home.read("status")
    assert (now["run"], now["state"], now["owner"]) == (run["run"], "DONE", None)
    changes = home.read("show", run["run"], "--changes")
    assert [one["after"] for one in changes if one["id"] == entries[0]["id"]] == [
        "REQUESTED",
        "RUNNING",
        "CONFIRMED",
    ]


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
    plan = plans.wander(source, 4, seed=1, each=1, waits=False)
    before = look(home.cloud)
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
    after = look(home.cloud)
    assert not [one for name in stay for one in after.records_of(name, before.records)]


def test_what_depends_on_a_failure(home: process.Home) -> None:
    """What waits for a migration that is rolled back is never asked for; all else goes on."""
    source = plans.Source.load(home.snapshot())
    plan = plans.wander(source, 6, seed=2)
    of = {one["id"]: one for one in plan["migrations"]}
    waiting = next(one for one in plan["migrations"] if one["depends_on"])
    failing = of[waiting["depends_on"][0]]
    before = look(home.cloud)
    where = {key: failing[key] for key in ("source", "dest")}
    with common.fault(
        home.cloud, fault="copy-rollback", server=failing["instance"], at=0.5, **where
    ):
        found = applied(home, plan, PARTLY)
    assert found[failing["id"]]["state"] == "FAILED"
    lost = {failing["id"]}
    for one in plan["migrations"]:
        if lost.intersection(one["depends_on"]):
            lost.add(one["id"])
            assert (found[one["id"]]["state"], found[one["id"]]["code"]) == (
                "SKIPPED",
                "dependency",
            )
        elif one is not failing:
            assert found[one["id"]]["state"] == "CONFIRMED"
    assert waiting["id"] in lost
    after = look(home.cloud)
    records = watch.matched(plan["migrations"], after, before.records)
    assert [one.status for one in records[failing["id"]]] == ["failed"]
    assert not [records[name] for name in lost - {failing["id"]} if records[name]]
    ends = {one["instance"]: one["dest"] for one in plan["migrations"] if one["id"] not in lost}
    assert not watch.wrong_ends(after, {failing["instance"]: failing["source"], **ends}, before)


def test_killed_anywhere(home: process.Home) -> None:
    """Killed five times and started again, the program loses nothing and asks for nothing twice."""
    assert kill_anywhere.measure(home, kills=5, runs=1, migrations=10, seed=5, compare=False)

# SPDX-License-Identifier: Apache-2.0
"""What the program is for, on a real cloud of 20 hosts and 200 servers, as an operator does it."""

import json
import pathlib

import pytest

from benchmarks.execution import kill_anywhere
from benchmarks.execution import plans
from benchmarks.execution import process
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from tests.cloud import settings
from tests.cloud import watch
from tests.integration import common

CORES = 16
END_S = 400.0


def rate(snapshot: pathlib.Path) -> float:
    """The fragment rate of a snapshot."""
    placement = state.build(plans.Source.load(snapshot).snapshot)
    return fragmentation.Fragmentation(CORES).evaluate(placement).value


def test_from_snapshot_to_journal(large_cloud: settings.Settings, tmp_path: pathlib.Path) -> None:
    """All is confirmed, and what was predicted is what a fresh snapshot shows in the end."""
    home = process.Home(large_cloud, tmp_path, {"replans": 0, "drift_share": 1.0}, facts=True)
    snapshot, plan = home.snapshot(), home.folder / "plan.json"
    home.run(
        *("plan", "--snapshot", str(snapshot), "--output", str(plan)),
        *("--fragment-cores", str(CORES)),
    )
    home.run("check", "--snapshot", str(snapshot), "--plan", str(plan))
    with watch.Watcher(large_cloud, kill_anywhere.LIMITS, json.loads(plan.read_text())) as watcher:
        apply = home.apply(plan)
        assert apply.end(END_S) == 0, apply.text()
    assert not watcher.report.violations
    (run,) = home.runs()
    # A plan tells six digits.
    assert run["before"] == pytest.approx(rate(snapshot), abs=1e-6)
    assert run["after"] == pytest.approx(rate(home.snapshot("after.json.gz")), abs=1e-6)
    assert run["predicted"] == pytest.approx(run["after"], abs=1e-6)
    assert run["after"] < run["before"]
    entries = home.entries(run["run"])
    assert run["migrations"] == {"CONFIRMED": len(entries)}
    servers = common.look(large_cloud).servers
    assert all(servers[one["instance"]].host == one["dest"] for one in entries)
    (now,) = home.read("status")
    assert (now["run"], now["state"], now["owner"]) == (run["run"], "DONE", None)
    changes = home.read("show", run["run"], "--changes")
    assert [one["after"] for one in changes if one["id"] == entries[0]["id"]] == [
        "PLANNED",
        "REQUESTED",
        "RUNNING",
        "CONFIRMED",
    ]

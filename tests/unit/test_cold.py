# SPDX-License-Identifier: Apache-2.0
"""Hosts that are emptied of what is shut off, too, where the operator lets it migrate cold."""

import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import checker
from nova_rebalancer import exceptions
from tests import clouds
from tests.unit import test_controller

DRAIN = dataclasses.replace(test_controller.OPTIONS, goal="drain", drain=("a",), planner="greedy")


def retiring(**of_off: object) -> clouds.Document:
    """Host a, with one instance that runs and one that is off, can be emptied to b."""
    return clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [
            clouds.instance("on", "a", 2),
            clouds.instance("off", "a", 2, status="SHUTOFF", power_state=4, **of_off),
            clouds.instance("other", "b", 2, status="SHUTOFF", power_state=4),
        ],
    )


def planned(made: clouds.Document, **options: object) -> clouds.Document:
    """The plan document of one pass, which the checker accepts."""
    data = test_controller.written(made, dataclasses.replace(DRAIN, **options))
    verdict = checker.check(clouds.as_bytes(made), data)
    assert verdict.ok, verdict
    return json.loads(data)


@pytest.mark.parametrize("planner", ["greedy", "mip"])
def test_cold(planner: str) -> None:
    """With --cold the one that is off goes cold and the host is empty; else it is what holds it."""
    plan = planned(retiring(), cold=True, planner=planner)
    assert {one["instance"]: one["method"] for one in plan["migrations"]} == {
        "on": "live",
        "off": "cold",
    }
    assert plan["objective"]["after"] == 0
    # It is on no host that is emptied.
    assert [one["instance"] for one in plan["excluded"]] == ["other"]
    plan = planned(retiring(), planner=planner)
    assert [(one["instance"], one["method"]) for one in plan["migrations"]] == [("on", "live")]
    assert plan["objective"]["after"] == 1
    assert [one["instance"] for one in plan["excluded"]] == ["off", "other"]


@pytest.mark.parametrize(
    "why", [{"locked": True}, {"task_state": "powering-on"}, {"status": "ERROR"}]
)
def test_what_else_holds(why: clouds.Document) -> None:
    """All else that keeps an instance keeps it from a cold migration, too."""
    made = retiring()
    made["instances"][1].update(why)
    assert [one["instance"] for one in planned(made, cold=True)["migrations"]] == ["on"]


def test_cold_is_for_what_is_drained() -> None:
    """Without a host to empty it is no wish that can be."""
    with pytest.raises(exceptions.UsageError, match="--cold: only what --drain names"):
        planned(retiring(), goal="fragmentation", drain=(), cold=True)


@pytest.mark.parametrize(
    ("of", "method", "options", "word"),
    [
        ("off", "live", {}, "is SHUTOFF, not ACTIVE"),
        ("on", "cold", {}, "is ACTIVE, and is to be migrated cold"),
        ("off", "cold", {"cold": False}, "no host that options.cold is for"),
        ("off", "cold", {"drain": ["b"]}, "no host that options.cold is for"),
    ],
)
def test_the_checker_judges_the_method(of, method, options, word) -> None:
    """A plan must not migrate cold what runs, live what is off, or cold what nobody let it."""
    made = retiring()
    plan = planned(made, cold=True)
    for one in plan["migrations"]:
        if one["instance"] == of:
            one["method"] = method
    plan["options"].update(options)
    found = checker.check(clouds.as_bytes(made), json.dumps(plan).encode())
    assert (found.kind, word in found.detail) == ("not_migratable", True), found


@hypothesis.settings(max_examples=60)
@hypothesis.given(clouds.snapshots(3, 6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_law(made: clouds.Document, off: list[bool]) -> None:
    """Whatever is off, the checker accepts the plan; --cold never leaves more on the host."""
    for one, stopped in zip(made["instances"], off, strict=False):
        if stopped:
            one.update(status="SHUTOFF", power_state=4)
    name = made["hosts"][0].get("service_host", made["hosts"][0]["id"])
    left = [
        planned(made, drain=(name,), cold=cold, planner="mip")["objective"]["bound"]
        for cold in (True, False)
    ]
    assert left[0] <= left[1]

# SPDX-License-Identifier: Apache-2.0
"""Whole passes where migrations cost something: what is done is worth it, and within budgets."""

import collections
import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import checker
from nova_rebalancer import controller
from nova_rebalancer.collect import document
from nova_rebalancer.model import worth
from nova_rebalancer.plan import base
from tests import clouds
from tests.unit import test_controller

OPTIONS = test_controller.OPTIONS


def planned(made: clouds.Document, **options: object) -> clouds.Document:
    """The plan document of one pass, which the checker accepts."""
    data = test_controller.written(made, dataclasses.replace(OPTIONS, **options))
    verdict = checker.check(clouds.as_bytes(made), data)
    assert verdict.ok, verdict
    return json.loads(data)


def moves(plan: clouds.Document) -> list[str]:
    """The instances that are moved, in order."""
    return [one["instance"] for one in plan["migrations"]]


PRICES = st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.05, 0.1, 0.3])


@pytest.mark.parametrize("planner", ["greedy", "mip"])
def test_worth_it(planner: str) -> None:
    """Every end of a path gains what it costs, so all of it does; and no project exceeds a budget.

    Memory of these clouds is 0 to 2 MiB for each instance, so a GiB costs a thousandfold here.
    """

    @hypothesis.settings(max_examples=60)
    @hypothesis.given(
        clouds.snapshots(4, 8),
        st.lists(st.sampled_from(["p", "q", None]), min_size=8, max_size=8),
        PRICES,
        PRICES,
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 3),
    )
    def law(made, projects, per_migration, per_mib, most, most_mib) -> None:
        for one, project in zip(made["instances"], projects, strict=False):
            one["project"] = project
        plan = planned(
            made,
            planner=planner,
            min_gain=per_migration,
            cost_per_gib=1024 * per_mib,
            project_migrations=most,
            project_gib=None if most_mib is None else most_mib / 1024,
        )
        values = [plan["objective"]["before"]]
        values += [one["value_after"] for one in plan["migrations"]]
        prices = [per_migration + per_mib * one["memory_mib"] for one in plan["migrations"]]
        for k in range(len(prices)):
            assert values[k] - values[-1] >= sum(prices[k:]) - 1e-9
        of = {one["id"]: one.get("project") for one in made["instances"]}
        counts = collections.Counter(of[name] for name in moves(plan))
        memory = collections.Counter()
        for one in plan["migrations"]:
            memory[of[one["instance"]]] += one["memory_mib"]
        for project in ("p", "q"):
            assert most is None or counts[project] <= most
            assert most_mib is None or memory[project] <= most_mib
        if "regardless" in plan:
            assert plan["regardless"]["after"] < plan["objective"]["after"]

    law()


@pytest.mark.parametrize("goal", ["fragmentation", "thermal", "power"])
def test_budgets_never_make_it_worse_than_greedy(goal: str) -> None:
    """Whatever the budgets, the exact planner's plan is at least as good as the heuristic's."""

    @hypothesis.settings(max_examples=40)
    @hypothesis.given(
        clouds.snapshots(4, 8),
        st.lists(st.sampled_from(["p", "q", None]), min_size=8, max_size=8),
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 3),
        st.none() | st.integers(0, 6),
    )
    def law(made, projects, most, project_mib, all_mib) -> None:
        for one, project in zip(made["instances"], projects, strict=False):
            one["project"] = project
        options = {
            "goal": goal,
            "project_migrations": most,
            "project_gib": None if project_mib is None else project_mib / 1024,
            "max_gib": None if all_mib is None else all_mib / 1024,
        }
        values = [
            planned(made, planner=planner, **options)["objective"]["after"]
            for planner in ("mip", "greedy")
        ]
        assert values[0] <= values[1] + 1e-9

    law()


def test_what_fits_a_budget_is_done() -> None:
    """The best target needs more of p's instances than may move: two that may are better than none.

    All of that target depends on them.
    """
    sizes = {"a": (16, 64), "b": (8, 127), "c": (12, 64), "d": (36, 32)}
    sizes |= {"e": (24, 31), "f": (52, 32), "g": (55, 32)}
    rows = (
        *(("a", 2, 32), ("a", 8, 32), ("b", 4, 16), ("c", 2, 16), ("c", 1, 16), ("f", 4, 32)),
        *(("b", 1, 16), ("e", 4, 4), ("d", 4, 16), ("g", 4, 1), ("e", 8, 8), ("b", 2, 32)),
        *(("c", 2, 8), ("a", 4, 4), ("d", 4, 4)),
    )
    hosts = [clouds.host(name, cores) for name, (cores, _) in sizes.items()]
    for one, (_, memory) in zip(hosts, sizes.values(), strict=True):
        one["inventories"]["MEMORY_MB"] = {"total": 512 * memory}
        if one["id"] in "abef":
            one["inventories"]["DISK_GB"] = {"total": 100 if one["id"] in "af" else 300}
    instances = [clouds.instance(f"i{k}", on, cores) for k, (on, cores, _) in enumerate(rows)]
    for one, (*_, memory) in zip(instances, rows, strict=True):
        one["allocations"]["MEMORY_MB"] = 512 * memory
    for k, disk in ((5, 5), (6, 40), (7, 20), (10, 5), (11, 40)):
        instances[k]["allocations"]["DISK_GB"] = disk
    instances[9]["project"] = instances[13]["project"] = "p"
    made = clouds.snapshot(hosts, instances)
    apart = ["i0", "i6", "i8", "i14"]
    made["server_groups"] = [
        {"id": "g", "policy": "anti-affinity", "max_server_per_host": 1, "members": apart}
    ]
    values = [
        planned(made, planner=planner, goal="thermal", project_migrations=2)["objective"]["after"]
        for planner in ("auto", "greedy")
    ]
    assert values[0] <= values[1]


def two_gains() -> clouds.Document:
    """i, of 100 GiB, and j, of 1 GiB, would each turn two hosts with 2 free of 4 into one of 4.

    Free are 2, 2, 2 and 2 cores: the rate is 1, with either move 1 / 2 and with both 0.
    """
    hosts = [clouds.host(name, 4) for name in "abcd"]
    instances = [clouds.instance(name, on, 2) for name, on in zip("ikjm", "abcd", strict=True)]
    instances[0]["allocations"]["MEMORY_MB"] = 100 * 1024
    for k in (1, 3):
        instances[k]["locked"] = True
    for one, project in zip(instances, "pqpq", strict=True):
        one["project"] = project
    made = clouds.snapshot(hosts, instances)
    made["instances"][0]["allowed_hosts"] = ["a", "b"]
    made["instances"][2]["allowed_hosts"] = ["c", "d"]
    return made


@pytest.mark.parametrize("planner", ["greedy", "mip"])
@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({}, "ij"),
        # A GiB costs 0.004: i, which comes first in the path, costs 0.4 and gains 0.5.
        ({"cost_per_gib": 0.004}, "ij"),
        ({"cost_per_gib": 0.006}, "j"),
        ({"cost_per_gib": 0.6}, ""),
        ({"min_gain": 0.4}, "ij"),
        ({"min_gain": 0.6}, ""),
        ({"min_gain": 0.1, "cost_per_gib": 0.0045}, "j"),
        ({"project_migrations": 1}, "j"),
        ({"project_migrations": 0}, ""),
        ({"project_gib": 101.0}, "ij"),
        # Either would do; the one is left out that copies more.
        ({"project_gib": 100.0}, "j"),
        ({"project_gib": 99.0}, "j"),
    ],
)
def test_what_is_not_worth_it_is_left_out(planner, options, moved) -> None:
    """Each of two gains of 0.5 is judged by itself, wherever in the path it is."""
    plan = planned(two_gains(), planner=planner, **options)
    assert sorted(moves(plan)) == sorted(moved)
    assert plan["objective"]["after"] == 1 - len(plan["migrations"]) / 2
    # The bound is that of the goal alone.
    assert plan["objective"]["bound"] == (0.0 if planner == "mip" else None)
    if len(moved) == 2:
        assert "regardless" not in plan
    else:
        bill = plan["regardless"]
        assert (bill["after"], bill["migrations"], bill["memory_mib"]) == (0.0, 2, 101 * 1024)
        gib = options.get("cost_per_gib", 0.0)
        assert bill["price"] == pytest.approx(2 * options.get("min_gain", 0.0) + 101 * gib)
    if not moved:
        assert plan["status"] == "nothing_to_do"


@pytest.mark.parametrize(("min_gain", "count"), [(0.1, 3), (0.2, 0)])
def test_what_only_gains_together_is_judged_together(min_gain, count) -> None:
    """Three migrations, one a bypass, gain 0.5: each 0.1 is less, each 0.2 is more than that."""
    plan = planned(clouds.exchange(), min_gain=min_gain)
    assert len(plan["migrations"]) == count


@pytest.mark.parametrize(("per_gib", "count"), [(0.4, 2), (0.6, 0)])
def test_a_host_that_is_emptied_is_judged_as_one(per_gib, count) -> None:
    """Two instances of 1 GiB leave a host, which alone gains nothing: together they gain 1 host.

    a and b hold two of them each, and each of both has room for all.
    """
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance(name, on, 2) for name, on in zip("ijkm", "aabb", strict=True)],
    )
    plan = planned(made, goal="consolidate", cost_per_gib=per_gib)
    assert len(plan["migrations"]) == count


@pytest.mark.parametrize(
    ("moved", "excluded"),
    [
        ("2025-12-31T00:00:01Z", True),
        ("2025-12-31T00:00:00", False),
        ("2026-01-01T00:00:01Z", True),
    ],
)
def test_cooldown(moved, excluded) -> None:
    """At midnight i rests if it was migrated less than 24 hours before, or since."""
    plan = planned(two_gains(), cooldown_h=24.0, last_moved={"i": moved, "elsewhere": moved})
    assert ("i" in moves(plan)) != excluded
    assert "j" in moves(plan)
    found = {one["instance"]: one["reason"]["code"] for one in plan["excluded"]}
    assert (found.get("i") == "cooldown") == excluded


def test_parts_take_along_what_depends_on_them() -> None:
    """Of a path where j goes to the room that i leaves, j can be left out alone and i cannot."""
    made = clouds.snapshot(
        [clouds.host("a", 4), clouds.host("b", 4), clouds.host("c", 4)],
        [clouds.instance("i", "a", 4), clouds.instance("j", "b", 4)],
    )
    snapshot, sha256 = document.loads(clouds.as_bytes(made), "cloud.json")
    options = dataclasses.replace(OPTIONS, pins={"i": ("c",), "j": ("a",)}, drain=("b",))
    options = dataclasses.replace(options, goal="drain")
    plan = controller.run(snapshot, sha256, options, base.Watch())
    assert [migration.depends_on for migration in plan.path.migrations] == [(), (0,)]
    parts = worth._Parts(plan.path)
    assert parts.of_instances(parts.everything) == [frozenset({0, 1}), frozenset({1})]

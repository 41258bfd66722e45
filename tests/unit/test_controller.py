# SPDX-License-Identifier: Apache-2.0
"""One whole pass on small clouds: the document it makes is checked by the independent checker."""

from collections.abc import Callable
import dataclasses
import datetime
import json
import uuid

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import checker
from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.collect import document
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import schema
from nova_rebalancer.model import target
from nova_rebalancer.plan import base
from tests import clouds
from tests.unit.plan import brute

OPTIONS = controller.Options(fragment_cores=(clouds.CORES,), time_limit_s=None, work_limit=1)

SIZES = st.sampled_from([(clouds.CORES,), (clouds.CORES, 2)])

VARIES = ("id", "created_at", "expires_at", "runtime_s")
"""What may differ between two runs on one snapshot."""


def written(made: clouds.Document, options: controller.Options) -> bytes:
    """The plan document of one pass, with an id and times of its own."""
    snapshot, sha256 = document.loads(clouds.as_bytes(made), "cloud.json")
    plan = controller.run(snapshot, sha256, options, base.Watch())
    made_at = datetime.datetime.now(datetime.UTC)
    return plan_document.dumps(
        plan_document.document(plan, str(uuid.uuid4()), made_at, 3600.0, {"test": "1"})
    )


def fixed(data: bytes) -> bytes:
    """The document without what may differ."""
    return plan_document.dumps({k: v for k, v in json.loads(data).items() if k not in VARIES})


def test_options_of_a_document() -> None:
    """Lists become tuples; the size of an older plan is the only one."""
    read = controller.written({"fragment_cores": 8, "scope": ["az=a"], "seed": 3})
    assert read == {"fragment_cores": (8,), "scope": ("az=a",), "seed": 3}
    assert controller.written({"fragment_cores": [8, 4]}) == {"fragment_cores": (8, 4)}


@pytest.mark.parametrize("planner", ["greedy", "mip"])
def test_pass(planner: str) -> None:
    """Whatever the cloud, the plan is one the checker accepts, and its bound is true."""

    @hypothesis.settings(max_examples=100)
    @hypothesis.given(
        clouds.snapshots(3, 5), st.integers(0, 4), st.none() | st.integers(0, 4), SIZES
    )
    def law(made: clouds.Document, most: int, most_mib: int | None, sizes: tuple[int, ...]) -> None:
        options = dataclasses.replace(
            OPTIONS,
            planner=planner,
            max_migrations=most,
            max_gib=most_mib and most_mib / 1024,
            fragment_cores=sizes,
        )
        data = written(made, options)
        plan = json.loads(data)
        assert schema.problems(schema.PLAN, plan) == []
        verdict = checker.check(clouds.as_bytes(made), data)
        assert verdict.ok, verdict
        assert plan["objective"]["after"] <= plan["objective"]["before"]
        if plan["objective"]["bound"] is not None and most_mib is None:
            cloud = brute.read(clouds.as_bytes(made))
            assert plan["objective"]["bound"] <= brute.best(cloud, most, *sizes) + 1e-9

    law()


@hypothesis.settings(max_examples=15)
@hypothesis.given(clouds.snapshots(6, 12), st.sampled_from([0, 1]))
def test_work_limit_repeats(made: clouds.Document, work: int) -> None:
    """Two runs with a work limit are equal byte for byte but for id, times and runtime."""
    options = dataclasses.replace(OPTIONS, work_limit=work, max_migrations=5)
    assert fixed(written(made, options)) == fixed(written(made, options))


def test_proof_repeats() -> None:
    """So are two runs that end with a proof, whatever the clock allows."""
    made = clouds.numa_doubles()
    options = dataclasses.replace(OPTIONS, work_limit=None, time_limit_s=30.0)
    first, second = written(made, options), written(made, options)
    assert json.loads(first)["status"] == target.OPTIMAL
    assert fixed(first) == fixed(second)


@pytest.mark.parametrize(
    ("make", "rate"), [(clouds.empty, 0.0), (clouds.full, 0.0), (clouds.overfull, 0.0)]
)
@pytest.mark.parametrize("planner", ["auto", "mip", "search", "greedy"])
def test_nothing_to_gain(make: Callable[[], clouds.Document], rate: float, planner: str) -> None:
    """An empty cloud, a full one and one with an overfull host have the rate 0 and no moves."""
    made = make()
    data = written(made, dataclasses.replace(OPTIONS, planner=planner))
    plan = json.loads(data)
    assert checker.check(clouds.as_bytes(made), data).ok
    assert plan["migrations"] == []
    assert (plan["objective"]["before"], plan["objective"]["after"]) == (rate, rate)
    exact = planner in ("auto", "mip")
    assert plan["status"] == (target.OPTIMAL if exact else target.NOTHING_TO_DO)
    assert plan["objective"]["gap"] == (0.0 if exact else None)


def test_no_hosts_without_cores() -> None:
    """Hosts without an inventory at all are valid and have nothing free."""
    made = clouds.snapshot([{"id": "a", "inventories": {}}], [])
    assert json.loads(written(made, OPTIONS))["status"] == target.OPTIMAL


@pytest.mark.parametrize("planner", ["auto", "mip", "search", "greedy"])
def test_ten_million_migrations(planner: str) -> None:
    """A limit far above the number of instances is as good as none."""
    made = clouds.numa_doubles()
    options = dataclasses.replace(OPTIONS, planner=planner, max_migrations=10**7)
    plan = json.loads(written(made, options))
    assert plan["max_migrations"] == 10**7
    assert len(plan["migrations"]) <= 3


def test_bypasses_count() -> None:
    """A gain that takes a bypass is had with three migrations and not with two.

    To exchange i and j, i waits on c: 5, 2 and 1 are free then, and 0, 7 and 1 when j has left.
    """
    made = clouds.exchange()
    plan = json.loads(written(made, dataclasses.replace(OPTIONS, max_migrations=3)))
    assert [(m["instance"], m["dest"], m["role"]) for m in plan["migrations"]] == [
        ("i", "c", "bypass"),
        ("j", "a", "direct"),
        ("i", "b", "direct"),
    ]
    assert [round(m["value_after"], 3) for m in plan["migrations"]] == [0.5, 0.5, 0.0]
    assert (plan["objective"]["after"], plan["status"]) == (0.0, target.OPTIMAL)
    plan = json.loads(written(made, dataclasses.replace(OPTIONS, max_migrations=2)))
    assert (plan["migrations"], plan["objective"]["after"]) == ([], 0.5)
    assert plan["objective"]["bound"] == 0.0
    assert plan["status"] == target.NOTHING_TO_DO


def test_no_time_at_all() -> None:
    """With no time the answer is the start or better, and claims only what is proven."""
    made = clouds.three_hosts()
    for planner in ("greedy", "mip"):
        options = dataclasses.replace(OPTIONS, planner=planner, work_limit=None, time_limit_s=0.0)
        data = written(made, options)
        verdict = checker.check(clouds.as_bytes(made), data)
        assert verdict.ok, verdict
        assert json.loads(data)["status"] == target.TIME_LIMIT
        assert not json.loads(data)["objective"]["bound"]


def test_unknown_cell_is_written_as_the_snapshot_says() -> None:
    """Where a host's cells are of unknown provenance, source_numa is still the snapshot's."""
    made = clouds.snapshot(
        [clouds.numa_host("a"), clouds.numa_host("b")],
        [
            clouds.numa_instance("i", "a", {1: 3}),
            clouds.numa_instance("fixed", "b", {0: 1, 1: 1}, locked=True),
        ],
    )
    made["hosts"][0]["numa"]["provenance"] = "unknown"
    data = written(made, OPTIONS)
    (only,) = json.loads(data)["migrations"]
    assert (only["instance"], only["source_numa"]) == ("i", [1])
    assert checker.check(clouds.as_bytes(made), data).ok


@pytest.mark.parametrize("option", ["goal", "planner"])
def test_unknown_plugin(option: str) -> None:
    """A name that nobody offers is a usage error that names those there are."""
    with pytest.raises(exceptions.UsageError, match=r'no "nothing"; there are: .*(mip|frag)'):
        written(clouds.empty(), dataclasses.replace(OPTIONS, **{option: "nothing"}))


def friends() -> clouds.Document:
    """i would go from a, where j is, to b; they are a soft affinity group, so that parts one pair.

    Free are 2 and 2 cores, then 4 and 0: the rate is 1, then 0.
    """
    fixed = [clouds.instance("j", "a", 4, locked=True), clouds.instance("k", "b", 6, locked=True)]
    return clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 2), *fixed],
        server_groups=[{"id": "g", "policy": "soft-affinity", "members": ["i", "j"]}],
    )


def strangers() -> clouds.Document:
    """i would go from a to b or c, which are alike, but that j is on b: they wish to be apart."""
    made = friends()
    made["hosts"].append(clouds.host("c"))
    made["instances"] = [
        clouds.instance("i", "a", 2),
        clouds.instance("fixed", "a", 4, locked=True),
        clouds.instance("j", "b", 6, locked=True),
        clouds.instance("k", "c", 6, locked=True),
    ]
    made["server_groups"][0]["policy"] = "soft-anti-affinity"
    return made


@pytest.mark.parametrize("planner", ["greedy", "mip", "search"])
@pytest.mark.parametrize(("cost", "moves"), [(0.0, 1), (0.9, 1), (1.5, 0)])
def test_soft_affinity(planner: str, cost: float, moves: int) -> None:
    """A gain of 1 parts a pair that costs 0 or 0.9, not one that costs 1.5."""
    made = friends()
    data = written(made, dataclasses.replace(OPTIONS, planner=planner, soft_group_cost=cost))
    plan = json.loads(data)
    assert len(plan["migrations"]) == moves
    assert checker.check(clouds.as_bytes(made), data).ok
    assert plan["objectives"][-1] == {
        "name": "soft_server_groups",
        "unit": "pairs",
        "weight": cost,
        "before": 0,
        "after": moves,
        "bound": None,
    }


@pytest.mark.parametrize("planner", ["greedy", "mip", "search"])
def test_soft_anti_affinity(planner: str) -> None:
    """Where two hosts are as good, the one without a member is taken, however little it costs."""
    made = strangers()
    options = dataclasses.replace(OPTIONS, planner=planner, soft_group_cost=1e-6)
    plan = json.loads(written(made, options))
    assert [(m["instance"], m["dest"]) for m in plan["migrations"]] == [("i", "c")]
    assert plan["objectives"][-1]["after"] == 0


def test_no_soft_groups() -> None:
    """Without soft groups nothing is said of them."""
    plan = json.loads(written(clouds.anti_affinity_triple(), OPTIONS))
    assert "soft_server_groups" not in {part["name"] for part in plan["objectives"]}


def test_excluded() -> None:
    """Each instance that stays says for which methods, how sure, and until when that holds.

    The snapshot is of midnight. Nova's tasks are over after 5 minutes, people change their minds
    within the hour, and devices are for good. What is paused migrates live, so it is not excluded.
    """
    made = clouds.snapshot(
        [clouds.host("a", 32), clouds.host("b", 32, az="west"), clouds.host("c", 32)],
        [
            clouds.instance("locked", "a", 1, locked=True),
            clouds.instance("busy", "a", 1, task_state="rebooting"),
            clouds.instance("off", "a", 1, status="SHUTOFF"),
            clouds.instance("port", "a", 1, vnic_types=["direct"]),
            clouds.instance("tpm", "a", 1, extra_specs={"hw:tpm_version": "2.0"}),
            clouds.instance("alone", "b", 1),
            clouds.instance("paused", "a", 1, status="PAUSED"),
        ],
    )
    plan = json.loads(written(made, OPTIONS))
    assert schema.problems(schema.PLAN, plan) == []
    found = {
        one["instance"]: (
            one["reason"]["code"],
            "+".join(one["methods"]),
            one["confidence"],
            one["expires_at"],
        )
        for one in plan["excluded"]
    }
    soon, later = "2026-01-01T00:05:00Z", "2026-01-01T01:00:00Z"
    assert found == {
        "locked": ("locked", "live+cold", "certain", later),
        "busy": ("task_state", "live+cold", "certain", soon),
        "off": ("status", "live", "certain", later),
        "port": ("special_ports", "live", "likely", None),
        "tpm": ("vtpm", "live", "certain", None),
        "alone": ("no_host", "live+cold", "certain", later),
    }


def test_a_resource_on_emptied_hosts_alone() -> None:
    """Consolidation may empty the only host that has disk; its share is in the breakdown still.

    i leaves a, which has disk, for b, where j is; nothing that is left offers any.
    """
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 2), clouds.instance("j", "b", 4, locked=True)],
    )
    made["hosts"][0]["inventories"]["DISK_GB"] = {"total": 10}
    data = written(made, dataclasses.replace(OPTIONS, goal="consolidate"))
    plan = json.loads(data)
    assert len(plan["migrations"]) == 1
    (disk,) = [one for one in plan["objectives"] if one["name"] == "used_DISK_GB"]
    assert (disk["before"], disk["after"]) == (0.0, 0.0)
    assert checker.check(clouds.as_bytes(made), data).ok


def test_spare_hosts_where_nothing_moves() -> None:
    """What must stay on is counted also where no instance may be moved at all."""
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance(name, on, 2, locked=True) for name, on in (("i", "a"), ("j", "b"))],
    )
    options = dataclasses.replace(OPTIONS, goal="consolidate", spare_hosts=1, planner="mip")
    data = written(made, options)
    assert json.loads(data)["migrations"] == []
    assert checker.check(clouds.as_bytes(made), data).ok

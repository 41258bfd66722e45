# SPDX-License-Identifier: Apache-2.0
"""What checks leave of a placement: where instances may go, how full hosts may get."""

import dataclasses
import datetime
import importlib.metadata
import pathlib
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import checker
from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.checker import checks as restated
from nova_rebalancer.collect import document
from nova_rebalancer.model import ledger
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.plan import base as plan_base
from tests import clouds
from tests import plugins
from tests.unit import test_controller


def narrow(made: clouds.Document, *texts: str, **options: Any) -> state.PlacementState:
    """The arrays of a document under some checks."""
    chosen = controller.checks_of({"checks": texts, **options})
    return narrowed.build(clouds.facts_of(made), rules.Settings(checks=chosen))


def hosts_for(start: state.PlacementState, name: str) -> list[str]:
    """Where an instance may go now; nowhere if it must not move."""
    v = start.instances.index(name)
    if not start.movable[v]:
        return []
    return [start.hosts[h] for h in ledger.Ledger(start).hosts_with_room(v)]


def two(used: int, **facts: Any) -> clouds.Document:
    """i of 4 cores on a; b with so many of its 8 cores taken, at 2 for 1 promised."""
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 4, **facts), clouds.instance("j", "b", used)],
    )
    made["hosts"][1]["inventories"]["VCPU"]["allocation_ratio"] = 2.0
    return made


@pytest.mark.parametrize(
    ("texts", "used", "fits"),
    [
        # b promises 16 cores and has 8.
        ((), 12, True),
        (("overcommit=1",), 4, True),
        (("overcommit=1",), 5, False),
        (("overcommit=1.5",), 8, True),
        (("overcommit=1.5",), 9, False),
        (("overcommit=4",), 12, True),
        (("overcommit=MEMORY_MB:1",), 12, True),
        (("overcommit=MEMORY_MB:1,VCPU:1",), 5, False),
        # A quarter of 16 cores is 4.
        (("headroom=0.25",), 8, True),
        (("headroom=0.25",), 9, False),
        (("headroom=MEMORY_MB:0.25",), 12, True),
        # Both hold: 8 cores, and 12 of 16.
        (("headroom=0.25", "overcommit=1"), 4, True),
        (("headroom=0.25", "overcommit=1"), 5, False),
        # What is fuller already receives nothing.
        (("overcommit=1",), 12, False),
    ],
)
def test_how_full(texts: tuple[str, ...], used: int, fits: bool) -> None:
    """A host takes what Placement and every check leave room for, and not one core more."""
    assert hosts_for(narrow(two(used), *texts), "i") == (["b"] if fits else [])


def test_capacity_itself_is_as_placement_has_it() -> None:
    """What checks leave is a resource of its own; goals and warnings go by Placement's."""
    plain, start = clouds.state_of(two(12)), narrow(two(12), "overcommit=1")
    assert start.resources == (*plain.resources, "VCPU@checked")
    assert (start.capacity[:, : len(plain.resources)] == plain.capacity).all()
    assert start.overfull() == plain.overfull() == []


def test_pool() -> None:
    """A shared pool is one inventory: what leaves 8 of its 10 GB lets nothing in from outside."""
    made = clouds.shared_pool(12)
    assert hosts_for(narrow(made), "k") == ["a", "b"]
    assert hosts_for(narrow(made, "headroom=DISK_GB:0.2"), "k") == []
    # i and j change hosts inside of the pool all the same.
    assert hosts_for(narrow(made, "headroom=DISK_GB:0.2"), "i") == ["b", "c"]


@pytest.mark.parametrize(
    ("text", "facts", "stays"),
    [
        ("backup", {"tags": ["backup"]}, True),
        ("backup", {"tags": ["backups"]}, False),
        ("backup=nightly", {"tags": ["backup"]}, False),
        ("backup=nightly", {"tags": ["nightly", "web"]}, True),
        ("converges", {}, False),
        (
            "converges",
            {"usage": {"MEMORY_DIRTY_MIBPS": {"mean": 2000, "window_s": 1, "age_s": 0}}},
            True,
        ),
    ],
)
def test_what_stays(text: str, facts: dict[str, Any], stays: bool) -> None:
    """An instance that a check keeps is excluded, with the check's reason."""
    start = narrow(two(4, **facts), text)
    assert (0 in start.excluded) == stays
    if stays:
        why = start.excluded[0].reason
        assert (why.code, why.params["check"]) == ("check", text.partition("=")[0])
        assert "i " in why.text
        assert hosts_for(start, "i") == []


def soft(policy: str) -> clouds.Document:
    """i on a and j on b are in a soft group, k on b is not."""
    made = clouds.snapshot(
        [clouds.host(name) for name in "abc"],
        [clouds.instance(name, on, 2) for name, on in (("i", "a"), ("j", "b"), ("k", "b"))],
        server_groups=[{"id": "g", "policy": policy, "members": ["i", "j"]}],
    )
    return made


def test_soft_groups_as_hard_ones() -> None:
    """i does not come to j; where they are to be together, who is with another one stays."""
    assert hosts_for(narrow(soft("soft-anti-affinity")), "i") == ["b", "c"]
    assert hosts_for(narrow(soft("soft-anti-affinity"), "groups"), "i") == ["c"]
    together = soft("soft-affinity")
    assert hosts_for(narrow(together, "groups"), "i") == ["b", "c"]
    together["instances"][0]["host"] = "b"
    assert hosts_for(narrow(together, "groups"), "i") == []
    assert hosts_for(narrow(together, "groups"), "k") == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("headroom", "--check headroom: write SHARE"),
        ("headroom=1", "--check headroom=1: 1 is not a number from 0 to below 1"),
        ("headroom=VCPU:x", "write SHARE, or CLASS:SHARE"),
        ("headroom=nan", "not a number from 0 to below 1"),
        ("headroom=:0.1", "nor CLASS:NUMBER"),
        ("overcommit=-1", "not a number from 0"),
        ("overcommit=", "write RATIO"),
        ("groups=1", "--check groups=1: it takes no value"),
        ("converges=1", "it takes no value"),
        ("backup=", "write a tag"),
        ("more", 'checks: no "more"; there are: backup, converges, groups, headroom, overcommit'),
    ],
)
def test_wrong_values(text: str, says: str) -> None:
    """A check that is none, or has a value that is none, is named with what to write."""
    with pytest.raises(exceptions.UsageError) as caught:
        narrow(two(4), text)
    assert says in str(caught.value)


OWN = """\
from nova_rebalancer.model.checks import base


class Basement(base.Check):
    def __init__(self, prefix):
        self.prefix = prefix

    def arrival(self, instance, dest):
        if dest.id.startswith(self.prefix):
            return base.refuse(f"{dest.service_host} is in the basement", host=dest.id)
        return base.PASS


def make(snapshot, value, options):
    return Basement(value or "b")
"""


@pytest.fixture
def own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution of an operator's with the check ``basement``, installed."""
    names = "basement = mine:make"
    plugins.install(tmp_path, monkeypatch, "nova_rebalancer.checks", names, OWN)


def test_operators_own(own: None) -> None:
    """A check of another distribution forbids hosts; who has no other one left is excluded."""
    made = clouds.three_hosts()
    assert hosts_for(narrow(made), "j") == ["b", "c"]
    assert hosts_for(narrow(made, "basement"), "j") == ["c"]
    start = narrow(two(4), "basement=b")
    why = start.excluded[0].reason
    assert why.params == {"check": "basement", "host": "b"}
    assert why.text == "check basement: b is in the basement"


def test_checker_says_what_it_cannot_judge(own: None) -> None:
    """The plan keeps to a check of an operator's, and the checker says that it does not know it."""
    made = clouds.three_hosts()
    options = dataclasses.replace(test_controller.OPTIONS, checks=("basement", "headroom=0"))
    data = test_controller.written(made, options)
    verdict = checker.check(clouds.as_bytes(made), data)
    assert verdict.ok, verdict
    assert verdict.detail.endswith("checks that cannot be judged here: basement")


TEXTS = st.lists(
    st.sampled_from(
        [
            "overcommit=1",
            "overcommit=VCPU:0.7",
            "headroom=0.25",
            "headroom=0.5",
            "headroom=VCPU:0.1,DISK_GB:0.3",
            "groups",
            "backup",
            "converges",
        ]
    ),
    min_size=1,
    max_size=3,
    unique=True,
).map(tuple)


@st.composite
def careful_clouds(draw: st.DrawFn) -> clouds.Document:
    """Random clouds in which some instances have tags, write memory, and are in soft groups."""
    made = draw(clouds.snapshots(4, 7))
    for one in made["instances"]:
        if draw(st.integers(0, 5)) == 0:
            one["tags"] = ["backup"]
        if draw(st.integers(0, 5)) == 0:
            mean = draw(st.sampled_from([10, 900, 1000, 3000]))
            one["usage"] = {"MEMORY_DIRTY_MIBPS": {"mean": mean, "window_s": 1.0, "age_s": 1.0}}
    for host in made["hosts"]:
        for inventory in host["inventories"].values():
            inventory["allocation_ratio"] = draw(st.sampled_from([1.0, 1.5]))
    names = [one["id"] for one in made["instances"]]
    policies = ("soft-anti-affinity", "soft-affinity")
    made.setdefault("server_groups", []).extend(
        {
            "id": policy,
            "policy": policy,
            "members": draw(st.lists(st.sampled_from(names), max_size=4)),
        }
        for policy in policies
    )
    return made


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    careful_clouds(),
    TEXTS,
    st.sampled_from(["greedy", "mip", "search"]),
    st.sampled_from(["fragmentation", "consolidate", "balance", "repair"]),
    st.integers(0, 1),
)
def test_plans_keep_to_checks(
    made: clouds.Document, texts: tuple[str, ...], planner: str, goal: str, spare: int
) -> None:
    """Whatever the cloud, the checks and the goal, the checker accepts each planner's plan."""
    options = dataclasses.replace(
        test_controller.OPTIONS, planner=planner, checks=texts, goal=goal, spare_hosts=spare
    )
    try:
        data = test_controller.written(made, options)
    except exceptions.UsageError as error:
        # A cloud that carries nothing at all has nothing to balance.
        assert "no host of this cloud carries any" in str(error)
        return
    verdict = checker.check(clouds.as_bytes(made), data)
    assert verdict.ok, verdict


@hypothesis.settings(max_examples=30)
@hypothesis.given(careful_clouds(), TEXTS)
def test_arrays_and_checker_agree(made: clouds.Document, texts: tuple[str, ...]) -> None:
    """A single migration is one that the narrowed arrays allow if and only if the checker does."""
    snapshot, sha256 = document.loads(clouds.as_bytes(made), "cloud.json")
    options = dataclasses.replace(test_controller.OPTIONS, checks=texts, goal="consolidate")
    start = narrowed.build(snapshot, options.settings(snapshot))
    plain = state.build(snapshot)
    book = ledger.Ledger(plain)
    for v in range(len(start.instances)):
        if not plain.movable[v] or plain.guests_of[v]:
            continue
        for h in book.hosts_with_room(v).tolist():
            allowed = start.movable[v] and h in ledger.Ledger(start).hosts_with_room(v)
            data = single(snapshot, sha256, options, v, h)
            verdict = checker.check(clouds.as_bytes(made), data)
            assert (verdict.kind in (None, "objective")) == allowed, (verdict, texts)


def single(snapshot: Any, sha256: str, options: controller.Options, v: int, h: int) -> bytes:
    """A plan of one migration, whoever may judge it; its objective is not computed."""
    plan = controller.run(
        snapshot, sha256, dataclasses.replace(options, max_migrations=0), plan_base.Watch()
    )
    now = datetime.datetime.now(datetime.UTC)
    made = plan_document.document(plan, "x", now, 3600.0, {"test": "1"})
    start = plan.start
    made["max_migrations"] = 1
    made["excluded"] = []
    made["migrations"] = [
        {
            "id": "m1",
            "instance": start.instances[v],
            "source": start.service_hosts[start.host_of[v]],
            "dest": start.service_hosts[h],
            "source_numa": None,
            "dest_numa": None,
            "role": "direct",
            "method": "live",
            "wave": 1,
            "depends_on": [],
            "start_s": 0.0,
            "end_s": 1.0,
            "memory_mib": 1,
            "reason": {"code": "improves_goal", "params": {}, "text": ""},
        }
    ]
    return plan_document.dumps(made)


def test_every_check_is_restated() -> None:
    """The checker knows each check that comes with the package."""
    ours = importlib.metadata.distribution("nova-rebalancer").entry_points
    group = "nova_rebalancer.checks"
    assert {one.name for one in ours if one.group == group} == restated.KNOWN.keys()

# SPDX-License-Identifier: Apache-2.0
"""What is explained is what the planners obey, and both are the rules, taken one by one."""

from collections.abc import Iterator
import importlib.util
import pathlib
import random
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import explanation
from nova_rebalancer.model import ledger
from nova_rebalancer.model import scope
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from tests import clouds
from tests.unit.path import nova_clouds

PATH = pathlib.Path(__file__).parents[3] / "benchmarks" / "mixed_clouds.py"

IGNORED = st.frozensets(st.sampled_from(sorted(constraints.IGNORABLE)), max_size=4)


def with_gpus(seed: int) -> clouds.Document:
    """A small cloud whose hosts have GPUs of two kinds, and instances that use them."""
    rng = random.Random(seed)
    made = clouds.Draw(seed, 4, 8).document()
    for one in made["hosts"]:
        one["providers"] = [
            {
                "id": f"{one['id']}-gpu{slot}",
                "name": f"gpu{slot}",
                "parent": one["id"],
                "inventories": {"VGPU": {"total": 2, "max_unit": rng.choice([1, 2])}},
                "traits": rng.choice([[], ["CUSTOM_FAST"], ["CUSTOM_FAST", "CUSTOM_NEW"]]),
            }
            for slot in range(rng.randint(0, 2))
        ]
    names = {one["id"]: [gpu["id"] for gpu in one["providers"]] for one in made["hosts"]}
    for one in made["instances"]:
        one.pop("nested", None)
        if names[one["host"]] and rng.random() < 0.6:
            one["nested"] = {rng.choice(names[one["host"]]): {"VGPU": rng.choice([1, 1, 2])}}
    return made


SMALL = st.one_of(
    clouds.snapshots(4, 8),
    st.integers(0, 2**32 - 1).map(with_gpus),
    st.integers(0, 2**32 - 1).map(lambda seed: nova_clouds.Draw(seed, 4, 10).document()),
)


def mixed(seed: int, hosts: int = 20) -> clouds.Document:
    """A cloud of the benchmarks with every kind of rule; the generator is no part of the tests.

    With 40 hosts two of them have GPUs.
    """
    spec = importlib.util.spec_from_file_location("mixed_clouds", PATH)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: clouds.Document = module.cloud(seed, hosts, 8 * hosts)
    return made


def drawn(made: clouds.Document, data: st.DataObject) -> base.Settings:
    """Settings that name hosts and instances of the cloud."""
    hosts = [one.get("service_host") or one["id"] for one in made["hosts"]]
    said = st.dictionaries(
        st.sampled_from([one["id"] for one in made["instances"]]),
        st.lists(st.sampled_from(hosts), min_size=1, max_size=3, unique=True).map(tuple),
        max_size=2,
    )
    return base.Settings(
        ignored_rules=data.draw(IGNORED),
        opt_in=data.draw(st.sampled_from([False, False, False, True])),
        banned_hosts=data.draw(st.frozensets(st.sampled_from(hosts), max_size=1)),
        pins=data.draw(said),
        bans=data.draw(said),
        numa_packing=data.draw(st.booleans()),
    )


def plain_hosts(snapshot: cloud.Snapshot) -> tuple[cloud.Host, ...]:
    """The hosts with the inventories that their pools give them."""
    pools = {pool.id: pool for pool in snapshot.pools}
    return tuple(state.with_pools(host, pools) for host in snapshot.hosts)


def agree(snapshot: cloud.Snapshot, settings: base.Settings) -> Iterator[bool]:
    """Compare what is explained with the ledger; yield whether each move is possible."""
    start = state.build(snapshot, settings)
    book = ledger.Ledger(start)
    explainer = explanation.Explainer(snapshot, settings)
    for v, instance in enumerate(snapshot.instances):
        found = explainer.of(instance)
        assert [verdict.host for verdict in found.verdicts] == list(start.service_hosts)
        reachable = []
        for h, verdict in enumerate(found.verdicts):
            assert verdict.here == (h == start.host_of[v])
            fits = book.has_room(v, h) and book.free_cells(v, h) is not None
            told = [(refusal.rule, refusal.text) for refusal in verdict.refusals]
            assert verdict.possible == fits, (instance.id, verdict.host, told)
            assert verdict.here or verdict.possible or all(rule and text for rule, text in told)
            reachable.append(fits)
        if found.stays:
            assert v in start.excluded and not start.movable[v]
        elif any(reachable):
            assert start.movable[v]
        yield from reachable


def plainly(snapshot: cloud.Snapshot, settings: base.Settings) -> Iterator[bool]:
    """Compare the planners' masks with the rules; yield whether each host is allowed."""
    start = state.build(snapshot, settings)
    hosts = plain_hosts(snapshot)
    view = base.View(snapshot, hosts, settings)
    for v, instance in enumerate(snapshot.instances):
        here = hosts[start.host_of[v]]
        allowed = start.allowed[start.eligibility_of[v]]
        for h, dest in enumerate(hosts):
            if dest is here:
                continue
            refusals = list(constraints.violations(view, instance, here, dest))
            assert allowed[h] == (not refusals), (instance.id, dest.id, refusals)
            yield bool(allowed[h])


@hypothesis.settings(max_examples=120)
@hypothesis.given(SMALL, st.data())
def test_explained_is_planned(made: clouds.Document, data: st.DataObject) -> None:
    """An instance could go to a host now if and only if the planners' ledger takes it there."""
    for _ in agree(clouds.facts_of(made), drawn(made, data)):
        pass


@hypothesis.settings(max_examples=120)
@hypothesis.given(SMALL, st.data())
def test_masks(made: clouds.Document, data: st.DataObject) -> None:
    """A host is in the mask of an instance if and only if no rule by itself forbids it."""
    for _ in plainly(clouds.facts_of(made), drawn(made, data)):
        pass


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mixed_clouds(seed: int) -> None:
    """So on clouds in which every rule finds something; some hosts are allowed, most are not."""
    snapshot = document.snapshot(mixed(seed), "mixed")
    for compare in (agree, plainly):
        answers = list(compare(snapshot, base.DEFAULTS))
        assert 0.01 < sum(answers) / len(answers) < 0.5


def test_mixed_clouds_with_settings() -> None:
    """So where the operator ignores what may be ignored, pins, bans and plans for two zones."""
    whole = document.snapshot(mixed(3, 40), "mixed")
    snapshot = scope.parse(["az=az-north", "az=az-middle"]).narrow(whole)
    hosts = [host.service_host for host in snapshot.hosts]
    names = [one.id for one in snapshot.instances]
    settings = base.Settings(
        ignored_rules=frozenset(constraints.IGNORABLE),
        banned_hosts=frozenset(hosts[:2]),
        pins={name: tuple(hosts[n % 5 : n % 5 + 9]) for n, name in enumerate(names[::3])},
        bans={name: tuple(hosts[n % 7 : n % 7 + 3]) for n, name in enumerate(names[::4])},
        numa_packing=True,
    )
    for compare in (agree, plainly):
        # All of them, not the first only.
        assert any(list(compare(snapshot, settings)))


def test_each_reason() -> None:
    """Everything that forbids a host is named: rules, and what is full or taken just now.

    i (4 cores) may not leave zone east and is pinned to b; c is in zone west, has 2 cores left and
    a member of i's group.
    """
    made = clouds.snapshot(
        [clouds.host("a", az="east"), clouds.host("b", az="east"), clouds.host("c", az="west")],
        [clouds.instance("i", "a", 4), clouds.instance("j", "c", 6)],
        server_groups=[{"id": "g", "policy": "anti-affinity", "members": ["i", "j"]}],
    )
    snapshot = clouds.facts_of(made)
    explainer = explanation.Explainer(snapshot, base.Settings(pins={"i": ("b",)}))
    found = explainer.of(explanation.find(snapshot, "i"))
    assert not found.stays and found.host.id == "a"
    assert [(verdict.here, verdict.possible) for verdict in found.verdicts] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    rules = [refusal.rule for refusal in found.verdicts[2].refusals]
    assert rules == ["allowed_hosts", "keep_zone", "capacity", "anti_affinity"]
    texts = [refusal.text for refusal in found.verdicts[2].refusals]
    assert "c has 2 VCPU left, it needs 4" in texts
    assert any("group g" in text for text in texts)


def test_conflicts_are_counted() -> None:
    """Of i's partners the host holds j; k is on its way from c to d, which are both barred."""
    made = clouds.conflict_triple()
    made["running_migrations"] = [{"instance": "k", "source": "c", "dest": "d"}]
    snapshot = clouds.facts_of(made)
    explainer = explanation.Explainer(snapshot, base.DEFAULTS)
    found = explainer.of(explanation.find(snapshot, "i"))
    assert [verdict.possible for verdict in found.verdicts] == [False] * 4
    assert [[one.rule for one in verdict.refusals] for verdict in found.verdicts[1:]] == [
        ["conflicts"]
    ] * 3
    assert [verdict.refusals[0].text for verdict in found.verdicts[1:]] == [
        "b holds 1 of the 2 instances that it must not be with: j",
        "c holds 1 of the 2 instances that it must not be with: k",
        "an instance that it must not be with is migrating from or to d",
    ]


def test_cells_are_told() -> None:
    """Where an instance with a topology could go, its cells there are told by their numbers."""
    snapshot = clouds.facts_of(clouds.numa_doubles())
    found = explanation.Explainer(snapshot, base.DEFAULTS).of(explanation.find(snapshot, "single"))
    assert [verdict.note for verdict in found.verdicts] == ["NUMA cells 0", ""]


NAMED = clouds.snapshot(
    [clouds.host("a")],
    [
        clouds.instance("i", "a") | {"name": "web"},
        clouds.instance("j", "a") | {"name": "db"},
        clouds.instance("k", "a") | {"name": "db"},
        # Its name is the id of another.
        clouds.instance("m", "a") | {"name": "i"},
    ],
    outside=[{"id": "away", "name": "lost", "reason": "cell_down"}],
)


@pytest.mark.parametrize(("name", "found"), [("i", "i"), ("web", "i"), ("j", "j"), ("m", "m")])
def test_find(name: str, found: str) -> None:
    """An id is found, or a name that one instance has; an id goes before a name."""
    assert explanation.find(clouds.facts_of(NAMED), name).id == found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nobody", "no instance of the snapshot is called so"),
        ("db", "2 are called so: j, k"),
        ("away", r"on no host of the snapshot \(cell_down\)"),
        ("lost", r"on no host of the snapshot \(cell_down\)"),
    ],
)
def test_not_found(name: str, text: str) -> None:
    """What is not there, not alone or elsewhere is a usage error that says so."""
    with pytest.raises(exceptions.UsageError, match=text):
        explanation.find(clouds.facts_of(NAMED), name)


@hypothesis.settings(max_examples=50)
@hypothesis.given(SMALL, st.data())
def test_what_is_lifted_opens_hosts(made: clouds.Document, data: st.DataObject) -> None:
    """With the least that may be lifted ignored the hosts named are possible, with less none is.

    Devices are left out: where they may move, the NUMA cells that they are near are not known, and
    not all of them may be moved at all.
    """
    snapshot = document.loads(clouds.as_bytes(made), "cloud.json")[0]
    settings = drawn(made, data)
    explainer = explanation.Explainer(snapshot, settings)
    ignorable = set(constraints.IGNORABLE) - {"pci_devices", "special_ports", "nested_resources"}
    for instance in snapshot.instances:
        lifted, hosts = explainer.of(instance).least()
        if lifted and ignorable.issuperset(lifted):
            assert set(hosts) <= set(explanation.relieved(snapshot, settings, instance, lifted))
            for rule in lifted:
                fewer = set(lifted) - {rule}
                assert not explanation.relieved(snapshot, settings, instance, fewer)
        else:
            assert bool(lifted) == bool(hosts)


def test_what_must_not_be_ignored_relieves_nobody() -> None:
    """Of two units of a device Nova may find no provider, and a status is no rule to ignore."""
    gpu = {"id": "a-gpu", "name": "gpu", "parent": "a", "inventories": {"VGPU": {"total": 4}}}
    hosts = [clouds.host(n, providers=[gpu | {"id": f"{n}-gpu", "parent": n}]) for n in "ab"]
    two = clouds.instance("two", "a", nested={"a-gpu": {"VGPU": 2}})
    one = clouds.instance("one", "a", 2, nested={"a-gpu": {"VGPU": 1}})
    off = clouds.instance("off", "a", 1, status="SHUTOFF")
    snapshot = clouds.facts_of(clouds.snapshot(hosts, [two, one, off]))
    explainer = explanation.Explainer(snapshot, base.DEFAULTS)
    for instance, rules, then in zip(
        snapshot.instances,
        [("nested_resources",), ("nested_resources",), ("status",)],
        [(), ("b",), ()],
        strict=True,
    ):
        assert explainer.of(instance).least() == (rules, ("b",))
        assert explanation.relieved(snapshot, base.DEFAULTS, instance, rules) == then

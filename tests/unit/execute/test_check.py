# SPDX-License-Identifier: Apache-2.0
"""The last look before a request."""

import dataclasses
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import controller
from nova_rebalancer.execute import check
from nova_rebalancer.model import cloud as facts
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.sim import cloud
from nova_rebalancer.store import records
from tests import clouds
from tests.unit.execute import entries

MOVE = entries.entry("i", "nova-a", "nova-b", state="PLANNED")
"""What is asked for: i from a to b."""


def hosts(**of_b: Any) -> list[clouds.Document]:
    """Hosts a, b, c and d of 8 cores; b with other facts."""
    return [
        clouds.host(name, service_host=f"nova-{name}", **(of_b if name == "b" else {}))
        for name in "abcd"
    ]


def small(
    of_i: clouds.Document | None = None, others: tuple[Any, ...] = (), **changes: Any
) -> facts.Snapshot:
    """i of 4 cores on a, j of 4 on b, k of 2 on c: exactly room enough for i on b."""
    made = clouds.snapshot(
        changes.pop("hosts", hosts()),
        [
            clouds.instance("i", **{"on": "a", **(of_i or {})}),
            clouds.instance("j", "b", changes.pop("j", 4)),
            clouds.instance("k", "c", 2),
            *others,
        ],
        **changes,
    )
    return clouds.facts_of(made)


def look(
    snapshot: facts.Snapshot,
    *flying: records.Entry,
    entry: records.Entry = MOVE,
    cold: bool = False,
    **settings: Any,
) -> tuple[str, bool] | None:
    """Code of what was found, and whether it passes."""
    found = check.last_look(entry, snapshot, flying, rules.Settings(**settings), cold)
    if found is None:
        return None
    assert found.text
    return found.code, found.passing


def test_fits():
    """Nothing keeps an instance from where it has exactly the room it needs."""
    assert look(small()) is None


def foreign(instance: str, source: str, dest: str | None) -> clouds.Document:
    """A migration that is not ours."""
    running = {"instance": instance, "source": source, "dest": dest, "type": "evacuation"}
    return {"running_migrations": [running]}


def busy(name: str, snapshot: facts.Snapshot) -> facts.Snapshot:
    """The same, and Nova is doing something with an instance."""
    there = {one.id: one for one in snapshot.instances}
    there[name] = dataclasses.replace(there[name], task_state="rebuilding")
    return dataclasses.replace(snapshot, instances=tuple(there.values()))


LACK = {"what": "allocations", "reason": "changed while it was read"}


def group(policy: str, *members: str) -> clouds.Document:
    """One server group."""
    return {"server_groups": [{"id": "g", "policy": policy, "members": [*members]}]}


@pytest.mark.parametrize(
    ("snapshot", "code", "passing"),
    [
        (small({"on": "c"}), "moved", False),
        (small(hosts=hosts(status="disabled")), "usable", False),
        (small(hosts=hosts(state="down")), "usable", False),
        (small(hosts=hosts(forced_down=True)), "usable", False),
        (small(hosts=hosts(traits=["COMPUTE_STATUS_DISABLED"])), "usable", False),
        (small(hosts=hosts(az="elsewhere")), "keep_zone", False),
        (small(j=5), "no_room", True),
        (small({"locked": True}), "locked", False),
        (small({"allow_migration": False}), "opted_out", False),
        (small({"tags": ["nova-rebalancer:stay"]}), "opted_out", False),
        (small({"metadata": {"nova-rebalancer:allow-migration": "no"}}), "opted_out", False),
        (small({"task_state": "image_snapshot"}), "task_state", True),
        (small({"status": "SHUTOFF"}), "status", False),
        (small({"status": "ERROR"}), "status", False),
        (small({"allowed_hosts": ["a", "c"]}), "allowed_hosts", False),
        (small(missing=[{**LACK, "hosts": ["b"]}]), "not_read", True),
        (small(missing=[{**LACK, "hosts": ["c"]}]), None, False),
        (small(**group("anti-affinity", "i", "j")), "group", True),
        (small(**group("anti-affinity", "i", "k")), None, False),
        (small(**group("affinity", "i", "k")), "affinity", False),
        (small(**group("soft-anti-affinity", "i", "j")), None, False),
        (busy("i", small(**foreign("i", "a", None))), "foreign", True),
        (busy("i", small(**foreign("i", "a", "b"))), "foreign", True),
        (busy("k", small(**foreign("k", "c", "a"))), "foreign", True),
        (busy("k", small(**foreign("k", "c", "b"))), "foreign", True),
        (busy("j", small(**foreign("j", "b", "c"))), "foreign", True),
        (busy("j", small(**foreign("j", "b", None))), "foreign", True),
        (busy("k", small(**foreign("k", "c", "d"))), None, False),
        (small(**foreign("k", "c", "a")), None, False),
        (small(**foreign("k", "c", "b")), "no_room", True),
    ],
)
def test_looks_at(snapshot, code, passing):
    """Whatever came between plan and request stops it; what may pass is told from what stays."""
    assert look(snapshot) == (None if code is None else (code, passing))


def test_gone():
    """An instance that is nowhere is not asked for."""
    snapshot = small()
    left = dataclasses.replace(snapshot, instances=snapshot.instances[1:])
    assert look(left) == ("gone", False)


@pytest.mark.parametrize("end", ["source", "dest"])
def test_hosts_that_are_gone(end):
    """A host that is not read, or not planned for, is neither left nor entered."""
    assert look(small(), entry=dataclasses.replace(MOVE, **{end: "x"})) == ("no_host", False)


def test_a_source_that_is_down():
    """Nothing leaves a host that is down: nobody is there to send it."""
    broken = hosts()
    broken[0]["state"] = "down"
    assert look(small(hosts=broken)) == ("host_not_usable", False)


def test_the_operators_settings():
    """Pins, bans, opt-in and what was learnt hold here as in the plan."""
    assert look(small(), bans={"i": ("nova-b",)}) == ("banned_hosts", False)
    assert look(small(), pins={"i": ("nova-a",)}) == ("allowed_hosts", False)
    assert look(small(), banned_hosts=frozenset({"nova-b"})) == ("banned_hosts", False)
    assert look(small(), opt_in=True) == ("not_opted_in", False)
    assert look(small(), learnt={"i": "failed"}) == ("learnt", False)
    moved = rules.moment(small().taken_at)
    assert look(small(), cooldown_h=1.0, last_moved={"i": moved}) == ("cooldown", False)
    assert look(small(), cooldown_h=0.0, last_moved={"i": moved}) is None
    tagged = small({"tags": ["nova-rebalancer:move"]})
    assert look(tagged, opt_in=True) is None


# NUMA


def celled(cores: int, **changes: Any) -> facts.Snapshot:
    """i needs 3 of the 4 cores of a cell; of both cells of b so many are taken."""
    made = clouds.snapshot(
        [clouds.numa_host("a"), clouds.numa_host("b"), clouds.numa_host("c")],
        [
            clouds.numa_instance("i", "a", {0: 3}),
            clouds.numa_instance("j", "b", {0: cores}),
            clouds.numa_instance("k", "b", {1: cores}),
            clouds.numa_instance("m", "c", {1: 1}),
        ],
        **changes,
    )
    return clouds.facts_of(made)


def test_numa_room():
    """Of b's 8 cores 4 are free, yet in no cell 3; with 3 free in each it fits."""
    entry = dataclasses.replace(MOVE, source="a", dest="b")
    assert look(celled(2), entry=entry) == ("no_room", True)
    assert look(celled(1), entry=entry) is None


def nova_host(name: str) -> facts.Host:
    """A host of two cells of 4 shared CPUs, known well enough to say what Nova chooses."""
    cells = tuple(
        facts.NumaCell(
            n,
            {"VCPU": 4, "MEMORY_MB": 8192},
            facts.CellDetail(
                frozenset(range(4 * n, 4 * n + 4)), frozenset(), (), 8192, {4: 2097152}
            ),
        )
        for n in (0, 1)
    )
    inventories = {"VCPU": facts.Inventory(8), "MEMORY_MB": facts.Inventory(16384)}
    return facts.Host(name, name, inventories, numa=facts.HostNuma("operator", cells))


def nova_cloud(taken: int) -> facts.Snapshot:
    """A live cloud: i of 3 cores in a cell of a, j of so many on b, k of 1 on c."""

    def instance(name: str, on: str, cores: int) -> facts.Instance:
        amounts = {"VCPU": cores, "MEMORY_MB": 1024}
        return facts.Instance(
            name,
            on,
            amounts,
            numa=(facts.GuestCell(0, amounts),),
            extra_specs={"hw:numa_nodes": "1"},
        )

    return facts.Snapshot(
        cloud="live",
        taken_at="2026-01-01T00:00:00Z",
        numa_choice="nova",
        hosts=tuple(nova_host(name) for name in "abc"),
        instances=(instance("i", "a", 3), instance("j", "b", taken), instance("k", "c", 1)),
    )


@pytest.mark.parametrize(("source", "dest"), [("c", "b"), ("b", "c")])
def test_our_own_numa_migrations_pass(source, dest):
    """Which cells of b are free is not known while one of ours leaves or enters: that passes."""
    entry = dataclasses.replace(MOVE, source="a", dest="b")
    snapshot = nova_cloud(1)
    assert look(snapshot, entry=entry) is None
    own = entries.entry("k" if source == "c" else "j", source, dest)
    found = look(snapshot, own, entry=entry)
    assert found is not None and found[1]


def test_numa_cells_that_nobody_told():
    """Without a facts file it stays where it is, and no time will help."""
    entry = dataclasses.replace(MOVE, source="a", dest="b")
    snapshot = nova_cloud(1)
    bare = tuple(dataclasses.replace(host, numa=None) for host in snapshot.hosts)
    assert look(dataclasses.replace(snapshot, hosts=bare), entry=entry) == ("numa_unknown", False)


# What is ours

ALSO = entries.entry("k", "nova-c", "nova-b")
"""Ours, in flight to the same host; k has 2 cores."""


@pytest.mark.parametrize(
    "shown",
    [{}, foreign("k", "c", None), foreign("k", "c", "b")],
    ids=["not shown", "no destination yet", "shown"],
)
def test_ours_are_charged_once(shown):
    """What we have in flight takes its room at the destination, whether Nova shows it or not.

    b has 8 cores: with j and k there are 4 left for i if j has 2, and 3 if j has 3.
    """
    assert look(small(j=2, **shown), ALSO) is None
    assert look(small(j=3, **shown), ALSO) == ("no_room", True)


def test_ours_count_for_their_group():
    """Two members of an anti-affinity group do not meet where both are still on their way to."""
    apart = small(j=0, **group("anti-affinity", "i", "k"))
    assert look(apart) is None
    assert look(apart, ALSO) == ("group", True)


def test_ours_elsewhere_do_not_matter():
    """What moves between other hosts, or is not in the facts at all, changes nothing."""
    assert look(small(), entries.entry("k", "nova-c", "nova-d")) is None
    assert look(small(), entries.entry("far", "nova-x", "nova-b")) is None
    assert look(small(), entries.entry("k", "nova-c", "nova-x")) is None


# Cold migrations

COLD = dataclasses.replace(MOVE, method="cold")
OFF = {"status": "SHUTOFF", "power_state": 4}


def test_cold():
    """An instance that is off goes cold, if the operator lets it, and by the same rules."""
    assert look(small(OFF), entry=COLD, cold=True) is None
    assert look(small(OFF), entry=COLD) == ("cold", False)
    assert look(small(), entry=COLD, cold=True) == ("status", False)
    assert look(small({**OFF, "locked": True}), entry=COLD, cold=True) == ("locked", False)
    busy = small({**OFF, "task_state": "powering-on"})
    assert look(busy, entry=COLD, cold=True) == ("task_state", True)
    assert look(small(OFF, j=5), entry=COLD, cold=True) == ("no_room", True)


# Laws


@hypothesis.given(clouds.snapshots(4, 8))
@hypothesis.settings(max_examples=100)
def test_judges_as_the_planner_does(made):
    """With nothing under way it lets through exactly what could be planned from these facts."""
    made.pop("running_migrations", None)
    snapshot = clouds.facts_of(made)
    placement = state.build(snapshot)
    book = ledger.Ledger(placement)
    for v, instance in enumerate(snapshot.instances):
        stays = v in placement.excluded and placement.excluded[v].reason.code != "no_host"
        source = snapshot.hosts[placement.host_of[v]]
        for h, dest in enumerate(snapshot.hosts):
            if dest is source:
                continue
            entry = entries.entry(instance.id, source.service_host, dest.service_host)
            fits = not stays and book.cells_for(v, h) is not None
            assert (look(snapshot, entry=entry) is None) == fits


@hypothesis.given(
    clouds.snapshots(4, 8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=12)
)
@hypothesis.settings(max_examples=150)
def test_nova_may_show_none_of_ours(made, orders):
    """Even if none of ours is shown, the cloud starts all that is let through, one by one.

    But for NUMA cells where the planner chooses them: nobody says which ones those in flight get.
    """
    made.pop("running_migrations", None)
    snapshot = clouds.facts_of(made)
    sim = cloud.SimCloud(snapshot)
    flying: list[records.Entry] = []
    for v, h in orders:
        instance = snapshot.instances[v % len(snapshot.instances)]
        dest = snapshot.hosts[h % len(snapshot.hosts)]
        source = next(one for one in snapshot.hosts if one.id == instance.host)
        if dest is source or instance.id in {one.instance for one in flying}:
            continue
        entry = entries.entry(instance.id, source.service_host, dest.service_host)
        if look(snapshot, *flying, entry=entry) is not None:
            continue
        try:
            sim.live_migrate(instance.id, source.id, dest.id)
        except cloud.RefusedError as error:
            assert error.code == "numa" and flying
        else:
            flying.append(entry)


@pytest.mark.parametrize(
    ("text", "changes", "found"),
    [
        ("headroom=0", {}, None),
        # i takes all 8 cores of b that are there.
        ("headroom=0.1", {}, ("no_room", True)),
        ("headroom=0.1", {"j": 3}, None),
        ("overcommit=VCPU:0.9", {}, ("no_room", True)),
        ("backup", {"of_i": {"tags": ["backup"]}}, ("check", False)),
        ("backup=dump", {"of_i": {"tags": ["backup"]}}, None),
        ("groups", group("soft-anti-affinity", "i", "j"), ("no_room", True)),
        ("groups", group("soft-anti-affinity", "i", "k"), None),
        ("groups", group("soft-affinity", "i", "j"), None),
    ],
)
def test_checks_of_the_plan(text, changes, found):
    """What a plan's options name as checks is judged again, on the facts of this moment."""
    chosen = controller.checks_of({"checks": [text]})
    assert look(small(**changes), checks=chosen) == found

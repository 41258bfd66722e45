# SPDX-License-Identifier: Apache-2.0
"""The goals that are formulas, and several goals at once: planners against all placements."""

import collections
import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer import controller
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import goals as checked
from nova_rebalancer.model import cloud
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.plan import base
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import mip
from nova_rebalancer.plan import search
from tests import clouds
from tests.unit.plan import brute

SINGLE = (
    "balance",
    "consolidate",
    "drain",
    "flavor-fit",
    "repair",
    "power",
    "thermal",
    "sharing",
    "locality",
)
SEVERAL = (
    "balance<=0.1,consolidate",
    "2*balance+locality",
    "consolidate<=2,fragmentation",
    "flavor-fit<=0.3,consolidate",
)

WORK = 0.05


def decorated(made: clouds.Document) -> clouds.Document:
    """The cloud with what the goals look at: images, workloads, measured use, watts, flavors."""
    amounts = {"VCPU": 2, "MEMORY_MB": 3}
    made["flavors"] = [{"id": "f", "name": "small", "resources": amounts, "extra_specs": {}}]
    for i, one in enumerate(made["hosts"]):
        if i % 2:
            one["watts"] = [50 + 10 * i, 200, 220 + i]
        if i % 3:
            one["inlet_c"] = 20.0 + 3 * i
    for i, one in enumerate(made["instances"]):
        one["image"] = {"id": f"image-{i % 2}", "properties": {}}
        if i % 3:
            one.setdefault("metadata", {})["workload"] = f"w{i % 2}"
        else:
            one["tags"] = [*one.get("tags", ()), "workload=w0"]
        if i % 2:
            window = {"window_s": 300.0, "age_s": 10.0}
            one["usage"] = {"VCPU": {"mean": 0.3 * i, **window}, "NET": {"mean": 7 - i, **window}}
    return made


def options_of(made: clouds.Document, goal: str) -> controller.Options:
    """Options for ``goal``; the first host is the one to drain."""
    drain, measured = (), {name for one in made["instances"] for name in one.get("usage", ())}
    if goal == "drain":
        drain = (made["hosts"][0].get("service_host") or made["hosts"][0]["id"],)
    return controller.Options(
        goal=goal,
        fragment_cores=(clouds.CORES,),
        flavors=("small",) if goal == "flavor-fit" else ("small", "3:2"),
        drain=drain,
        balance_resources=("VCPU", "MEMORY_MB", *(("NET",) if "NET" in measured else ())),
        balance_on="both",
    )


def goal_of(
    snapshot: cloud.Snapshot, start: state.PlacementState, options: controller.Options
) -> objectives.Goal:
    """The goal that ``options`` name."""
    return controller.goal_of(snapshot, start, options)


def possible(
    snapshot: cloud.Snapshot, start: state.PlacementState, options: controller.Options
) -> objectives.Goal | None:
    """The goal; None where nobody carries anything to balance, or no host has VCPUs."""
    try:
        return goal_of(snapshot, start, options)
    except controller.exceptions.UsageError as error:
        assert "balance" in str(error) or "no usable host" in str(error)
        return None


def value(
    there: facts.Cloud, options: controller.Options, placement: brute.Placement
) -> float | None:
    """The goal's value as the checker computes it."""
    given = dataclasses.asdict(options)

    def of(name: str, old: bool) -> float | None:
        where = there.placement if old else placement
        if name == "fragmentation":
            return brute.rate(there, where, clouds.CORES)
        return checked.value(name, there, given, where)

    if options.goal in SINGLE:
        return of(options.goal, False)
    return checked.combined(options.goal, of)[1]


@pytest.mark.parametrize("planner", [greedy.plan, mip.plan])
@pytest.mark.parametrize("goal", [*sorted(set(SINGLE) - {"balance", "drain", "flavor-fit"})])
def test_no_hosts(planner: base.Planner, goal: str) -> None:
    """An empty cloud has nothing to do: no goal is worth more than 0 there."""
    made = clouds.snapshot([], [])
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    aim = goal_of(snapshot, start, options_of(made, goal))
    assert aim.evaluate(start).value == 0
    found = planner(start, aim, base.Budget(3, work=WORK), 0, base.Watch())
    assert found.host_of.size == 0


def test_cores_that_nobody_has() -> None:
    """Without cores anywhere power counts the watts of hosts that are on; balance names it."""
    made = clouds.snapshot([clouds.host("a"), clouds.host("b")], [clouds.instance("v", "a")])
    for one in made["hosts"]:
        one["inventories"].pop("VCPU")
    made["instances"][0]["allocations"].pop("VCPU")
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    assert goal_of(snapshot, start, options_of(made, "power")).evaluate(start).value == 100
    with pytest.raises(controller.exceptions.UsageError, match="goal balance: VCPU is neither"):
        goal_of(snapshot, start, options_of(made, "balance"))


@pytest.mark.parametrize(
    ("planner", "goal"),
    [
        *((planner, goal) for planner in (greedy.plan, mip.plan) for goal in (*SINGLE, *SEVERAL)),
        (search.plan, "power"),
        (search.plan, SEVERAL[0]),
    ],
)
def test_promises(planner: base.Planner, goal: str) -> None:
    """A target is never worse and breaks no rule; the checker finds its value; bounds are true."""

    @hypothesis.settings(max_examples=5 if planner is search.plan else 20)
    @hypothesis.given(clouds.snapshots(3, 5), st.integers(0, 3))
    def law(made: clouds.Document, moves: int) -> None:
        made = decorated(made)
        hypothesis.assume(made["instances"])
        snapshot = clouds.facts_of(made)
        options = options_of(made, goal)
        start = state.build(snapshot, options.settings(snapshot))
        aim = possible(snapshot, start, options)
        if aim is None:
            return
        found = planner(start, aim, base.Budget(moves, work=WORK), 0, base.Watch())
        reached = start.placed(found.host_of, found.cells_of)
        there = brute.read(clouds.as_bytes(made))
        where = brute.placement(there, reached)
        assert int((found.host_of != start.host_of).sum()) <= moves
        assert brute.broken(there, where) == []
        assert found.value.value == pytest.approx(value(there, options, where), abs=1e-9)
        assert found.value == aim.evaluate(reached)
        assert found.value.value <= aim.evaluate(start).value + target.TOLERANCE
        if found.bound is None:
            return
        drained = {made["hosts"][0]["id"]} if options.drain else set()
        best = min(
            value(there, options, one)
            for one in brute.placements(there, moves)
            if not any(
                place.host in drained and place.host != there.placement[name].host
                for name, place in one.items()
            )
        )
        assert found.bound <= best + 1e-9 <= found.value.value + 2e-9
        assert (found.status == target.OPTIMAL) == (
            found.value.value - found.bound <= target.TOLERANCE
        )

    law()


def remains(there: facts.Cloud, where: brute.Placement, spare: int) -> bool:
    """Whether active hosts offer what is used and what the largest have, or as much as before."""
    load = collections.Counter(there.fixed)
    for name, place in there.placement.items():
        load.update(facts.charges(there, name, place))
    usable = [host for host in there.hosts.values() if not host.unusable]
    held = {str(limit[1]) for limit, amount in there.fixed.items() if amount}
    for r in {r for host in usable for r in host.rows}:
        own = {host.id: ("host", host.id, r) for host in usable}
        rows = {host.rows.get(r) for host in usable}
        has = {h: facts.capacity(there, row) for h, row in own.items() if row in rows}
        before, after = (
            sum(has[h] for h in held.union(place.host for place in one.values()) & has.keys())
            for one in (there.placement, where)
        )
        need = sum(load[own[h]] for h in has) + sum(sorted(has.values())[::-1][:spare])
        if after < min(need, before):
            return False
    return True


@pytest.mark.parametrize("goal", ["consolidate", "consolidate,balance", "power,consolidate"])
@pytest.mark.parametrize("planner", [greedy.plan, mip.plan, search.plan])
def test_spare_hosts_remain(planner: base.Planner, goal: str) -> None:
    """Enough goes on to be offered, and no placement of which that is true is below the bound."""

    @hypothesis.settings(max_examples=10 if planner is search.plan else 40)
    @hypothesis.given(clouds.snapshots(4, 5), st.integers(1, 2), st.integers(1, 4))
    def law(made: clouds.Document, spare: int, moves: int) -> None:
        made = decorated(made)
        snapshot = clouds.facts_of(made)
        options = dataclasses.replace(options_of(made, goal), spare_hosts=spare)
        start = state.build(snapshot)
        aim = possible(snapshot, start, options)
        if aim is None:
            return
        found = planner(start, aim, base.Budget(moves, work=WORK), 0, base.Watch())
        there = brute.read(clouds.as_bytes(made))
        where = brute.placement(there, start.placed(found.host_of, found.cells_of))
        assert remains(there, where, spare)
        if goal == "consolidate" and found.bound is not None:
            best = min(
                value(there, options, one)
                for one in brute.placements(there, moves)
                if remains(there, one, spare)
            )
            assert found.bound <= best + 1e-9

    law()


@pytest.mark.parametrize("goal", SINGLE)
def test_steps(goal: str) -> None:
    """The values along a path are those of the placements it goes through."""

    @hypothesis.settings(max_examples=25)
    @hypothesis.given(clouds.snapshots(3, 6), st.data())
    def law(made: clouds.Document, data: st.DataObject) -> None:
        made = decorated(made)
        hypothesis.assume(made["instances"])
        snapshot = clouds.facts_of(made)
        options = options_of(made, goal)
        start = state.build(snapshot)
        try:
            aim = goal_of(snapshot, start, options)
        except controller.exceptions.UsageError:
            return
        host_of = start.host_of.copy()
        hops = []
        for _ in range(4):
            v = data.draw(st.integers(0, len(start.instances) - 1))
            h = data.draw(st.integers(0, len(start.hosts) - 1))
            hops.append(controller.path.Hop(v, int(host_of[v]), (), h, (), "direct"))
            host_of[v] = h
        steps = aim.trace(start, hops)
        now = start.host_of.copy()
        for hop, step in zip(hops, steps, strict=True):
            now[hop.v] = hop.dest
            expected = aim.evaluate(start.placed(now, start.cells_of)).value
            assert step.value == pytest.approx(expected, abs=1e-9)

    law()


def test_balance_over_what_is_measured_alone() -> None:
    """Network traffic counts by its use though the rest is counted by allocation.

    Cores are even. Of 40 MiB/s each host's share is 20, but a has 30: moving 10 evens that out.
    """
    window = {"window_s": 300.0, "age_s": 0.0}
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [
            clouds.instance(name, on, 2, usage={"NET": {"mean": mean, **window}})
            for name, on, mean in (("i", "a", 10), ("j", "a", 20), ("k", "b", 0), ("m", "b", 10))
        ],
    )
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    options = controller.Options(goal="balance", balance_resources=("VCPU", "NET"))
    found = goal_of(snapshot, start, options).evaluate(start)
    assert found.value == pytest.approx((0 + 10 / 40) / 2)
    loads = {part.name: part.value for part in found.parts[1:]}
    assert loads["net_use_max"] == 3 * loads["net_use_spread"] > 0 < loads["net_use_entropy"] < 1


def test_fair_shares_by_hand() -> None:
    """A fair share need not be whole, and what is even has the value 0 for any number of hosts."""
    for hosts, cores, value in ((49, (1,) * 49, 0.0), (103, (7,) * 103, 0.0), (3, (2, 2), 1 / 3)):
        names = [f"h{k}" for k in range(hosts)]
        made = clouds.snapshot(
            [clouds.host(name) for name in names],
            [clouds.instance(f"i{k}", names[k], x) for k, x in enumerate(cores)],
        )
        snapshot = clouds.facts_of(made)
        options = controller.Options(goal="balance", balance_resources=("VCPU",))
        start = state.build(snapshot)
        found = mip.plan(start, goal_of(snapshot, start, options), base.Budget(5), 0, base.Watch())
        there = brute.read(clouds.as_bytes(made))
        assert found.value.value == pytest.approx(value, abs=1e-12)
        assert checked.value(
            "balance", there, {"balance_resources": ["VCPU"]}, there.placement
        ) == (pytest.approx(value, abs=1e-12))
        assert found.bound <= value


def test_fair_shares_of_much_memory() -> None:
    """Thousandths of a MiB, times those of another host, are more than 64 bits hold."""
    names, much = [f"h{k}" for k in range(49)], 10**10
    made = clouds.snapshot(
        [{**clouds.host(name), "inventories": {"MEMORY_MB": {"total": much}}} for name in names],
        [{**clouds.instance(n, n), "allocations": {"MEMORY_MB": much}} for n in names],
    )
    snapshot = clouds.facts_of(made)
    options = controller.Options(goal="balance", balance_resources=("MEMORY_MB",), balance_on="use")
    start = state.build(snapshot)
    assert goal_of(snapshot, start, options).evaluate(start).value == pytest.approx(0, abs=1e-12)


def test_consolidate_by_hand() -> None:
    """Two hosts with one instance each become one; with headroom or a spare host they stay two."""
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 4), clouds.instance("j", "b", 4)],
    )
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    for more, hosts in (
        ({}, 1),
        ({"headroom": 0.25}, 2),
        ({"headroom_of": {"VCPU": 0.1}}, 2),
        ({"headroom": 0.25, "headroom_of": {"VCPU": 0.0}}, 1),
        ({"spare_hosts": 1}, 2),
    ):
        aim = goal_of(snapshot, start, controller.Options(goal="consolidate", **more))
        found = mip.plan(start, aim, base.Budget(2), 0, base.Watch())
        assert (found.value.value, found.status) == (hosts, target.OPTIMAL)


@pytest.mark.parametrize("goal", ["consolidate", "balance<=0.5,consolidate"])
@pytest.mark.parametrize("planner", [greedy.plan, mip.plan, search.plan])
def test_headroom_is_kept(planner: base.Planner, goal: str) -> None:
    """Whatever arrives on a host leaves there the share of each resource that is to stay free."""

    @hypothesis.settings(max_examples=5 if planner is search.plan else 15)
    @hypothesis.given(clouds.snapshots(3, 5))
    def law(made: clouds.Document) -> None:
        snapshot = clouds.facts_of(decorated(made))
        options = controller.Options(goal=goal, headroom=0.1, headroom_of={"MEMORY_MB": 0.5})
        start = state.build(snapshot)
        try:
            aim = goal_of(snapshot, start, options)
        except controller.exceptions.UsageError as error:
            assert "balance" in str(error)
            return
        found = planner(start, aim, base.Budget(3, work=WORK), 0, base.Watch())
        reached = start.placed(found.host_of, found.cells_of)
        used = reached.used()
        for v in np.nonzero(found.host_of != start.host_of)[0].tolist():
            h = int(found.host_of[v])
            for r, name in enumerate(start.resources):
                row, keep = start.row_of[h, r], 0.5 if name == "MEMORY_MB" else 0.1
                if start.demand[v, r] and row != start.row_of[start.host_of[v], r]:
                    assert used[row, r] <= (1 - keep) * start.capacity[row, r]

    law()


def test_headroom_of_nothing() -> None:
    """A resource that no host has is named, with those that there are."""
    snapshot = clouds.facts_of(clouds.three_hosts())
    options = controller.Options(goal="consolidate", headroom_of={"RAM": 0.1})
    with pytest.raises(controller.exceptions.UsageError, match=r"RAM.*VCPU, MEMORY_MB"):
        goal_of(snapshot, state.build(snapshot), options)


def test_headroom_and_fragments() -> None:
    """The fragment rate counts what headroom would hide, so the two together are refused."""
    snapshot = clouds.facts_of(clouds.three_hosts())
    options = controller.Options(goal="consolidate,fragmentation", headroom=0.1)
    with pytest.raises(controller.exceptions.UsageError, match="--headroom"):
        goal_of(snapshot, state.build(snapshot), options)


def test_drain_keeps_what_cannot_move() -> None:
    """Of a drained host with one locked instance this alone stays, and that is proven."""
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 2), clouds.instance("stuck", "a", 2, locked=True)],
    )
    snapshot = clouds.facts_of(made)
    options = controller.Options(goal="drain", drain=("a",))
    start = state.build(snapshot, options.settings(snapshot))
    found = mip.plan(start, goal_of(snapshot, start, options), base.Budget(5), 0, base.Watch())
    assert (found.value.value, found.status) == (1, target.OPTIMAL)
    assert found.host_of.tolist() == [1, 0]


def test_repair_of_what_is_ignored() -> None:
    """A rule that the operator does not keep leaves nothing to repair, and the checker agrees.

    Host a is for project q alone; the instance on it is of project p.
    """
    keeper = {"name": "q", "hosts": ["a"], "metadata": {"filter_tenant_id": "q"}}
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 2, project="p")],
        aggregates=[keeper],
    )
    snapshot, there = clouds.facts_of(made), brute.read(clouds.as_bytes(made))
    for ignored, broken in (((), 1), (("keep_zone",), 1), (("tenant_isolation",), 0)):
        options = controller.Options(goal="repair", ignored_rules=ignored)
        start = state.build(snapshot, options.settings(snapshot))
        assert goal_of(snapshot, start, options).evaluate(start).value == broken
        assert value(there, options, there.placement) == broken


def test_repair_of_unknown_cells() -> None:
    """Nothing migrates from a host whose Nova cell is not known, but being there breaks no rule."""
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")], [clouds.instance("i", "a")], several_cells=True
    )
    snapshot, there = clouds.facts_of(made), brute.read(clouds.as_bytes(made))
    options = controller.Options(goal="repair")
    start = state.build(snapshot)
    assert "cell" in start.excluded[0].reason.text
    assert goal_of(snapshot, start, options).evaluate(start).value == 0
    assert value(there, options, there.placement) == 0


@pytest.mark.parametrize(
    ("on", "broken"),
    [("aab", 1), ("aaa", 0), ("abc", 2), ("bba", 1), ("ca", 1), ("a", 0)],
)
def test_repair_of_split_groups(on: str, broken: int) -> None:
    """Members of an affinity group that are not where most of it is count, and nobody moves them.

    Where no host has more than others the group is split all the same; host c is disabled.
    """
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b"), clouds.host("c", status="disabled")],
        [clouds.instance(f"i{k}", host, 1) for k, host in enumerate(on)],
        outside=[{"id": "lost", "name": "lost", "reason": "cell_down"}],
    )
    members = [*(one["id"] for one in made["instances"]), "lost"]
    made["server_groups"] = [{"id": "g", "policy": "affinity", "members": members}]
    snapshot, there = clouds.facts_of(made), brute.read(clouds.as_bytes(made))
    options = controller.Options(goal="repair")
    start = state.build(snapshot, options.settings(snapshot))
    aim = goal_of(snapshot, start, options)
    found = mip.plan(start, aim, base.Budget(5), 0, base.Watch())
    assert (found.value.value, found.bound, found.status) == (broken, broken, target.OPTIMAL)
    assert found.host_of.tolist() == start.host_of.tolist()
    assert value(there, options, there.placement) == broken
    soft = dict(made, server_groups=[{"id": "g", "policy": "soft-affinity", "members": members}])
    assert goal_of(clouds.facts_of(soft), start, options).evaluate(start).value == 0


def test_repair_of_a_tie() -> None:
    """Of hosts with as many members a usable one is where the others should be."""
    made = clouds.snapshot(
        [clouds.host("a", status="disabled"), clouds.host("b")],
        [clouds.instance("i", "a", 1), clouds.instance("j", "b", 1)],
        server_groups=[{"id": "g", "policy": "affinity", "members": ["i", "j"]}],
    )
    snapshot, there = clouds.facts_of(made), brute.read(clouds.as_bytes(made))
    options = controller.Options(goal="repair")
    start = state.build(snapshot)
    aim = goal_of(snapshot, start, options)
    for v, host, left in ((0, 1, 0), (1, 0, 2)):
        reached = start.moved(v, host)
        assert aim.evaluate(reached).value == left
        assert value(there, options, brute.placement(there, reached)) == left


def test_repair_of_pairs() -> None:
    """Pairs of conflicts that are on one host count and are parted; what checks part does not.

    i is in conflict with j, k and l, of which l is elsewhere; moving i ends both.
    """
    made = clouds.snapshot(
        [clouds.host(name) for name in "abc"],
        [clouds.instance(name, "b" if name == "l" else "a", 1) for name in "ijkl"],
        conflicts=[["i", "j"], ["k", "i"], ["j", "i"], ["i", "l"]],
        server_groups=[{"id": "g", "policy": "soft-anti-affinity", "members": ["j", "k"]}],
    )
    snapshot, there = clouds.facts_of(made), brute.read(clouds.as_bytes(made))
    options = controller.Options(goal="repair", checks=("groups",))
    start = narrowed.build(snapshot, options.settings(snapshot))
    aim = goal_of(snapshot, start, options)
    assert aim.evaluate(start).value == value(there, options, there.placement) == 2
    found = mip.plan(start, aim, base.Budget(1), 0, base.Watch())
    assert (found.value.value, found.status) == (0, target.OPTIMAL)
    assert found.host_of.tolist() == [2, 0, 0, 1]
    reached = start.placed(found.host_of, found.cells_of)
    assert value(there, options, brute.placement(there, reached)) == 0


@pytest.mark.parametrize(
    "text", ["", "balance,", "balance<=x", "0*balance", "balance<=0.1<=2", "a+a", "-1*balance"]
)
def test_text_that_is_no_goal(text: str) -> None:
    """What cannot be read is named, with how to write it."""
    with pytest.raises(controller.exceptions.UsageError, match="--goal"):
        combined.parse(text)


def test_lexicographic() -> None:
    """The second goal gains nothing at the first one's cost, and all once the first is reached."""
    made = clouds.snapshot(
        [clouds.host("a", 16), clouds.host("b", 16)],
        [clouds.instance(f"i{k}", "a", 4) for k in range(3)] + [clouds.instance("j", "b", 4)],
    )
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    ends = {}
    for text in ("balance,consolidate", "balance<=0.5,consolidate"):
        aim = goal_of(snapshot, start, controller.Options(goal=text))
        found = mip.plan(start, aim, base.Budget(4, work=5.0), 0, base.Watch())
        ends[text] = sorted(np.bincount(found.host_of, minlength=2).tolist())
    assert ends == {"balance,consolidate": [2, 2], "balance<=0.5,consolidate": [0, 4]}

# SPDX-License-Identifier: Apache-2.0
"""Days of a cloud in memory: what always holds, and small days that can be followed by hand."""

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer import controller
from nova_rebalancer.model import constraints
from nova_rebalancer.model import numa
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import books
from nova_rebalancer.sim import days
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import policy
from nova_rebalancer.sim import scheduler
from tests import clouds
from tests.unit.path import nova_clouds
from tests.unit.sim import lives

GOAL = fragmentation.Fragmentation(clouds.CORES)

GREEDY = policy.Policy(
    "greedy",
    controller.Options(planner="greedy", fragment_cores=(clouds.CORES,), time_limit_s=None),
    every_s=arrivals.DAY_S / 2,
)

UNTIL_S = 3 * arrivals.DAY_S

FEWER = hypothesis.settings(max_examples=20)
"""For runs that look at the cloud every hour."""

some_clouds = clouds.snapshots(4, 8) | st.integers(0, 2**32 - 1).map(
    lambda seed: nova_clouds.Draw(seed, 3, 5).document()
)


def overfull(there: books.Books) -> set[tuple[str, str]]:
    """What is charged above capacity."""
    built = state.build(there.snapshot())
    return {(name, resource) for name, resource, _, _ in built.overfull()}


def charges(
    resources: tuple[str, ...], used: np.ndarray, cell_used: np.ndarray
) -> dict[tuple, int]:
    """All that is charged, by row or cell and resource; a class that nobody has is no resource."""
    found: dict[tuple, int] = {}
    for array in (used, cell_used):
        for where in zip(*np.nonzero(array), strict=True):
            found[array.ndim, *where[:-1], resources[where[-1]]] = int(array[where])
    return found


@hypothesis.given(some_clouds, st.integers(0, 100), st.sampled_from(scheduler.RULES))
def test_books_agree_with_the_model(made, seed, rule):
    """At any moment the books charge what the arrays of their own snapshot charge.

    So nothing is lost or charged twice, whatever came, went and was migrated before.
    """
    life = lives.begun(made, seed, rule=rule)
    for day in range(4):
        life.advance(day * arrivals.DAY_S)
        built = state.build(life.books.snapshot())
        light = life.books.placement()
        expected = charges(built.resources, built.used(), built.cell_used())
        assert charges(light.resources, light.used(), light.cell_used()) == expected
        there = life.books
        assert charges(light.resources, there.used, there.cell_used) == expected
        assert there.topologyless.tolist() == built.topologyless().tolist()
        assert light.instances == built.instances
        assert {(g.id, g.limit, g.members) for g in light.groups} == {
            (g.id, g.limit, g.members) for g in built.groups
        }
        assert light.soft == built.soft or {*light.soft} == {*built.soft}
        assert GOAL.evaluate(light) == GOAL.evaluate(built)
        life.carry_out(policy.decide(GREEDY, life.books.snapshot(), days.Watch()))


@hypothesis.given(some_clouds, st.integers(0, 100), st.sampled_from(scheduler.RULES))
def test_nothing_is_filled_beyond_its_capacity(made, seed, rule):
    """Boots and migrations overfill no host, pool or cell that was not overfull at the start.

    Every migration of a plan fits when its turn comes.  Where Nova chooses the cells, it may give
    the cells of one guest different page sizes, which the simulation leaves out.
    """
    life = lives.begun(made, seed, rule=rule)
    before = overfull(life.books)
    for day in range(4):
        life.advance(day * arrivals.DAY_S)
        life.carry_out(policy.decide(GREEDY, life.books.snapshot(), days.Watch()))
        assert overfull(life.books) <= before
        assert not life.counts.dropped or made["numa_choice"] == "nova"


@hypothesis.given(st.integers(0, 2**32 - 1))
def test_no_cpu_is_pinned_twice(seed):
    """Where Nova chooses the cells and CPUs, boots get CPUs that nobody else has."""
    life = lives.begun(nova_clouds.Draw(seed, 3, 5).document(), seed)
    life.advance(UNTIL_S)
    taken = [
        (one.host, cpu)
        for one in life.books.snapshot().instances
        for guest in one.numa or ()
        for cpu in guest.pinned or ()
    ]
    assert len(taken) == len({*taken})


def fits_somewhere(there: books.Books, kind: int, group: books.Group | None) -> bool:
    """Whether a boot has room by arrays that are built anew with it on each host and cells."""
    facts = there.snapshot()
    example = there.kinds.examples[kind]
    settings = rules.Settings(ignored_rules=constraints.NOT_FOR_BOOTS)
    for h, host in enumerate(facts.hosts):
        numbers = [cell.id for cell in host.cells]
        for chosen in itertools.permutations(numbers, len(example.numa or ())):
            guests = example.numa and tuple(
                dataclasses.replace(guest, cell=n)
                for guest, n in zip(example.numa, chosen, strict=True)
            )
            one = dataclasses.replace(
                example,
                id="new",
                host=host.id,
                numa=guests,
                status="ACTIVE",
                task_state=None,
                locked=False,
            )
            with_it = dataclasses.replace(facts, instances=(*facts.instances, one))
            built = state.build(with_it, settings)
            v = len(facts.instances)
            view = state.view_of(with_it, settings)
            if any(constraints.violations(view, one, view.hosts[h], view.hosts[h])):
                continue
            rows = built.row_of[h]
            asked = built.demand[v] > 0
            if (rows[asked] == state.NOWHERE).any():
                continue
            if (built.used()[rows, range(len(rows))] > built.capacity[rows, range(len(rows))])[
                asked
            ].any():
                continue
            if (built.numa_free()[h, built.cells_of[v][built.cells_of[v] >= 0]] < 0).any():
                continue
            if group is not None and not _welcome(there, group, h):
                continue
            return True
    return False


def _welcome(there: books.Books, group: books.Group, h: int) -> bool:
    """Whether a hard server group lets one more member be on a host."""
    on = [one.spot.host for one in there.residents.values() if one.group == group]
    if group.policy == "anti-affinity":
        return on.count(h) < group.limit
    return group.policy != "affinity" or not on or h in on


@hypothesis.given(
    clouds.snapshots(3, 6).filter(lambda made: "running_migrations" not in made),
    st.integers(0, 100),
    st.sampled_from(scheduler.RULES),
)
def test_a_boot_is_refused_if_and_only_if_nowhere_fits(made, seed, rule):
    """What is refused has no room anywhere by the model's own arrays, what is not has some."""
    life = lives.begun(made, seed, rule=rule)
    # A cell that is overfull already tells nothing of what would fit on it.
    hypothesis.assume(not overfull(life.books))
    for boot in life._story.boots[:12]:
        life.advance(np.nextafter(boot.at_s, 0))
        expected = fits_somewhere(life.books, boot.kind, boot.group)
        refused = life.counts.refused
        life.advance(boot.at_s)
        assert (life.counts.refused == refused) == expected


@hypothesis.given(some_clouds, st.integers(0, 100))
def test_what_comes_goes_or_stays(made, seed):
    """Boots are refused, or have gone, or are there; the same for what was there at the start."""
    life = lives.begun(made, seed)
    first = len(life.books.residents)
    life.advance(UNTIL_S)
    counts = life.counts
    assert first + counts.boots - counts.refused - counts.departures == len(life.books.residents)
    assert sum(counts.refused_by_kind.values()) == counts.refused


@FEWER
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 100))
def test_the_same_seed_gives_the_same_days(made, seed):
    """Two runs of a policy agree in every number; they leave the cloud they began with alone."""
    life = lives.begun(made, seed)
    first = days.run(life, GREEDY, arrivals.DAY_S, GOAL, days.Watch(), GOAL)
    assert first == days.run(life, GREEDY, arrivals.DAY_S, GOAL, days.Watch(), GOAL)
    again = lives.begun(made, seed)
    assert first == days.run(again, GREEDY, arrivals.DAY_S, GOAL, days.Watch(), GOAL)


@FEWER
@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 100))
def test_every_policy_has_the_same_arrivals(made, seed):
    """Rebalancing changes where instances are and what is refused, not what is asked for."""
    life = lives.begun(made, seed)
    none = days.run(life, policy.Policy("none"), UNTIL_S, GOAL, days.Watch())
    greedy = days.run(life, GREEDY, UNTIL_S, GOAL, days.Watch())
    assert none.counts.boots == greedy.counts.boots
    assert [one.boots for one in none.samples] == [
        one.boots for one in greedy.samples if one.at_s in {other.at_s for other in none.samples}
    ]
    assert not none.counts.migrations


def test_a_migration_makes_room_for_a_boot():
    """Without rebalancing an 8-core boot is refused, with it there is a host for it.

    Of 8 cores each, a has 2 taken, b 2; after one of them went to the other, a host is empty.
    """
    made = clouds.snapshot(
        [clouds.host("a"), clouds.host("b")],
        [clouds.instance("i", "a", 2), clouds.instance("j", "b", 2)],
    )
    life = lives.of_boots(clouds.facts_of(made), (3600.0, kinds.Size(8, 1024), 60.0, "big"))
    options = dataclasses.replace(GREEDY.options, fragment_cores=(8,))
    plans = dataclasses.replace(GREEDY, options=options)
    none = days.run(life, policy.Policy("none"), arrivals.DAY_S, GOAL, days.Watch())
    with_plans = days.run(life, plans, arrivals.DAY_S, GOAL, days.Watch())
    assert (none.counts.refused, none.counts.refused_cores) == (1, 8)
    assert none.counts.refused_by_kind == {"8c-1g": 1}
    assert (with_plans.counts.refused, with_plans.counts.migrations) == (0, 1)
    assert with_plans.counts.moved_mib == 1024


def test_a_resize_needs_room_beside_what_is_there():
    """2 cores become 6 where another host has them; 8 find no host, so the size stays."""
    made = clouds.snapshot([clouds.host("a"), clouds.host("b")], [])
    size = kinds.Size
    life = lives.of_boots(
        clouds.facts_of(made),
        (0.0, size(2, 512), 9e9, "one"),
        (1.0, size(6, 512), None, "one"),
        (2.0, size(2, 512), 9e9, "other"),
        (3.0, size(8, 512), None, "one"),
    )
    life.advance(2.0)
    there = life.books
    assert there.kinds.cores[there.residents["one"].kind] == 6
    life.advance(3.0)
    assert there.kinds.cores[there.residents["one"].kind] == 6
    assert (life.counts.resizes, life.counts.refused_resizes) == (2, 1)
    assert len(there.residents) == 2


def test_members_of_a_group_are_kept_apart():
    """The third of a group finds no third host; when one is gone, a fourth takes its place."""
    made = clouds.snapshot([clouds.host("a"), clouds.host("b")], [])
    size = kinds.Size(1, 128)
    life = lives.of_boots(
        clouds.facts_of(made),
        (0.0, size, 5.0, "one"),
        (1.0, size, 9.0, "two"),
        (2.0, size, 9.0, "three"),
        (6.0, size, 9.0, "four"),
        groups=["g"] * 4,
    )
    life.advance(3.0)
    assert life.counts.refused == 1
    life.advance(7.0)
    assert life.counts.refused == 1
    assert {one.spot.host for one in life.books.residents.values()} == {0, 1}


def test_the_half_life_of_a_gain():
    """A gain of 8 that is 6, 4 and 0 in the hours after is half gone after two hours.

    Curves of several plans are added up before they are looked at.
    """
    gains = days.Gains(GOAL)
    gains.curve[:4] = [8.0, 6.0, 4.0, 0.0]
    assert gains.half_life_s() == 2 * 3600
    gains.curve[:4] = [8.0, 6.0, 2.0, 0.0]
    assert gains.half_life_s() == 1.5 * 3600
    gains.curve[:] = [8.0] * len(gains.curve)
    assert gains.half_life_s() is None
    gains.curve[:] = [0.0] * len(gains.curve)
    assert gains.half_life_s() is None


def test_an_interrupted_run_keeps_what_is_done():
    """It ends at the last look before, with the counts of that moment."""

    class After(days.Watch):
        """Stops after so many looks."""

        looks = 0

        def reached(self, at_s: float) -> None:
            self.looks += 1

        def stopped(self) -> bool:
            return self.looks >= 5

    life = lives.begun(clouds.three_hosts())
    whole = days.run(life, policy.Policy("none"), UNTIL_S, GOAL, days.Watch())
    part = days.run(life, policy.Policy("none"), UNTIL_S, GOAL, After())
    assert part.until_s == 4 * days.SAMPLE_S
    assert part.samples == whole.samples[:5]
    assert part.counts.boots == part.samples[-1].boots


def test_books_know_what_the_far_end_of_a_migration_takes():
    """i is on its way from a to b for ever: it never goes, and b has 2 of 8 cores left."""
    life = lives.begun(clouds.running_migration())
    assert set(life.ends_s) == {"j"}
    rows = life.books.kinds.start.row_of[:, life.books.kinds.start.core[0]]
    assert life.books.used[rows, 0].tolist() == [6, 6, 4]


def units_of(cores: list[int], taken: list[int], celled: bool) -> clouds.Document:
    """Hosts of two cells, or without cells, of so many cores; one instance takes some of each."""
    hosts, instances = [], []
    if celled:
        for h in range(0, len(cores) - 1, 2):
            name, pair = f"h{h}", cores[h : h + 2]
            cells = [{"id": n, "capacity": {"VCPU": pair[n]}} for n in (0, 1)]
            numa_cells = {"provenance": "operator", "cells": cells}
            hosts.append(clouds.host(name, sum(pair), numa=numa_cells))
            for n in (0, 1):
                used = min(taken[h + n], pair[n])
                instances.append(clouds.numa_instance(f"i{h + n}", name, {n: used}))
        return clouds.snapshot(hosts, instances)
    for h, most in enumerate(cores):
        hosts.append(clouds.host(f"h{h}", most))
        instances.append(clouds.instance(f"i{h}", f"h{h}", min(taken[h], most)))
    return clouds.snapshot(hosts, instances)


@hypothesis.given(
    st.lists(st.integers(1, 20), min_size=2, max_size=8),
    st.lists(st.integers(0, 20), min_size=8, max_size=8),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from(scheduler.RULES),
)
def test_as_many_are_booted_as_the_goal_predicts(cores, taken, x, celled, rule):
    """Where ``fragmentation`` of X cores counts n slots, exactly n instances of X are booted.

    They have one guest cell where the hosts' cells are known, and no topology where they are not;
    every host is open to them and memory does not bind.  The order of hosts plays no part: a boot
    takes X cores of one unit, and leaves all others as they were.  It holds before a plan and
    after it, so the slots that a plan gains are boots that are not refused.
    """
    facts = clouds.facts_of(units_of(cores, taken, celled))
    size = kinds.Size(x, 0, 1 if celled else 0)
    many = [(float(k), size, 9e9, f"new-{k}") for k in range(sum(cores) + 1)]
    life = lives.of_boots(facts, *many, rule=rule)
    goal = fragmentation.Fragmentation(x)
    greedy = dataclasses.replace(
        GREEDY, options=dataclasses.replace(GREEDY.options, fragment_cores=(x,))
    )

    def slots() -> int:
        parts = {part.name: part.value for part in goal.evaluate(life.books.placement()).parts}
        return round((parts["free_cores"] - parts["fragment_cores"]) / x)

    def booted() -> int:
        filled = life.copy()
        filled.advance(9e8)
        return filled.counts.boots - filled.counts.refused

    before = slots()
    assert booted() == before
    decided = policy.decide(greedy, life.books.snapshot(), days.Watch())
    life.carry_out(decided)
    assert booted() == slots() >= before


def test_a_floating_instance_hides_its_hosts_cells():
    """Where the prediction is no promise: an instance without topology on a host with cells.

    It may use any core, so the host counts as one unit of 6 free cores, one slot of 4; by the
    cells, 4 + 4 with nothing on them, Nova places one instance of 4 cores with a guest cell, and
    a second one only the host's own 2 cores that are left forbid.
    """
    facts = clouds.facts_of(
        clouds.snapshot([clouds.numa_host("a")], [clouds.instance("plain", "a", 2)])
    )
    boots = [(float(k), kinds.Size(4, 0, 1), 9e9, f"new-{k}") for k in range(3)]
    life = lives.of_boots(facts, *boots)
    life.advance(9.0)
    assert life.counts.boots - life.counts.refused == 1


def test_memory_that_is_gone_makes_fewer():
    """The X-core rate looks at cores only: of two slots one is booted when memory is for one."""
    small = {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 1024}}
    facts = clouds.facts_of(clouds.snapshot([clouds.host("a", inventories=small)], []))
    boots = [(float(k), kinds.Size(4, 1024), 9e9, f"new-{k}") for k in range(3)]
    life = lives.of_boots(facts, *boots)
    life.advance(9.0)
    assert life.counts.boots - life.counts.refused == 1


@pytest.mark.parametrize("rule", scheduler.RULES)
def test_spread_takes_the_emptiest_and_pack_the_fullest(rule):
    """Host a is half full, b empty: a boot goes to b when spreading, to a when packing."""
    made = clouds.snapshot([clouds.host("a"), clouds.host("b")], [clouds.instance("i", "a", 4)])
    life = lives.of_boots(clouds.facts_of(made), (0.0, kinds.Size(2, 64), 9.0, "new"), rule=rule)
    life.advance(1.0)
    assert life.books.residents["new"].spot.host == (1 if rule == scheduler.SPREAD else 0)


@pytest.mark.parametrize("rule", scheduler.RULES)
def test_the_same_goes_for_cells(rule):
    """Cell 0 of the host has 2 cores taken, cell 1 none."""
    made = clouds.snapshot([clouds.numa_host("a")], [clouds.numa_instance("i", "a", {0: 2})])
    life = lives.of_boots(clouds.facts_of(made), (0.0, kinds.Size(2, 64, 1), 9.0, "new"), rule=rule)
    life.advance(1.0)
    assert life.books.residents["new"].spot.cells == ((1,) if rule == scheduler.SPREAD else (0,))


def test_nova_chooses_the_cells_of_boots_where_it_does():
    """A like of a pinned instance comes to the cells and CPUs that the model predicts."""
    for seed in range(50):
        facts = clouds.facts_of(nova_clouds.Draw(seed, 3, 5).document())
        there = kinds.build(facts)
        pinned = [
            v for v, one in enumerate(facts.instances) if any(g.pinned for g in one.numa or ())
        ]
        filled = books.Books(there)
        for v in pinned:
            spot = scheduler.choose(filled, v, None, scheduler.SPREAD)
            if spot is None:
                continue
            topologies = state.build(filled.snapshot()).topologies
            cells = [cell.copy() for cell in topologies.hosts[spot.host]]
            wanted = there.start.topologies.requests[v]
            limits = topologies.limits[spot.host]
            assert numa.fit(cells, wanted, limits, topologies.packing) == spot.places
            filled.add(f"like-{v}", v, spot, None)
            return
    raise AssertionError("no such boot was found")

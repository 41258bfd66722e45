# SPDX-License-Identifier: Apache-2.0
"""Exchanges at prices, and the placements made of them."""

import collections
import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import patterns
from nova_rebalancer.plan import solver
from tests import clouds
from tests.unit.plan import brute

GOAL = fragmentation.Fragmentation(clouds.CORES)
PRICES = st.integers(-8, 8).map(lambda n: n / 8)


@st.composite
def plain_clouds(draw: st.DrawFn) -> clouds.Document:
    """Hosts with two cells or none; instances on two cells, on one and anywhere."""
    hosts, instances = [], []
    mostly = draw(st.booleans())
    for h in range(draw(st.integers(2, 3))):
        name = f"h{h}"
        celled = draw(st.sampled_from([mostly, mostly, mostly, not mostly]))
        cores = draw(st.sampled_from([8, 12]))
        hosts.append((clouds.numa_host if celled else clouds.host)(name, cores))
        room = [cores // 2, cores // 2] if celled else [cores]
        for i in range(draw(st.integers(0, 4))):
            amount, at = draw(st.integers(1, 4)), draw(st.integers(0, len(room) - 1))
            both = celled and draw(st.booleans())
            cells = range(len(room)) if both else [at]
            if any(room[n] < amount for n in cells):
                continue
            for n in cells:
                room[n] -= amount
            made = f"{name}-{i}"
            locked = draw(st.sampled_from([False, False, False, True]))
            instances.append(
                clouds.numa_instance(made, name, dict.fromkeys(cells, amount), locked=locked)
                if celled
                else clouds.instance(made, name, amount, locked=locked)
            )
    return clouds.snapshot(hosts, instances)


def slots(placement: state.PlacementState) -> int:
    """Slots of X cores."""
    parts = {part.name: part.value for part in GOAL.evaluate(placement).parts}
    return round(parts["free_cores"] - parts["fragment_cores"]) // clouds.CORES


def free(placement: state.PlacementState) -> float:
    """Free cores."""
    return {part.name: part.value for part in GOAL.evaluate(placement).parts}["free_cores"]


@hypothesis.settings(max_examples=100)
@hypothesis.given(plain_clouds(), st.integers(1, 4))
def test_bound_and_placement(made: clouds.Document, moves: int) -> None:
    """No placement within the limit wins more than the bound; what is found wins what it says."""
    start = clouds.state_of(made)
    given = exchange.cloud(start, (clouds.CORES,))
    hypothesis.assume(given is not None)
    market = exchange.Market(given)
    meter = solver.Meter(base.Budget(moves), 0, base.Watch())
    most = patterns.bound(market, base.Limit(moves), meter)
    found = patterns.place(start, market, most, base.Limit(moves), meter)
    target = int(most.slots + patterns.EXACT)
    cloud = brute.read(clouds.as_bytes(made))
    best = round(free(start) * (1 - brute.best(cloud, moves, clouds.CORES))) // clouds.CORES
    assert best <= slots(start) + target
    if found is not None:
        assert slots(found) == slots(start) + target == best
        assert brute.broken(cloud, brute.placement(cloud, found)) == []
        assert (found.host_of != start.host_of).sum() <= moves


def ways(limits: dict[int, int]) -> list[exchange.Counts]:
    """All counts within limits."""
    return [
        {k: count for k, count in zip(limits, counts, strict=True) if count}
        for counts in itertools.product(*(range(most + 1) for most in limits.values()))
    ]


def exchanges(given: exchange.Cloud, i: int) -> list[tuple[object, ...]]:
    """Every exchange of shape ``i`` by trying: what leaves and enters both units, and each."""
    shape = given.shapes[i]
    may = sorted(given.entrances[shape.entrance].kinds)
    everything = {k: given.most // given.weight[k] for k in may}

    def parts(held: exchange.Counts, double: bool) -> list[tuple[exchange.Counts, ...]]:
        into = ways({k: most for k, most in everything.items() if given.double[k] == double})
        return [(out, come) for out in ways(held) for come in into if out.keys().isdisjoint(come)]

    def weight(counts: exchange.Counts) -> int:
        return sum(given.weight[k] * count for k, count in counts.items())

    found = []
    for both in parts(shape.doubles, True):
        shift = weight(both[0]) - weight(both[1])
        options = []
        for u in shape.units:
            free = given.units[u].free + shift
            options.append(
                [
                    (one, free + weight(one[0]) - weight(one[1]))
                    for one in parts(given.units[u].held, False)
                    if 0 <= free + weight(one[0]) - weight(one[1])
                ]
            )
        found += [(both, *each) for each in itertools.product(*options)]
    return found


def frozen(part: tuple[exchange.Counts, exchange.Counts]) -> tuple[frozenset[tuple[int, int]], ...]:
    """A part that can be compared."""
    return tuple(frozenset(counts.items()) for counts in part)


@hypothesis.settings(max_examples=100)
@hypothesis.given(plain_clouds(), st.data())
def test_exchanges_at_prices(made: clouds.Document, data: st.DataObject) -> None:
    """The best exchange is the best there is, and those near it are all that there are."""
    given = exchange.cloud(clouds.state_of(made), (clouds.CORES,))
    hypothesis.assume(given is not None)
    i = data.draw(st.integers(0, len(given.shapes) - 1))
    all_of_them = exchanges(given, i)
    hypothesis.assume(len(all_of_them) <= 20000)
    price = np.array([data.draw(PRICES) for _ in given.kinds])
    per_move = data.draw(st.integers(0, 4)) / 8
    slack = data.draw(st.integers(0, 8)) / 8
    counted = given.entrances[given.shapes[i].entrance].counted

    def worth(one) -> float:
        (leave, enter), *units = one
        total = 0.0
        for out, into in ((leave, enter), *(part for part, _ in units)):
            total += sum(count * (price[k] - per_move) for k, count in out.items())
            total -= sum(count * price[k] for k, count in into.items())
        won = sum(given.slots[free] for _, free in units) if counted else 0
        return total + won - given.slots_of(i)

    market = exchange.Market(given)
    market.price(price, np.full(price.size, per_move))
    worths = [worth(one) for one in all_of_them]
    assert market.value[i] == pytest.approx(max(worths))
    *units, both = market.best(i)
    assert sum(part.value for part in (*units, both)) - given.slots_of(i) == pytest.approx(
        max(worths)
    )
    least = max(max(worths), 0.0) - slack
    wanted = collections.Counter(
        (frozen(one[0]), *(frozen(part) for part, _ in one[1:]))
        for one, value in zip(all_of_them, worths, strict=True)
        if value >= least + 1e-6
    )
    near = market.near(slack)
    single = {key: list(parts) for key, (_, parts) in near.single.items()}
    seen = {
        (frozen((two.leave, two.enter)), *(frozen((p.leave, p.enter)) for p in parts))
        for two, key in near.twice[i]
        for parts in itertools.product(*(single[u, *key] for u in given.shapes[i].units))
    }
    assert wanted.keys() <= seen
    assert max(wanted.values(), default=1) == 1


def test_placed() -> None:
    """Free 2, 2, 4 becomes 4, 0, 4: the bound is one slot more, and a placement has it."""
    start = clouds.state_of(clouds.three_hosts())
    market = exchange.Market(exchange.cloud(start, (clouds.CORES,)))
    meter = solver.Meter(base.Budget(5), 0, base.Watch())
    most = patterns.bound(market, base.Limit(5), meter)
    assert most.whole() == 1
    found = patterns.place(start, market, most, base.Limit(5), meter)
    assert found.host_of.tolist() == [0, 1, 1, 2]


def test_without_cores_but_not_without_effect() -> None:
    """An instance that takes no cores may still make two cells of a host one unit.

    b and c have PCPU on two cells of 2; when s comes to c, its 2 + 2 free cores are 4.
    """
    cells = {
        "provenance": "operator",
        "cells": [{"id": n, "capacity": {"PCPU": 2}} for n in (0, 1)],
    }
    both = {"VCPU": {"total": 8}, "PCPU": {"total": 4}, "MEMORY_MB": {"total": 1 << 20}}
    a = {"VCPU": {"total": 8}, "PCPU": {"total": 1}, "MEMORY_MB": {"total": 1 << 20}}
    made = clouds.snapshot(
        [
            {"id": "a", "inventories": a},
            {"id": "b", "inventories": both, "numa": cells},
            {"id": "c", "inventories": both, "numa": cells},
        ],
        [
            clouds.instance("s", "a", 1),
            clouds.numa_instance("p", "b", {0: 1}, core="PCPU"),
        ],
    )
    assert exchange.cloud(clouds.state_of(made), (clouds.CORES,)) is None


def test_cores_on_no_cell() -> None:
    """A guest whose cells take none of its cores is not for this model."""
    numa = [{"cell": 0, "resources": {"MEMORY_MB": 512}}]
    made = clouds.snapshot(
        [clouds.numa_host("a"), clouds.numa_host("b")], [clouds.instance("i", "a", 2, numa=numa)]
    )
    assert exchange.cloud(clouds.state_of(made), (clouds.CORES,)) is None


def test_nothing_arrives_on_what_is_overfull() -> None:
    """A placement that exchanges like for like on a host whose disk is overfull is dropped."""
    disk = {"VCPU": {"total": 8}, "DISK_GB": {"total": 5}}
    asks = {"VCPU": 2, "DISK_GB": 3}
    made = clouds.snapshot(
        [clouds.numa_host("a", 8, inventories=disk), clouds.numa_host("b", 8, inventories=disk)],
        [
            {**clouds.numa_instance("i", "a", {0: 2}), "allocations": asks},
            {**clouds.numa_instance("j", "b", {0: 2}), "allocations": asks},
            {**clouds.numa_instance("k", "b", {1: 2}), "allocations": asks},
        ],
    )
    start = clouds.state_of(made)
    assert patterns.sound(start, start)
    assert not patterns.sound(start, start.moved(1, 0, (1,)).moved(0, 1, (0,)))


def test_thousands_of_kinds() -> None:
    """How many kinds there are is no matter of the stack."""
    entering = exchange._Entering([list(range(2000))], [1] * 2000, 2)
    entering.price(np.full(2000, -0.5))
    found = list(entering.ways(0, 1, -1.0, exchange.ANY))
    assert len(found) == 2000

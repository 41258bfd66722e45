# SPDX-License-Identifier: Apache-2.0
"""What the path-finder is measured against: cases, what is true of them, large clouds."""

import dataclasses
import heapq
import itertools
from typing import Any

import numpy as np
import pytest

from nova_rebalancer.model import path
from nova_rebalancer.path import base
from tests import benchmarks

path_cases = benchmarks.load("path_cases")
path_peers = benchmarks.load("path_peers")
path_reference = benchmarks.load("path_reference")
path_scale = benchmarks.load("path_scale")

PLAINLY = 4**7
"""Placements that the plain search can go through in a moment."""
Placement = tuple[str, ...]


def sane(case: dict[str, Any], placement: Placement) -> bool:
    """Whether a placement keeps all rules, written down as the format says them."""
    there: dict[str, list[dict[str, Any]]] = {host["name"]: [] for host in case["hosts"]}
    for vm, host in zip(case["vms"], placement, strict=True):
        if host not in vm.get("allowed_hosts", [host]):
            return False
        there[host].append(vm)
    for host in case["hosts"]:
        here = there[host["name"]]
        if any(
            sum(vm["demand"][r] for vm in here) > most for r, most in enumerate(host["capacity"])
        ):
            return False
        names = {vm["name"] for vm in here}
        if any(len(names & {*group}) > 1 for group in case["anti_affinity"]):
            return False
    return True


def plainly_cheapest(case: dict[str, Any]) -> int | None:
    """The least cost by the plainest search there is, over all placements."""
    names = [vm["name"] for vm in case["vms"]]
    start, goal = (tuple(case[side][name] for name in names) for side in ("initial", "final"))
    best, heap = {start: 0}, [(0, start)]
    while heap:
        paid, placement = heapq.heappop(heap)
        if placement == goal:
            return paid
        if paid > best[placement]:
            continue
        for v, host in itertools.product(range(len(names)), case["hosts"]):
            after = (*placement[:v], host["name"], *placement[v + 1 :])
            # Sane with it at its destination is sane in flight: the source only gets emptier.
            if after != placement and sane(case, after):
                price = paid + case["vms"][v]["cost"]
                if price < best.get(after, price + 1):
                    best[after] = price
                    heapq.heappush(heap, (price, after))
    return None


@pytest.mark.parametrize("family", path_cases.FAMILIES)
def test_reference(family: str) -> None:
    """The reference finds what a plain search finds, and its witness is sane and costs that."""
    for case in path_cases.cases(f"{family}/any", 3, 4):
        known = case["known"]
        if len(case["hosts"]) ** len(case["vms"]) <= PLAINLY:
            assert known["optimal_cost"] == plainly_cheapest(case)
        assert known["reachable"] == (known["optimal_cost"] is not None)
        if not known["reachable"]:
            continue
        at, paid = dict(case["initial"]), 0
        costs = {vm["name"]: vm["cost"] for vm in case["vms"]}
        for name, source, dest in known["witness"]:
            assert at[name] == source != dest
            at[name] = dest
            paid += costs[name]
            assert sane(case, tuple(at.values()))
        assert at == case["final"]
        assert paid == known["optimal_cost"]


def swap(capacity: int) -> dict[str, Any]:
    """Two instances of 3 change places between two hosts, a third is empty."""
    return path_cases.case_of([[capacity], [capacity], [3]], [[3], [3]], [0, 1], [1, 0])


@pytest.mark.parametrize(("capacity", "moves", "rounds"), [(6, 2, 1), (5, 3, 3), (3, 3, 3)])
def test_rounds(capacity: int, moves: int, rounds: int) -> None:
    """With room for both on each host they cross in one round, else one has to step aside."""
    found = path_reference.solve(swap(capacity))
    assert (found.optimal_moves, found.optimal_rounds_1x1) == (moves, rounds)


def test_one_in_one_out() -> None:
    """Three that leave an empty-handed host for one other take three rounds, for three one each."""
    one = path_cases.case_of([[9]] * 2, [[1]] * 3, [0, 0, 0], [1, 1, 1])
    spread = path_cases.case_of([[9]] * 6, [[1]] * 3, [0, 1, 2], [3, 4, 5])
    assert path_reference.solve(one).optimal_rounds_1x1 == 3
    assert path_reference.solve(spread).optimal_rounds_1x1 == 1


def test_rounds_of_cheapest() -> None:
    """Crossing by way of a third host costs less than the dear one's detour, but takes longer.

    Two that cross, and no room for both on either host: the cheap one of cost 1 steps aside.  With
    room on one host they cross in one round for the same price.
    """
    tight = path_cases.case_of([[5], [5], [3]], [[3], [3]], [0, 1], [1, 0], [1, 9])
    found = path_reference.solve(tight)
    assert (found.optimal_cost, found.cheapest_rounds_1x1) == (11, 3)
    for case in path_cases.cases("custom_cost/extra", 7, 6):
        known = case["known"]
        assert known["optimal_rounds_1x1"] <= known["cheapest_rounds_1x1"]
        assert known["cheapest_rounds_1x1"] <= len(known["witness"])


def test_zones_add_up() -> None:
    """Cases side by side cost their sum, take the longest's rounds, and are stuck if one is."""
    parts = list(path_cases.cases("one_dim/extra", 5, 2))
    known = [part["known"] for part in parts]
    both = path_reference.solve(path_cases.beside(parts))
    assert both.optimal_cost == sum(one["optimal_cost"] for one in known)
    assert both.optimal_rounds_1x1 == max(one["optimal_rounds_1x1"] for one in known)
    stuck = next(path_cases.cases("one_dim/unreach_hard", 5, 1))
    assert not path_reference.solve(path_cases.beside([*parts, stuck])).reachable


def test_cases_repeat() -> None:
    """The same family and seed give the same cases; another seed gives others."""
    first, again, other = (list(path_cases.cases("two_dim", seed, 3)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_relaxation_is_sound() -> None:
    """What the relaxation proves has no path."""
    cases = path_cases.cases("tiny/any", 9, 60)
    easy = [case for case in cases if path_cases.easily_unreachable(case)]
    assert easy
    assert not any(case["known"]["reachable"] for case in easy)


def test_parking() -> None:
    """One of two that cross waits on the third host; where one that stays has to, it fails."""
    moves, solved = path_peers.parking(swap(3))
    assert (moves, solved) == ([("v0", "h2"), ("v1", "h0"), ("v0", "h1")], True)
    # Room for v0 (47) on h2 needs v2 (25) to leave it, which has no other reason to.
    sizes = [[47], [42], [25], [39], [58]]
    case = path_cases.case_of([[100]] * 3, sizes, [0, 2, 2, 0, 1], [1, 2, 2, 0, 0])
    assert path_reference.solve(case).optimal_cost == 47 + 58 + 47 + 2 * 25
    assert not path_peers.parking(case)[1]


def test_in_order() -> None:
    """What does not fit when its turn comes is left; an instance after it that fits goes."""
    case = path_cases.case_of([[3], [3], [3]], [[2], [2], [1]], [0, 1, 1], [1, 2, 2])
    assert path_peers.in_order(case) == ([("v1", "h2"), ("v2", "h2")], False)
    assert path_peers.there(case, [("v1", "h2"), ("v2", "h2")]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("capacity", "rounds"), [(6, 1), (5, 3), (3, 3)])
def test_rounds_of_peers(capacity: int, rounds: int) -> None:
    """What peers plan is carried out in as few rounds as can be, in both crossings."""
    case = swap(capacity)
    assert path_peers.rounds(case, path_peers.parking(case)[0]) == rounds


def test_growing_clouds() -> None:
    """They are as full as asked, and both ends are sane."""
    case = path_peers.grown(5, 20, 0.9, 1)
    names = [vm["name"] for vm in case["vms"]]
    for side in ("initial", "final"):
        assert sane(case, tuple(case[side][name] for name in names))
    assert sum(vm["demand"][0] for vm in case["vms"]) == pytest.approx(4500, rel=0.01)


@pytest.mark.parametrize("family", ["walk", "swap", "perm"])
@pytest.mark.parametrize("uneven", [False, True])
def test_clouds(family: str, uneven: bool) -> None:
    """So many move, both ends fit, the fill is as asked, and rings leave every load as it is."""
    kind = path_scale.Kind(family, 20, 100, 0.9, uneven=uneven)
    start, target = path_scale.drawn(kind, 4)
    ended = start.placed(target, start.cells_of)
    assert (start.host_of != target).sum() == 100
    assert not start.overfull()
    assert not ended.overfull()
    assert start.used().sum(axis=0) == pytest.approx(0.9 * start.capacity.sum(axis=0), rel=0.05)
    if family == "swap":
        assert (start.used() == ended.used()).all()
    if not uneven:
        assert (start.used() > 0.75 * start.capacity).all()


def migration(source: int, dest: int, start_s: float, depends_on: tuple[int, ...] = ()) -> Any:
    """One of the two instances, which has the number of its source, in one second."""
    hop = path.Hop(source, source, (), dest, (), path.DIRECT)
    return path.Migration(hop, depends_on, 1, start_s, start_s + 1)


@pytest.mark.parametrize(
    ("capacity", "starts", "flaw"),
    [
        (6, (0, 0), ""),
        (6, (0, 1), ""),
        (5, (0, 0), "no room"),
        (5, (0, 1), "no room"),
    ],
)
def test_judge_of_clouds(capacity: int, starts: tuple[float, float], flaw: str) -> None:
    """A swap needs room for both on both hosts, at once and one after the other."""
    state = path_scale.placement(
        np.array([[3, 3], [3, 3]]), np.array([capacity] * 2), np.array([0, 1]), 2
    )
    made = path.MigrationPath((migration(0, 1, starts[0]), migration(1, 0, starts[1])), {})
    found = path_scale.flaw(state, np.array([1, 0]), made, base.Limits(9))
    assert flaw in found
    assert bool(flaw) == bool(found)


def test_judge_of_order() -> None:
    """What starts before what it waits for has ended is refused, and what leads elsewhere."""
    state = path_scale.placement(np.array([[3, 3]] * 2), np.array([6] * 2), np.array([0, 1]), 2)
    limits, goal = base.Limits(9), np.array([1, 0])
    early = path.MigrationPath((migration(0, 1, 0), migration(1, 0, 0.5, (0,))), {})
    assert "waits for" in path_scale.flaw(state, goal, early, limits)
    half = dataclasses.replace(early, migrations=early.migrations[:1])
    assert "not reached" in path_scale.flaw(state, goal, half, limits)

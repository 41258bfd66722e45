# SPDX-License-Identifier: Apache-2.0
"""The fragment rate, by hand and against the checker's."""

import random

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer.checker import facts
from nova_rebalancer.checker import goal
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model.objectives import fragmentation
from tests import clouds

GOAL = fragmentation.Fragmentation(clouds.CORES)

SIZES = st.lists(st.integers(1, 17), min_size=1, max_size=3, unique=True)


def parts(made: clouds.Document) -> tuple[float, float]:
    """Fragments and free cores."""
    value = GOAL.evaluate(clouds.state_of(made))
    found = {part.name: part.value for part in value.parts}
    fragments, free = found["fragment_cores"], found["free_cores"]
    assert value.value == found["fragmentation"] == (fragments / free if free else 0.0)
    return fragments, free


def test_empty_full_and_overfull() -> None:
    """Nothing free counts as 0; an overfull host has none free rather than less than none."""
    assert parts(clouds.empty()) == (0, 0)
    assert parts(clouds.full()) == (0, 0)
    assert parts(clouds.overfull()) == (0, 8)


def test_hosts() -> None:
    """Free 2, 2 and 4 of which 2 + 2 are too few for 4; a disabled or down host is not counted."""
    made = clouds.three_hosts()
    assert parts(made) == (4, 8)
    made["hosts"][0]["status"] = "disabled"
    assert parts(made) == (2, 6)
    made["hosts"][1]["state"] = "down"
    assert parts(made) == (0, 4)


def test_several_sizes() -> None:
    """Free 2, 2 and 4: of 2 + 4 that 8 cores would be of 4 and 2 cores there are 1 + 4."""
    one = fragmentation.Fragmentation(2, 4)
    value = one.evaluate(clouds.state_of(clouds.three_hosts()))
    assert one.cores == (4, 2)
    assert [(part.name, part.value) for part in value.parts] == [
        ("fragmentation", pytest.approx(1 / 6)),
        ("fragment_cores_4", 4),
        ("fragment_cores_2", 0),
        ("free_cores", 8),
    ]
    assert one.counts(value) == (8, 5)


@pytest.mark.parametrize("sizes", [(), (4, 0), (999_983, 999_979)])
def test_no_sizes(sizes: tuple[int, ...]) -> None:
    """There is a size, each is at least 1, and together they are not too odd."""
    with pytest.raises(ValueError, match="fragment cores"):
        fragmentation.Fragmentation(*sizes)


def test_cells() -> None:
    """a: 8 - 2 - 4 = 2 and 8 - 2 - 2 = 4 are free; b: 8 and 6; each cell by itself."""
    assert parts(clouds.numa_doubles()) == (2 + 0 + 0 + 2, 2 + 4 + 8 + 6)


def test_mixed_host_is_one_unit() -> None:
    """An instance without topology makes a one unit of 8 - 2 - 2 = 4; b has cells 1 and 4."""
    made = clouds.mixed()
    assert parts(made) == (0 + 1 + 0, 4 + 1 + 4)
    # Without it a has cells 2 and 4.
    del made["instances"][1]
    assert parts(made) == (2 + 0 + 1 + 0, 2 + 4 + 1 + 4)
    # One that is on its way to a counts too, from b: 4 of 8 on a, 3 of 8 on b.
    made["instances"].append(clouds.instance("plain", "b", 2))
    made["running_migrations"] = [{"instance": "plain", "source": "b", "dest": "a"}]
    assert parts(made) == (0 + 3, 4 + 3)


def test_unknown_cells_are_no_units() -> None:
    """Cells that nobody knows leave the host one unit: 16 - 10 = 6 free."""
    made = clouds.numa_doubles()
    made["hosts"][0]["numa"]["provenance"] = "unknown"
    assert parts(made) == (2 + 0 + 2, 6 + 8 + 6)


def test_cell_without_cores() -> None:
    """A cell that does not count cores says nothing of them."""
    made = clouds.numa_doubles()
    del made["hosts"][1]["numa"]["cells"][0]["capacity"]["VCPU"]
    assert parts(made) == (2 + 0 + 2, 2 + 4 + 6)


def test_pcpu_comes_first() -> None:
    """Where a host has PCPU these are its cores, else VCPU; at reserved and ratio."""
    made = clouds.snapshot([clouds.host("a", 7)], [])
    assert parts(made) == (3, 7)
    made["hosts"][0]["inventories"]["PCPU"] = {"total": 6, "reserved": 1}
    assert parts(made) == (1, 5)
    made["hosts"][0]["inventories"]["PCPU"]["total"] = 0
    made["hosts"][0]["inventories"]["PCPU"]["reserved"] = 0
    assert parts(made) == (3, 7)
    made["hosts"][0]["inventories"]["VCPU"]["allocation_ratio"] = 1.5  # 10.5 is 10
    assert parts(made) == (2, 10)
    made["hosts"][0]["inventories"] = {}
    assert parts(made) == (0, 0)


def test_running_migration_is_charged_twice() -> None:
    """i takes 6 of a and 6 of b: free 2, 2 and, beside j, 4."""
    assert parts(clouds.running_migration()) == (4, 8)


def test_cores_of_the_question() -> None:
    """X is at least 1, and with 1 there are no fragments."""
    with pytest.raises(ValueError, match="at least 1, not 0"):
        fragmentation.Fragmentation(0)
    start = clouds.state_of(clouds.three_hosts())
    assert fragmentation.Fragmentation(1).evaluate(start).value == 0.0
    assert fragmentation.Fragmentation(16).evaluate(start).value == 1.0


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(4, 8), SIZES, st.integers(0, 2**32))
def test_trace_and_checker_agree(made: clouds.Document, sizes: list[int], seed: int) -> None:
    """The value is the checker's, at the start and, step by step, along any legal hops."""
    one = fragmentation.Fragmentation(*sizes)
    start, rng = clouds.state_of(made), random.Random(seed)
    seen = facts.read(clouds.as_bytes(made), "test")
    book, hops, values = ledger.Ledger(start), [], []
    here = goal.fragment_rate(seen, facts.load(seen, seen.placement), seen.placement, sizes)
    assert one.evaluate(start).value == pytest.approx(here, abs=1e-12)
    for _ in range(6):
        v = rng.randrange(len(start.instances))
        h = rng.randrange(len(start.hosts))
        cells = book.cells_for(v, h)
        if cells is None:
            continue
        source = tuple(book.cells_of[v, : start.guests_of[v]].tolist())
        hops.append(path.Hop(v, int(book.host_of[v]), source, h, cells, path.DIRECT))
        book.move(v, h, cells)
        values.append(one.evaluate(book.placement()).value)
    steps = one.trace(start, hops)
    assert [step.value for step in steps] == values


def test_trace_in_words() -> None:
    """A step tells the free cores of the units it changed; of a host, where it is one unit."""
    start = clouds.state_of(clouds.mixed())
    (step,) = GOAL.trace(start, [path.Hop(0, 0, (0,), 1, (1,), path.DIRECT)])
    assert step.text == "free cores on a: 4 -> 6, b cell 1: 4 -> 2"
    # The last without topology leaves: a has cells again, 2 + 4 free, and b, as one, 8 - 3 - 2.
    (step,) = GOAL.trace(start, [path.Hop(1, 0, (), 1, (), path.DIRECT)])
    assert step.text == "free cores on a: 4 -> 6, b: 5 -> 3"

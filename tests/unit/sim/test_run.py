# SPDX-License-Identifier: Apache-2.0
"""Carrying migrations out on the cloud in memory."""

from collections.abc import Sequence
import random

import hypothesis
from hypothesis import strategies
import pytest

from nova_rebalancer.collect import document
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path as model_path
from nova_rebalancer.model import state
from nova_rebalancer.path import base as path_base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory
from nova_rebalancer.sim import cloud
from nova_rebalancer.sim import demo
from nova_rebalancer.sim import run
from tests.unit.sim import clouds

DEMO = document.loads(demo.document(1, 30), "the demo cloud")[0]


def order(name: str, source: str, dest: str, *depends_on: str) -> run.Order:
    """Move the instance of this name to cell 0 of a host."""
    return run.Order(name, name, f"id-{source}", f"id-{dest}", (0,), depends_on)


def chain(*cores: int) -> cloud.SimCloud:
    """Instances v0, v1, ... of these cores, on hosts a, b, c in turn; 1 GiB copies in 1 s."""
    return cloud.SimCloud(
        clouds.three_hosts(
            *(clouds.instance(f"v{i}", "abc"[i % 3], n) for i, n in enumerate(cores))
        ),
        1024.0,
    )


def test_dependencies_are_waited_for():
    """v0 needs the cell that v1 leaves, so it starts when v1 is confirmed, at 9 s."""
    carry_out = run.Run(chain(8, 8), [order("v0", "a", "b", "v1"), order("v1", "b", "c")])
    assert [started.id for started in carry_out.start()] == ["v1"]
    assert [confirmed.id for confirmed, _ in carry_out.finish()] == ["v1"]
    assert carry_out.to_end() == 18.0
    assert [confirmed.id for confirmed in carry_out.confirmed] == ["v1", "v0"]


def test_without_its_dependency_it_is_refused():
    """The plan's order is what keeps it safe; the cloud notices when it is missing."""
    carry_out = run.Run(chain(8, 8), [order("v0", "a", "b"), order("v1", "b", "c")])
    carry_out.to_end()
    assert [(refusal.order.id, refusal.why.code) for refusal in carry_out.refused] == [
        ("v0", "numa")
    ]
    assert [confirmed.id for confirmed in carry_out.confirmed] == ["v1"]


def test_hosts_have_limits():
    """Two instances for one host go one after the other; with limit 2, at once."""
    orders = [order("v0", "a", "c"), order("v1", "b", "c")]
    assert run.Run(chain(3, 3), orders).to_end() == 8.0
    assert run.Run(chain(3, 3), orders, incoming=2).to_end() == 4.0


def test_refusal_stops_those_that_wait_for_it():
    """There is no v9, so v0, which waits for it, never starts; v2 does."""
    orders = [
        order("v0", "a", "b", "v9"),
        order("v9", "b", "c"),
        order("v2", "c", "a"),
    ]
    carry_out = run.Run(chain(4, 4, 4), orders)
    carry_out.to_end()
    assert [refusal.why.code for refusal in carry_out.refused] == ["unknown_instance"]
    assert [left.id for left in carry_out.not_started()] == ["v0"]
    assert [confirmed.id for confirmed in carry_out.confirmed] == ["v2"]


def test_stop_finishes_what_runs():
    """After a stop nothing starts, and what is in flight ends well."""
    carry_out = run.Run(chain(8, 8), [order("v0", "a", "b", "v1"), order("v1", "b", "c")])
    carry_out.start()
    carry_out.stop()
    assert carry_out.to_end() == 9.0
    assert [confirmed.id for confirmed in carry_out.confirmed] == ["v1"]
    assert [left.id for left in carry_out.not_started()] == ["v0"]


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ([order("v0", "a", "b"), order("v0", "a", "c")], 'two migrations have the id "v0"'),
        ([order("v0", "a", "b", "v7")], 'migration "v0" depends on "v7", which is not there'),
        (
            [order("v0", "a", "b", "v1"), order("v1", "b", "c", "v0")],
            'migration "v0" waits, over others, for itself',
        ),
        ([order("v0", "a", "b", "v0")], 'migration "v0" waits, over others, for itself'),
    ],
)
def test_impossible_orders(orders, text):
    """Orders that could never all be carried out are refused before the first one starts."""
    with pytest.raises(ValueError, match=text):
        run.Run(chain(4, 4), orders)


def orders_of(
    start: state.PlacementState, migrations: Sequence[model_path.Migration]
) -> list[run.Order]:
    """The migrations of a path as orders."""
    return [
        run.Order(
            str(k),
            start.instances[migration.hop.v],
            start.hosts[migration.hop.source],
            start.hosts[migration.hop.dest],
            tuple(start.cell_ids[migration.hop.dest][n] for n in migration.hop.dest_cells),
            tuple(str(j) for j in migration.depends_on),
        )
        for k, migration in enumerate(migrations)
    ]


@pytest.fixture(scope="module")
def demo_path() -> tuple[state.PlacementState, model_path.MigrationPath]:
    """The path to where 300 random moves lead, one after another: full of dependencies."""
    start = state.build(DEMO)
    book, draw = ledger.Ledger(start), random.Random(0)
    for _ in range(300):
        v = draw.choice(start.movable.nonzero()[0].tolist())
        spots = [(h, book.cells_for(v, h)) for h in book.hosts_with_room(v).tolist()]
        fitting = [(h, cells) for h, cells in spots if cells is not None]
        if fitting:
            book.move(v, *draw.choice(fitting))
    path = finder.find(start, book.host_of, book.cells_of, memory.Memory(), path_base.Limits(500))
    assert len(path.migrations) > 50
    assert sum(bool(migration.depends_on) for migration in path.migrations) > 20
    return start, path


@hypothesis.given(
    limits=strategies.tuples(strategies.integers(1, 5), strategies.integers(1, 5)),
    shuffle=strategies.randoms(use_true_random=False),
    rate_mibps=strategies.sampled_from([100.0, 1000.0, 1e9]),
)
@hypothesis.settings(max_examples=20)
def test_every_interleaving_reaches_the_target(demo_path, limits, shuffle, rate_mibps):
    """Whoever goes first, as long as dependencies are kept: nothing is refused, all arrive."""
    start, path = demo_path
    orders = orders_of(start, path.migrations)
    shuffle.shuffle(orders)
    carry_out = run.Run(cloud.SimCloud(DEMO, rate_mibps), orders, *limits)
    carry_out.to_end()
    assert carry_out.refused == []
    after, promised = state.build(carry_out.sim.snapshot()), path.replay(start)
    assert (after.host_of == promised.host_of).all()
    assert (after.cells_of == promised.cells_of).all()

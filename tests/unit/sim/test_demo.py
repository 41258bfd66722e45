# SPDX-License-Identifier: Apache-2.0
"""The demo cloud."""

import collections
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.path import base as path_base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory
from nova_rebalancer.plan import base as plan_base
from nova_rebalancer.plan import greedy
from nova_rebalancer.plan import mip
from nova_rebalancer.sim import demo

GOAL = fragmentation.Fragmentation(demo.FRAGMENT_CORES)
SEEDS = (0, 1, 2, 3, 11, 2026)


def snapshot(seed: int, hosts: int = demo.HOSTS) -> cloud.Snapshot:
    """The demo cloud as every command reads it."""
    return document.loads(demo.document(seed, hosts), "the demo cloud")[0]


def test_bytes_are_the_same_everywhere():
    """A plan names the sha256 of this document, so it must not change unnoticed."""
    assert hashlib.sha256(demo.document(0)).hexdigest() == (
        "2fbdf77567485676333829db57e7225009f9b68ba13887eba9d3b41eb6c3320f"
    )


def test_bytes_do_not_depend_on_hash_seed():
    """Another process, with another order of sets of strings, makes the same bytes."""
    code = "import sys; from nova_rebalancer.sim import demo; sys.stdout.buffer.write({})"
    done = subprocess.run(
        [sys.executable, "-c", code.format("demo.document(5, 20)")],
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == demo.document(5, 20)


def test_seeds_differ():
    """Each seed is another cloud."""
    assert len({demo.document(seed, 12) for seed in range(5)}) == 5


@pytest.mark.parametrize("hosts", [demo.MIN_HOSTS, 11, 29, 30, 31, 150])
def test_sizes(hosts):
    """Small and large clouds are sound snapshots with every kind of feature."""
    made = snapshot(3, hosts)
    assert len(made.hosts) == hosts
    assert {host.status for host in made.hosts} == {"enabled", "disabled"}
    assert not state.build(made).overfull()


@pytest.mark.parametrize("hosts", [-1, 0, demo.MIN_HOSTS - 1, demo.MAX_HOSTS + 1])
def test_impossible_sizes(hosts):
    """A cloud too small for its server groups, or absurdly large, is refused."""
    with pytest.raises(exceptions.UsageError, match=f"not {hosts}$"):
        demo.document(0, hosts)


@pytest.mark.parametrize("seed", SEEDS)
def test_fill_and_rate(seed):
    """The cloud is as full, and its free cores lie in such pieces, as promised."""
    placement = state.build(snapshot(seed))
    pcpu = placement.resources.index("PCPU")
    on = np.nonzero(placement.usable)[0]
    capacity, used = placement.capacity[on, pcpu].sum(), placement.used()[on, pcpu].sum()
    assert demo.FILL[0] <= 100 * used / capacity <= demo.FILL[1]
    assert demo.FRAGMENT_RATE[0] <= 100 * GOAL.evaluate(placement).value <= demo.FRAGMENT_RATE[1]
    assert not placement.overfull()
    assert (placement.numa_free() >= 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_features(seed):
    """It has what makes planning hard: maintenance, groups, instances that must stay."""
    made = snapshot(seed)
    assert collections.Counter((host.status, host.state) for host in made.hosts) == {
        ("enabled", "up"): 56,
        ("disabled", "up"): 3,
        ("enabled", "down"): 1,
    }
    assert len({host.az for host in made.hosts}) == 3
    on = collections.Counter(instance.host for instance in made.instances)
    # One host in maintenance is empty already, the others are being emptied.
    assert sorted(on[host.id] > 0 for host in made.hosts if host.status == "disabled") == [
        False,
        True,
        True,
    ]
    policies = collections.Counter(group.policy for group in made.server_groups)
    assert policies["anti-affinity"] >= 5
    assert policies["affinity"] == 2
    assert policies["soft-affinity"] == 1
    reasons = collections.Counter(why.reason.code for why in state.build(made).excluded.values())
    assert set(reasons) == {
        "affinity", "host_not_usable", "locked", "opted_out", "status", "task_state",
    }  # fmt: skip
    sizes = {len(instance.numa) for instance in made.instances}
    assert sizes == {1, 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_are_kept(seed):
    """Hard rules hold already: nobody shares a host who must not, nobody is apart."""
    made = snapshot(seed)
    host_of = {instance.id: instance.host for instance in made.instances}
    for group in made.server_groups:
        hosts = [host_of[member] for member in group.members]
        if group.policy == "anti-affinity":
            assert len(set(hosts)) == len(hosts) == 3
        if group.policy == "affinity":
            assert len(set(hosts)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_takes_off_a_quarter(seed):
    """Even the simple planner has something to show, and its moves make a path."""
    start = state.build(snapshot(seed))
    found = greedy.plan(start, GOAL, plan_base.Budget(50), 0, plan_base.Watch())
    limits = path_base.Limits(50)
    path = finder.find(start, found.host_of, found.cells_of, memory.Memory(), limits)
    assert not path.unreachable
    assert GOAL.evaluate(path.replay(start)).value == found.value.value
    assert found.value.value < 0.75 * GOAL.evaluate(start).value


def test_mip_beats_greedy():
    """The exact planner finds what the greedy one does not see, and a path leads there."""
    start = state.build(snapshot(0, 20))
    easy = greedy.plan(start, GOAL, plan_base.Budget(50), 0, plan_base.Watch())
    best = mip.plan(start, GOAL, plan_base.Budget(50, work=5.0), 0, plan_base.Watch())
    path = finder.find(start, best.host_of, best.cells_of, memory.Memory(), path_base.Limits(50))
    reached = GOAL.evaluate(path.replay(start)).value
    assert reached < easy.value.value
    assert reached < 0.5 * GOAL.evaluate(start).value

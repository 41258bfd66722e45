# SPDX-License-Identifier: Apache-2.0
"""The cloud in memory as something to carry plans out on."""

import dataclasses

import pytest

from nova_rebalancer.execute import base
from nova_rebalancer.execute import check
from nova_rebalancer.execute import states
from nova_rebalancer.execute import verdict
from nova_rebalancer.model import cloud as facts
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.sim import cloud
from nova_rebalancer.sim import mover
from tests.unit.execute import entries
from tests.unit.sim import clouds

RATE_MIBPS = 1024.0
"""So that a core, which has a GiB, takes a second; another one is for all else."""


def moves(*instances: facts.Instance, cells: mover.Cells | None = None, **more: object):
    """Hosts a, b and c with these instances."""
    made = clouds.three_hosts(*instances, **more)
    return mover.Mover(cloud.SimCloud(made, RATE_MIBPS), cells)


def test_a_migration_as_nova_tells_it():
    """Accepted with the id of its action; a task while it runs; then host and record agree."""
    made = moves(clouds.instance("v", "a", 4))
    began = made.now()
    request = made.live_migrate("v", "b")
    during = made.sight("v")
    assert (during.host, during.task_state) == ("a", "migrating")
    (record,), (action,) = during.records, during.actions
    assert (record.type, record.status, record.source, record.dest) == (
        "live-migration", "running", "a", "b",
    )  # fmt: skip
    assert (action.request, action.user, action.finished) == (request, made.user, False)
    made.wait(4.9)
    assert made.sight("v").records == during.records
    made.wait(0.1)
    after = made.sight("v")
    assert (after.host, after.status, after.task_state) == ("b", "ACTIVE", None)
    assert (after.records[0].status, after.actions[0].finished) == ("completed", True)
    assert made.now() - began == pytest.approx(5.0)


def test_the_executors_judge_understands_it():
    """What the cloud shows is judged as Nova's would be: running, confirmed, refused."""
    made = moves(clouds.instance("v", "a", 4), clouds.instance("w", "c", 4, locked=True))
    for instance, source, expected in (("v", "a", states.CONFIRMED), ("w", "c", states.FAILED)):
        request = made.live_migrate(instance, "b")
        entry = entries.entry(instance, source, request=request, known_record=0, known_action=None)
        if expected == states.CONFIRMED:
            assert verdict.judge(entry, made.sight(instance), made.user, made.now(), 0.0) is None
            made.wait(5.0)
        found = verdict.judge(entry, made.sight(instance), made.user, made.now(), 0.0)
        assert found.state == expected


def test_a_refusal_shows_in_the_record():
    """As Nova the cloud accepts first; the record ends without a destination, with the reason."""
    made = moves(clouds.instance("v", "a", 8), clouds.instance("w", "b", 8, (0, 1)))
    full = clouds.with_host(made.sim.snapshot(), "b", status="disabled")
    made = mover.Mover(cloud.SimCloud(full, RATE_MIBPS))
    made.live_migrate("v", "b")
    seen = made.sight("v")
    assert (seen.host, seen.task_state) == ("a", None)
    assert (seen.records[-1].status, seen.records[-1].dest) == ("error", None)
    assert seen.actions[0].finished and "b is disabled" in seen.actions[0].error


def test_records_grow():
    """Later records have greater ids and come last; later actions come first."""
    made = moves(clouds.instance("v", "a", 1))
    for dest in ("b", "c", "a"):
        made.live_migrate("v", dest)
        made.wait(2.0)
    seen = made.sight("v")
    assert seen.host == "a"
    assert [one.dest for one in seen.records] == ["b", "c", "a"]
    assert [one.id for one in seen.records] == sorted({one.id for one in seen.records})
    assert [one.request for one in seen.actions] == ["req-3", "req-2", "req-1"]


def test_goes_to_the_planned_cells():
    """Where the plan chose the NUMA cells, the instance comes to these."""
    made = moves(clouds.instance("v", "a", 4), cells={("v", "b"): (1,)})
    made.live_migrate("v", "b")
    made.wait(5.0)
    assert [one.cell for one in made.sim.instance("v").numa] == [1]


def test_abort():
    """A migration that is given up leaves the instance and frees the room at its destination."""
    made = moves(clouds.instance("v", "a", 8), clouds.instance("w", "c", 8))
    made.live_migrate("v", "b")
    record = made.sight("v").records[0]
    made.wait(2.0)
    made.abort("v", record.id)
    seen = made.sight("v")
    assert (seen.host, seen.task_state, seen.records[0].status) == ("a", None, "cancelled")
    with pytest.raises(base.RefusedError) as caught:
        made.abort("v", record.id)
    assert caught.value.status == 409
    made.wait(100.0)
    assert made.sight("v").host == "a"
    made.live_migrate("w", "b")
    made.wait(9.0)
    assert made.sight("w").host == "b"


def test_progress():
    """Half of the time, half of the bytes; nothing of what does not run."""
    made = moves(clouds.instance("v", "a", 4))
    assert made.progress("v", 1) is None
    made.live_migrate("v", "b")
    made.wait(2.5)
    done = made.progress("v", 1)
    assert (done.total, done.processed, done.remaining) == (2**32, 2**31, 2**31)


def test_says_no_as_nova_does():
    """Unknown instances are 404; what cannot be done now, or at all here, is 409."""
    made = moves(clouds.instance("v", "a", 4))
    assert not made.sight("nobody").exists
    made.live_migrate("v", "b")
    for ask, status in (
        (lambda: made.live_migrate("nobody", "b"), 404),
        (lambda: made.live_migrate("v", "c"), 409),
        (lambda: made.cold_migrate("v", "c"), 409),
        (lambda: made.confirm("v"), 409),
        (lambda: made.force_complete("v", 1), 409),
    ):
        with pytest.raises(base.RefusedError) as caught:
            ask()
        assert caught.value.status == status


def test_kept():
    """What is locked, or whose owner says so, is kept; what is not there, or free, is not."""
    made = moves(
        clouds.instance("free", "a", 1),
        clouds.instance("locked", "a", 1, locked=True),
        clouds.instance("out", "b", 1, tags=("nova-rebalancer:stay",)),
    )
    assert made.kept("locked") and made.kept("out")
    assert made.kept("free") is None and made.kept("nobody") is None


def test_looks_at_what_was_asked_for():
    """A look shows the hosts, what is on them, who else is in a group, and what runs there."""
    group = facts.ServerGroup("g", "anti-affinity", ("v", "w", "x"))
    made = moves(
        clouds.instance("v", "a", 1),
        clouds.instance("w", "c", 1),
        clouds.instance("x", "b", 1),
        clouds.instance("y", "b", 1),
        clouds.instance("z", "c", 1),
        server_groups=(group,),
        aggregates=(facts.Aggregate("all", ("id-a", "id-b", "id-c"), {}),),
    )
    whole = made.look("v", ("a", "b"))
    assert [one.service_host for one in whole.hosts] == ["a", "b", "c"]
    part = made.look("y", ("b", "a"))
    assert [one.service_host for one in part.hosts] == ["a", "b"]
    assert [one.id for one in part.instances] == ["v", "x", "y"]
    assert part.server_groups[0].members == ("v", "x")
    assert part.aggregates[0].hosts == ("id-a", "id-b")
    assert part.running_migrations == ()
    made.live_migrate("z", "b")
    far = made.look("y", ("b", "a"))
    assert [one.instance for one in far.running_migrations] == ["z"]
    assert "c" in [one.service_host for one in far.hosts]


def test_a_look_is_enough_for_the_check():
    """The last look works on what a look gives: it passes, and stops on what is full."""
    made = moves(clouds.instance("v", "a", 4), clouds.instance("w", "b", 8, (0, 1)))
    entry = entries.entry("v", "a", "b")
    assert check.last_look(entry, made.look("v", ("a", "b")), (), rules.DEFAULTS) is None
    gone = check.last_look(
        dataclasses.replace(entry, instance="nobody"),
        made.look("nobody", ("a", "b")),
        (),
        rules.DEFAULTS,
    )
    assert gone.code == "gone"


def test_who_watches_is_waited_for():
    """Simulated seconds are handed to whoever lets real ones pass."""
    waited: list[float] = []
    made = mover.Mover(cloud.SimCloud(clouds.three_hosts()), sleep=waited.append)
    made.wait(1.5)
    made.wait(2.0)
    assert waited == [1.5, 2.0]
    assert mover.instantly(10.0) is None

# SPDX-License-Identifier: Apache-2.0
"""Carrying out: on the cloud in memory, with trouble of every kind, and killed anywhere."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import datetime
import functools
import random
from typing import Any

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from nova_rebalancer import controller
from nova_rebalancer.cmd import stage
from nova_rebalancer.collect import document
from nova_rebalancer.execute import base
from nova_rebalancer.execute import executor
from nova_rebalancer.execute import gate
from nova_rebalancer.execute import states
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.path import base as path_base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory
from nova_rebalancer.sim import cloud as sim_cloud
from nova_rebalancer.sim import demo
from nova_rebalancer.sim import mover
from nova_rebalancer.store import journal
from nova_rebalancer.store import records

OWNER = "here:1:1"
QUICK = executor.Options(
    gate.Limits(total=8), poll_s=5.0, retry_s=2.0, patience_s=60.0, downtime_budget_s=1e9
)
LENIENT = dataclasses.replace(QUICK, breaker_failures=99, host_failures=99, drift_share=1.0)


class Killed(BaseException):
    """The program ended here."""


@functools.cache
def made() -> tuple[cloud.Snapshot, dict[str, Any]]:
    """A small cloud, and twelve migrations of which some wait for others, to no purpose."""
    snapshot, sha256 = document.loads(demo.document(5, 12), "the demo cloud")
    start = state.build(snapshot)
    chance, book = random.Random(3), ledger.Ledger(start)
    hops: list[path.Hop] = []
    movable = [int(v) for v in np.nonzero(start.movable)[0]]
    while len(hops) < 12:
        # Few instances, so that some move twice.
        v = chance.choice(movable[:9])
        source, before = int(book.host_of[v]), tuple(c for c in book.cells_of[v].tolist() if c >= 0)
        there = book.hosts_with_room(v).tolist()
        h = chance.choice(there) if there else source
        cells = book.cells_for(v, h)
        if cells is not None and not any(hop.v == v and hop.dest == h for hop in hops):
            book.move(v, h, cells)
            hops.append(path.Hop(v, source, before, h, cells, path.DIRECT))
    limits = path_base.Limits(12, 1, 1, float("inf"))
    found = finder.from_hops(start, hops, {}, memory.Memory(), limits)
    goal = fragmentation.Fragmentation(16)
    plan = plan_document.Plan(
        snapshot, sha256, start, found, goal.trace(start, hops), goal.evaluate(start),
        goal.evaluate(book.placement()), None, "feasible", goal.name, "by hand",
        dataclasses.asdict(controller.Options(max_migrations=12)), 0.0,
    )  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    written = plan_document.document(plan, "a plan", now, 3600, {})
    return snapshot, written


@functools.cache
def unkilled() -> dict[str, str]:
    """Where every instance is after a run that nobody disturbed."""
    scene = Scene()
    scene.carry_out()
    return scene.hosts()


def first() -> dict[str, Any]:
    """A migration that others wait for."""
    migrations = made()[1]["migrations"]
    needed = {key for one in migrations for key in one["depends_on"]}
    return next(one for one in migrations if one["id"] in needed)


def nothing() -> None:
    """Do not end the program."""


class Trouble(mover.Mover):
    """A cloud that loses answers and fails migrations, and whose caller may be killed.

    ``lost`` are requests, counted from 0, whose answer never comes (True: they were carried out),
    ``fails`` the statuses that instances' migrations end with, ``refuses`` HTTP statuses.
    """

    request_timeout_s = 5.0

    def __init__(
        self,
        lost: dict[int, bool] | None = None,
        fails: dict[str, str] | None = None,
        refuses: dict[str, int] | None = None,
    ) -> None:
        snapshot, plan = made()
        places = {
            (one["instance"], one["dest"]): tuple(one["dest_numa"])
            for one in plan["migrations"]
            if one["dest_numa"] is not None
        }
        super().__init__(sim_cloud.SimCloud(snapshot), places)
        self.asked: list[tuple[str, str]] = []
        """What was carried out."""
        self.step: Callable[[], None] = nothing
        """Called before and after each request."""
        self._lost = lost or {}
        self._fails = fails or {}
        self._refuses = refuses or {}
        self._calls = 0

    def live_migrate(self, instance: str, dest: str) -> str:
        self.step()
        call, self._calls = self._calls, self._calls + 1
        if instance in self._refuses:
            raise base.RefusedError(self._refuses[instance], "refused")
        if self._lost.get(call) is False:
            raise base.UnansweredError("lost on the way there")
        request = super().live_migrate(instance, dest)
        self.asked.append((instance, dest))
        if instance in self._fails:
            self.sim.cancel(instance)
            self._end(instance, self._fails[instance])
        self.step()
        if self._lost.get(call):
            raise base.UnansweredError("lost on the way back")
        return request


class Steps:
    """Ends the program so many steps after it was started, again and again."""

    def __init__(self, ends: Iterator[int]) -> None:
        self._ends = ends
        self._left = next(ends, None)

    def step(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            self._left = next(self._ends, None)
            raise Killed


class Fragile(journal.Journal):
    """A journal whose writer may be killed before and after each write."""

    step: Callable[[], None] = staticmethod(nothing)

    def change(self, *args: Any, **kwargs: Any) -> records.Entry:
        self.step()
        entry = super().change(*args, **kwargs)
        self.step()
        return entry

    def note(self, *args: Any, **kwargs: Any) -> records.Entry:
        self.step()
        entry = super().note(*args, **kwargs)
        self.step()
        return entry


class Scene:
    """One run of the plan, which may need several processes."""

    def __init__(
        self,
        there: Trouble | None = None,
        options: executor.Options = QUICK,
        ends: Sequence[int] = (),
    ) -> None:
        self.snapshot, self.plan = made()
        self.cloud = there or Trouble()
        self.book = Fragile(journal.open("sqlite://")._data)
        self.options = options
        self.steps = Steps(iter(ends))
        self.run = self.book.begin(
            self.plan,
            cloud="demo",
            region=None,
            owner=OWNER,
            now=self.cloud.now(),
            entries=stage.entries(self.plan["migrations"], self.snapshot),
        )

    def executor(self, view: executor.View | None = None, **more: Any) -> executor.Executor:
        return executor.Executor(
            self.cloud,
            self.book,
            self.run,
            OWNER,
            self.snapshot,
            stage.settings(self.plan, "plan"),
            self.options,
            view or executor.View(),
            **more,
        )

    def process(self, **more: Any) -> str:
        """Carry it out with one process.

        Raises
        ------
        Killed
            If it is killed.
        """
        work = self.executor(**more)
        self.book.step = self.cloud.step = self.steps.step
        try:
            return work.carry_out()
        finally:
            self.book.step = self.cloud.step = nothing

    def carry_out(self, **more: Any) -> str:
        """Carry it out, with as many processes as it takes."""
        while True:
            try:
                return self.process(**more)
            except Killed:
                # What is under way in the cloud goes on without us.
                self.cloud.wait(0.5)

    def entries(self) -> dict[str, records.Entry]:
        return {one.key: one for one in self.book.entries(self.run.id)}

    def states(self) -> set[str]:
        return {one.state for one in self.entries().values()}

    def hosts(self) -> dict[str, str]:
        return {one.id: one.host for one in self.cloud.sim.snapshot().instances}


def test_whole_plan():
    """Every migration of a sane plan arrives, in an order that its dependencies allow."""
    scene = Scene()
    assert scene.carry_out() == states.DONE
    assert scene.states() == {states.CONFIRMED}
    found = scene.entries()
    for one in found.values():
        assert all(found[key].ended_at <= one.requested_at for key in one.depends_on)


@hypothesis.settings(max_examples=20)
@hypothesis.given(st.lists(st.integers(0, 40), max_size=12))
def test_killed_anywhere(ends):
    """Killed between any two writes it comes to the same end, and asks for nothing twice."""
    scene = Scene(ends=ends)
    assert scene.carry_out() == states.DONE
    assert scene.hosts() == unkilled()
    assert len(scene.cloud.asked) == len(set(scene.cloud.asked)) == len(scene.plan["migrations"])


class Deadly(Trouble):
    """The first requests kill the program before they are sent."""

    deaths = 4

    def live_migrate(self, instance: str, dest: str) -> str:
        if self.deaths:
            self.deaths -= 1
            raise Killed
        return super().live_migrate(instance, dest)


def test_killed_while_asking():
    """A program that was killed before it asked has not asked: no attempt is lost."""
    scene = Scene(Deadly())
    assert scene.options.attempts < Deadly.deaths
    assert scene.carry_out() == states.DONE
    assert scene.states() == {states.CONFIRMED}
    assert {one.attempts for one in scene.entries().values()} == {1}


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    st.dictionaries(st.integers(0, 15), st.booleans(), max_size=3),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_lost_answers(lost, ends):
    """Whether a request was carried out is found in Nova: none is repeated that was."""
    scene = Scene(Trouble(lost), ends=ends)
    scene.carry_out()
    assert len(scene.cloud.asked) == len(set(scene.cloud.asked))
    assert scene.states() == {states.CONFIRMED}


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    st.dictionaries(
        st.integers(0, 11), st.sampled_from(["error", "failed", "cancelled"]), max_size=4
    ),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_dependents_never_start(fails, ends):
    """What waits for a migration that did not arrive is never asked for."""
    migrations = made()[1]["migrations"]
    which = {migrations[k % len(migrations)]["instance"]: status for k, status in fails.items()}
    scene = Scene(Trouble(fails=which), ends=ends)
    assert scene.carry_out() in (states.DONE, states.PARTLY, states.STOPPED)
    found = scene.entries()
    for one in found.values():
        assert one.state in states.FINAL
        if one.attempts:
            assert all(found[key].state == states.CONFIRMED for key in one.depends_on)
        if one.code == "dependency":
            assert any(found[key].state != states.CONFIRMED for key in one.depends_on)


def test_circuit_breaker():
    """After so many failures nothing more is started."""
    which = {one["instance"]: "failed" for one in made()[1]["migrations"]}
    options = dataclasses.replace(LENIENT, breaker_failures=2, limits=gate.Limits(total=3))
    scene = Scene(Trouble(fails=which), options)
    assert scene.carry_out() == states.STOPPED
    # Those in flight when it opened fail, too.
    assert 2 <= scene.book.counts(scene.run.id)[states.FAILED] <= 4
    assert any(not one.attempts for one in scene.entries().values())


def test_bad_host():
    """From or to a host where migrations failed too often nothing more is moved."""
    one = first()
    failing = [
        other["instance"] for other in made()[1]["migrations"] if other["source"] == one["source"]
    ]
    scene = Scene(
        Trouble(fails=dict.fromkeys(failing, "failed")),
        dataclasses.replace(LENIENT, host_failures=1),
    )
    scene.carry_out()
    failed = [e for e in scene.entries().values() if e.state == states.FAILED]
    skipped = [e for e in scene.entries().values() if e.code == "bad_host"]
    assert failed
    hosts = {host for e in failed for host in (e.source, e.dest)}
    assert all({e.source, e.dest} & hosts for e in skipped)


def test_drift():
    """A plan most of whose migrations no longer fit is dropped as a whole, with the reason."""
    which = {one["instance"]: 404 for one in made()[1]["migrations"]}
    options = dataclasses.replace(LENIENT, drift_share=0.2, limits=gate.Limits(total=1))
    scene = Scene(Trouble(refuses=which), options)
    assert scene.carry_out() == states.PARTLY
    dropped = [one for one in scene.entries().values() if one.code == "drifted"]
    assert dropped
    assert "no longer fit the cloud" in dropped[0].text


@pytest.mark.parametrize(("status", "state"), [(409, states.SKIPPED), (404, states.FAILED)])
def test_refusals(status, state):
    """A refusal that may pass is tried again and given up; one that stays is final at once."""
    one = first()
    scene = Scene(Trouble(refuses={one["instance"]: status}))
    scene.carry_out()
    found = scene.entries()[one["id"]]
    assert found.state == state
    assert found.attempts == (QUICK.attempts if status == 409 else 1)


def test_forbidden_stops():
    """An account that may not migrate stops the run with the first answers."""
    which = {one["instance"]: 403 for one in made()[1]["migrations"]}
    scene = Scene(Trouble(refuses=which))
    assert scene.carry_out() == states.STOPPED
    assert not scene.cloud.asked
    assert {one.code for one in scene.entries().values()} <= {
        "forbidden",
        "stopped",
        "dependency",
    }


def test_end_only():
    """Told to end, it waits for what is under way and starts nothing."""
    scene = Scene(ends=[9])
    with pytest.raises(Killed):
        scene.process()
    before = list(scene.cloud.asked)
    assert before
    assert scene.carry_out(end_only="told to") == states.STOPPED
    assert scene.cloud.asked == before
    assert scene.states() == {states.CONFIRMED, states.SKIPPED}


def test_time_limit():
    """What takes too long is given up, is UNKNOWN until Nova says so, and ends as ABORTED."""
    options = dataclasses.replace(
        LENIENT, time_factor=1.0, time_extra_s=0.0, rate_mibps=1e9, overhead_s=1.0
    )
    scene = Scene(options=options)
    scene.carry_out()
    changes = [one.after for one in scene.book.changes(scene.run.id)]
    assert states.ABORTED in changes
    assert changes.index(states.UNKNOWN) < changes.index(states.ABORTED)


def test_locked_meanwhile():
    """A lock that comes after the plan keeps its instance where it is."""
    one = first()
    scene = Scene()
    instances = scene.cloud.sim._instances
    instances[one["instance"]] = dataclasses.replace(instances[one["instance"]], locked=True)
    scene.carry_out()
    found = scene.entries()[one["id"]]
    assert (found.state, found.code, found.attempts) == (states.SKIPPED, "locked", 0)


class Slow(Trouble):
    """A slow cloud, in which an instance is locked while its migration is asked for.

    Each look before a request takes a while, and Nova refuses to give up what it has not begun.
    """

    LOOK_S, BEGINS_S = 60.0, 20.0

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._from = name, 0.0

    def look(self, instance: str, hosts: Sequence[str]) -> cloud.Snapshot:
        super().wait(self.LOOK_S)
        return super().look(instance, hosts)

    def live_migrate(self, instance: str, dest: str) -> str:
        request = super().live_migrate(instance, dest)
        if instance == self._name:
            before = self.sim._instances[instance]
            self.sim._instances[instance] = dataclasses.replace(before, locked=True)
            self._from = self.now() + self.BEGINS_S
        return request

    def abort(self, instance: str, record: int) -> None:
        if self.now() < self._from:
            raise base.RefusedError(400, "accepted: cannot be aborted in this state")
        super().abort(instance, record)


def test_locked_while_asked():
    """A lock that comes with the request is honoured before anything else is asked for."""
    one = first()
    scene = Scene(Slow(one["instance"]), dataclasses.replace(QUICK, poll_s=1.0))
    scene.carry_out()
    found = scene.entries()[one["id"]]
    assert (found.state, found.code) == (states.ABORTED, "kept")


class Busy(Trouble):
    """A cloud in which Nova is busy with one instance, for so many seconds."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__()
        self._name, self._until = name, self.now() + seconds
        self._task("powering-off")

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        if self.now() > self._until:
            self._task(None)

    def _task(self, state: str | None) -> None:
        before = self.sim._instances[self._name]
        self.sim._instances[self._name] = dataclasses.replace(before, task_state=state)


def test_waits():
    """What will pass is waited for, and the journal says for what; then it goes on."""
    one = first()
    scene = Scene(Busy(one["instance"], 20.0))
    waits = []

    class View(executor.View):
        def tick(self, entries: Sequence[records.Entry]) -> None:
            waits.extend(e.code for e in entries if e.key == one["id"] and e.state == "PLANNED")

    work = scene.executor(View())
    assert work.carry_out() == states.DONE
    assert "task_state" in waits


def test_waits_in_vain():
    """What does not pass is skipped after some time, with what it waited for."""
    one = first()
    scene = Scene(Busy(one["instance"], 1e6))
    assert scene.carry_out() == states.PARTLY
    found = scene.entries()[one["id"]]
    assert (found.state, found.code) == (states.SKIPPED, "task_state")
    assert "waited" in found.text


def test_skipped_last():
    """What waits for a migration that is skipped last of all is skipped for that reason, too."""
    one = first()
    options = dataclasses.replace(QUICK, patience_s=3000.0)
    scene = Scene(Busy(one["instance"], 1e6), options)
    assert scene.carry_out() == states.PARTLY
    found = scene.entries()
    behind = [e for e in found.values() if one["id"] in e.depends_on]
    assert behind
    assert {e.code for e in behind} == {"dependency"}


def test_downtime_budget():
    """An instance that was moved too often in a day stays where it is."""
    one = first()
    scene = Scene(options=dataclasses.replace(QUICK, downtime_budget_s=0.4))
    scene.carry_out()
    found = scene.entries()[one["id"]]
    assert (found.state, found.code) == (states.SKIPPED, "downtime_budget")


def test_learns():
    """An instance that Nova left in ERROR is remembered, and the run stops for a person."""
    one = first()
    scene = Scene(Trouble(refuses={one["instance"]: 400}))
    scene.cloud._refuses.clear()
    instances = scene.cloud.sim._instances

    class Breaking(Trouble):
        def live_migrate(self, instance: str, dest: str) -> str:
            request = super().live_migrate(instance, dest)
            if instance == one["instance"]:
                self.sim.cancel(instance)
                self._end(instance, "error")
                broken = dataclasses.replace(self.sim.instance(instance), status="ERROR")
                self.sim._instances[instance] = broken
            return request

    assert instances
    scene = Scene(Breaking())
    assert scene.carry_out() == states.STOPPED
    assert scene.entries()[one["id"]].code == "in_error"
    assert one["instance"] in scene.book.learnt("demo", scene.cloud.now())


def test_stopped_by_a_person():
    """What a person gives up is asked for again when the run is gone on with."""
    scene = Scene()
    work = scene.executor()
    scene.cloud.step = lambda: (work.stop("interrupted"), work.abort())
    assert work.carry_out() == states.OPEN
    assert scene.states() == {states.PLANNED}
    scene.cloud.step = nothing
    scene.book.take(scene.run.id, OWNER, scene.cloud.now())
    assert scene.carry_out() == states.DONE


class Forgetful(Trouble):
    """A cloud that leaves the record of one migration queued for ever."""

    def __init__(self, name: str, busy: bool) -> None:
        super().__init__()
        self._name, self._busy = name, busy

    def live_migrate(self, instance: str, dest: str) -> str:
        request = super().live_migrate(instance, dest)
        if instance == self._name:
            self.sim.cancel(instance)
            self._end(instance, "queued")
            state = "migrating" if self._busy else None
            before = self.sim._instances[instance]
            self.sim._instances[instance] = dataclasses.replace(before, task_state=state)
        return request


@pytest.mark.parametrize(
    ("busy", "end", "state"),
    [(False, states.PARTLY, states.FAILED), (True, states.OPEN, states.UNKNOWN)],
)
def test_queued_for_ever(busy, end, state):
    """A record that stays queued does not hold the run up for ever."""
    one = first()
    options = dataclasses.replace(LENIENT, unknown_limit_s=300.0)
    scene = Scene(Forgetful(one["instance"], busy), options)
    assert scene.carry_out() == end
    assert scene.entries()[one["id"]].state == state


def test_dependency_that_there_is_not():
    """A run with a migration that waits for nothing there is comes to an end."""
    scene = Scene()
    lost = dataclasses.replace(
        stage.entries(scene.plan["migrations"], scene.snapshot)[-1],
        key="lost",
        depends_on=("nobody",),
    )
    scene.book.add(scene.run.id, OWNER, scene.cloud.now(), [lost])
    assert scene.carry_out() == states.PARTLY
    assert scene.entries()["lost"].state == states.SKIPPED

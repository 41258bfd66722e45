# SPDX-License-Identifier: Apache-2.0
"""Carrying a run out: look, judge, start what may start, wait, and so on until all is still.

What is meant is in the journal before the cloud is asked, so that this program may end at any
moment: the next one finds in Nova what this one started.  Migrations follow their dependencies
and nothing else, so a slow one holds up only what waits for it.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import contextlib
import dataclasses
import logging
from typing import Any
from typing import TypeVar

from nova_rebalancer import exceptions
from nova_rebalancer.execute import base
from nova_rebalancer.execute import check
from nova_rebalancer.execute import failures
from nova_rebalancer.execute import gate
from nova_rebalancer.execute import patience
from nova_rebalancer.execute import states
from nova_rebalancer.execute import verdict
from nova_rebalancer.model import cloud as facts
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.store import journal
from nova_rebalancer.store import records

LOG = logging.getLogger(__name__)

T = TypeVar("T")

HOUR_S, DAY_S = 3600.0, 86400.0

BEAT_S = 10.0
"""How often the owner of a run says that it lives; the journal takes it for dead after a minute."""

API = "api"
"""What a migration waits for while the cloud does not answer."""

ABORT_AGAIN_S = 60.0
"""An abort that Nova accepted may be lost on its way to the compute: then it is asked for again."""

GIVE_UP_FIRST_S = 60.0
"""For so long after its request, the abort of what has to stay comes before all new requests."""

RESTART = "restart"
"""Why nobody knows of a request: the program ended while it was asked."""

ABORT, FORCE, WAIT = "abort", "force_complete", "wait"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How carefully; the section ``[execute]`` of the configuration says what each is for."""

    limits: gate.Limits = dataclasses.field(default_factory=gate.Limits)
    downtime_budget_s: float = 10.0
    live_downtime_s: float = 0.5
    cold_migration: bool = False
    poll_s: float = 2.0
    time_factor: float = 4.0
    time_extra_s: float = 120.0
    on_time_limit: str = ABORT
    unknown_limit_s: float = 1800.0
    attempts: int = 3
    retry_s: float = 30.0
    patience_s: float = 900.0
    breaker_failures: int = 3
    breaker_window_s: float = 900.0
    host_failures: int = 2
    stop_on_error: bool = True
    replans: int = 2
    drift_share: float = 0.5
    learnt_days: float = 7.0
    rate_mibps: float = 1000.0
    overhead_s: float = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Again:
    """What planning again has to know.

    ``bans`` are hosts that an instance was refused by, ``bad_hosts`` those that failed too often
    (service hosts), ``stuck`` the instances that must stay and why, ``left`` how many migrations
    may still be asked for, ``copied_mib`` the memory of those that were.
    """

    revision: int
    left: int
    copied_mib: int
    bans: dict[str, tuple[str, ...]]
    bad_hosts: frozenset[str]
    stuck: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Replanned:
    """What planning again gave: new migrations, and the facts they were planned on."""

    entries: Sequence[records.New]
    facts: facts.Snapshot


class _Kept(Exception):
    """An instance must stay where it is after all."""


class _OneByOne(futures.Executor):
    """Does at once what it is given, for clouds that take one request at a time."""

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> Any:
        done: futures.Future[Any] = futures.Future()
        try:
            done.set_result(work(*given, **named))
        except Exception as error:
            done.set_exception(error)
        return done


class View:
    """Hears what happens; this one says nothing."""

    def changed(self, entry: records.Entry) -> None:
        """Take that a migration is in another state."""

    def progress(self, entry: records.Entry, done: base.Progress) -> None:
        """Take how far a running migration is."""

    def waits(self, entry: records.Entry, text: str) -> None:
        """Take that a migration waits for something that may pass."""

    def tick(self, entries: Sequence[records.Entry]) -> None:
        """Take all migrations of the run, each time before it waits."""

    def say(self, text: str) -> None:
        """Take something that a person should know."""


class Executor:
    """Carries one run out; it has to own the run.

    Parameters
    ----------
    cloud
        What is asked to migrate.
    book, run, owner
        The journal, the run in it and the name under which it is owned.
    snapshot
        Facts of the whole cloud, for what migrations share.
    settings
        How the rules are kept.
    options
        How carefully.
    view
        Who watches.
    replan
        Plans what is left again; None: what does not fit any more is left out.
    end_only
        Why to start nothing, wait for what is in flight, and end the run whatever stays unknown.
    """

    def __init__(
        self,
        cloud: base.Cloud,
        book: journal.Journal,
        run: records.Run,
        owner: str,
        snapshot: facts.Snapshot,
        settings: rules.Settings,
        options: Options,
        view: View,
        replan: Callable[[Again], Replanned | None] | None = None,
        end_only: str | None = None,
    ) -> None:
        self._cloud = cloud
        self._book = book
        self._run = run
        self._owner = owner
        self._settings = settings
        self._options = options
        self._view = view
        self._replan = replan
        self._gate = gate.Gate(options.limits, snapshot)
        self._entries = {one.id: one for one in book.entries(run.id)}
        self._patience = self._learnt_patience()
        self._since: dict[tuple[int, str], float] = {}
        """Since when a migration waits, copies or is unknown, by its id."""
        self._seen: dict[int, base.Sight] = {}
        self._copied: dict[int, int] = {}
        """Bytes, by the journal's id."""
        self._beaten = 0.0
        self._aborted: dict[int, float] = {}
        """When Nova was asked to give migrations up."""
        self._stopped = end_only
        self._aborting = False
        self._ends_here = end_only is not None
        self._broken = False
        self._pool = futures.ThreadPoolExecutor(cloud.at_once) if cloud.at_once > 1 else _OneByOne()

    # What a person may do meanwhile; safe in a signal handler

    def stop(self, cause: str) -> None:
        """Start nothing more; what runs is waited for, what Nova has queued is given up.

        The run stays open, so that it can be gone on with.
        """
        if self._stopped is None:
            self._stopped = cause

    def abort(self) -> None:
        """Give up what runs, too."""
        self._aborting = True

    @property
    def stopped(self) -> str | None:
        """Why nothing more is started; None while it is."""
        return self._stopped

    # The loop

    def carry_out(self) -> str:
        """Carry the run out and return the state it ends in: OPEN if something stays unknown.

        Raises
        ------
        LostError
            If another process owns the run now; nothing was asked for since.
        """
        try:
            self._adopt()
            while True:
                self._beat()
                self._observe()
                if self._stopped is None:
                    self._skip_dependents()
                    self._break_circuit()
                if self._stopped is not None:
                    self._give_up()
                elif not self._has_to_give_up():
                    self._start()
                if self._still() and not self._plan_again():
                    return self._end()
                self._view.tick(tuple(self._entries.values()))
                self._cloud.wait(self._options.poll_s)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _beat(self) -> None:
        """Tell other machines that this process lives."""
        now = self._cloud.now()
        if now - self._beaten >= BEAT_S:
            self._book.beat(self._run.id, self._owner, now)
            self._beaten = now

    def _wait(self, answer: "futures.Future[T]") -> T:
        """Wait for an answer, and tell meanwhile that this process lives."""
        while True:
            try:
                return answer.result(BEAT_S)
            except futures.TimeoutError:
                if answer.done():
                    raise
                self._beat()

    def _adopt(self) -> None:
        """Take over what an earlier process had asked for: nobody knows whether it was heard."""
        for entry in self._in(states.REQUESTED):
            self._change(entry, states.UNKNOWN, RESTART, "the program ended while it was asked")
        for entry in self._in(states.RUNNING):
            # When it ended nobody may have looked, so it tells nothing of how long they take.
            self._note(entry, running_at=None)

    def _still(self) -> bool:
        """Whether nothing will happen any more by waiting."""
        flying = self._flying()
        if any(not self._given_up(entry) for entry in flying):
            return False
        if self._stopped is not None:
            return True
        return not self._can_still_start()

    def _can_still_start(self) -> bool:
        """Whether some migration waits for nothing but what is confirmed."""
        confirmed = {one.key for one in self._in(states.CONFIRMED)}
        return any(confirmed.issuperset(one.depends_on) for one in self._in(states.PLANNED))

    def _given_up(self, entry: records.Entry) -> bool:
        """Whether an unknown migration has been waited for long enough."""
        if entry.state != states.UNKNOWN:
            return False
        return self._for(entry, states.UNKNOWN) > self._options.unknown_limit_s

    def _end(self) -> str:
        """Return how the run ends; what was never asked for is skipped."""
        entries = self._entries.values()
        interrupted = self._stopped is not None and not self._broken and self._in(states.PLANNED)
        if (self._flying() or interrupted) and not self._ends_here:
            self._book.release(self._run.id, self._owner)
            return states.OPEN
        self._skip_dependents()
        for entry in self._in(states.PLANNED):
            self._change(entry, states.SKIPPED, "stopped", self._stopped or "nothing could start")
        if self._stopped is not None:
            state = states.STOPPED
        elif all(one.state == states.CONFIRMED for one in entries):
            state = states.DONE
        else:
            state = states.PARTLY
        return state

    # What became of those in flight

    def _observe(self) -> None:
        flying = self._flying()
        # What is seen is judged as of before it was looked at: a request may arrive meanwhile.
        now = self._cloud.now()
        looks = [self._pool.submit(self._look_at, entry) for entry in flying]
        for entry, look in zip(flying, looks, strict=True):
            sight = self._wait(look)
            if sight is not None:
                self._since.pop((entry.id, "unseen"), None)
                self._seen[entry.id] = sight
                self._judge(entry, sight, now)
            elif (
                self._for(entry, "unseen") > self._options.unknown_limit_s
                and entry.state == states.RUNNING
            ):
                self._change(entry, states.UNKNOWN, "unseen", "the cloud does not answer")

    def _look_at(self, entry: records.Entry) -> base.Sight | None:
        try:
            return self._cloud.sight(entry.instance)
        except exceptions.CloudError as error:
            LOG.info("instance=%s cannot be looked at: %s", entry.instance, error)
            return None

    def _judge(self, entry: records.Entry, sight: base.Sight, now: float) -> None:
        timeout_s = 3 * base.LAST_LOOK_S + self._cloud.request_timeout_s
        found = verdict.judge(entry, sight, self._cloud.user, now, timeout_s)
        if found is None or found.state == entry.state:
            self._watch_time(entry, sight)
            return
        more: dict[str, object] = {"record": found.record, "request": found.request}
        if found.state == states.PLANNED and entry.code == RESTART:
            # This program is why it was not sent, not the cloud: that was no attempt.
            more["attempts"] = entry.attempts - 1
            self._change(entry, states.PLANNED, found.code, found.text, **more)
            return
        if found.state == states.PLANNED:
            self._later(entry, found.code or "", found.text or "", **more)
            return
        if found.state != states.RUNNING:
            more["ended_at"] = self._cloud.now()
            more["bytes"] = self._copied.get(entry.id)
        self._learn(entry, found.code, found.text)
        self._change(entry, found.state, found.code, found.text, **more)
        if found.state == states.CONFIRMED:
            self._patience = self._learnt_patience()

    def _watch_time(self, entry: records.Entry, sight: base.Sight) -> None:
        """Look after a migration of which there is nothing new: progress, time, confirmation."""
        record = verdict.ours(entry, sight)
        if record is not None and entry.record is None:
            entry = self._note(entry, record=record.id)
        if entry.aborting and record is not None and record.status not in verdict.ENDED:
            self._abort_once(entry, record)
        if record is not None and verdict.to_confirm(entry, sight):
            with self._harmless(entry, "confirm"):
                self._cloud.confirm(entry.instance)
        if entry.state != states.RUNNING:
            self._for(entry, states.UNKNOWN)
            return
        queued = record is not None and record.status in verdict.QUEUED and sight.task_state
        if queued and self._for(entry, "queued") <= self._options.patience_s:
            # Behind somebody else's migration of the same source: its time has not begun.
            self._since.pop((entry.id, "limit"), None)
            return
        if record is not None and record.status == "running":
            self._show_progress(entry, record)
        limit_s = self._limit_s(entry)
        if self._for(entry, "limit") <= limit_s:
            return
        ended = record is not None and record.status == verdict.ENDED_WELL[entry.method]
        if ended:
            text = f"Nova's record has ended, but it shows {sight.status} on {sight.host}"
            self._change(entry, states.UNKNOWN, "contradiction", text)
            return
        text = f"not done within {limit_s:.0f} s"
        policy = self._options.on_time_limit
        if policy == WAIT or record is None or entry.method == base.COLD:
            self._change(entry, states.UNKNOWN, "time_limit", text)
            return
        if policy == ABORT:
            entry = self._change(entry, states.UNKNOWN, "time_limit", text, aborting=True)
            self._abort_once(entry, record)
            return
        entry = self._change(entry, states.UNKNOWN, "time_limit", text)
        with self._harmless(entry, policy):
            self._cloud.force_complete(entry.instance, record.id)

    def _show_progress(self, entry: records.Entry, record: base.Record) -> None:
        try:
            done = self._cloud.progress(entry.instance, record.id)
        except exceptions.CloudError:
            return
        if done is not None:
            self._copied[entry.id] = done.processed
            self._view.progress(entry, done)

    def _limit_s(self, entry: records.Entry) -> float:
        predicted_s = entry.predicted_s or self._patience.predict(entry.source, entry.memory_mib)
        return self._options.time_factor * predicted_s + self._options.time_extra_s

    def _learn(self, entry: records.Entry, code: str | None, text: str | None) -> None:
        """Remember an instance that cannot be migrated, if that is what ``code`` says of it."""
        if code is not None and code in failures.KINDS and failures.KINDS[code].learns:
            now = self._cloud.now()
            until = now + self._options.learnt_days * DAY_S
            self._book.learn(self._run.cloud, entry.instance, code, text or code, now, until)

    # What must not go on

    def _skip_dependents(self) -> None:
        """Give up what waits for something that will never be confirmed."""
        lost = {one.key for one in self._in(states.FAILED, states.ABORTED, states.SKIPPED)}
        again = True
        while again:
            again = False
            for entry in self._in(states.PLANNED):
                missing = sorted(lost.intersection(entry.depends_on))
                if missing:
                    text = f"{', '.join(missing)} was not confirmed"
                    self._change(entry, states.SKIPPED, "dependency", text)
                    lost.add(entry.key)
                    again = True

    def _break_circuit(self) -> None:
        """Stop after too many failures, and when the plan no longer fits the cloud."""
        options, now = self._options, self._cloud.now()
        failed = self._failures()
        for one in failed:
            if failures.kind(one.code).stops or (one.code == "in_error" and options.stop_on_error):
                self._break(f"{one.key} {one.code}: {one.text}")
        recent = [
            one
            for one in failed
            if failures.kind(one.code).counts
            and now - (one.ended_at or now) <= options.breaker_window_s
        ]
        if len(recent) >= options.breaker_failures:
            self._break(
                f"{len(recent)} migrations failed within {options.breaker_window_s:.0f} s, the "
                f"last one {recent[-1].key}: {recent[-1].text}"
            )
        bad = self._bad_hosts()
        for entry in self._in(states.PLANNED):
            for host in (entry.source, entry.dest):
                if host in bad:
                    text = f"too many migrations from or to {host} failed"
                    self._change(entry, states.SKIPPED, "bad_host", text)
                    break
        newest = [one for one in self._entries.values() if one.revision == self._revision()]
        misfits = [
            one
            for one in newest
            if one.state in (states.FAILED, states.SKIPPED) and one.code != "stopped"
        ]
        if len(misfits) > max(1, options.drift_share * len(newest)):
            for entry in self._in(states.PLANNED):
                text = f"{len(misfits)} of {len(newest)} migrations no longer fit the cloud"
                self._change(entry, states.SKIPPED, "drifted", text)

    def _break(self, cause: str) -> None:
        """Stop for good: going on with this plan would not be safe."""
        self.stop(cause)
        self._broken = True
        for entry in self._in(states.PLANNED):
            self._change(entry, states.SKIPPED, "stopped", cause)

    def _failures(self) -> list[records.Entry]:
        found = self._in(states.FAILED, states.ABORTED)
        return sorted(found, key=lambda one: one.ended_at or 0.0)

    def _bad_hosts(self) -> frozenset[str]:
        counts: dict[str, int] = {}
        for entry in self._failures():
            for end in failures.kind(entry.code).blames:
                host = entry.source if end == "source" else entry.dest
                counts[host] = counts.get(host, 0) + 1
        most = self._options.host_failures
        return frozenset(host for host, count in counts.items() if count >= most)

    def _give_up(self) -> None:
        """After the run was stopped: cancel what Nova only has queued, and all if told to."""
        for entry in self._in(states.RUNNING, states.UNKNOWN):
            sight = self._seen.get(entry.id)
            record = verdict.ours(entry, sight) if sight is not None else None
            if record is None or entry.method == base.COLD or entry.aborting:
                continue
            if self._aborting or record.status == "queued":
                code = entry.code if entry.state == states.UNKNOWN else verdict.STOPPED
                text = self._stopped if entry.state == states.RUNNING else entry.text
                self._abort_once(self._note(entry, aborting=True, code=code, text=text), record)

    def _has_to_give_up(self) -> bool:
        """Whether an instance that has to stay is on its way, and Nova does not give it up yet.

        Nova refuses that until the source has the migration, and then there is only the time of
        copying; the looks before new requests may take longer.
        """
        now = self._cloud.now()
        return any(
            one.aborting
            and one.code == "kept"
            and one.id not in self._aborted
            and now - (one.requested_at or now) <= GIVE_UP_FIRST_S
            for one in self._flying()
        )

    def _abort_once(self, entry: records.Entry, record: base.Record) -> None:
        """Ask Nova to give a migration up, as often as it takes to be heard."""
        now = self._cloud.now()
        if now - self._aborted.get(entry.id, 0.0) < ABORT_AGAIN_S:
            return
        with self._harmless(entry, ABORT):
            self._cloud.abort(entry.instance, record.id)
            self._aborted[entry.id] = now

    # What may start

    def _start(self) -> None:
        """Ask for every migration that may be asked for now, the most urgent first.

        The last looks go out together, so do the requests; in between each is judged with all
        that were taken before it.
        """
        flying = self._flying()
        looks: list[tuple[records.Entry, futures.Future[Any]]] = []
        hour = 0
        if self._options.limits.per_hour is not None:
            hour = self._book.asked_since(self._run.cloud, self._cloud.now() - HOUR_S)
        for entry in self._ready():
            chosen = [one for one, _ in looks]
            blocked = self._gate.blocks(entry, [*flying, *chosen], hour + len(chosen))
            if blocked is not None:
                if flying and all(map(self._given_up, flying)):
                    self._wait_for(entry, "gate", blocked)
                else:
                    self._since.pop((entry.id, "passing"), None)
            elif self._may_cost(entry):
                looks.append((entry, self._pool.submit(self._last_facts, entry)))
        sent = []
        for entry, look in looks:
            asked = None if self._stopped else self._judge_facts(entry, look)
            if asked is not None:
                sent.append((asked, self._pool.submit(self._send, asked)))
        for entry, answer in sent:
            self._answered(entry, answer)
        if looks:
            self._break_circuit()

    def _ready(self) -> list[records.Entry]:
        """Migrations all of whose dependencies are confirmed, the longest chain first."""
        now = self._cloud.now()
        confirmed = {one.key for one in self._in(states.CONFIRMED)}
        planned = self._in(states.PLANNED)
        urgency = self._urgency(planned)
        ready = [
            one
            for one in planned
            if confirmed.issuperset(one.depends_on) and (one.not_before or 0.0) <= now
        ]
        return sorted(ready, key=lambda one: (-urgency[one.id], one.id))

    def _urgency(self, planned: Sequence[records.Entry]) -> dict[int, float]:
        """Return seconds that must pass from the start of each to the end of all, at least."""
        took = {one.id: self._patience.predict(one.source, one.memory_mib) for one in planned}
        load: dict[tuple[str, str], float] = {}
        for one in planned:
            for end in (("source", one.source), ("dest", one.dest)):
                load[end] = load.get(end, 0.0) + took[one.id]
        tail: dict[str, float] = {}
        urgency = {}
        # Dependencies come before what depends on them, so backwards every tail is known.
        for one in reversed(planned):
            tail_s = took[one.id] + tail.get(one.key, 0.0)
            for key in one.depends_on:
                tail[key] = max(tail.get(key, 0.0), tail_s)
            urgency[one.id] = max(tail_s, load["source", one.source], load["dest", one.dest])
        return urgency

    def _last_facts(self, entry: records.Entry) -> tuple[facts.Snapshot, base.Sight]:
        fresh = self._cloud.look(entry.instance, (entry.source, entry.dest))
        return fresh, self._cloud.sight(entry.instance)

    def _judge_facts(
        self, entry: records.Entry, look: "futures.Future[tuple[facts.Snapshot, base.Sight]]"
    ) -> records.Entry | None:
        """Judge the last look; if it is clean, write down what is meant and return that."""
        try:
            fresh, sight = self._wait(look)
        except exceptions.RebalancerError as error:
            self._wait_for(entry, API, str(error))
            return None
        if not sight.exists:
            self._change(entry, states.SKIPPED, "gone", "there is no such instance any more")
            return None
        found = check.last_look(
            entry, fresh, self._flying(), self._settings, self._options.cold_migration
        )
        if found is not None and found.passing:
            self._wait_for(entry, found.code, found.text)
        elif found is not None:
            self._change(entry, states.SKIPPED, found.code, found.text)
        if found is not None:
            return None
        return self._change(
            entry,
            states.REQUESTED,
            None,
            None,
            attempts=entry.attempts + 1,
            requested_at=self._cloud.now(),
            predicted_s=self._patience.predict(entry.source, entry.memory_mib),
            known_record=max((record.id for record in sight.records), default=0),
            known_action=sight.actions[0].request if sight.actions else None,
            request=None,
            record=None,
        )

    def _send(self, entry: records.Entry) -> tuple[str, str | None]:
        """Ask for it; the id of the request, and why it must be given up again."""
        if self._cloud.now() - (entry.requested_at or 0.0) > base.LAST_LOOK_S:
            raise exceptions.CloudError("too long after it was written down: not asked for")
        why = self._cloud.kept(entry.instance)
        if why is not None:
            raise _Kept(why)
        cold = entry.method == base.COLD
        send = self._cloud.cold_migrate if cold else self._cloud.live_migrate
        request = send(entry.instance, entry.dest)
        why = None
        with self._harmless(entry, "look"):
            # A lock that came between the look and the request is honoured all the same.
            why = self._cloud.kept(entry.instance)
        return request, why

    def _answered(
        self, entry: records.Entry, answer: "futures.Future[tuple[str, str | None]]"
    ) -> None:
        """Write down what came of a request."""
        try:
            request, why = self._wait(answer)
        except _Kept as error:
            self._change(entry, states.SKIPPED, "kept", str(error))
        except base.RefusedError as error:
            self._refused(entry, error)
        except base.UnansweredError as error:
            self._change(entry, states.UNKNOWN, "no_answer", str(error))
        except exceptions.CloudError as error:
            # The last look failed, so nothing was asked.
            self._later(entry, "api", str(error))
        else:
            self._change(
                entry,
                states.RUNNING,
                "kept" if why else None,
                why,
                request=request,
                running_at=self._cloud.now(),
                aborting=why is not None,
            )

    def _may_cost(self, entry: records.Entry) -> bool:
        """Whether the instance's downtime budget has room; it is skipped if not."""
        options = self._options
        seen = self._book.moved_since(
            self._run.cloud, [entry.instance], self._cloud.now() - DAY_S
        ).get(entry.instance, [])
        # What is migrated cold is off anyway.
        live = sum(method == base.LIVE for method, _ in [*seen, (entry.method, 0.0)])
        cost_s = live * options.live_downtime_s
        if cost_s <= options.downtime_budget_s:
            return True
        text = (
            f"{entry.instance} was moved {len(seen)} times in 24 hours; one more would cost "
            f"{cost_s:.1f} s of downtime, {options.downtime_budget_s:.1f} s are allowed"
        )
        self._change(entry, states.SKIPPED, "downtime_budget", text)
        return False

    def _refused(self, entry: records.Entry, error: base.RefusedError) -> None:
        code = failures.of_refusal(error, str(error))
        if code is None:
            self._later(entry, "conflict" if error.status == 409 else "api", str(error))
            return
        self._learn(entry, code, str(error))
        self._change(entry, states.FAILED, code, str(error), ended_at=self._cloud.now())

    def _later(self, entry: records.Entry, code: str, text: str, **more: object) -> None:
        """Put a migration back that was asked for in vain; give it up after some attempts."""
        wait_s = self._options.retry_s * 2 ** (entry.attempts - 1)
        more["not_before"] = self._cloud.now() + wait_s
        entry = self._change(entry, states.PLANNED, code, text, **more)
        if entry.attempts >= self._options.attempts:
            text = f"given up after {entry.attempts} attempts: {text}"
            self._change(entry, states.SKIPPED, code, text)

    def _wait_for(self, entry: records.Entry, code: str, text: str) -> None:
        """Let a migration wait for something that may pass, for some time."""
        waited_s = self._for(entry, "passing")
        if waited_s > self._options.patience_s and code == API:
            self.stop(f"the cloud does not answer: {text}")
        elif waited_s > self._options.patience_s:
            text = f"{text}; waited {waited_s:.0f} s"
            self._change(entry, states.SKIPPED, code, text)
        else:
            if entry.code != code:
                self._view.waits(entry, text)
            self._note(
                entry,
                code=code,
                text=text,
                not_before=self._cloud.now() + min(self._options.retry_s, 5.0),
            )

    # Planning again

    def _plan_again(self) -> bool:
        """Plan what is left from fresh facts; whether there is something to do now."""
        if self._replan is None or self._stopped is not None or self._flying():
            return False
        newest = [one for one in self._entries.values() if one.revision == self._revision()]
        lost = [one for one in newest if one.state != states.CONFIRMED]
        asked = sum(one.attempts > 0 for one in self._entries.values())
        left = self._run.budget - asked
        if not lost or self._revision() >= self._options.replans or left <= 0:
            return False
        self._view.say(
            f"{len(lost)} of {len(newest)} migrations were not carried out: planning again, "
            f"{left} migrations left"
        )
        try:
            found = self._replan(self._again(left))
        except exceptions.RebalancerError as error:
            self._view.say(f"planning again failed: {error}")
            return False
        if found is None or not found.entries:
            self._view.say("planning again found nothing more worth doing")
            return False
        self._gate = gate.Gate(self._options.limits, found.facts)
        added = self._book.add(self._run.id, self._owner, self._cloud.now(), found.entries)
        self._entries.update((one.id, one) for one in added)
        return True

    def _again(self, left: int) -> Again:
        bans: dict[str, set[str]] = {}
        stuck = {
            name: text
            for name, (_, text, _) in self._book.learnt(self._run.cloud, self._cloud.now()).items()
        }
        for entry in self._failures():
            if failures.kind(entry.code).bans:
                bans.setdefault(entry.instance, set()).add(entry.dest)
        for entry in self._in(states.SKIPPED):
            if entry.code == "downtime_budget":
                stuck[entry.instance] = entry.text or entry.code
        return Again(
            self._revision() + 1,
            left,
            sum(one.memory_mib or 0 for one in self._entries.values() if one.attempts),
            {name: tuple(sorted(hosts)) for name, hosts in bans.items()},
            self._bad_hosts(),
            stuck,
        )

    # Small things

    def _revision(self) -> int:
        return max((one.revision for one in self._entries.values()), default=0)

    def _in(self, *wanted: str) -> list[records.Entry]:
        return [one for one in self._entries.values() if one.state in wanted]

    def _flying(self) -> list[records.Entry]:
        return self._in(*states.IN_FLIGHT)

    def _for(self, entry: records.Entry, what: str) -> float:
        """Return for how many seconds ``what`` has been so; it begins with the first call."""
        now = self._cloud.now()
        return now - self._since.setdefault((entry.id, what), now)

    def _change(
        self,
        entry: records.Entry,
        to: str,
        code: str | None,
        text: str | None,
        **more: object,
    ) -> records.Entry:
        states.check(entry.state, to)
        for known in [one for one in self._since if one[0] == entry.id]:
            del self._since[known]
        changed = self._book.change(entry, self._owner, self._cloud.now(), to, code, text, **more)
        self._entries[entry.id] = changed
        self._view.changed(changed)
        return changed

    def _note(self, entry: records.Entry, **more: object) -> records.Entry:
        noted = self._book.note(entry, self._owner, self._cloud.now(), **more)
        self._entries[entry.id] = noted
        return noted

    @contextlib.contextmanager
    def _harmless(self, entry: records.Entry, what: str) -> Iterator[None]:
        """Ask for something whose answer changes nothing: what Nova shows afterwards decides."""
        try:
            yield
        except exceptions.CloudError as error:
            LOG.info("instance=%s %s: %s", entry.instance, what, error)

    def _learnt_patience(self) -> patience.Patience:
        return patience.learn(
            self._book.durations(self._run.cloud),
            self._options.rate_mibps,
            self._options.overhead_s,
        )

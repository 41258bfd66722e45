# SPDX-License-Identifier: Apache-2.0
"""What Nova shows, and what it means."""

import dataclasses
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer.execute import base
from nova_rebalancer.execute import failures
from nova_rebalancer.execute import states
from nova_rebalancer.execute import verdict
from nova_rebalancer.store import records
from tests.unit.execute import entries

US = "us"
TIMEOUT_S = 60.0
SOON = entries.ASKED_AT + 10.0
LATE = entries.ASKED_AT + 61.0

OLD_RECORD = base.Record(7, "u7", "live-migration", "completed", "c", "a")
OLD_ACTION = base.Action("req-old", "live-migration", US, True, None)


def record(status: str, **changes: Any) -> base.Record:
    """The record of a live migration from a to b, made after the request."""
    made = base.Record(8, "u8", "live-migration", status, "a", "b")
    return dataclasses.replace(made, **changes)


def action(**changes: Any) -> base.Action:
    """The action of our request, under way."""
    made = base.Action("req-ours", "live-migration", US, False, None)
    return dataclasses.replace(made, **changes)


def sight(
    host: str | None = "a",
    status: str = "ACTIVE",
    task_state: str | None = None,
    seen: tuple[base.Record, ...] = (),
    actions: tuple[base.Action, ...] = (action(),),
) -> base.Sight:
    """An instance with what was there before the request and what came since."""
    return base.Sight(True, host, status, task_state, (OLD_RECORD, *seen), (*actions, OLD_ACTION))


def judge(entry: records.Entry, seen: base.Sight, now: float = SOON) -> verdict.Verdict | None:
    """The verdict for us."""
    return verdict.judge(entry, seen, US, now, TIMEOUT_S)


def told(entry: records.Entry, seen: base.Sight, now: float = SOON) -> tuple[str, str | None]:
    """State and code of the verdict; those of the entry if there is none."""
    found = judge(entry, seen, now)
    return (entry.state, entry.code) if found is None else (found.state, found.code)


RUNNING = ("RUNNING", None)
NO_ROOM = "No valid host was found."


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        # On its way: the server moves first, the record ends after it.
        (sight("a", "MIGRATING", "migrating", (), ()), RUNNING),
        (sight("a", "MIGRATING", "migrating", ()), RUNNING),
        (sight("a", "MIGRATING", "migrating", (record("accepted", dest=None),)), RUNNING),
        (sight("a", "MIGRATING", "migrating", (record("queued"),)), RUNNING),
        (sight("a", "MIGRATING", "migrating", (record("preparing"),)), RUNNING),
        (sight("a", "MIGRATING", "migrating", (record("running"),)), RUNNING),
        (sight("b", "ACTIVE", None, (record("running"),)), RUNNING),
        (sight("b", "MIGRATING", "migrating", (record("completed"),)), RUNNING),
        (sight("a", "ACTIVE", None, (record("completed"),)), RUNNING),
        (sight("a", "ACTIVE", None, (record("post-migrating"),)), RUNNING),
        # Arrived.
        (sight("b", "ACTIVE", None, (record("completed"),)), ("CONFIRMED", None)),
        (sight("b", "PAUSED", None, (record("completed"),)), ("CONFIRMED", None)),
        (sight("b", "ERROR", None, (record("completed"),)), ("FAILED", "in_error")),
        # Given up; while a task goes on Nova is not through with it.
        (sight("a", "MIGRATING", "migrating", (record("error"),)), RUNNING),
        (sight("a", "ACTIVE", None, (record("error"),)), ("FAILED", "failed")),
        (sight("a", "ACTIVE", None, (record("failed"),)), ("FAILED", "failed")),
        (sight("a", "ACTIVE", None, (record("error", dest=None),)), ("FAILED", "refused")),
        (sight("a", "ERROR", None, (record("error"),)), ("FAILED", "in_error")),
        (sight("b", "ERROR", None, (record("failed"),)), ("FAILED", "in_error")),
        (sight("b", "ACTIVE", None, (record("error"),)), ("FAILED", "arrived_badly")),
        (sight("a", "ACTIVE", None, (record("cancelled"),)), ("ABORTED", "aborted_by_others")),
        (sight("a", "MIGRATING", "migrating", (record("cancelled"),)), RUNNING),
        (sight("a", "ERROR", None, (record("cancelled"),)), ("FAILED", "in_error")),
        # No record: it failed before there was one, or Nova has not got so far.
        (
            sight(actions=(action(finished=True, error=NO_ROOM),)),
            ("FAILED", "refused"),
        ),
        (
            sight("a", "ERROR", actions=(action(finished=True, error=NO_ROOM),)),
            ("FAILED", "in_error"),
        ),
        (sight(actions=(action(error=NO_ROOM),)), RUNNING),
        (sight(actions=(action(finished=True),)), RUNNING),
        (sight(actions=()), RUNNING),
        # Gone, whatever else is shown.
        (base.Sight(False), ("FAILED", "gone")),
    ],
)
def test_accepted(seen, expected):
    """Of a migration that Nova accepted: host, task state and record decide together."""
    assert told(entries.entry(), seen) == expected


UNANSWERED = ("UNKNOWN", "no_answer")
FOUND = ("RUNNING", "found")


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        # Nova shows nothing: that proves something only after the timeout, and in peace.
        (sight(actions=()), SOON, UNANSWERED),
        (sight(actions=()), entries.ASKED_AT + TIMEOUT_S, UNANSWERED),
        (sight(actions=()), LATE, ("PLANNED", "not_sent")),
        (sight(task_state="migrating", actions=()), LATE, UNANSWERED),
        # The action is written before the record is made.
        (sight(task_state="migrating"), SOON, FOUND),
        (sight(task_state="migrating"), LATE, FOUND),
        (sight(), LATE, FOUND),
        (sight("a", "MIGRATING", "migrating", (record("running"),)), SOON, FOUND),
        (sight(actions=(action(finished=True, error=NO_ROOM),)), SOON, ("FAILED", "refused")),
        # It may be over before anybody looks.
        (sight("b", "ACTIVE", None, (record("completed"),)), LATE, ("CONFIRMED", None)),
        (sight("a", "ACTIVE", None, (record("error"),)), SOON, ("FAILED", "failed")),
        (
            sight("a", "ACTIVE", None, (record("cancelled"),)),
            SOON,
            ("ABORTED", "aborted_by_others"),
        ),
        # What others asked for says nothing of ours.
        (sight(actions=(action(user="them"),)), SOON, UNANSWERED),
        (sight(actions=(action(user="them"),)), LATE, ("PLANNED", "not_sent")),
        (sight(actions=(action(action="reboot"),)), LATE, ("PLANNED", "not_sent")),
        (sight(actions=(action(action="migrate"),)), LATE, ("PLANNED", "not_sent")),
        (
            sight("c", seen=(record("completed", dest="c"),), actions=(action(user="them"),)),
            LATE,
            ("PLANNED", "not_sent"),
        ),
        (
            sight(seen=(record("error", dest=None),), actions=(action(user="them"),)),
            LATE,
            ("PLANNED", "not_sent"),
        ),
        (
            sight(
                task_state="migrating",
                seen=(record("running", type="evacuation"),),
                actions=(action(user="them", action="evacuate"),),
            ),
            LATE,
            UNANSWERED,
        ),
        (base.Sight(False), SOON, ("FAILED", "gone")),
    ],
)
def test_unanswered(seen, now, expected):
    """A request without an answer is found again, or proved not to have been carried out."""
    assert told(entries.unanswered(), seen, now) == expected


def test_resumed_by_another_account():
    """A run may be taken over under another name: what went where we asked for is ours."""
    them = action(user="who began the run", request="req-8")
    running = sight("a", "MIGRATING", "migrating", (record("running"),), (them,))
    assert told(entries.unanswered(), running) == FOUND
    arrived = sight("b", "ACTIVE", None, (record("completed"),), (them,))
    assert told(entries.unanswered(), arrived, LATE) == ("CONFIRMED", None)


def test_a_destination_that_turns_out_another():
    """A strange migration without a destination yet is not adopted, so it cannot turn out wrong."""
    them = action(user="them")
    early = sight("a", "MIGRATING", "migrating", (record("accepted", dest=None),), (them,))
    assert told(entries.unanswered(), early, LATE) == UNANSWERED
    later = sight("a", "MIGRATING", "migrating", (record("running", dest="c"),), (them,))
    assert told(entries.unanswered(), later, LATE) == UNANSWERED


@pytest.mark.parametrize(
    ("status", "server", "task_state", "host", "expected", "waits"),
    [
        ("migrating", "RESIZE", "resize_migrating", "a", RUNNING, False),
        ("finished", "RESIZE", "resize_finish", "b", RUNNING, False),
        ("finished", "VERIFY_RESIZE", None, "b", RUNNING, True),
        ("confirming", "VERIFY_RESIZE", None, "b", RUNNING, False),
        ("confirmed", "SHUTOFF", None, "b", ("CONFIRMED", None), False),
        ("completed", "SHUTOFF", None, "b", RUNNING, False),
        ("reverted", "SHUTOFF", None, "a", ("FAILED", "failed"), False),
        ("error", "ERROR", None, "a", ("FAILED", "in_error"), False),
    ],
)
def test_cold(status, server, task_state, host, expected, waits):
    """A cold migration has arrived once it is confirmed, which we do while Nova waits for it."""
    entry = entries.entry(method=base.COLD)
    seen = sight(
        host,
        server,
        task_state,
        (record(status, type="migration"),),
        (action(action="migrate"),),
    )
    assert told(entry, seen) == expected
    assert verdict.to_confirm(entry, seen) == waits


def test_live_waits_for_nobody():
    """Only cold migrations are confirmed by us."""
    assert not verdict.to_confirm(entries.entry(), sight(seen=(record("finished"),)))
    cold = entries.entry(method=base.COLD)
    assert not verdict.to_confirm(cold, sight())


@pytest.mark.parametrize("code", verdict.SAID_BY_US)
def test_what_we_called_unknown_stays_so(code):
    """A migration over its time is UNKNOWN until Nova ends it; that it goes on is no news."""
    entry = entries.entry(state=states.UNKNOWN, code=code)
    going = sight("a", "MIGRATING", "migrating", (record("running"),))
    assert judge(entry, going) is None
    assert told(entry, sight("b", seen=(record("completed"),))) == ("CONFIRMED", None)


def test_our_abort_is_told_from_others():
    """Nova's word is the same; who asked for it is in our journal."""
    seen = sight(seen=(record("cancelled"),))
    assert told(entries.entry(aborting=True), seen) == ("ABORTED", "aborted")


def test_says_what_it_found():
    """A verdict names the record and the request, so that the journal has them."""
    seen = sight("a", "MIGRATING", "migrating", (record("running"),), (action(request="req-x"),))
    found = judge(entries.unanswered(), seen)
    assert (found.record, found.request) == (8, "req-x")


def test_the_reason_is_in_the_text():
    """What failed is told in Nova's words, with where the instance is now."""
    seen = sight("b", "ACTIVE", None, (record("error"),), (action(error="Timed out"),))
    found = judge(entries.entry(), seen)
    assert found.text == "Timed out (migration error, instance ACTIVE on b)"


def test_actions_of_one_user():
    """Of several actions of ours since the request the first one is the request's."""
    second = action(request="req-9", action="reboot")
    first = action(request="req-8")
    assert verdict.our_action(entries.unanswered(), sight(actions=(second, first)), US) is first
    again = sight(actions=(action(request="req-9"), first))
    assert verdict.our_action(entries.unanswered(), again, US) is first


# Laws

STATUSES = (
    "accepted", "queued", "preparing", "running", "post-migrating", "completed", "migrating",
    "finished", "confirming", "confirmed", "reverted", "error", "failed", "cancelled",
)  # fmt: skip
HOSTS = st.sampled_from([None, "a", "b", "b", "c"])

RECORDS = st.lists(
    st.builds(
        base.Record,
        id=st.integers(1, 12),
        uuid=st.just("u"),
        type=st.sampled_from(["live-migration", "live-migration", "migration", "evacuation"]),
        status=st.sampled_from(STATUSES),
        source=st.just("a"),
        dest=HOSTS,
    ),
    max_size=3,
    unique_by=lambda one: one.id,
).map(lambda found: tuple(sorted(found, key=lambda one: one.id)))

ACTIONS = st.lists(
    st.builds(
        base.Action,
        request=st.sampled_from(["req-old", "req-older", "req-ours", "req-8", "req-9"]),
        action=st.sampled_from(["live-migration", "live-migration", "migrate", "reboot"]),
        user=st.sampled_from([US, US, "them"]),
        finished=st.booleans(),
        error=st.sampled_from([None, NO_ROOM]),
    ),
    max_size=3,
    unique_by=lambda one: one.request,
).map(tuple)

SIGHTS = st.builds(
    base.Sight,
    exists=st.sampled_from([True, True, True, False]),
    host=HOSTS,
    status=st.sampled_from(["ACTIVE", "ACTIVE", "SHUTOFF", "MIGRATING", "ERROR"]),
    task_state=st.sampled_from([None, None, "migrating", "resize_finish"]),
    records=RECORDS,
    actions=ACTIONS,
)

ENTRIES = st.builds(
    entries.entry,
    method=st.sampled_from([base.LIVE, base.LIVE, base.COLD]),
    state=st.sampled_from([states.RUNNING, states.UNKNOWN]),
    code=st.sampled_from([None, "no_answer", "restart", "unseen", *verdict.SAID_BY_US]),
    request=st.sampled_from([None, "req-ours"]),
    known_record=st.sampled_from([0, 7]),
    known_action=st.sampled_from([None, "req-old"]),
    aborting=st.booleans(),
)

TIMES = st.sampled_from([SOON, LATE])


def since(entry: records.Entry, seen: base.Sight) -> base.Sight:
    """The same without what was there before the request."""
    requests = [one.request for one in seen.actions]
    new = requests.index(entry.known_action) if entry.known_action in requests else len(requests)
    return dataclasses.replace(
        seen,
        records=tuple(one for one in seen.records if one.id > entry.known_record),
        actions=seen.actions[:new],
    )


@hypothesis.given(ENTRIES, SIGHTS, TIMES)
@hypothesis.settings(max_examples=200)
def test_every_verdict_is_a_change_there_is(entry, seen, now):
    """Whatever Nova shows, the state that follows is one that may follow."""
    found = judge(entry, seen, now)
    if found is not None and found.state != entry.state:
        states.check(entry.state, found.state)


@hypothesis.given(ENTRIES, SIGHTS, TIMES)
@hypothesis.settings(max_examples=200)
def test_three_witnesses(entry, seen, now):
    """CONFIRMED: on the host we asked for, no task, and a new record that says so; not in ERROR."""
    found = judge(entry, seen, now)
    if found is not None and found.state == states.CONFIRMED:
        assert seen.exists and seen.host == entry.dest
        assert seen.task_state is None and seen.status != "ERROR"
        (said,) = [one for one in seen.records if one.id == found.record]
        assert said.id > entry.known_record
        assert said.status == verdict.ENDED_WELL[entry.method] and said.dest in (None, entry.dest)


@hypothesis.given(ENTRIES, SIGHTS, TIMES)
@hypothesis.settings(max_examples=200)
def test_no_end_while_nova_works(entry, seen, now):
    """An end is told only of an instance that is gone or in peace, and its code has a meaning."""
    found = judge(entry, seen, now)
    if found is not None and found.state in states.FINAL:
        assert not seen.exists or seen.task_state is None
        assert found.state == states.CONFIRMED or found.code in failures.KINDS
        # An instance in ERROR needs a person, who looks for that code.
        assert seen.status != "ERROR" or found.code in ("in_error", "gone")


@hypothesis.given(ENTRIES, SIGHTS, TIMES)
@hypothesis.settings(max_examples=200)
def test_not_sent_is_proved(entry, seen, now):
    """PLANNED: no answer came, the timeout is over, no task, and nothing new of ours is seen."""
    found = judge(entry, seen, now)
    if found is None or found.state != states.PLANNED:
        return
    assert entry.state == states.UNKNOWN and entry.request is None and now == LATE
    assert seen.exists and seen.task_state is None
    new = since(entry, seen)
    ours = (base.ACTIONS[entry.method], US)
    assert ours not in [(one.action, one.user) for one in new.actions]
    kind = base.TYPES[entry.method]
    first = [one.dest for one in new.records if one.type == kind][:1]
    assert entry.dest not in first


@hypothesis.given(ENTRIES, SIGHTS, TIMES)
@hypothesis.settings(max_examples=200)
def test_the_past_does_not_matter(entry, seen, now):
    """What was there before the request changes no verdict."""
    assert judge(entry, seen, now) == judge(entry, since(entry, seen), now)


@hypothesis.given(ENTRIES, SIGHTS, TIMES, st.booleans())
@hypothesis.settings(max_examples=200)
def test_what_leads_elsewhere_is_not_ours(entry, seen, now, asked):
    """A migration that somebody else began and that leads elsewhere is never taken for ours."""
    strange = dataclasses.replace(
        seen,
        exists=True,
        records=tuple(
            dataclasses.replace(one, dest="c" if asked else None)
            for one in seen.records
            if one.id > entry.known_record
        ),
        actions=tuple(
            dataclasses.replace(one, user="them")
            for one in seen.actions
            if one.request != "req-ours"
        ),
    )
    entry = dataclasses.replace(entry, request=None)
    found = judge(entry, strange, now)
    assert found is None or found.state == states.PLANNED


@hypothesis.given(ENTRIES, SIGHTS)
@hypothesis.settings(max_examples=200)
def test_time_alone_ends_nothing(entry, seen):
    """Waiting changes one verdict only: that a request was not sent."""
    early, late = judge(entry, seen, SOON), judge(entry, seen, LATE)
    assert early == late or (early is None and late.state == states.PLANNED)


@pytest.mark.parametrize("status", ["accepted", "queued", "preparing", "running"])
def test_forgotten(status):
    """A record that stays open while the instance is left alone means failure, after the limit."""
    seen = sight(seen=(record(status),))
    assert told(entries.entry(), seen) == (states.RUNNING, None)
    late = entries.entry(state=states.UNKNOWN, code="time_limit")
    assert told(late, seen) == (states.FAILED, "failed")
    busy = sight(task_state="migrating", seen=(record(status),))
    assert told(late, busy) == (states.UNKNOWN, "time_limit")


def test_given_up_for_its_owner():
    """What was given up because of a lock that came late is told from what took too long."""
    seen = sight(seen=(record("cancelled"),))
    kept = entries.entry(aborting=True, code="kept")
    assert told(kept, seen) == (states.ABORTED, "kept")
    assert told(entries.entry(aborting=True), seen) == (states.ABORTED, "aborted")

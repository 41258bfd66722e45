# SPDX-License-Identifier: Apache-2.0
"""What became of a migration, judged by what Nova shows; nothing is asked here.

ACTIVE is not success, and neither is a record that says so: the host, the task state and the
record decide together.  Nova sets the task state and writes the instance action before it answers
a request (nova ``compute/api.py``, ``live_migrate``), and makes the record afterwards
(``conductor/manager.py``, ``_live_migrate``), so a request that was carried out can be found even
if its answer was lost.
"""

import dataclasses

from nova_rebalancer.execute import base
from nova_rebalancer.execute import states
from nova_rebalancer.store import records

ENDED_WELL = {base.LIVE: "completed", base.COLD: "confirmed"}
GAVE_UP = ("error", "failed", "reverted")
CANCELLED = "cancelled"
ENDED = (*ENDED_WELL.values(), *GAVE_UP, CANCELLED)
TO_CONFIRM = "finished"
QUEUED = ("accepted", "queued")

STOPPED = "stopped"
"""Code of a migration that is given up because a person stopped the run."""

SAID_BY_US = ("time_limit", "contradiction")
"""Why a migration that Nova goes on with may be UNKNOWN all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """To which state a migration comes, and why; ``record`` and ``request`` if they were found."""

    state: str
    code: str | None = None
    text: str | None = None
    record: int | None = None
    request: str | None = None


def ours(entry: records.Entry, sight: base.Sight) -> base.Record | None:
    """Return the record of a migration, None while there is none.

    Nova lets an instance migrate once at a time, so it is the first one since the request that
    leads where we asked for, or the last one if that leads nowhere yet.
    """
    kind = base.TYPES[entry.method]
    newer = [one for one in sight.records if one.id > entry.known_record and one.type == kind]
    for record in newer:
        if record.dest == entry.dest:
            return record
    return newer[-1] if newer and newer[-1].dest is None else None


def our_action(entry: records.Entry, sight: base.Sight, user: str) -> base.Action | None:
    """Return what Nova wrote of the request, None if it wrote nothing."""
    found = None
    for action in sight.actions:
        if action.request == entry.known_action:
            break
        if entry.request is not None:
            if action.request == entry.request:
                return action
        elif action.action == base.ACTIONS[entry.method] and action.user == user:
            found = action
    return found


def to_confirm(entry: records.Entry, sight: base.Sight) -> bool:
    """Whether Nova waits for us to confirm a cold migration."""
    record = ours(entry, sight)
    return (
        entry.method == base.COLD
        and record is not None
        and record.status == TO_CONFIRM
        and sight.task_state is None
    )


def judge(
    entry: records.Entry, sight: base.Sight, user: str, now: float, timeout_s: float
) -> Verdict | None:
    """Say what became of a migration in flight; None: nothing new yet.

    Parameters
    ----------
    entry
        RUNNING or UNKNOWN.
    sight
        What Nova shows.
    user
        Id of the user who asks.
    now
        Seconds since 1970.
    timeout_s
        After which a request without an answer can no longer be carried out.
    """
    if not sight.exists:
        return Verdict(states.FAILED, "gone", "there is no such instance any more")
    record, action = ours(entry, sight), our_action(entry, sight, user)
    if action is None and entry.request is None and (record is None or record.dest is None):
        # A migration that leads nowhere yet may be anybody's.
        return _unsent(entry, sight, now, timeout_s)
    if record is not None:
        found = _by_record(entry, sight, record, action)
    else:
        found = _by_action(entry, sight, action)
    if found is None:
        return None
    return dataclasses.replace(
        found,
        record=record.id if record else None,
        request=action.request if action else entry.request,
    )


def _unsent(
    entry: records.Entry, sight: base.Sight, now: float, timeout_s: float
) -> Verdict | None:
    """Judge a request that Nova shows nothing of."""
    if entry.state != states.UNKNOWN:
        return None
    # It sets the task state a moment before it writes the action.
    if sight.task_state is not None or now - (entry.requested_at or now) <= timeout_s:
        return None
    text = f"Nova shows nothing of it {timeout_s:.0f} s after the request"
    return Verdict(states.PLANNED, "not_sent", text)


def _by_record(
    entry: records.Entry, sight: base.Sight, record: base.Record, action: base.Action | None
) -> Verdict | None:
    still = sight.task_state is None
    why = action.error if action is not None and action.error else None
    if record.status == ENDED_WELL[entry.method]:
        if any(one.id > record.id and one.source == entry.dest for one in sight.records):
            return Verdict(states.CONFIRMED, "moved_on", "it arrived, and somebody moved it on")
        if still and sight.host == entry.dest and sight.status != "ERROR":
            return Verdict(states.CONFIRMED)
        if still and sight.status == "ERROR":
            return Verdict(states.FAILED, "in_error", _where(sight, record, why))
        return _going_on(entry)
    if record.status in GAVE_UP and still:
        if sight.status == "ERROR":
            return Verdict(states.FAILED, "in_error", _where(sight, record, why))
        if sight.host != entry.source:
            return Verdict(states.FAILED, "arrived_badly", _where(sight, record, why))
        code = "refused" if record.dest is None else "failed"
        return Verdict(states.FAILED, code, _where(sight, record, why))
    if record.status == CANCELLED and still:
        if sight.status == "ERROR":
            return Verdict(states.FAILED, "in_error", _where(sight, record, why))
        code = "aborted" if entry.aborting else "aborted_by_others"
        if entry.aborting and entry.code == "kept":
            code = "kept"
        if entry.aborting and entry.code == STOPPED and sight.host == entry.source:
            return Verdict(states.PLANNED, STOPPED, "given up when the run was stopped")
        return Verdict(states.ABORTED, code, _where(sight, record, why))
    if still and sight.host == entry.source and entry.code in SAID_BY_US:
        # A source that was restarted ends what was running and forgets what was queued (nova
        # compute/manager.py, _reset_live_migration).
        text = _where(sight, record, why) + "; Nova does nothing with the instance any more"
        return Verdict(states.FAILED, "failed", text)
    return _going_on(entry)


def _by_action(
    entry: records.Entry, sight: base.Sight, action: base.Action | None
) -> Verdict | None:
    """Judge what has no record: Nova has not got so far, or it failed before."""
    if action is None or sight.task_state is not None or not action.finished:
        return _going_on(entry)
    if action.error is None:
        # It has ended well, says Nova, and nobody knows which migration that was.
        return None
    code = "in_error" if sight.status == "ERROR" else "refused"
    return Verdict(states.FAILED, code, action.error)


def _going_on(entry: records.Entry) -> Verdict | None:
    if entry.state == states.UNKNOWN and entry.code not in SAID_BY_US:
        return Verdict(states.RUNNING, "found", "found in Nova")
    return None


def _where(sight: base.Sight, record: base.Record, why: str | None) -> str:
    text = f"migration {record.status}, instance {sight.status} on {sight.host}"
    return f"{why} ({text})" if why else text

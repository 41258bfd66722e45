# SPDX-License-Identifier: Apache-2.0
"""What the journal holds, and how it refuses.  Times are seconds since 1970."""

import dataclasses
import datetime
from typing import Any

from nova_rebalancer import exceptions

OPEN = "OPEN"
"""A run is being carried out, or was interrupted, as long as its state is this."""

PLANNED = "PLANNED"
CONFIRMED = "CONFIRMED"


class LostError(exceptions.RebalancerError):
    """The run belongs to another process now: stop, and write nothing more."""


class TakenError(exceptions.RebalancerError):
    """Another living process carries the run, or a run on the same cloud, out.

    ``since`` is when the run began.
    """

    def __init__(self, run: str, owner: str, since: float) -> None:
        began = datetime.datetime.fromtimestamp(since, datetime.UTC)
        super().__init__(
            f"run {run}, begun at {began:%Y-%m-%dT%H:%M:%SZ}, is being carried out by another "
            f"process: {owner}"
        )
        self.run = run
        self.owner = owner
        self.since = since


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A migration to be written down; an ``Entry`` will do, too.

    ``key`` is unique in its run: its id in the plan document, or "r1." and an id where it was
    planned again.
    """

    key: str
    instance: str
    source: str
    dest: str
    method: str
    role: str = "direct"
    revision: int = 0
    memory_mib: int | None = None
    project: str | None = None
    depends_on: tuple[str, ...] = ()
    state: str = PLANNED
    code: str | None = None
    text: str | None = None
    predicted_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One migration as it is written down.

    ``key`` is its id in the plan document; one that was planned again has "r1.m1" and a
    ``revision`` above 0.  Hosts are service hosts.  ``code`` and ``text`` are the cause of the
    present state, for programs and for people.  It is not to be asked for again before
    ``not_before``.  ``known_record`` is the greatest id of the instance's migrations in Nova, and
    ``known_action`` the request id of its newest action, seen before asking; ``request`` is Nova's
    id of our request and ``record`` Nova's id of our migration.  ``aborting``: we asked to abort
    or to force it.  ``bytes`` were copied.
    """

    id: int
    run: str
    key: str
    revision: int
    instance: str
    source: str
    dest: str
    method: str
    role: str
    memory_mib: int | None
    project: str | None
    depends_on: tuple[str, ...]
    state: str
    code: str | None
    text: str | None
    attempts: int
    not_before: float | None
    request: str | None
    known_record: int
    known_action: str | None
    record: int | None
    predicted_s: float | None
    requested_at: float | None
    running_at: float | None
    ended_at: float | None
    aborting: bool
    bytes: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A plan that is or was carried out.

    ``before``, ``predicted`` and ``after`` are values of the goal: at the start, as planned, and
    as a fresh snapshot shows in the end.  ``budget`` is the greatest number of migrations.
    ``document`` is the plan as given, empty where many runs are listed.
    """

    id: str
    plan: str
    cloud: str
    region: str | None
    state: str
    cause: str | None
    began_at: float
    ended_at: float | None
    owner: str | None
    beat_at: float | None
    goal: str
    before: float | None
    predicted: float | None
    after: float | None
    budget: int
    document: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A change of state of the migration ``entry``; ``before`` is None when it was written down."""

    at: float
    entry: int
    before: str | None
    after: str
    code: str | None
    text: str | None

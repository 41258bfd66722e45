# SPDX-License-Identifier: Apache-2.0
"""What carrying out asks of a cloud, and the words in which the cloud answers.

Hosts are service hosts here, the names that Nova migrates to.
"""

from collections.abc import Sequence
import dataclasses
from typing import Protocol

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud

LIVE, COLD = "live", "cold"

ACTIONS = {LIVE: "live-migration", COLD: "migrate"}
"""What Nova calls the instance action of each method (nova ``compute/instance_actions.py``)."""

TYPES = {LIVE: "live-migration", COLD: "migration"}
"""What Nova calls the migration of each method (nova ``objects/fields.py``)."""


LAST_LOOK_S = 5.0
"""Most seconds for each of three steps after it was written down that a migration is asked for:
waiting for a free thread, the very last look, and logging in before the request is sent."""


class RefusedError(exceptions.CloudError):
    """The cloud has not done what was asked, and says so; ``status`` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class UnansweredError(exceptions.CloudError):
    """There is no answer that tells whether it was done: it may have been."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A migration as Nova keeps it.

    ``status`` is Nova's word (``objects/migration.py``), ``type`` one of TYPES or another of
    Nova's; ``dest`` is None until a destination is chosen.  Later records have greater ids.
    """

    id: int
    uuid: str
    type: str
    status: str
    source: str | None
    dest: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """Something that was asked of an instance; Nova writes it before it answers the request.

    ``error`` is what it failed with, None while it has not; ``finished`` whether Nova is done
    with it.
    """

    request: str
    action: str
    user: str | None
    finished: bool
    error: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """What the cloud says of one instance now.

    ``exists`` is False when there is no such instance any more; the rest is empty then.
    ``records`` are its migrations of every type, the newest last; ``actions`` what was asked of
    it, the newest first.
    """

    exists: bool
    host: str | None = None
    status: str | None = None
    task_state: str | None = None
    records: tuple[Record, ...] = ()
    actions: tuple[Action, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far the copying is, in bytes; ``processed`` counts what is sent again."""

    total: int
    processed: int
    remaining: int


class Cloud(Protocol):
    """A cloud that can be looked at and asked to migrate.

    Everything raises ``exceptions.CloudError`` when the cloud does not answer in the end.
    ``user`` is the id under which requests are made, ``request_timeout_s`` for how long one that
    was sent may still be carried out, ``at_once`` how many threads may ask at the same time.
    """

    user: str
    request_timeout_s: float
    at_once: int

    def now(self) -> float:
        """Return this program's clock in seconds since 1970; it never goes back."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def look(self, instance: str, hosts: Sequence[str]) -> cloud.Snapshot:
        """Return fresh facts of ``hosts``, all that is on them, ``instance`` and its groups.

        The snapshot may have more hosts: those of the instance and of its groups' members.
        """

    def sight(self, instance: str) -> Sight:
        """Return what is known of one instance now."""

    def kept(self, instance: str) -> str | None:
        """Say why an instance must stay where it is: a lock or its owner's wish; None if not.

        One small request, for the last moment before a migration is asked for; it takes
        LAST_LOOK_S at most.
        """

    def progress(self, instance: str, record: int) -> Progress | None:
        """Return how far a running migration is, None if that is not known."""

    def live_migrate(self, instance: str, dest: str) -> str:
        """Ask for a live migration to ``dest``; return the id of the request.

        Raises
        ------
        RefusedError
            If it will not be done.
        UnansweredError
            If it may be done.
        """

    def cold_migrate(self, instance: str, dest: str) -> str:
        """Ask for a migration of an instance that does not run; as ``live_migrate``."""

    def confirm(self, instance: str) -> None:
        """Let the source forget an instance that was migrated cold; as ``live_migrate``."""

    def abort(self, instance: str, record: int) -> None:
        """Ask to give a live migration up; as ``live_migrate``."""

    def force_complete(self, instance: str, record: int) -> None:
        """Ask to end a live migration at the cost of a longer downtime; as ``live_migrate``."""

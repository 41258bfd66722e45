# SPDX-License-Identifier: Apache-2.0
"""A real cloud, looked at and asked to migrate through Nova's API.

Looking is repeated until there is an answer; what changes something is sent once.
"""

from collections.abc import Callable
from collections.abc import Sequence
import threading
import time
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.execute import base
from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import migratable
from nova_rebalancer.rest import client

VERSION = (2, 96)
"""Up to it requests and answers are those that this module was written for."""

LEAST = (2, 84)
"""From it on an instance action tells what it failed with."""

NEWEST = 100
"""Records and actions of an instance that are asked for; those in question are the newest."""

LISTED = frozenset(base.ACTIONS.values())

CLOSING = frozenset(
    (
        "compute_post_live_migration_at_destination",
        "compute_finish_resize",
    )
)
"""Events that end an action well."""

FAILED = "Error"
"""Result of an event, and message of an action with such an event."""

DOWN = "UNKNOWN"
"""Status of a server whose cell does not answer (nova ``compute/views/servers.py``)."""

Json = dict[str, Any]
Look = Callable[[str, Sequence[str]], cloud.Snapshot]


class NovaCloud:
    """A cloud behind Nova's API; see ``base.Cloud``.

    Parameters
    ----------
    ask
        A client that is logged in as an administrator.
    look
        Reads fresh facts of an instance and some hosts; see ``base.Cloud.look``.
    request_timeout_s
        How long an answer to a request is waited for, and how long it may be carried out.
    woken
        Set by whoever wants ``wait`` to end early.
    """

    at_once = 8

    def __init__(
        self, ask: client.Client, look: Look, request_timeout_s: float, woken: threading.Event
    ) -> None:
        self.user = ask.account().user
        self.request_timeout_s = request_timeout_s
        self._ask = ask
        self._quick = client.Client(
            ask.cloud,
            client.Limits(
                self.at_once, attempts=3, timeout_s=base.LAST_LOOK_S, deadline_s=base.LAST_LOOK_S
            ),
        )
        self._look = look
        self._woken = woken
        self._version = ask.version("compute", VERSION, LEAST)
        self._ahead_s = time.time() - time.monotonic()

    def now(self) -> float:
        """See ``base.Cloud``; a clock that is set meanwhile does not matter."""
        return time.monotonic() + self._ahead_s

    def wait(self, seconds: float) -> None:
        """See ``base.Cloud``; ends early when somebody sets the event, which is cleared then."""
        if self._woken.wait(seconds):
            self._woken.clear()

    def look(self, instance: str, hosts: Sequence[str]) -> cloud.Snapshot:
        """See ``base.Cloud``."""
        return self._look(instance, hosts)

    def sight(self, instance: str) -> base.Sight:
        """See ``base.Cloud``.

        Nova ends a migration that went well by moving the server first and its record last
        (``compute/manager.py``, ``_post_live_migration``), and one that failed by giving the server
        back first (``_rollback_live_migration``), its record next and the failed event last
        (``conductor/manager.py``, ``_live_migrate``).  So this is the order to read them in: what
        is read later is never older than what it is judged with.

        Raises
        ------
        CloudError
            If Nova does not answer, or does not reach the cell of the instance.
        """
        ask = self._ask.renewed()
        found = self._get(ask, f"/servers/{instance}", (404,))
        if found is None:
            return base.Sight(exists=False)
        server = found["server"]
        if server.get("status") == DOWN:
            raise exceptions.CloudError(
                f"cloud {ask.cloud.name}: the cell of instance {instance} does not answer"
            )
        task_state = server.get("OS-EXT-STS:task_state")
        return base.Sight(
            exists=True,
            host=server.get("OS-EXT-SRV-ATTR:host"),
            status=server.get("status"),
            task_state=task_state,
            records=self._records(ask, instance),
            actions=self._actions(ask, instance, task_state),
        )

    def kept(self, instance: str) -> str | None:
        """See ``base.Cloud``; Nova itself lets an administrator migrate what is locked."""
        found = self._get(self._quick.renewed(), f"/servers/{instance}", (404,))
        server = {} if found is None else found["server"]
        if server.get("locked"):
            return f"{instance} is locked"
        metadata = {key: str(value) for key, value in (server.get("metadata") or {}).items()}
        if migratable.opted_out(metadata, server.get("tags") or ()):
            return f"{instance} does not allow migration"
        return None

    def progress(self, instance: str, record: int) -> base.Progress | None:
        """See ``base.Cloud``; Nova tells it of migrations under way only, from their start on."""
        path = f"/servers/{instance}/migrations/{record}"
        found = self._get(self._ask.renewed(), path, (404,))
        if found is None or found["migration"].get("memory_total_bytes") is None:
            return None
        total, processed, remaining = (
            sum(found["migration"].get(f"{part}_{what}_bytes") or 0 for part in ("memory", "disk"))
            for what in ("total", "processed", "remaining")
        )
        return base.Progress(total, processed, remaining)

    def live_migrate(self, instance: str, dest: str) -> str:
        """See ``base.Cloud``.

        Without ``force`` Nova's scheduler checks the destination (``compute/api.py``,
        ``live_migrate``).
        """
        body = {"os-migrateLive": {"host": dest, "block_migration": "auto"}}
        return self._action(instance, body)

    def cold_migrate(self, instance: str, dest: str) -> str:
        """See ``base.Cloud``."""
        return self._action(instance, {"migrate": {"host": dest}})

    def confirm(self, instance: str) -> None:
        """See ``base.Cloud``."""
        self._send("POST", f"/servers/{instance}/action", {"confirmResize": None})

    def abort(self, instance: str, record: int) -> None:
        """See ``base.Cloud``."""
        self._send("DELETE", f"/servers/{instance}/migrations/{record}", None)

    def force_complete(self, instance: str, record: int) -> None:
        """See ``base.Cloud``."""
        path = f"/servers/{instance}/migrations/{record}/action"
        self._send("POST", path, {"force_complete": None})

    def _records(self, ask: client.Client, instance: str) -> tuple[base.Record, ...]:
        path = f"/os-migrations?instance_uuid={instance}&limit={NEWEST}"
        found = self._get(ask, path)["migrations"]
        return tuple(_record(one) for one in reversed(found))

    def _actions(
        self, ask: client.Client, instance: str, task_state: str | None
    ) -> tuple[base.Action, ...]:
        """Read what was asked of an instance, the newest migration with its events."""
        path = f"/servers/{instance}/os-instance-actions"
        answer = self._get(ask, f"{path}?limit={NEWEST}", (404,))
        found = () if answer is None else answer["instanceActions"]
        actions = []
        detailed = False
        for one in found:
            events: Sequence[Json] = ()
            if not detailed and one["action"] in LISTED:
                # The newest migration is the one in question; it has no details before its end.
                detailed = True
                if task_state is None or one.get("message") is not None:
                    shown = self._get(ask, f"{path}/{one['request_id']}")
                    one = shown["instanceAction"]
                    events = one.get("events") or ()
            actions.append(_action(one, events))
        return tuple(actions)

    def _action(self, instance: str, body: Json) -> str:
        """Ask for a migration; the id of the request is that of the instance action.

        ``compute/api.py`` (``live_migrate``, ``resize``) sets the task state and writes the action
        before it hands the migration over, and so before the answer.  The action is kept under the
        id of the context's request (``objects/instance_action.py``, ``pack_action_start``), which
        is in the answer's header (``api/compute_req_id.py``).
        """
        request = self._send("POST", f"/servers/{instance}/action", body)
        if not request:
            raise base.UnansweredError(
                f"cloud {self._ask.cloud.name}: instance {instance} is migrated, but the answer "
                "lacks the id of the request: does a proxy take headers away?"
            )
        return request

    def _send(self, method: str, path: str, body: Any) -> str | None:
        try:
            answer = self._quick.renewed().send(
                "compute", method, path, self._version, body, self.request_timeout_s
            )
        except client.Refused as error:
            raise base.RefusedError(error.status, str(error)) from None
        except client.Unanswered as error:
            raise base.UnansweredError(str(error)) from None
        return answer.request

    def _get(self, ask: client.Client, path: str, accept: tuple[int, ...] = ()) -> Any:
        return ask.get("compute", path, self._version, accept)


def _record(one: Json) -> base.Record:
    """Read a migration.

    ``conductor/manager.py``, ``_live_migrate``, makes the record without a destination; that comes
    when the scheduler has chosen and all checks have passed (``conductor/tasks/live_migrate.py``,
    ``_execute``).
    """
    return base.Record(
        id=int(one["id"]),
        uuid=str(one["uuid"]),
        type=str(one["migration_type"]),
        status=str(one["status"]),
        source=one.get("source_compute"),
        dest=one.get("dest_compute"),
    )


def _action(one: Json, events: Sequence[Json]) -> base.Action:
    """Read an instance action.

    Nova gives it a message when one of its events fails and says nothing when it ends (nothing
    calls ``action_finish``), so its end is read from the events: one that failed, or the one that
    comes last when all goes well.  The copying itself is in no event, so a migration that fails
    there has an action that never ends (``compute/manager.py``, ``live_migration`` ends its event
    when the migration is queued).
    """
    failed = [event for event in events if event.get("result") == FAILED]
    open_ = any(event.get("finish_time") is None for event in events)
    ended = any(event["event"] in CLOSING and event.get("finish_time") for event in events)
    error = one.get("message")
    if failed:
        # The first is the cause: the conductor's own tells only that nothing came of it.
        failed.sort(key=lambda event: str(event.get("finish_time")))
        texts = [_line(event.get("details")) for event in failed if event.get("details")]
        error = "; ".join(dict.fromkeys(texts)) or error
    return base.Action(
        request=str(one["request_id"]),
        action=str(one["action"]),
        user=one.get("user_id"),
        finished=not open_ and bool(error or ended),
        error=error,
    )


def _line(text: object) -> str:
    """Write what an event says in a line, without the trace of another host's error."""
    return " ".join(str(text).partition("Traceback (most")[0].split())

# SPDX-License-Identifier: Apache-2.0
"""Migrations as the journal has them, for tests."""

from typing import Any

from nova_rebalancer.execute import base
from nova_rebalancer.execute import states
from nova_rebalancer.store import records

ASKED_AT = 1000.0
"""When they were asked for, in seconds since 1970."""


def entry(instance: str = "v", source: str = "a", dest: str = "b", **changes: Any) -> records.Entry:
    """A live migration that Nova has accepted; record 7 and action req-old were there before."""
    values: dict[str, Any] = {
        "id": 1,
        "run": "run",
        "key": "m1",
        "revision": 0,
        "instance": instance,
        "source": source,
        "dest": dest,
        "method": base.LIVE,
        "role": "direct",
        "memory_mib": 1024,
        "project": None,
        "depends_on": (),
        "state": states.RUNNING,
        "code": None,
        "text": None,
        "attempts": 1,
        "not_before": None,
        "request": "req-ours",
        "known_record": 7,
        "known_action": "req-old",
        "record": None,
        "predicted_s": 10.0,
        "requested_at": ASKED_AT,
        "running_at": ASKED_AT,
        "ended_at": None,
        "aborting": False,
        "bytes": None,
    }
    return records.Entry(**{**values, **changes})


def unanswered(**changes: Any) -> records.Entry:
    """One that was asked for without an answer."""
    values: dict[str, Any] = {"state": states.UNKNOWN, "code": "no_answer", "request": None}
    return entry(**{**values, "running_at": None, **changes})

# SPDX-License-Identifier: Apache-2.0
"""Which instances Nova has migrated lately, whoever asked for it."""

import datetime
from typing import Any

from nova_rebalancer.collect import nova
from nova_rebalancer.rest import client

MOVED = frozenset({"completed", "confirmed", "done", "finished"})
"""Statuses of migrations after which the instance is at the destination: of live ones, of cold ones
and resizes before and after they are confirmed, and of rebuilds elsewhere."""


def since(ask: client.Client, seconds: float) -> dict[str, float]:
    """Return when instances were migrated last, of those that were at ``seconds`` or later.

    Times are seconds since 1970.  A resize on the spot is no migration.

    Raises
    ------
    CloudError
        If Nova does not answer.
    """
    found: dict[str, float] = {}
    for one in nova.Nova(ask).migrations(seconds):
        if one["status"] in MOVED and one["source_compute"] != one["dest_compute"]:
            at = _seconds(one)
            if at >= seconds:
                instance = str(one["instance_uuid"])
                found[instance] = max(at, found.get(instance, at))
    return found


def _seconds(migration: dict[str, Any]) -> float:
    """When the record changed last; Nova writes UTC without saying so."""
    text = migration["updated_at"] or migration["created_at"]
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()

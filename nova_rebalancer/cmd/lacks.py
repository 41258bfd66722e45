# SPDX-License-Identifier: Apache-2.0
"""What a snapshot lacks, and what follows from it."""

import logging
import typing

from nova_rebalancer import exceptions

if typing.TYPE_CHECKING:
    from nova_rebalancer.model import cloud

LOG = logging.getLogger(__name__)

NAMED = 5
"""Hosts named at most."""


def tell(snapshot: "cloud.Snapshot", name: str) -> None:
    """Warn of what is missing for some hosts; the snapshot is called ``name``.

    Raises
    ------
    InputError
        If something is missing that matters for all.
    """
    for lack in snapshot.missing:
        if lack.hosts is None:
            raise exceptions.InputError(
                f"{name}: the snapshot is not whole: {lack.what} is missing ({lack.reason}); take "
                "a new one when that is mended"
            )
        LOG.warning("%s is missing (%s); %s", lack.what, lack.reason, _effect(snapshot, lack))


def _effect(snapshot: "cloud.Snapshot", lack: "cloud.Missing") -> str:
    names = [host.service_host for host in snapshot.hosts if host.id in (lack.hosts or ())]
    if not names:
        return "no host of the plan is concerned"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"nothing is moved from or to {', '.join(names[:NAMED])}{more}"

# SPDX-License-Identifier: Apache-2.0
"""The options that say what migrations have to gain, and what they may not exceed."""

import argparse
import datetime
import typing
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import numbers
from nova_rebalancer.cmd import paths

if typing.TYPE_CHECKING:
    from nova_rebalancer.model import cloud


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them; the section [worth] of the configuration file has their defaults."""
    group = parser.add_argument_group("what migrations are worth")
    group.add_argument(
        "--cost-per-gib",
        metavar="X",
        type=numbers.amount,
        help="what each GiB of memory that is copied has to gain, in the goal's unit (default 0)",
    )
    group.add_argument(
        "--min-gain",
        metavar="X",
        type=numbers.amount,
        help="what each migration has to gain, in the goal's unit (default 0)",
    )
    group.add_argument(
        "--cooldown",
        metavar="HOURS",
        type=numbers.amount,
        help="leave instances where they are that were migrated less than so many hours before, "
        "as the journal and Nova have it (default 0)",
    )
    group.add_argument(
        "--project-migrations",
        metavar="N",
        type=numbers.whole(0),
        help="most migrations of the instances of any one project (default: no limit)",
    )
    group.add_argument(
        "--project-gib",
        metavar="X",
        type=numbers.amount,
        help="most GiB of memory of any one project's instances that are copied (default: no "
        "limit)",
    )


def last_moved(
    conf: Any, given: argparse.Namespace, snapshot: "cloud.Snapshot", hours: float
) -> dict[str, str]:
    """Return when instances were migrated less than ``hours`` before the snapshot, if they were.

    The journal is asked, and of a live cloud Nova too.

    Raises
    ------
    RebalancerError
        If either does not answer.
    """
    from nova_rebalancer.cmd import cloud as cloud_commands
    from nova_rebalancer.collect import moved
    from nova_rebalancer.rest import client
    from nova_rebalancer.rest import connection

    if not hours or given.demo:
        return {}
    since = datetime.datetime.fromisoformat(snapshot.taken_at).timestamp() - 3600 * hours
    book = paths.kept_journal(conf)
    found = {} if book is None else book.last_moved(snapshot.cloud, since)
    if not given.snapshot:
        source = connection.connect(given.os_cloud, conf.collect.request_timeout_s, conf)
        ask = client.Client(source, cloud_commands.limits(conf))
        for instance, at in moved.since(ask, since).items():
            found[instance] = max(at, found.get(instance, at))
    there = {one.id for one in snapshot.instances}
    return {instance: _written(at) for instance, at in sorted(found.items()) if instance in there}


def _written(seconds: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise exceptions.InputError(f"the journal has a migration at {seconds}: {error}") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

# SPDX-License-Identifier: Apache-2.0
"""The options that say what migrations cost, and what the journal tells of it."""

import argparse
from collections.abc import Mapping
import dataclasses
import logging
import os
import typing
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import numbers

if typing.TYPE_CHECKING:
    from nova_rebalancer import controller
    from nova_rebalancer.model import cloud
    from nova_rebalancer.store import journal

LOG = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them; what they leave out is as [path] of the configuration file says."""
    group = parser.add_argument_group("path")
    group.add_argument(
        "--cost",
        help="what a migration costs, so that the cheapest way to the target is taken: memory, "
        "precopy (what is sent, with pages written meanwhile), learned (memory, corrected for "
        "each flavor by the journal) or one of your own (default memory)",
    )
    group.add_argument(
        "--prefer",
        choices=("cost", "makespan"),
        help="what to make small first: the sum of the costs or the time until all is done "
        "(default cost)",
    )
    group.add_argument(
        "--concurrent",
        metavar="N",
        type=numbers.whole(1),
        help="most migrations at a time in the whole cloud (default: [execute] total, 8)",
    )
    group.add_argument(
        "--link",
        metavar="KIND[:NAME]=LIMIT",
        action="append",
        default=[],
        help="most migrations at a time over a rack's uplink or a migration network (again for "
        "more): uplink=2, network=4, uplink:RACK=1, network:AGGREGATE=500MiB/s",
    )


def kept_journal(conf: Any) -> "journal.Journal | None":
    """Open the journal if there is one: a dry run leaves nothing behind."""
    from nova_rebalancer.store import journal

    url = conf.store.connection
    if url is None and not os.path.exists(journal.default_path()):
        return None
    return journal.open(url)


def informed(
    options: "controller.Options", conf: Any, snapshot: "cloud.Snapshot"
) -> "controller.Options":
    """Return the options with what the journal tells, where their cost wants to know it."""
    if options.cost != "learned":
        return options
    factors = time_factors(conf, snapshot, options.migration_rate_mibps)
    if not factors:
        LOG.warning("the journal has no live migrations of cloud %s", snapshot.cloud)
    return dataclasses.replace(options, time_factors=factors)


def time_factors(conf: Any, snapshot: "cloud.Snapshot", rate_mibps: float) -> dict[str, float]:
    """Return by how much migrations in the journal took longer than their memory, by flavor."""
    from nova_rebalancer.path import learned

    book = kept_journal(conf)
    if book is None:
        return {}
    flavors = {one.id: one.flavor for one in snapshot.instances}
    seen = [(flavors.get(one), mib, took) for one, mib, took in book.copied(snapshot.cloud)]
    return learned.factors(seen, rate_mibps)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the option for a page about the migrations."""
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a page for people here, one HTML file with a chart of the migrations",
    )


def check_report(given: argparse.Namespace) -> None:
    """Refuse to print a page among other things."""
    if given.report == "-":
        raise exceptions.UsageError("--report -: a page is written into a file: name one")


def write_report(name: str, document: Mapping[str, Any]) -> None:
    """Write the page about a plan document or a path document."""
    from nova_rebalancer.collect import files
    from nova_rebalancer.report import page

    files.write_bytes(name, page.page(document).encode())

# SPDX-License-Identifier: Apache-2.0
"""The options that say what migrations cost, and what the journal tells of it."""

import argparse
import os
import typing
from typing import Any

if typing.TYPE_CHECKING:
    from nova_rebalancer.model import cloud
    from nova_rebalancer.store import journal


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them; what they leave out is as [path] of the configuration file says."""
    group = parser.add_argument_group("path")
    group.add_argument(
        "--cost",
        help="what a migration costs, so that the cheapest way to the target is taken: memory, "
        "precopy (what is sent, with pages written meanwhile), learned (memory, corrected for "
        "each flavor by the journal) or one of your own (default memory)",
    )


def kept_journal(conf: Any) -> "journal.Journal | None":
    """Open the journal if there is one: a dry run leaves nothing behind."""
    from nova_rebalancer.store import journal

    url = conf.store.connection
    if url is None and not os.path.exists(journal.default_path()):
        return None
    return journal.open(url)


def time_factors(conf: Any, snapshot: "cloud.Snapshot", rate_mibps: float) -> dict[str, float]:
    """Return by how much migrations in the journal took longer than their memory, by flavor."""
    from nova_rebalancer.path import learned

    book = kept_journal(conf)
    if book is None:
        return {}
    flavors = {one.id: one.flavor for one in snapshot.instances}
    seen = [(flavors.get(one), mib, took) for one, mib, took in book.copied(snapshot.cloud)]
    return learned.factors(seen, rate_mibps)

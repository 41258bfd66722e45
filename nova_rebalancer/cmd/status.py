# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance status``: what is being carried out, or was last; reads the journal only."""

import argparse
from collections.abc import Sequence
from typing import Any

from nova_rebalancer.cmd import journalled
from nova_rebalancer.cmd import outcome

COLUMNS = (
    "cloud",
    "region",
    "run",
    "state",
    "began_at",
    "plan",
    "migrations",
    "owner",
    "owner_lives",
)


class Status(outcome.Lister):
    """Show the open run of each cloud, or else the last one.

    The journal is read, and no cloud is asked. A run in state OPEN is being carried out if its
    owner (host:process:start) lives; otherwise it was interrupted, and "nova-rebalance apply" with
    the same plan goes on with it.
    """

    _epilog = "Example: nova-rebalance status --cloud mycloud. Exit codes: 0, 1 error, 2 usage."

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        journalled.add_cloud(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return a row for each cloud and region."""
        import time

        from nova_rebalancer.store import owner

        book = journalled.open_journal(self)
        now = time.time()
        rows = []
        for run in book.latest(parsed_args.cloud):
            lives = None if run.owner is None else owner.alive(run.owner, run.beat_at, now)
            rows.append(
                (
                    run.cloud,
                    run.region,
                    run.id,
                    run.state,
                    journalled.clock(run.began_at),
                    run.plan,
                    journalled.Counts(book.counts(run.id)),
                    run.owner,
                    lives,
                )
            )
        journalled.tell_if_none(self, rows, parsed_args.cloud)
        return COLUMNS, rows

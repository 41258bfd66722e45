# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance history``: the runs of the journal."""

import argparse
from collections.abc import Sequence
from typing import Any

from nova_rebalancer.cmd import journalled
from nova_rebalancer.cmd import outcome

COLUMNS = (
    "run",
    "cloud",
    "region",
    "state",
    "began_at",
    "ended_at",
    "migrations",
    "goal",
    "before",
    "predicted",
    "after",
    "cause",
)


class History(outcome.Lister):
    """List runs, the newest first.

    The journal is read, and no cloud is asked. "before" is the value of the goal when the run
    began, "predicted" what the plan promised, "after" what a fresh snapshot showed in the end.
    """

    _epilog = (
        "Example: nova-rebalance history --cloud mycloud --limit 5. "
        "Exit codes: 0, 1 error, 2 usage."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        journalled.add_cloud(parser)
        parser.add_argument(
            "--limit",
            metavar="N",
            type=_positive,
            default=20,
            help="list N runs at most (default: 20)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return a row for each run."""
        book = journalled.open_journal(self)
        rows = [
            (
                run.id,
                run.cloud,
                run.region,
                run.state,
                journalled.clock(run.began_at),
                journalled.clock(run.ended_at),
                journalled.Counts(book.counts(run.id)),
                run.goal,
                _rounded(run.before),
                _rounded(run.predicted),
                _rounded(run.after),
                journalled.Text(run.cause),
            )
            for run in book.runs(parsed_args.cloud, parsed_args.limit)
        ]
        journalled.tell_if_none(self, rows, parsed_args.cloud)
        return COLUMNS, rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value

# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance show``: one run of the journal, with its migrations."""

import argparse
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from nova_rebalancer.cmd import journalled
from nova_rebalancer.cmd import outcome

if TYPE_CHECKING:
    from nova_rebalancer.store import journal

COLUMNS = ("id", "instance", "source", "dest", "state", "requested_at", "seconds", "why")

MORE = (
    "revision",
    "method",
    "role",
    "depends_on",
    "memory_mib",
    "project",
    "code",
    "attempts",
    "request",
    "record",
    "predicted_s",
    "running_at",
    "ended_at",
    "aborting",
    "bytes",
)
"""For programs."""

CHANGES = ("at", "id", "instance", "before", "after", "code", "why")


class Show(outcome.Lister):
    """Show a run: what it is, and its migrations in the order of the plan.

    The journal is read, and no cloud is asked. The lines above the table are about the run; for
    programs "nova-rebalance history -f json" has them. "seconds" is what a migration took, or has
    taken so far, from the time at which Nova had it.
    """

    _epilog = (
        "Examples: nova-rebalance show 3f2a; every change of state, with its time and cause: "
        "nova-rebalance show 3f2a --changes. Exit codes: 0, 1 error or no such run, 2 usage."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "run", metavar="RUN", help="id of the run, or as much of it as no other run begins with"
        )
        parser.add_argument(
            "--changes", action="store_true", help="list every change of state, the oldest first"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Print the head of a table; return a row for each migration, or each change."""
        import time

        book = journalled.open_journal(self)
        run = book.run(parsed_args.run)
        if parsed_args.formatter == "table":
            head = _head(run, book.counts(run.id))
            width = max(len(name) for name, _ in head)
            for name, value in head:
                print(f"{name:{width}}  {value}", file=self.app.stdout)
        # Changes first: what is planned again meanwhile comes in both or in the second alone.
        changes = book.changes(run.id) if parsed_args.changes else []
        entries = book.entries(run.id)
        if parsed_args.changes:
            by_id = {entry.id: entry for entry in entries}
            return CHANGES, [_change(one, by_id[one.entry]) for one in changes]
        columns = COLUMNS if parsed_args.formatter == "table" else (*COLUMNS, *MORE)
        now = time.time()
        return columns, [_row(entry, columns, now) for entry in entries]


def _head(run: "journal.Run", counts: dict[str, int]) -> list[tuple[str, Any]]:
    """Say what a run is, in names and values."""
    values = (run.before, run.predicted, run.after)
    before, predicted, after = ("unknown" if one is None else f"{one:.6g}" for one in values)
    cause = journalled.Text(run.cause).human_readable()
    head = [
        ("run", run.id),
        ("plan", run.plan),
        ("cloud", run.cloud if run.region is None else f"{run.cloud}, region {run.region}"),
        ("state", f"{run.state}: {cause}" if cause else run.state),
        ("began", journalled.clock(run.began_at)),
        ("ended", journalled.clock(run.ended_at) or "not yet"),
        (run.goal, f"{before} before, {predicted} predicted, {after} after"),
        ("migrations", journalled.Counts(counts).human_readable()),
    ]
    if run.owner is not None:
        head.insert(4, ("owner", run.owner))
    return head


def _row(entry: "journal.Entry", columns: Sequence[str], now: float) -> list[Any]:
    """Return the values of some columns of a migration."""
    values = {name: getattr(entry, name) for name in (*COLUMNS, *MORE) if hasattr(entry, name)}
    for name in ("requested_at", "running_at", "ended_at"):
        values[name] = journalled.clock(values.get(name))
    seconds = None
    if entry.running_at is not None:
        until = now if entry.ended_at is None else entry.ended_at
        seconds = round(until - entry.running_at, 1)
    values |= {"id": entry.key, "seconds": seconds, "why": journalled.Text(entry.text)}
    return [values[name] for name in columns]


def _change(change: "journal.Change", entry: "journal.Entry") -> tuple[Any, ...]:
    """Return the values of a change of a migration."""
    states = (change.before, change.after)
    at = journalled.clock(change.at)
    return (at, entry.key, entry.instance, *states, change.code, journalled.Text(change.text))

# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance path``: the migrations that lead to a given target, or a proof that none do."""

import argparse
from collections.abc import Sequence
import dataclasses
import time
import typing
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import lacks
from nova_rebalancer.cmd import numbers
from nova_rebalancer.cmd import outcome
from nova_rebalancer.cmd import paths
from nova_rebalancer.cmd import rules
from nova_rebalancer.cmd import words

if typing.TYPE_CHECKING:
    from nova_rebalancer.cmd import progress
    from nova_rebalancer.collect import aim
    from nova_rebalancer.collect import cases
    from nova_rebalancer.model import path
    from nova_rebalancer.path import base

COLUMNS = (
    "id",
    "instance",
    "source",
    "dest",
    "memory_mib",
    "role",
    "wave",
    "start_s",
    "end_s",
    "depends_on",
    "why",
)

TIME_LIMIT_S = 10.0
"""Seconds for each question."""

UNLIMITED = 10**9
"""Migrations, without --max-migrations."""

NAMED = 5
"""Cases named in a line, at most."""

OPTIONS = (
    "ignored_rules",
    "opt_in",
    "banned_hosts",
    "checks",
    "pins",
    "bans",
    "numa_packing",
    "cost",
    "migration_rate_mibps",
    "dirty_rate_mibps",
    "migration_downtime_s",
    "migration_timeout_s",
    "time_factors",
    "host_outgoing",
    "host_incoming",
    "total",
    "links",
    "prefer",
)
"""Options of plans that shape paths too."""

ANY_CELLS = (("endpoint", None), ("relaxation", "initial"))
"""Kinds of proofs, and their sides, that hold whichever NUMA cells instances are to come to."""

OF_SNAPSHOTS = (
    "target",
    "allow_stop",
    "ignore_rule",
    "opt_in",
    "ban_host",
    "check",
    "pin",
    "ban",
    "cost",
    "concurrent",
    "link",
)
"""Options that mean nothing to a case, whose file says all."""

Document = dict[str, Any]


class Path(outcome.Lister):
    """Find a safe order of live migrations that leads to a given target.

    The target is a JSON object {instance: host}, made by any tool; instances that it does not
    name stay. Or the question is one of a file of cases. Nothing is changed. The verdict is that
    the target is reachable, with the migrations; that it is not, with a proof that
    "nova-rebalance check" verifies; or that this is unknown, when the time ends before either.
    With -f json the path document itself is printed, the same that --output writes: one object,
    or for a file of cases without --id a list in the order of the file.
    Ctrl-C ends the search with the verdicts found so far.
    """

    _epilog = (
        "Examples: nova-rebalance path --snapshot cloud.json.gz --target target.json; "
        "nova-rebalance path --problem cases.json --id swap -f json. Exit codes: 0 a verdict, "
        "whichever it is, 1 error, 2 usage."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the question and what shapes the answer to the options of a list."""
        parser = super().get_parser(prog_name)
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument(
            "--snapshot", metavar="FILE", help="start from this snapshot document, gzip or not"
        )
        source.add_argument(
            "--problem", metavar="FILE", help="answer the cases in this file, gzip or not"
        )
        parser.add_argument(
            "--target",
            metavar="FILE",
            help="with --snapshot: where instances should be, {instance: host}; a host may be "
            'written {"host": HOST, "numa": [CELL, ...]}; it is null for an instance that leaves, '
            'and a new one is {"host": HOST, "flavor": FLAVOR}, see --allow-stop',
        )
        parser.add_argument("--id", help="with --problem: answer this case only")
        parser.add_argument(
            "--allow-stop",
            action="store_true",
            help="let the target stop instances (before the first migration) and start new ones "
            "(after the last)",
        )
        rules.add_options(parser)
        paths.add_options(parser)
        parser.add_argument(
            "--max-migrations",
            metavar="N",
            type=numbers.whole(0),
            default=UNLIMITED,
            help="most migrations, intermediate stops included (default: any number)",
        )
        parser.add_argument(
            "--time-limit",
            metavar="S",
            type=numbers.amount,
            default=TIME_LIMIT_S,
            help=f"seconds for each question (default {TIME_LIMIT_S:.0f})",
        )
        parser.add_argument("--output", metavar="FILE", help="write the path document here")
        paths.add_report(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Answer; the migrations as rows."""
        from nova_rebalancer.collect import files
        from nova_rebalancer.model import plan_document

        _refuse_mixtures(parsed_args)
        paths.check_report(parsed_args)
        if parsed_args.problem is None:
            answers = [self._from_snapshot(parsed_args)]
        else:
            answers = self._from_cases(parsed_args)
        single = parsed_args.problem is None or parsed_args.id is not None
        self._document = plan_document.dumps(answers[0] if single else answers)
        if parsed_args.output:
            files.write_bytes(parsed_args.output, self._document)
        if parsed_args.report:
            paths.write_report(parsed_args.report, answers[0])
        for answer in answers:
            name = f"{answer['id']}: " if parsed_args.problem is not None else ""
            print(f"{name}{words.summary(answer)}", file=self.app.stderr)
        if len(answers) > 1:
            print(words.total(answers), file=self.app.stderr)
        columns = COLUMNS if single else ("case", *COLUMNS)
        return columns, [
            row if single else (answer["id"], *row) for answer in answers for row in _rows(answer)
        ]

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[Sequence[Any]],
    ) -> int:
        """Print the table; for -f json the document as it is."""
        if parsed_args.output == "-":
            return 0
        if parsed_args.formatter == "json":
            self.app.stdout.write(self._document.decode())
            return 0
        if not data and parsed_args.formatter == "table":
            return 0
        result: int = super().produce_output(parsed_args, column_names, data)
        return result

    def _from_cases(self, given: argparse.Namespace) -> list[Document]:
        from nova_rebalancer.cmd import progress
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.collect import cases
        from nova_rebalancer.model import path_document

        conf = settings.load(self.app_args.config_file)
        prefer = settings.paths(conf, given)["prefer"]
        chosen = _chosen(cases.load(given.problem), given)
        answers = []
        with progress.Counting(self.app.stderr, "cases", len(chosen)) as watch:
            for one in chosen:
                watch.begin(one.id)
                limits = _limits(given, watch, prefer)
                found, runtime_s = _timed(one.start, one.host_of, one.cells_of, one.costs, limits)
                answers.append(path_document.document(one.id, one.start, found, runtime_s))
                watch.end()
        return answers

    def _from_snapshot(self, given: argparse.Namespace) -> Document:
        import uuid

        from nova_rebalancer import controller
        from nova_rebalancer.cmd import progress
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.collect import aim
        from nova_rebalancer.collect import document
        from nova_rebalancer.model import links
        from nova_rebalancer.model import path_document

        conf = settings.load(self.app_args.config_file)
        snapshot, sha256 = document.load(given.snapshot)
        lacks.tell(snapshot, given.snapshot)
        options = controller.Options(**settings.rules(conf, given), **settings.paths(conf, given))
        judged_by = options.settings(snapshot)
        question = aim.load(given.target, snapshot, judged_by, given.allow_stop)
        options = paths.informed(options, conf, question.snapshot)
        cost = controller.cost_of(question.snapshot, question.start, options)
        with progress.Counting(self.app.stderr, "path", 1) as watch:
            limits = _limits(
                given,
                watch,
                options.prefer,
                outgoing=options.host_outgoing,
                incoming=options.host_incoming,
                total=options.total,
                links=links.of(options.links, question.snapshot, options.migration_rate_mibps),
            )
            found, runtime_s = _timed(
                question.start, question.host_of, question.cells_of, cost, limits
            )
        if question.chosen:
            found = modest(found, question, cost)
        guests = [one.numa for one in question.snapshot.instances]
        return {
            **path_document.document(str(uuid.uuid4()), question.start, found, runtime_s, guests),
            "snapshot_sha256": sha256,
            "options": {
                **{name: getattr(options, name) for name in OPTIONS},
                "allow_stop": given.allow_stop,
            },
            "stops": list(question.stops),
            "starts": [{"instance": name, "host": host} for name, host in question.starts],
        }


def modest(
    found: "path.MigrationPath", question: "aim.Aim", cost: "base.Cost"
) -> "path.MigrationPath":
    """Take back what is proved for the NUMA cells that were chosen, and for no others.

    A path is one to the target, whichever cells it leads to.
    """
    start, certificate = question.start, found.certificate or {}
    least = sum(cost.cost(start, int(v)) for v in (question.host_of != start.host_of).nonzero()[0])
    if found.reachable is True:
        return dataclasses.replace(found, optimal=found.optimal and found.cost <= least)
    # Who never moves, and is not on the right host, is on no cells of it either.
    if (certificate.get("kind"), certificate.get("side")) in ANY_CELLS:
        return found
    return dataclasses.replace(found, reachable=None, optimal=False, certificate=None)


def _refuse_mixtures(given: argparse.Namespace) -> None:
    """Refuse options that belong to the other kind of question."""
    if given.problem is None:
        if given.target is None:
            raise exceptions.UsageError("--snapshot needs a target: --target FILE")
        if given.id is not None:
            raise exceptions.UsageError("--id is for --problem, not --snapshot")
        return
    if given.report and given.id is None:
        raise exceptions.UsageError("--report is about one path: name the case with --id")
    for name in OF_SNAPSHOTS:
        if getattr(given, name):
            option = name.replace("_", "-")
            raise exceptions.UsageError(f"--{option} is for --snapshot, not --problem")


def _chosen(found: "list[cases.Case]", given: argparse.Namespace) -> "list[cases.Case]":
    if given.id is None:
        return found
    chosen = [one for one in found if one.id == given.id]
    if not chosen:
        some = ", ".join(one.id for one in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise exceptions.UsageError(
            f"--id {given.id}: no such case in {given.problem}; there are: {some}{more}"
        )
    return chosen


def _limits(
    given: argparse.Namespace, watch: "progress.Counting", prefer: str, **shared: Any
) -> "base.Limits":
    """Return what a path may use, from now on."""
    from nova_rebalancer.path import base

    return base.Limits(
        given.max_migrations,
        deadline=time.monotonic() + given.time_limit,
        stopped=watch.stopped,
        prefer=prefer,
        **shared,
    )


def _timed(*question: Any) -> tuple[Any, float]:
    """Ask the path-finder; its answer and the seconds that it took."""
    from nova_rebalancer.path import finder

    began = time.monotonic()
    found = finder.find(*question)
    return found, time.monotonic() - began


def _rows(answer: Document) -> list[tuple[Any, ...]]:
    return [
        (
            one["id"],
            one["instance"],
            outcome.place(one["source"], one["source_numa"]),
            outcome.place(one["dest"], one["dest_numa"]),
            one["memory_mib"],
            one["role"],
            one["wave"],
            one["start_s"],
            one["end_s"],
            " ".join(one["depends_on"]),
            one["reason"]["text"],
        )
        for one in answer["migrations"]
    ]

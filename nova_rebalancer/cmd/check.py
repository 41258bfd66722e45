# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance check``: the independent checker at the command line."""

import argparse
from collections.abc import Sequence
import importlib.metadata
from typing import Any

from cliff import show
from cliff.formatters import base
from cliff.formatters import commaseparated
from stevedore import extension

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import outcome

FILES = ("snapshot", "plan", "target", "problem", "path")

WAYS = ({"snapshot", "plan"}, {"snapshot", "target", "path"}, {"problem", "path"})
"""Which of FILES go together."""


class _Line(base.SingleFormatter):
    """One line for people."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """Add nothing."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: Any,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Write the verdict."""
        verdict = dict(zip(column_names, data, strict=True))
        words = [
            "ok" if verdict.get("ok") else verdict.get("kind"),
            f"migration {verdict['migration']}" if verdict.get("migration") is not None else None,
            verdict.get("detail"),
        ]
        stdout.write(": ".join(str(word) for word in words if word) + "\n")


class _OneRow(base.SingleFormatter):
    """CSV of one object, which cliff has for lists only."""

    def __init__(self) -> None:
        self._lister = commaseparated.CSVLister()

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of CSV."""
        self._lister.add_argument_group(parser)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: Any,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Write a heading and one row."""
        self._lister.emit_list(column_names, [data], stdout, parsed_args)


class Check(outcome.Command, show.ShowOne):
    """Check a plan on its snapshot, or paths on their questions, with code that did not make them.

    Prints one line: what was replayed, or the first rule that is violated. Exits with 0 if every
    rule is kept and with 1 if not. That a target cannot be reached is accepted with a proof only.
    """

    _epilog = (
        "Examples: nova-rebalance check --snapshot cloud.json.gz --plan plan.json; "
        "nova-rebalance check --snapshot cloud.json.gz --target target.json --path path.json; "
        "nova-rebalance check --problem cases.json --path paths.json"
    )

    @property
    def formatter_default(self) -> str:
        """Name of the output format."""
        return "line"

    def _load_formatter_plugins(self) -> Any:
        plugins = super()._load_formatter_plugins()
        for name, formatter in (("line", _Line()), ("csv", _OneRow())):
            origin = importlib.metadata.EntryPoint(name, __name__, self.formatter_namespace)
            plugins.extensions.append(extension.Extension(name, origin, type(formatter), formatter))
        return plugins

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--snapshot",
            metavar="FILE",
            help="the snapshot document that the plan or path was made from, gzip or not",
        )
        parser.add_argument("--plan", metavar="FILE", help="the plan document, gzip or not")
        parser.add_argument(
            "--target", metavar="FILE", help="with --snapshot: the target of the path, gzip or not"
        )
        parser.add_argument(
            "--problem", metavar="FILE", help="the file of cases of the paths, gzip or not"
        )
        parser.add_argument(
            "--path", metavar="FILE", help="the path document, or a list of them, gzip or not"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Check; the verdict as columns."""
        # Here, because `--help` must not wait for what only a check needs.
        from nova_rebalancer import checker

        given = {name for name in FILES if getattr(parsed_args, name) is not None}
        if given not in WAYS:
            raise exceptions.UsageError(
                "give --snapshot and --plan, or --snapshot, --target and --path, or --problem and "
                "--path"
            )
        if "plan" in given:
            verdict = checker.check_files(parsed_args.snapshot, parsed_args.plan)
        elif "problem" in given:
            verdict = checker.check_cases(
                checker.read(parsed_args.problem),
                checker.read(parsed_args.path),
                problem_name=parsed_args.problem,
            )
        else:
            verdict = checker.check_target(
                checker.read(parsed_args.snapshot),
                checker.read(parsed_args.target),
                checker.read(parsed_args.path),
                snapshot_name=parsed_args.snapshot,
                target_name=parsed_args.target,
            )
        self.exit_code = 0 if verdict.ok else 1
        return (
            ("ok", "kind", "migration", "detail"),
            (verdict.ok, verdict.kind, verdict.migration, verdict.detail),
        )

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

from nova_rebalancer.cmd import outcome


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
    """Check a plan on its snapshot with code that did not make it.

    Prints one line: what was replayed, or the first rule that the plan violates. Exits with 0 if
    the plan keeps every rule and with 1 if it does not.
    """

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
            required=True,
            help="the snapshot document the plan was made from, gzip or not",
        )
        parser.add_argument(
            "--plan", metavar="FILE", required=True, help="the plan document, gzip or not"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Check; the verdict as columns."""
        # Here, because `--help` must not wait for what only a check needs.
        from nova_rebalancer import checker

        verdict = checker.check_files(parsed_args.snapshot, parsed_args.plan)
        self.exit_code = 0 if verdict.ok else 1
        return (
            ("ok", "kind", "migration", "detail"),
            (verdict.ok, verdict.kind, verdict.migration, verdict.detail),
        )

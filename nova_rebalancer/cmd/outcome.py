# SPDX-License-Identifier: Apache-2.0
"""Commands whose exit code says what came out, where cliff would always say 0."""

import argparse

from cliff import command
from cliff import lister


class Command(command.Command):
    """A command that ends with ``exit_code``, which it sets while it runs."""

    exit_code = 0

    def get_epilog(self) -> str:
        """Return our own one.

        cliff reads what is installed on the whole machine before, in case that the command is
        another package's: a fifth of the time that a quick command takes.
        """
        return self._epilog or ""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run, and answer with our exit code unless cliff has one."""
        return super().run(parsed_args) or self.exit_code


class Lister(Command, lister.Lister):
    """Such a command that prints a list, as a table no wider than the terminal."""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run; a table on a terminal fits its width."""
        if parsed_args.formatter == "table" and self.app.stdout.isatty():
            parsed_args.fit_width = True
        return super().run(parsed_args)


def place(host: str, cells: list[int | None] | None) -> str:
    """Write a host with its NUMA cells: ``pm_3:0`` or ``pm_3:0+1``."""
    if cells is None:
        return host
    return host + ":" + "+".join("?" if cell is None else str(cell) for cell in cells)

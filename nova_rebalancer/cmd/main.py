# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance``: the commands, and how errors and exit codes leave the program."""

import argparse
import importlib.metadata
import logging
import sys
from typing import Any

from cliff import app
from cliff import commandmanager

from nova_rebalancer import exceptions

DESCRIPTION = (
    "Decide where the instances of a Nova cloud should be, and find a safe order of live "
    "migrations to get there. Start with: nova-rebalance plan --demo"
)


class _Line(logging.Formatter):
    """``nova-rebalance: error: text``, as every Unix tool says it."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = super().format(record)
        if record.exc_info is None:
            text = " ".join(text.split())
        return f"{Rebalance.NAME}: {level}{text}"


class Rebalance(app.App):
    """The command line program."""

    NAME = "nova-rebalance"

    def __init__(self) -> None:
        super().__init__(
            description=DESCRIPTION,
            version=importlib.metadata.version("nova-rebalancer"),
            command_manager=commandmanager.CommandManager("nova_rebalancer.cli"),
            # Without it "plan --help" would show the program's help, not the command's.
            deferred_help=True,
        )
        self._failure: BaseException | None = None

    def build_option_parser(self, *args: Any, **kwargs: Any) -> argparse.ArgumentParser:
        """Add our one global option to cliff's."""
        parser = super().build_option_parser(*args, **kwargs)
        parser.add_argument(
            "--config-file",
            metavar="FILE",
            action="append",
            help="read defaults of the options from FILE (oslo.config; may be given again)",
        )
        return parser

    def configure_logging(self) -> None:
        """Say who speaks and how serious it is in each line."""
        super().configure_logging()
        if not self.options.debug:
            # They would write down each answer, and take it apart for that, for nobody to read.
            for name in ("keystoneauth", "openstack", "stevedore", "urllib3"):
                logging.getLogger(name).setLevel(logging.WARNING)
        for handler in logging.getLogger().handlers:
            if type(handler) is logging.StreamHandler:
                handler.setFormatter(_Line("%(message)s"))

    def clean_up(self, cmd: Any, result: int, err: BaseException | None) -> None:
        """Remember why the command ended, for the exit code."""
        self._failure = err

    def run_subcommand(self, argv: list[str]) -> int:
        """Run a command; an error of ours decides the exit code."""
        result: int = super().run_subcommand(argv)
        if isinstance(self._failure, exceptions.RebalancerError):
            return self._failure.exit_code
        return result


def main(argv: list[str] | None = None) -> int:
    """Run ``nova-rebalance``; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        # cliff would open a shell of its own.
        Rebalance().parser.print_usage(sys.stderr)
        print("nova-rebalance: error: no command; see nova-rebalance --help", file=sys.stderr)
        return 2
    try:
        result: int = Rebalance().run(arguments)
    except KeyboardInterrupt:
        # Between cliff's own handlers, or before they stand.
        return 130
    return result


if __name__ == "__main__":
    sys.exit(main())

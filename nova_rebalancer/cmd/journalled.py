# SPDX-License-Identifier: Apache-2.0
"""What the commands that read the journal have in common."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
from typing import TYPE_CHECKING

from cliff import columns
from cliff import command

from nova_rebalancer import exceptions

if TYPE_CHECKING:
    from nova_rebalancer.store import journal


TEXT_SHOWN = 160
"""Of a text in a table, in characters."""


class Counts(columns.FormattableColumn[Mapping[str, int]]):
    """Migrations by state: a mapping for programs, ``CONFIRMED 12, PLANNED 3`` for people."""

    def human_readable(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self._value.items()) or "none"


class Text(columns.FormattableColumn[str | None]):
    """A text of a cloud's: whole for programs, the beginning of it in one line for people."""

    def human_readable(self) -> str:
        line = " ".join((self._value or "").split())
        return line if len(line) <= TEXT_SHOWN else f"{line[: TEXT_SHOWN - 1]}…"


def add_cloud(parser: argparse.ArgumentParser) -> None:
    """Add the option that names one cloud."""
    parser.add_argument(
        "--cloud",
        "--os-cloud",
        dest="cloud",
        metavar="NAME",
        help="only runs on this cloud, by its name in clouds.yaml (default: all clouds)",
    )


def open_journal(caller: command.Command) -> "journal.Journal":
    """Open the journal that the configuration names.

    Raises
    ------
    InputError
        If a configuration file is missing or cannot be understood.
    """
    from nova_rebalancer.store import journal

    return journal.open(connection(caller.app_args.config_file))


def connection(files: Sequence[str] | None) -> str | None:
    """Read where the journal is from configuration files; None if they do not say.

    Raises
    ------
    InputError
        If a file is missing or cannot be understood.
    """
    if not files:
        return None
    from oslo_config import cfg

    from nova_rebalancer.conf import store

    # Not by cmd.settings, which knows all options and so loads numpy: these commands are to answer
    # at once, and that is half of the time that they take.
    conf = cfg.ConfigOpts()
    conf.register_opts(store.OPTIONS, group=store.GROUP.name)
    try:
        conf(args=[], project="nova-rebalancer", default_config_files=list(files))
        url: str | None = conf.store.connection
    except (cfg.Error, ValueError) as error:
        text = " ".join(str(error).split())
        raise exceptions.InputError(f"configuration: {text}") from None
    return url


def tell_if_none(caller: command.Command, rows: Sequence[object], cloud: str | None) -> None:
    """Say on stderr that there is nothing to show."""
    if not rows:
        where = "" if cloud is None else f' on cloud "{cloud}"'
        print(f"nova-rebalance: the journal has no runs{where}", file=caller.app.stderr)


def clock(at: float | None) -> str | None:
    """Write seconds since 1970 as people and programs read them, in UTC."""
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

# SPDX-License-Identifier: Apache-2.0
"""The options that say which rules are kept, for every command that judges a move."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them; what [constraints] of the configuration file says counts too."""
    group = parser.add_argument_group("rules")
    group.add_argument(
        "--ignore-rule",
        metavar="RULE",
        action="append",
        default=[],
        help="do not keep this rule, at your risk: one whose filter your Nova has not enabled, or "
        "a fact that Nova's API does not tell (again for more; a wrong name lists them)",
    )
    group.add_argument(
        "--opt-in",
        action="store_true",
        help="move only what asks for it: metadata nova-rebalancer:allow-migration=true or tag "
        "nova-rebalancer:move",
    )
    group.add_argument(
        "--ban-host",
        metavar="HOST",
        action="append",
        default=[],
        help="send nothing to this host; what is there may leave (again for more)",
    )
    group.add_argument(
        "--check",
        metavar="NAME[=VALUE]",
        action="append",
        default=[],
        help="keep to this too (again for more): overcommit=RATIO, headroom=SHARE, groups (soft "
        "groups as hard ones), backup[=TAG] (not while it has the tag), converges, or one of your "
        "own",
    )
    group.add_argument(
        "--pin",
        metavar="INSTANCE=HOST[,HOST]",
        action="append",
        default=[],
        help="send this instance to these hosts only (again for more)",
    )
    group.add_argument(
        "--ban",
        metavar="INSTANCE=HOST[,HOST]",
        action="append",
        default=[],
        help="do not send this instance to these hosts (again for more); bans win over pins",
    )

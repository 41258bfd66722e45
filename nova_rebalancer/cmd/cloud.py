# SPDX-License-Identifier: Apache-2.0
"""What commands that read a live cloud have in common: options, reading, the line that says so."""

import argparse
import time
import typing
from typing import Any
from typing import TextIO

if typing.TYPE_CHECKING:
    from nova_rebalancer.collect import live
    from nova_rebalancer.model import scope
    from nova_rebalancer.rest import client


def add_options(parser: argparse.ArgumentParser, named: bool = True, cached: bool = True) -> None:
    """Add the options of every command that reads a cloud.

    ``named``: --os-cloud, too; ``cached``: --fresh, too.
    """
    if named:
        parser.add_argument(
            "--os-cloud",
            metavar="NAME",
            help="read this cloud of clouds.yaml (default: [cloud] in the configuration file, "
            "else OS_CLOUD or the OS_* variables)",
        )
    parser.add_argument(
        "--facts",
        metavar="FILE",
        help="facts Nova's API does not tell: NUMA cells, Nova cell, rack (default: facts_file "
        "in [collect])",
    )
    if cached:
        parser.add_argument(
            "--fresh",
            action="store_true",
            help="read everything, nothing from what an earlier reading left in the cache",
        )


def limits(conf: Any) -> "client.Limits":
    """Return how hard a cloud may be asked, as configured."""
    from nova_rebalancer.rest import client

    return client.Limits(
        conf.collect.workers,
        conf.collect.requests_per_s,
        conf.collect.attempts,
        conf.collect.request_timeout_s,
        conf.collect.deadline_s,
    )


def read(
    conf: Any, given: argparse.Namespace, stderr: TextIO, part: "scope.Scope | None" = None
) -> "live.Live":
    """Read the cloud that was ``given``, with progress on ``stderr``.

    Raises
    ------
    RebalancerError
        As ``collect.live.snapshot``.
    """
    from nova_rebalancer.cmd import progress
    from nova_rebalancer.collect import live
    from nova_rebalancer.rest import connection

    source = connection.connect(given.os_cloud, conf.collect.request_timeout_s, conf)
    how = live.Options(
        limits(conf),
        conf.collect.full_every_s,
        conf.collect.check_every_s,
        given.facts or conf.collect.facts_file,
        given.fresh,
    )
    began = time.monotonic()
    fetching = progress.Fetching(stderr, source.name)
    try:
        found = live.snapshot(source, how, fetching, part)
    except KeyboardInterrupt:
        print("interrupted; waiting for the answers under way (Ctrl-C: not even that)", file=stderr)
        raise
    finally:
        fetching.close()
    counts = f"{len(found.snapshot.hosts)} hosts, {len(found.snapshot.instances)} instances"
    took_s = time.monotonic() - began
    print(f"read {source.name}: {counts} in {took_s:.1f} s, {found.requests} requests", file=stderr)
    return found


def add_scope(parser: argparse.ArgumentParser, effect: str) -> None:
    """Add --scope; ``effect`` says what it does here."""
    parser.add_argument(
        "--scope",
        metavar="KIND=NAME",
        action="append",
        default=[],
        help=f"{effect}; KIND is aggregate, az, cell, host or project; give it again for more "
        "names of a kind (any of them) or other kinds (all of them must hold)",
    )

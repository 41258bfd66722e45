# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance doctor``: what keeps plans for a cloud from being right; nothing is changed."""

import argparse
from collections.abc import Sequence
import logging

from nova_rebalancer.cmd import cloud
from nova_rebalancer.cmd import outcome

MOST_ATTEMPTS = 3
"""Of one request: a service that does not answer is what is looked for here."""

COLUMNS = ("check", "result", "finding", "consequence", "fix")


class Doctor(outcome.Lister):
    """Look for what keeps plans for a cloud from being right.

    Reads the whole cloud and judges what came: what the account cannot see, old releases, cells
    that are down, hosts that are left out, and where Placement and Nova disagree. Each finding
    comes with its consequence and its fix. The results are ok, warning (plans are made, with less
    in them), error (plans are refused or wrong) and unknown (it could not be looked at). Nothing
    is changed in the cloud.
    """

    _epilog = (
        "Examples: nova-rebalance doctor --os-cloud mycloud; only what is not well, for a "
        "program: nova-rebalance doctor --os-cloud mycloud --bad -f json. Exit codes: 0 no error "
        "was found, 1 an error was found, or the command failed, 2 usage."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the cloud and where to listen to the options of a list."""
        parser = super().get_parser(prog_name)
        cloud.add_options(parser, cached=False)
        parser.add_argument(
            "--bad", action="store_true", help="leave out what is ok (default: list all checks)"
        )
        parser.add_argument(
            "--transport-url",
            metavar="URL",
            action="append",
            default=[],
            help="listen to notifications at this message broker, transport_url in nova.conf; give "
            "it again for the broker of each cell; - reads URLs from standard input, where nobody "
            "sees the password in a list of processes",
        )
        parser.add_argument(
            "--listen",
            metavar="S",
            type=_seconds,
            default=5.0,
            help="seconds to listen at each (default 5)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Examine the cloud; the findings as rows."""
        import dataclasses
        import sys

        from nova_rebalancer.cmd import progress
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.collect import doctor
        from nova_rebalancer.collect import facts
        from nova_rebalancer.rest import client
        from nova_rebalancer.rest import connection

        conf = settings.load(self.app_args.config_file)
        source = connection.connect(parsed_args.os_cloud, conf.collect.request_timeout_s, conf)
        path = parsed_args.facts or conf.collect.facts_file
        urls = [url for url in parsed_args.transport_url if url != "-"]
        if "-" in parsed_args.transport_url:
            urls += sys.stdin.read().split()
        options = doctor.Options(
            conf.path.host_outgoing, facts.load(path) if path else None, urls, parsed_args.listen
        )
        limits = cloud.limits(conf)
        limits = dataclasses.replace(limits, attempts=min(limits.attempts, MOST_ATTEMPTS))
        # What they would say is in the findings.
        for name in ("nova_rebalancer.collect", "oslo.messaging", "oslo_messaging", "oslo_service"):
            logging.getLogger(name).propagate = False
        fetching = progress.Fetching(self.app.stderr, source.name)
        ask = client.Client(source, limits)
        try:
            found = doctor.examine(ask, options, fetching)
        except KeyboardInterrupt:
            ask.stop()
            raise
        finally:
            fetching.close()
        self.exit_code = int(any(one.result == doctor.ERROR for one in found))
        rows = [
            (one.check, one.result, one.finding, one.consequence, one.fix)
            for one in found
            if not (parsed_args.bad and one.result == doctor.OK)
        ]
        return COLUMNS, rows


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return value

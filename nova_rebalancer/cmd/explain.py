# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance explain``: where an instance could go, and what keeps it from elsewhere."""

import argparse
from collections.abc import Sequence
import logging
from typing import Any

from nova_rebalancer.cmd import outcome
from nova_rebalancer.cmd import rules

LOG = logging.getLogger(__name__)

COLUMNS = ("host", "possible", "rule", "why")


class Explain(outcome.Lister):
    """Say for every host whether an instance could go there now, and which rule forbids it.

    Every rule that forbids a host is listed: those that hold whatever else is there, and what is
    full, taken or unknown just now. What keeps the instance where it is altogether is said first,
    on stderr, and by -f json in "not_migratable" of each row.
    """

    _epilog = (
        "Example: nova-rebalance explain --snapshot cloud.json.gz --instance web-3. "
        "Exit codes: 0 it may go to some host, 3 it may go nowhere, 1 error, 2 usage."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--snapshot", metavar="FILE", required=True, help="a snapshot document, gzip or not"
        )
        parser.add_argument(
            "--instance",
            metavar="INSTANCE",
            required=True,
            help="its id, or its name if only one is called so",
        )
        rules.add_options(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Judge every host; one row for each."""
        from nova_rebalancer import controller
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.collect import document
        from nova_rebalancer.model import explanation

        conf = settings.load(self.app_args.config_file)
        snapshot, _ = document.load(parsed_args.snapshot)
        options = controller.Options(**settings.rules(conf, parsed_args))
        instance = explanation.find(snapshot, parsed_args.instance)
        found = explanation.Explainer(snapshot, options.settings(snapshot)).of(instance)
        # Names may hold line breaks.
        name = " ".join((found.instance.name or found.instance.id).split())
        print(f"{name} ({found.instance.id}) is on {found.host.service_host}", file=self.app.stderr)
        for obstacle in found.obstacles:
            methods = " and ".join(obstacle.methods)
            print(
                f"not migratable ({methods}, {obstacle.confidence}): {obstacle.reason.text}",
                file=self.app.stderr,
            )
        for lack in snapshot.missing:
            if lack.hosts is None:
                LOG.warning(
                    "the snapshot lacks %s (%s): no plan is made of it", lack.what, lack.reason
                )
        stays = found.stays
        if stays or not any(verdict.possible for verdict in found.verdicts):
            self.exit_code = 3
        why_not = "; ".join(
            obstacle.reason.text for obstacle in found.obstacles if "live" in obstacle.methods
        )
        columns = COLUMNS
        rows = [
            (
                verdict.host,
                "here" if verdict.here else "yes" if verdict.possible and not stays else "no",
                ", ".join(refusal.rule for refusal in verdict.refusals),
                "; ".join(refusal.text for refusal in verdict.refusals)
                or (why_not if stays and not verdict.here else verdict.note),
            )
            for verdict in found.verdicts
        ]
        if parsed_args.formatter in ("json", "yaml"):
            columns = (*COLUMNS, "instance", "not_migratable")
            rows = [(*row, found.instance.id, why_not) for row in rows]
        return columns, rows

# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance explain``: where an instance could go, and what keeps it from elsewhere."""

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import typing
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import holding
from nova_rebalancer.cmd import outcome
from nova_rebalancer.cmd import rules

if typing.TYPE_CHECKING:
    from nova_rebalancer.model import alternatives
    from nova_rebalancer.model import cloud
    from nova_rebalancer.model import explanation

LOG = logging.getLogger(__name__)

COLUMNS = ("host", "possible", "rule", "why")

SHOWN = 5
"""Hosts named at most."""


class Explain(outcome.Lister):
    """Say for every host whether an instance could go there now, and which rule forbids it.

    Every rule that forbids a host is listed: those that hold whatever else is there, and what is
    full, taken or unknown just now. What keeps the instance where it is altogether is said first,
    on stderr, and by -f json in "not_migratable" of each row.

    With --plan it is said why the plan moves the instance, or why not, and for every host what the
    goal would be with the instance there and everything else where the plan leads. The rules are
    then judged as the plan kept them.

    Where an instance can go nowhere it is said which rules are enough to leave it no host, none of
    them needless for that, and the fewest that have to be lifted for there to be a host. --plan
    without --instance says so of each instance for which the plan does not reach the goal drain or
    repair, alone or among others, everything else being where the plan leads; and, for drain, with
    which options, each of them needed, the hosts would be empty.
    """

    _epilog = (
        "Examples: nova-rebalance explain --snapshot cloud.json.gz --instance web-3; "
        "nova-rebalance explain --snapshot cloud.json.gz --plan plan.json --instance web-3; "
        "nova-rebalance explain --snapshot cloud.json.gz --plan drain.json. "
        "Exit codes: 0 it may go to some host, or nothing holds the goal; 3 it may go nowhere, or "
        "something holds it; 1 error, 2 usage."
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
            help="its id, or its name if only one is called so",
        )
        parser.add_argument(
            "--plan", metavar="FILE", help="a plan made from this snapshot: explain its choice"
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
        snapshot, sha256 = document.load(parsed_args.snapshot)
        if parsed_args.instance is None:
            return self._holding(parsed_args.plan, snapshot, sha256)
        instance = explanation.find(snapshot, parsed_args.instance)
        if parsed_args.plan is None:
            options = controller.Options(**settings.rules(conf, parsed_args))
            there: list[alternatives.Alternative] = []
        else:
            plan, options = _plan(parsed_args.plan, sha256)
            there = _alternatives(snapshot, options, plan, instance.id)
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
        if parsed_args.plan is not None:
            for text in _choice(plan, instance.id, there):
                print(text, file=self.app.stderr)
        stays = found.stays
        if stays or not any(verdict.possible for verdict in found.verdicts):
            self.exit_code = 3
            for text in _conflict(found, snapshot, options):
                print(text, file=self.app.stderr)
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
        if there:
            columns = (*columns, "planned", "value_there")
            rows = [
                (*row, one.chosen, None if one.value is None else round(one.value, 6))
                for row, one in zip(rows, there, strict=True)
            ]
        if parsed_args.formatter in ("json", "yaml"):
            columns = (*columns, "instance", "not_migratable")
            rows = [(*row, found.instance.id, why_not) for row in rows]
        return columns, rows

    def _holding(
        self, name: str | None, snapshot: "cloud.Snapshot", sha256: str
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Say who holds the goal of a plan; one row for each."""
        if name is None:
            raise exceptions.UsageError("name an --instance, or a --plan whose goal is to explain")
        plan, options = _plan(name, sha256)
        rows = []
        for goal, found in holding.held(snapshot, options, plan, name).items():
            if not found:
                continue
            self.exit_code = 3
            told = f"{len(found)} instances hold the goal {goal}"
            if goal == "drain":
                told += _relief(snapshot, options, found)
            print(told, file=self.app.stderr)
            rows += [row for row in map(holding.row, found) if row not in rows]
        return holding.COLUMNS, rows


def _relief(
    snapshot: "cloud.Snapshot", options: Any, found: "Sequence[explanation.Explanation]"
) -> str:
    """Say with which options the hosts would be empty."""
    more = holding.relief(snapshot, options, found)
    if more is None:
        cold = f", even with {holding.COLD}" if holding.cold_helps(options, found) else ""
        return f"; it is not enough to ignore rules that may be ignored{cold}"
    risk = "" if more == (holding.COLD,) else ", at your risk"
    needed = ", and each of these is needed" if len(more) > 1 else ""
    return f"; all could go with {' '.join(more)}{risk}{needed}"


def _conflict(
    found: "explanation.Explanation", snapshot: "cloud.Snapshot", options: Any
) -> Iterator[str]:
    """Say what leaves an instance nowhere to go, and the least that would have to change."""
    from nova_rebalancer.model import explanation

    rules = found.conflict()
    if not rules:
        return
    barred = found.barred().values()
    counts = (f"{rule} {sum(rule in by for by in barred)}" for rule in rules)
    needed = ", and no part of these does" if len(rules) > 1 else ""
    yield f"enough to leave none of {len(barred)} other hosts: {', '.join(counts)}{needed}"
    lifted, hosts = found.least()
    how = ""
    if explanation.relieved(snapshot, options.settings(snapshot), found.instance, lifted):
        how = " (" + " ".join(f"--ignore-rule {rule}" for rule in lifted) + ", at your risk)"
    yield f"least to lift: {', '.join(lifted)}{how}: then it could go to {_some(hosts)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _plan(name: str, sha256: str) -> tuple[dict[str, Any], Any]:
    """Read a plan made from the snapshot with this checksum, and its options."""
    from nova_rebalancer.cmd import stage

    plan = stage.read_plan(name)
    if plan["snapshot_sha256"] != sha256:
        raise exceptions.InputError(f"{name}: it was made from another snapshot")
    return plan, stage.options(plan, name)


def _alternatives(
    snapshot: "cloud.Snapshot", options: Any, plan: Mapping[str, Any], instance: str
) -> "list[alternatives.Alternative]":
    from nova_rebalancer import controller
    from nova_rebalancer.model import alternatives
    from nova_rebalancer.model import narrowed
    from nova_rebalancer.model import scope

    part = scope.parse(options.scope).narrow(snapshot)
    start = narrowed.build(part, options.settings(snapshot))
    goal = controller.goal_of(part, start, options)
    after = alternatives.planned(start, plan["migrations"])
    return alternatives.of(after, goal, start.instances.index(instance))


def _choice(
    plan: Mapping[str, Any], instance: str, there: "Sequence[alternatives.Alternative]"
) -> Iterator[str]:
    """Say what the plan does with the instance, and why."""
    moves = [one for one in plan["migrations"] if one["instance"] == instance]
    for one in moves:
        waits = f" after {', '.join(one['depends_on'])}" if one["depends_on"] else ""
        what = "to make room for others" if one["role"] == "bypass" else one["reason"]["text"]
        yield f"the plan moves it: {one['id']} {one['source']} -> {one['dest']}{waits}: {what}"
    for key in ("unreachable", "excluded"):
        for one in plan[key]:
            if one["instance"] == instance:
                yield f"the plan does not move it ({key}): {one['reason']['text']}"
    if not moves:
        yield "the plan leaves it where it is"
    values = {one.host: one.value for one in there if one.value is not None}
    (now,) = [one.value for one in there if one.chosen]
    best = min(values, key=lambda host: values[host], default=None)
    if best is None or now is None:
        return
    name = plan["objective"]["name"]
    if values[best] >= now - 1e-9:
        yield f"{name} is {now:.6g} then; with it on any other host it would be no lower"
        return
    used = f"{len(plan['migrations'])} of {plan['max_migrations']} migrations are used"
    yield f"{name} is {now:.6g} then; with it on {best} it would be {values[best]:.6g} ({used})"

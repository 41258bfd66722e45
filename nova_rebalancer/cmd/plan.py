# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance plan``: from a snapshot to an ordered, checked plan; nothing is changed."""

import argparse
import collections
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import logging
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import cloud
from nova_rebalancer.cmd import goals
from nova_rebalancer.cmd import lacks
from nova_rebalancer.cmd import numbers
from nova_rebalancer.cmd import outcome
from nova_rebalancer.cmd import paths
from nova_rebalancer.cmd import rules
from nova_rebalancer.cmd import worth

LOG = logging.getLogger(__name__)

WARNINGS = 5
"""Overfull hosts named at most."""

COLUMNS = ("id", "instance", "source", "dest", "memory_mib", "wave", "rate_after", "why")


class Plan(outcome.Lister):
    """Compute a better placement and a safe order of live migrations to reach it.

    Nothing is changed: this is the dry run. The table lists the migrations in an order that can
    be carried out, the goal's value after each, and why. With -f json the plan document itself
    is printed, the same that --output writes for other programs and for "nova-rebalance apply".
    Ctrl-C ends the search with the best plan found so far.
    """

    _epilog = (
        "Examples: nova-rebalance plan --demo; nova-rebalance plan --snapshot cloud.json.gz "
        "--max-migrations 20 --output plan.json; nova-rebalance plan --os-cloud mycloud "
        "--scope aggregate=rack7. Exit codes: 0 a plan, 1 error, 2 usage, "
        "3 nothing worth doing, 130 interrupted before there was a plan."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add what shapes a plan to the options of a list."""
        parser = super().get_parser(prog_name)
        source = parser.add_mutually_exclusive_group()
        source.add_argument(
            "--snapshot", metavar="FILE", help="plan for this snapshot document, gzip or not"
        )
        source.add_argument(
            "--demo", action="store_true", help="plan for a made-up cloud in memory"
        )
        source.add_argument(
            "--os-cloud",
            metavar="NAME",
            help="read this cloud of clouds.yaml and plan for it (without any of the three: the "
            "section [cloud] of the configuration file, else OS_CLOUD or the OS_* variables)",
        )
        cloud.add_options(parser, named=False)
        parser.add_argument(
            "--save-snapshot",
            metavar="FILE",
            help="write what was read of the cloud here: the same plan can be made of it again",
        )
        cloud.add_scope(parser, "move only instances of this part of the cloud, inside of it")
        rules.add_options(parser)
        worth.add_options(parser)
        parser.add_argument(
            "--demo-hosts",
            metavar="N",
            type=numbers.whole(10),
            default=60,
            help="hosts of the made-up cloud (default 60)",
        )
        parser.add_argument(
            "--demo-seed",
            metavar="N",
            type=numbers.whole(0),
            default=1,
            help="which made-up cloud (default 1)",
        )
        goals.add_options(parser)
        paths.add_options(parser)
        parser.add_argument(
            "--fragment-cores",
            metavar="X",
            type=numbers.sizes,
            help="cores of the instance that free capacity should have room for; several sizes "
            "count alike, as 32,16,8,4 (default 16)",
        )
        parser.add_argument(
            "--planner",
            help="auto, mip (exact, with a bound) or greedy (at once, no bound); default auto",
        )
        parser.add_argument(
            "--max-migrations",
            metavar="N",
            type=numbers.whole(0),
            help="most migrations, intermediate stops included (default 50)",
        )
        parser.add_argument(
            "--max-gib",
            metavar="X",
            type=numbers.amount,
            help="most GiB of memory that the migrations copy, intermediate stops included "
            "(default: no limit)",
        )
        parser.add_argument(
            "--time-limit",
            metavar="S",
            type=numbers.amount,
            help="seconds for planning and path-finding (default 30; none with --work-limit)",
        )
        parser.add_argument(
            "--work-limit",
            metavar="N",
            type=numbers.whole(0),
            help="limit of solver work instead of time: the same plan on every machine",
        )
        parser.add_argument(
            "--seed",
            metavar="N",
            type=numbers.whole(0, numbers.MOST_SEED),
            help="start of random numbers (default 0)",
        )
        parser.add_argument("--output", metavar="FILE", help="write the plan document here")
        paths.add_report(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Make the plan; its migrations as rows."""
        import datetime
        import importlib.metadata
        import uuid

        from nova_rebalancer import controller
        from nova_rebalancer.cmd import progress
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.collect import document
        from nova_rebalancer.collect import files
        from nova_rebalancer.model import plan_document
        from nova_rebalancer.model import target

        conf = settings.load(self.app_args.config_file)
        options = settings.options(conf, parsed_args)
        paths.check_report(parsed_args)
        if parsed_args.demo or parsed_args.snapshot:
            for name in ("facts", "fresh", "save_snapshot"):
                if getattr(parsed_args, name):
                    raise exceptions.UsageError(
                        f"--{name.replace('_', '-')} is for a live cloud, not --demo or --snapshot"
                    )
        if parsed_args.demo:
            from nova_rebalancer.sim import demo

            data = demo.document(parsed_args.demo_seed, parsed_args.demo_hosts)
            snapshot, sha256 = document.loads(data, "the demo cloud")
        elif parsed_args.snapshot:
            snapshot, sha256 = document.load(parsed_args.snapshot)
        else:
            found = cloud.read(conf, parsed_args, self.app.stderr)
            snapshot, sha256 = found.snapshot, found.sha256
            if not any(host.usable for host in snapshot.hosts):
                raise exceptions.CloudError(
                    f"cloud {snapshot.cloud}: none of its hosts can be planned for; "
                    "nova-rebalance doctor says why"
                )
            options = dataclasses.replace(options, learnt=_learnt(conf, snapshot))
            if parsed_args.save_snapshot:
                files.write_bytes(parsed_args.save_snapshot, found.data)
        options = paths.informed(options, conf, snapshot)
        moved = worth.last_moved(conf, parsed_args, snapshot, options.cooldown_h)
        options = dataclasses.replace(options, last_moved=moved)
        lacks.tell(snapshot, parsed_args.snapshot or snapshot.cloud)
        with progress.Progress(self.app.stderr, options.time_limit_s) as watch:
            plan = controller.run(snapshot, sha256, options, watch)
        written = plan_document.document(
            plan,
            str(uuid.uuid4()),
            datetime.datetime.now(datetime.UTC),
            conf.planner.plan_expires_s,
            {name: importlib.metadata.version(name) for name in ("nova-rebalancer", "ortools")},
        )
        if watch.interrupted and not plan.path.migrations:
            self.exit_code = 130
            LOG.error("interrupted before there was a plan")
        elif not plan.path.migrations:
            self.exit_code = 3
        self._document = plan_document.dumps(written)
        if parsed_args.output and self.exit_code != 130:
            files.write_bytes(parsed_args.output, self._document)
        if parsed_args.report and self.exit_code != 130:
            paths.write_report(parsed_args.report, written)
        self._say(plan, written, target.OPTIMAL)
        rows = [
            (
                item["id"],
                _named(item["instance"], names),
                outcome.place(item["source"], item["source_numa"]),
                outcome.place(item["dest"], item["dest_numa"]),
                item["memory_mib"],
                item["wave"],
                round(item["value_after"], 4),
                item["reason"]["text"],
            )
            for names in [{one.id: one.name for one in snapshot.instances}]
            for item in written["migrations"]
        ]
        return COLUMNS, rows

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[Sequence[Any]],
    ) -> int:
        """Print the table; for -f json the document as it is."""
        if self.exit_code == 130:
            return 0
        if parsed_args.formatter == "json" and parsed_args.output != "-":
            self.app.stdout.write(self._document.decode())
            return 0
        if parsed_args.output == "-":
            return 0
        if not data and parsed_args.formatter == "table":
            return 0
        result: int = super().produce_output(parsed_args, column_names, data)
        return result

    def _say(self, plan: Any, written: dict[str, Any], optimal: str) -> None:
        """Say on stderr what a person wants to know before reading the table."""
        overfull = plan.start.overfull()
        for name, resource, used, capacity in overfull[:WARNINGS]:
            LOG.warning("%s is overfull: %s %d of %d", name, resource, used, capacity)
        if len(overfull) > WARNINGS:
            LOG.warning("and %d more are overfull", len(overfull) - WARNINGS)
        if written["unreachable"]:
            first = written["unreachable"][0]
            LOG.warning(
                "%d instances cannot be where they should; the first: %s",
                len(written["unreachable"]),
                first["reason"]["text"],
            )
        why = collections.Counter(entry["reason"]["code"] for entry in written["excluded"])
        if why:
            told = ", ".join(f"{code} {count}" for code, count in why.most_common())
            print(f"excluded from moving: {told}", file=self.app.stderr)
        goal = written["objective"]
        bound = "none" if goal["bound"] is None else f"{goal['bound']:.4f}"
        head = f"{goal['name']} {goal['before']:.4f} -> {goal['after']:.4f} (bound {bound}"
        head += ", proven optimal)" if plan.status == optimal else f", {plan.status})"
        count = len(plan.path.migrations)
        if self.exit_code == 130:
            return
        if not count:
            print(f"nothing worth doing was found: {head}", file=self.app.stderr)
        if plan.regardless is not None:
            print(_regardless(plan), file=self.app.stderr)
        for text in _holding(plan):
            print(text, file=self.app.stderr)
        if not count:
            return
        minutes = plan.path.makespan_s / 60
        print(
            f"{head}: {count} migrations, {plan.memory_mib / 1024:.0f} GiB to copy, about "
            f"{minutes:.1f} min; {len(written['excluded'])} instances excluded; "
            f"planned in {plan.runtime_s:.1f} s",
            file=self.app.stderr,
        )


def _holding(plan: Any) -> Iterator[str]:
    """Say who is on hosts that are to be emptied even after the plan, and why."""
    from nova_rebalancer.model.objectives import drain

    drained = set(drain.hosts(plan.snapshot, plan.options["drain"]))
    hosts = [plan.start.service_hosts[h] for h in plan.path.ends(plan.start).tolist()]
    there = [v for v, host in enumerate(hosts) if host in drained]
    for v in there[:WARNINGS]:
        why = plan.path.unreachable.get(v)
        if v in plan.start.excluded:
            why = plan.start.excluded[v].reason
        text = "no other place was found for it" if why is None else why.text
        off = plan.snapshot.instances[v].status == "SHUTOFF" and not plan.options["cold"]
        hint = "; --cold would migrate it cold" if off else ""
        yield f"{hosts[v]} is still held by {plan.start.instances[v]}: {text}{hint}"
    if len(there) > WARNINGS:
        yield f"and {len(there) - WARNINGS} more hold hosts that are to be emptied"


def _regardless(plan: Any) -> str:
    """Say what would be done if it cost nothing, and why it is not."""
    bill, options = plan.regardless, plan.options
    text = "not all of it is worth it" if plan.path.migrations else "not worth it"
    text += (
        f": {bill.migrations} migrations of {bill.memory_mib / 1024:.0f} GiB would gain "
        f"{plan.before.value - bill.value:.4g}"
    )
    if bill.price:
        prices = {
            "migration": options["min_gain"],
            "GiB": options["cost_per_gib"],
            "pair of soft groups": options["soft_group_cost"] if plan.start.soft else 0.0,
        }
        said = ", ".join(f"{price:g} for each {what}" for what, price in prices.items() if price)
        text += f" and cost {bill.price:.4g} ({said})"
    if bill.excess:
        most_gib = options["max_gib"]
        if most_gib is not None and bill.memory_mib > 1024 * most_gib:
            text += f"; --max-gib allows {most_gib:g}"
        budget = {"migrations": options["project_migrations"], "GiB": options["project_gib"]}
        said = ", ".join(f"{most:g} {what}" for what, most in budget.items() if most is not None)
        if said:
            text += f"; some project has more than its budget of them ({said})"
    return text


def _learnt(conf: Any, snapshot: Any) -> dict[str, str]:
    """Return the instances that Nova would not migrate lately, as the journal has it, and why."""
    import time

    book = paths.kept_journal(conf)
    if book is None:
        return {}
    there = {one.id for one in snapshot.instances}
    known = book.learnt(snapshot.cloud, time.time())
    return {one: text for one, (_, text, _) in sorted(known.items()) if one in there}


def _named(instance: str, names: dict[str, str | None]) -> str:
    return names.get(instance) or instance

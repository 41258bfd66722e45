# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance simulate``: days of a cloud in memory under rebalancing policies."""

import argparse
from collections.abc import Sequence
import logging
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import numbers
from nova_rebalancer.cmd import outcome

LOG = logging.getLogger(__name__)

DEFAULT_POLICIES = ("none", "auto")


class Simulate(outcome.Lister):
    """Let days of a cloud go by in memory, under rebalancing policies side by side.

    Instances come and go on the cloud of a snapshot, the same ones under every policy; what finds
    no room is refused and counted. Each policy makes a plan now and then and carries it out.
    The table has one row for each policy. No cloud is asked or changed, and the same call gives
    the same result, unless a policy has a time-limit. Ctrl-C ends with what is done.

    A policy is a planner (auto, mip, greedy) followed by words, or "none":
    every=24h and at=3h (the first plan) take m, h or d; max-migrations=50 and max-gib=500 are
    for each plan; goal=fragmentation, fragment-cores=16, flavor=4:8192,m1.large and seed=0 are as
    for "nova-rebalance plan";
    min-gain=0.001, cost-per-gib=0.0001 and cooldown=24h, too;
    work-limit=1 bounds the solver's work, time-limit=5 its seconds.
    """

    _epilog = (
        "Examples: nova-rebalance simulate --demo --days 3 --policy none --policy greedy; "
        "nova-rebalance simulate --snapshot cloud.json.gz --days 30 --load 0.95 --policy none "
        "--policy 'auto every=24h max-migrations=50 max-gib=500' --plot days.svg; "
        "nova-rebalance simulate --demo --arrivals boots.csv --scheduler pack -f json. "
        "Exit codes: 0 a result, also of the days before Ctrl-C; 1 error, 2 usage, "
        "130 interrupted before there was a result."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add what shapes the days to the options of a list."""
        parser = super().get_parser(prog_name)
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument(
            "--snapshot", metavar="FILE", help="begin with this snapshot document, gzip or not"
        )
        source.add_argument(
            "--demo", action="store_true", help="begin with a made-up cloud in memory"
        )
        parser.add_argument(
            "--demo-hosts",
            metavar="N",
            type=int,
            default=60,
            help="hosts of the made-up cloud (default 60)",
        )
        parser.add_argument(
            "--demo-seed",
            metavar="N",
            type=numbers.whole(0, numbers.MOST_SEED),
            default=1,
            help="which made-up cloud (default 1)",
        )
        parser.add_argument(
            "--policy",
            action="append",
            metavar="TEXT",
            help="a policy, as above; may be given several times (default: none, and auto)",
        )
        parser.add_argument(
            "--days",
            metavar="N",
            type=numbers.positive,
            default=7.0,
            help="days to simulate (default 7)",
        )
        parser.add_argument(
            "--warm-up",
            metavar="N",
            type=numbers.amount,
            default=0.0,
            help="days before them, without rebalancing and not counted (default 0)",
        )
        parser.add_argument(
            "--seed",
            metavar="N",
            type=numbers.whole(0, numbers.MOST_SEED),
            default=0,
            help="start of chance (default 0)",
        )
        parser.add_argument(
            "--load",
            metavar="SHARE",
            type=numbers.positive,
            help="cores that would be in use on average if no boot were refused, as a share of "
            "the cores of usable hosts (default 0.9)",
        )
        parser.add_argument(
            "--lifetime",
            metavar="DAYS",
            type=numbers.positive,
            default=5.0,
            help="mean lifetime of instances (default 5)",
        )
        parser.add_argument(
            "--lifetimes",
            choices=("heavy", "exponential"),
            default="heavy",
            help="how lifetimes vary: most short and some very long, or exponentially "
            "(default heavy)",
        )
        parser.add_argument(
            "--arrivals",
            metavar="FILE",
            help="boots from this CSV file with the columns at_s, cores, memory_mib, lifetime_s, "
            "instead of made-up ones like those that are there",
        )
        parser.add_argument(
            "--scheduler",
            choices=("spread", "pack"),
            default="spread",
            help="where boots go: to the host with most free, as Nova does by default, or with "
            "least (default spread)",
        )
        parser.add_argument(
            "--fragment-cores",
            metavar="X",
            type=numbers.sizes,
            help="cores of the instance whose fragment rate is shown, and that policies make room "
            "for where they do not say it; several sizes as 32,16,8,4 (default 16)",
        )
        parser.add_argument("--output", metavar="FILE", help="write the document of -f json here")
        parser.add_argument(
            "--plot", metavar="FILE", help="draw the series here, an .svg or .png file"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Simulate; a row for each policy."""
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.cmd import simulating
        from nova_rebalancer.collect import files
        from nova_rebalancer.model.objectives import fragmentation
        from nova_rebalancer.sim import arrivals
        from nova_rebalancer.sim import days
        from nova_rebalancer.sim import policy
        from nova_rebalancer.sim import results

        conf = settings.load(self.app_args.config_file)
        cores = settings.fragment_cores(parsed_args, conf)
        rules = _rules(conf)
        policies = [
            policy.parse(text, rules, cores) for text in parsed_args.policy or DEFAULT_POLICIES
        ]
        if parsed_args.plot:
            results.check_picture(parsed_args.plot)
        snapshot, sha256 = _snapshot(parsed_args)
        cloud, story = _story(parsed_args, snapshot, conf.constraints.numa_packing)
        begun_s = parsed_args.warm_up * arrivals.DAY_S
        until_s = begun_s + parsed_args.days * arrivals.DAY_S
        if not story.boots or story.boots[-1].at_s < until_s - arrivals.DAY_S:
            LOG.warning("the arrivals end before the last day")
        goal = fragmentation.Fragmentation(*cores)
        runs = []
        with simulating.Progress(self.app.stderr) as watch:
            begun = days.Days(cloud, story, parsed_args.scheduler)
            begun.advance(begun_s)
            for one in policies:
                watch.begin(one.name, begun_s, parsed_args.days)
                own = policy.goal(one)
                run = days.run(begun, one, until_s, goal, watch, own)
                if run.samples:
                    runs.append(run)
                watch.end(_line(run, begun_s))
                if watch.stopped():
                    break
        if watch.interrupted and not runs:
            LOG.error("interrupted before there was a result")
            self.exit_code = 130
            return results.COLUMNS, []
        head = {
            "cloud": snapshot.cloud,
            "region": snapshot.region,
            "snapshot_sha256": sha256,
            "tool": _tool(),
            "options": {
                "demo": {"seed": parsed_args.demo_seed, "hosts": parsed_args.demo_hosts}
                if parsed_args.demo
                else None,
                "fragment_cores": cores,
                **{
                    name: getattr(parsed_args, name)
                    for name in (
                        "arrivals", "days", "lifetime", "lifetimes", "load", "scheduler", "seed",
                        "warm_up",
                    )
                },
            },
        }  # fmt: skip
        written = results.document(head, runs, begun_s, not watch.interrupted)
        self._document = results.dumps(written)
        if parsed_args.output:
            files.write_bytes(parsed_args.output, self._document)
        if parsed_args.plot:
            results.draw(written, parsed_args.plot)
        return results.columns(written), results.rows(written)

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[Sequence[Any]],
    ) -> int:
        """Print the table; for -f json the document as it is."""
        if self.exit_code == 130 or parsed_args.output == "-":
            return 0
        if parsed_args.formatter == "json":
            self.app.stdout.write(self._document.decode())
            return 0
        result: int = super().produce_output(parsed_args, column_names, data)
        return result


def _snapshot(given: argparse.Namespace) -> tuple[Any, str]:
    from nova_rebalancer.collect import document
    from nova_rebalancer.sim import demo

    if given.demo:
        return document.loads(demo.document(given.demo_seed, given.demo_hosts), "the demo cloud")
    snapshot, sha256 = document.load(given.snapshot)
    for lack in snapshot.missing:
        if lack.hosts is None:
            raise exceptions.InputError(
                f"{given.snapshot}: the snapshot is not whole: {lack.what} is missing "
                f"({lack.reason}); take a new one when that is mended"
            )
    return snapshot, sha256


def _story(given: argparse.Namespace, snapshot: Any, numa_packing: bool) -> tuple[Any, Any]:
    """Return the kinds of instances there are, and what happens to them."""
    from nova_rebalancer.collect import files
    from nova_rebalancer.sim import arrivals
    from nova_rebalancer.sim import kinds
    from nova_rebalancer.sim import trace

    lifetimes = arrivals.Lifetimes(given.lifetime * arrivals.DAY_S, given.lifetimes == "heavy")
    if given.arrivals:
        if given.load is not None:
            raise exceptions.UsageError("--load is for made-up arrivals, not with --arrivals")
        rows = trace.read(files.read_bytes(given.arrivals), given.arrivals)
        cloud = kinds.build(snapshot, (row.size for row in rows), numa_packing)
        return cloud, trace.story(rows, cloud, lifetimes, given.seed)
    load = given.load = 0.9 if given.load is None else given.load
    cloud = kinds.build(snapshot, (), numa_packing)
    count = given.warm_up + given.days
    return cloud, arrivals.generate(cloud, count, load, lifetimes, given.seed)


def _rules(conf: Any) -> dict[str, Any]:
    """Return what the configuration says of rules, for the controller."""
    return {
        "migration_rate_mibps": conf.path.migration_rate_mibps,
        "host_outgoing": conf.path.host_outgoing,
        "host_incoming": conf.path.host_incoming,
        "ignored_rules": tuple(sorted(conf.constraints.ignored_rules)),
        "opt_in": conf.constraints.opt_in,
        "banned_hosts": tuple(sorted(conf.constraints.banned_hosts)),
        "checks": tuple(dict.fromkeys(conf.constraints.checks)),
        "numa_packing": conf.constraints.numa_packing,
        "soft_group_cost": conf.constraints.soft_group_cost,
        "cost_per_gib": conf.worth.cost_per_gib,
        "min_gain": conf.worth.min_gain,
        "cooldown_h": conf.worth.cooldown_h,
        "project_migrations": conf.worth.project_migrations,
        "project_gib": conf.worth.project_gib,
    }


def _tool() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("nova-rebalancer", "ortools")}


def _line(run: Any, begun_s: float) -> str:
    """Say in a line what came out under a policy."""
    counts = run.counts
    text = f"{run.policy.name}: {(run.until_s - begun_s) / 86400:.1f} days, {counts.boots} boots, "
    text += f"{counts.refused} refused ({counts.refused_cores} cores)"
    if run.policy.options is not None:
        text += f", {counts.migrations} migrations of {counts.moved_mib / 1024:.0f} GiB"
        if run.half_life_s is not None:
            text += f", half of a plan's gain is gone after {run.half_life_s / 3600:.1f} h"
    return text

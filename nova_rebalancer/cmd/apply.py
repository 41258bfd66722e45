# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance apply``: carry a plan out."""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import logging
import signal
import typing
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import cloud
from nova_rebalancer.cmd import outcome

if typing.TYPE_CHECKING:
    from nova_rebalancer.cmd import stage
    from nova_rebalancer.cmd import watching
    from nova_rebalancer.execute import executor
    from nova_rebalancer.model.objectives import base as objectives
    from nova_rebalancer.store import records

LOG = logging.getLogger(__name__)

PARTLY_DONE = 4
DECLINED = 1

REPLAY_S = 15.0
"""How long all migrations of the demo cloud take on a terminal, without --speed."""

REPLAN_S = 30.0
"""Most seconds for planning again."""


class Apply(outcome.Command):
    """Carry out a plan, migration by migration.

    Each migration starts once all it depends on are confirmed, a last look at the cloud allows
    it, and the limits in [execute] have room. Everything is written into a journal before the
    cloud is asked: an interrupted plan is resumed by the same command. Ctrl-C starts no more
    migrations and waits for those that run; a second one gives these up, too.

    Exits with 0 when all migrations are confirmed, 4 when only some are.
    """

    _epilog = (
        "Examples: nova-rebalance apply plan.json --os-cloud mycloud; nova-rebalance plan --demo "
        "--output plan.json && nova-rebalance apply plan.json --demo"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "plan", metavar="PLAN", help="plan document, gzipped or not; - is standard input"
        )
        parser.add_argument(
            "--demo", action="store_true", help="carry it out on the demo cloud it was made for"
        )
        cloud.add_options(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask before the start")
        parser.add_argument(
            "--stop",
            action="store_true",
            help="end an interrupted run of this plan: wait for what it has under way, start "
            "nothing more",
        )
        parser.add_argument(
            "--no-replan",
            action="store_true",
            help="leave out what no longer fits instead of planning the rest again",
        )
        parser.add_argument(
            "--speed",
            metavar="X",
            type=_positive,
            help="with --demo: show X seconds of simulated time in one second (default: as many "
            f"as make the whole plan last about {REPLAY_S:g} s); only a terminal is waited for",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Carry the plan out; return the exit code."""
        # Here, because `--help` must not wait for what only a run needs.
        from nova_rebalancer import controller
        from nova_rebalancer.cmd import settings
        from nova_rebalancer.cmd import stage
        from nova_rebalancer.cmd import watching
        from nova_rebalancer.model import narrowed
        from nova_rebalancer.store import owner

        name = parsed_args.plan
        plan = stage.read_plan(name)
        made = stage.goal(plan, name)
        rules = stage.settings(plan, name)
        expired = _expired(plan["expires_at"], name)
        if parsed_args.demo:
            if expired:
                raise exceptions.InputError(f"{name}: {expired}")
            place = stage.demo(plan, name, self._speed(plan, parsed_args.speed))
        else:
            conf = settings.load(self.app_args.config_file)
            place = stage.live(plan, name, parsed_args, conf, self.app.stderr)
            place.book.expire(place.cloud.now() - conf.store.keep_days * 86400.0)
        # A check that cannot be judged stops this here, before anything is asked.
        narrowed.bound(place.facts, rules)
        if not plan["migrations"]:
            print("nothing to do: the plan has no migrations", file=self.app.stdout)
            return 0
        me = owner.me()
        run = self._resumed(place, plan, me, parsed_args.stop)
        if run is None:
            if expired:
                raise exceptions.InputError(f"{name}: {expired}")
            if parsed_args.stop:
                raise exceptions.UsageError(f"{name}: no run of this plan is open: nothing to end")
            _refuse_drifted(plan, place, name)
            count = len(plan["migrations"])
            if not parsed_args.yes and not self._agreed(count, place.facts.cloud):
                print("nothing was carried out", file=self.app.stderr)
                return DECLINED
            run = place.book.begin(
                plan,
                cloud=place.facts.cloud,
                region=place.facts.region,
                owner=me,
                now=place.cloud.now(),
                entries=stage.entries(plan["migrations"], place.facts),
            )
        start, goal = made(place.facts)
        view = self._view(place, watching.Rate(start, goal, stage.cells(plan["migrations"])), run)
        replan = None
        if not parsed_args.no_replan and not place.simulated:
            replan = _replanner(place, plan)
        from nova_rebalancer.execute import executor

        work = executor.Executor(
            place.cloud,
            place.book,
            run,
            me,
            place.facts,
            rules,
            place.options,
            view,
            replan,
            end_only="ended by --stop" if parsed_args.stop else expired,
        )
        if expired and not parsed_args.stop:
            view.say(f"nothing more is started: {expired}")
        with contextlib.closing(view), _interruptible(work, view, place.wake):
            end = work.carry_out()

        def again() -> float:
            fresh, now = made(place.fresh()[0])
            return controller.value_again(goal, now, fresh)

        return self._conclude(place, run, me, end, (goal, again), work.stopped)

    def _speed(self, plan: dict[str, Any], given: float | None) -> float | None:
        """How fast the demo cloud's time passes; None where nobody watches."""
        if not self.app.stderr.isatty():
            return None
        whole_s = max((one["end_s"] for one in plan["migrations"]), default=0.0)
        return given if given is not None else max(1.0, whole_s / REPLAY_S)

    def _resumed(
        self, place: "stage.Stage", plan: dict[str, Any], me: str, stop: bool
    ) -> "records.Run | None":
        """Take over the open run of this plan, None if there is none."""
        from nova_rebalancer.execute import states

        run = place.book.interrupted(place.facts.cloud, place.facts.region)
        if run is None or run.plan != plan["id"]:
            # Another plan's run is refused by the journal, with what to do.
            return None
        if run.document["migrations"] != plan["migrations"]:
            raise exceptions.InputError(
                f"run {run.id} of plan {plan['id']} is open, and this plan has the same id but "
                "other migrations: go on with the plan as it was, or end the run with it and --stop"
            )
        there = {one.id for one in place.facts.instances}
        if there.isdisjoint(one["instance"] for one in plan["migrations"]) and not stop:
            raise exceptions.InputError(
                f"run {run.id}: none of its instances is on cloud {place.facts.cloud} now; is it "
                "the same cloud? (--stop ends the run all the same)"
            )
        run = place.book.take(run.id, me, place.cloud.now())
        counts = place.book.counts(run.id)
        flying = sum(counts.get(state, 0) for state in states.IN_FLIGHT)
        done, left = counts.get(states.CONFIRMED, 0), counts.get(states.PLANNED, 0)
        print(
            f"resuming run {run.id}: {done} confirmed, {flying} in flight, {left} to go",
            file=self.app.stderr,
        )
        return run

    def _view(
        self, place: "stage.Stage", rate: "watching.Rate", run: "records.Run"
    ) -> "watching.Lines":
        from nova_rebalancer.cmd import watching

        self._before = rate.value
        kind = watching.Live if self.app.stderr.isatty() else watching.Lines
        return kind(self.app.stderr, place.facts, place.book.entries(run.id), rate)

    def _agreed(self, count: int, name: str) -> bool:
        """Ask the person at the terminal."""
        if not self.app.stdin.isatty():
            raise exceptions.UsageError(
                "there is no terminal to ask on; add --yes to carry the plan out without asking"
            )
        question = f"Carry out {_migrations(count)} on cloud {name}? [y/N] "
        print(question, end="", file=self.app.stderr, flush=True)
        return self.app.stdin.readline().strip().lower() in ("y", "yes")

    def _conclude(
        self,
        place: "stage.Stage",
        run: "records.Run",
        me: str,
        end: str,
        goal: "tuple[objectives.Goal, Callable[[], float]]",
        cause: str | None,
    ) -> int:
        """Look whether it was worth it, close the run, and say what became of it.

        ``goal`` is the plan's, with what tells its value in the cloud as it is now.
        """
        from nova_rebalancer.cmd import watching
        from nova_rebalancer.execute import states

        counts = place.book.counts(run.id)
        total = sum(counts.values())
        done = f"{counts.get(states.CONFIRMED, 0)} of {_migrations(total)} confirmed"
        after = None
        if end != states.OPEN:
            try:
                after = goal[1]()
            except (exceptions.RebalancerError, KeyboardInterrupt) as error:
                LOG.warning("what was gained cannot be told: %s", error or "interrupted")
            if end == states.PARTLY:
                cause = done
            place.book.end(run.id, me, place.cloud.now(), end, cause, after)
        parts = [done]
        left = counts.get(states.SKIPPED, 0) + counts.get(states.PLANNED, 0)
        words = {states.FAILED: "failed", states.ABORTED: "aborted", states.UNKNOWN: "unknown"}
        parts += [f"{counts[one]} {word}" for one, word in words.items() if counts.get(one)]
        parts += [f"{left} not started"] if left else []
        if after is not None:
            parts.append(f"{watching.rate_name(goal[0])} {self._before:.4f} -> {after:.4f}")
        if not place.simulated:
            parts.append(f"run {run.id}")
        else:
            parts.append(f"{place.cloud.now() - run.began_at:.0f} s of simulated time")
        if cause is not None and end != states.PARTLY:
            print(f"stopped: {cause}", file=self.app.stderr)
        if end == states.OPEN and not place.simulated:
            print(
                "the run is open: apply the same plan again to go on, with --stop to end it",
                file=self.app.stderr,
            )
        print(f"{place.facts.cloud}: {', '.join(parts)}", file=self.app.stdout)
        return 0 if counts.get(states.CONFIRMED, 0) == total else PARTLY_DONE


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _migrations(count: int) -> str:
    return f"{count} migration{'' if count == 1 else 's'}"


def _expired(text: str, name: str) -> str | None:
    """Say that a plan is too old; None while it is not."""
    try:
        expires_at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise exceptions.InputError(f'{name}: expires_at: "{text}" is not a time') from error
    if expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    if expires_at > now:
        return None
    return f"the plan expired at {text}, now it is {now:%Y-%m-%dT%H:%M:%SZ}; make a new plan"


def _refuse_drifted(plan: dict[str, Any], place: "stage.Stage", name: str) -> None:
    """Refuse a plan most of whose instances are somewhere else by now."""
    at = {one.id: one.host for one in place.facts.instances}
    hosts = {host.id: host.service_host for host in place.facts.hosts}
    first: dict[str, str] = {}
    for one in plan["migrations"]:
        first.setdefault(one["instance"], one["source"])
    lost = [one for one, source in first.items() if hosts.get(at.get(one, "")) != source]
    if lost and len(lost) > place.options.drift_share * len(first):
        raise exceptions.InputError(
            f"{name}: {len(lost)} of {len(first)} instances are not where the plan found them "
            f"(the first: {lost[0]}); make a new plan"
        )


def _replanner(
    place: "stage.Stage", plan: dict[str, Any]
) -> "Callable[[executor.Again], executor.Replanned | None]":
    """Return how what is left is planned again, with the plan's own options."""
    from nova_rebalancer import controller
    from nova_rebalancer.cmd import stage
    from nova_rebalancer.execute import executor
    from nova_rebalancer.model import plan_document
    from nova_rebalancer.plan import base as plan_base

    known = {field.name for field in dataclasses.fields(controller.Options)}
    given = {
        key: value for key, value in controller.written(plan["options"]).items() if key in known
    }

    def again(asked: executor.Again) -> executor.Replanned | None:
        facts, sha256 = place.fresh()
        here = {host.service_host for host in facts.hosts}
        there = {one.id for one in facts.instances}
        bad = asked.bad_hosts & here
        stuck = dict(asked.stuck)
        service = {host.id: host.service_host for host in facts.hosts}
        for one in facts.instances:
            if service[one.host] in bad:
                stuck[one.id] = f"too many migrations from or to {service[one.host]} failed"
        bans = {key: tuple(value) for key, value in given.get("bans", {}).items()}
        for instance, hosts in asked.bans.items():
            kept = set(bans.get(instance, ())) | set(hosts)
            bans[instance] = tuple(sorted(kept & here))
        limit_s, most_gib = given.get("time_limit_s"), given.get("max_gib")
        options = controller.Options(
            **{
                **given,
                "max_migrations": asked.left,
                "max_gib": None
                if most_gib is None
                else max(0.0, most_gib - asked.copied_mib / 1024),
                "time_limit_s": REPLAN_S if limit_s is None else min(REPLAN_S, limit_s),
                "banned_hosts": tuple(sorted((set(given.get("banned_hosts", ())) & here) | bad)),
                "bans": {one: hosts for one, hosts in bans.items() if one in there and hosts},
                "pins": {
                    one: tuple(sorted(set(hosts) & here))
                    for one, hosts in given.get("pins", {}).items()
                    if one in there
                },
                "learnt": {one: text for one, text in stuck.items() if one in there},
            }
        )
        try:
            made = controller.run(facts, sha256, options, plan_base.Watch())
        except (TypeError, ValueError) as error:
            raise exceptions.InputError(f"the plan's options: {error}") from None
        now = datetime.datetime.now(datetime.UTC)
        written = plan_document.document(made, plan["id"], now, 0.0, {})
        found = stage.entries(written["migrations"], facts, asked.revision)
        return executor.Replanned(found, facts)

    return again


@contextlib.contextmanager
def _interruptible(
    work: "executor.Executor", view: "watching.Lines", wake: Callable[[], None]
) -> Iterator[None]:
    """Make the first Ctrl-C stop gently and the second abort; the third one ends the program."""
    before = signal.getsignal(signal.SIGINT)

    def stop(signum: int, frame: object) -> None:
        # Nothing is written here: this may be in the middle of writing.
        view.presses += 1
        work.stop("interrupted")
        wake()
        if view.presses > 1:
            work.abort()
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

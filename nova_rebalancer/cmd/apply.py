# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance apply``: carry a plan out.

This version knows one cloud to do it on, the demo cloud.
"""

import argparse
from collections.abc import Iterator
import contextlib
import datetime
import hashlib
import json
import signal
import time
import typing
from typing import Any
from typing import TextIO

from cliff import command

from nova_rebalancer import exceptions

if typing.TYPE_CHECKING:
    from nova_rebalancer.model import cloud
    from nova_rebalancer.model import state
    from nova_rebalancer.model.objectives import fragmentation
    from nova_rebalancer.sim import run

PARTLY_DONE = 4
DECLINED = 1

REPLAY_S = 15.0
"""How long all migrations take on a terminal, without --speed."""

REFRESH_S = 0.1
LINES = 8
"""Most running migrations that are shown."""


class Apply(command.Command):
    """Carry out a plan for the demo cloud, migration by migration.

    The demo cloud is made again from the plan's options and compared by its sha256. Each
    migration starts once all it depends on are confirmed, one at a time from and to each host.
    Time is simulated: a terminal shows the migrations running, speeded up; elsewhere they are
    done at once. Ctrl-C starts no new migrations and finishes those that run.

    Exits with 0 when all migrations are confirmed, 4 when only some are.
    """

    _epilog = (
        "Example: nova-rebalance plan --demo --output plan.json && "
        "nova-rebalance apply plan.json --demo"
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
        parser.add_argument("--yes", action="store_true", help="do not ask before the start")
        parser.add_argument(
            "--speed",
            metavar="X",
            type=_positive,
            help="show X seconds of simulated time in one second (default: as many as make the "
            f"whole plan last about {REPLAY_S:g} s); only a terminal is waited for",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Carry the plan out; return the exit code."""
        if not parsed_args.demo:
            raise exceptions.UsageError(
                "this version carries plans out on the demo cloud only: add --demo; applying to "
                "a real cloud comes with a later release"
            )
        # Here, because `--help` must not wait for what only a run needs.
        from nova_rebalancer.model import state

        name = parsed_args.plan
        plan = _read(name)
        snapshot = _demo_cloud(plan, name)
        orders = _orders(plan, snapshot)
        goal = _goal(plan, name)
        carry_out = _new_run(plan, snapshot, orders, name)
        if not orders:
            print("nothing to do: the plan has no migrations", file=self.app.stdout)
            return 0
        if not parsed_args.yes and not self._agreed(len(orders), snapshot.cloud):
            print("nothing was carried out", file=self.app.stderr)
            return DECLINED
        speed = parsed_args.speed
        if speed is None:
            speed = _new_run(plan, snapshot, orders, name).to_end() / REPLAY_S
        rate = _Rate(state.build(snapshot), goal)
        before = rate.value
        view = (_Live if self.app.stderr.isatty() else _Lines)(
            self.app.stderr, snapshot, rate, len(orders), speed
        )
        with contextlib.closing(view), _interruptible(carry_out, view):
            _carry_out(carry_out, rate, view)
        after = goal.evaluate(state.build(carry_out.sim.snapshot())).value
        self._conclude(carry_out, snapshot, before, after)
        return PARTLY_DONE if len(carry_out.confirmed) < len(orders) else 0

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
        self, carry_out: "run.Run", snapshot: "cloud.Snapshot", before: float, after: float
    ) -> None:
        """Say what became of the migrations."""
        left = carry_out.not_started()
        if left:
            ids = ", ".join(order.id for order in left[:10]) + (", ..." if len(left) > 10 else "")
            print(f"not started: {_migrations(len(left))} ({ids})", file=self.app.stderr)
        parts = [
            f"{len(carry_out.confirmed)} of {_migrations(len(carry_out.orders))} confirmed",
            *([f"{len(carry_out.refused)} refused"] if carry_out.refused else []),
            *([f"{len(left)} not started"] if left else []),
            f"fragment rate {before:.4f} -> {after:.4f}",
            f"{carry_out.sim.now_s:.0f} s of simulated time",
        ]
        print(f"{snapshot.cloud}: {', '.join(parts)}", file=self.app.stdout)


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


def _read(name: str) -> dict[str, Any]:
    """Read the plan document and check its form."""
    from nova_rebalancer.collect import files
    from nova_rebalancer.model import schema

    plan = files.parse_json(files.read_bytes(name), name)
    problems = schema.problems(schema.PLAN, plan, 1)
    if problems:
        raise exceptions.InputError(f"{name}: {problems[0]}")
    for i, migration in enumerate(plan["migrations"]):
        if migration["method"] != "live":
            raise exceptions.InputError(
                f"{name}: migrations[{i}].method: this version carries out live migrations only, "
                f"not {migration['method']}"
            )
    return typing.cast(dict[str, Any], plan)


def _demo_cloud(plan: dict[str, Any], name: str) -> "cloud.Snapshot":
    """Make the plan's demo cloud again; refuse a plan that is not for it, or not any more."""
    from nova_rebalancer import checker
    from nova_rebalancer.collect import document
    from nova_rebalancer.sim import demo

    wanted = plan["options"].get("demo")
    if wanted is None:
        raise exceptions.UsageError(
            f"{name}: this plan was made from a snapshot file; only plans of the demo cloud "
            "(nova-rebalance plan --demo) can be applied by this version"
        )
    if plan["cloud"] != demo.CLOUD:
        raise exceptions.InputError(
            f'{name}: the plan is for cloud "{plan["cloud"]}", this is cloud "{demo.CLOUD}"'
        )
    _refuse_expired(plan["expires_at"], name)
    if not isinstance(wanted, dict) or {type(wanted.get(k)) for k in ("seed", "hosts")} != {int}:
        raise exceptions.InputError(f'{name}: options.demo: not {{"seed": int, "hosts": int}}')
    try:
        data = demo.document(wanted["seed"], wanted["hosts"])
    except exceptions.UsageError as error:
        raise exceptions.InputError(f"{name}: options.demo: {error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != plan["snapshot_sha256"]:
        raise exceptions.InputError(
            f"{name}: the plan was made for another snapshot: its snapshot_sha256 is "
            f"{plan['snapshot_sha256']}, the demo cloud's is {sha256}"
        )
    verdict = checker.check(data, json.dumps(plan).encode())
    if not verdict.ok:
        where = f"migration {verdict.migration}: " if verdict.migration is not None else ""
        raise exceptions.InputError(
            f"{name}: the plan does not pass the check: {where}{verdict.kind}: {verdict.detail}"
        )
    return document.loads(data, "the demo cloud")[0]


def _refuse_expired(text: str, name: str) -> None:
    try:
        expires_at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise exceptions.InputError(f'{name}: expires_at: "{text}" is not a time') from error
    if expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    if expires_at <= now:
        raise exceptions.InputError(
            f"{name}: the plan expired at {text}, now it is {now:%Y-%m-%dT%H:%M:%SZ}; make a "
            "new plan"
        )


def _orders(plan: dict[str, Any], snapshot: "cloud.Snapshot") -> list["run.Order"]:
    """Say the plan's migrations in the words of the cloud: host ids for service hosts."""
    from nova_rebalancer.sim import run

    ids = {host.service_host: host.id for host in snapshot.hosts}
    return [
        run.Order(
            id=migration["id"],
            instance=migration["instance"],
            # The cloud refuses a host it does not know, with the name as the plan has it.
            source=ids.get(migration["source"], migration["source"]),
            dest=ids.get(migration["dest"], migration["dest"]),
            cells=_cells(migration["dest_numa"]),
            depends_on=tuple(migration["depends_on"]),
        )
        for migration in plan["migrations"]
    ]


def _cells(numa: list[int | None] | None) -> tuple[int, ...] | None:
    """Host cells as the plan has them; None, which leaves them to the cloud, if one is open."""
    cells = tuple(cell for cell in numa or () if cell is not None)
    return cells if numa is not None and len(cells) == len(numa) else None


def _goal(plan: dict[str, Any], name: str) -> "fragmentation.Fragmentation":
    from nova_rebalancer.model.objectives import fragmentation

    if plan["goal"] != fragmentation.Fragmentation.name:
        raise exceptions.InputError(f'{name}: goal: "{plan["goal"]}" is not known')
    return fragmentation.Fragmentation(plan["options"]["fragment_cores"])


def _new_run(
    plan: dict[str, Any], snapshot: "cloud.Snapshot", orders: list["run.Order"], name: str
) -> "run.Run":
    """Put the orders before a fresh demo cloud, with the limits the plan reckoned with."""
    from nova_rebalancer.model.constraints import base
    from nova_rebalancer.sim import cloud
    from nova_rebalancer.sim import run

    options = plan["options"]
    limits = []
    for key in ("host_outgoing", "host_incoming"):
        limits.append(options.get(key, 1))
        if type(limits[-1]) is not int or limits[-1] < 1:
            raise exceptions.InputError(f"{name}: options.{key}: not a whole number of at least 1")
    rate_mibps = options.get("migration_rate_mibps", 1000.0)
    if type(rate_mibps) not in (int, float) or not rate_mibps > 0:
        raise exceptions.InputError(f"{name}: options.migration_rate_mibps: not a number above 0")
    try:
        rules = base.settings(options)
        return run.Run(cloud.SimCloud(snapshot, float(rate_mibps), rules), orders, *limits)
    except ValueError as error:
        raise exceptions.InputError(f"{name}: migrations: {error}") from error


def _carry_out(carry_out: "run.Run", rate: "_Rate", view: "_Lines") -> None:
    """Start what may start, wait for the next confirmation, and so on until all is still."""
    while True:
        for event in carry_out.start():
            view.started(event)
        if not carry_out.flying:
            return
        view.wait(carry_out)
        for order, flight in carry_out.finish():
            rate.confirmed(flight.instance, flight.dest, flight.cells)
            view.confirmed(order)


@contextlib.contextmanager
def _interruptible(carry_out: "run.Run", view: "_Lines") -> Iterator[None]:
    """Make the first Ctrl-C stop the run gently; the second one ends the program as usual."""

    def stop(signum: int, frame: object) -> None:
        carry_out.stop()
        signal.signal(signal.SIGINT, before)
        view.stopping = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Rate:
    """The fragment rate as migrations are confirmed; those in flight count at their source."""

    def __init__(self, start: "state.PlacementState", goal: "fragmentation.Fragmentation") -> None:
        self._placement = start
        self._goal = goal
        self._v = {instance: v for v, instance in enumerate(start.instances)}
        self._h = {host: h for h, host in enumerate(start.hosts)}
        self.value = goal.evaluate(start).value

    def confirmed(self, instance: str, dest: str, cells: tuple[int, ...] | None) -> None:
        """Take a confirmed migration into account."""
        h = self._h[dest]
        places = [self._placement.cell_ids[h].index(cell) for cell in cells or ()]
        self._placement = self._placement.moved(self._v[instance], h, places)
        self.value = self._goal.evaluate(self._placement).value


class _Lines:
    """A line for each confirmed migration; waits for nothing."""

    def __init__(
        self,
        stream: TextIO,
        snapshot: "cloud.Snapshot",
        rate: _Rate,
        total: int,
        speed: float,
    ) -> None:
        self.stopping = False
        self._stream = stream
        self._rate = rate
        self._total = total
        self._speed = speed
        self._done = 0
        self._hosts = {host.id: host.service_host for host in snapshot.hosts}
        self._names = {instance.id: instance.name or instance.id for instance in snapshot.instances}
        self._told = False

    def started(self, event: "run.Order | run.Refusal") -> None:
        """Say what was refused."""
        why = getattr(event, "why", None)
        if why is not None:
            order = typing.cast("run.Refusal", event).order
            self.say(f"refused   {order.id} {self.label(order)}: {why}")

    def confirmed(self, order: "run.Order") -> None:
        """Say what was confirmed, and the rate since then."""
        self._done += 1
        width = len(str(self._total))
        self.say(
            f"confirmed {self._done:{width}}/{self._total} {self.label(order)}, "
            f"fragment rate {self._rate.value:.4f}"
        )

    def wait(self, carry_out: "run.Run") -> None:
        """Pass the time up to the next confirmation."""
        self.tell_stopping(carry_out)

    def tell_stopping(self, carry_out: "run.Run") -> None:
        """Answer Ctrl-C, once."""
        if self.stopping and not self._told:
            self._told = True
            count = _migrations(len(carry_out.flying))
            self.say(f"interrupted: finishing {count} under way, starting no more")

    def say(self, text: str) -> None:
        """Write one line."""
        print(text, file=self._stream, flush=True)

    def label(self, order: "run.Order") -> str:
        """Write an order for people."""
        source, dest = (self._hosts.get(host, host) for host in (order.source, order.dest))
        return f"{self._names.get(order.instance, order.instance)}: {source} -> {dest}"

    def close(self) -> None:
        """Leave the stream as it was found."""


class _Live(_Lines):
    """The lines, and below them what runs now; simulated time passes ``speed`` times as fast."""

    def __init__(
        self,
        stream: TextIO,
        snapshot: "cloud.Snapshot",
        rate: _Rate,
        total: int,
        speed: float,
    ) -> None:
        super().__init__(stream, snapshot, rate, total, speed)
        import tqdm

        self._write = tqdm.tqdm.write
        self._running = [self._bar(i, bar_format="{desc}") for i in range(min(LINES, total))]
        self._all = self._bar(
            len(self._running),
            total=total,
            bar_format="{n_fmt}/{total_fmt} |{bar:30}| {desc}",
        )
        self._began = time.monotonic()
        self._show_rate()

    def _bar(self, position: int, **options: Any) -> Any:
        import tqdm

        return tqdm.tqdm(
            file=self._stream, position=position, leave=False, dynamic_ncols=True, **options
        )

    def confirmed(self, order: "run.Order") -> None:
        """Say what was confirmed, and the rate since then."""
        super().confirmed(order)
        self._all.n = self._done
        self._show_rate()

    def wait(self, carry_out: "run.Run") -> None:
        """Pass the time up to the next confirmation, showing what runs."""
        end_s = carry_out.sim.next_end_s or 0.0
        while True:
            self.tell_stopping(carry_out)
            now_s = min(end_s, (time.monotonic() - self._began) * self._speed)
            self._show(carry_out, now_s)
            if now_s >= end_s:
                return
            time.sleep(min(REFRESH_S, (end_s - now_s) / self._speed))

    def _show(self, carry_out: "run.Run", now_s: float) -> None:
        """Draw the running migrations, those that end first above."""
        flying = sorted(carry_out.flying.values(), key=lambda pair: pair[1].end_s)
        for i, line in enumerate(self._running):
            text = ""
            if i == len(self._running) - 1 and len(flying) > len(self._running):
                text = f"  and {len(flying) - i} more"
            elif i < len(flying):
                order, flight = flying[i]
                text = f"  {flight.progress(now_s):4.0%} {self.label(order)}"
            line.set_description_str(text)

    def _show_rate(self) -> None:
        self._all.set_description_str(f"confirmed, fragment rate {self._rate.value:.4f}")

    def say(self, text: str) -> None:
        """Write one line above what runs."""
        self._write(text, file=self._stream)

    def close(self) -> None:
        """Wipe what was drawn."""
        for bar in (self._all, *reversed(self._running)):
            bar.close()
        # The lowest line leaves the cursor at its end.
        self._stream.write("\r")

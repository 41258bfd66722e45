# SPDX-License-Identifier: Apache-2.0
"""What a plan is carried out on: a live cloud, or the demo cloud in memory."""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import threading
import time
import typing
from typing import Any
from typing import TextIO

from nova_rebalancer import exceptions

if typing.TYPE_CHECKING:
    from nova_rebalancer import controller
    from nova_rebalancer.execute import base
    from nova_rebalancer.execute import executor
    from nova_rebalancer.model import cloud
    from nova_rebalancer.model import state
    from nova_rebalancer.model.constraints import base as rules
    from nova_rebalancer.model.objectives import base as objectives
    from nova_rebalancer.store import journal
    from nova_rebalancer.store import records

DEMO_OVERHEAD_S = 1.0


@dataclasses.dataclass
class Stage:
    """One cloud, ready to be changed.

    Attributes
    ----------
    cloud
        What is asked.
    facts
        Everything that was read of it before anything was asked.
    book
        Where it is written down.
    fresh
        Reads everything again.
    options
        How carefully it is carried out.
    wake
        Ends the waiting for the next look; safe in a signal handler.
    simulated
        Whether time is.
    """

    cloud: "base.Cloud"
    facts: "cloud.Snapshot"
    book: "journal.Journal"
    fresh: "Callable[[], tuple[cloud.Snapshot, str]]"
    options: "executor.Options"
    wake: Callable[[], None]
    simulated: bool = False


def nothing() -> None:
    """Wake nobody."""


def read_plan(name: str) -> dict[str, Any]:
    """Read a plan document and check its form.

    Raises
    ------
    InputError
        If there is none, or none that this version understands.
    """
    from nova_rebalancer.collect import files
    from nova_rebalancer.model import schema

    plan = files.parse_json(files.read_bytes(name), name)
    problems = schema.problems(schema.PLAN, plan, 1)
    if problems:
        raise exceptions.InputError(f"{name}: {problems[0]}")
    return typing.cast(dict[str, Any], plan)


def options(plan: Mapping[str, Any], name: str) -> "controller.Options":
    """Return what the plan was made with.

    Raises
    ------
    InputError
        If its goal, or an option, is not known.
    """
    from nova_rebalancer import controller
    from nova_rebalancer.model.objectives import combined

    given = controller.written(plan["options"])
    try:
        for wish in combined.parse(plan["goal"]):
            for _, known in wish.parts:
                controller.plugin("nova_rebalancer.goals", known)
        return controller.Options(**{**given, "goal": plan["goal"]})
    except (TypeError, exceptions.UsageError) as error:
        raise exceptions.InputError(f"{name}: goal: {error}") from None


def goal(
    plan: Mapping[str, Any], name: str
) -> "Callable[[cloud.Snapshot], tuple[state.PlacementState, objectives.Goal]]":
    """Return what makes the plan's goal for a snapshot of its cloud, with the arrays of that.

    Raises
    ------
    InputError
        If the goal, or an option of the plan, is not known.
    """
    from nova_rebalancer import controller
    from nova_rebalancer.model import state

    chosen = options(plan, name)

    def made(facts: "cloud.Snapshot") -> "tuple[state.PlacementState, objectives.Goal]":
        start = state.build(facts)
        return start, controller.goal_of(facts, start, chosen)

    return made


def settings(plan: Mapping[str, Any], name: str) -> "rules.Settings":
    """Return how the plan kept the rules."""
    from nova_rebalancer import controller
    from nova_rebalancer.model.constraints import base

    said = plan["options"]
    try:
        return dataclasses.replace(base.settings(said), checks=controller.checks_of(said))
    except (TypeError, ValueError, exceptions.UsageError) as error:
        raise exceptions.InputError(f"{name}: options: {error}") from None


def entries(
    migrations: Sequence[Mapping[str, Any]],
    facts: "cloud.Snapshot",
    revision: int = 0,
) -> "list[records.New]":
    """Return a plan document's migrations as the journal keeps them, not yet written."""
    from nova_rebalancer.store import records

    projects = {one.id: one.project for one in facts.instances}
    prefix = f"r{revision}." if revision else ""
    return [
        records.New(
            key=prefix + one["id"],
            revision=revision,
            instance=one["instance"],
            source=one["source"],
            dest=one["dest"],
            method=one["method"],
            role=one["role"],
            memory_mib=one["memory_mib"],
            project=projects.get(one["instance"]),
            depends_on=tuple(prefix + key for key in one["depends_on"]),
        )
        for one in migrations
    ]


def cells(migrations: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Return the host cells that each migration is planned to come to, by its id."""
    return {
        one["id"]: tuple(cell for cell in one["dest_numa"] or () if cell is not None)
        for one in migrations
    }


def demo(plan: Mapping[str, Any], name: str, speed: float | None) -> Stage:
    """Make the plan's demo cloud again; refuse a plan that is not for it, or not any more.

    ``speed`` is how many seconds of its time pass in one of ours; None: it is not waited for.

    Raises
    ------
    UsageError, InputError
        If the plan was made for something else, or does not pass the check.
    """
    from nova_rebalancer import checker
    from nova_rebalancer.collect import document
    from nova_rebalancer.execute import executor
    from nova_rebalancer.execute import gate
    from nova_rebalancer.sim import cloud
    from nova_rebalancer.sim import demo as demo_cloud
    from nova_rebalancer.sim import mover
    from nova_rebalancer.store import journal

    wanted = plan["options"].get("demo")
    if wanted is None:
        raise exceptions.UsageError(
            f"{name}: this plan was made from a snapshot file or a live cloud; --demo is for "
            "plans of the demo cloud (nova-rebalance plan --demo)"
        )
    if plan["cloud"] != demo_cloud.CLOUD:
        raise exceptions.InputError(
            f'{name}: the plan is for cloud "{plan["cloud"]}", this is cloud "{demo_cloud.CLOUD}"'
        )
    if not isinstance(wanted, dict) or {type(wanted.get(k)) for k in ("seed", "hosts")} != {int}:
        raise exceptions.InputError(f'{name}: options.demo: not {{"seed": int, "hosts": int}}')
    for i, migration in enumerate(plan["migrations"]):
        if migration["method"] != "live":
            raise exceptions.InputError(
                f"{name}: migrations[{i}].method: the demo cloud knows live migrations only, "
                f"not {migration['method']}"
            )
    try:
        data = demo_cloud.document(wanted["seed"], wanted["hosts"])
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
    facts = document.loads(data, "the demo cloud")[0]
    options = plan["options"]
    limits = [_whole(options, key, name) for key in ("host_outgoing", "host_incoming")]
    rate_mibps = options.get("migration_rate_mibps", 1000.0)
    if type(rate_mibps) not in (int, float) or not rate_mibps > 0:
        raise exceptions.InputError(f"{name}: options.migration_rate_mibps: not a number above 0")
    sim = cloud.SimCloud(facts, float(rate_mibps), settings(plan, name))
    places = {
        (one["instance"], one["dest"]): tuple(one["dest_numa"])
        for one in plan["migrations"]
        if one["dest_numa"] is not None and None not in one["dest_numa"]
    }
    moves = mover.Mover(sim, places, _sleeper(speed))
    return Stage(
        moves,
        facts,
        journal.open("sqlite://"),
        lambda: (sim.snapshot(), sha256),
        executor.Options(
            gate.Limits(
                options.get("total") or max(8, len(facts.hosts)),
                *limits,
                links=(tuple(options.get("links", ())),),
                rate_mibps=float(rate_mibps),
            ),
            poll_s=1.0,
            rate_mibps=float(rate_mibps),
            overhead_s=DEMO_OVERHEAD_S,
            downtime_budget_s=1e9,
        ),
        nothing,
        simulated=True,
    )


def live(
    plan: Mapping[str, Any], name: str, given: argparse.Namespace, conf: Any, stderr: TextIO
) -> Stage:
    """Read the cloud that was ``given``; refuse a plan that is for another one.

    Raises
    ------
    RebalancerError
        If it cannot be read, or the plan is not for it.
    """
    from nova_rebalancer.cmd import cloud as cloud_commands
    from nova_rebalancer.collect import facts as facts_file
    from nova_rebalancer.collect import part
    from nova_rebalancer.execute import gate
    from nova_rebalancer.execute import nova
    from nova_rebalancer.rest import client
    from nova_rebalancer.rest import connection
    from nova_rebalancer.store import journal

    if plan["options"].get("demo") is not None:
        raise exceptions.UsageError(f"{name}: this plan is for the demo cloud: add --demo")
    _refuse_unsound(plan, name)
    # What is not there yet is made before anything is asked.
    book = journal.open(conf.store.connection)
    file = given.facts or conf.collect.facts_file
    told = facts_file.load(file) if file else None
    found = cloud_commands.read(conf, given, stderr)
    facts = found.snapshot
    for key, ours in (("cloud", facts.cloud), ("region", facts.region)):
        if plan[key] != ours:
            raise exceptions.InputError(
                f'{name}: the plan is for {key} "{plan[key]}", this is {key} "{ours}"'
            )
    source = connection.connect(given.os_cloud, conf.collect.request_timeout_s, conf)
    ask = client.Client(source, cloud_commands.limits(conf))
    parts = part.Parts(ask, found, told)

    def look(instance: str, hosts: "Sequence[str]") -> "cloud.Snapshot":
        return parts.look(instance, hosts)

    def fresh() -> "tuple[cloud.Snapshot, str]":
        nonlocal parts
        again = cloud_commands.read(conf, given, stderr)
        parts = part.Parts(ask, again, told)
        return again.snapshot, again.sha256

    options = careful(conf, plan["options"])
    # A link that this cloud does not have is said before anything is asked.
    gate.Gate(options.limits, facts)
    woken = threading.Event()
    return Stage(
        nova.NovaCloud(ask, look, conf.execute.request_timeout_s, woken),
        facts,
        book,
        fresh,
        options,
        woken.set,
    )


def _refuse_unsound(plan: Mapping[str, Any], name: str) -> None:
    """Refuse a plan whose migrations can never all be carried out, whatever the cloud is like."""
    before: dict[str, set[str]] = {}
    last: dict[str, str] = {}
    for i, one in enumerate(plan["migrations"]):
        where, key = f"{name}: migrations[{i}]", one["id"]
        if key in before:
            raise exceptions.InputError(f'{where}.id: two migrations have the id "{key}"')
        unknown = set(one["depends_on"]) - before.keys()
        if unknown:
            raise exceptions.InputError(
                f'{where}.depends_on: no migration before it has the id "{min(unknown)}"'
            )
        if one["source"] == one["dest"]:
            raise exceptions.InputError(f"{where}: source and dest are both {one['dest']}")
        waits_for = set(one["depends_on"]).union(*(before[other] for other in one["depends_on"]))
        earlier = last.get(one["instance"])
        if earlier is not None and earlier not in waits_for:
            raise exceptions.InputError(
                f"{where}.depends_on: {one['instance']} moves twice, so {key} has to wait for "
                f"{earlier}"
            )
        before[key], last[one["instance"]] = waits_for, key
    copied = sum(one.get("memory_mib") or 0 for one in plan["migrations"])
    most_gib = plan["options"].get("max_gib")
    if most_gib is not None and copied > 1024 * most_gib:
        raise exceptions.InputError(
            f"{name}: {copied} MiB are to be copied, and options.max_gib is {most_gib:g}"
        )
    if len(plan["migrations"]) > plan["max_migrations"]:
        raise exceptions.InputError(
            f"{name}: {len(plan['migrations'])} migrations, and max_migrations is "
            f"{plan['max_migrations']}"
        )


def careful(conf: Any, options: Mapping[str, Any]) -> "executor.Options":
    """Return how carefully: as configured now, and as the options of the plan say."""
    from nova_rebalancer.execute import executor
    from nova_rebalancer.execute import gate

    section = conf.execute
    named = {field.name for field in dataclasses.fields(gate.Limits)} & set(section)
    links = (tuple(conf.path.links), tuple(options.get("links", ())))
    limits = gate.Limits(
        **{name: section[name] for name in named},
        links=tuple(said for said in links if said),
        rate_mibps=conf.path.migration_rate_mibps,
    )
    total = min(limits.total, options.get("total") or limits.total)
    return executor.Options(
        limits=dataclasses.replace(limits, total=total),
        rate_mibps=conf.path.migration_rate_mibps,
        **{
            field.name: section[field.name]
            for field in dataclasses.fields(executor.Options)
            if field.name in section
        },
    )


def _whole(options: Mapping[str, Any], key: str, name: str) -> int:
    value = options.get(key, 1)
    if type(value) is not int or value < 1:
        raise exceptions.InputError(f"{name}: options.{key}: not a whole number of at least 1")
    return value


def _sleeper(speed: float | None) -> Callable[[float], None]:
    """Return how to wait for simulated seconds that pass ``speed`` times as fast."""
    from nova_rebalancer.sim import mover

    if speed is None:
        return mover.instantly
    return lambda seconds: time.sleep(seconds / speed)

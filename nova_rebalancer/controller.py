# SPDX-License-Identifier: Apache-2.0
"""One pass: from a snapshot to a plan.

Where should the instances be (the planner), and what is a safe order to get there (the
path-finder)?  Neither knows of the other; when no order leads to a target within the limit, or a
part of the way is not worth what it costs, the planner is asked again without that.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import importlib.metadata
import logging
import math
import time
from typing import Any

import stevedore

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import links
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import path
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import scope
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model import worth
from nova_rebalancer.model.checks import base as checks
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import soft_groups
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.model.objectives import drain
from nova_rebalancer.path import base as path_base
from nova_rebalancer.path import costs
from nova_rebalancer.path import finder
from nova_rebalancer.plan import base as plan_base

ASKS = 4
"""How often the planner is asked, at most."""

PATH_WORK = 5_000
"""Placements that may be looked at to prove the order of one target; half a second."""

PLAN_SHARE = 0.9
"""Share of the time limit that planning may use; the rest is the path-finder's."""

WARNINGS = 5
"""Migrations named at most that should not be expected to end well."""

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Options(objectives.Settings):
    """All that shapes a plan beside the snapshot; it is written into the plan document."""

    goal: str = "fragmentation"
    planner: str = "auto"
    max_migrations: int = 50
    max_gib: float | None = None
    time_limit_s: float | None = 30.0
    work_limit: int | None = None
    seed: int = 0
    cost: str = "memory"
    migration_rate_mibps: float = 1000.0
    dirty_rate_mibps: float = 2.5
    migration_downtime_s: float = 0.5
    migration_timeout_s: float = 800.0
    time_factors: dict[str, float] = dataclasses.field(default_factory=dict)
    host_outgoing: int = 1
    host_incoming: int = 1
    total: int | None = None
    links: tuple[str, ...] = ()
    prefer: str = path_base.COST
    demo: dict[str, int] | None = None
    scope: tuple[str, ...] = ()
    opt_in: bool = False
    banned_hosts: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    pins: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    bans: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    learnt: dict[str, str] = dataclasses.field(default_factory=dict)
    numa_packing: bool = False
    soft_group_cost: float = 0.001
    cost_per_gib: float = 0.0
    min_gain: float = 0.0
    project_migrations: int | None = None
    project_gib: float | None = None
    cooldown_h: float = 0.0
    last_moved: dict[str, str] = dataclasses.field(default_factory=dict)
    cold: bool = False

    def settings(self, snapshot: cloud.Snapshot) -> base.Settings:
        """Return what the rules are judged by.

        Raises
        ------
        UsageError
            If a rule, a host or an instance is named that is not there, or nothing is drained and
            ``cold`` is said.
        """
        said = dataclasses.asdict(self)
        settings = dataclasses.replace(base.settings(said), checks=checks_of(said))
        drained = frozenset(drain.hosts(snapshot, self.drain))
        if self.cold and not drained:
            raise exceptions.UsageError("--cold: only what --drain names is emptied so")
        settings = dataclasses.replace(
            settings,
            # Nothing is sent to a host that is being emptied.
            banned_hosts=settings.banned_hosts | drained,
            cold_from=drained if self.cold else frozenset(),
        )
        constraints.check(settings, snapshot)
        return settings

    def terms(self) -> worth.Terms:
        """Return what migrations cost."""
        return worth.Terms(
            self.cost_per_gib,
            self.min_gain,
            self.soft_group_cost,
            self.project_migrations,
            self.project_gib,
            self.max_gib,
        )


def written(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a plan document as they are given to ``Options``."""
    found = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    if "fragment_cores" in found:
        # Older plans have one size.
        cores = found["fragment_cores"]
        found["fragment_cores"] = tuple(map(int, cores if isinstance(cores, tuple) else (cores,)))
    return found


def run(
    snapshot: cloud.Snapshot, sha256: str, options: Options, watch: plan_base.Watch
) -> plan_document.Plan:
    """Make a plan for ``snapshot``.

    Raises
    ------
    UsageError
        If the goal, the planner or the cost does not load, or the scope or a rule's setting names
        what is not there.
    """
    planner = plugin("nova_rebalancer.planners", options.planner)
    settings = options.settings(snapshot)
    part = scope.parse(options.scope).narrow(snapshot)
    start = narrowed.build(part, settings)
    cost = cost_of(part, start, options)
    goal = goal_of(part, start, options)
    began = time.monotonic()
    time_s = float("inf") if options.time_limit_s is None else options.time_limit_s
    limits = path_base.Limits(
        options.max_migrations,
        options.host_outgoing,
        options.host_incoming,
        began + time_s,
        total=options.total,
        links=links.of(options.links, part, options.migration_rate_mibps),
        prefer=options.prefer,
        work=PATH_WORK,
    )
    budget = plan_base.Budget(
        options.max_migrations,
        began + PLAN_SHARE * time_s,
        options.work_limit,
        worth.mib(options.max_gib),
    )
    before = goal.evaluate(start)
    projects = [one.project for one in part.instances]
    account = worth.Account(start, goal, options.terms(), projects)

    def way(found: target.Target) -> _Way:
        whole = finder.find(start, found.host_of, found.cells_of, cost, limits)
        choice = worth.choose(account, goal, whole, limits.spent)
        kept = whole
        if len(choice.hops) < len(whole.migrations):
            kept = finder.from_hops(start, choice.hops, dict(whole.unreachable), cost, limits)
        return _Way(found, whole, choice, kept)

    def ways(planner: plan_base.Planner, budget: plan_base.Budget) -> Iterator[_Way]:
        asked = start
        for ask in range(ASKS):
            this = way(planner(asked, goal, budget, options.seed, watch))
            yield this
            again = _ask_again(asked, budget, this, account, ask)
            if again is None or watch.stopped() or budget.over():
                return
            asked, budget = again

    found: list[_Way] = []
    if account.budgeted():
        # A planner may spend all its time on what turns out to be beyond a budget.
        greedy = plugin("nova_rebalancer.planners", "greedy")
        for plain in dict.fromkeys((budget, _least(budget, account))):
            found += ways(greedy, plain)
    first, *more = ways(planner, budget)
    # What was planned for comes before what is as cheap.
    best = min([first, *more, *found], key=lambda way: way.choice.bill.total)
    after = goal.evaluate(best.kept.replay(start))
    _warn(start, best.kept, cost)
    return plan_document.Plan(
        snapshot,
        sha256,
        start,
        best.kept,
        best.choice.steps,
        before,
        after,
        first.target.bound,
        _status(first.target.status, after.value, first.target.bound, best.kept),
        goal.name,
        best.target.planner,
        dataclasses.asdict(options),
        time.monotonic() - began,
        _cut(first.choice.regardless, after.value),
    )


def goal_of(
    snapshot: cloud.Snapshot, start: state.PlacementState, options: Options
) -> objectives.Goal:
    """Return the goal of ``options`` for one cloud, whose arrays are ``start``.

    Raises
    ------
    UsageError
        If there is no such goal, or the options do not fit the cloud.
    """

    def of(name: str) -> objectives.Goal:
        made: objectives.Goal = plugin("nova_rebalancer.goals", name)(snapshot, start, options)
        return made

    return combined.make(options.goal, of, start)


def cost_of(
    snapshot: cloud.Snapshot, start: state.PlacementState, options: Options
) -> path_base.Cost:
    """Return the cost of ``options`` for one cloud, whose arrays are ``start``.

    Raises
    ------
    UsageError
        If there is no such cost, the options do not fit it, or what it says is no cost.
    """
    names = [field.name for field in dataclasses.fields(costs.Settings)]
    settings = costs.Settings(**{name: getattr(options, name) for name in names})
    make: costs.Make = plugin("nova_rebalancer.costs", options.cost)
    cost = make(snapshot, start, settings)
    for v, name in enumerate(start.instances):
        paid, took_s = cost.cost(start, v), cost.duration_s(start, v)
        if not (0 <= paid < math.inf and 0 < took_s < math.inf):
            raise exceptions.UsageError(
                f"--cost {options.cost}: it says that a migration of {name} costs {paid} and takes "
                f"{took_s} s; the cost must be a number of at least 0, the time more than 0"
            )
    return cost


def checks_of(options: Mapping[str, Any]) -> tuple[checks.Chosen, ...]:
    """Return the checks that ``options`` of a plan name, NAME or NAME=VALUE each.

    Raises
    ------
    UsageError
        If one does not load.
    """
    found = []
    for text in options.get("checks", ()):
        name, equals, value = text.partition("=")
        make = plugin("nova_rebalancer.checks", name)
        found.append(checks.Chosen(name, value if equals else None, make, options))
    return tuple(found)


def _warn(start: state.PlacementState, found: path.MigrationPath, cost: path_base.Cost) -> None:
    """Say which migrations should not be expected to end well."""
    if not isinstance(cost, costs.Doubtful):
        return
    doubts = {migration.hop.v: cost.doubt(start, migration.hop.v) for migration in found.migrations}
    texts = [text for text in doubts.values() if text is not None]
    for text in texts[:WARNINGS]:
        LOG.warning("%s", text)
    if len(texts) > WARNINGS:
        LOG.warning("and %d more like that", len(texts) - WARNINGS)


def value_again(
    before: objectives.Goal, now: objectives.Goal, start: state.PlacementState
) -> float:
    """Return the value of ``now``, made for another snapshot of the cloud, as ``before`` counts.

    Several goals together are counted relative to what each was before.
    """
    if isinstance(before, combined.Combined) and isinstance(now, combined.Combined):
        return before.combine({goal.name: goal.evaluate(start).value for goal in now.members()})
    return now.evaluate(start).value


def _parting(start: state.PlacementState, reached: path.MigrationPath) -> Iterator[tuple[int, int]]:
    """Yield the members of soft groups that a path makes worse off, with where it takes them."""
    ends = reached.ends(start)
    for group in start.soft:
        if soft_groups.cost((group,), ends) > soft_groups.cost((group,), start.host_of):
            for v in group.members:
                if ends[v] != start.host_of[v]:
                    yield v, int(ends[v])


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """A target, the path there, and what is kept of that because it is worth it."""

    target: target.Target
    whole: path.MigrationPath
    choice: worth.Choice
    kept: path.MigrationPath


def _least(budget: plan_base.Budget, account: worth.Account) -> plan_base.Budget:
    """Return a budget that is within that of each project, whoever's instances are moved."""
    return dataclasses.replace(
        budget,
        max_migrations=account.fewest(budget.max_migrations),
        max_mib=account.least_mib(),
    )


def _ask_again(
    asked: state.PlacementState,
    budget: plan_base.Budget,
    this: _Way,
    account: worth.Account,
    ask: int,
) -> tuple[state.PlacementState, plan_base.Budget] | None:
    """Take out of the question what could not be reached or is not worth it; None if all was."""
    found, whole, kept = this.target, this.whole, this.kept
    parting = list(_parting(account.start, whole)) if account.terms.per_pair else []
    dear = account.dear(whole, kept)
    if not (whole.unreachable or parting or dear):
        return None
    asked = asked.forbidding(parting)
    count = len(kept.migrations)
    hops = [migration.hop for migration in whole.migrations]
    beyond = account.beyond(hops)
    if beyond:
        # Stops on the way copy as well: leave them room.
        moved = found.host_of != account.start.host_of
        sent = int(plan_base.memories(account.start)[moved].sum())
        budget = dataclasses.replace(budget, max_mib=max(0, sent - beyond))
    elif account.over(hops) and not count:
        budget = _least(budget, account)
    elif ask == 0 and dear and count:
        # The best within so few is better than so few of the best within more.
        budget = dataclasses.replace(budget, max_migrations=count)
    else:
        asked = asked.keeping(dear)
    bypasses = sum(migration.hop.role == path.BYPASS for migration in kept.migrations)
    spent = any(why.code == "max_migrations" for why in whole.unreachable.values())
    if spent and bypasses:
        fewer = max(1, budget.max_migrations - bypasses)
        return asked, dataclasses.replace(budget, max_migrations=fewer)
    return asked.forbidding((v, int(found.host_of[v])) for v in whole.unreachable), budget


def _cut(regardless: worth.Bill | None, after: float) -> worth.Bill | None:
    """Return what would be done if it cost nothing, None if that is no more than the plan."""
    if regardless is None or regardless.value >= after - target.TOLERANCE:
        return None
    return regardless


def _status(status: str, after: float, bound: float | None, found: path.MigrationPath) -> str:
    if bound is not None and after - bound <= target.TOLERANCE:
        return target.OPTIMAL
    if status == target.OPTIMAL:
        status = target.FEASIBLE
    if status == target.FEASIBLE and not found.migrations:
        return target.NOTHING_TO_DO
    return status


def plugin(group: str, name: str) -> Any:
    """Load a plug-in; one that does not load is an error, never skipped."""

    def missing(_: Any) -> None:
        known = sorted(point.name for point in importlib.metadata.entry_points(group=group))
        raise exceptions.UsageError(
            f'{group.rpartition(".")[2]}: no "{name}"; there are: {", ".join(known)}'
        )

    def failed(_: Any, point: Any, error: BaseException) -> None:
        raise exceptions.UsageError(f"plug-in {point.name} ({point.value}) does not load: {error}")

    manager = stevedore.NamedExtensionManager(
        group,
        [name],
        on_missing_entrypoints_callback=missing,
        on_load_failure_callback=failed,
    )
    return manager[name].plugin

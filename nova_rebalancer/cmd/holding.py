# SPDX-License-Identifier: Apache-2.0
"""Why a plan does not reach its goal: who holds it, by which rules, and which of them to lift."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import typing
from typing import Any

from nova_rebalancer import exceptions

if typing.TYPE_CHECKING:
    from nova_rebalancer import controller
    from nova_rebalancer.model import cloud
    from nova_rebalancer.model import explanation
    from nova_rebalancer.model import state
    from nova_rebalancer.model.objectives import base

COLUMNS = ("instance", "host", "conflict", "lift", "hosts_then")

COUNTING = ("drain", "repair")
"""Goals that count single instances."""

LONGEST_S = 10.0
"""Seconds for each plan that is tried."""

COLD = "--cold"


def held(
    snapshot: "cloud.Snapshot", options: "controller.Options", plan: Mapping[str, Any], name: str
) -> "dict[str, list[explanation.Explanation]]":
    """Explain, by goal, each instance that counts in drain or repair where the plan leads.

    Of several goals these are those that count single instances.

    Raises
    ------
    UsageError
        If none of the goals does.
    """
    from nova_rebalancer import controller
    from nova_rebalancer.model import alternatives
    from nova_rebalancer.model import explanation
    from nova_rebalancer.model import narrowed
    from nova_rebalancer.model import scope
    from nova_rebalancer.model.objectives import combined
    from nova_rebalancer.model.objectives import separable

    part = scope.parse(options.scope).narrow(snapshot)
    settings = options.settings(snapshot)
    start = narrowed.build(part, settings)
    goal = controller.goal_of(part, start, options)
    after = alternatives.planned(start, plan["migrations"])
    counting = [
        one
        for one in (goal.members() if isinstance(goal, combined.Combined) else (goal,))
        if isinstance(one, separable.Separable) and one.name in COUNTING
    ]
    if not counting:
        raise exceptions.UsageError(
            f"{name}: its goal is {goal.name}; what holds a goal is told of drain and repair only, "
            "of others with --instance" + "".join(_missed(goal, after))
        )
    explainer = explanation.Explainer(part, settings, alternatives.moves(start, plan["migrations"]))
    return {
        one.name: [
            explainer.of(part.instances[v]) for v in one.counted(after).nonzero()[0].tolist()
        ]
        for one in counting
    }


def _missed(goal: "base.Goal", after: "state.PlacementState") -> Iterator[str]:
    """Say which thresholds are not reached, and what to ask of them."""
    from nova_rebalancer.model import target
    from nova_rebalancer.model.objectives import combined

    if not isinstance(goal, combined.Combined):
        return
    values = {one.name: one.evaluate(after).value for one in goal.members()}
    for level in goal.levels:
        above = level.value(values)
        if level.threshold is not None and above > target.TOLERANCE:
            names = "+".join(one.name for _, one in level.parts)
            yield (
                f"; {names} is {level.threshold + above:.6g} with the plan, not "
                f"{level.threshold:g} or less: the bound of a plan for it alone, without a "
                "threshold, says how low it can get"
            )


def row(found: "explanation.Explanation") -> tuple[str, ...]:
    """Return the columns for one instance."""
    lifted, hosts = found.least()
    columns = (found.instance.id, found.host.service_host)
    return *columns, ", ".join(found.conflict()), ", ".join(lifted), ", ".join(hosts)


def relief(
    snapshot: "cloud.Snapshot",
    options: "controller.Options",
    found: "Sequence[explanation.Explanation]",
) -> tuple[str, ...] | None:
    """Return options, each of them needed, with which the hosts of the goal drain are emptied.

    They ignore rules that may be ignored, or migrate cold what is shut off.  Whether the hosts are
    emptied is tried by making plans; None if they are not with all options that concern those
    who hold them.
    """
    from nova_rebalancer import controller
    from nova_rebalancer.model import conflict
    from nova_rebalancer.model import constraints
    from nova_rebalancer.plan import base as plan_base

    barring = frozenset[str]().union(*(by for one in found for by in one.barred().values()))
    rules = {
        f"--ignore-rule {rule}": rule
        for rule in sorted(barring.intersection(constraints.IGNORABLE))
    }
    limit_s = min(options.time_limit_s or LONGEST_S, LONGEST_S)

    def reached(more: frozenset[str]) -> bool:
        ignored = {rule for option, rule in rules.items() if option in more}
        tried = dataclasses.replace(
            options,
            goal="drain",
            ignored_rules=tuple(sorted({*options.ignored_rules, *ignored})),
            cold=options.cold or COLD in more,
            time_limit_s=limit_s,
        )
        return controller.run(snapshot, "", tried, plan_base.Watch()).after.value <= 0

    possible = [*rules, *([COLD] if cold_helps(options, found) else [])]
    if not possible or not reached(frozenset(possible)):
        return None
    return conflict.without_needless(possible, reached)


def cold_helps(options: "controller.Options", found: "Sequence[explanation.Explanation]") -> bool:
    """Whether some of those who hold the goal drain may only be migrated cold."""
    from nova_rebalancer.model.constraints import migratable

    return not options.cold and any(one.instance.status == migratable.SHUTOFF for one in found)

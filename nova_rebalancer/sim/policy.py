# SPDX-License-Identifier: Apache-2.0
"""Rebalancing policies of a simulation: what is planned how often, and within which budget."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import re
from typing import Any

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as constraints
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.model.objectives import shaped
from nova_rebalancer.plan import base

NONE = "none"

WORK = 1
"""Solver work of a plan where neither work nor time is limited by the policy."""

UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}

KEYS = (
    "every", "at", "max-migrations", "max-gib", "goal", "fragment-cores", "work-limit",
    "time-limit", "seed", "cost-per-gib", "min-gain", "cooldown", "flavor",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """When to plan and how; each plan is carried out at once, as far as the budget reaches.

    Parameters
    ----------
    name
        What it is called in results.
    options
        What the controller is asked with; None for no rebalancing at all.
    every_s, first_s
        Interval between plans, and when the first one is made.
    """

    name: str
    options: controller.Options | None = None
    every_s: float = 86400.0
    first_s: float = 0.0

    def times_s(self, from_s: float, until_s: float) -> list[float]:
        """Return when plans are made, from ``from_s`` on and before ``until_s``."""
        if self.options is None:
            return []
        times, number = [], 0
        while (at_s := from_s + self.first_s + number * self.every_s) < until_s:
            times.append(at_s)
            number += 1
        return times


def parse(text: str, rules: dict[str, Any], fragment_cores: tuple[int, ...]) -> Policy:
    """Read a policy as it is written on the command line: a planner and KEY=VALUE words.

    Parameters
    ----------
    rules
        Options of the controller about the rules of the cloud.
    fragment_cores
        Each X where the policy does not say it.

    Raises
    ------
    UsageError
        If it is not of that form.
    """
    planner, *words = text.split() or [""]
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS or key in given or not value:
            raise exceptions.UsageError(
                f"--policy {text!r}: {word!r} is not understood; write a planner and KEY=VALUE "
                f"words, each KEY once, of {', '.join(KEYS)}"
            )
        given[key] = value
    if not planner or "=" in planner:
        raise exceptions.UsageError(
            f"--policy {text!r}: it begins with a planner (auto, mip, greedy) or with none"
        )
    if planner == NONE:
        if given:
            raise exceptions.UsageError(f"--policy {text!r}: none takes no further words")
        return Policy(NONE)

    def number(key: str, default: float | None, least: float = 0) -> float | None:
        if key not in given:
            return default
        try:
            value = float(given[key])
        except ValueError:
            value = float("nan")
        if not least <= value < float("inf"):
            raise exceptions.UsageError(
                f"--policy {text!r}: {key} must be a number of at least {least:g}, not {given[key]}"
            )
        return value

    def whole(key: str, default: int, least: int = 0) -> int:
        value = number(key, default, least)
        if value != int(value or 0):
            raise exceptions.UsageError(
                f"--policy {text!r}: {key} must be a whole number, not {given[key]}"
            )
        return int(value)

    wanted = given.get("goal", "fragmentation")
    for key in ("flavor", "fragment-cores"):
        if key in given:
            shaped.check(wanted, key, f"--policy {text!r}: {key}={given[key]}")
    sizes = fragment_cores
    if "fragment-cores" in given:
        try:
            sizes = fragmentation.sizes(given["fragment-cores"])
        except ValueError as error:
            raise exceptions.UsageError(f"--policy {text!r}: fragment-cores: {error}") from None
    time_limit_s = number("time-limit", None)
    work = None if time_limit_s is not None and "work-limit" not in given else WORK
    options = controller.Options(
        planner=planner,
        goal=wanted,
        fragment_cores=sizes,
        flavors=tuple(name for name in given.get("flavor", "").split(",") if name),
        max_migrations=whole("max-migrations", 50),
        max_gib=number("max-gib", None),
        time_limit_s=time_limit_s,
        work_limit=whole("work-limit", WORK) if work is not None else None,
        seed=whole("seed", 0),
        **{
            **rules,
            "cost_per_gib": number("cost-per-gib", rules.get("cost_per_gib", 0.0)),
            "min_gain": number("min-gain", rules.get("min_gain", 0.0)),
            "cooldown_h": _seconds(text, "cooldown", given["cooldown"]) / 3600
            if "cooldown" in given
            else rules.get("cooldown_h", 0.0),
        },
    )
    return Policy(
        text,
        options,
        _seconds(text, "every", given.get("every", "24h")),
        _seconds(text, "at", given.get("at", "0h")),
    )


def _seconds(text: str, key: str, value: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", value)
    seconds = float(match[1]) * UNITS_S[match[2]] if match else 0.0
    if match is None or (key == "every" and seconds < 60):
        raise exceptions.UsageError(
            f"--policy {text!r}: {key}={value} is not a time; write it like 30m, 24h or 1.5d"
        )
    return seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """What is to be carried out of a plan: hops by indices of ``start``, in order."""

    start: state.PlacementState
    hops: Sequence[path.Hop]
    before: float
    after: float


def decide(
    policy: Policy,
    facts: cloud.Snapshot,
    watch: base.Watch,
    moved_ago_s: Mapping[str, float] | None = None,
) -> Decided:
    """Make a plan for the cloud as it is, within the policy's budget.

    ``moved_ago_s`` is how long ago each instance was migrated that was.
    """
    assert policy.options is not None
    taken_at = constraints.moment(facts.taken_at)
    last_moved = {
        name: (taken_at - datetime.timedelta(seconds=ago_s)).isoformat()
        for name, ago_s in (moved_ago_s or {}).items()
        if ago_s < 3600 * policy.options.cooldown_h
    }
    options = dataclasses.replace(policy.options, last_moved=last_moved)
    plan = controller.run(facts, "", options, watch)
    hops = [migration.hop for migration in plan.path.migrations]
    return Decided(plan.start, hops, plan.before.value, plan.after.value)


def goal(policy: Policy) -> fragmentation.Fragmentation | None:
    """Return the goal of a policy to follow its gain by, None where there is none to follow."""
    options = policy.options
    if options is None or options.goal != "fragmentation":
        return None
    return fragmentation.Fragmentation(*options.fragment_cores)

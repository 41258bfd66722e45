# SPDX-License-Identifier: Apache-2.0
"""Several goals at once: one before the other, down to a threshold, or by weights.

``balance<=0.1,fragmentation`` lowers the fragment rate as far as balance stays at 0.1 or, if that
cannot be reached, as low as it gets.  ``2*balance+fragmentation`` minimises a weighted sum, each
value taken relative to what it is at the start.  The value of the whole is one number: each level
counts ``STEP`` times as much as the one after it, relative to its value at the start.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import re

from nova_rebalancer import exceptions
from nova_rebalancer.model import arrays
from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import separable

STEP = 1e4
"""How much more a level counts than the next: a change of less than a ten-thousandth of its value
at the start may be given up for the next."""

_LEVEL = re.compile(r"(?P<parts>[^<]+?)\s*(?:<=\s*(?P<threshold>[0-9.eE+-]+))?")
_PART = re.compile(r"(?:(?P<weight>[0-9.]+)\s*\*\s*)?(?P<name>[a-z][a-z0-9_-]*)")


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """One level as written: goals with their weights, and the value that is low enough."""

    parts: tuple[tuple[float, str], ...]
    threshold: float | None


def parse(text: str) -> tuple[Wish, ...]:
    """Read what stands after ``--goal``.

    Raises
    ------
    UsageError
        If it is not of the form GOAL[<=VALUE][,GOAL...] with GOAL a name or [WEIGHT*]NAME+...
    """
    wishes = []
    for level in text.split(","):
        match = _LEVEL.fullmatch(level.strip())
        parts = [] if match is None else match["parts"].split("+")
        found: list[tuple[float, str]] = []
        for part in parts:
            one = _PART.fullmatch(part.strip())
            weight = None if one is None else _number(one["weight"] or "1")
            if one is None or weight is None or weight <= 0:
                found = []
                break
            found.append((weight, one["name"]))
        threshold = None
        if match is not None and match["threshold"] is not None:
            threshold = _number(match["threshold"])
            found = found if threshold is not None else []
        if not found:
            raise exceptions.UsageError(
                f'--goal "{text}": cannot read "{level.strip()}"; write a goal, as in '
                "fragmentation, or several, as in balance<=0.1,fragmentation or "
                "2*balance+fragmentation"
            )
        wishes.append(Wish(tuple(found), threshold))
    names = [name for wish in wishes for _, name in wish.parts]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            raise exceptions.UsageError(f'--goal "{text}": {name} is named twice')
    return tuple(wishes)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Goals that are added up, what of the sum is low enough, and how much the rest counts."""

    parts: tuple[tuple[float, base.Goal], ...]
    threshold: float | None
    weight: float = 1.0

    def value(self, values: dict[str, float]) -> float:
        """Return what is too much, from the values of all goals by name."""
        total = sum(weight * values[goal.name] for weight, goal in self.parts)
        return total if self.threshold is None else max(0.0, total - self.threshold)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """Goals of one cloud, in levels."""

    name: str
    levels: tuple[Level, ...]

    def members(self) -> Iterator[base.Goal]:
        """Yield the goals."""
        for level in self.levels:
            for _, goal in level.parts:
                yield goal

    def narrowed(self, start: state.PlacementState) -> state.PlacementState:
        """Return the state that keeps what each of the goals keeps free."""
        for goal in self.members():
            if isinstance(goal, separable.Separable):
                start = goal.narrowed(start)
        return start

    def enough(self, host_of: arrays.Ints) -> bool:
        """Whether a placement, (V,) hosts, leaves what must remain for each of the goals."""
        return all(
            goal.enough(host_of) for goal in self.members() if isinstance(goal, separable.Separable)
        )

    def evaluate(self, placement: state.PlacementState) -> base.Value:
        """Return the value of all together, and the breakdown of each."""
        values = {goal.name: goal.evaluate(placement) for goal in self.members()}
        value = self.combine({name: one.value for name, one in values.items()})
        whole = base.Part(self.name, "combined", 1.0, value)
        return base.Value(value, (whole, *self._parts(values)))

    def combine(self, values: dict[str, float]) -> float:
        """Return the value of all together from that of each by name; also right for bounds."""
        return sum(level.weight * level.value(values) for level in self.levels)

    def trace(self, start: state.PlacementState, hops: Iterable[path.Hop]) -> list[base.Step]:
        """Return the value after each hop, and what it did to each goal."""
        hops = list(hops)
        traces = {goal.name: goal.trace(start, hops) for goal in self.members()}
        return [
            base.Step(
                self.combine({name: steps[k].value for name, steps in traces.items()}),
                "; ".join(steps[k].text for steps in traces.values()),
            )
            for k in range(len(hops))
        ]

    def _parts(self, values: dict[str, base.Value]) -> Iterator[base.Part]:
        for level in self.levels:
            for weight, goal in level.parts:
                own, *others = values[goal.name].parts
                yield dataclasses.replace(own, weight=level.weight * weight)
                yield from others


def make(text: str, of: Callable[[str], base.Goal], start: state.PlacementState) -> base.Goal:
    """Return the goal that ``text`` names; ``of`` makes each by its name.

    Raises
    ------
    UsageError
        If the text cannot be read, or the goals cannot be planned for together.
    """
    wishes = parse(text)
    if len(wishes) == 1 and len(wishes[0].parts) == 1 and wishes[0].threshold is None:
        return of(wishes[0].parts[0][1])
    levels: list[Level] = []
    for k, wish in enumerate(wishes):
        goals = [of(name) for _, name in wish.parts]
        values = {goal.name: goal.evaluate(start).value for goal in goals}
        several = len(goals) > 1
        parts = tuple(
            # A single goal keeps its own measure, so that a threshold means what it says.
            ((weight / (values[goal.name] or 1.0) if several else 1.0), goal)
            for (weight, _), goal in zip(wish.parts, goals, strict=True)
        )
        level = Level(parts, wish.threshold)
        now = level.value(values)
        weight = STEP ** (len(wishes) - 1 - k) / (now or _scale(values))
        levels.append(dataclasses.replace(level, weight=weight))
    made = Combined(text.replace(" ", ""), tuple(levels))
    if made.narrowed(start) is not start:
        for goal in made.members():
            # What is kept free would be no free cores to it.
            if not isinstance(goal, separable.Separable):
                raise exceptions.UsageError(
                    f'--goal "{text}": --headroom cannot be kept in one plan with {goal.name}; '
                    "make one plan after the other"
                )
    return made


def _scale(values: dict[str, float]) -> float:
    """Return what a level is relative to that is reached at the start: it must not get worse."""
    return sum(values.values()) / len(values) or 1.0

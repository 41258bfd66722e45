# SPDX-License-Identifier: Apache-2.0
"""A goal as a linear expression of the flow model, in whole numbers.

What is found is valued by the goal itself, so a rounded number costs quality at most, never truth.
"""

import collections
from collections.abc import Hashable
import dataclasses

import numpy as np
from ortools.sat.python import cp_model

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import flow
from nova_rebalancer.plan import rooms

FINE = 64
"""Steps of the expression in the smallest price."""

CURVE_STEPS = 100_000
"""Steps of the expression in the price of the dearest host, where prices are curves."""

MOST = 2**40
"""Weights are at most so much of the smallest step: beyond that the solver's numbers end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scaled:
    """``constant + unit * expr``, where ``expr`` has whole values from 0 to ``most``."""

    expr: flow.Expr
    unit: float
    constant: float
    most: int


def told_apart(start: state.PlacementState, goal: base.Goal) -> list[Hashable] | None:
    """Return what a goal can tell apart in each instance, (V,); None if nothing."""
    formulas = _formulas(goal)
    if not formulas:
        return None
    columns = [one.stay for one in formulas]
    for one in formulas:
        for term in one.terms:
            columns += term.tells()
    return [row.tobytes() for row in np.array(columns, dtype=np.float64).T.copy()]


def cores(goal: base.Goal) -> tuple[int, ...]:
    """Return each X of the fragment rate in a goal, none if it has no part in it."""
    if isinstance(goal, fragmentation.Fragmentation):
        return goal.cores
    if isinstance(goal, combined.Combined):
        return next(filter(None, map(cores, goal.members())), ())
    return ()


def _formulas(goal: base.Goal) -> list[formula.Formula]:
    if isinstance(goal, separable.Separable):
        return [goal.formula]
    if isinstance(goal, combined.Combined):
        return [one for member in goal.members() for one in _formulas(member)]
    return []


@dataclasses.dataclass(slots=True)
class _Bin:
    """A sum of one term: what may leave and enter as (amount, how many, variable)."""

    leave: list[tuple[int, int, cp_model.IntVar]] = dataclasses.field(default_factory=list)
    enter: list[tuple[int, int, cp_model.IntVar]] = dataclasses.field(default_factory=list)
    active: cp_model.IntVar | None = None

    def change(self) -> flow.Expr:
        """Return how the sum changes."""
        return sum(amount * var for amount, _, var in self.enter) - sum(
            amount * var for amount, _, var in self.leave
        )

    def most(self) -> int:
        """Return what can arrive at most."""
        return sum(amount * count for amount, count, _ in self.enter)


class Encoded:
    """The expression of a goal in a model; ``value`` is what to minimise."""

    def __init__(self, model: flow.FlowModel, goal: base.Goal) -> None:
        self._model = model
        self._hints: list[tuple[formula.Term, int, int, cp_model.IntVar]] = []
        self._known: dict[int, dict[tuple[int, int], _Bin]] = {}
        self._rooms: dict[int, rooms.Rooms] = {}
        self.value = self._goal(goal)

    def hint(self, placement: state.PlacementState) -> None:
        """Give the solver the values that belong to a placement; after the model's own hint."""
        carried: dict[int, arrays.Ints] = {}
        for term, label, h, var in self._hints:
            if id(term) not in carried:
                carried[id(term)] = term.carried(placement.host_of)
            amount = int(carried[id(term)][label, h])
            limit = _limit(term.curve, h) if isinstance(term.curve, formula.Excess) else None
            self._model.model.add_hint(
                var, int(amount > 0) if limit is None else max(0, amount - limit)
            )
        for room in self._rooms.values():
            room.hint(placement)

    def _goal(self, goal: base.Goal) -> Scaled:
        if isinstance(goal, separable.Separable):
            self._needs(goal)
            return self._formula(goal.formula)
        if isinstance(goal, fragmentation.Fragmentation):
            return self._rate(goal)
        if isinstance(goal, combined.Combined):
            return _sum(self._model.model, [self._level(level) for level in goal.levels])
        raise ValueError(f"goal {goal.name} has no exact model")

    def _level(self, level: combined.Level) -> tuple[float, Scaled]:
        total = _sum(
            self._model.model, [(weight, self._goal(goal)) for weight, goal in level.parts]
        )
        if level.threshold is None:
            return level.weight, total
        floor = round((level.threshold - total.constant) / total.unit)
        above = self._model.model.new_int_var(0, max(0, total.most - floor), "")
        self._model.model.add(above >= total.expr - floor)
        return level.weight, Scaled(above, total.unit, 0.0, max(0, total.most - floor))

    def _rate(self, goal: fragmentation.Fragmentation) -> Scaled:
        now, slots = goal.counts(goal.evaluate(self._model.start))
        free = max(1, now)
        most = sum(free // x for x in goal.cores)
        each = goal.per_slot / goal.per_core
        if self._model.free_is_constant():
            constant = (goal.per_core * now - goal.per_slot * most) / (goal.per_core * free)
            return Scaled(most - self._model.slots, each / free, constant, most)
        # It is 1 - each slots / free: where moves change both, its tangent where they are now.
        expr = free * (most - self._model.slots) + slots * self._model.free
        unit = each / free**2
        return Scaled(expr, unit, 1 - unit * free * most - slots * unit * free, 2 * free * most)

    def _formula(self, given: formula.Formula) -> Scaled:
        unit = _unit(given)
        total: flow.Expr = 0
        most = 0
        start = self._model.start
        for kind, leave in zip(self._model.kinds, self._model.leave, strict=True):
            price = round(float(given.stay[kind.example]) / unit)
            if price:
                staying = sum(len(kind.at[place]) - var for place, var in leave.items())
                total += price * staying
                most += price * sum(len(kind.at[place]) for place in leave)
        expr, above = self._terms(given, unit)
        total, most = total + expr, most + above
        # What no variable changes is in the value at the start all the same.
        now = given.value(start.host_of)
        at_start = self._at_start(given, unit)
        return Scaled(total, unit, now - unit * at_start, most)

    def _at_start(self, given: formula.Formula, unit: float) -> int:
        """Return the expression's value when nothing moves."""
        start = self._model.start
        found = 0
        for kind, leave in zip(self._model.kinds, self._model.leave, strict=True):
            price = round(float(given.stay[kind.example]) / unit)
            found += price * sum(len(kind.at[place]) for place in leave)
        for term in given.terms:
            if isinstance(term, formula.Room):
                found += round(term.each_costs / unit) * self._room(term).at_start
                continue
            carried = term.carried(start.host_of)
            for label, h in self._bins(term):
                found += _whole(term.curve, int(carried[label, h]), h, unit)
        return found

    def _bins(self, term: formula.Term) -> dict[tuple[int, int], "_Bin"]:
        """Return the sums of a term that may change, by label and host."""
        if id(term) in self._known:
            return self._known[id(term)]
        found: dict[tuple[int, int], _Bin] = collections.defaultdict(_Bin)
        for kind, leave, enter in zip(
            self._model.kinds, self._model.leave, self._model.enter, strict=True
        ):
            amount, label = int(term.amount[kind.example]), int(term.label[kind.example])
            if not amount:
                continue
            for place, var in leave.items():
                found[label, place[0]].leave.append((amount, len(kind.at[place]), var))
            most = min(kind.size, self._model.limit)
            for (h, _), var in enter.items():
                found[label, h].enter.append((amount, most, var))
        self._known[id(term)] = found
        return found

    def _terms(self, given: formula.Formula, unit: float) -> tuple[flow.Expr, int]:
        model, start = self._model.model, self._model.start
        total: list[flow.Expr] = []
        above = 0
        for term in given.terms:
            if isinstance(term, formula.Room):
                price = round(term.each_costs / unit)
                total.append(price * self._room(term).missing)
                above += price * self._room(term).most
                continue
            carried = term.carried(start.host_of)
            for (label, h), this in self._bins(term).items():
                now = int(carried[label, h])
                highest = now + this.most()
                if isinstance(term.curve, formula.Any):
                    price = round(float(term.curve.price[h]) / unit)
                    if price:
                        total.append(price * self._active(term, label, h, now))
                        above += price
                elif isinstance(term.curve, formula.Excess):
                    price = round(float(term.curve.price[h]) / unit)
                    limit = _limit(term.curve, h)
                    if price and highest > limit:
                        over = model.new_int_var(0, highest - limit, "")
                        model.add(over >= now + this.change() - limit)
                        self._hints.append((term, label, h, over))
                        total.append(price * over)
                        above += price * (highest - limit)
                else:
                    cost, most = self._curve(term, h, now + this.change(), highest, unit)
                    total.append(cost)
                    above += most
        return sum(total), above

    def _room(self, room: formula.Room) -> rooms.Rooms:
        if id(room) not in self._rooms:
            self._rooms[id(room)] = rooms.Rooms(self._model, room)
        return self._rooms[id(room)]

    def _active(self, term: formula.Term, label: int, h: int, now: int) -> cp_model.IntVar:
        """Return whether anything of a label is on a host: one boolean for each."""
        model, this = self._model.model, self._bins(term)[label, h]
        if this.active is None:
            this.active = model.new_bool_var("")
            for _, _, var in this.enter:
                model.add(var == 0).only_enforce_if(~this.active)
            for _, count, var in this.leave:
                # Nobody may come while one of these goes: what counts is that all have gone.
                model.add(var == count).only_enforce_if(~this.active)
            if now > sum(amount * count for amount, count, _ in this.leave):
                model.add(this.active == 1)
            self._hints.append((term, label, h, this.active))
        return this.active

    def _needs(self, goal: separable.Separable) -> None:
        """Keep the capacity that must stay on."""
        if goal.needs is None:
            return
        start = self._model.start
        (term,) = goal.formula.terms
        assert isinstance(term, formula.Term)
        bins = list(self._bins(term))
        carried = term.carried(start.host_of)[0]
        active = {h: self._active(term, 0, h, int(carried[h])) for _, h in bins}
        for key, this in self._bins(term).items():
            # Nothing is offered by a host that only seems to be on.
            left = int(carried[key[1]]) - sum(amount * count for amount, count, _ in this.leave)
            if not left:
                there = sum(var for _, _, var in this.enter)
                there += sum(count - var for _, count, var in this.leave)
                self._model.model.add(active[key[1]] <= there)
        for r, need in enumerate(goal.needs.amount.tolist()):
            fixed, parts = 0, []
            for h in np.nonzero(goal.needs.offered[:, r])[0].tolist():
                offered = int(goal.needs.offered[h, r])
                if h in active:
                    parts.append(offered * active[h])
                elif carried[h]:
                    fixed += offered
            if parts and fixed < need:
                self._model.model.add(sum(parts) + fixed >= need)

    def _curve(
        self, term: formula.Term, h: int, amount: flow.Expr, highest: int, unit: float
    ) -> tuple[flow.Expr, int]:
        """Return the price where it is a curve of straight pieces."""
        model = self._model.model
        assert isinstance(term.curve, formula.Pieces)
        xs, ys = term.curve.xs[h].tolist(), (term.curve.ys[h] / unit).tolist()
        if highest > xs[-1]:
            slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
            ys.append(ys[-1] + slope * (highest - xs[-1]))
            xs.append(highest)
        whole = [round(y) for y in ys]
        most = max(whole)
        cost = model.new_int_var(min(whole), most, "")
        pieces = []
        for k in range(len(xs) - 1):
            inside = model.new_bool_var("")
            pieces.append(inside)
            model.add_linear_constraint(amount, xs[k], xs[k + 1]).only_enforce_if(inside)
            rise, run = whole[k + 1] - whole[k], xs[k + 1] - xs[k]
            line = run * cost - rise * amount
            model.add(line >= run * whole[k] - rise * xs[k]).only_enforce_if(inside)
        model.add_exactly_one(pieces)
        return cost, most


def step(given: formula.Formula) -> float | None:
    """Return the number that all values of a formula are multiples of; None if there is none."""
    prices, curves = _prices(given)
    limits = [
        term.curve.limit
        for term in given.terms
        if isinstance(term, formula.Term) and isinstance(term.curve, formula.Excess)
    ]
    if curves or any((limit != np.round(limit)).any() for limit in limits):
        return None
    unit = _unit(given)
    return unit if all(abs(p / unit - round(p / unit)) < 1e-9 for p in prices) else None


def _unit(given: formula.Formula) -> float:
    """Return the step of the expression: the smallest price, or a fine part of it."""
    prices, curves = _prices(given)
    if max(curves, default=0.0) > 0:
        return max(curves) / CURVE_STEPS
    if not prices:
        return 1.0
    least = min(abs(p) for p in prices)
    if all(abs(p / least - round(p / least)) < 1e-9 for p in prices):
        return least
    return least / FINE


def _prices(given: formula.Formula) -> tuple[list[float], list[float]]:
    """Return the prices of units, without those that are 0, and the dearest of each curve."""
    prices = [float(p) for p in given.stay if p]
    curves = []
    for term in given.terms:
        if isinstance(term, formula.Room):
            prices += [term.each_costs] if term.each_costs else []
        elif isinstance(term.curve, formula.Pieces):
            curves.append(float(np.abs(term.curve.ys).max(initial=0.0)))
        else:
            prices += [float(p) for p in np.unique(term.curve.price) if p]  # type: ignore[attr-defined]
    return prices, curves


def _whole(curve: formula.Curve, amount: int, h: int, unit: float) -> int:
    if isinstance(curve, formula.Any):
        return round(float(curve.price[h]) / unit) * (amount > 0)
    if isinstance(curve, formula.Excess):
        return round(float(curve.price[h]) / unit) * max(0, amount - _limit(curve, h))
    found = curve.at(np.array([amount]), np.array([h]))
    return round(float(found[0]) / unit)


def _limit(curve: formula.Excess, h: int) -> int:
    """Return the nearest whole limit: fine parts of a unit make the models much harder."""
    return round(float(curve.limit[h]))


def _sum(model: cp_model.CpModel, parts: list[tuple[float, Scaled]]) -> Scaled:
    """Add weighted expressions up, in steps of the finest."""
    if len(parts) == 1 and parts[0][0] == 1.0:
        return parts[0][1]
    unit = min(weight * part.unit for weight, part in parts)
    top = max(weight * part.unit * max(1, part.most) for weight, part in parts)
    unit = max(unit, top / MOST)
    total: flow.Expr = 0
    constant, most = 0.0, 0
    for weight, part in parts:
        constant += weight * part.constant
        factor = round(weight * part.unit / unit)
        expr = part.expr
        if factor:
            total += factor * expr
            most += factor * part.most
    return Scaled(total, unit, constant, most)

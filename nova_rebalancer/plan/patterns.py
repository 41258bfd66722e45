# SPDX-License-Identifier: Apache-2.0
"""The pattern model: one exchange for each host, the best of all that there are.

The linear relaxation chooses among all exchanges of all hosts by column generation: prices of the
kinds and of a migration come from the exchanges known so far, the best exchange of each shape at
these prices joins them, until none is worth more than it costs.  The prices then bound the slots
that any placement can have, and an exchange that is worth less than the best by more than the
bound exceeds a target cannot be part of any placement that reaches the target.  What remains is
small enough for an exact solver.

References
----------
Gilmore and Gomory (1961), A linear programming approach to the cutting-stock problem, Operations
Research 9 (patterns priced by knapsacks).  Lasdon (1970), Optimization theory for large systems
(the bound at any prices).  Reduced-cost fixing: Crowder, Johnson and Padberg (1983), Solving
large-scale zero-one linear programming problems, Operations Research 31.
"""

import collections
import dataclasses
import math

import numpy as np
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import solver

ROUNDS = 100
"""Most rounds of column generation; some ten are usual."""

EXACT = 1e-6
"""How near the bound and the relaxation must come."""

WINDOWS = ((0.0, 2), (0.0, exchange.LARGEST), (0.25, 2), (1.0, 2), (1.0, exchange.LARGEST))
"""What is tried one after another: how much less than the best an exchange is worth, in slots, and
how many instances leave a unit at most.  No window is wider than a proof needs."""

MOST_PARTS = 60_000
"""Most variables of the exact solver; more take longer than what it is for."""

WORK = 2.0
"""Of the exact solver for one window."""

TIDY_WORK = 0.25
"""For finding as good a target with fewer migrations."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """How many slots can be won within the limit, at most, and the prices that show it."""

    slots: float
    price: arrays.Floats
    per_move: float


def bound(market: exchange.Market, limit: int, meter: solver.Meter) -> Bound | None:
    """Return the bound of the relaxation, or of the best prices seen when time ends.

    Where the limit does not bind a migration costs nothing, and very many exchanges are as good as
    the best.  Then it is given a price so small that the bound allows no slot more.

    None if there was no time for any.
    """
    master = _Master(market, limit, meter)
    best = master.solve(0.0)
    if best is None:
        return None
    spare = math.floor(best.slots + EXACT) + 1 - best.slots
    least = spare / (2 * limit) if limit else 0.0
    if best.per_move < least:
        best = master.solve(least) or best
    return best


class _Master:
    """The relaxation with the exchanges that are known."""

    def __init__(self, market: exchange.Market, limit: int, meter: solver.Meter) -> None:
        given = market.cloud
        self._market = market
        self._limit = limit
        self._meter = meter
        self._hosts = np.array([len(shape.hosts) for shape in given.shapes])
        self._program = pywraplp.Solver.CreateSolver("GLOP")
        free = self._program.infinity()
        self._balance = [self._program.Constraint(0.0, 0.0) for _ in given.kinds]
        self._moves = self._program.Constraint(-free, limit)
        self._rows = [self._program.Constraint(-free, int(count)) for count in self._hosts]
        self._gain = self._program.Objective()
        self._gain.SetMaximization()
        self._known: set[object] = set()
        self._columns: list[tuple[pywraplp.Variable, int, int]] = []
        """With the slots that each wins, and how many instances leave."""
        self._price = np.zeros(len(given.kinds))
        self._per_move = 0.0

    def solve(self, least: float) -> Bound | None:
        """Return the bound where a migration costs ``least`` and what the limit makes of it."""
        for column, won, leaving in self._columns:
            self._gain.SetCoefficient(column, won - least * leaving)
        best: Bound | None = None
        for _ in range(ROUNDS):
            if self._meter.spent():
                break
            per_move = least + self._per_move
            self._market.price(self._price, per_move)
            values = np.maximum(self._market.value, 0.0)
            most = per_move * self._limit + float((values * self._hosts).sum())
            if best is None or most < best.slots:
                best = Bound(most, self._price, per_move)
            if not self._grow(least):
                break
            if self._program.Solve() != pywraplp.Solver.OPTIMAL:
                break
            self._price = np.array([row.dual_value() for row in self._balance])
            self._per_move = max(0.0, self._moves.dual_value())
            if best.slots - least * self._limit - self._gain.Value() <= EXACT:
                break
        return best

    def _grow(self, least: float) -> bool:
        """Add the best exchange of each shape; whether any is new."""
        market = self._market
        new = False
        for i in np.nonzero(market.value > exchange.CLOSE)[0].tolist():
            parts = market.best(i)
            key = (i, tuple((*part.leave.items(), 0, *part.enter.items()) for part in parts))
            if key in self._known:
                continue
            self._known.add(key)
            new = True
            column = self._program.NumVar(0.0, self._program.infinity(), "")
            change: collections.Counter[int] = collections.Counter()
            for part in parts:
                change.update(part.enter)
                change.subtract(part.leave)
            for k, count in change.items():
                if count:
                    self._balance[k].SetCoefficient(column, count)
            leaving = sum(sum(part.leave.values()) for part in parts)
            self._moves.SetCoefficient(column, leaving)
            self._rows[i].SetCoefficient(column, 1)
            won = market.gain(i, parts)
            self._gain.SetCoefficient(column, won - least * leaving)
            self._columns.append((column, won, leaving))
        return new


def place(
    start: state.PlacementState,
    market: exchange.Market,
    most: Bound,
    limit: int,
    meter: solver.Meter,
) -> tuple[state.PlacementState | None, int]:
    """Return a placement that wins all slots that can be won, if found, and their number."""
    target = math.floor(most.slots + EXACT)
    market.price(most.price, most.per_move)
    tried = set()
    for slack, at_once in WINDOWS:
        window = min(slack, most.slots - target) + EXACT, at_once
        if meter.spent() or window in tried:
            continue
        tried.add(window)
        found = _within(start, market, limit, target, window, meter)
        if found is not None:
            return found, target
    return None, target


def _within(
    start: state.PlacementState,
    market: exchange.Market,
    limit: int,
    target: int,
    window: tuple[float, int],
    meter: solver.Meter,
) -> state.PlacementState | None:
    """Look for a placement that wins ``target`` slots with exchanges in a window."""
    model = _Window(start, market, window, meter)
    if not model.complete:
        return None
    # A placement that must win so much is found later than one that shall win as much as it can.
    model.program.add(model.won <= target)
    model.program.add(model.moves <= limit)
    model.program.maximize(model.won)
    answer = solver.solve(model.program, meter, WORK)
    if not answer.found or round(answer.solver.objective_value) < target:
        return None
    reached = model.placement(answer.solver)
    if meter.budget.left_s() > 1.0:
        model.hint(answer.solver)
        model.program.add(model.won >= target)
        model.program.minimize(model.moves)
        answer = solver.solve(model.program, meter, TIDY_WORK)
        fewer = model.placement(answer.solver) if answer.found else None
        reached = fewer if fewer is not None else reached
    return reached


class _Window:
    """The exact model of all exchanges in a window around the best."""

    def __init__(
        self,
        start: state.PlacementState,
        market: exchange.Market,
        window: tuple[float, int],
        meter: solver.Meter,
    ) -> None:
        self._start = start
        self._cloud = market.cloud
        self._room = _Room(start, market.cloud)
        self.program = cp_model.CpModel()
        self.complete = False
        self._parts = 0
        change: list[list[cp_model.LinearExprT]] = [[] for _ in market.cloud.kinds]
        moves: list[cp_model.LinearExprT] = []
        won: list[cp_model.LinearExprT] = []
        # For each shape: variables of what happens to both units, and of what to each.
        self._chosen: list[list[tuple[_Choice, list[list[_Choice]]]]] = []
        for i, shape in enumerate(market.cloud.shapes):
            hosts = len(shape.hosts)
            choices = []
            for both, options in market.near(i, *window):
                if self._parts > MOST_PARTS or meter.spent():
                    return
                fit = [
                    [one for one in parts if self._room.fits(i, n, both, one)]
                    for n, parts in enumerate(options)
                ]
                if not all(fit) or not self._room.fits(i, None, both, both):
                    continue
                here = self._choice(both, hosts, change, moves)
                units = []
                for u, parts in zip(shape.units, fit, strict=True):
                    mine = [self._choice(one, hosts, change, moves) for one in parts]
                    self.program.add(sum(one.count for one in mine) == here.count)
                    for one in mine:
                        more = market.won(i, u, both, one.part)
                        if more:
                            won.append(more * one.count)
                    units.append(mine)
                choices.append((here, units))
            if choices:
                self.program.add(sum(here.count for here, _ in choices) <= hosts)
            self._chosen.append(choices)
        for terms in change:
            self.program.add(sum(terms) == 0)
        self.moves: cp_model.LinearExprT = sum(moves)
        self.won: cp_model.LinearExprT = sum(won)
        self.complete = True

    def _choice(
        self,
        part: exchange.Part,
        hosts: int,
        change: list[list[cp_model.LinearExprT]],
        moves: list[cp_model.LinearExprT],
    ) -> "_Choice":
        self._parts += 1
        count = self.program.new_int_var(0, hosts, "")
        for k, many in part.leave.items():
            change[k].append(-many * count)
            moves.append(many * count)
        for k, many in part.enter.items():
            change[k].append(many * count)
        return _Choice(part, count)

    def hint(self, found: cp_model.CpSolver) -> None:
        """Give the solver a solution to start from."""
        self.program.clear_hints()
        for choices in self._chosen:
            for here, units in choices:
                for one in (here, *(one for unit in units for one in unit)):
                    self.program.add_hint(one.count, found.value(one.count))

    def placement(self, found: cp_model.CpSolver) -> state.PlacementState | None:
        """Name hosts and instances; None if a rule that the model does not know is broken."""
        given = self._cloud
        leave: list[collections.Counter[kinds.Place]]
        enter: list[collections.Counter[kinds.Place]]
        leave = [collections.Counter() for _ in given.kinds]
        enter = [collections.Counter() for _ in given.kinds]

        def take(part: exchange.Part, place: kinds.Place) -> None:
            for counts, ends in ((part.leave, leave), (part.enter, enter)):
                for k, count in counts.items():
                    ends[k][place] += count

        for shape, choices in zip(given.shapes, self._chosen, strict=True):
            hosts = iter(shape.hosts)
            for here, units in choices:
                queues = [
                    [one.part for one in unit for _ in range(found.value(one.count))]
                    for unit in units
                ]
                for _ in range(found.value(here.count)):
                    h, cells = next(hosts)
                    take(here.part, (h, tuple(sorted(n for cell in cells for n in cell))))
                    for queue, cell in zip(queues, cells, strict=True):
                        take(queue.pop(), (h, cell))
        flow = kinds.Flow(tuple(leave), tuple(enter), 0, 0)
        if any(kinds.crowded(out, into) for out, into in zip(leave, enter, strict=True)):
            return None
        reached = kinds.placement(self._start, given.kinds, flow)
        return reached if _sound(self._start, reached) else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Choice:
    """Something to do, and how many hosts do it."""

    part: exchange.Part
    count: cp_model.IntVar


class _Room:
    """What is free beside cores, on the fullest host of each shape.

    Only resources that cores do not imply are looked at: where all free cores can be taken, and
    exchanged, by those that ask for most of the resource for each core, it never runs out.
    """

    def __init__(self, start: state.PlacementState, given: exchange.Cloud) -> None:
        rows = np.where(start.row_of == state.NOWHERE, 0, start.row_of)
        free = (start.capacity - start.used())[rows, np.arange(rows.shape[1])]
        free = np.where(start.row_of == state.NOWHERE, 0, free)
        cells = start.cell_capacity - start.cell_used()
        examples = [kind.example for kind in given.kinds]
        weight = np.array(given.weight)[:, None]
        twice = np.where(given.double, 2, 1)[:, None]
        self._row_needs = start.demand[examples]
        self._cell_needs = start.guest[examples, 0] if start.guest.shape[1] else None
        rates = self._row_needs / (weight * twice)
        cell_rates = self._cell_needs / weight if self._cell_needs is not None else rates
        # For each shape, and each of its units: what may run out, and how much of it is free.
        self._row: list[dict[int, int]] = []
        self._cell: list[list[dict[int, int]]] = []
        for shape in given.shapes:
            here = free[[h for h, _ in shape.hosts]].min(axis=0)
            steps = [given.units[u].free for u in shape.units]
            self._row.append(_tight(here, rates, sum(steps), given.most * len(steps)))
            self._cell.append([])
            for n, unit in enumerate(steps):
                tight: dict[int, int] = {}
                if shape.hosts[0][1][n]:
                    one = np.array([cells[h, places[n][0]] for h, places in shape.hosts])
                    tight = _tight(one.min(axis=0), cell_rates, unit, given.most)
                self._cell[-1].append(tight)

    def fits(self, i: int, n: int | None, both: exchange.Part, part: exchange.Part) -> bool:
        """Whether an exchange of unit ``n`` (None: of no single unit) fits, ``both`` included."""
        parts = (both,) if part is both else (both, part)
        checks = [(self._row[i], self._row_needs)]
        if n is not None and self._cell_needs is not None:
            checks.append((self._cell[i][n], self._cell_needs))
        return all(
            free
            >= sum(
                sign * count * int(needs[k, r])
                for one in parts
                for counts, sign in ((one.enter, 1), (one.leave, -1))
                for k, count in counts.items()
            )
            for tight, needs in checks
            for r, free in tight.items()
        )


def _tight(free: arrays.Ints, rates: arrays.Floats, steps: int, most: int) -> dict[int, int]:
    """Return what is free, (R,), of the resources that may run out before ``steps`` cores do.

    ``rates`` (K, R) is what each kind takes for a core; cores may also be exchanged, ``most`` of
    them.
    """
    if not rates.size:
        return {}
    highest, lowest = rates.max(axis=0), rates.min(axis=0)
    enough = free >= highest * steps + (highest - lowest) * most
    return {int(r): int(free[r]) for r in np.nonzero(~enough & (highest > 0))[0]}


def _sound(start: state.PlacementState, reached: state.PlacementState) -> bool:
    """Whether nothing is fuller than it may be, or fuller than it was where it is so already."""
    pairs = [
        (start.used(), reached.used(), start.capacity),
        (start.cell_used(), reached.cell_used(), start.cell_capacity),
    ]
    if any(((after > most) & (after > before)).any() for before, after, most in pairs):
        return False
    before, after = state.in_groups(start), state.in_groups(reached)
    return all(
        not ((now > group.limit) & (now > then)).any()
        for group, then, now in zip(start.groups, before, after, strict=True)
    )

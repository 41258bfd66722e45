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

SLACKS = (0.0, 0.25, 1.0)
"""Windows that are tried one after another, in slots; each at most as wide as a proof needs."""

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

    None if there was no time for any.
    """
    given = market.cloud
    program = pywraplp.Solver.CreateSolver("GLOP")
    balance = [program.Constraint(0.0, 0.0) for _ in given.kinds]
    moves = program.Constraint(-program.infinity(), limit)
    rows = [program.Constraint(-program.infinity(), len(shape.hosts)) for shape in given.shapes]
    gain = program.Objective()
    gain.SetMaximization()
    hosts = np.array([len(shape.hosts) for shape in given.shapes])
    known: set[object] = set()
    best: Bound | None = None
    price, per_move = np.zeros(len(given.kinds)), 0.0
    for _ in range(ROUNDS):
        if meter.spent():
            break
        market.price(price, per_move)
        most = per_move * limit + float((np.maximum(market.value, 0.0) * hosts).sum())
        if best is None or most < best.slots:
            best = Bound(most, price, per_move)
        new = False
        for i in np.nonzero(market.value > exchange.CLOSE)[0].tolist():
            parts = market.best(i)
            key = (i, tuple((*part.leave.items(), 0, *part.enter.items()) for part in parts))
            if key in known:
                continue
            known.add(key)
            new = True
            column = program.NumVar(0.0, program.infinity(), "")
            change: collections.Counter[int] = collections.Counter()
            for part in parts:
                change.update(part.enter)
                change.subtract(part.leave)
            leaving = sum(sum(part.leave.values()) for part in parts)
            for k, count in change.items():
                if count:
                    balance[k].SetCoefficient(column, count)
            moves.SetCoefficient(column, leaving)
            rows[i].SetCoefficient(column, 1)
            worth = sum(part.value for part in parts) - given.slots(i)
            paid = sum(price[k] * count for k, count in change.items()) + per_move * leaving
            gain.SetCoefficient(column, round(worth + paid))
        if not new:
            break
        if program.Solve() != pywraplp.Solver.OPTIMAL:
            break
        if best.slots - gain.Value() <= EXACT:
            break
        price = np.array([row.dual_value() for row in balance])
        per_move = max(0.0, moves.dual_value())
    return best


def place(
    start: state.PlacementState,
    market: exchange.Market,
    most: Bound,
    limit: int,
    meter: solver.Meter,
) -> tuple[state.PlacementState | None, int]:
    """Return a placement that wins as many slots as can be won, None if none was found, and how
    many that is.
    """
    target = math.floor(most.slots + EXACT)
    market.price(most.price, most.per_move)
    tried = 0.0
    for slack in SLACKS:
        gap = most.slots - target + EXACT
        if meter.spent() or (slack and tried >= gap):
            break
        tried = min(slack + EXACT, gap)
        found = _within(start, market, limit, target, tried, meter)
        if found is not None:
            return found, target
    return None, target


def _within(
    start: state.PlacementState,
    market: exchange.Market,
    limit: int,
    target: int,
    slack: float,
    meter: solver.Meter,
) -> state.PlacementState | None:
    """Look for a placement that wins ``target`` slots with exchanges in a window."""
    model = _Window(start, market, slack)
    if model.parts > MOST_PARTS:
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
    """The exact model of all exchanges within ``slack`` of the best."""

    def __init__(self, start: state.PlacementState, market: exchange.Market, slack: float) -> None:
        self._start = start
        self._cloud = market.cloud
        self._room = _Room(start, market.cloud)
        self.program = cp_model.CpModel()
        self.parts = 0
        change: list[list[cp_model.LinearExprT]] = [[] for _ in market.cloud.kinds]
        moves: list[cp_model.LinearExprT] = []
        won: list[cp_model.LinearExprT] = []
        # For each shape: variables of what happens to both units, and of what to each.
        self._chosen: list[list[tuple[_Choice, list[list[_Choice]]]]] = []
        for i, shape in enumerate(market.cloud.shapes):
            hosts = len(shape.hosts)
            choices = []
            for both, options in market.near(i, slack):
                fit = [
                    [one for one in parts if self._room.fits(i, n, both, one)]
                    for n, parts in enumerate(options)
                ]
                if not all(fit) or not self._room.fits(i, None, both, both):
                    continue
                here = self._choice(both, hosts, change, moves)
                shift = _shift(self._cloud, both)
                units = []
                for u, parts in zip(shape.units, fit, strict=True):
                    mine = [self._choice(one, hosts, change, moves) for one in parts]
                    self.program.add(sum(one.count for one in mine) == here.count)
                    for one in mine:
                        more = self._gain(i, u, shift, one.part)
                        if more:
                            won.append(more * one.count)
                    units.append(mine)
                choices.append((here, units))
                if self.parts > MOST_PARTS:
                    return
            if choices:
                self.program.add(sum(here.count for here, _ in choices) <= hosts)
            self._chosen.append(choices)
        for terms in change:
            self.program.add(sum(terms) == 0)
        self.moves: cp_model.LinearExprT = sum(moves)
        self.won: cp_model.LinearExprT = sum(won)

    def _choice(
        self,
        part: exchange.Part,
        hosts: int,
        change: list[list[cp_model.LinearExprT]],
        moves: list[cp_model.LinearExprT],
    ) -> "_Choice":
        self.parts += 1
        count = self.program.new_int_var(0, hosts, "")
        for k, many in part.leave.items():
            change[k].append(-many * count)
            moves.append(many * count)
        for k, many in part.enter.items():
            change[k].append(many * count)
        return _Choice(part, count)

    def _gain(self, i: int, u: int, shift: int, part: exchange.Part) -> int:
        """Return the slots that a unit wins."""
        given = self._cloud
        if not given.entrances[given.shapes[i].entrance].counted:
            return 0
        before = given.units[u].free
        after = before + shift + _weight(given, part.leave) - _weight(given, part.enter)
        return after // given.slot - before // given.slot

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


def _weight(given: exchange.Cloud, counts: exchange.Counts) -> int:
    return sum(given.weight[k] * count for k, count in counts.items())


def _shift(given: exchange.Cloud, both: exchange.Part) -> int:
    return _weight(given, both.leave) - _weight(given, both.enter)


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

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
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import math
import time
from typing import Any

import numpy as np
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import solver

GIB = 1024
"""MiB."""

ROUNDS = 100
"""Most rounds of column generation; some ten are usual."""

EXACT = 1e-6
"""How near the bound and the relaxation must come."""

WINDOWS = (
    (0.0, 1),
    (0.0, 2),
    (0.0, exchange.ANY),
    (0.25, 2),
    (1.0, 2),
    (1.0, exchange.ANY),
)
"""What is tried one after another: how much less than the best an exchange is worth, in slots, and
how many instances leave a unit at most.  No window is wider than a proof needs."""

MOST_PARTS = 20_000
"""Exchanges that are listed in all; more take longer than what they are for."""

WORK = 2.0
"""Of the exact solver for all windows."""

TIDY_WORK = 0.25
"""Work for finding as good a target with fewer migrations, about half a second."""

TIDY_S = 1.5
"""Seconds that must be left for it: a proven target must not depend on where the clock cuts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """How often the relaxation makes an exchange of a shape: its units in order, then both."""

    shape: int
    parts: Sequence[exchange.Part]
    count: float


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """How many slots can be won within the limit, at most, and the prices that show it.

    ``fee`` (K,) is what it costs that one of each kind leaves, ``per_move`` of it whoever it is.
    ``chosen`` is what the relaxation does with the exchanges that were known in the end.
    """

    slots: float
    price: arrays.Floats
    per_move: float
    fee: arrays.Floats
    chosen: Sequence[Chosen] = ()

    def whole(self) -> int:
        """Return how many whole slots that is."""
        return math.floor(self.slots + EXACT)


def bound(market: exchange.Market, limit: base.Limit, meter: solver.Meter) -> Bound | None:
    """Return the bound of the relaxation, or of the best prices seen when time ends.

    Where the limit does not bind a migration costs nothing, and very many exchanges are as good as
    the best.  Then it is given a price so small that the bound allows no slot more.

    None if there was no time for any.
    """
    master = _Master(market, limit, meter)
    best = master.solve(0.0)
    if best is None:
        return None
    spare = best.whole() + 1 - best.slots
    least = spare / (2 * limit.moves) if limit.moves else 0.0
    if best.per_move < least:
        other = master.solve(least)
        # Stopped by the clock it may be looser.
        if other is not None and other.whole() == best.whole():
            return other
    return best


class _Master:
    """The relaxation with the exchanges that are known."""

    def __init__(self, market: exchange.Market, limit: base.Limit, meter: solver.Meter) -> None:
        given = market.cloud
        self._market = market
        self._limit = limit.moves
        self._most_gib = math.inf if limit.mib is None else limit.mib / GIB
        self._gib = market.cloud.mib / GIB
        self._meter = meter
        self._hosts = np.array([len(shape.hosts) for shape in given.shapes])
        self._program = pywraplp.Solver.CreateSolver("GLOP")
        free = self._program.infinity()
        self._balance = [self._program.Constraint(0.0, 0.0) for _ in given.kinds]
        self._moves = self._program.Constraint(-free, limit.moves)
        self._copied = self._program.Constraint(-free, min(self._most_gib, free))
        self._rows = [self._program.Constraint(-free, int(count)) for count in self._hosts]
        self._gain = self._program.Objective()
        self._gain.SetMaximization()
        self._known: set[object] = set()
        self._columns: list[_Column] = []
        self._latest: tuple[Chosen, ...] = ()
        self._price = np.zeros(len(given.kinds))
        self._per_move = self._per_gib = 0.0

    def solve(self, least: float) -> Bound | None:
        """Return the bound where a migration costs ``least`` and what the limit makes of it."""
        for one in self._columns:
            self._gain.SetCoefficient(one.variable, one.won - least * one.leaving)
        best: Bound | None = None
        solved, began_s = False, time.monotonic()
        for _ in range(ROUNDS):
            if self._meter.spent():
                break
            per_move = least + self._per_move
            fee = per_move + self._per_gib * self._gib
            self._market.price(self._price, fee)
            values = np.maximum(self._market.value, 0.0)
            most = per_move * self._limit + float((values * self._hosts).sum())
            if self._per_gib:
                most += self._per_gib * self._most_gib
            if best is None or most < best.slots:
                best = Bound(most, self._price, per_move, fee)
            if not self._grow(least) and solved:
                break
            if math.isfinite(self._meter.budget.left_s()):
                self._program.SetTimeLimit(max(1, round(1000 * self._meter.budget.left_s())))
            solved = self._program.Solve() == pywraplp.Solver.OPTIMAL
            if not solved:
                break
            if self._meter.budget.left_s() < time.monotonic() - began_s:
                # The next round may be cut short, and then there is nothing to read.
                self._latest = tuple(self._chosen())
            self._price = np.array([row.dual_value() for row in self._balance])
            self._per_move = max(0.0, self._moves.dual_value())
            if math.isfinite(self._most_gib):
                self._per_gib = max(0.0, self._copied.dual_value())
            if best.slots - least * self._limit - self._gain.Value() <= EXACT:
                break
        if solved:
            self._latest = tuple(self._chosen())
        return None if best is None else dataclasses.replace(best, chosen=self._latest)

    def _chosen(self) -> Iterator[Chosen]:
        """Yield what the last solution does; nothing was added since."""
        for one in self._columns:
            count = one.variable.solution_value()
            if count > EXACT:
                yield Chosen(one.shape, one.parts, count)

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
            copied = sum(self._gib[k] * n for part in parts for k, n in part.leave.items())
            self._copied.SetCoefficient(column, float(copied))
            self._rows[i].SetCoefficient(column, 1)
            *single, both = parts
            units = zip(market.cloud.shapes[i].units, single, strict=True)
            won = sum(market.won(u, both, part) for u, part in units)
            self._gain.SetCoefficient(column, won - least * leaving)
            self._columns.append(_Column(column, i, parts, won, leaving))
        return new


@dataclasses.dataclass(frozen=True, slots=True)
class _Column:
    """An exchange that is known, with the slots that it wins and how many instances leave."""

    variable: pywraplp.Variable
    shape: int
    parts: Sequence[exchange.Part]
    won: int
    leaving: int


def place(
    start: state.PlacementState,
    market: exchange.Market,
    most: Bound,
    limit: base.Limit,
    meter: solver.Meter,
) -> state.PlacementState | None:
    """Return the placement found that wins most slots, None if none was found.

    It is looked for until one wins as many as the bound allows.
    """
    target = most.whole()
    market.price(most.price, most.fee)
    budget = dataclasses.replace(meter.budget, work=min(WORK, meter.work_left()))
    mine = solver.Meter(budget, meter.seed, meter.watch)
    tried: set[tuple[float, int]] = set()
    parts = MOST_PARTS
    found, most_won = None, 0
    for slack, at_once in WINDOWS:
        window = min(slack, most.slots - target) + EXACT, at_once
        if most_won == target or parts <= 0 or mine.spent():
            break
        if window not in tried:
            tried.add(window)
            model = _Window(start, market, window, parts, mine)
            parts -= model.parts
            reached, won = _solve(model, limit, target, mine)
            if won > most_won:
                found, most_won = reached, won
    meter.work += mine.work
    return found


def _solve(
    model: "_Window", limit: base.Limit, target: int, meter: solver.Meter
) -> tuple[state.PlacementState | None, int]:
    """Look for a placement that wins ``target`` slots with the exchanges of a window.

    Return the best one and the slots it wins; None and 0 if none was found.
    """
    if not model.complete:
        return None, 0
    # A placement that must win so much is found later than one that shall win as much as it can.
    model.program.add(model.won <= target)
    model.program.add(model.moves <= limit.moves)
    if limit.mib is not None:
        model.program.add(model.mib <= limit.mib)
    model.program.maximize(model.won)
    answer = solver.solve(model.program, meter)
    if not answer.found:
        return None, 0
    won = round(answer.solver.objective_value)
    reached = model.placement(answer.solver)
    if reached is None:
        return None, 0
    if won == target and meter.budget.left_s() > TIDY_S:
        model.hint(answer.solver)
        model.program.add(model.won >= target)
        model.program.minimize(model.moves)
        answer = solver.solve(model.program, meter, TIDY_WORK)
        fewer = model.placement(answer.solver) if answer.found else None
        reached = fewer if fewer is not None else reached
    return reached, won


class _Window:
    """The exact model of all exchanges in a window around the best.

    How many hosts of each shape make each choice of instances on two cells, and how many units,
    beside such a choice, make each of their own: whose unit it is does not matter.
    """

    def __init__(
        self,
        start: state.PlacementState,
        market: exchange.Market,
        window: tuple[float, int],
        most_parts: int,
        meter: solver.Meter,
    ) -> None:
        self._start = start
        self._cloud = market.cloud
        self.program = cp_model.CpModel()
        self.complete = False
        self.parts = 0
        room = Room(start, market.cloud)
        change: list[list[cp_model.LinearExprT]] = [[] for _ in market.cloud.kinds]
        moves: list[cp_model.LinearExprT] = []
        mib: list[cp_model.LinearExprT] = []
        memory = market.cloud.mib.tolist()
        won: list[cp_model.LinearExprT] = []

        def choice(part: exchange.Part, most: int) -> _Choice:
            count = self.program.new_int_var(0, most, "")
            for k, many in part.leave.items():
                change[k].append(-many * count)
                moves.append(many * count)
                mib.append(many * memory[k] * count)
            for k, many in part.enter.items():
                change[k].append(many * count)
            return _Choice(part, count)

        near = market.near(*window, most_parts)
        if near is None:
            self.parts = most_parts
            return
        hosts: list[list[tuple[_Choice, tuple[object, ...]]]] = []
        units: dict[tuple[Any, ...], list[cp_model.IntVar]] = collections.defaultdict(list)
        most: collections.Counter[tuple[Any, ...]] = collections.Counter()
        for i, shape in enumerate(market.cloud.shapes):
            mine = []
            for both, key in near.twice[i]:
                if room.for_both(i, both):
                    one = choice(both, len(shape.hosts))
                    mine.append((one, key))
                    for u in shape.units:
                        units[u, *key].append(one.count)
                        most[u, *key] += len(shape.hosts)
            if mine:
                self.program.add(sum(one.count for one, _ in mine) <= len(shape.hosts))
            hosts.append(mine)
        self._hosts = hosts
        self._units: dict[tuple[Any, ...], list[_Choice]] = {}
        for key, counts in units.items():
            both, ways = near.single[key]
            here = []
            for part in ways:
                self.parts += 1
                if self.parts > most_parts or meter.spent():
                    return
                if not room.for_unit(key[0], both, part):
                    continue
                one = choice(part, most[key])
                here.append(one)
                more = market.won(key[0], both, part)
                if more:
                    won.append(more * one.count)
            self.program.add(sum(one.count for one in here) == sum(counts))
            self._units[key] = here
        for terms in change:
            self.program.add(sum(terms) == 0)
        self.moves: cp_model.LinearExprT = sum(moves)
        self.mib: cp_model.LinearExprT = sum(mib)
        self.won: cp_model.LinearExprT = sum(won)
        self.complete = True

    def hint(self, found: cp_model.CpSolver) -> None:
        """Give the solver a solution to start from."""
        self.program.clear_hints()
        for one in (
            *(one for mine in self._hosts for one, _ in mine),
            *(one for mine in self._units.values() for one in mine),
        ):
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

        queues = {
            key: [one.part for one in mine for _ in range(found.value(one.count))]
            for key, mine in self._units.items()
        }
        for shape, mine in zip(given.shapes, self._hosts, strict=True):
            hosts = iter(shape.hosts)
            for one, key in mine:
                for _ in range(found.value(one.count)):
                    h, cells = next(hosts)
                    take(one.part, (h, tuple(sorted(n for cell in cells for n in cell))))
                    for u, cell in zip(shape.units, cells, strict=True):
                        take(queues[u, *key].pop(), (h, cell))
        flow = kinds.Flow(tuple(leave), tuple(enter), 0, 0)
        if any(kinds.crowded(out, into) for out, into in zip(leave, enter, strict=True)):
            return None
        reached = kinds.placement(self._start, given.kinds, flow)
        return reached if sound(self._start, reached) else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Choice:
    """Something to do, and how many hosts do it."""

    part: exchange.Part
    count: cp_model.IntVar


class Room:
    """What is free beside cores, on the fullest host of each shape and the fullest of each unit.

    Only resources that cores do not imply are looked at: where all free cores can be taken, and
    exchanged, by those that ask for most of the resource for each core, it never runs out.
    """

    def __init__(self, start: state.PlacementState, given: exchange.Cloud) -> None:
        rows = np.where(start.row_of == state.NOWHERE, 0, start.row_of)
        free = (start.capacity - start.used())[rows, np.arange(rows.shape[1])]
        free = np.where(start.row_of == state.NOWHERE, 0, free)
        cell_free = start.cell_capacity - start.cell_used()
        examples = [kind.example for kind in given.kinds]
        weight = np.array(given.weight)[:, None]
        twice = np.where(given.double, 2, 1)[:, None]
        self._row_needs = start.demand[examples]
        self._needs = start.guest[examples, 0] if start.guest.shape[1] else self._row_needs
        rates, cell_rates = self._row_needs / (weight * twice), self._needs / weight
        # What may run out, and how much of it is free.
        self._row: list[dict[int, int]] = []
        least: dict[int, arrays.Ints] = {}
        self._whole: set[int] = set()
        for shape in given.shapes:
            here = free[[h for h, _ in shape.hosts]].min(axis=0)
            steps = sum(given.units[u].free for u in shape.units)
            self._row.append(_tight(here, rates, steps, given.most * len(shape.units)))
            for n, u in enumerate(shape.units):
                if shape.hosts[0][1][n]:
                    cells = [cell_free[h, places[n][0]] for h, places in shape.hosts]
                    room = np.array(cells).min(axis=0)
                else:
                    room = here
                    self._whole.add(u)
                least[u] = np.minimum(least[u], room) if u in least else room
        self._unit = {
            u: _tight(
                room, rates if u in self._whole else cell_rates, given.units[u].free, given.most
            )
            for u, room in least.items()
        }

    def for_both(self, i: int, both: exchange.Part) -> bool:
        """Whether what enters both units of a host of shape ``i`` fits."""
        return _fits(self._row[i], self._row_needs, both)

    def for_unit(self, u: int, both: exchange.Part, part: exchange.Part) -> bool:
        """Whether what enters a unit fits, beside what happens to both units of its host."""
        needs = self._row_needs if u in self._whole else self._needs
        return _fits(self._unit[u], needs, both, part)


def _fits(tight: dict[int, int], needs: arrays.Ints, *parts: exchange.Part) -> bool:
    if not tight or not any(part.enter for part in parts):
        return True
    return all(
        free
        >= sum(
            sign * count * int(needs[k, r])
            for part in parts
            for counts, sign in ((part.enter, 1), (part.leave, -1))
            for k, count in counts.items()
        )
        for r, free in tight.items()
    )


def _tight(free: arrays.Ints, rates: arrays.Floats, steps: int, most: int) -> dict[int, int]:
    """Return what is free, (R,), of the resources that may run out before ``steps`` cores do.

    ``rates`` (K, R) is what each kind takes for a core; cores may also be exchanged, ``most`` of
    them.
    """
    highest, lowest = rates.max(axis=0), rates.min(axis=0)
    enough = free >= highest * steps + (highest - lowest) * most
    return {int(r): int(free[r]) for r in np.nonzero(~enough & (highest > 0))[0]}


def sound(start: state.PlacementState, reached: state.PlacementState) -> bool:
    """Whether what arrives anywhere fits there in the end, and all groups allow it."""
    over, cell_over = reached.used() > start.capacity, reached.cell_used() > start.cell_capacity
    in_groups, groups = state.in_groups(reached), state.group_members(start)
    in_conflict = start.conflicts.broken(reached.host_of)
    for v in np.nonzero(reached.host_of != start.host_of)[0].tolist():
        h, rows = int(reached.host_of[v]), start.row_of[reached.host_of[v]]
        # Within a pool nothing arrives.
        new = np.nonzero((start.demand[v] > 0) & (rows != start.row_of[start.host_of[v]]))[0]
        if (rows[new] == state.NOWHERE).any() or over[rows[new], new].any():
            return False
        for g, n in enumerate(reached.cells_of[v, : start.guests_of[v]]):
            if cell_over[h, n][start.guest[v, g] > 0].any():
                return False
        if any(in_groups[k, h] > start.groups[k].limit for k in groups.get(v, ())):
            return False
        if in_conflict[v]:
            return False
    return True

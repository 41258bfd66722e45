# SPDX-License-Identifier: Apache-2.0
"""The linear relaxation of a goal that is a formula: a bound, and which moves are worth a look.

How many instances of each kind leave each place, and how many enter each, may be fractions; groups
are left out.  Curves are replaced by what is convex below them.  Columns for
entering are added when their prices call for them (column generation), so that thousands of kinds
on hundreds of hosts need no model of all pairs.

References
----------
Dantzig, Wolfe (1960), Decomposition principle for linear programs; the bound with prices that are
not final is Lasdon's (Optimization theory for large systems, 1970, section 3.7).
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import math

import numpy as np
from ortools.linear_solver import pywraplp

from nova_rebalancer.model import arrays
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import rooms
from nova_rebalancer.plan import solver

ROUNDS = 200
AT_ONCE = 4
"""Hosts at most for which each kind gets a column in a round."""

MOST_AT_ONCE = 4000
"""Columns added in a round at most: those with the best prices."""

CLOSE = 1e-9

LARGEST = 20_000_000
"""Kinds times hosts, at most: their prices are arrays of that size."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """No placement within the limit has a lower value; what moves would add to it.

    Attributes
    ----------
    value
        The bound.
    leave, enter
        (K, H) reduced costs of one instance of a kind leaving and entering a host; infinite where
        that cannot be.
    out, into
        How many of kind k leave and enter host h in the relaxation, by (k, h).
    """

    value: float
    leave: arrays.Floats
    enter: arrays.Floats
    out: Mapping[tuple[int, int], float]
    into: Mapping[tuple[int, int], float]


def bound(
    start: state.PlacementState,
    goal: separable.Separable,
    all_kinds: Sequence[kinds.Kind],
    meter: solver.Meter,
) -> Bound | None:
    """Return the bound; None if there was no time for any, or the cloud is too large."""
    if len(all_kinds) * len(start.hosts) > LARGEST:
        return None
    return _Master(start, goal, all_kinds, meter).solve()


class _Master:
    """The relaxation with the columns that are known.

    The rows of a term are those of the sums, by label and host, that carry something or have a
    price from the first unit on.
    """

    def __init__(
        self,
        start: state.PlacementState,
        goal: separable.Separable,
        all_kinds: Sequence[kinds.Kind],
        meter: solver.Meter,
    ) -> None:
        self._start, self._goal, self._kinds, self._meter = start, goal, all_kinds, meter
        self._limit = min(meter.budget.max_migrations, sum(kind.size for kind in all_kinds))
        self._program = pywraplp.Solver.CreateSolver("GLOP")
        self._free = self._program.infinity()
        self._cost = self._program.Objective()
        self._cost.SetMinimization()
        examples = np.array([kind.example for kind in all_kinds], dtype=np.int64)
        self._demand = start.demand[examples]
        self._allowed = start.allowed[start.eligibility_of[examples]]
        self._count = np.zeros((len(all_kinds), len(start.hosts)), dtype=np.int64)
        for k, kind in enumerate(all_kinds):
            for (h, _), here in kind.at.items():
                self._count[k, h] += len(here)
        self._examples = examples
        self._columns: dict[tuple[int, kinds.Place], pywraplp.Variable] = {}
        self._guest = start.guest[examples]
        self._ways = self._all_ways()
        self._constant = goal.formula.value(start.host_of)
        self._add_rows()
        self._terms = [
            _RoomRows(self, term, start.host_of)
            if isinstance(term, formula.Room)
            else _Rows(self, term, goal.formula)
            for term in goal.formula.terms
            if examples.size
        ]
        self._add_leaving()
        self._add_needs()

    def row(self, low: float, high: float) -> pywraplp.Constraint:
        """Add a row."""
        return self._program.Constraint(low, high)

    def column(self, most: float, cost: float) -> pywraplp.Variable:
        """Add a column from 0 to ``most``."""
        found = self._program.NumVar(0.0, most, "")
        if cost:
            self._cost.SetCoefficient(found, cost)
        return found

    def _add_rows(self) -> None:
        start, free = self._start, self._free
        self._balance = [self.row(0.0, 0.0) for _ in self._kinds]
        self._moves = self.row(-free, self._limit)
        left = start.capacity - start.used()
        self._capacity: dict[tuple[int, int], pywraplp.Constraint] = {}
        for r in np.nonzero(self._demand.any(axis=0))[0].tolist():
            for row in np.unique(start.row_of[:, r]).tolist():
                if row != state.NOWHERE:
                    # What is overfull may stay so.
                    self._capacity[row, r] = self.row(-free, max(0, int(left[row, r])))

        self._add_cells()

    def _add_cells(self) -> None:
        """Capacity of the NUMA cells, for what is asked of cells and counted by them."""
        start = self._start
        left = start.cell_capacity - start.cell_used()
        asked = np.nonzero(self._guest.any(axis=(0, 1)))[0]
        self._cells: dict[tuple[int, int, int], pywraplp.Constraint] = {}
        for h in range(len(start.hosts)):
            for n in range(int(start.cells[h])):
                for r in asked.tolist():
                    if start.cell_capacity[h, n, r] < state.UNLIMITED:
                        row = self.row(-self._free, max(0, int(left[h, n, r])))
                        self._cells[h, n, r] = row

    def _all_ways(self) -> dict[tuple[int, bool, int], list[tuple[int, ...]]]:
        """Return the cells that guests can come to, by their number, likeness and the host's."""
        found = {}
        start = self._start
        for kind in self._kinds:
            guests = int(start.guests_of[kind.example])
            for cells in np.unique(start.cells).tolist():
                ways = ledger.choices(guests, cells)
                if kind.alike:
                    ways = [way for way in ways if tuple(sorted(way)) == way]
                found[guests, kind.alike, cells] = ways
        return found

    def _charge(self, column: pywraplp.Variable, k: int, place: kinds.Place, sign: int) -> None:
        """Put one instance of kind ``k`` that enters (1) or leaves (-1) into the rows."""
        h, cells = place
        self._balance[k].SetCoefficient(column, sign)
        for r in np.nonzero(self._demand[k])[0].tolist():
            row = int(self._start.row_of[h, r])
            if row != state.NOWHERE:
                self._capacity[row, r].SetCoefficient(column, sign * int(self._demand[k, r]))
        for g, n in enumerate(cells):
            for r in np.nonzero(self._guest[k, g])[0].tolist():
                if (h, n, r) in self._cells:
                    self._cells[h, n, r].SetCoefficient(column, sign * int(self._guest[k, g, r]))

    def _add_leaving(self) -> None:
        self._leave: dict[tuple[int, kinds.Place], pywraplp.Variable] = {}
        for k, kind in enumerate(self._kinds):
            stay = -float(self._goal.formula.stay[kind.example])
            for place, here in kind.at.items():
                column = self.column(min(len(here), self._limit), stay)
                self._leave[k, place] = column
                self._charge(column, k, place, -1)
                self._moves.SetCoefficient(column, 1)
                for rows in self._terms:
                    rows.leave(k, place[0], column, len(here))

    def _add_needs(self) -> None:
        """Keep what must stay on; a goal that needs it has one term, of what is active."""
        if self._goal.needs is None or not self._terms:
            # Where nothing may move, what is on stays on.
            return
        (rows,) = self._terms
        assert isinstance(rows, _Rows)
        offered = self._goal.needs.offered
        for_good = [h for h in np.nonzero(rows.now[0])[0].tolist() if (0, h) not in rows.active]
        for r, need in enumerate(self._goal.needs.amount.tolist()):
            row = self.row(need - int(offered[for_good, r].sum()), self._free)
            for (_, h), active in rows.active.items():
                row.SetCoefficient(active, int(offered[h, r]))

    def solve(self) -> Bound | None:
        """Return the bound where prices are final, or the best on the way."""
        best: Bound | None = None
        for _ in range(ROUNDS):
            if self._meter.budget.over() or self._meter.watch.stopped():
                break
            if math.isfinite(self._meter.budget.left_s()):
                self._program.SetTimeLimit(max(1, round(1000 * self._meter.budget.left_s())))
            if self._program.Solve() != pywraplp.Solver.OPTIMAL:
                break
            enter, ways = self._prices()
            least = min(0.0, float(enter.min(initial=0.0)))
            value = self._constant + self._cost.Value() + self._limit * least
            if best is None or value > best.value:
                parts = (_amounts(self._leave), _amounts(self._columns))
                best = Bound(value, self._leaving(), enter, *parts)
            if least > -CLOSE * max(1.0, abs(self._constant)) or not self._grow(enter, ways):
                break
        return best

    def _leaving(self) -> arrays.Floats:
        found = np.full(self._count.shape, np.inf)
        for (k, (h, _)), column in self._leave.items():
            found[k, h] = min(found[k, h], column.reduced_cost())
        return found

    def _prices(self) -> tuple[arrays.Floats, arrays.Ints]:
        """Reduced cost of entering, and on which of the ways it is that, (K, H) each."""
        start = self._start
        found = np.zeros(self._count.shape)
        found -= np.array([row.dual_value() for row in self._balance])[:, None]
        for r in np.nonzero(self._demand.any(axis=0))[0].tolist():
            duals = np.zeros(len(start.capacity) + 1)
            for (row, resource), constraint in self._capacity.items():
                if resource == r:
                    duals[row] = constraint.dual_value()
            found -= self._demand[:, r, None] * duals[start.row_of[:, r]][None, :]
        for rows in self._terms:
            found += rows.entering()
        found[~self._allowed] = np.inf
        cells, ways = self._cell_prices()
        return found + cells, ways

    def _cell_prices(self) -> tuple[arrays.Floats, arrays.Ints]:
        """Return what the cheapest cells of each host cost, and which way that is, (K, H)."""
        start = self._start
        duals = np.zeros(start.cell_capacity.shape)
        for key, row in self._cells.items():
            duals[key] = -row.dual_value()
        price = np.zeros(self._count.shape)
        which = np.zeros(self._count.shape, dtype=np.int64)
        guests = start.guests_of[self._examples]
        alike = np.array([kind.alike for kind in self._kinds], dtype=bool)
        for (count, like, size), ways in self._ways.items():
            mine = np.nonzero((guests == count) & (alike == like))[0]
            hosts = np.nonzero(start.cells == size)[0]
            if not count or not mine.size or not hosts.size:
                continue
            if not ways:
                price[np.ix_(mine, hosts)] = np.inf
                continue
            # (K, G, H, N): what each guest cell costs on each host cell.
            each = np.einsum("kgr,hnr->kghn", self._guest[mine, :count], duals[hosts][:, :size])
            sums = np.stack([sum(each[:, g, :, n] for g, n in enumerate(way)) for way in ways])
            price[np.ix_(mine, hosts)] = sums.min(axis=0)
            which[np.ix_(mine, hosts)] = sums.argmin(axis=0)
        return price, which

    def _grow(self, enter: arrays.Floats, ways: arrays.Ints) -> bool:
        """Add the columns with the best prices; whether any is new."""
        some = min(AT_ONCE, enter.shape[1])
        hosts = np.argpartition(enter, some - 1, axis=1)[:, :some]
        k = np.repeat(np.arange(enter.shape[0]), some)
        h = hosts.ravel()
        price = enter[k, h]
        order = np.argsort(price, kind="stable")[:MOST_AT_ONCE]
        new = False
        for j in order.tolist():
            if price[j] >= -CLOSE:
                break
            mine, there = int(k[j]), int(h[j])
            cells = self._cells_of(mine, there, int(ways[mine, there]))
            key = mine, (there, cells)
            if key not in self._columns:
                self._columns[key] = self._enter(*key)
                new = True
        return new

    def _cells_of(self, k: int, h: int, way: int) -> tuple[int, ...]:
        kind, start = self._kinds[k], self._start
        key = int(start.guests_of[kind.example]), kind.alike, int(start.cells[h])
        return self._ways[key][way]

    def _enter(self, k: int, place: kinds.Place) -> pywraplp.Variable:
        cost = sum(rows.first(k, place[0]) for rows in self._terms)
        column = self.column(min(self._limit, self._kinds[k].size), cost)
        self._charge(column, k, place, 1)
        for rows in self._terms:
            rows.enter(k, place[0], column)
        return column


def _amounts(
    columns: Mapping[tuple[int, kinds.Place], pywraplp.Variable],
) -> dict[tuple[int, int], float]:
    """Return the values of columns that are not 0, summed over the cells of each host."""
    values: dict[tuple[int, int], float] = {}
    for (k, (h, _)), column in columns.items():
        value = column.solution_value()
        if value > CLOSE:
            values[k, h] = values.get((k, h), 0.0) + value
    return values


_Change = Callable[[arrays.Ints, arrays.Ints, int], arrays.Floats]


class _Rows:
    """The rows of one term."""

    def __init__(self, master: _Master, term: formula.Term, whole: formula.Formula) -> None:
        self._master = master
        self._curve = term.curve
        self._amount = term.amount[master._examples]
        self._label = term.label[master._examples]
        self.now = term.carried(whole.home)
        self._lines: dict[tuple[int, int], list[tuple[pywraplp.Constraint, float]]] = {}
        self.active: dict[tuple[int, int], pywraplp.Variable] = {}
        self._upper: dict[tuple[int, int], pywraplp.Constraint] = {}
        leaving = np.zeros_like(self.now)
        for k in np.nonzero(self._amount)[0].tolist():
            leaving[self._label[k]] += self._amount[k] * master._count[k]
        # What could come together in one place.
        self._most = np.zeros(term.labels)
        np.add.at(
            self._most,
            self._label,
            self._amount * np.minimum(master._limit, master._count.sum(axis=1)),
        )
        if isinstance(self._curve, formula.Any):
            # Where something must remain, it also counts what is switched on for it.
            counted = (self.now > 0) | (master._goal.needs is not None)
            for label, h in zip(*np.nonzero(counted), strict=True):
                self._add_active(int(label), int(h), bool(leaving[label, h] >= self.now[label, h]))
            return
        carrying = np.nonzero(self._most)[0].tolist()
        for label in carrying:
            for h in range(self.now.shape[1]):
                self._add_lines(label, h)

    def _price(self, h: int) -> float:
        assert isinstance(self._curve, formula.Any)
        return float(self._curve.price[h])

    def _add_active(self, label: int, h: int, may_end: bool) -> None:
        """Let a sum that is, or may become, nothing have no price."""
        if may_end and self._price(h):
            self.active[label, h] = active = self._master.column(1.0, self._price(h))
            self._master._constant -= self._price(h) * (self.now[label, h] > 0)
            self._upper[label, h] = upper = self._master.row(-self._master._free, 0.0)
            upper.SetCoefficient(active, -float(self._most[label]))

    def _add_lines(self, label: int, h: int) -> None:
        """Add a cost above the lines below the curve."""
        master, now = self._master, int(self.now[label, h])
        here = float(self._curve.at(np.array([now]), np.array([h]))[0])
        if isinstance(self._curve, formula.Excess):
            price, limit = float(self._curve.price[h]), float(self._curve.limit[h])
            if not price:
                return
            lines = [(price, price * (now - limit))]
            if limit % 1:
                # What is carried is whole: the first unit above costs a part, all others one.
                part = price * (1 - limit % 1)
                lines.append((part, part * (now - math.floor(limit))))
        else:
            assert isinstance(self._curve, formula.Pieces)
            lines = [
                (slope, y + slope * (now - x))
                for slope, x, y in _hull(
                    self._curve.xs[h], self._curve.ys[h], now + self._most[label]
                )
            ]
        cost = master.column(master._free, 1.0)
        master._constant -= here
        rows = []
        for slope, at_now in lines:
            row = master.row(at_now, master._free)
            row.SetCoefficient(cost, 1.0)
            rows.append((row, slope))
        self._lines[label, h] = rows

    def leave(self, k: int, h: int, column: pywraplp.Variable, count: int) -> None:
        """Put one leaving instance of kind ``k`` into the rows; ``count`` are there."""
        amount, label = float(self._amount[k]), int(self._label[k])
        if not amount:
            return
        for row, slope in self._lines.get((label, h), ()):
            row.SetCoefficient(column, slope * amount)
        active = self.active.get((label, h))
        if active is not None:
            # As long as any of a kind is there, the sum is not nothing.
            row = self._master.row(count, self._master._free)
            row.SetCoefficient(column, 1.0)
            row.SetCoefficient(active, count)

    def first(self, k: int, h: int) -> float:
        """Cost of one more of kind ``k`` where there was nothing: a share of the price."""
        amount, label = float(self._amount[k]), int(self._label[k])
        if not amount or not isinstance(self._curve, formula.Any):
            return 0.0
        if self.now[label, h] or (label, h) in self.active:
            return 0.0
        return self._price(h) * amount / max(1.0, float(self._most[label]))

    def enter(self, k: int, h: int, column: pywraplp.Variable) -> None:
        """Put one entering instance of kind ``k`` into the rows."""
        amount, label = float(self._amount[k]), int(self._label[k])
        if not amount:
            return
        for row, slope in self._lines.get((label, h), ()):
            row.SetCoefficient(column, -slope * amount)
        if (label, h) in self._upper:
            self._upper[label, h].SetCoefficient(column, amount)

    def entering(self) -> arrays.Floats:
        """Return what entering costs by the prices of the rows, (K, H)."""
        duals = np.zeros(self.now.shape)
        if isinstance(self._curve, formula.Any):
            price = self._curve.price[None, :] / np.maximum(1.0, self._most)[:, None]
            duals = np.where(self.now > 0, 0.0, price)
        for (label, h), rows in self._lines.items():
            duals[label, h] = sum(slope * row.dual_value() for row, slope in rows)
        for (label, h), row in self._upper.items():
            duals[label, h] = -row.dual_value()
        found: arrays.Floats = self._amount[:, None] * duals[self._label]
        return found


class _RoomRows:
    """The rows of the room for a size: on each host no more than each amount allows."""

    def __init__(self, master: _Master, room: formula.Room, home: arrays.Ints) -> None:
        self._amount, self._need = room.amount[master._examples], room.need.tolist()
        carried = room.carried(home)
        self._free = np.maximum(0, room.capacity - carried)
        hosts = np.nonzero(room.counted)[0].tolist() if room.each_costs else []
        # In place of the room there is now, a column for that of each host.
        master._constant += room.each_costs * float(room.slots(carried)[hosts].sum())
        columns = {h: master.column(master._free, -room.each_costs) for h in hosts}
        self._rows: dict[tuple[int, _Change], dict[int, pywraplp.Constraint]] = {}
        for a, need in enumerate(self._need):
            free = self._free[:, a]
            for change, most in ((rooms.straight, free / need), (rooms.rounded, free // need)):
                rows = {h: master.row(-master._free, float(most[h])) for h in hosts}
                for h, row in rows.items():
                    row.SetCoefficient(columns[h], 1.0)
                self._rows[a, change] = rows

    def _put(self, k: int, h: int, column: pywraplp.Variable, sign: int) -> None:
        amount, one = sign * self._amount[k : k + 1], slice(h, h + 1)
        for (a, change), rows in self._rows.items():
            if h in rows and amount[0, a]:
                by = change(amount[:, a], self._free[one, a], self._need[a])
                rows[h].SetCoefficient(column, -float(by[0, 0]))

    def leave(self, k: int, h: int, column: pywraplp.Variable, count: int) -> None:
        """Put one leaving instance of kind ``k`` into the rows."""
        self._put(k, h, column, -1)

    def first(self, k: int, h: int) -> float:
        """Cost of one more of kind ``k`` beside the rows: none."""
        return 0.0

    def enter(self, k: int, h: int, column: pywraplp.Variable) -> None:
        """Put one entering instance of kind ``k`` into the rows."""
        self._put(k, h, column, 1)

    def entering(self) -> arrays.Floats:
        """Return what entering costs by the prices of the rows, (K, H)."""
        found = np.zeros((len(self._amount), len(self._free)))
        for (a, change), rows in self._rows.items():
            duals = np.zeros(len(self._free))
            for h, row in rows.items():
                duals[h] = row.dual_value()
            if duals.any():
                found += change(self._amount[:, a], self._free[:, a], self._need[a]) * duals
        return found


def _hull(xs: arrays.Ints, ys: arrays.Floats, most: float) -> list[tuple[float, float, float]]:
    """Return the lines (slope, x, y) of the lower convex hull of points, on to ``most``."""
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    if most > points[-1][0]:
        (x0, y0), (x1, y1) = points[-2:]
        points.append((most, y1 + (most - x1) * (y1 - y0) / (x1 - x0)))
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (y1 - y0) * (x - x0) <= (y - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append((x, y))
    return [((y1 - y0) / (x1 - x0), x0, y0) for (x0, y0), (x1, y1) in itertools.pairwise(hull)]

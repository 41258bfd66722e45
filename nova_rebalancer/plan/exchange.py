# SPDX-License-Identifier: Apache-2.0
"""Hosts as the pattern model sees them, and what they can exchange at given prices.

A *unit* is where cores are counted: a NUMA cell, or a host without cells.  An *exchange* of a unit
is which instances leave it and which enter it; instances on two cells shift both units of their
host alike.  Units that hold the same stand for each other, and so do hosts with such units, which
are of one *shape*.

At a price for every kind, the best exchange of a shape is a knapsack over its free cores, solved
exactly by dynamic programming for all shapes at once.  Memory, groups and everything else but
cores is left out of it, so what it finds can be too good and never too bad: it serves bounds.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.plan import base
from nova_rebalancer.plan import kinds

NEVER = -1e18
"""The value of what cannot be."""

CLOSE = 1e-9

LARGEST = 1024
"""Most steps that the free cores of a unit may be counted in."""

MOST_WORK = 5_000_000
"""Most numbers that one pricing may fill, a fraction of a second."""

ANY = 1 << 30
"""As many as one likes."""

Counts = dict[int, int]
"""How many of each kind."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Hosts that hold the same.

    Attributes
    ----------
    hosts
        With each, the cells of its units in the shape's order (``()`` for a host without cells).
    units
        Indices of its units; two may be the same.
    doubles
        How many of each kind it holds on two cells.
    entrance
        What may enter it, as an index.
    """

    hosts: tuple[tuple[int, tuple[tuple[int, ...], ...]], ...]
    units: tuple[int, ...]
    doubles: Counts
    entrance: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """Free cores, in steps, how many of each kind it holds for itself, and its entrance."""

    free: int
    held: Counts
    entrance: int


@dataclasses.dataclass(frozen=True, slots=True)
class Entrance:
    """Kinds that may enter, and whether free cores there count as slots."""

    kinds: frozenset[int]
    counted: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Cloud:
    """A state as shapes.

    ``weight`` is what an instance of each kind takes of every unit it is on, in steps; ``double``
    says which kinds are on two cells; ``slots`` how many slots there are in so many free steps, up
    to the ``most`` that could be free in a unit; ``mib`` (K,) is the memory of an instance.
    """

    kinds: Sequence[kinds.Kind]
    shapes: Sequence[Shape]
    units: Sequence[Unit]
    entrances: Sequence[Entrance]
    weight: Sequence[int]
    double: Sequence[bool]
    slots: Sequence[int]
    most: int
    mib: arrays.Ints

    def slots_of(self, i: int) -> int:
        """Return the slots of a host of shape ``i`` as it is."""
        shape = self.shapes[i]
        if not self.entrances[shape.entrance].counted:
            return 0
        return sum(self.slots[self.units[u].free] for u in shape.units)


def cloud(start: state.PlacementState, cores: Sequence[int]) -> Cloud | None:
    """Return ``start`` as shapes, with slots of each of ``cores``.

    None where cores are not all that such exchanges change.  That is where nothing with cores may
    move, where an instance is on more than two cells, on two that are not alike, on unknown ones or
    possibly on a host of more than two, where an instance without topology may come to a host with
    cells, where cores are counted in several resources, shared by hosts or not counted by a cell,
    where a unit is overfull, and where pricing would take long.  Hosts that are not usable play no
    part: nothing leaves or enters them.
    """
    hosts = np.nonzero(start.usable)[0].tolist()
    resources = {int(r) for r in start.core[hosts] if r != state.NOWHERE}
    if len(resources) != 1 or not start.usable[start.host_of[start.movable]].all():
        return None
    (r,) = resources
    used, cell_used, topologyless = start.used(), start.cell_used(), start.topologyless()
    free: dict[int, list[int]] = {}
    for h in hosts:
        if start.cells[h] > 0:
            room = start.cell_capacity[h, : start.cells[h], r] - cell_used[h, : start.cells[h], r]
            uncounted = (start.cell_capacity[h, : start.cells[h], r] >= state.UNLIMITED).any()
            if uncounted or topologyless[h] > 0:
                return None
        else:
            row = int(start.row_of[h, r])
            if row >= len(start.hosts):
                return None
            room = np.array([0 if row == state.NOWHERE else start.capacity[row, r] - used[row, r]])
        if (room < 0).any():
            return None
        free[h] = room.tolist()
    found, weight = [], []
    for kind in kinds.kinds(start):
        v = kind.example
        guests = int(start.guests_of[v])
        allowed = start.cells[start.allowed[start.eligibility_of[v]]]
        places = [*allowed.tolist(), *(int(start.cells[h]) for h, _ in kind.at)]
        if guests == 0 and any(places):
            # One without cores makes many units into one, too.
            return None
        if start.demand[v, r] == 0:
            continue
        if guests > 2 or (guests == 2 and not (kind.alike and all(n <= 2 for n in places))):
            return None
        if guests and any(not cells or state.NOWHERE in cells for _, cells in kind.at):
            return None
        weight.append(int(start.guest[v, 0, r]) if guests else int(start.demand[v, r]))
        found.append(kind)
    if not found or not all(weight):
        return None
    return _shapes(start, cores, found, weight, free)


def _shapes(
    start: state.PlacementState,
    cores: Sequence[int],
    found: Sequence[kinds.Kind],
    weight: Sequence[int],
    free: dict[int, list[int]],
) -> Cloud | None:
    step = math.gcd(*cores, *weight, *(cell for cells in free.values() for cell in cells))
    double = [int(start.guests_of[kind.example]) == 2 for kind in found]
    held: dict[tuple[int, int], Counts] = collections.defaultdict(dict)
    doubles: dict[int, Counts] = collections.defaultdict(dict)
    for k, kind in enumerate(found):
        for (h, cells), who in kind.at.items():
            here = doubles[h] if double[k] else held[h, cells[0] if cells else 0]
            here[k] = here.get(k, 0) + len(who)
    may = np.array([start.allowed[start.eligibility_of[kind.example]] for kind in found])
    entrances: dict[Entrance, int] = {}
    units: list[Unit] = []
    number: dict[object, int] = {}
    hosts: dict[
        tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]],
        list[tuple[int, tuple[tuple[int, ...], ...]]],
    ] = {}
    for h, rooms in free.items():
        counted = bool(start.core[h] != state.NOWHERE)
        cells = int(start.cells[h])
        entrance = Entrance(
            frozenset(k for k in np.nonzero(may[:, h])[0].tolist() if not double[k] or cells == 2),
            counted,
        )
        e = entrances.setdefault(entrance, len(entrances))
        order = sorted(
            range(len(rooms)), key=lambda n: (rooms[n], sorted(held.get((h, n), {}).items()))
        )
        mine = []
        for n in order:
            unit = Unit(rooms[n] // step, held.get((h, n), {}), e)
            same = (unit.free, tuple(sorted(unit.held.items())), e)
            if same not in number:
                number[same] = len(units)
                units.append(unit)
            mine.append(number[same])
        key = (e, tuple(mine), tuple(sorted(doubles.get(h, {}).items())))
        hosts.setdefault(key, []).append((h, tuple((n,) if cells else () for n in order)))
    shapes = [Shape(tuple(here), mine, dict(twice), e) for (e, mine, twice), here in hosts.items()]
    steps = [amount // step for amount in weight]
    most = max(
        unit.free
        + sum(steps[k] * count for k, count in unit.held.items())
        + sum(steps[k] * count for k, count in shape.doubles.items())
        for shape in shapes
        for unit in (units[u] for u in shape.units)
    )
    work = len(units) * (most + 1) * (2 * most + 1 if any(double) else 1)
    if most > LARGEST or work > MOST_WORK:
        return None
    slots = [sum(amount * step // x for x in cores) for amount in range(most + 1)]
    mib = base.memories(start)[[kind.example for kind in found]]
    return Cloud(found, shapes, units, tuple(entrances), steps, double, slots, most, mib)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What leaves and enters one unit, or both; ``value`` at the prices it was found for."""

    leave: Counts
    enter: Counts
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Near:
    """Exchanges near the best: for each shape what may leave and enter both units, with a key.

    ``single`` gives for a unit and such a key what goes on in both units and, once, what may leave
    and enter the one.
    """

    twice: list[list[tuple[Part, tuple[object, ...]]]]
    single: dict[tuple[Any, ...], tuple[Part, Iterator[Part]]]


class _Leaving:
    """Most value that can be had by letting exactly so many cores leave, for each holder.

    ``tables[j]`` (rows, C + 1) uses the first j kinds of each holder.
    """

    def __init__(self, holders: Sequence[Counts], weight: Sequence[int], most: int) -> None:
        self._holders = [sorted(one.items()) for one in holders]
        self._weight_of = weight
        longest = max((len(one) for one in self._holders), default=0)
        shape = (len(holders), longest)
        self._kind = np.zeros(shape, dtype=np.int64)
        self._count = np.zeros(shape, dtype=np.int64)
        self._weight = np.ones(shape, dtype=np.int64)
        for row, one in enumerate(self._holders):
            for j, (k, count) in enumerate(one):
                self._kind[row, j], self._count[row, j] = k, count
                self._weight[row, j] = weight[k]
        self._columns = np.arange(most + 1)
        self.tables: list[arrays.Floats] = []
        self._value = np.zeros(0)

    def price(self, value: arrays.Floats) -> None:
        """Fill the tables for the value of letting one of each kind leave."""
        self._value = value
        rows = self._kind.shape[0]
        table = np.full((rows, self._columns.size), NEVER)
        table[:, 0] = 0.0
        self.tables = [table]
        for j in range(self._kind.shape[1]):
            before, table = table, table.copy()
            for count in range(1, int(self._count[:, j].max()) + 1):
                come_from = self._columns - (count * self._weight[:, j])[:, None]
                fits = (come_from >= 0) & (self._count[:, j] >= count)[:, None]
                if not fits.any():
                    break
                more = np.take_along_axis(before, np.maximum(come_from, 0), axis=1)
                more += (count * value[self._kind[:, j]])[:, None]
                np.maximum(table, np.where(fits, more, NEVER), out=table)
            self.tables.append(table)

    def ways(
        self, row: int, amount: int, least: float, most: int
    ) -> Iterator[tuple[Counts, float]]:
        """Yield choices of ``amount`` cores and at most ``most`` instances worth ``least``."""
        best = [table[row] for table in self.tables]
        known = self._holders[row]
        return _choices(known, self._weight_of, self._value, best, amount, least, most)


class _Entering:
    """The same for what may enter, at each entrance, as many of a kind as one likes."""

    def __init__(
        self, entrances: Sequence[Sequence[int]], weight: Sequence[int], most: int
    ) -> None:
        self._entrances = entrances
        self._weight = weight
        self._most = most
        self.table = np.zeros((len(entrances), most + 1))
        self._tables: dict[int, list[list[float]]] = {}
        self._value = np.zeros(0)
        self._known = np.zeros((len(entrances), len(weight)), dtype=bool)
        for e, known in enumerate(entrances):
            self._known[e, list(known)] = True
        self._alike: dict[int, list[int]] = collections.defaultdict(list)
        for k, one in enumerate(weight):
            if self._known[:, k].any():
                self._alike[one].append(k)

    def price(self, value: arrays.Floats) -> None:
        """Fill the table for the value of letting one of each kind enter."""
        self._value = value
        self._tables = {}
        # Of kinds that weigh the same only the dearest matters.
        best = {
            weight: np.where(self._known[:, alike], value[alike], NEVER).max(axis=1)
            for weight, alike in self._alike.items()
        }
        self.table = np.full((len(self._entrances), self._most + 1), NEVER)
        self.table[:, 0] = 0.0
        for amount in range(1, self._most + 1):
            for weight, worth in best.items():
                if weight <= amount:
                    with_it = self.table[:, amount - weight] + worth
                    np.maximum(self.table[:, amount], with_it, out=self.table[:, amount])

    def _prefixes(self, e: int) -> list[list[float]]:
        """Return tables like ``table[e]`` that use the first kinds only."""
        if e not in self._tables:
            row = [0.0] + [NEVER] * self._most
            rows = [row]
            for k in self._entrances[e]:
                row = row.copy()
                weight, worth = self._weight[k], float(self._value[k])
                for amount in range(weight, self._most + 1):
                    row[amount] = max(row[amount], row[amount - weight] + worth)
                rows.append(row)
            self._tables[e] = rows
        return self._tables[e]

    def ways(self, e: int, amount: int, least: float, most: int) -> Iterator[tuple[Counts, float]]:
        """Yield choices of ``amount`` cores and at most ``most`` instances worth ``least``."""
        known = [(k, ANY) for k in self._entrances[e]]
        best = self._prefixes(e)
        return _choices(known, self._weight, self._value, best, amount, least, most)


def _choices(
    known: Sequence[tuple[int, int]],
    weight: Sequence[int],
    value: arrays.Floats,
    best: Sequence[Sequence[float] | arrays.Floats],
    amount: int,
    least: float,
    most: int,
) -> Iterator[tuple[Counts, float]]:
    """Yield choices of exactly ``amount`` cores that are worth ``least`` or more, and their worth.

    ``known`` are kinds and how many there are of each; ``best[j]`` is what so many cores are worth
    at most with the first j of them, which keeps the search to what leads somewhere.
    """
    chosen: Counts = {}

    def choose(j: int, left: int, worth: float, most: int) -> Iterator[tuple[Counts, float]]:
        if left == 0:
            yield dict(chosen), worth
            return
        if most == 0:
            return
        # The next kind that is taken is the i-th; those between are not.
        for i in range(j, 0, -1):
            if best[i][left] + worth < least - CLOSE:
                return
            k, count = known[i - 1]
            for c in range(1, min(count, left // weight[k], most) + 1):
                now = worth + c * float(value[k])
                if best[i - 1][left - c * weight[k]] + now >= least - CLOSE:
                    chosen[k] = c
                    yield from choose(i - 1, left - c * weight[k], now, most - c)
                    del chosen[k]

    if amount or least <= CLOSE:
        yield from choose(len(known), amount, 0.0, most)


class Market:
    """The best exchanges of all shapes at prices that change.

    After ``price``, ``value`` (S,) is what the best exchange of a host of each shape is worth.
    The empty exchange is one of them.
    """

    def __init__(self, given: Cloud) -> None:
        self.cloud = given
        weight, most = given.weight, given.most
        self._out = _Leaving([unit.held for unit in given.units], weight, most)
        self._out_twice = _Leaving([shape.doubles for shape in given.shapes], weight, most)
        single = [[k for k in sorted(one.kinds) if not given.double[k]] for one in given.entrances]
        twice = [[k for k in sorted(one.kinds) if given.double[k]] for one in given.entrances]
        self._in = _Entering(single, weight, most)
        self._in_twice = _Entering(twice, weight, most)
        self._entrance = np.array([shape.entrance for shape in given.shapes])
        self._counted = np.array([one.counted for one in given.entrances])
        self._of_unit = np.array([unit.entrance for unit in given.units])
        self._units = np.array([u for shape in given.shapes for u in shape.units])
        sizes = [len(shape.units) for shape in given.shapes]
        self._first = np.cumsum([0, *sizes[:-1]])
        self._free = np.array([unit.free for unit in given.units], dtype=np.int64)
        self._slots = np.array([given.slots_of(i) for i in range(len(given.shapes))])
        self.value = np.zeros(len(given.shapes))

    def price(self, price: arrays.Floats, fee: arrays.Floats) -> None:
        """Value all exchanges.

        A slot is worth 1, an instance that leaves brings ``price`` of its kind less its ``fee``,
        both (K,), and one that enters costs the price.
        """
        for leaving in (self._out, self._out_twice):
            leaving.price(price - fee)
        for entering in (self._in, self._in_twice):
            entering.price(-price)
        most = self.cloud.most
        # Worth of so many free cores at each entrance, with what had best enter there.
        rest = np.full((len(self.cloud.entrances), most + 1), NEVER)
        slots = np.array(self.cloud.slots)
        for taken in range(most + 1):
            left = slots[: most + 1 - taken] * self._counted[:, None]
            np.maximum(rest[:, taken:], self._in.table[:, taken, None] + left, out=rest[:, taken:])
        self._rest = rest
        # Shifts of both units by instances on two cells, from -most to most.
        shift = np.full((len(self.cloud.shapes), 2 * most + 1), NEVER)
        twice = self._in_twice.table[self._entrance]
        for taken in range(most + 1):
            if (twice[:, taken] <= NEVER / 2).all():
                continue
            here = shift[:, most - taken : 2 * most + 1 - taken]
            np.maximum(here, self._out_twice.tables[-1] + twice[:, taken, None], out=here)
        self._shift = shift
        self._unit: dict[int, arrays.Floats] = {}
        self._found: dict[tuple[int, int], Part] = {}
        self._total = np.full(shift.shape, NEVER)
        for s in np.nonzero((shift > NEVER / 2).any(axis=0))[0].tolist():
            unit = self._of_units(s - most)
            self._unit[s - most] = unit
            total = np.add.reduceat(unit[self._units], self._first)
            self._total[:, s] = np.maximum(shift[:, s] + total, NEVER)
        self._best = self._total.argmax(axis=1)
        self.value = self._total.max(axis=1) - self._slots

    def _of_units(self, shift: int) -> arrays.Floats:
        """Return the best worth of each unit (U,) when so many cores more are free there."""
        amounts = np.arange(self.cloud.most + 1)
        free = (self._free + shift)[:, None] + amounts
        fits = (free >= 0) & (free <= self.cloud.most)
        rest = self._rest[self._of_unit[:, None], np.clip(free, 0, self.cloud.most)]
        worth = np.where(fits, self._out.tables[-1] + rest, NEVER)
        best: arrays.Floats = worth.max(axis=1)
        return best

    def best(self, i: int) -> list[Part]:
        """Return the best exchange of shape ``i``: its units in order, then both of them."""
        shift = int(self._best[i]) - self.cloud.most
        parts = [self._best_of_unit(u, shift) for u in self.cloud.shapes[i].units]
        least = float(self._shift[i, self._best[i]])
        return [*parts, next(self._shift_ways(i, shift, least))]

    def _best_of_unit(self, u: int, shift: int) -> Part:
        # Many shapes have the same units.
        if (u, shift) not in self._found:
            self._found[u, shift] = next(self._unit_ways(u, shift, float(self._unit[shift][u])))
        return self._found[u, shift]

    def won(self, u: int, *parts: Part) -> int:
        """Return the slots that a unit wins."""
        given = self.cloud
        unit = given.units[u]
        if not given.entrances[unit.entrance].counted:
            return 0
        after = unit.free + sum(
            sign * given.weight[k] * count
            for part in parts
            for sign, counts in ((1, part.leave), (-1, part.enter))
            for k, count in counts.items()
        )
        return given.slots[after] - given.slots[unit.free]

    def near(self, slack: float, at_once: int = ANY, most: int = ANY) -> Near | None:
        """Return all exchanges that are worth at most ``slack`` less than the best of their shape.

        Each is a choice of instances on two cells, and one for each unit.  No choice lets more
        than ``at_once`` instances leave and one more enter.  None if there are more than ``most``
        of the former.
        """
        twice: list[list[tuple[Part, tuple[object, ...]]]] = []
        least_of: dict[tuple[object, ...], float] = {}
        shift_of: dict[tuple[object, ...], tuple[int, Part]] = {}
        for i, shape in enumerate(self.cloud.shapes):
            least = float(max(self.value[i], 0.0)) + float(self._slots[i]) - slack
            here: list[tuple[Part, tuple[object, ...]]] = []
            for s in np.nonzero(self._total[i] >= least - CLOSE)[0].tolist():
                shift = s - self.cloud.most
                unit = [float(self._unit[shift][u]) for u in shape.units]
                for both in self._shift_ways(i, shift, least - sum(unit), at_once):
                    key = (tuple(sorted(both.leave.items())), tuple(sorted(both.enter.items())))
                    here.append((both, key))
                    most -= 1
                    if most < 0:
                        return None
                    for u, mine in zip(shape.units, unit, strict=True):
                        needed = least - both.value - (sum(unit) - mine)
                        least_of[u, *key] = min(least_of.get((u, *key), math.inf), needed)
                        shift_of[u, *key] = shift, both
            twice.append(here)
        single = {
            key: (both, self._unit_ways(key[0], shift, least_of[key], at_once))
            for key, (shift, both) in shift_of.items()
        }
        return Near(twice, single)

    def _unit_ways(self, u: int, shift: int, least: float, at_once: int = ANY) -> Iterator[Part]:
        """Yield exchanges of a unit that are worth ``least`` or more, the slots left included."""
        free, most, e = int(self._free[u]) + shift, self.cloud.most, int(self._of_unit[u])
        out, counted = self._out.tables[-1][u], bool(self._counted[e])
        for leave in range(max(0, -free), min(most - free, most) + 1):
            if out[leave] + self._rest[e, free + leave] < least - CLOSE:
                continue
            for enter in range(free + leave + 1):
                slots = self.cloud.slots[free + leave - enter] * counted
                into = float(self._in.table[e, enter])
                if out[leave] + into + slots < least - CLOSE:
                    continue
                for gone, worth in self._out.ways(u, leave, least - into - slots, at_once):
                    for come, paid in self._in.ways(e, enter, least - worth - slots, at_once + 1):
                        # What leaves and enters the same unit need not move at all.
                        if gone.keys().isdisjoint(come):
                            yield Part(gone, come, worth + paid + slots)

    def _shift_ways(self, i: int, shift: int, least: float, at_once: int = ANY) -> Iterator[Part]:
        """Yield choices of instances on two cells that shift the units of shape ``i`` so far."""
        e = self.cloud.shapes[i].entrance
        out, table = self._out_twice.tables[-1][i], self._in_twice.table[e]
        for leave in range(max(0, shift), min(self.cloud.most, self.cloud.most + shift) + 1):
            enter = leave - shift
            if out[leave] + table[enter] < least - CLOSE:
                continue
            for gone, worth in self._out_twice.ways(i, leave, least - float(table[enter]), at_once):
                for come, paid in self._in_twice.ways(e, enter, least - worth, at_once + 1):
                    if gone.keys().isdisjoint(come):
                        yield Part(gone, come, worth + paid)

# SPDX-License-Identifier: Apache-2.0
"""What most goals are made of: a price for what each host carries.

A formula is a sum of terms.  Each term adds up an amount of the instances on a host, for each label
by itself where it has labels, and puts a price on the sum; or several amounts, and puts a price on
what is missing of the room for one more of a size.  From the same formula come the value, what one
migration changes, and the rows of the planners' models.

Axes: V instances, H hosts, L labels of a term, B points of a curve, A amounts of a size.
"""

import dataclasses
from typing import Protocol

import numpy as np

from nova_rebalancer.model import arrays


class Curve(Protocol):
    """The price of an amount on a host, per host."""

    def at(self, amount: arrays.Ints, h: arrays.Ints) -> arrays.Floats:
        """Return the price of ``amount`` on hosts ``h``; the two broadcast."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Excess:
    """``price`` (H,) for what is above ``limit`` (H,), for each unit and host; price >= 0."""

    limit: arrays.Ints | arrays.Floats
    price: arrays.Floats

    def at(self, amount: arrays.Ints, h: arrays.Ints) -> arrays.Floats:
        """Return the price of ``amount`` on hosts ``h``."""
        found: arrays.Floats = self.price[h] * np.maximum(0, amount - self.limit[h])
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Any:
    """``price`` (H,) as soon as there is anything; price >= 0."""

    price: arrays.Floats

    def at(self, amount: arrays.Ints, h: arrays.Ints) -> arrays.Floats:
        """Return the price of ``amount`` on hosts ``h``."""
        found: arrays.Floats = self.price[h] * (amount > 0)
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Straight between points, and on as at the last; points of (H, B), B >= 2.

    ``xs`` start at 0 and grow strictly; ``ys`` may bend either way.
    """

    xs: arrays.Ints
    ys: arrays.Floats

    def at(self, amount: arrays.Ints, h: arrays.Ints) -> arrays.Floats:
        """Return the price of ``amount`` on hosts ``h``."""
        amount, h = np.broadcast_arrays(amount, h)
        xs, ys = self.xs[h], self.ys[h]
        k = np.clip((amount[..., None] >= xs).sum(axis=-1) - 1, 0, xs.shape[-1] - 2)[..., None]
        x0, x1 = (np.take_along_axis(xs, k + i, axis=-1)[..., 0] for i in (0, 1))
        y0, y1 = (np.take_along_axis(ys, k + i, axis=-1)[..., 0] for i in (0, 1))
        found: arrays.Floats = y0 + (amount - x0) * (y1 - y0) / (x1 - x0)
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Term:
    """The prices of what hosts carry of one amount.

    Attributes
    ----------
    amount
        (V,) what each instance adds where it is, >= 0.
    base
        (H,) what is there whatever moves; only for terms of one label.
    curve
        The price.
    label
        (V,) which sum an instance adds to, in [0, labels).
    labels
        L, how many sums each host has.
    """

    amount: arrays.Ints
    base: arrays.Ints
    curve: Curve
    label: arrays.Ints
    labels: int = 1

    def carried(self, host_of: arrays.Ints) -> arrays.Ints:
        """Return what each host carries, (L, H)."""
        found = np.zeros((self.labels, self.base.size), dtype=np.int64)
        np.add.at(found, (self.label, host_of), self.amount)
        return found + self.base

    def price(self, carried: arrays.Ints) -> float:
        """Return the price of what is carried, (L, H)."""
        return float(self.by_host(carried).sum())

    def by_host(self, carried: arrays.Ints) -> arrays.Floats:
        """Return each host's part in the price, (H,)."""
        found: arrays.Floats = self.curve.at(carried, np.arange(self.base.size)).sum(axis=0)
        return found

    def change(
        self, carried: arrays.Ints, v: arrays.Ints, h: arrays.Ints, sign: int
    ) -> arrays.Floats:
        """Return what the price changes if ``v`` came to (1) or left (-1) ``h``; they broadcast."""
        now = carried[self.label[v], h]
        return self.curve.at(now + sign * self.amount[v], h) - self.curve.at(now, h)

    def add(self, carried: arrays.Ints, v: int, h: int, sign: int) -> None:
        """Put ``v`` on host ``h`` (1), or take it away (-1), in what is carried."""
        carried[self.label[v], h] += sign * self.amount[v]

    def tells(self) -> list[arrays.Ints]:
        """Return all that the price can depend on in an instance, (V,) each."""
        return [self.amount, np.where(self.amount > 0, self.label, -1)]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Room:
    """``each_costs`` for each instance of a size that there could be room for, and is not.

    A host has room for as many as the scarcest of its amounts allows.  All that is free together
    would be enough for ``ideal`` of them.

    Attributes
    ----------
    amount
        (V, A) what each instance takes where it is.
    base, capacity
        (H, A) what is taken whatever moves, and what there is.
    need
        (A,) the size, > 0.
    counted
        (H,) hosts that the room counts on.
    ideal
        Most that any placement can have room for.
    each_costs
        The price, >= 0.
    """

    amount: arrays.Ints
    base: arrays.Ints
    capacity: arrays.Ints
    need: arrays.Ints
    counted: arrays.Bools
    ideal: int
    each_costs: float

    def carried(self, host_of: arrays.Ints) -> arrays.Ints:
        """Return what each host carries, (H, A)."""
        return summed(self.amount, self.base, host_of)

    def each(self, carried: arrays.Ints) -> arrays.Ints:
        """Return for how many more each amount is enough, (H, A); 0 on hosts not counted."""
        free = np.maximum(0, self.capacity - carried)
        found: arrays.Ints = free // self.need * self.counted[:, None]
        return found

    def slots(self, carried: arrays.Ints) -> arrays.Ints:
        """Return for how many more there is room on each host, (H,)."""
        found: arrays.Ints = self.each(carried).min(axis=1)
        return found

    def price(self, carried: arrays.Ints) -> float:
        """Return the price of what is carried, (H, A)."""
        return self.each_costs * float(self.ideal - int(self.slots(carried).sum()))

    def by_host(self, carried: arrays.Ints) -> arrays.Floats:
        """Return the price of what is free on each host beyond its room, up to one's, (H,)."""
        free = np.maximum(0, self.capacity - carried) * self.counted[:, None]
        slots = self.slots(carried)
        part: arrays.Floats = np.minimum(free / self.need, slots[:, None] + 1).mean(axis=1) - slots
        return self.each_costs * part

    def change(
        self, carried: arrays.Ints, v: arrays.Ints, h: arrays.Ints, sign: int
    ) -> arrays.Floats:
        """Return what the price changes if ``v`` came to (1) or left (-1) ``h``; they broadcast."""
        free = self.capacity[h] - carried[h]
        slots = [
            (np.maximum(0, one) // self.need).min(axis=-1)
            for one in (free - sign * self.amount[v], free)
        ]
        found: arrays.Floats = self.each_costs * self.counted[h] * (slots[1] - slots[0])
        return found

    def add(self, carried: arrays.Ints, v: int, h: int, sign: int) -> None:
        """Put ``v`` on host ``h`` (1), or take it away (-1), in what is carried."""
        carried[h] += sign * self.amount[v]

    def tells(self) -> list[arrays.Ints]:
        """Return all that the price can depend on in an instance, (V,) each."""
        return list(self.amount.T)


def summed(amount: arrays.Ints, base: arrays.Ints, host_of: arrays.Ints) -> arrays.Ints:
    """Return ``base`` (H, ...) and the amounts (V, ...) of the instances on each host, together."""
    found = base.copy()
    np.add.at(found, host_of, amount)
    return found


def plain(amount: arrays.Ints, base: arrays.Ints, curve: Curve) -> Term:
    """Return a term of one label."""
    return Term(amount, base, curve, np.zeros(amount.size, dtype=np.int64))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """The price of the terms, and ``stay`` (V,) for whoever is where it started."""

    terms: tuple[Term | Room, ...]
    stay: arrays.Floats
    home: arrays.Ints

    def value(self, host_of: arrays.Ints) -> float:
        """Return the value of a placement."""
        found = float(self.stay[host_of == self.home].sum())
        return found + sum(term.price(term.carried(host_of)) for term in self.terms)


class Tally:
    """A formula followed along moves of single instances."""

    def __init__(self, formula: Formula, host_of: arrays.Ints) -> None:
        self.formula = formula
        self.host_of = host_of.copy()
        self.carried = [term.carried(host_of) for term in formula.terms]
        self.value = formula.value(host_of)

    def leaving(self, v: arrays.Ints) -> arrays.Floats:
        """Return the change of the value if each of ``v`` were nowhere, (len(v),)."""
        h = self.host_of[v]
        change: arrays.Floats = -self.formula.stay[v] * (h == self.formula.home[v])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            change += term.change(carried, v, h, -1)
        return change

    def arriving(self, v: int, hosts: arrays.Ints) -> arrays.Floats:
        """Return the change of the value if ``v`` were on each of ``hosts`` as well."""
        change: arrays.Floats = self.formula.stay[v] * (hosts == self.formula.home[v])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            if np.any(term.amount[v]):
                change = change + term.change(carried, np.array(v), hosts, 1)
        return change

    def move(self, v: int, h: int) -> None:
        """Move ``v`` to host ``h``."""
        at, to = np.array([v]), np.array([h])
        change = float(self.leaving(at)[0])
        source = int(self.host_of[v])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            term.add(carried, v, source, -1)
        self.host_of[v] = -1
        change += float(self.arriving(v, to)[0])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            term.add(carried, v, h, 1)
        self.host_of[v] = h
        self.value += change

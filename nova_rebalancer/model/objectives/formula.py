# SPDX-License-Identifier: Apache-2.0
"""What most goals are made of: a price for what each host carries.

A formula is a sum of terms.  Each term adds up an amount of the instances on a host, for each label
by itself where it has labels, and puts a price on the sum.  From the same formula come the value,
what one migration changes, and the rows of the planners' models.

Axes: V instances, H hosts, L labels of a term, B points of a curve.
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
    """``price`` (H,) for each unit above ``limit`` (H,), both per host; price >= 0."""

    limit: arrays.Ints
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
        return float(self.curve.at(carried, np.arange(self.base.size)).sum())


def summed(amount: arrays.Ints, base: arrays.Ints, host_of: arrays.Ints) -> arrays.Ints:
    """Return ``base`` (H,) and the amounts of the instances on each host, together."""
    found = base.copy()
    np.add.at(found, host_of, amount)
    return found


def plain(amount: arrays.Ints, base: arrays.Ints, curve: Curve) -> Term:
    """Return a term of one label."""
    return Term(amount, base, curve, np.zeros(amount.size, dtype=np.int64))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """The price of the terms, and ``stay`` (V,) for whoever is where it started."""

    terms: tuple[Term, ...]
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
            now = carried[term.label[v], h]
            change += term.curve.at(now - term.amount[v], h) - term.curve.at(now, h)
        return change

    def arriving(self, v: int, hosts: arrays.Ints) -> arrays.Floats:
        """Return the change of the value if ``v`` were on each of ``hosts`` as well."""
        change: arrays.Floats = self.formula.stay[v] * (hosts == self.formula.home[v])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            if term.amount[v]:
                now = carried[term.label[v], hosts]
                change = change + term.curve.at(now + term.amount[v], hosts)
                change = change - term.curve.at(now, hosts)
        return change

    def move(self, v: int, h: int) -> None:
        """Move ``v`` to host ``h``."""
        at, to = np.array([v]), np.array([h])
        change = float(self.leaving(at)[0])
        source = int(self.host_of[v])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            carried[term.label[v], source] -= term.amount[v]
        self.host_of[v] = -1
        change += float(self.arriving(v, to)[0])
        for term, carried in zip(self.formula.terms, self.carried, strict=True):
            carried[term.label[v], h] += term.amount[v]
        self.host_of[v] = h
        self.value += change

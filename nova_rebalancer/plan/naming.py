# SPDX-License-Identifier: Apache-2.0
"""The pattern model with names: who leaves and who enters, where conflicts tell instances apart.

The pattern model counts instances that are alike, and conflicts make all of them different.  Its
bound holds all the same, since conflicts only take choices away, and at its prices most exchanges
can be left out here as there.  What is left is small enough to say by name who leaves each place,
and which of them goes to which host.  Of the hosts that an instance could go to a few are enough:
where many are free of its partners any few will do, and where few are they are all taken.

The placements are the best found within windows, not proven to be the best of all.
"""

import collections
import dataclasses
import itertools
import time
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.plan import base
from nova_rebalancer.plan import exchange
from nova_rebalancer.plan import kinds
from nova_rebalancer.plan import patterns
from nova_rebalancer.plan import solver

WINDOWS = ((0.0, 1), (0.0, 2), (0.5, 1), (0.5, 2), (1.0, 1))
"""What is tried one after another: how much less than the best an exchange is worth, in slots, and
how many instances leave a unit at most.  Prices are mostly multiples of half a slot."""

MOST_PARTS = 60_000
"""Exchanges of all hosts in one model at most; building it takes some seconds then."""

CHOICES = 8
"""Hosts for each instance that may leave, and instances for each host that may be entered."""

WORK = 0.75
"""Of the exact solver for the first window; each later one may take GROWTH times as much."""

GROWTH = 1.5

SPARE = 3.0
"""How much longer a model may take to build than the longest before, and be solved."""

AGAIN = 4
"""How often the widest window is solved again with other choices."""


def place(
    start: state.PlacementState,
    market: exchange.Market,
    most: patterns.Bound,
    limit: base.Limit,
    meter: solver.Meter,
) -> state.PlacementState | None:
    """Return the best placement found that breaks no conflict, None if none wins a slot."""
    market.price(most.price, most.fee)
    rng = np.random.default_rng(meter.seed)
    best: _Found | None = None
    widest, wider = None, list(WINDOWS)
    work, longest_s = WORK, 0.0
    for _ in range(len(WINDOWS) + AGAIN):
        if meter.spent() or meter.budget.left_s() < SPARE * longest_s:
            break
        began = time.monotonic()
        model = _Model(start, market, wider[0] if wider else widest or WINDOWS[0], best, rng)
        longest_s = max(longest_s, time.monotonic() - began)
        if not model.complete:
            if widest is None:
                break
            wider = []
            continue
        widest = wider.pop(0) if wider else widest
        found, proven = model.best(most.whole(), limit, meter, work)
        best = found or best
        work *= GROWTH
        if best is not None and best.won >= most.whole():
            break
        if proven and not wider and not model.sampled:
            break
    return None if best is None else best.reached


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A placement, the slots it wins, and the variables that are 1 in it, by their names."""

    reached: state.PlacementState
    won: int
    chosen: frozenset[object]


@dataclasses.dataclass(frozen=True, slots=True)
class _Listed:
    """Exchanges: what goes on in both units of each shape, and in each unit, with what it wins."""

    twice: list[list[tuple[exchange.Part, tuple[object, ...]]]]
    single: dict[tuple[Any, ...], list[tuple[exchange.Part, int]]]


class _Model:
    """The exact model of a window; ``complete`` if it could be built.

    It is ``sampled`` when it lacks some of the hosts that an instance could go to.

    Parameters
    ----------
    best
        A placement to begin with, whose choices are among this model's as far as it has them.
    """

    def __init__(
        self,
        start: state.PlacementState,
        market: exchange.Market,
        window: tuple[float, int],
        best: _Found | None,
        rng: np.random.Generator,
    ) -> None:
        self._start = start
        self._market = market
        self._best = best
        self._rng = rng
        self._program = cp_model.CpModel()
        self._named: dict[object, cp_model.IntVar] = {}
        self._leave: dict[tuple[int, kinds.Place], list[cp_model.LinearExprT]]
        self._leave = collections.defaultdict(list)
        self._enter: dict[tuple[int, int], list[tuple[cp_model.IntVar, int, tuple[int, ...]]]]
        self._enter = collections.defaultdict(list)
        self._moves: list[cp_model.LinearExprT] = []
        self._mib: list[cp_model.LinearExprT] = []
        self._won: list[cp_model.LinearExprT] = []
        self._leaver: dict[int, cp_model.IntVar] = {}
        self._goes: dict[tuple[int, int], cp_model.IntVar] = {}
        self._entrants: dict[int, list[int]] = collections.defaultdict(list)
        self.sampled = False
        listed = self._listed(window)
        self.complete = listed is not None
        if listed is not None:
            self._add_exchanges(listed)
            self._add_names()

    def _variable(self, name: object) -> cp_model.IntVar:
        variable = self._named[name] = self._program.new_bool_var("")
        return variable

    def _choice(self, name: object, part: exchange.Part, place: kinds.Place) -> cp_model.IntVar:
        """Add an exchange of a place."""
        variable = self._variable(name)
        for k, count in part.leave.items():
            self._leave[k, place].append(count * variable)
            self._moves.append(count * variable)
            self._mib.append(count * int(self._market.cloud.mib[k]) * variable)
        for k, count in part.enter.items():
            self._enter[k, place[0]].append((variable, count, place[1]))
        return variable

    def _listed(self, window: tuple[float, int]) -> _Listed | None:
        """List the exchanges of the window; None if all hosts together have too many."""
        market = self._market
        near = market.near(*window, MOST_PARTS)
        if near is None:
            return None
        room = patterns.Room(self._start, market.cloud)
        twice: list[list[tuple[exchange.Part, tuple[object, ...]]]] = []
        single: dict[tuple[Any, ...], list[tuple[exchange.Part, int]]] = {}
        left = MOST_PARTS
        for i, shape in enumerate(market.cloud.shapes):
            twice.append([one for one in near.twice[i] if room.for_both(i, one[0])])
            for unit in ((u, *key) for _, key in twice[i] for u in shape.units):
                if unit not in single:
                    both, parts = near.single[unit]
                    single[unit] = [
                        (part, market.won(unit[0], both, part))
                        for part in itertools.islice(parts, left + 1)
                        if room.for_unit(unit[0], both, part)
                    ]
                left -= len(single[unit]) * len(shape.hosts)
                if left < 0:
                    return None
        return _Listed(twice, single)

    def _add_exchanges(self, listed: _Listed) -> None:
        """Let each host make one of the exchanges."""
        for shape, twice in zip(self._market.cloud.shapes, listed.twice, strict=True):
            for h, places in shape.hosts:
                whole = tuple(sorted(n for cell in places for n in cell))
                mine = []
                for both, key in twice:
                    mine.append(self._choice((h, key), both, (h, whole)))
                    for j, (u, cells) in enumerate(zip(shape.units, places, strict=True)):
                        here = []
                        for part, won in listed.single[(u, *key)]:
                            here.append(self._choice((h, j, key, _key(part)), part, (h, cells)))
                            if won:
                                self._won.append(won * here[-1])
                        self._program.add(sum(here) == mine[-1])
                if mine:
                    self._program.add_at_most_one(mine)

    def _add_names(self) -> None:
        """Say who leaves and where to."""
        program, all_kinds = self._program, self._market.cloud.kinds
        leavers: dict[int, list[int]] = collections.defaultdict(list)
        for (k, place), terms in self._leave.items():
            here = all_kinds[k].at[place]
            for v in here:
                self._leaver[v] = self._variable(v)
            leavers[k] += here
            program.add(sum(self._leaver[v] for v in here) == sum(terms))
        for k in range(len(all_kinds)):
            hosts = np.array([h for kind, h in self._enter if kind == k], dtype=np.int64)
            blockers, blocker = self._blocked(leavers[k], hosts)
            into: dict[int, list[cp_model.IntVar]] = collections.defaultdict(list)
            keep = self._few(leavers[k], hosts, blockers)
            for i, v in enumerate(leavers[k]):
                mine = []
                for j in np.nonzero(keep[i])[0].tolist():
                    h = int(hosts[j])
                    goes = self._goes[v, h] = self._variable((v, h))
                    mine.append(goes)
                    into[h].append(goes)
                    self._entrants[h].append(v)
                    if blockers[i, j]:
                        program.add_implication(goes, self._leaver[int(blocker[i, j])])
                program.add(sum(mine) == self._leaver[v])
            for h in hosts.tolist():
                program.add(sum(into[h]) == sum(count * one for one, count, _ in self._enter[k, h]))

        self._add_pairs()

    def _add_pairs(self) -> None:
        """Of two instances in conflict a host is entered by one."""
        number = np.full(self._start.host_of.size, state.NOWHERE)
        number[list(self._leaver)] = np.arange(len(self._leaver))
        meet = np.zeros((len(self._leaver), len(self._leaver)), dtype=bool)
        for i, v in enumerate(self._leaver):
            partners = number[self._start.conflicts.of(v)]
            meet[i, partners[partners >= 0]] = True
        for h, arriving in self._entrants.items():
            here = number[arriving]
            for i, row in enumerate(np.triu(meet[np.ix_(here, here)])):
                others = [~self._goes[arriving[j], h] for j in np.nonzero(row)[0].tolist()]
                if others:
                    self._program.add_bool_and(others).only_enforce_if(self._goes[arriving[i], h])

    def _blocked(self, leavers: list[int], hosts: arrays.Ints) -> tuple[arrays.Ints, arrays.Ints]:
        """Count the partners at each host, (leavers, hosts), and name the last of them.

        Where one can be no destination, whoever leaves, the count is very large.
        """
        start, size = self._start, len(self._start.hosts)
        count = np.zeros((len(leavers), hosts.size), dtype=np.int64)
        who = np.zeros_like(count)
        may_leave = np.zeros(start.host_of.size, dtype=bool)
        may_leave[list(self._leaver)] = True
        for i, v in enumerate(leavers):
            partners = start.conflicts.of(v)
            there = start.host_of[partners]
            at = np.zeros(size, dtype=np.int64)
            at[there] = partners
            who[i] = at[hosts]
            found = np.bincount(there, minlength=size)
            found[there[~may_leave[partners]]] = exchange.ANY
            found[start.conflicts.barred.get(v, [])] = exchange.ANY
            found[start.host_of[v]] = exchange.ANY
            count[i] = found[hosts]
        return count, who

    def _few(self, leavers: list[int], hosts: arrays.Ints, blockers: arrays.Ints) -> arrays.Bools:
        """Choose CHOICES hosts for each leaver and leavers for each host, free ones first."""
        keep = np.zeros(blockers.shape, dtype=bool)
        if not keep.size:
            return keep
        rank = blockers + self._rng.random(blockers.shape)
        if self._best is not None:
            for i, v in enumerate(leavers):
                rank[i, hosts == self._best.reached.host_of[v]] = 0.0
        for axis in (0, 1):
            first = np.argsort(rank, axis=axis)
            first = first[:CHOICES] if axis == 0 else first[:, :CHOICES]
            np.put_along_axis(keep, first, True, axis=axis)
        self.sampled |= bool((~keep & (blockers <= 1)).any())
        keep &= blockers <= 1
        return keep

    def best(
        self, target: int, limit: base.Limit, meter: solver.Meter, work: float
    ) -> tuple[_Found | None, bool]:
        """Return the best placement that is found, and whether it is the best of the model.

        None if none is better than the one to begin with.
        """
        program, won = self._program, sum(self._won)
        program.add(sum(self._moves) <= limit.moves)
        if limit.mib is not None:
            program.add(sum(self._mib) <= limit.mib)
        program.add(won <= target)
        program.maximize(won)
        least = 0
        if self._best is not None:
            least = self._best.won
            self._hint(self._best.chosen)
        answer = solver.solve(program, meter, work)
        if not answer.found or round(answer.solver.objective_value) <= least:
            return None, answer.proven
        return self._read(answer.solver), answer.proven

    def _hint(self, chosen: frozenset[object]) -> None:
        self._program.clear_hints()
        for name, variable in self._named.items():
            self._program.add_hint(variable, int(name in chosen))

    def _read(self, value: cp_model.CpSolver) -> _Found | None:
        """Return the placement of a solution, None if a rule that the model lacks is broken."""
        start = self._start
        goes: dict[int, list[int]] = collections.defaultdict(list)
        for (v, h), variable in self._goes.items():
            if value.value(variable):
                goes[h].append(v)
        host_of, cells_of = start.host_of.copy(), start.cells_of.copy()
        kind_of = {
            v: k
            for k, kind in enumerate(self._market.cloud.kinds)
            for here in kind.at.values()
            for v in here
        }
        free = {
            place: [
                cells for one, count, cells in entries if value.value(one) for _ in range(count)
            ]
            for place, entries in self._enter.items()
        }
        for h, arrived in goes.items():
            for v in arrived:
                cells = free[kind_of[v], h].pop()
                host_of[v] = h
                cells_of[v] = state.NOWHERE
                cells_of[v, : len(cells)] = cells
        reached = start.placed(host_of, cells_of)
        if not patterns.sound(start, reached):
            return None
        won = sum(int(value.value(one)) for one in self._won)
        chosen = frozenset(name for name, one in self._named.items() if value.value(one))
        return _Found(reached, won, chosen)


def _key(part: exchange.Part) -> tuple[object, ...]:
    return tuple(sorted(part.leave.items())), tuple(sorted(part.enter.items()))

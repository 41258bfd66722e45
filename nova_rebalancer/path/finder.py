# SPDX-License-Identifier: Apache-2.0
"""From a state and a target to a migration path.

Each zone by itself: first what goes without detours, then cheap detours, forward and backward and
in several ways; where that is not proved to be the cheapest, the exact search proves it, finds
a cheaper one, or proves that there is none, as far as the work that it is given lasts.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import operator
import random
import types
from typing import Any

from nova_rebalancer.model import arrays
from nova_rebalancer.model import path
from nova_rebalancer.model import reason
from nova_rebalancer.model import state
from nova_rebalancer.path import base
from nova_rebalancer.path import board
from nova_rebalancer.path import charges
from nova_rebalancer.path import dependencies
from nova_rebalancer.path import exact
from nova_rebalancer.path import relaxation
from nova_rebalancer.path import rounds
from nova_rebalancer.path import schedule
from nova_rebalancer.path import sequence
from nova_rebalancer.path import shortcut
from nova_rebalancer.path import zone

ATTEMPTS = 16
"""How often the heuristic is tried on a zone, at most."""

FEW = 4
"""How often it is tried where the first way is the cheapest, so that others may be quicker."""

LARGE = 2_000
"""Above so many instances a way that was found is the one that is taken."""

HURRIED = 500
"""How many placements of a small zone are looked at for any cheaper way."""

ROUNDS = 300_000
"""How many moves are tried to find fewer rounds, all zones together."""

SLACK = board.UNIT >> 10
"""As a price: how many more migrations fewer rounds may have, at the same cost."""


@dataclasses.dataclass(slots=True)
class Found:
    """What is known of one zone: the hops, what they leave undone, what is proved.

    ``begins`` are the starts of the hops, seconds, where these are known to be good.  ``too_long``
    says that the limit on migrations ended it, or that there is a path with more of them.
    """

    hops: list[path.Hop]
    pending: dict[int, zone.Spot]
    optimal: bool = False
    begins: list[float] | None = None
    certificate: Mapping[str, Any] | None = None
    too_long: bool = False


def find(
    start: state.PlacementState,
    host_of: arrays.Ints,
    cells_of: arrays.Ints,
    cost: base.Cost,
    limits: base.Limits,
) -> path.MigrationPath:
    """Find an order of live migrations from ``start`` to ``host_of`` (V,), ``cells_of`` (V, G).

    What cannot be reached stays where it is, or where its last bypass left it, and is named with
    the reason; the other migrations stand.  A change of cells on one host is not a migration.
    """
    goal, refused = _goal(start, host_of, cells_of)
    price = board.prices([cost.cost(start, v) for v in range(len(start.instances))])
    search = _Search(start, goal, price, cost, limits)
    found = [search.solve(part) for part in zone.split(start, goal)]
    hops: list[path.Hop] = []
    begins: dict[int, float] = {}
    for one in found:
        begins.update(enumerate(one.begins or (), len(hops)))
        hops += one.hops
    unreachable = dict(refused)
    for one in found:
        spent = one.too_long or len(hops) >= limits.max_migrations
        unreachable.update(_left(start, one, spent))
    proofs = [one.certificate for one in found if one.certificate is not None]
    if refused:
        proofs.insert(0, _endpoint(start, host_of, refused))
    reachable = False if proofs else None if unreachable else True
    made = from_hops(start, hops, unreachable, cost, limits, begins)
    moves = [(int(start.host_of[v]), h) for v, (h, _) in goal.items()]
    durations = [cost.duration_s(start, v) for v in goal]
    return dataclasses.replace(
        made,
        makespan_bound_s=round(schedule.bound_s(moves, durations, limits), 3),
        reachable=reachable,
        optimal=bool(proofs) or all(one.optimal for one in found),
        certificate=proofs[0] if proofs else None,
        blocking=tuple(sorted({h for one in found for h, _ in one.pending.values()})),
    )


def from_hops(
    start: state.PlacementState,
    hops: Sequence[path.Hop],
    unreachable: dict[int, reason.Reason],
    cost: base.Cost,
    limits: base.Limits,
    known: Mapping[int, float] = types.MappingProxyType({}),
) -> path.MigrationPath:
    """Make a path of ``hops`` that are sane one after another.

    ``known`` are the starts of some hops, by position, which share no host with the others.
    """
    held = charges.Charges(charges.Start(start), {hop.v for hop in hops})
    durations = [cost.duration_s(start, hop.v) for hop in hops]
    rest = [k for k in range(len(hops)) if k not in known]
    timed = schedule.begins_s(held, [hops[k] for k in rest], [durations[k] for k in rest], limits)
    when = {**known, **dict(zip(rest, timed, strict=True))}
    begins = [when[k] for k in range(len(hops))]
    order = sorted(range(len(hops)), key=lambda k: (begins[k], k))
    hops = [hops[k] for k in order]
    ends = [begins[k] + durations[k] for k in order]
    begins = [begins[k] for k in order]
    depends_on = dependencies.find(held, hops, ends)
    last = {hop.v: k for k, hop in enumerate(hops)}
    migrations: list[path.Migration] = []
    for k, (hop, depends) in enumerate(zip(hops, depends_on, strict=True)):
        role = path.DIRECT if last[hop.v] == k else path.BYPASS
        wave = 1 + max((migrations[j].wave for j in depends), default=0)
        hop = dataclasses.replace(hop, role=role)
        times = round(begins[k], 3), round(ends[k], 3)
        migrations.append(path.Migration(hop, depends, wave, *times))
    return path.MigrationPath(
        tuple(migrations),
        dict(sorted(unreachable.items())),
        cost=sum(cost.cost(start, hop.v) for hop in hops),
    )


def _goal(
    start: state.PlacementState, host_of: arrays.Ints, cells_of: arrays.Ints
) -> tuple[dict[int, zone.Spot], dict[int, reason.Reason]]:
    """Return where each instance belongs that is not there, and what must not go there, and why."""
    goal: dict[int, zone.Spot] = {}
    refused: dict[int, reason.Reason] = {}
    for v in (host_of != start.host_of).nonzero()[0].tolist():
        name, host = start.instances[v], start.service_hosts[host_of[v]]
        if v in start.excluded:
            refused[v] = start.excluded[v].reason
        elif not start.allowed[start.eligibility_of[v], host_of[v]]:
            refused[v] = reason.Reason(
                "not_allowed", {"host": host}, f"{name} must not be on {host}"
            )
        else:
            cells = tuple(int(n) for n in cells_of[v, : start.guests_of[v]])
            goal[v] = (int(host_of[v]), cells)
    return goal, refused


def _endpoint(
    start: state.PlacementState, host_of: arrays.Ints, refused: Mapping[int, reason.Reason]
) -> dict[str, Any]:
    v, why = next(iter(refused.items()))
    host = start.hosts[host_of[v]]
    return {"kind": "endpoint", "instance": start.instances[v], "host": host, "reason": why.code}


def _left(start: state.PlacementState, found: Found, spent: bool) -> dict[int, reason.Reason]:
    """Say of what is pending why it is."""
    if found.certificate is not None:
        code, why = "no_path", "it is proved that no order of migrations leads to the target"
    elif spent:
        code, why = "max_migrations", "the limit on migrations does not allow it"
    else:
        code, why = "no_room", "no order of migrations was found that makes room for it"
    left = {}
    for v, (h, _) in found.pending.items():
        host = start.service_hosts[h]
        left[v] = reason.Reason(
            code, {"host": host}, f"{start.instances[v]} cannot reach {host}: {why}"
        )
    return left


class _Search:
    """The zones of one question, one after another, on one board."""

    def __init__(
        self,
        start: state.PlacementState,
        goal: Mapping[int, zone.Spot],
        price: list[int],
        cost: base.Cost,
        limits: base.Limits,
    ) -> None:
        self._start, self._goal, self._limits = start, goal, limits
        self._price, self._cost = price, cost
        self._board = board.Board(start)
        self._charged = charges.Start(start)
        self._end: board.Board | None = None
        self._left = limits.max_migrations
        self._work = exact.Work(limits.work, limits)
        self._rounds = exact.Work(min(limits.work, ROUNDS), limits)

    def solve(self, part: zone.Zone) -> Found:
        """Order one zone, within what the zones before have left of the limits."""
        direct = sum(self._price[v] for v in part.goal)
        found = self._heuristic(part, direct)
        puzzle = zone.puzzle(self._board, part, self._price)
        if not (found.optimal or found.certificate or self._limits.spent()):
            if puzzle is not None and puzzle.sane(puzzle.goal, since=puzzle.start):
                found = self._better(found, self._hurried(puzzle, found))
            found = self._better(found, self._prove(part, puzzle, found))
        if puzzle is not None and not found.pending:
            found = self._in_rounds(puzzle, found)
        for hop in found.hops:
            self._board.move(hop.v, hop.dest, hop.dest_cells)
        self._left -= len(found.hops)
        return found

    def _better(self, one: Found, other: Found) -> Found:
        """Return the one that is cheaper, or quicker where that counts."""
        return min(one, other, key=lambda tried: self._rank(tried, large=False))

    def _priced(self, hops: Sequence[path.Hop]) -> int:
        return sum(self._price[hop.v] for hop in hops)

    def _heuristic(self, part: zone.Zone, direct: int) -> Found:
        """Try several ways and keep the best, or the one that leaves least undone.

        With a proof, where there is one, that no way leads there.
        """
        best, certificate = Found([], dict(part.goal)), None
        least: tuple[float, ...] | None = None
        large = len(part.instances) > zone.MOST_INSTANCES
        for attempt in range(ATTEMPTS):
            rng = random.Random(attempt) if attempt > 1 else None
            tried = self._backward(part, rng) if attempt % 2 else self._forward(part, rng)
            if tried is None:
                continue
            if attempt == 0 and tried.pending and not self._limits.spent():
                # Now, while there is time: what cannot be done at all is tried longest.
                certificate = relaxation.proof(self._board, part, exact.FORWARD, part.goal)
            if not tried.pending:
                tried.hops = shortcut.shorten(self._board, tried.hops)
                tried.optimal = self._priced(tried.hops) == direct
            rank = self._rank(tried, large)
            if least is None or rank < least:
                best, least = tried, rank
            enough = ATTEMPTS
            if not best.pending and (best.optimal or large):
                # More ways may be quicker; where zones are large they take long to find.
                once = best.optimal or len(part.instances) > LARGE
                enough = 1 if once and large and self._limits.prefer == base.COST else FEW
            if attempt + 1 >= enough or self._limits.spent():
                break
            if certificate is not None and not best.hops:
                break
        best.certificate = certificate
        if best.pending:
            best.too_long = len(best.hops) >= self._left
            best.hops = shortcut.shorten(self._board, best.hops)
        return best

    def _rank(self, tried: Found, large: bool) -> tuple[float, ...]:
        """Return what is better when it is less."""
        price, time_s = self._priced(tried.hops), 0.0
        prefer = self._limits.prefer
        if not tried.pending and not (large and prefer == base.COST):
            time_s = round(self._makespan_s(tried.hops), 3)
        order = (price, time_s) if prefer == base.COST else (time_s, price)
        return len(tried.pending), *order

    def _makespan_s(self, hops: Sequence[path.Hop]) -> float:
        held = charges.Charges(self._charged, {hop.v for hop in hops})
        durations = [self._cost.duration_s(self._start, hop.v) for hop in hops]
        begins = schedule.begins_s(held, hops, durations, self._limits)
        return max(map(operator.add, begins, durations), default=0.0)

    def _forward(self, part: zone.Zone, rng: random.Random | None) -> Found:
        one = sequence.Sequence(self._board, part.goal, self._price, rng)
        one.find(dataclasses.replace(self._limits, max_migrations=self._left))
        one.rollback()
        return Found(one.hops, one.pending)

    def _backward(self, part: zone.Zone, rng: random.Random | None) -> Found | None:
        """Find a way from the target to the start and turn it round, if it can be."""
        if self._board.chosen_by_nova and self._start.guests_of.any():
            # Which cells Nova would choose on the way back says nothing of the way there.
            return None
        if self._end is None:
            self._end = board.Board(_ended(self._start, self._goal))
        home = {v: (self._board.host_of[v], self._board.cells_of[v]) for v in part.goal}
        one = sequence.Sequence(self._end, home, self._price, rng)
        done = one.find(dataclasses.replace(self._limits, max_migrations=self._left))
        one.rollback()
        if not done:
            return None
        hops = [_turned(hop) for hop in reversed(one.hops)]
        return Found(hops, {}) if shortcut.sane(self._board, hops) else None

    def _hurried(self, puzzle: zone.Puzzle, found: Found) -> Found:
        """Look for something cheaper, or for any way, at no more than a few placements."""
        most = None if found.pending else self._priced(found.hops)
        work = exact.Work(HURRIED, self._limits)
        moves, _ = exact.cheapest(puzzle, most, work, hurry=2)
        if moves is None or len(moves) > self._left:
            return found
        return Found(shortcut.shorten(self._board, self._hops(puzzle, moves)), {})

    def _prove(self, part: zone.Zone, puzzle: zone.Puzzle | None, found: Found) -> Found:
        """Let the exact search say whether there is anything cheaper, or anything at all."""
        if puzzle is None or not puzzle.sane(puzzle.goal, since=puzzle.start):
            return found
        if found.pending:
            reached = exact.reach(puzzle, self._work)
            if reached.side is not None:
                names = [self._start.hosts[h] for h in part.hosts]
                found.certificate = {
                    "kind": "component",
                    "side": reached.side,
                    "hosts": names,
                    "placements": reached.placements,
                }
                return found
            if reached.moves is None:
                return found
            hops = self._hops(puzzle, reached.moves)
            found.too_long = len(hops) > self._left
            if not found.too_long:
                found = Found(hops, {})
        most = None if found.pending else self._priced(found.hops)
        moves, sure = exact.cheapest(puzzle, most, self._work)
        if moves is not None and len(moves) <= self._left:
            return Found(self._hops(puzzle, moves), {}, optimal=True)
        found.optimal = sure and moves is None and not found.pending
        return found

    def _in_rounds(self, puzzle: zone.Puzzle, found: Found) -> Found:
        """Look for fewer rounds where all migrations take equally long.

        At the same cost; where the makespan is what counts, at any.
        """
        limits = self._limits
        durations = {self._cost.duration_s(self._start, v) for v in puzzle.instances}
        if len(durations) > 1 or limits.total is not None or limits.links or not found.hops:
            return found
        (duration,) = durations
        took = round(self._makespan_s(found.hops) / duration)
        most = None
        if limits.prefer == base.COST:
            most = self._priced(found.hops) + SLACK
        rounded = rounds.fewest(puzzle, most, took, self._rounds)
        if rounded is None or sum(map(len, rounded)) > self._left:
            return found
        moves = [move for moves in rounded for move in moves]
        begins = [duration * n for n, moves in enumerate(rounded) for _ in moves]
        hops = self._hops(puzzle, moves)
        dearer = self._cost_of(hops) > self._cost_of(found.hops) + 1e-9
        if dearer and limits.prefer == base.COST:
            return found
        optimal = found.optimal and not dearer
        return Found(hops, {}, optimal, begins=begins)

    def _cost_of(self, hops: Sequence[path.Hop]) -> float:
        return sum(self._cost.cost(self._start, hop.v) for hop in hops)

    def _hops(self, puzzle: zone.Puzzle, moves: Sequence[exact.Move]) -> list[path.Hop]:
        at = [puzzle.spots[p] for p in puzzle.start]
        hops = []
        for k, q in moves:
            (source, here), (dest, there) = at[k], puzzle.spots[q]
            hops.append(path.Hop(puzzle.instances[k], source, here, dest, there, path.DIRECT))
            at[k] = puzzle.spots[q]
        return hops


def _turned(hop: path.Hop) -> path.Hop:
    return dataclasses.replace(
        hop,
        source=hop.dest,
        source_cells=hop.dest_cells,
        dest=hop.source,
        dest_cells=hop.source_cells,
    )


def _ended(start: state.PlacementState, goal: Mapping[int, zone.Spot]) -> state.PlacementState:
    """Return the state with everything where it belongs."""
    host_of, cells_of = start.host_of.copy(), start.cells_of.copy()
    for v, (h, cells) in goal.items():
        host_of[v] = h
        cells_of[v] = state.NOWHERE
        cells_of[v, : len(cells)] = cells
    return start.placed(host_of, cells_of)

# SPDX-License-Identifier: Apache-2.0
"""Whether migrations are worth what they cost, and which of a path to keep.

A price is in the goal's unit, so the value of a placement and the price of the way there add up.
A path is kept as far as that sum falls: migrations are taken out whose gain is below their price,
each with all that depends on it, alone and by the host that they leave or come to; then the path
is cut where the sum is lowest.  What remains never sums up to more than doing nothing.

A budget, of a project or of all, is no price: migrations of what is beyond its own are taken out,
those first that take least of the gain along.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses

from nova_rebalancer.model import path
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.constraints import soft_groups
from nova_rebalancer.model.objectives import base

GIB = 1024
"""MiB."""

MOST_MIB = 2**40
"""Largest limit on memory that the solvers are told."""


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What migrations cost, in the goal's unit, and how many there may be of one project.

    Parameters
    ----------
    per_gib
        Price of each GiB of memory that is copied.
    per_migration
        Price of each migration: the least that it has to gain.
    per_pair
        Price of each pair of soft groups that is no longer as its group wishes.
    project_migrations, project_gib
        Most migrations, and most GiB, of the instances of any one project; None for no limit.
        An instance whose project is not known counts for none.
    max_gib
        Most GiB of all migrations together; None for no limit.
    """

    per_gib: float = 0.0
    per_migration: float = 0.0
    per_pair: float = 0.0
    project_migrations: int | None = None
    project_gib: float | None = None
    max_gib: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Bill:
    """What some hops come to.

    Attributes
    ----------
    value
        The goal after them.
    price
        What they cost, in the goal's unit.
    migrations, memory_mib
        How many they are, and what they copy.
    excess
        Migrations and MiB beyond the budgets, added up; 0 when all are kept.
    """

    value: float
    price: float
    migrations: int
    memory_mib: int
    excess: int

    @property
    def total(self) -> float:
        """Return value and price together."""
        return self.value + self.price


class Account:
    """Bills for hops from one start.

    Parameters
    ----------
    projects
        Project of each instance, (V,), None where it is not known.
    """

    def __init__(
        self,
        start: state.PlacementState,
        goal: base.Goal,
        terms: Terms,
        projects: Sequence[str | None],
    ) -> None:
        self.start = start
        self.terms = terms
        self._goal = goal
        self._projects = projects
        self._project_mib = mib(terms.project_gib)
        self._most_mib = mib(terms.max_gib)
        self._nothing = goal.evaluate(start).value

    def bills(self, hops: Sequence[path.Hop], steps: Sequence[base.Step]) -> list[Bill]:
        """Return the bill for the first k of ``hops``, for every k from 0 on.

        ``steps`` are the goal's trace of them.
        """
        moves = [(hop.v, hop.dest) for hop in hops]
        pairs = soft_groups.changes(self.start.soft, self.start.host_of, moves)
        terms, memory, counts = self.terms, 0, _Counts()
        found = [Bill(self._nothing, 0.0, 0, 0, 0)]
        for k, (hop, step, more) in enumerate(zip(hops, steps, pairs, strict=True), 1):
            mib = state.memory_mib(self.start, hop.v) or 0
            memory += mib
            counts.add(self._projects[hop.v], mib)
            price = terms.per_pair * max(0, more) + terms.per_migration * k
            price += terms.per_gib * memory / GIB
            found.append(Bill(step.value, price, k, memory, self._excess(counts)))
        return found

    def whole(self, hops: Sequence[path.Hop]) -> Bill:
        """Return the bill for all of ``hops``."""
        host_of, cells_of = self.start.host_of.copy(), self.start.cells_of.copy()
        for hop in hops:
            host_of[hop.v] = hop.dest
            cells_of[hop.v] = state.NOWHERE
            cells_of[hop.v, : len(hop.dest_cells)] = hop.dest_cells
        value = self._goal.evaluate(self.start.placed(host_of, cells_of)).value
        pairs = 0
        if self.start.soft:
            pairs = soft_groups.cost(self.start.soft, host_of)
            pairs -= soft_groups.cost(self.start.soft, self.start.host_of)
        memory = sum(state.memory_mib(self.start, hop.v) or 0 for hop in hops)
        terms = self.terms
        price = terms.per_pair * max(0, pairs) + terms.per_migration * len(hops)
        price += terms.per_gib * memory / GIB
        return Bill(value, price, len(hops), memory, self.excess(hops))

    def excess(self, hops: Iterable[path.Hop]) -> int:
        """Return by how much ``hops`` are beyond the budgets."""
        return self._excess(self._counted(hops))

    def beyond(self, hops: Iterable[path.Hop]) -> int:
        """Return by how many MiB ``hops`` are beyond the budget of all together."""
        return self._beyond_all(self._counted(hops))

    def fewest(self, migrations: int) -> int:
        """Return how many of so many migrations are within any one project's budget."""
        most = self.terms.project_migrations
        return migrations if most is None else min(migrations, most)

    def least_mib(self) -> int | None:
        """Return the MiB that are within every budget, of all and of any one project."""
        limits = [limit for limit in (self._most_mib, self._project_mib) if limit is not None]
        return min(limits, default=None)

    def over(self, hops: Iterable[path.Hop]) -> dict[str, int]:
        """Return the projects with more of ``hops`` than they may have, and how much more."""
        return self._beyond(self._counted(hops))

    def dear(self, whole: path.MigrationPath, kept: path.MigrationPath) -> set[int]:
        """Return the instances not worth moving, when ``kept`` is what is worth it of ``whole``.

        Of a project with more migrations than it may have, these are all that were not kept.
        """
        if not self.priced():
            return set()
        hops = [migration.hop for migration in whole.migrations]
        over = self.over(hops)
        found = {hop.v for hop in hops}
        found |= {v for v, name in enumerate(self._projects) if name in over}
        return found - {migration.hop.v for migration in kept.migrations}

    def _counted(self, hops: Iterable[path.Hop]) -> "_Counts":
        counts = _Counts()
        if self.budgeted():
            for hop in hops:
                counts.add(self._projects[hop.v], state.memory_mib(self.start, hop.v) or 0)
        return counts

    def _excess(self, counts: "_Counts") -> int:
        return self._beyond_all(counts) + sum(self._beyond(counts).values())

    def _beyond_all(self, counts: "_Counts") -> int:
        return 0 if self._most_mib is None else max(0, counts.mib - self._most_mib)

    def _beyond(self, counts: "_Counts") -> dict[str, int]:
        most, most_mib = self.terms.project_migrations, self._project_mib
        found = {}
        for name, (count, mib) in counts.of.items():
            more = 0 if most is None else max(0, count - most)
            more += 0 if most_mib is None else max(0, mib - most_mib)
            if more:
                found[name] = more
        return found

    def priced(self) -> bool:
        """Whether single migrations have a price, or there is a budget."""
        return self.budgeted() or self.terms.per_gib > 0 or self.terms.per_migration > 0

    def budgeted(self) -> bool:
        """Whether projects, or all, have a budget."""
        terms = self.terms
        limits = (terms.project_migrations, terms.project_gib, terms.max_gib)
        return any(limit is not None for limit in limits)


class _Counts:
    """Migrations and MiB of each project, and MiB of all."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, int]] = {}
        self.mib = 0

    def add(self, project: str | None, mib: int) -> None:
        self.mib += mib
        if project is not None:
            count, total = self.of.get(project, (0, 0))
            self.of[project] = count + 1, total + mib


def mib(gib: float | None) -> int | None:
    """Return a limit in MiB; what is more than any cloud has is as good as none."""
    return None if gib is None else int(min(gib * GIB, MOST_MIB))


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What is kept of a path.

    Attributes
    ----------
    hops, steps, bill
        The hops that are worth it, what each does, and the bill for them.
    regardless
        The bill for the path as far as the goal alone would have it.
    """

    hops: Sequence[path.Hop]
    steps: Sequence[base.Step]
    bill: Bill
    regardless: Bill


def choose(
    account: Account,
    goal: base.Goal,
    reached: path.MigrationPath,
    stopped: Callable[[], bool],
) -> Choice:
    """Return the hops of a path that are worth it.

    They are sane one after another: with each hop that is left out all go that depend on it.
    Bills that are equal within rounding count as equal: the shortest of such paths is taken.
    """
    every = hops = [migration.hop for migration in reached.migrations]
    if account.priced():
        hops = _worthy(account, reached, stopped)
    steps = goal.trace(account.start, hops)
    bills = account.bills(hops, steps)
    least = min(bill.total for bill in bills if bill.excess == 0)
    best = next(b for b in bills if b.excess == 0 and b.total <= least + target.TOLERANCE)
    if len(hops) < len(every):
        bills = account.bills(every, goal.trace(account.start, every))
    lowest = min(bill.value for bill in bills)
    regardless = next(bill for bill in bills if bill.value <= lowest + target.TOLERANCE)
    count = best.migrations
    return Choice(hops[:count], steps[:count], best, regardless)


def _worthy(
    account: Account, reached: path.MigrationPath, stopped: Callable[[], bool]
) -> list[path.Hop]:
    """Take out of a path what is beyond a budget, and then what costs more than it gains."""
    parts = _Parts(reached)
    kept = parts.everything
    bill = account.whole(parts.hops_of(kept))
    while bill.excess and not stopped():
        found = []
        for part in parts.of_instances(kept):
            less = account.whole(parts.hops_of(kept - part))
            if less.excess < bill.excess:
                worse = (less.total - bill.total) / (bill.excess - less.excess)
                found.append((worse, less.memory_mib, sorted(part)))
            if stopped():
                break
        if not found:
            break
        for *_, positions in sorted(found):
            rest = kept.difference(positions)
            less = account.whole(parts.hops_of(rest))
            if less.excess < bill.excess:
                kept, bill = rest, less
            if stopped() or not bill.excess:
                break
    better = True
    while better and not stopped():
        found, better = [], False
        for part in parts.of_both(kept):
            less = account.whole(parts.hops_of(kept - part))
            if less.total <= bill.total:
                found.append((less.total, less.memory_mib, sorted(part)))
            if stopped():
                break
        for *_, positions in sorted(found):
            rest = kept.difference(positions)
            less = account.whole(parts.hops_of(rest))
            if len(rest) < len(kept) and less.total <= bill.total:
                kept, bill, better = rest, less, True
            if stopped():
                break
    return parts.hops_of(kept)


class _Parts:
    """Parts of a path that can be left out: with each hop its instance's, and what depends on it.

    Hops are known by their positions.
    """

    def __init__(self, reached: path.MigrationPath) -> None:
        self._hops = [migration.hop for migration in reached.migrations]
        self.everything = frozenset(range(len(self._hops)))
        self._after: list[list[int]] = [[] for _ in self._hops]
        self._of: dict[int, list[int]] = {}
        for k, migration in enumerate(reached.migrations):
            self._of.setdefault(migration.hop.v, []).append(k)
            for other in migration.depends_on:
                self._after[other].append(k)

    def hops_of(self, positions: frozenset[int]) -> list[path.Hop]:
        """Return the hops at some positions, in order."""
        return [self._hops[k] for k in sorted(positions)]

    def of_instances(self, kept: frozenset[int]) -> list[frozenset[int]]:
        """Return what goes with each instance."""
        return self._distinct(kept, ({v} for v in {self._hops[k].v for k in kept}))

    def of_both(self, kept: frozenset[int]) -> list[frozenset[int]]:
        """Return what goes with each instance, and with all that leave or come to each host."""
        groups: dict[tuple[str, int], set[int]] = {}
        for k in kept:
            hop = self._hops[k]
            for key in (("instance", hop.v), ("leaving", hop.source), ("coming", hop.dest)):
                groups.setdefault(key, set()).add(hop.v)
        return self._distinct(kept, groups.values())

    def _distinct(self, kept: frozenset[int], groups: Iterable[set[int]]) -> list[frozenset[int]]:
        found = {self._closed(group) & kept for group in groups}
        return sorted(found, key=sorted)

    def _closed(self, instances: set[int]) -> frozenset[int]:
        """Return all hops of instances, and all that depend on those, with their instances'."""
        gone: set[int] = set()
        left = [k for v in instances for k in self._of[v]]
        while left:
            k = left.pop()
            if k not in gone:
                gone.add(k)
                left += (j for after in self._after[k] for j in self._of[self._hops[after].v])
        return frozenset(gone)

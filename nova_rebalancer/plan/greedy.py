# SPDX-License-Identifier: Apache-2.0
"""The two-phase heuristic: which instance to move, then where to.

It looks at one move at a time and stops at the first that gains nothing, so it never needs an
order: its moves can be carried out as they were found.

References
----------
The production heuristic that VMR2L (arXiv 2505.17359) compares with, called HA there.  Filter:
among instances of at most X cores, the one whose leaving lowers the fragments of its host most,
the first when several do.  Score: the host and cells where its arrival lowers them most.  Ours
leaves out instances that no host may take, which the original, without rules, does not meet, and
knows several X, of which the largest limits the instances.
"""

import dataclasses

import numpy as np

from nova_rebalancer import exceptions
from nova_rebalancer.model import arrays
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.model.objectives import combined
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.model.objectives import separable
from nova_rebalancer.plan import base
from nova_rebalancer.plan import steps


def plan(
    start: state.PlacementState,
    goal: objectives.Goal,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the target that greedy moves lead to; no bound, the seed plays no part."""
    if isinstance(goal, separable.Separable):
        return steps.plan(start, goal, budget, seed, watch)
    if isinstance(goal, combined.Combined):
        return _one_by_one(start, goal, budget, seed, watch)
    if not isinstance(goal, fragmentation.Fragmentation):
        raise exceptions.UsageError(f"planner greedy has no moves for goal {goal.name}")
    book = ledger.Ledger(start)
    free = _free(book)
    value = goal.evaluate(start)
    status = target.FEASIBLE
    change = _leaving(book, free, goal, np.arange(book.host_of.size))
    memory, left_mib = base.memories(start), budget.max_mib
    for _ in range(budget.max_migrations):
        if watch.stopped():
            status = target.INTERRUPTED
            break
        if budget.over():
            status = target.TIME_LIMIT
            break
        # A second migration of the same instance is taken for another.
        light = change if left_mib is None else np.where(memory > left_mib, _never(goal), change)
        step = _best_step(book, free, goal, light)
        if step is None:
            break
        v, h, cells = step
        source = book.host_of[v]
        book.move(v, h, cells)
        now = _free(book)
        after = goal.of(now)
        if after.value >= value.value - target.TOLERANCE:
            book.take_back()
            break
        value = after
        left_mib = None if left_mib is None else left_mib - int(memory[v])
        watch.incumbent(value.value)
        touched = (now != free).any(axis=1)
        touched[[source, h]] = True
        free = now
        there = np.nonzero(touched[book.host_of])[0]
        change[there] = _leaving(book, free, goal, there)
    return target.Target(book.host_of, book.cells_of, value, None, status, "greedy", seed)


def _one_by_one(
    start: state.PlacementState,
    goal: combined.Combined,
    budget: base.Budget,
    seed: int,
    watch: base.Watch,
) -> target.Target:
    """Return the target of the one goal that is best for all together, or ``start``."""
    start = goal.narrowed(start)
    best = target.Target(
        start.host_of, start.cells_of, goal.evaluate(start), None, target.FEASIBLE, "greedy", seed
    )
    for member in goal.members():
        found = plan(start, member, budget, seed, base.Watch())
        value = goal.evaluate(start.placed(found.host_of, found.cells_of))
        if goal.enough(found.host_of) and value.value < best.value.value - target.TOLERANCE:
            best = dataclasses.replace(found, value=value)
            watch.incumbent(value.value)
    return best


def _free(book: ledger.Ledger) -> arrays.Ints:
    return fragmentation.unit_free(book.state, book.used, book.cell_used, book.topologyless)


def _best_step(
    book: ledger.Ledger, free: arrays.Ints, goal: fragmentation.Fragmentation, change: arrays.Ints
) -> tuple[int, int, tuple[int, ...]] | None:
    """Return the move that the two phases choose, None if there is none to choose."""
    left = change.copy()
    while left.size:
        v = int(np.argmin(left))
        if left[v] >= _never(goal):
            return None
        arrival = _arrival(book, free, goal, v)
        if arrival is not None:
            return v, *arrival
        left[v] = _never(goal)
    return None


def _leaving(
    book: ledger.Ledger, free: arrays.Ints, goal: fragmentation.Fragmentation, who: arrays.Ints
) -> arrays.Ints:
    """Change of fragments at its host if each of ``who`` left; _never(goal) = not a candidate."""
    start, host_of = book.state, book.host_of
    change = np.full(host_of.size, _never(goal), dtype=np.int64)
    core = start.core[host_of]
    v = who[start.movable[who] & (core[who] != state.NOWHERE)]
    amount = start.demand[v, core[v]]
    celled = (start.cells[host_of[v]] > 0) & (book.topologyless[host_of[v]] == 0)
    # The last instance without topology turns a host from one unit into many: not judged here.
    last = (start.cells[host_of[v]] > 0) & (book.topologyless[host_of[v]] == 1)
    keep = (amount > 0) & (amount <= goal.cores[0]) & ~(last & (start.guests_of[v] == 0))
    v, amount, celled = v[keep], amount[keep], celled[keep]
    whole = v[~celled]
    change[whole] = _residue(free[host_of[whole], 0], amount[~celled], goal)
    by_cell = v[celled]
    total = np.zeros(by_cell.size, dtype=np.int64)
    for g in range(start.guest.shape[1]):
        n = book.cells_of[by_cell, g]
        h = host_of[by_cell]
        total += np.where(
            n != state.NOWHERE,
            _residue(free[h, n], start.guest[by_cell, g, start.core[h]], goal),
            0,
        )
    change[by_cell] = total
    return change[who]


def _arrival(
    book: ledger.Ledger, free: arrays.Ints, goal: fragmentation.Fragmentation, v: int
) -> tuple[int, tuple[int, ...]] | None:
    """Return the host and cells where ``v`` lowers the fragments most, the first when several."""
    start = book.state
    hosts = book.hosts_with_room(v)
    # Coming back to other cells of the host it was on at first is no migration.
    hosts = hosts[(start.core[hosts] != state.NOWHERE) & (hosts != start.host_of[v])]
    guests = int(start.guests_of[v])
    celled = (start.cells[hosts] > 0) & (book.topologyless[hosts] == 0)
    # Where Nova chooses the cells there is one choice for each host.
    nova = book.numa is not None and guests > 0
    chosen = {int(h): book.cells_for(v, int(h)) for h in hosts} if nova else {}
    best: tuple[int, int, tuple[int, ...]] | None = None
    for count in np.unique(start.cells[hosts]):
        for cells in ledger.choices(guests, int(count)):
            # The first instance without topology turns cells into one unit: not judged here.
            here = hosts[(start.cells[hosts] == count) & ((guests > 0) | ~celled)]
            for g, n in enumerate(cells):
                room = start.cell_capacity[here, n] - book.cell_used[here, n]
                here = here[(room >= start.guest[v, g]).all(axis=1)]
            if nova:
                here = here[np.array([chosen[int(h)] == cells for h in here], dtype=bool)]
            if here.size == 0:
                continue
            change = np.zeros(here.size, dtype=np.int64)
            units = (start.cells[here] > 0) & (book.topologyless[here] == 0)
            whole = -start.demand[v, start.core[here]]
            change += np.where(units, 0, _residue(free[here, 0], whole, goal))
            for g, n in enumerate(cells):
                taken = -start.guest[v, g, start.core[here]]
                change += np.where(units, _residue(free[here, n], taken, goal), 0)
            k = int(np.argmin(change))
            found = (int(change[k]), int(here[k]), cells)
            if best is None or found[:2] < best[:2]:
                best = found
    return None if best is None else best[1:]


def _residue(
    free: arrays.Ints, more: arrays.Ints, goal: fragmentation.Fragmentation
) -> arrays.Ints:
    """Change of fragments, as the goal counts them, when ``free`` grows by ``more``."""
    change: arrays.Ints = goal.residue(np.maximum(free + more, 0)) - goal.residue(free)
    return change


def _never(goal: fragmentation.Fragmentation) -> int:
    """Return the fragments that would be of all X; what adds as many by leaving is not moved."""
    return goal.per_slot * len(goal.cores)

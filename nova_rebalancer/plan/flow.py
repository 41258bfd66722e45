# SPDX-License-Identifier: Apache-2.0
"""The aggregated flow model: how many instances of each kind leave and enter each place.

For each kind of interchangeable instances and each place (a host and the cells the guest is on)
there is one whole number of instances that leave and one of instances that enter.  Rows that let
the counts be turned into moves are added when a solution breaks them (``kinds`` says which).

The order of moves is not part of the model, so its bound holds for whatever the path-finder does.

References
----------
The binaries per instance and host of VMR2L's MIP (arXiv 2505.17359, section 2) are summed over
interchangeable instances here: about 8,000 whole numbers in place of 1.1 million binaries at 279
hosts and 2,089 instances, with the same optimum.
"""

import collections
from collections.abc import Sequence

import numpy as np
from ortools.sat.python import cp_model

from nova_rebalancer.model import arrays
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.plan import base
from nova_rebalancer.plan import kinds

Expr = cp_model.LinearExprT


class FlowModel:
    """The model of one state.

    Parameters
    ----------
    start
        The placement to improve.
    cores
        Each X of the fragment rate; none where slots and free cores are not asked for.
    limit
        Most instances that may move, at least 1, and most memory of them.
    tolerant
        Whether what is overfull in ``start`` may stay so, as long as nothing arrives there.
    all_kinds
        The kinds of ``start``'s instances, where a goal tells more apart than the rules do.
    within
        (K, H) hosts that each kind may leave, and those it may enter; None for all.
    """

    def __init__(
        self,
        start: state.PlacementState,
        cores: Sequence[int],
        limit: base.Limit,
        tolerant: bool = True,
        all_kinds: Sequence[kinds.Kind] | None = None,
        within: tuple[arrays.Bools, arrays.Bools] | None = None,
    ) -> None:
        self.start = start = kinds.apart(start)
        self._tolerant = tolerant
        self._within = within
        self.cores = cores
        self.kinds = kinds.kinds(start) if all_kinds is None else all_kinds
        self.model = cp_model.CpModel()
        self.limit = min(limit.moves, sum(kind.size for kind in self.kinds))
        self._used, self._cell_used = start.used(), start.cell_used()
        self.leave: list[dict[kinds.Place, cp_model.IntVar]] = []
        self.enter: list[dict[kinds.Place, cp_model.IntVar]] = []
        self._most_free()
        for k, kind in enumerate(self.kinds):
            self._add_kind(k, kind)
        self.moves: Expr = sum(var for places in self.leave for var in places.values())
        self.model.add(self.moves <= self.limit)
        if limit.mib is not None:
            memory = base.memories(start).tolist()
            copied = (
                memory[kind.example] * var
                for kind, places in zip(self.kinds, self.leave, strict=True)
                for var in places.values()
            )
            self.model.add(sum(copied) <= limit.mib)
        self._add_rows()
        self._add_cells()
        self._add_groups()
        self._add_conflicts()
        self.slots: Expr = 0
        self.free: Expr = 0
        self._slots: dict[tuple[int, int, int], cp_model.IntVar] = {}
        if cores:
            self._add_units()
        self._off_host: set[tuple[int, int]] = set()

    def _most_free(self) -> None:
        """Find what each row and cell has free if all that can leave has left."""
        start = self.start
        used, cell_used = self._used.copy(), self._cell_used.copy()
        for v in np.nonzero(start.movable)[0]:
            h = start.host_of[v]
            for r in np.nonzero(start.demand[v])[0]:
                if start.row_of[h, r] != state.NOWHERE:
                    used[start.row_of[h, r], r] -= start.demand[v, r]
            for g, n in enumerate(start.cells_of[v]):
                if n != state.NOWHERE:
                    cell_used[h, n] -= start.guest[v, g]
        self._most = start.capacity - used
        self._cell_most = start.cell_capacity - cell_used

    def _add_kind(self, k: int, kind: kinds.Kind) -> None:
        start, model, v = self.start, self.model, kind.example
        total = min(kind.size, self.limit)
        self.leave.append(
            {
                place: model.new_int_var(0, min(len(here), total), f"leave_{k}_{place}")
                for place, here in kind.at.items()
                if self._within is None or self._within[0][k, place[0]]
            }
        )
        asked = np.nonzero(start.demand[v])[0]
        enter: dict[kinds.Place, cp_model.IntVar] = {}
        for h in self._entrances(k, v):
            most = total
            for r in asked:
                row = int(start.row_of[h, r])
                # Moves inside a pool cost it nothing, however full it is.
                if row < len(start.hosts):
                    most = min(most, int(self._most[row, r] // start.demand[v, r]))
            for cells in ledger.choices(int(start.guests_of[v]), int(start.cells[h])):
                if kind.alike and tuple(sorted(cells)) != cells:
                    continue
                here = most
                for g, n in enumerate(cells):
                    for r in np.nonzero(start.guest[v, g])[0]:
                        here = min(here, int(self._cell_most[h, n, r] // start.guest[v, g, r]))
                if here > 0:
                    enter[h, cells] = model.new_int_var(0, here, f"enter_{k}_{h}_{cells}")
        self.enter.append(enter)
        model.add(sum(enter.values()) == sum(self.leave[k].values()))

    def _entrances(self, k: int, v: int) -> list[int]:
        """Return the hosts that instances of kind ``k``, such as ``v``, may enter."""
        start = self.start
        mask = start.allowed[start.eligibility_of[v]].copy()
        if self._within is not None:
            mask &= self._within[1][k]
        partners = start.conflicts.of(v)
        if partners.size:
            # Nobody else is of its kind who could take its place.
            mask[start.host_of[v]] = False
            mask[start.host_of[partners[~start.movable[partners]]]] = False
            mask[start.conflicts.barred.get(v, [])] = False
        return np.nonzero(mask)[0].tolist()

    def _add_rows(self) -> None:
        """Capacity of the rows: hosts and shared pools."""
        start = self.start
        into: dict[tuple[int, int], list[tuple[cp_model.IntVar, int]]]
        into, out = collections.defaultdict(list), collections.defaultdict(list)
        more: dict[tuple[int, int], list[Expr]] = collections.defaultdict(list)
        for kind, leave, enter in zip(self.kinds, self.leave, self.enter, strict=True):
            for r in np.nonzero(start.demand[kind.example])[0].tolist():
                amount = int(start.demand[kind.example, r])
                change_of: dict[int, Expr] = {}
                for sign, places, terms in ((-1, leave, out), (1, enter, into)):
                    for (h, _), var in places.items():
                        p = int(start.row_of[h, r])
                        terms[p, r].append((var, amount))
                        if p >= len(start.hosts):
                            change_of[p] = change_of.get(p, 0) + sign * var
                for p, change in change_of.items():
                    more[p, r].append(change)
        self._row_change = {
            key: sum(a * x for x, a in into[key]) - sum(a * x for x, a in out[key])
            for key in {**into, **out}
            if key[0] != state.NOWHERE
        }
        for (p, r), change in self._row_change.items():
            if (p, r) in into or not self._tolerant:
                # A pool's own hosts may exchange instances while it is overfull: nothing arrives
                # as long as there are not more of any kind.
                pool = p >= len(start.hosts)
                self._cap(
                    int(self._used[p, r]),
                    int(start.capacity[p, r]),
                    change,
                    more[p, r] if pool else [var for var, _ in into[p, r]],
                )

    def _add_cells(self) -> None:
        """Capacity of the NUMA cells."""
        start = self.start
        into: dict[tuple[int, int, int], list[tuple[cp_model.IntVar, int]]]
        into, out = collections.defaultdict(list), collections.defaultdict(list)
        for kind, leave, enter in zip(self.kinds, self.leave, self.enter, strict=True):
            for places, terms in ((leave, out), (enter, into)):
                for (h, cells), var in places.items():
                    for g, n in enumerate(cells):
                        for r in np.nonzero(start.guest[kind.example, g])[0].tolist():
                            if n != state.NOWHERE:
                                amount = int(start.guest[kind.example, g, r])
                                terms[h, n, r].append((var, amount))
        self._cell_change = {
            key: sum(a * x for x, a in into[key]) - sum(a * x for x, a in out[key])
            for key in {**into, **out}
        }
        for (h, n, r), change in self._cell_change.items():
            capacity = int(start.cell_capacity[h, n, r])
            if ((h, n, r) in into or not self._tolerant) and capacity < state.UNLIMITED:
                arrivals = [var for var, _ in into[h, n, r]]
                self._cap(int(self._cell_used[h, n, r]), capacity, change, arrivals)

    def _cap(
        self,
        used: int,
        capacity: int,
        change: Expr,
        arrivals: Sequence[Expr],
    ) -> None:
        """Keep a row within capacity; one that is overfull may shrink, and refuses arrivals."""
        if used <= capacity or not self._tolerant:
            self.model.add(change <= capacity - used)
            return
        self.model.add(change <= 0)
        if arrivals:
            arrives = self.model.new_bool_var("")
            for count in arrivals:
                self.model.add(count <= 0).only_enforce_if(~arrives)
            self.model.add(change <= capacity - used).only_enforce_if(arrives)

    def _add_groups(self) -> None:
        """Hard anti-affinity: at most so many members on a host."""
        start = self.start
        groups, in_group = state.group_members(start), state.in_groups(start)
        into: dict[tuple[int, int], list[cp_model.IntVar]] = collections.defaultdict(list)
        out: dict[tuple[int, int], list[cp_model.IntVar]] = collections.defaultdict(list)
        for kind, leave, enter in zip(self.kinds, self.leave, self.enter, strict=True):
            for k in groups.get(kind.example, ()):
                for (h, _), var in leave.items():
                    out[k, h].append(var)
                for (h, _), var in enter.items():
                    into[k, h].append(var)
        for k, h in {**into, **out} if not self._tolerant else list(into):
            arrivals = into[k, h]
            group = start.groups[k]
            members = int(in_group[k, h])
            change = sum(arrivals) - sum(out[k, h])
            self._cap(members, group.limit, change, arrivals)

    def _add_conflicts(self) -> None:
        """Of two instances in conflict no host takes one while the other is there."""
        start = self.start
        into: dict[int, dict[int, list[cp_model.IntVar]]] = {}
        away: dict[int, Expr] = {}
        for kind, leave, enter in zip(self.kinds, self.leave, self.enter, strict=True):
            if start.conflicts.of(kind.example).size:
                here: dict[int, list[cp_model.IntVar]] = collections.defaultdict(list)
                for (h, _), var in enter.items():
                    here[h].append(var)
                into[kind.example] = here
                away[kind.example] = sum(leave.values())
        for v, mine in into.items():
            for u in start.conflicts.of(v).tolist():
                if u not in into:
                    continue
                for var in mine.get(int(start.host_of[u]), ()):
                    self.model.add(var <= away[u])
                if u > v:
                    for h in mine.keys() & into[u].keys():
                        self.model.add(sum(mine[h]) + sum(into[u][h]) <= 1)

    def _add_units(self) -> None:
        """Slots of each X cores in each unit, and the free cores of all."""
        start, model = self.start, self.model
        topologyless = start.topologyless()
        carried = self._topologyless_change()
        slots: list[Expr] = []
        free: list[Expr] = []
        counted = start.usable & (start.core != state.NOWHERE)
        for h in np.nonzero(counted)[0].tolist():
            r, now = int(start.core[h]), int(topologyless[h])
            row = int(start.row_of[h, r])
            if start.cells[h] == 0 or (now > 0 and h not in carried):
                units = [self._row_free(row, r)]
            elif h not in carried:
                units = [self._cell_free(h, n, r) for n in range(int(start.cells[h]))]
            else:
                units = [self._mixed_free(h, row, r, now + carried[h], slots)]
                free += units
                continue
            for n, (expr, most) in enumerate(units):
                for x in self.cores:
                    slot = self._slots[h, n, x] = model.new_int_var(0, most // x, "")
                    model.add(x * slot <= expr)
                    slots.append(slot)
                free.append(expr)
        self.slots = sum(slots)
        self.free = sum(free)

    def _topologyless_change(self) -> dict[int, Expr]:
        """Hosts with cells whose count of instances without topology may change, and how."""
        start = self.start
        change: dict[int, Expr] = {}
        for kind, leave, enter in zip(self.kinds, self.leave, self.enter, strict=True):
            if start.guests_of[kind.example] == 0:
                for sign, places in ((-1, leave), (1, enter)):
                    for (h, _), var in places.items():
                        if start.cells[h] > 0:
                            change[h] = change.get(h, 0) + sign * var
        return change

    def _row_free(self, row: int, r: int) -> tuple[Expr, int]:
        """Free cores of a row, and the most there can be."""
        now = int(self.start.capacity[row, r] - self._used[row, r])
        return self._not_negative(now, self._row_change.get((row, r), 0), int(self._most[row, r]))

    def _cell_free(self, h: int, n: int, r: int) -> tuple[Expr, int]:
        """Free cores of a cell, and the most there can be; none where cores are not counted."""
        capacity = int(self.start.cell_capacity[h, n, r])
        if capacity >= state.UNLIMITED:
            return 0, 0
        return self._not_negative(
            capacity - int(self._cell_used[h, n, r]),
            self._cell_change.get((h, n, r), 0),
            int(self._cell_most[h, n, r]),
        )

    def _not_negative(self, now: int, change: Expr, most: int) -> tuple[Expr, int]:
        """Return max(0, now - change) and its upper limit."""
        most = max(most, 0)
        if now >= 0:
            return now - change, most
        free = self.model.new_int_var(0, most, "")
        self.model.add_max_equality(free, [0, now - change])
        return free, most

    def _mixed_free(self, h: int, row: int, r: int, carried: Expr, slots: list[Expr]) -> Expr:
        """Free cores of a host that is one unit or many, as instances without topology decide."""
        model, start = self.model, self.start
        whole_free, whole_most = self._row_free(row, r)
        whole = model.new_bool_var(f"whole_{h}")
        model.add(carried >= 1).only_enforce_if(whole)
        model.add(carried == 0).only_enforce_if(~whole)
        free = model.new_int_var(0, 2 * max(whole_most, 1) + 2**31, f"free_{h}")
        model.add(free == whole_free).only_enforce_if(whole)
        for x in self.cores:
            slot = model.new_int_var(0, whole_most // x, f"slots_{h}")
            model.add(x * slot <= whole_free).only_enforce_if(whole)
            model.add(slot == 0).only_enforce_if(~whole)
            slots.append(slot)
        cells: list[Expr] = []
        for n in range(int(start.cells[h])):
            cell_free, most = self._cell_free(h, n, r)
            cells.append(cell_free)
            for x in self.cores:
                slot = model.new_int_var(0, most // x, f"slots_{h}_{n}")
                model.add(x * slot <= cell_free).only_enforce_if(~whole)
                model.add(slot == 0).only_enforce_if(whole)
                slots.append(slot)
        model.add(free == sum(cells)).only_enforce_if(~whole)
        return free

    def free_is_constant(self) -> bool:
        """Whether no move changes the free cores of the cloud: then only slots decide."""
        start = self.start
        if self._topologyless_change():
            return False
        counted = start.usable & (start.core != state.NOWHERE)
        whole = (start.cells == 0) | (start.topologyless() > 0)
        for kind, leave, enter in zip(self.kinds, self.leave, self.enter, strict=True):
            v = kind.example
            amounts = set()
            for h, cells in (*leave, *enter):
                if not counted[h]:
                    amounts.add(0)
                    continue
                r = start.core[h]
                if whole[h]:
                    amounts.add(int(start.demand[v, r]))
                    row = start.row_of[h, r]
                    # Each host counts a pool's cores as its own.
                    over = row >= len(start.hosts) or self._used[row, r] > start.capacity[row, r]
                else:
                    amounts.add(
                        sum(
                            int(start.guest[v, g, r])
                            for g, n in enumerate(cells)
                            if n >= 0 and start.cell_capacity[h, n, r] < state.UNLIMITED
                        )
                    )
                    over = (self._cell_used[h, :, r] > start.cell_capacity[h, :, r]).any()
                if over:
                    return False
            if len(amounts) > 1:
                return False
        return True

    def separate(self, flow: kinds.Flow) -> bool:
        """Add the rows that ``flow`` breaks: more leaving and entering at a host than moves."""
        added = False
        for k, (leave, enter) in enumerate(zip(flow.leave, flow.enter, strict=True)):
            for h in kinds.crowded(leave, enter):
                if (k, h) not in self._off_host:
                    self._off_host.add((k, h))
                    added = True
                    here = [
                        var
                        for places in (self.leave[k], self.enter[k])
                        for (host, _), var in places.items()
                        if host == h
                    ]
                    self.model.add(sum(here) <= sum(self.leave[k].values()))
        return added

    def hint(self, host_of: arrays.Ints, cells_of: arrays.Ints) -> None:
        """Give the solver a placement to start from."""
        flow = kinds.read(self.start, self.kinds, host_of, cells_of)
        now = self.start.placed(host_of, cells_of)
        self.model.clear_hints()
        if self._slots:
            free = fragmentation.unit_free(now, now.used(), now.cell_used(), now.topologyless())
            for (h, n, x), slot in self._slots.items():
                self.model.add_hint(slot, int(free[h, n]) // x)
        for variables, counts in ((self.leave, flow.leave), (self.enter, flow.enter)):
            for places, count in zip(variables, counts, strict=True):
                for place, var in places.items():
                    self.model.add_hint(var, count.get(place, 0))

    def placement(self, flow: kinds.Flow) -> state.PlacementState:
        """Name the instances behind a solution that ``separate`` found nothing to add for."""
        return kinds.placement(self.start, self.kinds, flow)

    def flow(self, value: cp_model.CpSolver) -> kinds.Flow:
        """Read a solution; what leaves and enters the same place cancels out."""
        leave_all, enter_all = [], []
        for leave, enter in zip(self.leave, self.enter, strict=True):
            out = {place: int(value.value(var)) for place, var in leave.items()}
            into = {place: int(value.value(var)) for place, var in enter.items()}
            net_out, net_into = dict(out), dict(into)
            for place in out.keys() & into.keys():
                same = min(out[place], into[place])
                net_out[place] -= same
                net_into[place] -= same
            # Two instances that change places by way of a third place may need it: an instance
            # that leaves a host can come back to other cells only as another of its kind.
            if not kinds.crowded(net_out, net_into):
                out, into = net_out, net_into
            leave_all.append({place: count for place, count in out.items() if count})
            enter_all.append({place: count for place, count in into.items() if count})
        return kinds.Flow(
            tuple(leave_all),
            tuple(enter_all),
            int(value.value(self.slots)),
            int(value.value(self.free)),
        )

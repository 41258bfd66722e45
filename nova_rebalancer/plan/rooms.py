# SPDX-License-Identifier: Apache-2.0
"""Room for more instances of a size, in the flow model and in its linear relaxation.

A host has room for the whole number below the smallest of its free amounts over the size's.  The
relaxation alone would count the fractions of all hosts as room; rows by mixed-integer rounding are
exact for a host where nothing moves, and no looser where one instance does.

References
----------
Nemhauser, Wolsey (1990), A recursive procedure to generate all cuts for 0-1 mixed integer programs
(the rounding).
"""

import collections
import dataclasses

import numpy as np
from ortools.sat.python import cp_model

from nova_rebalancer.model import arrays
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.plan import flow


@dataclasses.dataclass(slots=True)
class _Host:
    """What may leave and enter, as an example and the variable, and room if all has left."""

    leave: list[tuple[int, cp_model.IntVar]] = dataclasses.field(default_factory=list)
    enter: list[tuple[int, cp_model.IntVar]] = dataclasses.field(default_factory=list)
    most: int = 0


class Rooms:
    """The room of one size in a flow model, on the hosts where it may change.

    ``missing`` is an expression: how many less there is room for than if all that can leave had
    left; ``most`` is its upper limit and ``at_start`` its value where nothing moves.
    """

    def __init__(self, model: flow.FlowModel, room: formula.Room) -> None:
        self._model, self._room = model, room
        self._slots: dict[int, cp_model.IntVar] = {}
        carried = room.carried(model.start.host_of)
        hosts = self._hosts(carried)
        for h, host in hosts.items():
            if host.most:
                self._slots[h] = model.model.new_int_var(0, host.most, "")
                self._fit(h, host, room.capacity[h] - carried[h])
        self.most = sum(host.most for host in hosts.values())
        self.missing: flow.Expr = self.most - sum(self._slots.values())
        now = room.slots(carried)
        self.at_start = self.most - sum(int(now[h]) for h in hosts)

    def _hosts(self, carried: arrays.Ints) -> dict[int, _Host]:
        room, found = self._room, collections.defaultdict[int, _Host](_Host)
        least = carried.copy()
        for kind, leave, enter in zip(
            self._model.kinds, self._model.leave, self._model.enter, strict=True
        ):
            v = kind.example
            if not room.amount[v].any():
                continue
            for place, var in leave.items():
                found[place[0]].leave.append((v, var))
                least[place[0]] -= len(kind.at[place]) * room.amount[v]
            for (h, _), var in enter.items():
                found[h].enter.append((v, var))
        most = room.slots(least)
        for h, host in found.items():
            host.most = int(most[h])
        return found

    def _fit(self, h: int, host: _Host, free: arrays.Ints) -> None:
        """Leave no more room than there is of any amount."""
        model, some = self._model.model, None
        for a, need in enumerate(self._room.need.tolist()):
            of = self._room.amount[:, a].tolist()
            change = sum(of[v] * var for v, var in host.leave) - sum(
                of[v] * var for v, var in host.enter
            )
            row = model.add(need * self._slots[h] <= int(free[a]) + change)
            if free[a] < 0:
                # What is overfull may stay so.
                if some is None:
                    some = model.new_bool_var("")
                    model.add(self._slots[h] == 0).only_enforce_if(~some)
                row.only_enforce_if(some)

    def hint(self, placement: state.PlacementState) -> None:
        """Give the solver the values that belong to a placement."""
        slots = self._room.slots(self._room.carried(placement.host_of))
        for h, var in self._slots.items():
            self._model.model.add_hint(var, int(slots[h]))


def straight(amount: arrays.Ints, free: arrays.Ints, need: int) -> arrays.Floats:
    """Return what each that takes ``amount`` (K,) changes of free (H,) over need, (K, H)."""
    return np.repeat(-amount[:, None] / need, free.size, axis=1)


def rounded(amount: arrays.Ints, free: arrays.Ints, need: int) -> arrays.Floats:
    """Return the same for free // need, at most, for whole numbers of instances, (K, H).

    With x of each that take ``amount`` (K,), negative if they leave, a host with ``free`` >= 0 has
    (free - sum(amount * x)) // need <= free // need + sum(rounded * x).
    """
    gain = -amount[:, None] / need
    whole = np.floor(gain)
    rest = free % need / need
    found: arrays.Floats = whole + np.minimum(1.0, (gain - whole) / (1.0 - rest))
    return found

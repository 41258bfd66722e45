# SPDX-License-Identifier: Apache-2.0
"""One hop after another: what fits goes, and what blocks steps aside.

Every hop is checked on the ledger with its instance on both hosts, so any prefix of the
sequence is sane.  When nothing fits, one instance is sent to an intermediate host (a bypass) if
that lets another one go; first an instance that has to leave anyway, then one that would stay
and comes back.
"""

from collections.abc import Iterator
from collections.abc import Mapping

from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model import reason
from nova_rebalancer.model import state
from nova_rebalancer.path import base

Spot = tuple[int, tuple[int, ...]]
"""A host and the host cells of the guest cells."""


class Sequence:
    """The hops from ``start`` to the target, found by ``find``."""

    def __init__(
        self, start: state.PlacementState, goal: Mapping[int, Spot], cost: base.Cost
    ) -> None:
        self.start = start
        self.book = ledger.Ledger(start)
        self.hops: list[path.Hop] = []
        # Host by host: what leaves one host makes useful room together, so that a path that is
        # stopped half-way has paid for what it did.
        order = sorted(goal, key=lambda v: (int(start.host_of[v]), v))
        self.pending = {v: goal[v] for v in order}
        self.unreachable: dict[int, reason.Reason] = {}
        self._cost = cost
        self._stepped_aside: set[int] = set()

    def find(self, limits: base.Limits) -> None:
        """Fill ``hops`` and ``unreachable``; at most ``limits.max_migrations`` hops."""
        while self.pending:
            if self._go(limits):
                continue
            left = limits.max_migrations - len(self.hops)
            if left < 1:
                self._give_up("max_migrations", "the limit on migrations was spent")
            elif limits.spent() or not self._step_aside(left):
                self._give_up("no_room", "no order of migrations was found that makes room for it")

    def _go(self, limits: base.Limits) -> bool:
        """Move all that fit where they belong now; say whether any did."""
        went = False
        for v, (h, cells) in list(self.pending.items()):
            if len(self.hops) >= limits.max_migrations:
                break
            spot = self.book.spot_for(v, h, cells)
            if spot is not None:
                self._hop(v, h, spot, path.DIRECT)
                del self.pending[v]
                went = True
        return went

    def _hop(self, v: int, h: int, cells: tuple[int, ...], role: str) -> None:
        source = int(self.book.host_of[v])
        self.hops.append(path.Hop(v, source, self._cells(v), h, cells, role))
        self.book.move(v, h, cells)

    def _cells(self, v: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self.book.cells_of[v, : self.start.guests_of[v]])

    def _give_up(self, code: str, why: str) -> None:
        """Leave what is pending where it is."""
        for v, (h, _) in self.pending.items():
            name = self.start.service_hosts[h]
            self.unreachable[v] = reason.Reason(
                code, {"host": name}, f"{self.start.instances[v]} cannot reach {name}: {why}"
            )
        self.pending = {}

    def _step_aside(self, left: int) -> bool:
        """Make one bypass that lets a pending instance go; say whether there was one."""
        best: tuple[float, int, Spot] | None = None
        for v, (h, cells) in self.pending.items():
            for u, extra in self._blockers(v, h):
                hops = 2 if extra else 1
                price = self._cost.cost(self.start, u) * hops
                if hops > left or (best is not None and price >= best[0]):
                    continue
                spot = self._refuge(u, v, h, cells)
                if spot is not None:
                    best = (price, u, spot)
        if best is None:
            return False
        _, u, (h, cells) = best
        home = (int(self.book.host_of[u]), self._cells(u))
        self._stepped_aside.add(u)
        self._hop(u, h, cells, path.BYPASS)
        self.pending.setdefault(u, home)
        return True

    def _blockers(self, v: int, h: int) -> Iterator[tuple[int, bool]]:
        """Instances on ``h`` that may step aside for ``v``; True with those that must return."""
        for u in (self.book.host_of == h).nonzero()[0].tolist():
            if u != v and self.start.movable[u] and u not in self._stepped_aside:
                yield u, u not in self.pending

    def _refuge(self, u: int, v: int, h: int, cells: tuple[int, ...]) -> Spot | None:
        """Return where ``u`` can wait so that ``v`` fits on ``cells`` of ``h``, None if nowhere."""
        if state.NOWHERE in self._cells(u) and u not in self.pending:
            return None
        wanted = {host for host, _ in self.pending.values()}
        hosts = self.book.hosts_with_room(u).tolist()
        for other in sorted(hosts, key=lambda other: other in wanted):
            spot = self.book.cells_for(u, other)
            if spot is None:
                continue
            self.book.move(u, other, spot)
            fits = self.book.spot_for(v, h, cells) is not None
            self.book.take_back()
            if fits:
                return other, spot
            # Where it waits does not change what it frees here.
            if other != self.book.host_of[v]:
                return None
        return None

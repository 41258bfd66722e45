# SPDX-License-Identifier: Apache-2.0
"""The migration path: a partial order of migrations that leads to a target."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from nova_rebalancer.model import arrays
from nova_rebalancer.model import ledger
from nova_rebalancer.model import reason
from nova_rebalancer.model import state

DIRECT, BYPASS = "direct", "bypass"
LIVE = "live"


class InsanePathError(ValueError):
    """A path's order breaks a rule; the text says which migration and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hop:
    """One instance from one host to another; ``v``, ``source``, ``dest`` are indices.

    ``role`` is BYPASS when the instance does not stay at ``dest``.
    """

    v: int
    source: int
    source_cells: tuple[int, ...]
    dest: int
    dest_cells: tuple[int, ...]
    role: str


@dataclasses.dataclass(frozen=True, slots=True)
class Migration:
    """A hop in its place in the order.

    Attributes
    ----------
    depends_on
        Positions of the migrations that must be CONFIRMED before this one starts.
    wave
        From 1; greater than that of all it depends on.
    start_s, end_s
        Estimates from the start of the path.
    """

    hop: Hop
    depends_on: tuple[int, ...]
    wave: int
    start_s: float
    end_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class MigrationPath:
    """Migrations in an executable order, and what is known about them.

    Attributes
    ----------
    migrations
        In an order in which they can be carried out one after another.
    unreachable
        Instances that do not get to their target, by index, and why.
    reachable
        True when the migrations lead to the whole target, False when it is proved that no path
        leads there, None when that is unknown.
    cost
        Sum of the cost of the migrations.
    optimal
        Whether it is proved that no path to the whole target costs less, or that there is none.
    makespan_bound_s
        No schedule of a path to the whole target ends sooner under the same limits, seconds.
    certificate
        What proves that there is no path, see ``nova_rebalancer/path/certificate.py``.
    blocking
        Hosts, by index, whose lack of room keeps instances from their targets.
    """

    migrations: tuple[Migration, ...]
    unreachable: Mapping[int, reason.Reason]
    reachable: bool | None = None
    cost: float = 0.0
    optimal: bool = False
    makespan_bound_s: float = 0.0
    certificate: Mapping[str, Any] | None = None
    blocking: tuple[int, ...] = ()

    @property
    def makespan_s(self) -> float:
        """Estimated time from the first start to the last end."""
        return max((migration.end_s for migration in self.migrations), default=0.0)

    def ends(self, start: state.PlacementState) -> arrays.Ints:
        """Return where every instance is in the end, (V,)."""
        host_of = start.host_of.copy()
        for migration in self.migrations:
            host_of[migration.hop.v] = migration.hop.dest
        return host_of

    def replay(self, start: state.PlacementState) -> state.PlacementState:
        """Carry the migrations out in order, one at a time, and return where that leads.

        Raises
        ------
        InsanePathError
            If a migration does not start where its instance is, or breaks a rule.
        """
        book = ledger.Ledger(start)
        for k, migration in enumerate(self.migrations):
            hop = migration.hop
            name = start.instances[hop.v]
            if book.host_of[hop.v] != hop.source:
                raise InsanePathError(f"migration {k}: {name} is not on its source")
            if not start.movable[hop.v]:
                raise InsanePathError(f"migration {k}: {name} must not be migrated")
            if not book.fits(hop.v, hop.dest, hop.dest_cells):
                raise InsanePathError(
                    f"migration {k}: {name} does not fit on {start.service_hosts[hop.dest]}"
                )
            book.move(hop.v, hop.dest, hop.dest_cells)
        return book.placement()

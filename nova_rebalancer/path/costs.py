# SPDX-License-Identifier: Apache-2.0
"""What an entry point of ``nova_rebalancer.costs`` is, and what it is told."""

from collections.abc import Mapping
import dataclasses
from typing import Protocol
from typing import runtime_checkable

from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.path import base


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What operators may set about costs, and what was measured.

    Attributes
    ----------
    migration_rate_mibps
        MiB that one migration copies in a second.
    dirty_rate_mibps
        MiB that an instance writes in a second where nobody measured it.
    migration_downtime_s
        Longest that an instance may stand still at the end of its migration.
    migration_timeout_s
        After how long Nova gives a migration up, for each GiB; 0: never.
    time_factors
        By how much migrations of instances of a flavor took longer than their memory says.
    """

    migration_rate_mibps: float = 1000.0
    dirty_rate_mibps: float = 2.5
    migration_downtime_s: float = 0.5
    migration_timeout_s: float = 800.0
    time_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Make(Protocol):
    """What the entry point is: it makes the cost for one cloud."""

    def __call__(
        self, snapshot: cloud.Snapshot, start: state.PlacementState, settings: Settings
    ) -> base.Cost:
        """Return the cost; ``start`` are the arrays of ``snapshot``.

        Raises
        ------
        UsageError
            If the settings do not fit the cloud.
        """


@runtime_checkable
class Doubtful(Protocol):
    """A cost that knows of migrations that should not be expected to end well."""

    def doubt(self, start: state.PlacementState, v: int) -> str | None:
        """Say what is wrong with migrating instance ``v``, None if nothing is."""

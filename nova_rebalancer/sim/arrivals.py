# SPDX-License-Identifier: Apache-2.0
"""What comes to a simulated cloud and when it goes: the same for every policy.

References
----------
The time that is left of a lifetime, seen at any moment of a long run, has the distribution with
the density (1 - F(t)) / mean (Feller, vol. II, XI.4): for an exponential lifetime the same again,
for a Lomax lifetime of shape a and scale s a Lomax of shape a - 1 and scale s.
"""

from collections.abc import Mapping
import dataclasses
import math
import random

from nova_rebalancer import exceptions
from nova_rebalancer.sim import books
from nova_rebalancer.sim import kinds

DAY_S = 86400.0

SHAPE = 2.5
"""Of heavy-tailed lifetimes: half of them end within 0.48 of the mean, one in sixteen outlives
three means."""

MOST_BOOTS = 5_000_000
"""Made up at most: a gigabyte of them, and hours of simulation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Boot:
    """An instance of a kind is asked for; ``lifetime_s`` None means that one is resized to it."""

    at_s: float
    name: str
    kind: int
    lifetime_s: float | None
    group: books.Group | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Story:
    """What happens whatever the policies do.

    Attributes
    ----------
    boots
        In the order of time.
    ends_s
        When each instance that is there at the start goes; what is missing stays.
    """

    boots: tuple[Boot, ...]
    ends_s: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long instances live: exponential, or with a heavy tail (Lomax, SHAPE)."""

    mean_s: float
    heavy: bool = True

    def __post_init__(self) -> None:
        if not self.mean_s > 0:
            raise ValueError(f"the mean lifetime must be more than 0, not {self.mean_s}")

    def draw_s(self, chance: float) -> float:
        """Return the lifetime that a share ``chance``, in [0, 1), of all instances outlives not."""
        return self._quantile_s(chance, SHAPE)

    def left_s(self, chance: float) -> float:
        """Return the same of what is left of lifetimes at any moment."""
        return self._quantile_s(chance, SHAPE - 1)

    def _quantile_s(self, chance: float, shape: float) -> float:
        if not self.heavy:
            return -self.mean_s * math.log1p(-chance)
        scale_s = self.mean_s * (SHAPE - 1)
        return scale_s * math.expm1(-math.log1p(-chance) / shape)


def ends_s(cloud: kinds.Kinds, lifetimes: Lifetimes, seed: int) -> dict[str, float]:
    """Return when each instance of the snapshot goes; those that are migrating stay."""
    draws = random.Random(f"ends {seed}")
    staying = {migration.instance for migration in cloud.snapshot.running_migrations}
    drawn = {one.id: lifetimes.left_s(draws.random()) for one in cloud.snapshot.instances}
    return {name: end_s for name, end_s in drawn.items() if name not in staying}


def generate(
    cloud: kinds.Kinds, days: float, load: float, lifetimes: Lifetimes, seed: int
) -> Story:
    """Make up arrivals like what is there: each is the like of an instance or of a whole group.

    Parameters
    ----------
    load
        Offered load: cores that would be in use on average if none were refused, as a share of the
        cores of the usable hosts, > 0.

    Raises
    ------
    InputError
        If nothing is there that arrivals could be like.
    UsageError
        If more than ``MOST_BOOTS`` of them are to be expected.
    """
    deployments = _deployments(cloud)
    cores = sum(cloud.cores[v] for members, _ in deployments for v in members)
    start = cloud.start
    rows = start.core[start.usable]
    counted = rows >= 0
    hosts = start.usable.nonzero()[0][counted]
    capacity = int(start.capacity[start.row_of[hosts, rows[counted]], rows[counted]].sum())
    if not cores or not capacity:
        lack = "instances with cores" if capacity else "cores on usable hosts"
        raise exceptions.InputError(
            f"cloud {cloud.snapshot.cloud}: it has no {lack} to make up arrivals from; give "
            "arrivals in a file"
        )
    booted = sum(len(members) for members, _ in deployments)
    expected = days * DAY_S * load * capacity * booted / (lifetimes.mean_s * cores)
    if expected > MOST_BOOTS:
        raise exceptions.UsageError(
            f"{days:g} days with a load of {load:g} and lifetimes of "
            f"{lifetimes.mean_s / DAY_S:g} days make about {expected:.2g} boots, more than "
            f"{MOST_BOOTS:,}; take fewer days, a lower --load or a longer --lifetime"
        )
    gap_s = lifetimes.mean_s * cores / len(deployments) / (load * capacity)
    draws = random.Random(f"arrivals {seed}")
    boots: list[Boot] = []
    at_s, number = 0.0, 0
    while True:
        at_s += -gap_s * math.log1p(-draws.random())
        if at_s >= days * DAY_S:
            break
        number += 1
        members, policy = deployments[int(draws.random() * len(deployments))]
        lifetime_s = lifetimes.draw_s(draws.random())
        group = None
        if policy is not None:
            group = dataclasses.replace(policy, id=f"group-{number}")
        for k, v in enumerate(members):
            name = f"boot-{number}" if len(members) == 1 else f"boot-{number}-{k + 1}"
            boots.append(Boot(at_s, name, v, lifetime_s, group))
    return Story(tuple(boots), ends_s(cloud, lifetimes, seed))


def _deployments(cloud: kinds.Kinds) -> list[tuple[tuple[int, ...], books.Group | None]]:
    """Return what is deployed at once: whole groups, and instances without one."""
    index = {one.id: v for v, one in enumerate(cloud.snapshot.instances)}
    found: list[tuple[tuple[int, ...], books.Group | None]] = []
    grouped: set[str] = set()
    for group in cloud.snapshot.server_groups:
        members = tuple(index[name] for name in group.members if name in index)
        grouped.update(group.members)
        if members:
            like = books.Group(group.id, group.policy, group.max_server_per_host)
            found.append((members, like))
    found += [((v,), None) for name, v in index.items() if name not in grouped]
    return found

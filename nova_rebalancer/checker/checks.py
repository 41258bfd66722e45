# SPDX-License-Identifier: Apache-2.0
"""The checks that a plan's options name: what they forbid beside the rules.

``overcommit``, ``headroom``, ``groups``, ``backup`` and ``converges`` are restated here; what an
operator added cannot be judged, and the verdict says so.
"""

import collections
from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import itertools
import math
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts

SIZED = ("host", "pool")
"""Limits that are inventories of their own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checks:
    """What the checks leave.

    Attributes
    ----------
    most
        Lower capacities, by limit.
    stay
        Why an instance is not moved, by its id.
    apart
        Whom an instance must not meet, by its id.
    unknown
        Checks that are not known here.
    """

    most: Mapping[facts.Limit, int]
    stay: Mapping[str, str]
    apart: Mapping[str, frozenset[str]]
    unknown: tuple[str, ...]

    def capacity(self, cloud: facts.Cloud, limit: facts.Limit) -> int:
        """Return the most that may be charged to ``limit``."""
        capacity = facts.capacity(cloud, limit)
        return min(capacity, self.most.get(limit, capacity))


@dataclasses.dataclass(slots=True)
class _Found:
    """What is collected check by check; ``options`` are the plan's."""

    cloud: facts.Cloud
    options: documents.Document
    most: dict[facts.Limit, int] = dataclasses.field(default_factory=dict)
    stay: dict[str, str] = dataclasses.field(default_factory=dict)
    apart: dict[str, set[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(set)
    )


def read(cloud: facts.Cloud, plan: documents.Document) -> Checks:
    """Return what the checks of a plan leave of a cloud.

    Raises
    ------
    Broken
        Of kind ``format``: a check with a value that is none.
    """
    found, unknown = _Found(cloud, plan["options"]), []
    said = plan["options"].get("checks", ())
    for text in map(str, said if isinstance(said, list | tuple) else (said,)):
        name, equals, value = text.partition("=")
        if name not in KNOWN:
            unknown.append(text)
            continue
        try:
            KNOWN[name](found, value if equals else None)
        except ValueError as error:
            raise broken.Broken("format", None, f"options.checks: {text}: {error}") from error
    apart = {name: frozenset(others) for name, others in found.apart.items()}
    return Checks(found.most, found.stay, apart, tuple(unknown))


def _inventories(found: _Found, lower: Callable[[str, documents.Document, int], int]) -> None:
    """Lower the capacity of every inventory."""
    for what, key in zip(SIZED, ("hosts", "pools"), strict=True):
        for entry in found.cloud.document.get(key, ()):
            for resource, values in entry["inventories"].items():
                capacity = facts.inventory(values).capacity
                limit = what, entry["id"], resource
                now = found.most.get(limit, capacity)
                found.most[limit] = min(now, max(0, lower(resource, values, capacity)))


def _numbers(value: str | None, most: float) -> dict[str, float]:
    """Read ``NUMBER`` or ``CLASS:NUMBER``, at commas; the class "" stands for the others."""
    numbers = {}
    for part in (value or "").split(","):
        resource, _, number = part.strip().rpartition(":")
        amount = float(number)
        if not 0 <= amount < most:
            raise ValueError(f"{amount} is not from 0 to below {most}")
        numbers[resource] = amount
    return numbers


def _overcommit(found: _Found, value: str | None) -> None:
    """Nothing is filled above an allocation ratio."""
    ratios = _numbers(value, math.inf)

    def lower(resource: str, values: documents.Document, capacity: int) -> int:
        ratio = ratios.get(resource, ratios.get("", math.inf))
        if ratio == math.inf:
            return capacity
        return math.floor((int(values["total"]) - int(values.get("reserved", 0))) * ratio)

    _inventories(found, lower)


def _headroom(found: _Found, value: str | None) -> None:
    """A share of each inventory stays free."""
    shares = _numbers(value, 1.0)
    if "VCPU" in shares:
        shares = {"PCPU": shares["VCPU"], **shares}

    def lower(resource: str, values: documents.Document, capacity: int) -> int:
        return capacity - math.ceil(capacity * shares.get(resource, shares.get("", 0.0)))

    _inventories(found, lower)


def _groups(found: _Found, value: str | None) -> None:
    """Soft groups are kept as hard ones."""
    _without(value)
    for group in found.cloud.document.get("server_groups", ()):
        inside = [name for name in group["members"] if name in found.cloud.placement]
        if group["policy"] == "soft-anti-affinity":
            for one, other in itertools.permutations(set(inside), 2):
                found.apart[one].add(other)
        elif group["policy"] == "soft-affinity":
            for one, other in itertools.permutations(set(inside), 2):
                if found.cloud.placement[one].host == found.cloud.placement[other].host:
                    found.stay[one] = f'would leave members of soft affinity group "{group["id"]}"'


def _backup(found: _Found, value: str | None) -> None:
    """What has a tag stays."""
    if value == "":
        raise ValueError("no tag")
    tag = "backup" if value is None else value
    for name, instance in found.cloud.instances.items():
        if tag in instance.entry.get("tags", ()):
            found.stay[name] = f"has the tag {tag}"


def _converges(found: _Found, value: str | None) -> None:
    """What is written faster than it is copied stays, and what Nova would give up."""
    _without(value)
    given = found.options
    usual, standing, patience, writing = (
        float(given.get(key, default))
        for key, default in (
            ("migration_rate_mibps", 1000.0),
            ("migration_downtime_s", 0.5),
            ("migration_timeout_s", 800.0),
            ("dirty_rate_mibps", 2.5),
        )
    )
    for name, instance in found.cloud.instances.items():
        size = instance.allocations.get("MEMORY_MB", 0)
        measured = instance.entry.get("usage", {}).get("MEMORY_DIRTY_MIBPS")
        written = writing if measured is None else float(measured["mean"])
        rate = _rate(found.cloud.hosts[instance.entry["host"]], usual)
        spent, rest = 0.0, float(size)
        limit = patience * max(2.0, size / 1024) if patience else math.inf
        while rest > rate * standing and spent <= limit:
            if written >= rate:
                spent = math.inf
                break
            spent += rest / rate
            rest *= written / rate
        spent += rest / rate
        if spent > limit * (1 + 1e-9) or spent == math.inf:
            found.stay[name] = f"writes {written:g} MiB/s and is copied at {rate:g} MiB/s"


def _rate(host: facts.Host, usual: float) -> float:
    told = (host.entry.get("migration_mibps") or {}).get("value")
    try:
        known = float(told) if told is not None else usual
    except ValueError:
        return usual
    return min(usual, known) if known > 0 else usual


def _without(value: str | None) -> None:
    if value is not None:
        raise ValueError("takes no value")


KNOWN: Mapping[str, Callable[[_Found, str | None], Any]] = {
    "overcommit": _overcommit,
    "headroom": _headroom,
    "groups": _groups,
    "backup": _backup,
    "converges": _converges,
}

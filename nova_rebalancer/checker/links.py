# SPDX-License-Identifier: Apache-2.0
"""What several migrations share on their way: uplinks of racks, and migration networks."""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import facts

FACTS = {"uplink": "rack", "network": "migration_link"}


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """Service hosts that share something with room for ``most`` migrations at a time.

    A migration uses it when one end is behind it; with ``inside``, also when both are.
    """

    name: str
    hosts: frozenset[str]
    most: int
    inside: bool

    def carries(self, source: str, dest: str) -> bool:
        """Whether a migration uses it."""
        ends = {source in self.hosts, dest in self.hosts}
        return ends == {True, False} or (self.inside and ends == {True})


def read(cloud: facts.Cloud, given: Mapping[str, Any]) -> list[Link]:
    """Return the links that options limit; what is said of one counts before what is of all.

    Raises
    ------
    Broken
        Of kind ``format``: a text that is none.
    """
    rate = float(given.get("migration_rate_mibps", 1000.0))
    found: dict[tuple[bool, str, str], Link] = {}
    for text in given.get("links", ()):
        subject, _, limit = str(text).rpartition("=")
        kind, _, name = subject.partition(":")
        least = _most(cloud, frozenset(), limit, rate)
        if kind not in FACTS or (least is not None and least < 1):
            raise broken.Broken("format", None, f"options.links: {text!r} is no limit of a link")
        for key, hosts in _behind(cloud, kind, name):
            most = _most(cloud, hosts, limit, rate)
            if most is not None:
                link = Link(f"{kind} {key}", hosts, math.floor(most), kind == "network")
                found[bool(name), kind, key] = link
    return [link for (named, *key), link in found.items() if named or (True, *key) not in found]


def _behind(cloud: facts.Cloud, kind: str, name: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the names of what is meant, and the service hosts behind each."""
    told: dict[str, set[str]] = {}
    for host in cloud.hosts.values():
        value = (host.entry.get(FACTS[kind]) or {}).get("value")
        if value is not None:
            told.setdefault(value, set()).add(host.name)
    for key, hosts in told.items():
        if name in ("", key):
            yield key, frozenset(hosts)
    if name and name not in told:
        for one in cloud.document.get("aggregates", ()):
            if one["name"] == name:
                yield name, frozenset(cloud.hosts[host].name for host in one["hosts"])


def _most(cloud: facts.Cloud, hosts: frozenset[str], limit: str, rate_mibps: float) -> float | None:
    """Return how many migrations at a time, 0 if that is not a limit, None for any number."""
    try:
        if limit == "told":
            said = [cloud.by_service[name].entry.get("migration_mibps") for name in hosts]
            carried = [float(one["value"]) for one in said if one and one["value"] is not None]
            return max(1.0, min(carried) / rate_mibps) if carried else None
        if limit.endswith("MiB/s"):
            amount = float(limit.removesuffix("MiB/s"))
            return max(1.0, amount / rate_mibps) if amount > 0 else 0.0
        return int(limit)
    except ValueError:
        return 0.0

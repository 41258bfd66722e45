# SPDX-License-Identifier: Apache-2.0
"""The one gate that every request goes through: how many may be in flight, and of what."""

import collections
from collections.abc import Iterable
import dataclasses

from nova_rebalancer.model import cloud
from nova_rebalancer.model import links
from nova_rebalancer.store import records

HARD = ("affinity", "anti-affinity")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Most migrations in flight at the same time, of all and of what they share; None: no limit.

    ``project_share`` and ``group_share`` are shares of a project's instances and of a server
    group's members; one always may.  ``per_hour`` counts what is asked for in 60 minutes.
    ``links`` are lists of limits as operators write them, each of which holds; of what a link
    carries one migration takes ``rate_mibps``.
    """

    total: int = 8
    per_source: int = 1
    per_dest: int = 1
    per_zone: int | None = None
    per_project: int | None = None
    per_link: int | None = None
    per_hour: int | None = None
    project_share: float = 1.0
    group_share: float = 1.0
    links: tuple[tuple[str, ...], ...] = ()
    rate_mibps: float = 1000.0


class Gate:
    """Limits over one cloud; ``facts`` say what migrations share.

    Raises
    ------
    UsageError
        If a link is limited that the cloud does not have.
    """

    def __init__(self, limits: Limits, facts: cloud.Snapshot) -> None:
        self._limits = limits
        self._links = [
            one for said in limits.links for one in links.of(said, facts, limits.rate_mibps)
        ]
        self._host = {host.service_host: h for h, host in enumerate(facts.hosts)}
        self._zone: dict[str, str | None] = {}
        self._link: dict[str, str | None] = {}
        for host in facts.hosts:
            self._zone[host.service_host] = host.az
            link = host.migration_link
            self._link[host.service_host] = link.value if link else None
        self._project = {one.id: one.project for one in facts.instances}
        self._sizes = collections.Counter(self._project.values())
        self._groups: dict[str, list[cloud.ServerGroup]] = collections.defaultdict(list)
        self._group = {group.id: group for group in facts.server_groups}
        for group in facts.server_groups:
            for member in group.members:
                self._groups[member].append(group)

    def blocks(
        self, entry: records.Entry, flying: Iterable[records.Entry], last_hour: int
    ) -> str | None:
        """Say what keeps a migration from being asked for now, beside those in flight.

        ``last_hour`` is how many were asked for in the last 60 minutes.
        """
        limits = self._limits
        if limits.per_hour is not None and last_hour >= limits.per_hour:
            return f"{last_hour} migrations were asked for within an hour"
        counts: collections.Counter[tuple[str, str | None]] = collections.Counter()
        flying = tuple(flying)
        for other in flying:
            if other.instance == entry.instance:
                return f"{entry.instance} is in flight already"
            counts.update(self._shares(other))
        for share in self._shares(entry):
            most, name = self._most(share), " ".join(map(str, share))
            if most is not None and counts[share] >= most:
                return f"{counts[share]} in flight: {name}"
        for link in self._links:
            if self._uses(entry, link):
                there = sum(self._uses(other, link) for other in flying)
                if there >= link.limit:
                    return f"{there} in flight: {link.name}"
        return None

    def _uses(self, entry: records.Entry, link: links.Link) -> bool:
        """Whether a migration takes a place of a link."""
        ends = [self._host.get(host, -1) for host in (entry.source, entry.dest)]
        return link.carries(*ends)

    def _shares(self, entry: records.Entry) -> set[tuple[str, str | None]]:
        """What a migration takes a place of."""
        shares: set[tuple[str, str | None]] = {
            ("total", None),
            ("source", entry.source),
            ("dest", entry.dest),
            ("project", self._project.get(entry.instance)),
        }
        for host in (entry.source, entry.dest):
            shares.add(("zone", self._zone.get(host)))
            shares.add(("link", self._link.get(host)))
        shares.update(("group", group.id) for group in self._groups[entry.instance])
        return shares

    def _most(self, share: tuple[str, str | None]) -> int | None:
        """How many may take a place of it at once."""
        kind, name = share
        limits = self._limits
        if kind == "total":
            return limits.total
        if name is None:
            # Nobody knows what they share.
            return None
        if kind == "group":
            group = self._group[str(name)]
            # Two at once can break a hard policy: Nova checks each against where both still are
            # (bug 1821755).
            if group.policy in HARD:
                return 1
            return max(1, int(limits.group_share * len(group.members)))
        if kind == "project":
            part = max(1, int(limits.project_share * self._sizes[name]))
            return part if limits.per_project is None else min(part, limits.per_project)
        most: int | None = getattr(limits, f"per_{kind}")
        return most

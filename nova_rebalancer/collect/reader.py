# SPDX-License-Identifier: Apache-2.0
"""One pass over a cloud: everything that is asked, in an order that makes the answers fit.

Lists first, at the same time; then each provider; then what changed meanwhile.  A later pass
lists all servers again, for tags show in no list of changes, but asks for providers and topologies
only where something moved.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import logging
import math
import threading
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.collect import glance
from nova_rebalancer.collect import neutron
from nova_rebalancer.collect import nova
from nova_rebalancer.collect import numa
from nova_rebalancer.collect import placement
from nova_rebalancer.collect import reading
from nova_rebalancer.rest import client

LOG = logging.getLogger(__name__)

Json = dict[str, Any]

IN_A_ROW = 3
"""Providers that fail one after the other mean that Placement does not work at all."""

SINGLE = 500
"""Consumers asked for one by one at most; beyond it the providers are read again."""

NAMED = 3
"""Images named in a line; the others are counted."""

OVERLAP_S = 2
"""Changes are asked for from this much before the begin: clocks have whole seconds."""


class Progress:
    """Hears what is being read; this one says nothing."""

    def step(self, what: str, done: int, total: int | None = None) -> None:
        """Take that ``done`` of ``total`` (None: unknown) of something were read."""


@dataclasses.dataclass(frozen=True)
class Hints:
    """Servers and hosts that somebody says have changed; never believed, only looked at."""

    servers: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()


class Reader:
    """Reads one cloud."""

    def __init__(self, ask: client.Client, progress: Progress) -> None:
        self._ask = ask
        self._progress = progress
        self._nova = nova.Nova(ask)
        self._placement = placement.Placement(ask)

    def read(
        self,
        earlier: reading.Earlier | None = None,
        hints: Hints | None = None,
        full_every_s: float = math.inf,
    ) -> reading.Reading:
        """Read everything, with ``earlier`` only what may have changed since.

        An ``earlier`` reading of everything that is ``full_every_s`` old is not used.  After an
        error the client asks nothing more.

        Raises
        ------
        CloudError
            If something cannot be read without which there is no snapshot.
        """
        try:
            return self._read(earlier, hints or Hints(), full_every_s)
        except BaseException:
            # Workers would go on with what is left.
            self._ask.stop()
            raise

    def _read(
        self, earlier: reading.Earlier | None, hints: Hints, full_every_s: float
    ) -> reading.Reading:
        identity = self._ask.identity()
        # The first answer also tells the cloud's time.
        unreachable = self._nova.unreachable()
        started = self._ask.now()
        # The cloud's time is known to a second: right after another pass it may seem to go back.
        if earlier is not None and not -OVERLAP_S <= started - earlier.read_at < full_every_s:
            earlier = None
        now = reading.Reading(
            identity,
            started,
            earlier.read_at if earlier else started,
            earlier.checked_at if earlier else started,
        )
        now.unreachable = unreachable
        now.microversions = {
            "compute": self._nova.version,
            "placement": self._placement.version,
        }
        self._lists(now, earlier)
        self._changed_allocations(now, earlier, hints)
        self._topologies(now, earlier)
        self._catch_up(now)
        self._settle(now)
        if not all(server["specs_shown"] for server in now.servers.values()):
            now.lacks.append(
                reading.Lack(
                    "flavor extra specs",
                    "Nova does not show them to this account: it needs the role reader, or the "
                    "policy os_compute_api:servers:show:flavor-extra-specs",
                )
            )
        now.vnic_types = self._vnic_types(now)
        self._images(now, earlier)
        self._all_groups(now)
        # A cell that went down meanwhile took its servers out of the lists.
        now.dead_hosts = dead([*now.services, *self._nova.services()])
        now.requests = self._ask.requests
        return now

    def _lists(self, now: reading.Reading, earlier: reading.Earlier | None) -> None:
        """Read all lists, and with the list of providers all that are new or changed."""
        ask = self._nova

        def servers() -> None:
            now.servers = ask.servers(lambda done: self._progress.step("servers", done))

        def hypervisors() -> None:
            now.hypervisors = ask.hypervisors()
            self._progress.step("hypervisors", len(now.hypervisors))

        def services() -> None:
            now.services = ask.services()

        def aggregates() -> None:
            now.aggregates = ask.aggregates()

        def groups() -> None:
            now.groups = ask.groups()

        def migrations() -> None:
            now.migrations = dict(earlier.migrations) if earlier else {}
            self._take(now, ask.migrations(earlier.started - OVERLAP_S if earlier else None))

        def flavors() -> None:
            try:
                now.flavors = ask.flavors()
                if "admin" not in self._ask.account().roles:
                    why = "Nova shows private flavors to administrators only"
                    now.lacks.append(reading.Lack("private flavors", why, []))
            except client.Refused as error:
                # Servers carry their flavors with them, so no plan needs the list.
                now.lacks.append(reading.Lack("flavors", str(error), []))

        self._ask.each(
            lambda work: work(),
            (
                servers,
                lambda: self._providers(now, earlier),
                hypervisors,
                services,
                aggregates,
                groups,
                migrations,
                flavors,
            ),
            lambda done: None,
        )

    def _providers(self, now: reading.Reading, earlier: reading.Earlier | None) -> None:
        known = earlier.providers if earlier else {}
        listed = self._placement.providers()
        changed = []
        for one in listed:
            before = known.get(one["uuid"])
            parent, root = one.get("parent_provider_uuid"), one.get("root_provider_uuid")
            if before is not None and before.generation == one["generation"]:
                now.providers[one["uuid"]] = dataclasses.replace(
                    before,
                    name=one["name"],
                    parent=parent,
                    root=root or one["uuid"],
                    allocations=dict(before.allocations),
                )
            else:
                changed.append(one)
        self._read_providers(now, changed)
        self._sharing(now)

    def _sharing(self, now: reading.Reading) -> None:
        """Read which providers share with which, if any do."""
        if not any(placement.SHARES in one.traits for one in now.providers.values()):
            return
        lacking = [one for one in now.providers.values() if one.aggregates is None]
        found = self._ask.each(
            lambda provider: self._placement.aggregates(provider.id), lacking, lambda done: None
        )
        for provider, aggregates in zip(lacking, found, strict=True):
            provider.aggregates = aggregates or []

    def _read_providers(self, now: reading.Reading, listed: Sequence[Json]) -> None:
        """Read what is new of some providers; one that cannot be read lacks its host."""
        failed = _InARow()

        def read(one: Json) -> reading.Provider | reading.Lack | None:
            name = one["uuid"]
            try:
                inventories = self._placement.inventories(name)
                traits = self._placement.traits(name)
                allocations = self._placement.allocations(name)
            except client.Refused:
                # Rights are the same for all providers.
                raise
            except exceptions.CloudError as error:
                failed.add(error)
                root = one.get("root_provider_uuid") or name
                return reading.Lack(f"provider {one['name']}", str(error), [root])
            failed.clear()
            if inventories is None or traits is None or allocations is None:
                LOG.info("provider=%s vanished while it was read", one["name"])
                return None
            return reading.Provider(
                name,
                one["name"],
                one.get("parent_provider_uuid"),
                one.get("root_provider_uuid") or name,
                one["generation"],
                inventories,
                traits,
                None,
                allocations,
            )

        total = len(listed)
        read_ones = self._ask.each(
            read, listed, lambda done: self._progress.step("providers", done, total)
        )
        for one in read_ones:
            if isinstance(one, reading.Provider):
                if one.id in now.providers:
                    # Read a second time in this pass.
                    one.aggregates = now.providers[one.id].aggregates
                now.providers[one.id] = one
            elif one is not None:
                now.lacks.append(one)

    def _changed_allocations(
        self, now: reading.Reading, earlier: reading.Earlier | None, hints: Hints
    ) -> None:
        """Ask again for allocations that may have changed without a new generation.

        Deleting allocations does not change the provider's (placement
        ``objects/allocation.py``, ``delete_all``), and moving a consumer away does not either.
        """
        if earlier is None:
            return
        doubtful = {
            name
            for name, server in now.servers.items()
            if earlier.stamps.get(name) != reading.stamp(server)
            or name in hints.servers
            or server["host"] in hints.hosts
        }
        doubtful |= earlier.stamps.keys() - now.servers.keys()
        # What is neither a server nor a migration at the same stage goes without a sign.
        same = {
            name
            for name, one in now.migrations.items()
            if one["status"] == earlier.migrations.get(name, {}).get("status")
        }
        for provider in now.providers.values():
            doubtful.update(
                name
                for name in provider.allocations
                if name not in now.servers and name not in same
            )
        self._ask_consumers(now, doubtful)

    def _ask_consumers(self, now: reading.Reading, consumers: Iterable[str]) -> None:
        names = sorted(consumers)
        if len(names) > max(SINGLE, len(now.providers)):
            again = [
                {
                    "uuid": one.id,
                    "name": one.name,
                    "generation": one.generation,
                    "parent_provider_uuid": one.parent,
                    "root_provider_uuid": one.root,
                }
                for one in now.providers.values()
            ]
            self._read_providers(now, again)
            return
        found = self._ask.each(
            self._placement.consumer,
            names,
            lambda done: self._progress.step("allocations", done, len(names)),
        )
        for name, by_provider in zip(names, found, strict=True):
            for one in now.providers.values():
                one.allocations.pop(name, None)
            for provider, resources in by_provider.items():
                if provider in now.providers:
                    now.providers[provider].allocations[name] = resources

    def _topologies(self, now: reading.Reading, earlier: reading.Earlier | None) -> None:
        """Read the topologies of servers that have one."""
        wanted = []
        for name, server in now.servers.items():
            if server["host"] is None or not numa.asked(server):
                continue
            known = (now.topologies if earlier is None else earlier.topologies).get(name)
            if known is not None and known[0] == reading.stamp(server):
                now.topologies[name] = known
            else:
                wanted.append(name)
        self._ask_topologies(now, wanted)

    def _ask_topologies(self, now: reading.Reading, names: Sequence[str]) -> None:
        def read(name: str) -> Json | reading.Lack | None:
            try:
                return self._nova.topology(name)
            except exceptions.CloudError as error:
                return reading.Lack(f"NUMA topology of {name}", str(error), [name])

        found = self._ask.each(
            read, names, lambda done: self._progress.step("topologies", done, len(names))
        )
        for name, topology in zip(names, found, strict=True):
            if isinstance(topology, reading.Lack):
                # Its host is named when hosts are known.
                now.topologies[name] = [None, topology.reason]
            elif topology is not None:
                now.topologies[name] = [reading.stamp(now.servers[name]), topology]

    def _catch_up(self, now: reading.Reading, doubtful: Iterable[str] = ()) -> None:
        """Read again what changed while the rest was read, and allocations that are doubtful."""
        changed, gone = self._changes(now)
        moved = [
            name
            for name, server in changed.items()
            if name not in now.servers or reading.stamp(now.servers[name]) != reading.stamp(server)
        ]
        left = [name for name in gone if now.servers.pop(name, None) is not None]
        now.servers.update(changed)
        again = {*moved, *left, *doubtful}
        if not again:
            return
        LOG.info("servers changed=%d gone=%d while the cloud was read", len(moved), len(left))
        ended = self._take(now, self._nova.migrations(now.started - OVERLAP_S))
        self._ask_consumers(now, {*again, *ended, *now.migrations})
        self._ask_topologies(
            now, [n for n in moved if now.servers[n]["host"] and numa.asked(now.servers[n])]
        )

    def _changes(self, now: reading.Reading) -> tuple[dict[str, Json], list[str]]:
        """Return what has changed and what is gone since the reading began."""
        return self._nova.changed(now.started - OVERLAP_S)

    def _settle(self, now: reading.Reading) -> None:
        """Look once more at servers that Placement has somewhere else than Nova.

        Not one by one: Nova shows servers of other projects to administrators only.
        """
        at: dict[str, set[str]] = {}
        for one in now.providers.values():
            for consumer in one.allocations:
                at.setdefault(consumer, set()).add(one.root)
        node_of = {nova.service_host(node): node["id"] for node in now.hypervisors}
        migrating = {one.get("instance_uuid") for one in now.migrations.values()}
        odd = []
        for name, server in now.servers.items():
            node = node_of.get(server["host"])
            if node in now.providers and name not in migrating and node not in at.get(name, ()):
                odd.append(name)
        if odd and len(odd) <= SINGLE:
            self._catch_up(now, odd)

    def _take(self, now: reading.Reading, migrations: Iterable[Json]) -> list[str]:
        """Note what is in progress; return the uuids of what was and is no more."""
        ended = []
        for one in migrations:
            if one.get("status") in nova.IN_PROGRESS:
                now.migrations[one["uuid"]] = _reduced(one)
            elif now.migrations.pop(one["uuid"], None) is not None:
                ended.append(one["uuid"])
        return ended

    def _vnic_types(self, now: reading.Reading) -> dict[str, list[str]] | None:
        networked = {name for name, server in now.servers.items() if server["addresses"]}
        if not networked:
            return {}
        own = self._ask.account().project
        # Everybody sees the ports of the own project.
        others = {name for name in networked if now.servers[name]["project"] != own}
        try:
            return neutron.vnic_types(self._ask, sorted(others or networked))
        except exceptions.CloudError as error:
            now.lacks.append(reading.Lack("ports", str(error)))
            return None

    def _images(self, now: reading.Reading, earlier: reading.Earlier | None) -> None:
        """Read which traits images require, where Nova does not show it.

        Nova goes by the image as it was when the server was made or last rebuilt.  So an image is
        asked for again only where a server made of it is new or changed.
        """
        used: dict[str, list[str]] = {}
        for name, server in now.servers.items():
            image = server["image"]["id"]
            if server["host"] is not None and image is not None and not glance.told(server):
                used.setdefault(image, []).append(name)
        if earlier is not None:
            for image, names in used.items():
                same = all(
                    earlier.stamps.get(name) == reading.stamp(now.servers[name]) for name in names
                )
                if same and image in earlier.images:
                    now.images[image] = earlier.images[image]
        try:
            now.images.update(glance.traits(self._ask, sorted(used.keys() - now.images.keys())))
        except exceptions.CloudError as error:
            now.lacks.append(reading.Lack("image traits", str(error), []))
            return
        unseen = sorted(image for image, shown in now.images.items() if shown is None)
        if unseen:
            more = f" and {len(unseen) - NAMED} more" if len(unseen) > NAMED else ""
            servers = sum(len(used[image]) for image in unseen)
            why = (
                f"Glance does not show {', '.join(unseen[:NAMED])}{more}, deleted or not for this "
                f"account; servers made of that: {servers}"
            )
            now.lacks.append(reading.Lack("image traits", why, []))

    def _all_groups(self, now: reading.Reading) -> None:
        """Make sure that the server groups are all there are.

        Only administrators are told of other projects' groups; anybody else gets a short list
        without a sign (nova ``compute/server_groups.py``, ``index``), and servers without the
        hint of their group (``objects/request_spec.py``, ``_from_db_object``).
        """
        own = self._ask.account().project
        others = any(server["project"] != own for server in now.servers.values())
        seen = any(group.get("project_id") != own for group in now.groups)
        if others and not seen and "admin" not in self._ask.account().roles:
            now.lacks.append(
                reading.Lack(
                    "server groups",
                    "Nova shows those of all projects to administrators only; an administrator's "
                    "application credential that allows GET alone is enough",
                )
            )
        members: dict[str, list[str]] = {}
        for name, server in now.servers.items():
            hint = hinted(server)
            if hint is not None:
                members.setdefault(hint, []).append(name)
        if members.keys() - {group["id"] for group in now.groups}:
            # Made while the cloud was read.
            now.groups = self._nova.groups()
        for group in now.groups:
            listed = group["members"] = list(group.get("members") or ())
            listed += [name for name in members.get(group["id"], ()) if name not in listed]


def hinted(server: Json) -> str | None:
    """Return the server group a server was made in, None if in none."""
    group = server["hints"].get("group")
    if isinstance(group, list):
        group = group[0] if group else None
    return None if group is None else str(group)


def dead(services: Iterable[Json]) -> list[str]:
    """Return hosts of cells that do not answer: their services are stubs (nova, from 2.69 on)."""
    return sorted({str(one.get("host")) for one in services if one.get("status") == "UNKNOWN"})


def _reduced(migration: Json) -> Json:
    return {
        key: migration.get(key)
        for key in (
            "id",
            "uuid",
            "instance_uuid",
            "status",
            "migration_type",
            "source_compute",
            "dest_compute",
        )
    }


class _InARow:
    """Raises the last error when there are too many without a success between them."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def add(self, error: Exception) -> None:
        with self._lock:
            self._count += 1
            if self._count >= IN_A_ROW:
                raise error

    def clear(self) -> None:
        with self._lock:
            self._count = 0

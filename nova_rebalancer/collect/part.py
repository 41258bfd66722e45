# SPDX-License-Identifier: Apache-2.0
"""Fresh facts of some hosts of a cloud that was read whole a while ago.

They are for the last look before a migration is asked for.  What the rules see of these hosts is
as new as in a snapshot of the whole cloud, for a few dozen small requests whatever the size of the
cloud.  The whole reading still tells the hypervisors, the flavors, which providers are shared, and
whether there are several cells.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools
import logging
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import document
from nova_rebalancer.collect import facts
from nova_rebalancer.collect import live
from nova_rebalancer.collect import neutron
from nova_rebalancer.collect import nova
from nova_rebalancer.collect import placement
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.model import cloud
from nova_rebalancer.rest import client

LOG = logging.getLogger(__name__)

Json = dict[str, Any]

AGAIN = ("ports", "image traits")
"""What the whole reading may lack and a part is read for anew."""

ATTEMPTS = 3
"""How often an instance that changes while its part is read is looked at."""

AT_ONCE = 32
"""Servers in one request for ports: so many ids are 1.5 kB of it."""


class Parts:
    """Looks at parts of one cloud; safe to use from several threads.

    Parameters
    ----------
    ask
        A client of an administrator's: nobody else is shown single servers and groups.
    whole
        The cloud as it was read last.
    told
        The operator's facts.
    """

    def __init__(self, ask: client.Client, whole: live.Live, told: facts.Facts | None) -> None:
        self._ask = ask
        self._whole = whole
        self._earlier = _earlier(whole.reading)
        self._told = told

    def look(self, instance: str, hosts: Sequence[str]) -> cloud.Snapshot:
        """Return fresh facts of some service hosts and all that is on them.

        With them come the host of ``instance``, wherever it is now, and the other ends of
        migrations that are under way on these hosts.  Members of its server groups that are on
        none of them are ``outside``, with the hosts they are on.

        Raises
        ------
        CloudError
            If something of it cannot be read.
        """
        one = PartReader(self._ask.renewed(), self._whole.reading, self._earlier)
        now, nodes = one.part(instance, hosts)
        whole = self._whole.snapshot
        made = assemble.document(now, whole.cloud, whole.region, nodes, LOG.debug)
        made["several_cells"] = made["several_cells"] or whole.several_cells
        if self._told is not None:
            # What the file says of hosts that are not here is no mistake.
            facts.apply(made, self._told)
        try:
            return document.snapshot(made, "a part of it makes no sound snapshot")
        except exceptions.InputError as error:
            raise exceptions.CloudError(f"cloud {whole.cloud}: {error}") from None


class PartReader(reader.Reader):
    """Reads a part of a cloud of which the ``whole`` was read before."""

    def __init__(
        self, ask: client.Client, whole: reading.Reading, earlier: reading.Earlier
    ) -> None:
        super().__init__(ask, reader.Progress())
        self._whole = whole
        self._earlier = earlier
        self._hosts: set[str] = set()
        self._members: set[str] = set()
        """Of the server groups of the instance."""

    def part(self, instance: str, hosts: Iterable[str]) -> tuple[reading.Reading, frozenset[str]]:
        """Return what was read, and the ids of the hosts that it has.

        Raises
        ------
        CloudError
            If something of it cannot be read.
        """
        try:
            return self._part(instance, hosts)
        except BaseException:
            self._ask.stop()
            raise

    def _part(self, instance: str, hosts: Iterable[str]) -> tuple[reading.Reading, frozenset[str]]:
        whole = self._whole
        identity = self._ask.identity()
        found = self._nova.server(instance)
        started = self._ask.now()
        now = reading.Reading(identity, started, started, started)
        now.hypervisors, now.flavors = whole.hypervisors, whole.flavors
        now.microversions = whole.microversions
        now.lacks = [one for one in whole.lacks if not one.hosts and one.what not in AGAIN]
        # Before changes are asked for: what begins in between is found by its server's change.
        begun = self._nova.begun()
        listed: list[Json] = []
        wanted = set(hosts)
        if found is not None and found["host"]:
            wanted.add(found["host"])
        self._all(
            lambda: self._own_groups(now, instance, found),
            *(functools.partial(self._tree, listed, pool) for pool in self._pools()),
            *self._of_hosts(now, wanted, begun, listed),
        )
        self._all(*self._of_hosts(now, _ends(now) - wanted, begun, listed))
        if found is not None:
            now.servers.setdefault(instance, found)
        # A cell that went down meanwhile took its servers out of the lists, so services come now.
        self._all(
            lambda: self._services(now),
            lambda: self._aggregates(now),
            lambda: self._elsewhere(now, self._members),
            lambda: self._read_providers(now, sorted(listed, key=lambda one: str(one["uuid"]))),
        )
        self._sharing(now)
        nodes = frozenset(self._nodes(self._hosts))
        # Servers that are charged on the hosts, and are on none of them by Nova.
        self._elsewhere(now, _charged(now, nodes) - now.migrations.keys())
        self._topologies(now, self._earlier)
        self._finish(now)
        self._last(now, instance)
        now.requests = self._ask.requests
        return now, nodes

    def _all(self, *works: Callable[[], None]) -> None:
        self._ask.each(lambda work: work(), works, lambda done: None)

    def _each(self, names: Iterable[str], ask: Callable[[str], Json | None]) -> dict[str, Json]:
        """Ask for each of some things, and return those that there are."""
        asked = sorted(names)
        found = self._ask.each(ask, asked, lambda done: None)
        return {name: one for name, one in zip(asked, found, strict=True) if one is not None}

    # Nova

    def _of_hosts(
        self, now: reading.Reading, hosts: Iterable[str], begun: Iterable[Json], listed: list[Json]
    ) -> Iterable[Callable[[], None]]:
        """Return what is to be asked about some hosts.

        Migrations that were in progress when the whole cloud was read still are, unless they
        changed.  Providers go to ``listed``, to be read.
        """
        known = frozenset(hosts)
        self._hosts |= known
        since = self._whole.started - reader.OVERLAP_S
        self._take(now, [one for one in self._whole.migrations.values() if _touches(one, known)])
        self._take(now, [one for one in begun if _touches(one, known)])

        def migrations(host: str) -> None:
            self._take(now, self._nova.changed_on(host, since))

        def servers(host: str) -> None:
            now.servers.update(self._nova.on_host(host))

        return [
            *(functools.partial(servers, host) for host in known),
            *(functools.partial(migrations, host) for host in known),
            *(functools.partial(self._tree, listed, node) for node in self._nodes(known)),
        ]

    def _nodes(self, hosts: Iterable[str]) -> list[str]:
        """Return the ids of the hypervisors of some service hosts."""
        names = frozenset(hosts)
        return [one["id"] for one in self._whole.hypervisors if nova.service_host(one) in names]

    def _services(self, now: reading.Reading) -> None:
        now.services = self._nova.services()
        now.dead_hosts = reader.dead(now.services)
        if now.dead_hosts:
            now.unreachable = self._nova.unreachable()

    def _aggregates(self, now: reading.Reading) -> None:
        now.aggregates = self._nova.aggregates()

    def _own_groups(self, now: reading.Reading, instance: str, found: Json | None) -> None:
        """Read the groups of the instance; those of others are as the whole reading has them.

        A server comes into a group when it is made and never later.
        """
        own = {one["id"] for one in self._whole.groups if instance in one["members"]}
        hint = None if found is None else reader.hinted(found)
        fresh = self._each(own | ({hint} if hint else set()), self._nova.group)
        now.groups = [
            *fresh.values(),
            *(one for one in self._whole.groups if one["id"] not in own | {hint}),
        ]
        self._members = {name for one in fresh.values() for name in one.get("members") or ()}

    def _groups(self, now: reading.Reading) -> None:
        """Keep the groups that matter here, with all members that are known."""
        hinted: dict[str, list[str]] = {}
        for name, server in now.servers.items():
            hint = reader.hinted(server)
            if hint is not None:
                hinted.setdefault(hint, []).append(name)
        # Made after the whole cloud was read.
        new = hinted.keys() - {one["id"] for one in now.groups}
        known = now.servers.keys() | now.unreachable
        kept = []
        for one in (*now.groups, *self._each(new, self._nova.group).values()):
            named = dict.fromkeys((*(one.get("members") or ()), *hinted.get(one["id"], ())))
            # Who is gone since the whole reading is a member no more.
            members = [name for name in named if name in known]
            if members:
                kept.append({**one, "members": members})
        now.groups = kept

    def _changes(self, now: reading.Reading) -> tuple[dict[str, Json], list[str]]:
        """Return changes of what is or was here; the rest of the cloud does not matter."""
        changed, gone = super()._changes(now)
        charged = {name for one in now.providers.values() for name in one.allocations}
        here = {
            name: server
            for name, server in changed.items()
            if server["host"] in self._hosts or name in now.servers or name in charged
        }
        return here, gone

    # Placement

    def _pools(self) -> list[str]:
        providers = self._whole.providers
        return [name for name, one in providers.items() if placement.SHARES in one.traits]

    def _tree(self, listed: list[Json], provider: str) -> None:
        path = f"/resource_providers?in_tree={provider}"
        found = self._ask.get("placement", path, self._placement.version)
        listed += found["resource_providers"]

    def _elsewhere(self, now: reading.Reading, servers: Iterable[str]) -> None:
        """Read servers that are on none of the hosts."""
        now.servers.update(self._each(set(servers) - now.servers.keys(), self._nova.server))

    # What depends on all of it

    def _finish(self, now: reading.Reading, doubtful: Iterable[str] = ()) -> None:
        self._catch_up(now, doubtful)
        self._settle(now)
        self._groups(now)
        now.lacks = [one for one in now.lacks if one.what not in AGAIN]
        self._images(now, self._earlier)
        now.vnic_types = self._vnic_types(now)

    def _last(self, now: reading.Reading, instance: str) -> None:
        """Read the instance after all else: a lock or a tag set until now must be seen."""
        for attempt in range(1, ATTEMPTS + 1):
            before = now.servers.pop(instance, None)
            found = self._nova.server(instance)
            if found is None:
                return
            now.servers[instance] = found
            same = before is not None and reading.stamp(before) == reading.stamp(found)
            if same or attempt == ATTEMPTS:
                return
            self._finish(now, [instance])

    def _vnic_types(self, now: reading.Reading) -> dict[str, list[str]] | None:
        """Return the special ports of the servers on the hosts."""
        networked = sorted(
            name
            for name, one in now.servers.items()
            if one["addresses"] and one["host"] in self._hosts
        )
        asked = [networked[i : i + AT_ONCE] for i in range(0, len(networked), AT_ONCE)]
        own = self._ask.account().project
        # Everybody sees the ports of the own project.
        others = {name for name in networked if now.servers[name]["project"] != own}
        try:
            pages = self._ask.each(
                lambda names: list(neutron.ports(self._ask, names)), asked, lambda done: None
            )
        except exceptions.CloudError as error:
            now.lacks.append(reading.Lack("ports", str(error)))
            return None
        ports = [port for page in pages for port in page]
        if networked and (others or set(networked)).isdisjoint(port["device_id"] for port in ports):
            why = "Neutron shows no port of servers that have addresses"
            now.lacks.append(reading.Lack("ports", why))
            return None
        found: dict[str, set[str]] = {}
        for port in ports:
            kind = port.get("binding:vnic_type")
            if kind not in (None, neutron.NORMAL):
                found.setdefault(port["device_id"], set()).add(str(kind))
        return {name: sorted(kinds) for name, kinds in found.items()}


def _touches(migration: Json, hosts: frozenset[str]) -> bool:
    return not hosts.isdisjoint((migration["source_compute"], migration["dest_compute"]))


def _ends(now: reading.Reading) -> set[str]:
    """Return the hosts from and to which migrations are under way."""
    ends = {
        one[end] for one in now.migrations.values() for end in ("source_compute", "dest_compute")
    }
    return {host for host in ends if host is not None}


def _charged(now: reading.Reading, nodes: Iterable[str]) -> set[str]:
    """Return what is charged on some hosts, whatever it is."""
    roots = frozenset(nodes)
    return {name for one in now.providers.values() if one.root in roots for name in one.allocations}


def _earlier(whole: reading.Reading) -> reading.Earlier:
    return reading.Earlier(
        whole.started,
        whole.read_at,
        whole.checked_at,
        {name: reading.stamp(server) for name, server in whole.servers.items()},
        whole.migrations,
        whole.providers,
        whole.topologies,
        whole.images,
    )

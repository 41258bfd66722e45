# SPDX-License-Identifier: Apache-2.0
"""A cloud in memory: it is read like a cloud and carries out live migrations like one.

It keeps books of its own and knows nothing of plans, so what it refuses is a second opinion on
them.  Time stands still until ``advance`` is called.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import datetime
import heapq
import itertools

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import migratable

SETUP_S = 1.0
"""Seconds a migration takes beside copying memory."""

Thing = tuple[str | int, ...]
"""Something of which there is so much: a resource of a provider or cell, a group on a host."""


class RefusedError(exceptions.RebalancerError):
    """The cloud does not start this migration: skip it and all that waits for it.

    ``code`` is one word for programs.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    """A live migration under way; hosts are ids, times are seconds of the cloud's clock."""

    instance: str
    source: str
    dest: str
    cells: tuple[int, ...] | None
    start_s: float
    end_s: float

    def progress(self, now_s: float) -> float:
        """Share of it that is done, in [0, 1]."""
        return min(1.0, max(0.0, (now_s - self.start_s) / (self.end_s - self.start_s)))


class SimCloud:
    """The cloud of a snapshot, at ``now_s`` seconds after it was taken.

    Parameters
    ----------
    snapshot
        Where everything is; the migrations that run in it go on for ever.
    rate_mibps
        Memory in MiB that one live migration copies per second, > 0.
    settings
        How it keeps the rules.
    """

    def __init__(
        self,
        snapshot: cloud.Snapshot,
        rate_mibps: float = 1000.0,
        settings: base.Settings = base.DEFAULTS,
    ) -> None:
        if not rate_mibps > 0:
            raise ValueError(f"rate_mibps must be more than 0, not {rate_mibps}")
        self.now_s = 0.0
        self._start = snapshot
        self._rate_mibps = rate_mibps
        self._hosts = {host.id: host for host in snapshot.hosts}
        self._instances = {instance.id: instance for instance in snapshot.instances}
        self._pools = {pool.id: pool for pool in snapshot.pools}
        self._view = state.view_of(snapshot, settings)
        self._seen = {host.id: host for host in self._view.hosts}
        self._groups: dict[str, list[cloud.ServerGroup]] = collections.defaultdict(list)
        for group in snapshot.server_groups:
            for member in group.members:
                self._groups[member].append(group)
        self._partners: dict[str, set[str]] = collections.defaultdict(set)
        for one, other in snapshot.conflicts:
            self._partners[one].add(other)
            self._partners[other].add(one)
        self._stuck = {migration.instance for migration in snapshot.running_migrations}
        self._flights: dict[str, Flight] = {}
        self._ends: list[tuple[float, int, str]] = []
        self._started = 0
        self._charged: collections.Counter[Thing] = collections.Counter()
        for instance in snapshot.instances:
            self._charged.update(self._things(instance, instance.host, _cells(instance)))
        for host in snapshot.hosts:
            for held in host.held:
                for resource, amount in held.resources.items():
                    thing, _ = self._offer(host, resource)
                    self._charged[thing] += amount
        for instance_id, far in self._far_ends().items():
            instance = self._instances[instance_id]
            here = self._things(instance, instance.host, _cells(instance))
            for thing, amount in far.items():
                # A pool behind both ends is charged once, with the larger of the two amounts.
                self._charged[thing] += max(0, amount - here.get(thing, 0))

    @property
    def in_flight(self) -> tuple[Flight, ...]:
        """Migrations under way, in the order they started."""
        return tuple(self._flights.values())

    @property
    def next_end_s(self) -> float | None:
        """When the next migration is confirmed; None while nothing is in flight."""
        return self._ends[0][0] if self._ends else None

    def live_migrate(
        self, instance_id: str, source: str, dest: str, cells: Sequence[int] | None = None
    ) -> Flight:
        """Start the live migration of an instance; until it is confirmed it charges both hosts.

        Parameters
        ----------
        instance_id
            Which one.
        source, dest
            Ids of the host the caller believes it on and of the host it is to go to.
        cells
            Host cell for each guest cell; None lets the cloud pick the first that fit.

        Raises
        ------
        RefusedError
            If the cloud does not start it; nothing has changed then.
        """
        instance = self._instances.get(instance_id)
        if instance is None:
            raise RefusedError("unknown_instance", f"there is no instance {instance_id}")
        for host in (source, dest):
            if host not in self._hosts:
                raise RefusedError("unknown_host", f"there is no host {host}")
        self._check_instance(instance, source)
        self._check_dest(instance, dest)
        chosen = self._choose(instance, dest, cells)
        here = self._things(instance, instance.host, _cells(instance))
        self._charged.update(_without(self._things(instance, dest, chosen), here))
        memory_mib = instance.allocations.get("MEMORY_MB", 0)
        end_s = self.now_s + SETUP_S + memory_mib / self._rate_mibps
        flight = Flight(instance_id, source, dest, chosen, self.now_s, end_s)
        self._flights[instance_id] = flight
        heapq.heappush(self._ends, (end_s, self._started, instance_id))
        self._started += 1
        return flight

    def instance(self, instance_id: str) -> cloud.Instance | None:
        """Return an instance as it is now, None if there is none."""
        return self._instances.get(instance_id)

    def cancel(self, instance_id: str) -> bool:
        """Give a migration up: the instance stays at its source; False if none is in flight."""
        flight = self._flights.pop(instance_id, None)
        if flight is None:
            return False
        self._ends = [end for end in self._ends if end[2] != instance_id]
        heapq.heapify(self._ends)
        instance = self._instances[instance_id]
        here = self._things(instance, instance.host, _cells(instance))
        self._charged.subtract(_without(self._things(instance, flight.dest, flight.cells), here))
        return True

    def advance(self, to_s: float) -> list[Flight]:
        """Let the clock run to ``to_s`` and return what was confirmed by then, in order."""
        if to_s < self.now_s:
            raise ValueError(f"the clock is at {self.now_s} s and does not go back to {to_s} s")
        confirmed = []
        while self._ends and self._ends[0][0] <= to_s:
            end_s, _, instance_id = heapq.heappop(self._ends)
            self.now_s = end_s
            confirmed.append(self._confirm(self._flights.pop(instance_id)))
        self.now_s = to_s
        return confirmed

    def snapshot(self) -> cloud.Snapshot:
        """Say what the cloud looks like now, as a collector would."""
        start = self._start
        taken_at = datetime.datetime.fromisoformat(start.taken_at)
        now = taken_at + datetime.timedelta(seconds=self.now_s)
        return dataclasses.replace(
            start,
            taken_at=now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            instances=tuple(self._instances[instance.id] for instance in start.instances),
            running_migrations=(
                *start.running_migrations,
                *(
                    cloud.RunningMigration(f.instance, f.source, f.dest, "running")
                    for f in self._flights.values()
                ),
            ),
        )

    def _confirm(self, flight: Flight) -> Flight:
        """Make the destination the instance's host and free the source."""
        before = self._instances[flight.instance]
        numa = before.numa
        if numa is not None and flight.cells is not None:
            numa = tuple(
                cloud.GuestCell(cell, guest.resources)
                for cell, guest in zip(flight.cells, numa, strict=True)
            )
        after = dataclasses.replace(before, host=flight.dest, numa=numa)
        self._instances[flight.instance] = after
        there = self._things(after, after.host, _cells(after))
        here = self._things(before, before.host, _cells(before))
        self._charged.subtract(_without(here, there))
        return flight

    def _far_ends(self) -> dict[str, dict[Thing, int]]:
        """What the migrations of the snapshot charge, by instance, where it is not."""
        far: dict[str, dict[Thing, int]] = collections.defaultdict(dict)
        for migration in self._start.running_migrations:
            instance = self._instances[migration.instance]
            if migration.far_allocations is not None:
                instance = dataclasses.replace(instance, allocations=migration.far_allocations)
            for end in (migration.source, migration.dest):
                if end is None or end == instance.host:
                    continue
                for thing, amount in self._things(instance, end, None).items():
                    far[instance.id][thing] = max(amount, far[instance.id].get(thing, 0))
        return far

    def _things(
        self, instance: cloud.Instance, host_id: str, cells: Sequence[int | None] | None
    ) -> dict[Thing, int]:
        """What ``instance`` charges when it is on ``cells`` of a host."""
        host = self._hosts[host_id]
        things: dict[Thing, int] = {}
        for resource, amount in instance.allocations.items():
            if amount:
                thing, _ = self._offer(host, resource)
                things[thing] = amount
        for cell, guest in zip(cells or (), instance.numa or (), strict=False):
            if cell is not None:
                for resource, amount in guest.resources.items():
                    things["cell", host_id, cell, resource] = amount
        for group in self._groups[instance.id]:
            things["group", group.id, host_id] = 1
        if instance.id in self._partners:
            things["instance", instance.id, host_id] = 1
        return things

    def _offer(self, host: cloud.Host, resource: str) -> tuple[Thing, cloud.Inventory | None]:
        """Where ``host`` gets ``resource``: from the pool it shares if that has some, or itself."""
        pool = self._pools[host.shared[resource]] if resource in host.shared else None
        if pool is not None and resource in pool.inventories:
            return ("pool", pool.id, resource), pool.inventories[resource]
        return ("host", host.id, resource), host.inventories.get(resource)

    def _limits(
        self, instance: cloud.Instance, host: cloud.Host, cells: Sequence[int] | None
    ) -> Iterator[tuple[Thing, int, str]]:
        """Yield how much there is of what ``instance`` would charge on ``host``, and its name."""
        for resource in instance.allocations:
            thing, inventory = self._offer(host, resource)
            if inventory is not None:
                yield thing, inventory.capacity, resource
        by_id = {cell.id: cell for cell in host.cells}
        for n in cells or ():
            for resource, amount in by_id[n].capacity.items():
                yield ("cell", host.id, n, resource), amount, f"{resource} of NUMA cell {n}"

    def _check_instance(self, instance: cloud.Instance, source: str) -> None:
        """Refuse an instance that is not where the caller believes or must not be moved."""
        name = instance.id
        if instance.host != source:
            raise RefusedError(
                "wrong_source",
                f"{name} is on {self._name(instance.host)}, not on {self._name(source)}",
            )
        migrating = name in self._flights or name in self._stuck
        for found in migratable.obstacles(
            self._view, instance, self._hosts[source], migrating, None
        ):
            if migratable.LIVE in found.methods:
                raise RefusedError(found.reason.code, found.reason.text)

    def _check_dest(self, instance: cloud.Instance, dest: str) -> None:
        """Refuse a host that the scheduler would not accept, whatever room it has."""
        name, host, source = instance.id, self._hosts[dest], self._hosts[instance.host]
        label = host.service_host
        if host is source:
            raise RefusedError("same_host", f"{name} is on {label} already")
        for refusal in constraints.violations(
            self._view, instance, self._seen[source.id], self._seen[dest]
        ):
            codes = {"usable": "host_not_usable", "numa": "numa"}
            raise RefusedError(codes.get(refusal.rule, "not_allowed"), refusal.text)
        for group in self._groups[name]:
            members = self._charged["group", group.id, dest]
            if group.policy == "anti-affinity" and members >= group.max_server_per_host:
                raise RefusedError(
                    "anti_affinity",
                    f"{label} holds {members} of group {group.name or group.id}, which allows "
                    f"{group.max_server_per_host} on a host",
                )
            if group.policy == "affinity" and len(group.members) > 1 and not members:
                raise RefusedError(
                    "affinity", f"{label} holds nothing of group {group.name or group.id}"
                )
        for other in self._partners.get(name, ()):
            if self._charged["instance", other, dest]:
                raise RefusedError(
                    "conflicts", f"{label} holds {other}, which {name} must not meet"
                )

    def _choose(
        self, instance: cloud.Instance, dest: str, cells: Sequence[int] | None
    ) -> tuple[int, ...] | None:
        """Return the cells the instance goes to, None without a NUMA topology."""
        host = self._hosts[dest]
        known = [cell.id for cell in host.cells]
        if instance.numa is None:
            if cells is not None:
                raise RefusedError("numa", f"{instance.id} has no NUMA topology")
            self._check_room(instance, host, None)
            return None
        if cells is not None:
            if len(cells) != len(instance.numa) or len(set(cells)) != len(cells):
                raise RefusedError(
                    "numa",
                    f"{instance.id} needs {len(instance.numa)} different cells, not {[*cells]}",
                )
            if unknown := set(cells).difference(known):
                raise RefusedError("numa", f"{host.service_host} has no NUMA cell {min(unknown)}")
            self._check_room(instance, host, cells)
            return tuple(cells)
        refusal = RefusedError(
            "numa", f"{host.service_host} has {len(known)} NUMA cells, {instance.id} needs more"
        )
        # As nova/virt/hardware.py does, numa_fit_instance_to_host, but for its sorting of cells.
        for choice in itertools.permutations(known, len(instance.numa)):
            try:
                self._check_room(instance, host, choice)
            except RefusedError as error:
                refusal = error
            else:
                return choice
        raise refusal

    def _check_room(
        self, instance: cloud.Instance, host: cloud.Host, cells: Sequence[int] | None
    ) -> None:
        """Refuse what does not fit beside all that is there and on its way there."""
        here = self._things(instance, instance.host, _cells(instance))
        asked = _without(self._things(instance, host.id, cells), here)
        for thing, limit, name in self._limits(instance, host, cells):
            used, amount = self._charged[thing], asked.get(thing, 0)
            if amount and used + amount > limit:
                raise RefusedError(
                    "numa" if thing[0] == "cell" else "capacity",
                    f"{host.service_host} has {limit - used} {name} left of {limit}, "
                    f"{instance.id} needs {amount}",
                )

    def _name(self, host_id: str) -> str:
        return self._hosts[host_id].service_host


def _cells(instance: cloud.Instance) -> tuple[int | None, ...] | None:
    """The host cells an instance is on."""
    return None if instance.numa is None else tuple(guest.cell for guest in instance.numa)


def _without(things: dict[Thing, int], others: dict[Thing, int]) -> dict[Thing, int]:
    """``things`` but for those that ``others`` has too: a pool is charged once, not twice."""
    return {thing: amount for thing, amount in things.items() if thing not in others}

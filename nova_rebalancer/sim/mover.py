# SPDX-License-Identifier: Apache-2.0
"""The cloud in memory as something that migrations are carried out on.

It answers as Nova does: a request is accepted first, and its record tells afterwards that it was
refused.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import time

from nova_rebalancer.execute import base
from nova_rebalancer.model import cloud as facts
from nova_rebalancer.model.constraints import migratable
from nova_rebalancer.sim import cloud

Cells = Mapping[tuple[str, str], tuple[int, ...]]


def instantly(seconds: float) -> None:
    """Pass simulated time without waiting for it."""


class Mover:
    """A SimCloud behind ``execute.base.Cloud``.

    Parameters
    ----------
    sim
        The cloud.
    cells
        Host cells that an instance goes to, by instance and destination (service host), where
        they are chosen outside of the cloud.
    sleep
        Waits while that many simulated seconds go by.
    """

    user = "operator"
    request_timeout_s = 0.0
    at_once = 1

    def __init__(
        self,
        sim: cloud.SimCloud,
        cells: Cells | None = None,
        sleep: Callable[[float], None] = instantly,
    ) -> None:
        self.sim = sim
        self._cells = cells or {}
        self._sleep = sleep
        self._began = time.time()
        start = sim.snapshot()
        self._ids = {host.service_host: host.id for host in start.hosts}
        self._names = {host.id: host.service_host for host in start.hosts}
        self._records: dict[str, list[base.Record]] = {}
        self._actions: dict[str, list[base.Action]] = {}
        self._asked = 0

    def now(self) -> float:
        """Return the cloud's clock, which begins now."""
        return self._began + self.sim.now_s

    def wait(self, seconds: float) -> None:
        """Let simulated time pass; what ends meanwhile is in the records."""
        until_s = self.sim.now_s + seconds
        self._sleep(seconds)
        for flight in self.sim.advance(until_s):
            self._end(flight.instance, "completed")

    def look(self, instance: str, hosts: Sequence[str]) -> facts.Snapshot:
        """Return what is on the hosts, and on those that are tied to it."""
        whole = self.sim.snapshot()
        wanted = {self._ids[name] for name in hosts if name in self._ids}
        tied = {instance}
        for group in whole.server_groups:
            if instance in group.members:
                tied.update(group.members)
        wanted.update(one.host for one in whole.instances if one.id in tied)
        running = [one for one in whole.running_migrations if wanted & {one.source, one.dest}]
        for one in running:
            wanted.update(end for end in (one.source, one.dest) if end is not None)
        there = {one.id for one in whole.instances if one.host in wanted}
        return dataclasses.replace(
            whole,
            hosts=tuple(one for one in whole.hosts if one.id in wanted),
            instances=tuple(one for one in whole.instances if one.id in there),
            server_groups=tuple(
                dataclasses.replace(
                    group, members=tuple(one for one in group.members if one in there)
                )
                for group in whole.server_groups
            ),
            conflicts=tuple(
                (one, other) for one, other in whole.conflicts if one in there and other in there
            ),
            aggregates=tuple(
                dataclasses.replace(one, hosts=tuple(name for name in one.hosts if name in wanted))
                for one in whole.aggregates
            ),
            running_migrations=tuple(running),
        )

    def sight(self, instance: str) -> base.Sight:
        """Return where an instance is and what became of its migrations."""
        one = self.sim.instance(instance)
        if one is None:
            return base.Sight(False)
        flying = any(flight.instance == instance for flight in self.sim.in_flight)
        return base.Sight(
            True,
            self._names[one.host],
            "MIGRATING" if flying else one.status,
            "migrating" if flying else one.task_state,
            tuple(self._records.get(instance, ())),
            tuple(self._actions.get(instance, ())),
        )

    def kept(self, instance: str) -> str | None:
        """Say why an instance must stay where it is."""
        one = self.sim.instance(instance)
        if one is None or not (one.locked or migratable.opted_out(one.metadata, one.tags)):
            return None
        return f"{instance} is locked" if one.locked else f"{instance} does not allow migration"

    def progress(self, instance: str, record: int) -> base.Progress | None:
        """Return how far the copying is."""
        for flight in self.sim.in_flight:
            if flight.instance == instance:
                one = self.sim.instance(instance)
                total = (one.allocations.get("MEMORY_MB", 0) if one else 0) * 2**20
                done = int(total * flight.progress(self.sim.now_s))
                return base.Progress(total, done, total - done)
        return None

    def live_migrate(self, instance: str, dest: str) -> str:
        """Start a migration; whether the cloud takes it shows in its record."""
        one = self.sim.instance(instance)
        if one is None:
            raise base.RefusedError(404, f"Instance {instance} could not be found.")
        if any(flight.instance == instance for flight in self.sim.in_flight):
            raise base.RefusedError(409, f"Instance {instance} is migrating.")
        self._asked += 1
        request = f"req-{self._asked}"
        source = self._names[one.host]
        record = base.Record(
            self._asked, f"migration-{self._asked}", "live-migration", "running", source, dest
        )
        self._records.setdefault(instance, []).append(record)
        action = base.Action(request, "live-migration", self.user, False, None)
        self._actions.setdefault(instance, []).insert(0, action)
        cells = self._cells.get((instance, dest))
        try:
            self.sim.live_migrate(instance, one.host, self._ids.get(dest, dest), cells)
        except cloud.RefusedError as error:
            self._end(instance, "error", str(error))
        return request

    def cold_migrate(self, instance: str, dest: str) -> str:
        """Refuse: nothing here is shut off."""
        raise base.RefusedError(409, f"{instance} is not shut off")

    def confirm(self, instance: str) -> None:
        """Refuse, for the same reason."""
        raise base.RefusedError(409, f"{instance} was not migrated cold")

    def abort(self, instance: str, record: int) -> None:
        """Give a migration up."""
        if not self.sim.cancel(instance):
            raise base.RefusedError(409, f"{instance} is not migrating")
        self._end(instance, "cancelled")

    def force_complete(self, instance: str, record: int) -> None:
        """Refuse: nothing writes to memory here, so all migrations end by themselves."""
        raise base.RefusedError(409, f"{instance} cannot be forced")

    def _end(self, instance: str, status: str, error: str | None = None) -> None:
        """Close the newest record of an instance, and the action that began it."""
        records, actions = self._records[instance], self._actions[instance]
        last = records[-1]
        dest = None if error else last.dest
        records[-1] = base.Record(last.id, last.uuid, last.type, status, last.source, dest)
        first = actions[0]
        actions[0] = base.Action(first.request, first.action, first.user, True, error)

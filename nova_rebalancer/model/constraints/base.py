# SPDX-License-Identifier: Apache-2.0
"""What the rules are judged by: the facts of one snapshot, and the operator's settings."""

import collections
from collections.abc import Hashable
from collections.abc import Mapping
import dataclasses
import datetime
from typing import Any
from typing import Protocol

from nova_rebalancer.model import asked
from nova_rebalancer.model import cloud
from nova_rebalancer.model import numa
from nova_rebalancer.model.checks import base as checks_base

TENANT = "filter_tenant_id"
"""Begin of the aggregate metadata that keep hosts for projects."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the operator says of the rules.

    Parameters
    ----------
    ignored_rules
        Rules that are not kept, at the operator's risk; only some may be ignored.
    opt_in
        Whether only what asks for it is moved.
    banned_hosts
        Service hosts that nothing is sent to.
    pins, bans
        Service hosts that an instance must stay on, and must not be sent to, by instance id.
    learnt
        Why an instance is left where it is after Nova would not migrate it, by its id.
    numa_packing
        Nova's ``[compute] packing_host_numa_cells_allocation_strategy``.
    checks
        What is kept beside the rules; the caller loads them.
    cooldown_h
        Hours that an instance stays where it is after a migration.
    last_moved
        When instances were migrated last, by id, where that is known.
    cold_from
        Service hosts from which instances that are shut off are migrated cold.
    """

    ignored_rules: frozenset[str] = frozenset()
    opt_in: bool = False
    banned_hosts: frozenset[str] = frozenset()
    pins: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    bans: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    learnt: Mapping[str, str] = dataclasses.field(default_factory=dict)
    numa_packing: bool = False
    checks: tuple[checks_base.Chosen, ...] = ()
    cooldown_h: float = 0.0
    last_moved: Mapping[str, datetime.datetime] = dataclasses.field(default_factory=dict)
    cold_from: frozenset[str] = frozenset()


def settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings that the options of a plan document say.

    Raises
    ------
    ValueError
        If ``last_moved`` holds what is no time.
    """
    return Settings(
        frozenset(options.get("ignored_rules", ())),
        bool(options.get("opt_in", False)),
        frozenset(options.get("banned_hosts", ())),
        options.get("pins", {}),
        options.get("bans", {}),
        options.get("learnt", {}),
        bool(options.get("numa_packing", False)),
        cooldown_h=float(options.get("cooldown_h", 0.0)),
        last_moved={name: moment(text) for name, text in options.get("last_moved", {}).items()},
    )


DEFAULTS = Settings()
"""Every rule kept, nobody pinned or banned."""


class View:
    """A snapshot as the rules look at it; ``hosts`` have the inventories of their pools.

    Attributes
    ----------
    aggregates
        Aggregates of each host, by its id.
    member_of
        The aggregates of each host as one value, by its id.
    metadata
        For each host id what its aggregates' metadata say: values by key, split at commas as
        Nova's filters do (nova ``scheduler/filters/utils.py``).
    said
        Every key of the aggregates' metadata.
    own_aggregates
        Aggregates that are for a project alone, by the project.
    asks
        What each instance asks for, by its id.
    cells_told
        Whether somebody says of any host which Nova cell it is in.
    unsettled
        Why it cannot be told what is free of the NUMA cells of a host, by its id, on a live cloud.
    settled
        Ids of all other hosts.
    devices
        Ids of hosts where instances have devices, so that it is not known how many are free of
        which NUMA cell.
    emulators
        Ids of hosts where some instance has isolated emulator threads.
    """

    def __init__(
        self, snapshot: cloud.Snapshot, hosts: tuple[cloud.Host, ...], settings: Settings
    ) -> None:
        self.snapshot = snapshot
        self.hosts = hosts
        self.settings = settings
        self.asks = dict(
            zip(
                (one.id for one in snapshot.instances),
                asked.of(snapshot.instances),
                strict=True,
            )
        )
        self.aggregates: dict[str, list[cloud.Aggregate]] = collections.defaultdict(list)
        self.metadata: dict[str, dict[str, set[str]]] = collections.defaultdict(dict)
        self.own_aggregates: dict[str | None, list[cloud.Aggregate]] = {}
        for aggregate in snapshot.aggregates:
            for value in {v for k, v in aggregate.metadata.items() if k.startswith(TENANT)}:
                self.own_aggregates.setdefault(value, []).append(aggregate)
            for host in aggregate.hosts:
                self.aggregates[host].append(aggregate)
                said = self.metadata[host]
                for key, value in aggregate.metadata.items():
                    said.setdefault(key, set()).update(part.strip() for part in value.split(","))
        number = {id(aggregate): n for n, aggregate in enumerate(snapshot.aggregates)}
        self.member_of = {
            host.id: tuple(number[id(one)] for one in self.aggregates[host.id]) for host in hosts
        }
        self.said = {key for said in self.metadata.values() for key in said}
        self.cells_told = any(nova_cell(host) is not None for host in hosts)
        self.unsettled: dict[str, str] = {}
        self.emulators: set[str] = set()
        if snapshot.numa_choice == "nova":
            self._settle()
        self.devices = {
            one.host
            for one in snapshot.instances
            if one.vnic_types or "pci_passthrough:alias" in one.extra_specs
        }
        if not settings.ignored_rules.isdisjoint(("pci_devices", "special_ports")):
            # They may come and go while the plan is carried out.
            self.devices |= {
                host.id
                for host in hosts
                if any(cell.detail and cell.detail.pci_devices for cell in host.cells)
            }
        self.settled = {host.id for host in hosts} - self.unsettled.keys()

    def _settle(self) -> None:
        """Find the hosts whose NUMA cells are not known whole."""
        names = {host.id: host.service_host for host in self.hosts}
        for host in self.hosts:
            if not host.cells:
                why = "are not known (Nova's API has none; a facts file can tell them)"
                self.unsettled[host.id] = f"the NUMA cells of {host.service_host} {why}"
            elif any(cell.detail is None for cell in host.cells):
                why = "are known without their CPUs and pages"
                self.unsettled[host.id] = f"the NUMA cells of {host.service_host} {why}"
        celled = {one.id for one in self.snapshot.instances if one.numa}
        for migration in self.snapshot.running_migrations:
            if migration.instance in celled:
                for end in (migration.source, migration.dest):
                    if end is not None:
                        why = f"{migration.instance} is migrating from or to {names[end]}"
                        self.unsettled.setdefault(end, f"which NUMA cells are free: {why}")
        taken: dict[tuple[str, int], str] = {}
        for one in self.snapshot.instances:
            if not one.numa:
                continue
            asks = self.asks[one.id]
            for cpu in (cpu for guest in one.numa for cpu in guest.pinned or ()):
                if taken.setdefault((one.host, cpu), one.id) != one.id:
                    why = f"two instances are pinned to CPU {cpu} of {names[one.host]}"
                    self.unsettled.setdefault(one.host, why)
            if any(guest.cell is None for guest in one.numa):
                why = f"on which NUMA cells of {names[one.host]} {one.id} is, is not known"
                self.unsettled.setdefault(one.host, why)
            elif numa.pins(one, asks) and any(guest.pinned is None for guest in one.numa):
                why = f"on which CPUs of {names[one.host]} {one.id} is, is not known"
                self.unsettled.setdefault(one.host, why)
            if asks.emulator_isolated:
                self.emulators.add(one.host)


class HostRule(Protocol):
    """A rule that says which hosts an instance may be on, whatever else is there.

    ``IGNORABLE`` says whether an operator may take the risk of not keeping it.
    """

    IGNORABLE: bool

    def key(self, view: View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
        """Return all of the instance and its present host that the answer depends on.

        None when the rule does not concern it: any host will do.
        """

    def about(self, view: View, dest: cloud.Host) -> Hashable:
        """Return all of a destination that the answer depends on."""

    def refuses(
        self, view: View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
    ) -> str | None:
        """Say in plain words why the instance, now on ``host``, must not be on ``dest``."""


class Relation(Protocol):
    """A rule about the two ends of a migration alone; it holds for every hop."""

    IGNORABLE: bool

    def key(self, host: cloud.Host) -> Hashable:
        """Return all of a host that the answer depends on."""

    def refuses(self, view: View, source: cloud.Host, dest: cloud.Host) -> str | None:
        """Say in plain words why nothing migrates live from ``source`` to ``dest``."""


def nova_cell(host: cloud.Host) -> str | None:
    """Return the Nova cell of a host, None when nobody who knows says it."""
    if host.cell is None or host.cell.provenance not in ("api", "operator"):
        return None
    return host.cell.value


def moment(text: str) -> datetime.datetime:
    """Read a time; one that does not say its zone is in UTC."""
    read = datetime.datetime.fromisoformat(text)
    return read if read.tzinfo is not None else read.replace(tzinfo=datetime.UTC)


def listed(names: list[str] | tuple[str, ...] | set[str] | frozenset[str]) -> str:
    """Write some names for people, at most five of them."""
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")

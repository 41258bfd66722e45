# SPDX-License-Identifier: Apache-2.0
"""Instances that are not migrated: known before any planning, kept as fixed load.

Nova: ``live_migrate`` and what decorates it in ``compute/api.py``;
``conductor/tasks/live_migrate.py``.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses

from nova_rebalancer.model import cloud
from nova_rebalancer.model import numa
from nova_rebalancer.model import reason
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import usable

LIVE_STATUSES = ("ACTIVE", "PAUSED")
"""What os-migrateLive accepts."""

SHUTOFF = "SHUTOFF"
"""What can only be migrated cold."""

LIVE_POWER_STATES = (1, 3)
"""Running and paused; the conductor refuses others."""

SOON_S = 300
"""After that a task of Nova's should be over."""

LATER_S = 3600
"""A person may change it at any time."""

LIVE, COLD = "live", "cold"
BOTH = (LIVE, COLD)

CERTAIN, LIKELY = "certain", "likely"

IGNORABLE = ("nested_resources", "pci_devices", "scheduler_hints", "special_ports")
"""What an operator may have moved at the risk of a refusal."""

OPT_IN_METADATA = "nova-rebalancer:allow-migration"
"""An owner who sets it to anything but true keeps an instance where it is; true opts in."""

OPT_IN_TAG = "nova-rebalancer:move"
OPT_OUT_TAG = "nova-rebalancer:stay"

NEVER_PORTS = ("accelerator-direct", "accelerator-direct-physical")
PLACING_HINTS = ("build_near_host_ip", "different_host", "query", "same_host")


@dataclasses.dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an instance is not migrated.

    ``methods`` are the ways it is in, ``confidence`` whether Nova would surely refuse, and
    ``expires_s`` after how long to look again; None: only a change of the instance ends it.
    """

    reason: reason.Reason
    methods: tuple[str, ...] = BOTH
    confidence: str = CERTAIN
    expires_s: int | None = LATER_S


def obstacles(
    view: base.View,
    instance: cloud.Instance,
    host: cloud.Host,
    migrating: bool,
    affinity: cloud.ServerGroup | None,
) -> Iterator[Obstacle]:
    """Yield why ``instance`` on ``host`` is not migrated, the first one first.

    ``migrating`` says that a migration of it runs now; ``affinity`` is its hard affinity group:
    Nova's filter sends a member only to hosts of members, and its own counts as well, so one that
    moves alone is refused or splits the group.
    """
    yield from _wishes(view, instance)
    yield from _moment(instance, host, migrating, host.service_host in view.settings.cold_from)
    ignored = view.settings.ignored_rules
    for found in (*_devices(view, instance, host), *_together(view, instance, affinity)):
        if found.reason.code not in ignored or not _ignorable(found, instance):
            yield found


def nowhere(instance: cloud.Instance, host: cloud.Host, forbidding: Mapping[str, int]) -> Obstacle:
    """Say that the rules leave no host to an instance but the one it is on.

    ``forbidding`` is how many hosts each rule forbids, by the rule's name.
    """
    most = sorted(forbidding.items(), key=lambda item: (-item[1], item[0]))[:4]
    told = ", ".join(f"{rule} {count}" for rule, count in most)
    text = f"the rules leave {instance.id} no host but {host.service_host}" + (
        f" (hosts that each forbids: {told})" if told else ""
    )
    return Obstacle(reason.Reason("no_host", dict(most), text))


def _ignorable(found: Obstacle, instance: cloud.Instance) -> bool:
    """Whether the operator may take the risk with this instance."""
    if found.reason.code == "nested_resources":
        return all(set(amounts.values()) <= {0, 1} for amounts in instance.nested.values())
    if found.reason.code == "special_ports":
        return not set(NEVER_PORTS).intersection(instance.vnic_types or ())
    return found.reason.code in IGNORABLE


def _wishes(view: base.View, instance: cloud.Instance) -> Iterator[Obstacle]:
    """What the operator and the owner say."""
    name = instance.id
    if not instance.in_scope:
        yield _obstacle("out_of_scope", f"{name} is not in the scope of the plan")
    if not instance.allow_migration or opted_out(instance.metadata, instance.tags):
        yield _obstacle("opted_out", f"{name} does not allow migration")
    elif view.settings.opt_in and not _opted_in(instance):
        yield _obstacle(
            "not_opted_in",
            f"{name} does not ask to be moved: metadata {OPT_IN_METADATA}=true or tag {OPT_IN_TAG}",
        )
    if name in view.settings.learnt:
        why = view.settings.learnt[name]
        yield _obstacle("learnt", f"{name} could not be migrated before: {why}")
    if name in view.settings.last_moved:
        moved, hours = view.settings.last_moved[name], view.settings.cooldown_h
        rests_s = hours * 3600 - (base.moment(view.snapshot.taken_at) - moved).total_seconds()
        if rests_s > 0:
            yield _obstacle(
                "cooldown",
                f"{name} was migrated at {moved:%Y-%m-%dT%H:%M:%SZ} and stays for {hours:g} hours",
                expires_s=int(rests_s) + 1,
                cooldown_h=hours,
            )


def opted_out(metadata: Mapping[str, str], tags: Iterable[str]) -> bool:
    """Whether the owner keeps an instance where it is."""
    said = metadata.get(OPT_IN_METADATA, "true")
    return said.strip().lower() != "true" or OPT_OUT_TAG in tags


def _opted_in(instance: cloud.Instance) -> bool:
    said = instance.metadata.get(OPT_IN_METADATA, "")
    return said.strip().lower() == "true" or OPT_IN_TAG in instance.tags


def _moment(
    instance: cloud.Instance, host: cloud.Host, migrating: bool, cold: bool
) -> Iterator[Obstacle]:
    """What holds just now; ``cold``: what is shut off may go.

    All else that keeps an instance from migrating live is taken to keep it from that, too.
    """
    name = instance.id
    why = usable.why_not(host)
    if why is not None:
        what = (host.unusable or "not to be used").partition(" (")[0]
        yield _obstacle("host_not_usable", f"its host {why}", host=host.service_host, what=what)
    if migrating:
        yield _obstacle("migrating", f"{name} is being migrated already", expires_s=SOON_S)
    if instance.task_state is not None:
        yield _obstacle(
            "task_state",
            f"Nova is busy with {name}: task state {instance.task_state}",
            expires_s=SOON_S,
            task_state=instance.task_state,
        )
    if instance.status not in LIVE_STATUSES and not (cold and instance.status == SHUTOFF):
        yield _obstacle(
            "status",
            f"{name} is {instance.status}; only {' and '.join(LIVE_STATUSES)} migrate live",
            methods=(LIVE,) if instance.status == SHUTOFF else BOTH,
            status=instance.status,
        )
    elif instance.status == "PAUSED":
        yield _obstacle(
            "status", f"{name} is PAUSED; it migrates live only", methods=(COLD,), status="PAUSED"
        )
    if (
        instance.status in LIVE_STATUSES
        and instance.power_state is not None
        and instance.power_state not in LIVE_POWER_STATES
    ):
        yield _obstacle(
            "power_state",
            f"{name} neither runs nor is paused (power state {instance.power_state})",
            methods=(LIVE,),
            power_state=instance.power_state,
        )
    if instance.locked:
        yield _obstacle("locked", f"{name} is locked")
    if not instance.allocations:
        yield _obstacle(
            "no_allocations",
            f"Placement charges nothing for {name} on its host {host.service_host}",
            host=host.service_host,
        )


def _devices(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Iterator[Obstacle]:
    """What it is made of that does not migrate; that lasts."""
    name, asks = instance.id, view.asks[instance.id]
    live = (LIVE,)
    everything = (instance.allocations, *instance.nested.values())
    if asks.true("mem_encryption") or any(one.get("MEM_ENCRYPTION_CONTEXT") for one in everything):
        told = f"the memory of {name} is encrypted"
        yield _obstacle("encrypted_memory", told, methods=live, expires_s=None)
    if asks.either("tpm_version") and asks.specs.get("hw:tpm_secret_security") != "host":
        yield _obstacle(
            "vtpm",
            f"{name} has a virtual TPM whose secret the hosts do not share "
            "(hw:tpm_secret_security is not host)",
            methods=live,
            expires_s=None,
        )
    profile = asks.specs.get("accel:device_profile")
    if profile:
        told = f"{name} uses the accelerator profile {profile}"
        yield _obstacle("accelerator", told, expires_s=None, profile=profile)
    if asks.specs.get("hw:pmem"):
        told = f"{name} uses persistent memory of its host {host.service_host}"
        yield _obstacle("persistent_memory", told, methods=live, expires_s=None)
    alias = asks.specs.get("pci_passthrough:alias")
    if alias:
        yield _obstacle(
            "pci_devices",
            f"{name} has PCI devices of its host {host.service_host} ({alias}); whether Nova's "
            "configuration calls them live_migratable is not in its API",
            methods=live,
            confidence=LIKELY,
            expires_s=None,
            alias=alias,
        )
    if instance.vnic_types:
        never = bool(set(NEVER_PORTS).intersection(instance.vnic_types))
        yield _obstacle(
            "special_ports",
            f"{name} has ports of the types {', '.join(instance.vnic_types)}",
            methods=BOTH if never else live,
            confidence=CERTAIN if never else LIKELY,
            expires_s=None,
            vnic_types=", ".join(instance.vnic_types),
        )
    if instance.nested:
        used = sorted({r for amounts in instance.nested.values() for r in amounts})
        yield _obstacle(
            "nested_resources",
            f"{name} uses devices of its host {host.service_host}: {', '.join(used)}",
            methods=live,
            confidence=LIKELY,
            expires_s=None,
            providers=len(instance.nested),
        )
    if view.snapshot.numa_choice == "nova" and instance.numa:
        why: str | None = None
        if not view.settled - {host.id}:
            why = "the NUMA cells of no other host are known; a facts file can tell them"
        elif not numa.pins(instance, asks):
            pass
        elif asks.cpu_policy == "shared":
            why = "why it is pinned is not known: neither flavor nor image asks for it"
        elif asks.emulator_isolated:
            why = "which CPU its isolated emulator threads hold is not known"
        elif any(guest.pinned is None for guest in instance.numa):
            why = "which CPUs it is pinned to is not known"
        elif "PCPU" not in instance.allocations:
            why = "which CPUs are pinned is not known (charged as VCPU, as with vcpu_pin_set)"
        if why is not None:
            yield _obstacle("numa_unknown", f"{name} has a NUMA topology, and {why}")


def _together(
    view: base.View, instance: cloud.Instance, affinity: cloud.ServerGroup | None
) -> Iterator[Obstacle]:
    """What depends on where others are, in a way that is not followed here."""
    name = instance.id
    hints = [hint for hint in PLACING_HINTS if instance.scheduler_hints.get(hint)]
    if hints:
        yield _obstacle(
            "scheduler_hints",
            f"{name} was made with the scheduler hint {', '.join(hints)}",
            confidence=LIKELY,
            expires_s=None,
            hints=", ".join(hints),
        )
    if affinity is not None:
        yield _obstacle(
            "affinity",
            f"{name} must stay with the other members of affinity group {affinity.id}",
            expires_s=None,
            group=affinity.id,
        )


def _obstacle(
    code: str,
    text: str,
    methods: tuple[str, ...] = BOTH,
    confidence: str = CERTAIN,
    expires_s: int | None = LATER_S,
    **params: str | float,
) -> Obstacle:
    return Obstacle(reason.Reason(code, params, text), methods, confidence, expires_s)

# SPDX-License-Identifier: Apache-2.0
"""Instances that are not moved at all, wherever to.

References
----------
Nova 34.0, ``compute/api.py`` (what ``live_migrate`` is decorated with) and
``conductor/tasks/live_migrate.py``.
"""

from collections.abc import Iterator
import datetime
from typing import NamedTuple

from nova_rebalancer.checker import facts
from nova_rebalancer.checker import options
from nova_rebalancer.checker import placing
from nova_rebalancer.checker import wants

METHODS = ("live", "cold")

STATUSES = ("ACTIVE", "PAUSED")

POWER_STATES = (None, 1, 3)
"""Nova's numbers of running and paused; None: not told."""

ALLOW = "nova-rebalancer:allow-migration"
STAY, MOVE = "nova-rebalancer:stay", "nova-rebalancer:move"

HINTS = ("same_host", "different_host", "build_near_host_ip", "query")
"""Scheduler hints that Nova judges again, by what is there then."""

NEVER_PORTS = ("accelerator-direct", "accelerator-direct-physical")

PINNED = ("dedicated", "mixed")


class Refusal(NamedTuple):
    """A code, and why in words; ``never``: whoever takes the risk."""

    code: str
    why: str
    never: bool = False


def refusal(
    cloud: facts.Cloud, given: options.Options, instance: facts.Instance, method: str
) -> Refusal | None:
    """Return why an instance stays where it is; None if it may be moved by this method."""
    for reasons in (
        _owner(cloud, given, instance),
        _state(cloud, instance),
        _running(cloud, given, instance, method),
        _devices(instance),
        _pinning(cloud, instance),
    ):
        for found in reasons:
            if found.never or found.code not in given.ignored:
                return found
    return None


def _owner(
    cloud: facts.Cloud, given: options.Options, instance: facts.Instance
) -> Iterator[Refusal]:
    """Who may move it, and what a plan may touch."""
    entry, host = instance.entry, cloud.hosts[instance.entry["host"]]
    projects = given.scope.get("project")
    if projects is not None and entry.get("project") not in projects:
        yield Refusal("out_of_scope", "is of a project that is not in the scope of the plan")
    if not placing.host_in_scope(cloud, given, host):
        yield Refusal("out_of_scope", f'is on host "{host.name}", not in the scope of the plan')
    metadata, tags = entry.get("metadata", {}), entry.get("tags", ())
    allowed = metadata.get(ALLOW, "true").strip().lower() == "true"
    if not entry.get("allow_migration", True) or not allowed or STAY in tags:
        yield Refusal("opted_out", "does not allow migration")
    if given.opt_in and not (ALLOW in metadata and allowed) and MOVE not in tags:
        yield Refusal("not_opted_in", f"has neither metadata {ALLOW}=true nor tag {MOVE}")
    if instance.id in given.learnt:
        yield Refusal("learnt", "is one of options.learnt, which could not be migrated before")
    moved = given.last_moved.get(instance.id)
    if moved is not None:
        taken = datetime.datetime.fromisoformat(cloud.document["taken_at"])
        if taken - moved < datetime.timedelta(hours=given.cooldown_h):
            yield Refusal(
                "cooldown", f"was migrated at {moved}, and cools down for {given.cooldown_h:g} h"
            )


def _state(cloud: facts.Cloud, instance: facts.Instance) -> Iterator[Refusal]:
    """What it is doing, and how large it is."""
    entry, host = instance.entry, cloud.hosts[instance.entry["host"]]
    unusable = placing.unusable(host)
    if unusable:
        yield Refusal("host_not_usable", f'is on host "{host.name}", which is {unusable}')
    if instance.id in cloud.ends:
        yield Refusal("migrating", "is being migrated already")
    if entry.get("task_state") is not None:
        yield Refusal("task_state", f'is busy (task state "{entry["task_state"]}")')
    if entry.get("locked", False):
        yield Refusal("locked", "is locked")
    if not entry["allocations"]:
        yield Refusal(
            "no_allocations",
            f'has no allocations on host "{host.name}": how large it is, is not known',
        )


def _running(
    cloud: facts.Cloud, given: options.Options, instance: facts.Instance, method: str
) -> Iterator[Refusal]:
    """Whether it is on or off, as the method needs it."""
    entry = instance.entry
    status = entry.get("status", "ACTIVE")
    if method == "cold":
        if status != "SHUTOFF":
            yield Refusal(
                "status", f"is {status}, and is to be migrated cold, which is for SHUTOFF"
            )
        if not given.cold or entry["host"] not in placing.drained(cloud, given.drained):
            yield Refusal(
                "status", "is to be migrated cold, and is on no host that options.cold is for"
            )
        return
    if status not in STATUSES:
        yield Refusal("status", f"is {status}, not {' or '.join(STATUSES)}")
    if entry.get("power_state") not in POWER_STATES:
        yield Refusal(
            "power_state", f"has power state {entry['power_state']}, neither running nor paused"
        )


def _devices(instance: facts.Instance) -> Iterator[Refusal]:
    """What it has that cannot be carried along, or only where nobody can tell beforehand."""
    entry, specs = instance.entry, wants.specs(instance.entry)
    image = wants.properties(entry)
    encrypted = wants.true(specs.get("hw:mem_encryption")) or wants.true(
        image.get("hw_mem_encryption")
    )
    context = "MEM_ENCRYPTION_CONTEXT"
    if encrypted or instance.allocations.get(context) or instance.nested.get(context):
        yield Refusal("encrypted_memory", "has encrypted memory")
    keeper = specs.get("hw:tpm_secret_security")
    if wants.either(entry, "tpm_version") and keeper != "host":
        yield Refusal("vtpm", "has a TPM whose secret its host does not keep")
    if specs.get("accel:device_profile"):
        yield Refusal("accelerator", f"has accelerators ({specs['accel:device_profile']})")
    if any(label.strip() for label in specs.get("hw:pmem", "").split(",")):
        yield Refusal("persistent_memory", f"has persistent memory ({specs['hw:pmem']})")
    if specs.get("pci_passthrough:alias"):
        yield Refusal("pci_devices", f"has PCI devices ({specs['pci_passthrough:alias']})")
    ports = entry.get("vnic_types") or ()
    if ports:
        never = any(port in NEVER_PORTS for port in ports)
        yield Refusal("special_ports", f"has ports of the types {', '.join(ports)}", never)
    nested = entry.get("nested", {})
    if nested:
        # Room is counted per host: only single units are sure to find some on one provider.
        never = any(amount > 1 for amounts in nested.values() for amount in amounts.values())
        yield Refusal(
            "nested_resources", "has allocations from nested providers of its host", never
        )
    for hint in HINTS:
        if entry.get("scheduler_hints", {}).get(hint):
            yield Refusal("scheduler_hints", f"was made with the scheduler hint {hint}")


def _pinning(cloud: facts.Cloud, instance: facts.Instance) -> Iterator[Refusal]:
    """Which host CPUs it has: what Nova chooses for others depends on that."""
    if cloud.document["numa_choice"] != "nova" or instance.guests is None:
        return
    entry = instance.entry
    if wants.isolates_emulator(entry):
        yield Refusal("numa_unknown", "has emulator threads on a CPU that is not known")
    if wants.cpu_policy(entry) not in PINNED:
        return
    if any(guest.get("pinned") is None for guest in entry["numa"]):
        yield Refusal("numa_unknown", "is pinned to CPUs that are not known")
    if not instance.allocations.get("PCPU"):
        yield Refusal("numa_unknown", "is pinned, but Placement charges no PCPU for it")

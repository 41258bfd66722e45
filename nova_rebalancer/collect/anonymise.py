# SPDX-License-Identifier: Apache-2.0
"""A snapshot without the names in it, to show to others.

What decides about a plan is kept where it is made of numbers and of words of Nova's.  Free text
decides, too: owners' pins, projects and flavors that aggregates are for, extra specs that are
compared with metadata or capabilities, image properties.  It is dropped, and its effect is written
down instead: the hosts that it keeps an instance off get an invented trait, and the instance
forbids that trait.  That says nothing of the text, is true of every rule that reads some, and
stays short where most instances are concerned, as ``allowed_hosts`` of each would not.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
import hashlib
import hmac
import json
import re
from typing import Any

from nova_rebalancer.collect import document
from nova_rebalancer.model import asked
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import migratable

# Extra specs and image properties whose values are words of Nova, not of the operator: those that
# ``model.asked`` reads, whose effect is more than a set of hosts (how CPUs and pages are chosen,
# what makes an instance stay), and those that become standard traits.
_KEPT_ASKED = frozenset(
    {
        "architecture",
        "hw:cpu_policy",
        "hw:cpu_thread_policy",
        "hw:emulator_threads_policy",
        "hw:maxphysaddr_mode",
        "hw:mem_encryption",
        "hw:mem_page_size",
        "hw:numa_nodes",
        "hw:pci_numa_affinity_policy",
        "hw:tpm_model",
        "hw:tpm_secret_security",
        "hw:tpm_version",
        "hw:virtio_packed_ring",
        "hw_architecture",
        "hw_cdrom_bus",
        "hw_cpu_policy",
        "hw_cpu_thread_policy",
        "hw_disk_bus",
        "hw_emulation_architecture",
        "hw_firmware_stateless",
        "hw_firmware_type",
        "hw_machine_type",
        "hw_maxphysaddr_mode",
        "hw_mem_encryption",
        "hw_mem_page_size",
        "hw_numa_nodes",
        "hw_pci_numa_affinity_policy",
        "hw_tpm_model",
        "hw_tpm_version",
        "hw_vif_model",
        "hw_video_model",
        "hw_viommu_model",
        "hw_virtio_packed_ring",
        "os:secure_boot",
        "os_secure_boot",
    }
)

# Extra specs that keep an instance where it is, whatever they name, and the kind of that name.
_NAMING_SPECS = {
    "accel:device_profile": "profile",
    "hw:pmem": "pmem",
    "pci_passthrough:alias": "alias",
}

# Traits and resources that are asked for, in a granular request or not.
_REQUEST = re.compile("(trait|resources)([a-zA-Z0-9_-]{1,64})?:([A-Z0-9_]+)")

# Rules about nothing that is dropped: on the new document they say what they say on the original.
_RULES_WITHOUT_TEXT = frozenset(
    {
        "cell",
        "cpu",
        "hypervisor",
        "image_traits",
        "keep_zone",
        "numa",
        "pinned_zone",
        "provider_tree",
        "scope",
        "units",
        "usable",
    }
)

_CELL_DETAIL = (
    "shared_cpus",
    "dedicated_cpus",
    "siblings",
    "memory_mib",
    "pages",
    "pci_devices",
)

# Who a consumer that Placement charges on a host is, by why it does.
_CONSUMERS = {"elsewhere": "instance", "migration": "migration", "unknown": "consumer"}


def anonymise(snapshot: dict[str, Any], key: bytes | None = None) -> dict[str, Any]:
    """Replace every name in a snapshot by a pseudonym; plans stay what they were.

    With the same options the result has the same plan: the same instances stay, for the same
    reasons, and the others may go to the same hosts.  One thing is lost: ``--ignore-rule`` with a
    rule about text that was dropped has no effect, for the invented traits hold all the same.

    Replaced, the same name by the same pseudonym at all its places: the cloud, region, ids, service
    hosts and hypervisor names of hosts, refused ones included, nested providers, pools, AZs (those
    asked for too), racks, Nova cells, power zones, migration links, aggregates, ids of instances,
    also those outside and in conflicts, of server groups, migrations, images, volumes and of
    whatever else Placement charges, projects, ids and names of flavors, custom traits and custom
    resource classes, also those asked for, features of CPUs, names of PCI aliases, device profiles
    and persistent memory.

    Dropped: names of instances and server groups, metadata and tags but an owner's wish that it
    be moved, scheduler hints but the names of those that keep an instance where it is, reasons for
    disabling, locking and refusing, of extra specs and image properties all but traits, resources
    and a few words of Nova's, of ``cpu_info`` all but vendor, model, architecture and features,
    the text of what is missing, ``collected``, ``meta``.

    Kept: every amount, capacity, NUMA layout, pinned CPU and measured use, states, standard traits
    and resource classes, types of hypervisors, migrations and ports, policies, provenances,
    ``allow_migration`` and ``locked``, why Placement charges what is no instance here, the order
    of the lists, ``taken_at``, ``launched_at`` and ``updated_at``.  Someone who knows the cloud
    may recognise it by these; times and sizes are what a plan is made of.

    Parameters
    ----------
    snapshot
        A sound snapshot document; it is not changed.
    key
        None numbers the names in the order they occur (``host-0001``).  A secret key makes
        pseudonyms out of the names by HMAC (``host-3f9a0c12de71``), so that several snapshots of
        one cloud can be compared; whoever has the key can test a guessed name.  The invented
        traits are numbered anew in each document.

    Returns
    -------
    dict
        The new document.  The map from names to pseudonyms is not kept anywhere.

    Raises
    ------
    InputError
        If ``snapshot`` is not sound.
    """
    traits = {
        trait
        for host in snapshot["hosts"]
        for provider in (host, *host.get("providers", ()))
        for trait in provider.get("traits", ())
    }
    result = _document(snapshot, _Pseudonyms(key, traits))
    _keep_off(snapshot, result)
    return result


def _keep_off(snapshot: dict[str, Any], result: dict[str, Any]) -> None:
    """Write into ``result`` what hosts the text that it lacks keeps instances off."""
    settings = base.Settings(ignored_rules=_RULES_WITHOUT_TEXT)
    before, after = (
        state.build(document.snapshot(one, "the snapshot"), settings) for one in (snapshot, result)
    )
    alike: dict[tuple[int, int], list[int]] = {}
    classes = zip(before.eligibility_of.tolist(), after.eligibility_of.tolist(), strict=True)
    for v, pair in enumerate(classes):
        alike.setdefault(pair, []).append(v)
    kept_off: dict[tuple[int, ...], list[int]] = {}
    for (old, new), instances in alike.items():
        hosts = (after.allowed[new] & ~before.allowed[old]).nonzero()[0].tolist()
        if hosts:
            kept_off.setdefault(tuple(hosts), []).extend(instances)
    for number, (off, instances) in enumerate(kept_off.items(), 1):
        trait = f"CUSTOM_KEPT_OFF_{number:04d}"
        for h in off:
            result["hosts"][h]["traits"].append(trait)
        for v in instances:
            result["instances"][v]["extra_specs"][f"trait:{trait}"] = "forbidden"


class _Pseudonyms:
    """The map from names to pseudonyms, for as long as one document is rewritten.

    ``traits`` are those that Placement has: of any other that a flavor asks for, the name may be
    any text.
    """

    def __init__(self, key: bytes | None, traits: Set[str]) -> None:
        self._key = key
        self._standard = {asked.HYPERTHREADING, "PCPU", *traits}
        self._by_name: dict[tuple[str, str], str] = {}
        self._count: dict[str, int] = {}

    def of(self, kind: str, name: str) -> str:
        """Pseudonym of a name among the names of its kind."""
        if (kind, name) not in self._by_name:
            self._count[kind] = self._count.get(kind, 0) + 1
            self._by_name[kind, name] = f"{kind}-{self._suffix(kind, name)}"
        return self._by_name[kind, name]

    def maybe(self, kind: str, name: str | None) -> str | None:
        """Pseudonym of a name that may be missing."""
        return None if name is None else self.of(kind, name)

    def each(self, kind: str, names: Iterable[str]) -> list[str]:
        """Pseudonyms of several names, in their order."""
        return [self.of(kind, name) for name in names]

    def custom(self, kind: str, name: str) -> str:
        """Custom traits and resource classes get other names, standard ones keep theirs."""
        if not name.startswith("CUSTOM_"):
            return name
        return "CUSTOM_" + re.sub("[^A-Z0-9]", "_", self.of(kind, name).upper())

    def request(self, kind: str, group: str | None, name: str) -> str | None:
        """Key of an extra spec that asks for a trait or a resource, None if it may be any text."""
        if name not in self._standard and not name.startswith("CUSTOM_"):
            return None
        end = "_" + self.of("request", group) if group else ""
        return f"{kind}{end}:{self.custom('trait' if kind == 'trait' else 'resource', name)}"

    def keys(self, by_resource: Mapping[str, Any]) -> dict[str, Any]:
        """A mapping by resource class with the classes' new names."""
        return {self.custom("resource", name): value for name, value in by_resource.items()}

    def _suffix(self, kind: str, name: str) -> str:
        if self._key is None:
            return f"{self._count[kind]:04d}"
        text = f"{kind}\0{name}".encode()
        # 48 bits: among 200,000 names two are the same with a probability below 1 in 10,000.
        return hmac.digest(self._key, text, hashlib.sha256).hex()[:12]


def _document(snapshot: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    # Every key is named here, so one added to the format later is left out, not let through.
    return {
        "format": snapshot["format"],
        "cloud": names.of("cloud", snapshot["cloud"]),
        "region": names.maybe("region", snapshot.get("region")),
        "taken_at": snapshot["taken_at"],
        "numa_choice": snapshot["numa_choice"],
        "several_cells": snapshot.get("several_cells", False),
        "hosts": [_host(host, names) for host in snapshot["hosts"]],
        "pools": [
            {
                "id": names.of("pool", pool["id"]),
                "inventories": names.keys(pool["inventories"]),
            }
            for pool in snapshot.get("pools", ())
        ],
        "flavors": [_flavor(flavor, names) for flavor in snapshot.get("flavors", ())],
        "instances": [_instance(instance, names) for instance in snapshot["instances"]],
        "server_groups": [
            _server_group(group, names) for group in snapshot.get("server_groups", ())
        ],
        "conflicts": [names.each("instance", pair) for pair in snapshot.get("conflicts", ())],
        "aggregates": [
            {
                "id": names.maybe("aggregate-id", aggregate.get("id")),
                "name": names.of("aggregate", aggregate["name"]),
                "hosts": names.each("host", aggregate["hosts"]),
            }
            for aggregate in snapshot.get("aggregates", ())
        ],
        "running_migrations": [
            _running_migration(migration, names)
            for migration in snapshot.get("running_migrations", ())
        ],
        "outside": [_outside(instance, names) for instance in snapshot.get("outside", ())],
        "refused": [
            {"host": names.of("service", refused["host"]), "reason": "left out"}
            for refused in snapshot.get("refused", ())
        ],
        "missing": [_missing(missing, names) for missing in snapshot.get("missing", ())],
    }


def _host(host: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    result = {
        "id": names.of("host", host["id"]),
        "service_host": names.maybe("service", host.get("service_host")),
        "hypervisor_hostname": names.maybe("hypervisor", host.get("hypervisor_hostname")),
        "az": names.maybe("az", host.get("az")),
        **_kept(host, ("status", "state", "forced_down", "hypervisor_type", "hypervisor_version")),
        "cpu_info": _cpu_info(host.get("cpu_info", {}), names),
        "traits": [names.custom("trait", trait) for trait in host.get("traits", ())],
        "inventories": names.keys(host["inventories"]),
        "shared": names.keys(
            {name: names.of("pool", pool) for name, pool in host.get("shared", {}).items()}
        ),
        "providers": [_provider(nested, host["id"], names) for nested in host.get("providers", ())],
        "held": [
            {
                "consumer": names.of(_CONSUMERS[held["why"]], held["consumer"]),
                "why": held["why"],
                "resources": names.keys(held["resources"]),
            }
            for held in host.get("held", ())
        ],
    }
    if host.get("numa") is not None:
        result["numa"] = {
            "provenance": host["numa"]["provenance"],
            "cells": [_cell(cell, names) for cell in host["numa"]["cells"]],
        }
    for fact in ("rack", "cell", "power_zone", "migration_link"):
        if host.get(fact) is not None:
            result[fact] = {
                "provenance": host[fact]["provenance"],
                "value": names.maybe(fact.replace("_", "-"), host[fact]["value"]),
            }
    if host.get("migration_mibps") is not None:
        rate = host["migration_mibps"]
        result["migration_mibps"] = {
            "provenance": rate["provenance"],
            "value": _number(rate["value"]),
        }
    for key in ("watts", "inlet_c"):
        if host.get(key) is not None:
            result[key] = host[key]
    return result


def _cpu_info(info: Mapping[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    """What the rule ``cpu`` compares; nothing stays nothing, and something something."""
    if not info:
        return {}
    result: dict[str, Any] = {}
    for key in ("vendor", "model", "arch"):
        value = info.get(key)
        if value is not None:
            text = json.dumps(value, sort_keys=True)
            result[key] = value if isinstance(value, str) else names.of("cpu", text)
    features = info.get("features")
    if not isinstance(features, list):
        features = []
    return {**result, "features": names.each("feature", map(str, features))}


def _cell(cell: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    result = {"id": cell["id"], "capacity": names.keys(cell["capacity"])}
    if cell.get("detail") is not None:
        result["detail"] = _kept(cell["detail"], _CELL_DETAIL)
    return result


def _provider(nested: dict[str, Any], host_id: str, names: _Pseudonyms) -> dict[str, Any]:
    parent = "host" if nested["parent"] == host_id else "provider"
    return {
        "id": names.of("provider", nested["id"]),
        "name": names.of("provider-name", nested["name"]),
        "parent": names.of(parent, nested["parent"]),
        "inventories": names.keys(nested["inventories"]),
        "traits": [names.custom("trait", trait) for trait in nested.get("traits", ())],
    }


def _flavor(flavor: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    return {
        "id": names.of("flavor-id", flavor["id"]),
        "name": names.of("flavor", flavor["name"]),
        "resources": names.keys(flavor.get("resources", {})),
        "extra_specs": _asked(flavor.get("extra_specs", {}), names),
    }


def _instance(instance: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    result = {
        "id": names.of("instance", instance["id"]),
        "project": names.maybe("project", instance.get("project")),
        "flavor": names.maybe("flavor", instance.get("flavor")),
        "host": names.of("host", instance["host"]),
        "pinned_az": names.maybe("az", instance.get("pinned_az") or None),
        **_kept(
            instance,
            (
                "status",
                "task_state",
                "vm_state",
                "power_state",
                "locked",
                "launched_at",
                "updated_at",
                "vnic_types",
                "numa_pagesize_kib",
            ),
        ),
        "allow_migration": instance.get("allow_migration", True)
        and not migratable.opted_out(instance.get("metadata", {}), instance.get("tags", ())),
        "allocations": names.keys(instance["allocations"]),
        "nested": {
            names.of("provider", provider): names.keys(amounts)
            for provider, amounts in instance.get("nested", {}).items()
        },
        "usage": names.keys(instance.get("usage", {})),
        "extra_specs": _asked(instance.get("extra_specs", {}), names),
        "metadata": _opt_in(instance.get("metadata", {})),
        "tags": [tag for tag in instance.get("tags", ()) if tag == migratable.OPT_IN_TAG],
        "scheduler_hints": {
            hint: ["left out"]
            for hint in migratable.PLACING_HINTS
            if instance.get("scheduler_hints", {}).get(hint)
        },
        "volumes": names.each("volume", instance.get("volumes", ())),
    }
    if instance.get("image") is not None:
        result["image"] = {
            "id": names.maybe("image", instance["image"]["id"]),
            "properties": _asked(instance["image"]["properties"], names),
        }
    if instance.get("allowed_hosts") is not None:
        result["allowed_hosts"] = names.each("host", instance["allowed_hosts"])
    if instance.get("numa") is not None:
        result["numa"] = [
            {
                "cell": guest["cell"],
                "resources": names.keys(guest["resources"]),
                **_kept(guest, ("pinned",)),
            }
            for guest in instance["numa"]
        ]
    return result


def _server_group(group: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    return {
        "id": names.of("group", group["id"]),
        "project": names.maybe("project", group.get("project")),
        **_kept(group, ("policy", "max_server_per_host")),
        "members": names.each("instance", group["members"]),
    }


def _running_migration(migration: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    result = {
        "id": names.maybe("migration", migration.get("id")),
        **_kept(migration, ("type", "status")),
        "instance": names.of("instance", migration["instance"]),
        "source": names.of("host", migration["source"]),
        "dest": names.maybe("host", migration["dest"]),
    }
    if migration.get("far_allocations") is not None:
        result["far_allocations"] = names.keys(migration["far_allocations"])
    return result


def _outside(instance: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    return {
        "id": names.of("instance", instance["id"]),
        "project": names.maybe("project", instance.get("project")),
        "host": names.maybe("service", instance.get("host")),
        **_kept(instance, ("status", "task_state", "reason")),
    }


def _missing(missing: dict[str, Any], names: _Pseudonyms) -> dict[str, Any]:
    result: dict[str, Any] = {
        "what": names.of("missing", missing["what"]),
        "reason": "left out",
    }
    if missing.get("hosts") is not None:
        result["hosts"] = names.each("host", missing["hosts"])
    return result


def _asked(values: Mapping[str, str], names: _Pseudonyms) -> dict[str, str]:
    """Extra specs or image properties without the operator's words."""
    result = {}
    for key, value in values.items():
        if key in _KEPT_ASKED:
            result[key] = value
        elif key in _NAMING_SPECS:
            result[key] = value and names.of(_NAMING_SPECS[key], value)
        elif (match := _REQUEST.fullmatch(key)) and (request := names.request(*match.groups())):
            known = re.fullmatch("required|forbidden|[0-9]+", value)
            result[request] = value if known else "other"
    return result


def _opt_in(metadata: Mapping[str, str]) -> dict[str, str]:
    said = metadata.get(migratable.OPT_IN_METADATA, "").strip().lower()
    return {migratable.OPT_IN_METADATA: "true"} if said == "true" else {}


def _number(text: str | None) -> str | None:
    """``text`` if it is a decimal number, as it should be."""
    return text if text is not None and re.fullmatch("[0-9]+([.][0-9]+)?", text) else None


def _kept(values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}

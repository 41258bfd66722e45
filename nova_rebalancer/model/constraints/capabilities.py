# SPDX-License-Identifier: Apache-2.0
"""The host has the capabilities that the flavor asks for, as ``capabilities:cpu_info:vendor``.

Nova: ``filters/compute_capabilities_filter.py``.  Only some of what Nova compares is in its API;
what is not known of a host counts as missing.
"""

from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import extra_specs

IGNORABLE = True

KNOWN = (
    "cpu_info",
    "host",
    "hypervisor_hostname",
    "hypervisor_type",
    "hypervisor_version",
    "nodename",
    "uuid",
)
"""What the API shows of the capabilities."""

OTHERS = (
    "aggregates",
    "allocation_candidates",
    "cell_uuid",
    "cpu_allocation_ratio",
    "disk_allocation_ratio",
    "disk_mb_used",
    "failed_builds",
    "free_disk_mb",
    "free_ram_mb",
    "host_ip",
    "instances",
    "limits",
    "metrics",
    "num_instances",
    "num_io_ops",
    "numa_topology",
    "pci_stats",
    "ram_allocation_ratio",
    "service",
    "stats",
    "supported_instances",
    "total_usable_disk_gb",
    "total_usable_ram_mb",
    "updated",
    "vcpus_total",
    "vcpus_used",
)
"""What else Nova's scheduler keeps of a host (``scheduler/host_manager.py``, ``HostState``)."""

_NAMES = frozenset((*KNOWN, *OTHERS))

BITS = "hw:maxphysaddr_bits"


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the capabilities it asks for, None without any."""
    return frozenset(_wishes(view.asks[instance.id].specs)) or None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the host."""
    return dest.id


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which capability the host lacks."""
    for path, wish in _wishes(view.asks[instance.id].specs):
        value = _of(dest, path)
        what = ":".join(path)
        if value is None:
            return f"its flavor asks for {what} {wish}, which is not known of {dest.service_host}"
        if not extra_specs.match(str(value), wish):
            return f"its flavor asks for {what} {wish}, {dest.service_host} has {value}"
    return None


def _wishes(specs: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, wish in specs.items():
        scope, *path = name.split(":")
        if name == BITS:
            yield ("cpu_info", "maxphysaddr", "bits"), f">= {wish}"
        elif scope == "capabilities" and path:
            yield tuple(path), wish
        elif not path and name in _NAMES:
            # A name without a scope is about a capability if there is one of this name.
            yield (name,), wish


def _of(host: cloud.Host, path: tuple[str, ...]) -> Any:
    value: Any = {
        "cpu_info": host.cpu_info,
        "host": host.service_host,
        "hypervisor_hostname": host.hypervisor_hostname,
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "nodename": host.hypervisor_hostname,
        "uuid": host.id,
    }
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value

# SPDX-License-Identifier: Apache-2.0
"""A guest NUMA cell needs a host cell of its own, and all about the host's cells must be known.

Nova: ``filters/numa_topology_filter.py`` and ``virt/hardware.py``.  What of a cell is free is the
ledger's matter, and on a live cloud ``model.numa``'s; here is what holds whatever else is there.
Host cells are not in Nova's API: where nobody tells them, no instance with a NUMA topology goes.
"""

from collections.abc import Hashable

from nova_rebalancer.model import asked
from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return what of its topology counts, None without one."""
    if not instance.numa:
        return None
    asks = view.asks[instance.id]
    return (
        len(instance.numa),
        asks.cpu_policy,
        asks.thread_policy,
        asks.page_size,
        instance.numa_pagesize_kib,
    )


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the host."""
    return dest.id


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say what of the host's cells is missing or not known."""
    guests = len(instance.numa or ())
    if not guests:
        return None
    name = dest.service_host
    if view.snapshot.numa_choice == "nova":
        unknown = view.unsettled.get(dest.id)
        if unknown is not None:
            return unknown
        if dest.id in view.devices and guests < len(dest.cells):
            return (
                f"Nova chooses the NUMA cell by the devices that are free on {name}, and which "
                "ones instances there have is not in its API"
            )
        asks = view.asks[instance.id]
        if asks.cpu_policy != "shared" and dest.id in view.emulators:
            return (
                f"an instance on {name} has isolated emulator threads, and which CPU these hold "
                "is not in Nova's API"
            )
        if asks.thread_policy != "prefer" and asked.HYPERTHREADING in dest.traits:
            if not any(
                len(core) > 1 for cell in dest.cells if cell.detail for core in cell.detail.siblings
            ):
                return f"which CPUs of {name} are threads of one core is not known"
    elif not dest.cells:
        return f"the NUMA cells of {name} are not known"
    if len(dest.cells) < guests:
        return f"{name} has {len(dest.cells)} NUMA cells, it needs {guests}"
    return None

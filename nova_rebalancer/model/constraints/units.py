# SPDX-License-Identifier: Apache-2.0
"""Placement accepts an allocation by its size: inventory, min_unit, max_unit, step_size.

A host that gets a resource from a shared pool is judged by the pool's inventory.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the allocations, None without any."""
    return tuple(sorted(instance.allocations.items())) or None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the inventories."""
    return frozenset(dest.inventories.items())


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which amount the host's inventory does not take."""
    for resource, amount in instance.allocations.items():
        if not amount:
            continue
        inventory = dest.inventories.get(resource)
        why = "has no inventory of it" if inventory is None else inventory.refuses_units(amount)
        if why is not None:
            return f"it takes {amount} {resource}, {dest.service_host} {why}"
    return None

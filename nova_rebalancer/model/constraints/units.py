# SPDX-License-Identifier: Apache-2.0
"""Placement accepts an allocation by its size: inventory, min_unit, max_unit, step_size.

A host that gets a resource from a shared pool is judged by the pool's inventory, which the
caller puts into ``hosts`` (see ``state.with_pools``).
"""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud


def key(instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the allocations."""
    return tuple(sorted(instance.allocations.items()))


def allows(instance: cloud.Instance, host: cloud.Host, hosts: Sequence[cloud.Host]) -> arrays.Bools:
    """Mask of the hosts whose inventories accept its amounts, (H,) bool."""
    asked = [(resource, amount) for resource, amount in instance.allocations.items() if amount]
    return np.array(
        [
            all(
                resource in other.inventories and other.inventories[resource].fits_units(amount)
                for resource, amount in asked
            )
            for other in hosts
        ],
        dtype=bool,
    )

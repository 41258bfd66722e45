# SPDX-License-Identifier: Apache-2.0
"""An instance stays on the hosts it is pinned to."""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud


def key(instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the pinned hosts, None when not pinned."""
    return None if instance.allowed_hosts is None else frozenset(instance.allowed_hosts)


def allows(instance: cloud.Instance, host: cloud.Host, hosts: Sequence[cloud.Host]) -> arrays.Bools:
    """Mask of the hosts it is pinned to, (H,) bool; all when it is not."""
    if instance.allowed_hosts is None:
        return np.ones(len(hosts), dtype=bool)
    pinned = frozenset(instance.allowed_hosts)
    return np.array([other.id in pinned for other in hosts], dtype=bool)

# SPDX-License-Identifier: Apache-2.0
"""Nothing is sent to a host that is disabled, down or was not read whole.

Nova refuses the first two (``filters/compute_filter.py``).
"""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud


def key(instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return None: all instances are treated alike."""
    return None


def allows(instance: cloud.Instance, host: cloud.Host, hosts: Sequence[cloud.Host]) -> arrays.Bools:
    """Mask of usable hosts, (H,) bool."""
    return np.array([other.usable for other in hosts], dtype=bool)

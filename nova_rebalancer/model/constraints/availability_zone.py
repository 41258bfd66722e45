# SPDX-License-Identifier: Apache-2.0
"""An instance stays in its availability zone.

Stricter than Nova on purpose: an administrator's migration to a named host may leave the zone
of an instance that did not ask for one, and its owner would not expect that.
"""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud


def key(instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the zone the instance is in."""
    return host.az


def allows(instance: cloud.Instance, host: cloud.Host, hosts: Sequence[cloud.Host]) -> arrays.Bools:
    """Mask of the hosts in the same zone, (H,) bool."""
    return np.array([other.az == host.az for other in hosts], dtype=bool)

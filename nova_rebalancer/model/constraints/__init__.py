# SPDX-License-Identifier: Apache-2.0
"""Rules that hold whatever the goal.

A *host rule* says which hosts an instance may be on whatever else is there:
``key(instance, host)`` is what the answer depends on besides the hosts (``host`` is where the
instance is now), and ``allows(instance, host, hosts)`` gives the mask over ``hosts``.
Capacity, NUMA cells and server groups depend on what else is there; the ledger keeps them.
"""

from nova_rebalancer.model.constraints import allowed_hosts
from nova_rebalancer.model.constraints import availability_zone
from nova_rebalancer.model.constraints import scope
from nova_rebalancer.model.constraints import units
from nova_rebalancer.model.constraints import usable

HOST_RULES = (usable, scope, allowed_hosts, availability_zone, units)

# SPDX-License-Identifier: Apache-2.0
"""What an operator can set in a configuration file, one module per group."""

import copy

from oslo_config import cfg

from nova_rebalancer.conf import cloud
from nova_rebalancer.conf import collect
from nova_rebalancer.conf import constraints
from nova_rebalancer.conf import execute
from nova_rebalancer.conf import fragmentation
from nova_rebalancer.conf import goals
from nova_rebalancer.conf import path
from nova_rebalancer.conf import planner
from nova_rebalancer.conf import store
from nova_rebalancer.conf import worth

GROUPS = (cloud, collect, constraints, planner, fragmentation, goals, worth, path, execute, store)


def register(conf: cfg.ConfigOpts) -> None:
    """Make every option of ours readable on ``conf``; doing so again changes nothing."""
    for module in GROUPS:
        # A group keeps what is registered in it, and others may add to this one.
        conf.register_group(copy.deepcopy(module.GROUP))
        conf.register_opts(module.OPTIONS, group=module.GROUP)

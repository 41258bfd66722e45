# SPDX-License-Identifier: Apache-2.0
"""Hosts whose aggregates name flavors take these flavors only.

Nova: ``AggregateTypeAffinityFilter`` in ``filters/type_filter.py``.  Stricter than a Nova that has
the filter not enabled.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True

METADATA = "instance_type"


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the flavor's name."""
    return (instance.flavor,)


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the aggregates."""
    return view.member_of[dest.id]


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which flavors the host takes."""
    flavors = view.metadata[dest.id].get(METADATA)
    if not flavors or instance.flavor in flavors:
        return None
    return f"{dest.service_host} takes the flavors {base.listed(flavors)} only"

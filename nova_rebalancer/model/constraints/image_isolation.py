# SPDX-License-Identifier: Apache-2.0
"""Image properties must not contradict the metadata of the host's aggregates.

Nova: ``filters/aggregate_image_properties_isolation.py``.  Stricter than Nova, which compares only
the properties it knows, and than a Nova that has the filter not enabled.
"""

from collections.abc import Hashable

from nova_rebalancer.model import asked
from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the properties that some aggregate speaks of, None without any."""
    properties = view.asks[instance.id].properties
    return frozenset((name, properties[name]) for name in view.said & properties.keys()) or None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the aggregates."""
    return view.member_of[dest.id]


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which property the host's aggregates contradict."""
    properties = view.asks[instance.id].properties
    for name, values in view.metadata[dest.id].items():
        value = properties.get(name)
        if value and asked.as_nova(name, value) not in values:
            return (
                f"its image has {name}={value}, the aggregates of {dest.service_host} "
                f"{base.listed(values)}"
            )
    return None

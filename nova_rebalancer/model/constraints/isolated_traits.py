# SPDX-License-Identifier: Apache-2.0
"""Aggregates that are kept for a trait take only instances that require it.

Nova: ``request_filter.isolate_aggregates``.  Stricter than a Nova that does not have it enabled.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True

PREFIX = "trait:"


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the traits it requires."""
    return view.asks[instance.id].requested


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the aggregates."""
    return view.member_of[dest.id]


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which aggregate is kept for others."""
    required = view.asks[instance.id].requested
    for aggregate in view.aggregates[dest.id]:
        for name, value in aggregate.metadata.items():
            trait = name.removeprefix(PREFIX)
            if trait != name and value == "required" and trait not in required:
                return (
                    f"{dest.service_host} is in the aggregate {aggregate.name}, which is kept "
                    f"for instances that require the trait {trait}"
                )
    return None

# SPDX-License-Identifier: Apache-2.0
"""An instance that asked for an availability zone stays in it.

Nova sees to it itself (``request_filter.map_az_to_placement_aggregate``).
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the zone it asked for, None when it asked for none."""
    return instance.pinned_az or None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the zone."""
    return dest.az


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say that the host is in another zone than the one asked for."""
    if not instance.pinned_az or dest.az == instance.pinned_az:
        return None
    return (
        f"it asked for availability zone {instance.pinned_az}, "
        f"{dest.service_host} is in {dest.az or 'none'}"
    )

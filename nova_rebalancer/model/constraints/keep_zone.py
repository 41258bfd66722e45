# SPDX-License-Identifier: Apache-2.0
"""An instance that asked for no availability zone stays in the one it is in.

Stricter than Nova on purpose: Nova lets a migration take such an instance out of its zone, and
its owner would not expect that.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the zone it is in, None when it asked for one: that counts then."""
    return None if instance.pinned_az else (host.az,)


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the zone."""
    return dest.az


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say that the host is in another zone than the instance."""
    if instance.pinned_az or dest.az == host.az:
        return None
    zone = dest.az or "none"
    return f"it is in availability zone {host.az or 'none'}, {dest.service_host} in {zone}"

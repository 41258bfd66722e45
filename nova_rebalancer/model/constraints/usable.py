# SPDX-License-Identifier: Apache-2.0
"""Nothing is sent to a host that is disabled, down, forced down or was not read whole.

Nova refuses the first three: ``filters/compute_filter.py``, and the trait that
``request_filter.compute_status_filter`` forbids.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False

DISABLED = "COMPUTE_STATUS_DISABLED"


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return one key for all: instances are treated alike."""
    return ()


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the host."""
    return dest.id


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say why the host takes nothing."""
    return why_not(dest)


def why_not(dest: cloud.Host) -> str | None:
    """Say why nothing goes to a host, nor leaves it."""
    if dest.unusable is not None:
        return f"{dest.service_host} is {dest.unusable}"
    if dest.forced_down:
        return f"{dest.service_host} is forced down"
    if DISABLED in dest.traits:
        return f"{dest.service_host} has the trait {DISABLED}"
    return None

# SPDX-License-Identifier: Apache-2.0
"""Nothing is sent to a host outside the scope of the plan."""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return one key for all: instances are treated alike."""
    return ()


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the host."""
    return dest.id


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say that the host is out of scope."""
    return None if dest.in_scope else f"{dest.service_host} is not in the scope of the plan"

# SPDX-License-Identifier: Apache-2.0
"""The host has the traits that the flavor and the image require, and none that they forbid.

Nova: ``scheduler/utils.py``, ``ResourceRequest``; Placement decides.  Stricter than Placement,
which lets nested and sharing providers have them: here the host itself must.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the traits required and forbidden, None when there are none."""
    asked = view.asks[instance.id]
    return (asked.required, asked.forbidden) if asked.required or asked.forbidden else None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the traits."""
    return frozenset(dest.traits)


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which trait is missing or in the way."""
    asked = view.asks[instance.id]
    missing = asked.required.difference(dest.traits)
    if missing:
        return f"{dest.service_host} lacks the trait {base.listed(missing)}"
    unwanted = asked.forbidden.intersection(dest.traits)
    if unwanted:
        return f"{dest.service_host} has the trait {base.listed(unwanted)}, which it forbids"
    return None

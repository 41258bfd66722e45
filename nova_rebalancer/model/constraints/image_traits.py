# SPDX-License-Identifier: Apache-2.0
"""What image properties need of a hypervisor, as traits: disk bus, network card, graphics.

Nova: ``request_filter.transform_image_metadata``, off by default.  So a trait is asked for only
if the host the instance is on has it; one that it lacks cannot have been required.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the traits that count, None without any."""
    return view.asks[instance.id].image_traits.intersection(host.traits) or None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the traits."""
    return frozenset(dest.traits)


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which trait the host lacks."""
    needed = view.asks[instance.id].image_traits.intersection(host.traits)
    missing = needed.difference(dest.traits)
    if missing:
        return f"{dest.service_host} lacks the trait {base.listed(missing)} that its image needs"
    return None

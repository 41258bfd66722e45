# SPDX-License-Identifier: Apache-2.0
"""Where an instance uses nested providers, as a virtual GPU, the host has ones like them.

Placement decides.  Which trait of the present provider was asked for is not known, so the new one
must have them all; room is counted over all providers of a host together, which is exact for
amounts of one, and only such instances are moved (see ``migratable``).
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return what it has of which nested providers, None when it has nothing of any."""
    known = {provider.id for provider in host.providers}
    return (
        (tuple(sorted(_uses(instance, host))), known.issuperset(instance.nested))
        if (instance.nested)
        else None
    )


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the nested providers."""
    return tuple(
        (frozenset(one.traits), frozenset(one.inventories.items())) for one in dest.providers
    )


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which provider the host has none like."""
    known = {provider.id for provider in host.providers}
    if not known.issuperset(instance.nested):
        return "which nested providers it uses is not known"
    for amounts, traits in _uses(instance, host):
        if not any(
            set(traits) <= set(provider.traits)
            and all(
                resource in provider.inventories
                and provider.inventories[resource].refuses_units(amount) is None
                for resource, amount in amounts
            )
            for provider in dest.providers
        ):
            what = base.listed({resource for resource, _ in amounts})
            return f"{dest.service_host} has no provider of {what} like the one it uses"
    return None


def _uses(
    instance: cloud.Instance, host: cloud.Host
) -> list[tuple[tuple[tuple[str, int], ...], tuple[str, ...]]]:
    traits = {provider.id: tuple(sorted(provider.traits)) for provider in host.providers}
    return [
        (tuple(sorted(amounts.items())), traits.get(provider, ()))
        for provider, amounts in instance.nested.items()
    ]

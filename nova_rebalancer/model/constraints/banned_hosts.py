# SPDX-License-Identifier: Apache-2.0
"""Nothing is sent to a banned host; a ban wins over a pin."""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import allowed_hosts
from nova_rebalancer.model.constraints import base

IGNORABLE = False

METADATA = "nova-rebalancer:ban-hosts"
"""Metadata by which an owner keeps an instance off hosts: service hosts, separated by commas."""


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the bans of this instance beside everybody's, None when there are none at all."""
    bans = frozenset(view.settings.bans.get(instance.id, ()))
    owners = allowed_hosts.hosts_in(instance.metadata.get(METADATA))
    return (bans, owners) if bans or owners or view.settings.banned_hosts else None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the host."""
    return dest.id


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say who bans the host."""
    name = dest.service_host
    if name in view.settings.banned_hosts:
        return f"the operator bans {name}"
    if name in view.settings.bans.get(instance.id, ()):
        return f"the operator bans it from {name}"
    if name in allowed_hosts.hosts_in(instance.metadata.get(METADATA)):
        return f"its owner bans it from {name} (metadata {METADATA})"
    return None

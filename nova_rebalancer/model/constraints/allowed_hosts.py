# SPDX-License-Identifier: Apache-2.0
"""An instance that is pinned to hosts goes to these only.

Three may pin it, and all of them are kept: the snapshot document (``allowed_hosts``), the operator
(``--pin``), and the owner by metadata.
"""

from collections.abc import Hashable
import functools

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False

METADATA = "nova-rebalancer:pin-hosts"
"""Metadata by which an owner pins an instance: service hosts, separated by commas."""


# Many pins times many hosts: a text that is made once.
_OWNERS = f"its owner pins it to other hosts (metadata {METADATA})"


@functools.lru_cache(4096)
def hosts_in(text: str | None) -> tuple[str, ...]:
    """Return the names in a list separated by commas, sorted."""
    if not text:
        return ()
    return tuple(sorted({part.strip() for part in text.split(",")} - {""}))


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return what it is pinned to, None when nobody pins it."""
    pins = view.settings.pins.get(instance.id, ())
    owners = hosts_in(instance.metadata.get(METADATA))
    ids = instance.allowed_hosts
    if ids is None and not pins and not owners:
        return None
    return (None if ids is None else frozenset(ids), frozenset(pins), owners)


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the host."""
    return dest.id


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say who pins the instance to other hosts."""
    name = dest.service_host
    if instance.allowed_hosts is not None and dest.id not in instance.allowed_hosts:
        return "the snapshot pins it to other hosts (allowed_hosts)"
    pins = view.settings.pins.get(instance.id, ())
    if pins and name not in pins:
        return "the operator pins it to other hosts"
    owners = hosts_in(instance.metadata.get(METADATA))
    if owners and name not in owners:
        return _OWNERS
    return None

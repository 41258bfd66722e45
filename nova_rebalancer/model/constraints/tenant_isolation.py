# SPDX-License-Identifier: Apache-2.0
"""Hosts that aggregates keep for projects take these projects' instances only, and hold them.

Nova: ``filters/aggregate_multitenancy_isolation.py`` and
``request_filter.require_tenant_aggregate``.  Stricter than a Nova that has neither enabled: the API
does not show it.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the project."""
    return (instance.project,)


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the aggregates."""
    return view.member_of[dest.id]


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which projects the host is kept for, or where the instance's project must be."""
    project = instance.project
    kept_for: set[str] = set()
    for name, values in view.metadata[dest.id].items():
        if name.startswith(base.TENANT):
            kept_for |= values
    if kept_for and project not in kept_for:
        return f"aggregate metadata {base.TENANT} keeps {dest.service_host} for other projects"
    # An aggregate for several projects is none of theirs to the request filter.
    own = view.own_aggregates.get(project, ())
    here = view.aggregates[dest.id]
    if own and not any(aggregate is one for aggregate in own for one in here):
        names = base.listed({aggregate.name for aggregate in own})
        return f"its project is held in the aggregates {names} by the metadata {base.TENANT}"
    return None

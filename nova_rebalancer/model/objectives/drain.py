# SPDX-License-Identifier: Apache-2.0
"""Empty the named hosts: each instance that is still on one counts."""

from collections.abc import Sequence

import numpy as np

from nova_rebalancer import exceptions
from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal; nothing may be sent to the hosts, which the rules see to.

    Raises
    ------
    UsageError
        If no host is named, or there is none of a name.
    """
    if not settings.drain:
        raise exceptions.UsageError("goal drain: name hosts or aggregates with --drain NAME")
    names = set(hosts(snapshot, settings.drain))
    drained = np.array([name in names for name in start.service_hosts], dtype=bool)
    # Also what cannot be moved counts: the value is how many still hold the hosts.
    stay = drained[start.host_of].astype(np.float64)

    def details(host_of: arrays.Ints) -> tuple[base.Part, ...]:
        still = drained & (np.bincount(host_of, minlength=drained.size) > 0)
        return (base.Part("drain_hosts", "hosts", 0.0, float(still.sum())),)

    return separable.Separable(
        "drain", "instances", formula.Formula((), stay, start.host_of), details
    )


def hosts(snapshot: cloud.Snapshot, names: Sequence[str]) -> list[str]:
    """Return the service hosts that ``names``, of service hosts and aggregates, stand for.

    Raises
    ------
    UsageError
        If there is neither a host nor an aggregate of a name.
    """
    service = {host.id: host.service_host for host in snapshot.hosts}
    found = set()
    for name in names:
        if name in service.values():
            found.add(name)
            continue
        members = [a.hosts for a in snapshot.aggregates if name in (a.name, a.id)]
        if not members:
            raise exceptions.UsageError(
                f"--drain {name}: neither a service host nor an aggregate of the snapshot"
            )
        found.update(service.get(h, h) for group in members for h in group)
    return sorted(found & set(service.values()))

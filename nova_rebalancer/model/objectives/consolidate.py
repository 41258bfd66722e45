# SPDX-License-Identifier: Apache-2.0
"""As few active hosts as possible, with room kept for peaks and for failures.

References
----------
VMware DPM: hosts are emptied, to be switched off, while what remains keeps a reserve.
"""

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
    """Return the goal; the headroom stays free on every host that instances are sent to.

    Raises
    ------
    UsageError
        If a resource is named that no host has.
    """
    reserve = _reserve(start, settings)
    term = active(start, np.where(start.usable, 1.0, 0.0))
    hosts = len(start.hosts)
    own = (start.row_of == np.arange(hosts)[:, None]) & start.usable[:, None] & _counted(start)
    # The same ones whatever moves, even when all hosts that have some are emptied.
    (shown,) = np.nonzero(np.where(own, start.capacity[:hosts], 0).any(axis=0))

    def details(host_of: arrays.Ints) -> tuple[base.Part, ...]:
        on = (term.carried(host_of)[0] > 0) & start.usable
        found = []
        used = start.placed(host_of, start.cells_of).used()
        for r in shown.tolist():
            offered = int(start.capacity[:hosts, r][on & own[:, r]].sum())
            taken = int(used[:hosts, r][on & own[:, r]].sum())
            share = taken / offered if offered else 0.0
            found.append(base.Part(f"used_{start.resources[r]}", "share", 0.0, share))
        return tuple(found)

    return separable.Separable(
        "consolidate",
        "hosts",
        formula.Formula((term,), np.zeros(start.host_of.size), start.host_of),
        details,
        reserve if reserve.any() else None,
        needs=_needs(start, term, settings.spare_hosts) if settings.spare_hosts else None,
    )


def _reserve(start: state.PlacementState, settings: base.Settings) -> arrays.Floats:
    """Return the share of each resource that stays free, (R,)."""
    found = np.where(_counted(start), settings.headroom, 0.0)
    shares = dict(settings.headroom_of)
    for name in shares:
        if name not in start.resources:
            raise exceptions.UsageError(
                f"--headroom {name}={shares[name]:g}: no host of this cloud has {name}; there are: "
                + ", ".join(start.resources)
            )
    if "VCPU" in shares:
        shares.setdefault("PCPU", shares["VCPU"])
    for r, name in enumerate(start.resources):
        found[r] = shares.get(name, found[r])
    return found


def active(start: state.PlacementState, price: arrays.Floats) -> formula.Term:
    """Return the price of each host (H,) that has anything on it."""
    hosts = len(start.hosts)
    fixed = np.zeros(hosts, dtype=np.int64)
    # What others hold there, and what is on its way, keeps a host on.
    own = start.row_of == np.arange(hosts)[:, None]
    fixed += ((start.base[:hosts] > 0) & own).any(axis=1)
    return formula.plain(np.ones_like(start.host_of), fixed, formula.Any(price))


def _counted(start: state.PlacementState) -> arrays.Bools:
    """Return which resources are Placement's, (R,): what checks leave of them is another matter."""
    return np.array([not name.endswith(state.CHECKED) for name in start.resources], dtype=bool)


def _needs(start: state.PlacementState, term: formula.Term, spare: int) -> separable.Needs:
    """Return what active hosts must offer: all that is used, and as much as the largest hosts.

    Where they offer less than that now, they must not offer less than now.
    """
    hosts = len(start.hosts)
    own = (start.row_of == np.arange(hosts)[:, None]) & start.usable[:, None]
    offered = np.where(own & _counted(start), start.capacity[:hosts], 0)
    largest = np.sort(offered, axis=0)[::-1][:spare].sum(axis=0)
    used = np.where(own, start.used()[:hosts], 0).sum(axis=0)
    now = offered[term.carried(start.host_of)[0] > 0].sum(axis=0)
    return separable.Needs(np.minimum(used + largest, now), offered)

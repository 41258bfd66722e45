# SPDX-License-Identifier: Apache-2.0
"""Watts: the less the better (``power``), and no more heat than the air takes (``thermal``).

References
----------
A linear model from idle to busy is good to a few per cent (Fan, Weber, Barroso 2007, Power
provisioning for a warehouse-sized computer); SPECpower_ssj2008 publishes the watts of servers at
each tenth of their load.  An empty host is taken to sleep and to need nothing.
"""

import numpy as np

from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import balance
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import consolidate
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable


def power(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal: the watts of all usable hosts."""
    tables = watts(snapshot, settings) * start.usable[:, None]
    amount, fixed, points = _load(snapshot, start, settings, tables.shape[1])
    terms = (
        consolidate.active(start, tables[:, 0]),
        formula.plain(amount, fixed, formula.Pieces(points, tables - tables[:, :1])),
    )
    none = np.zeros(start.host_of.size)
    return separable.Separable("power", "watts", formula.Formula(terms, none, start.host_of))


def thermal(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal: the share of the watts above what each host's air can take.

    The air of a host takes the more the further its inlet is below ``inlet_limit_c``; a host whose
    inlet is not known counts as the mean of those that are.  Heat is taken to grow straight from
    idle to busy here, so that it can be spread as a load.
    """
    tables = watts(snapshot, settings)
    amount, fixed, points = _load(snapshot, start, settings, 2)
    slope = (tables[:, -1] - tables[:, 0]) / np.maximum(1, points[:, -1])
    known = [host.inlet_c for host in snapshot.hosts if host.inlet_c is not None]
    mean = sum(known) / len(known) if known else settings.inlet_limit_c - 1.0
    inlet = np.array([mean if host.inlet_c is None else host.inlet_c for host in snapshot.hosts])
    takes = np.maximum(0.0, settings.inlet_limit_c - inlet) * start.usable
    carried = formula.summed(amount, fixed, start.host_of)
    heat = float((carried * slope)[start.usable].sum())
    share = takes / takes.sum() if takes.any() else start.usable / max(1, start.usable.sum())
    limit = np.floor(heat * share / np.where(slope > 0, slope, 1.0)).astype(np.int64)
    price = np.where(start.usable & (slope > 0), slope / heat, 0.0) if heat else 0.0 * slope
    term = formula.plain(amount, fixed, formula.Excess(limit, price))
    none = np.zeros(start.host_of.size)
    return separable.Separable("thermal", "share", formula.Formula((term,), none, start.host_of))


def watts(snapshot: cloud.Snapshot, settings: base.Settings) -> arrays.Floats:
    """Return the watts of each host at equally spaced loads from none to all, (H, B)."""
    tables = [host.watts or (settings.idle_w, settings.busy_w) for host in snapshot.hosts]
    most = max((len(table) for table in tables), default=2)
    grid = np.linspace(0.0, 1.0, most)
    found = np.array([np.interp(grid, np.linspace(0.0, 1.0, len(t)), t) for t in tables])
    # A cloud may have no hosts.
    return found.reshape(-1, most)


def _load(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings, points: int
) -> tuple[arrays.Ints, arrays.Ints, arrays.Ints]:
    """Return the cores in use, of instances (V,) and fixed (H,), and equally spaced loads (H, B).

    Measured use where it is wanted, as ``balance_on`` says.
    """
    way = "allocation" if settings.balance_on == "allocation" else "use"
    fine = balance.FINE if way == "allocation" else 1
    amount, fixed, capacity = balance.measured(snapshot, start, balance.CORES, way)
    full = np.maximum(1, capacity) * fine
    grid = np.arange(points, dtype=np.int64)
    return amount * fine, fixed * fine, full[:, None] * grid // (points - 1)

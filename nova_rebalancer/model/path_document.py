# SPDX-License-Identifier: Apache-2.0
"""Paths written down: the entries that plans have too, and what is said of a whole path."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model import path
from nova_rebalancer.model import reason
from nova_rebalancer.model import state

UNKNOWN = "unknown"


def document(
    name: str,
    start: state.PlacementState,
    found: path.MigrationPath,
    runtime_s: float,
    guests: Sequence[Sequence[cloud.GuestCell] | None] | None = None,
) -> dict[str, Any]:
    """Return what was found for the question ``name``.

    Parameters
    ----------
    runtime_s
        Seconds from the state to the verdict.
    guests
        The NUMA cells of each instance as the snapshot has them, (V,); None for a case, whose
        migrations last one second each: the wave is the second in which a migration ends.
    """
    none = found.reachable is False
    migrations = () if none else found.migrations
    return {
        "id": name,
        "reachable": UNKNOWN if found.reachable is None else found.reachable,
        "cost": None if none else _number(found.cost),
        "optimal": none or found.optimal,
        "migrations": [
            migration(start, k, one, None if guests is None else guests[one.hop.v])
            | {"reason": why(_reason(start, one.hop, found.unreachable))}
            | ({} if guests is not None else {"wave": round(one.end_s), "memory_mib": None})
            for k, one in enumerate(migrations)
        ],
        "makespan_s": 0.0 if none else found.makespan_s,
        "makespan_bound_s": 0.0 if none else found.makespan_bound_s,
        "runtime_s": round(runtime_s, 3),
        "certificate": None if found.certificate is None else dict(found.certificate),
        "blocking_hosts": [start.service_hosts[h] for h in found.blocking],
        "unreachable": left_out(start, found.unreachable),
    }


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _reason(
    start: state.PlacementState, hop: path.Hop, unreachable: Mapping[int, reason.Reason]
) -> reason.Reason:
    """Return why a hop is made; who does not reach its target has no hop that leads there."""
    name, host = start.instances[hop.v], start.service_hosts[hop.dest]
    code, text = "leads_to_target", f"the target has {name} on {host}"
    if hop.role == path.BYPASS or hop.v in unreachable:
        code, text = "makes_room", f"{name} waits on {host} while others move"
    return reason.Reason(code, {"host": host}, text)


def migration(
    start: state.PlacementState,
    k: int,
    one: path.Migration,
    said: Sequence[cloud.GuestCell] | None,
) -> dict[str, Any]:
    """Return migration ``k``, from 0, without its reason.

    ``said`` are the NUMA cells of its instance in the snapshot, None without a topology.
    """
    hop = one.hop
    return {
        "id": f"m{k + 1}",
        "instance": start.instances[hop.v],
        "source": start.service_hosts[hop.source],
        "dest": start.service_hosts[hop.dest],
        **_providers(start, hop),
        "source_numa": _cells(start, said, hop.source, hop.source_cells),
        "dest_numa": _cells(start, said, hop.dest, hop.dest_cells),
        "role": hop.role,
        "method": path.LIVE,
        "wave": one.wave,
        "depends_on": [f"m{j + 1}" for j in one.depends_on],
        "start_s": one.start_s,
        "end_s": one.end_s,
        "memory_mib": state.memory_mib(start, hop.v),
    }


def _providers(start: state.PlacementState, hop: path.Hop) -> dict[str, str]:
    """Name the hosts' resource providers, where they have names of their own."""
    if start.hosts == start.service_hosts:
        return {}
    return {
        "source_provider": start.hosts[hop.source],
        "dest_provider": start.hosts[hop.dest],
    }


def _cells(
    start: state.PlacementState,
    said: Sequence[cloud.GuestCell] | None,
    h: int,
    cells: tuple[int, ...],
) -> list[int | None] | None:
    """Write cells by the snapshot's numbers; None without a NUMA topology.

    Only where the snapshot has it can an instance be on cells that the arrays do not know.
    """
    if said is None:
        return None
    return [
        guest.cell if n == state.NOWHERE else start.cell_ids[h][n]
        for guest, n in zip(said, cells, strict=True)
    ]


def left_out(
    start: state.PlacementState, reasons: Mapping[int, reason.Reason]
) -> list[dict[str, Any]]:
    """Return the instances that do not get to their targets, and why."""
    return [{"instance": start.instances[v], "reason": why(one)} for v, one in reasons.items()]


def why(one: reason.Reason) -> dict[str, Any]:
    """Return a reason."""
    return {"code": one.code, "params": dict(one.params), "text": one.text}

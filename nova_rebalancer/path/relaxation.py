# SPDX-License-Identifier: Apache-2.0
"""A quick proof that a target cannot be reached: who cannot move even if all others were gone.

An instance can move at all only if it fits somewhere beside those that can never move.  Who is
found to be able to is taken away, which may let others go, until nothing changes.  Who is left is
stuck where it is.
"""

from collections.abc import Mapping
from typing import Any

from nova_rebalancer.path import board
from nova_rebalancer.path import zone


def stuck(on: board.Board, instances: tuple[int, ...], hosts: tuple[int, ...]) -> list[int]:
    """Return those of ``instances`` that can never leave their hosts, whatever the others do.

    Only room on hosts and where each may be are looked at, so that others may be stuck, too.
    """
    free = {h: on.free[h] for h in hosts}
    left = dict.fromkeys(instances)
    changed = True
    while changed:
        changed = False
        for v in list(left):
            if any(
                (free[h] - packed) & top == top
                for h in hosts
                if on.may_ever(v, h)
                for _, packed, top in on.choices(v, h)
            ):
                free[on.host_of[v]] += on.take(v, on.cells_of[v])[0]
                del left[v]
                changed = True
    return list(left)


def proof(
    on: board.Board, part: zone.Zone, side: str, other: Mapping[int, zone.Spot]
) -> dict[str, Any] | None:
    """Return the certificate that the placements at ``side`` and the ``other`` end never meet.

    None if this way does not show it, or where hosts share pools.
    """
    if on.pooled:
        return None
    held = stuck(on, part.instances, part.hosts)
    if not any(other.get(v, (on.host_of[v],))[0] != on.host_of[v] for v in held):
        return None
    names = [on.start.instances[v] for v in held]
    return {"kind": "relaxation", "side": side, "stuck": names}

# SPDX-License-Identifier: Apache-2.0
"""What a goal would be with one instance somewhere else than a plan has it."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base


@dataclasses.dataclass(frozen=True, slots=True)
class Alternative:
    """One host for the instance, everything else being where the plan leads.

    Attributes
    ----------
    value
        The goal then; None where there would be no room for it.
    chosen
        Whether the plan has it here.
    """

    host: str
    value: float | None
    chosen: bool


def moves(
    start: state.PlacementState, migrations: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield the migrations of a plan document: instance, host and cells of it, by indices.

    Raises
    ------
    InputError
        If they name an instance or a host that is not there.
    """
    position = {name: v for v, name in enumerate(start.instances)}
    index = {name: h for h, name in enumerate(start.service_hosts)}
    for one in migrations:
        v, h = position.get(one["instance"]), index.get(one["dest"])
        if v is None or h is None:
            raise exceptions.InputError(
                f"migration {one['id']}: the snapshot has no instance {one['instance']} or no "
                f"host {one['dest']}"
            )
        ids = start.cell_ids[h]
        yield (
            v,
            h,
            tuple(
                ids.index(cell) if cell in ids else state.NOWHERE for cell in one["dest_numa"] or ()
            ),
        )


def planned(
    start: state.PlacementState, migrations: Sequence[Mapping[str, Any]]
) -> state.PlacementState:
    """Return where the migrations of a plan document lead.

    Raises
    ------
    InputError
        If they name an instance or a host that is not there.
    """
    host_of, cells_of = start.host_of.copy(), start.cells_of.copy()
    for v, h, cells in moves(start, migrations):
        host_of[v] = h
        cells_of[v] = state.NOWHERE
        cells_of[v, : len(cells)] = cells
    return start.placed(host_of, cells_of)


def of(after: state.PlacementState, goal: base.Goal, v: int) -> list[Alternative]:
    """Return the goal for each host that instance ``v`` could be on, in the order of hosts."""
    book = ledger.Ledger(after)
    found = []
    for h, name in enumerate(after.service_hosts):
        if h == after.host_of[v]:
            found.append(Alternative(name, goal.evaluate(after).value, True))
            continue
        cells = book.cells_for(v, h)
        value = None if cells is None else goal.evaluate(after.moved(v, h, cells)).value
        found.append(Alternative(name, value, False))
    return found

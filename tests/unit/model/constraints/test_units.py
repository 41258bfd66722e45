# SPDX-License-Identifier: Apache-2.0
"""Placement takes allocations by their size and by what is left.

Placement is not a package that tests can import beside Nova; what ``_check_capacity_exceeded`` in
its ``objects/allocation.py`` refuses is stated here again, with its floating point numbers.
"""

import hypothesis.strategies as st

from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from tests.unit.model.constraints import nova_objects

INVENTORIES = st.builds(
    cloud.Inventory,
    total=st.integers(1, 40),
    reserved=st.integers(0, 4),
    allocation_ratio=st.sampled_from([0.7, 1.0, 1.1, 1.5, 16.0]),
    min_unit=st.integers(1, 3),
    max_unit=st.one_of(st.none(), st.integers(1, 16)),
    step_size=st.integers(1, 3),
)


def placement_takes(inventory: cloud.Inventory | None, used: int, amount: int) -> bool:
    """Whether Placement accepts one more allocation of an amount."""
    if not amount:
        return True
    if inventory is None:
        return False
    most = inventory.max_unit if inventory.max_unit is not None else 2**31 - 1
    if not inventory.min_unit <= amount <= most or amount % inventory.step_size:
        return False
    capacity = (inventory.total - inventory.reserved) * inventory.allocation_ratio
    return used + amount <= capacity


@nova_objects.judged(
    inventory=st.one_of(st.none(), *[INVENTORIES] * 4),
    amount=st.integers(0, 12),
    used=st.integers(0, 20),
)
def test_as_placement(inventory: cloud.Inventory | None, amount: int, used: int) -> bool:
    """The rule and the ledger together say what Placement says."""
    source = nova_objects.host("a", inventories={"CUSTOM_A": cloud.Inventory(100)})
    dest = nova_objects.host("b", inventories={} if inventory is None else {"CUSTOM_A": inventory})
    one, there = (
        nova_objects.instance(on, name, allocations={"CUSTOM_A": taken})
        for on, name, taken in (("a", "i", amount), ("b", "j", used))
    )
    instances = [one, there] if used else [one]
    allowed = placement_takes(inventory, used, amount)
    view = nova_objects.view([source, dest], instances)
    sized = nova_objects.allows("units", view, dest)
    assert sized == placement_takes(inventory, 0, amount) or (
        # What is too much for an empty host is a matter of room.
        sized and inventory is not None and amount > inventory.capacity
    )
    built = state.build(view.snapshot)
    assert ledger.Ledger(built).has_room(0, 1) == allowed
    return allowed

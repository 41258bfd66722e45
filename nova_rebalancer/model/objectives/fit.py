# SPDX-License-Identifier: Apache-2.0
"""How many more instances of a flavor fit: the part of the free capacity that is no room for them.

Cores, memory and everything else that a flavor takes count together, so a host with free cores and
no memory left has no room: what is free there is stranded.
"""

import dataclasses
import re

import numpy as np

from nova_rebalancer import exceptions
from nova_rebalancer.model import arrays
from nova_rebalancer.model import asked
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base as rules
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable

_SIZE = re.compile(r"([1-9][0-9]{0,5}):([1-9][0-9]{0,8})")


def make(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal: the share of the instances of each flavor that there could be room for.

    Could be: if all that is free were in one piece.  With several flavors, the mean of each alone.

    Raises
    ------
    UsageError
        If no flavor is named, or one that cannot be counted by hosts.
    """
    names = tuple(dict.fromkeys(settings.flavors))
    if not names:
        raise exceptions.UsageError(
            "goal flavor-fit: name a flavor with --flavor NAME, or a size with "
            "--flavor VCPUS:MEMORY_MIB"
        )
    rooms = {}
    for name in names:
        one = example(snapshot, name)
        resources = [start.resources.index(r) for r in one.allocations if r in start.resources]
        rooms[name] = resources, _room(snapshot, start, one, resources, 1 / len(names))

    def details(host_of: arrays.Ints) -> tuple[base.Part, ...]:
        found = []
        for name, (resources, room) in rooms.items():
            carried = room.carried(host_of)
            slots, each = room.slots(carried), room.each(carried)
            found.append(base.Part(f"room_{name}", "instances", 0.0, float(slots.sum())))
            stranded = (each - slots[:, None]).sum(axis=0) * room.need
            for r, amount in zip(resources, stranded.tolist(), strict=True):
                what = f"stranded_{start.resources[r]}_{name}"
                found.append(base.Part(what, "units", 0.0, float(amount)))
        return tuple(found)

    terms = tuple(room for _, room in rooms.values())
    none = np.zeros(start.host_of.size)
    return separable.Separable(
        "flavor-fit", "share", formula.Formula(terms, none, start.host_of), details
    )


def example(snapshot: cloud.Snapshot, name: str) -> cloud.Instance:
    """Return what would be booted: an instance of the flavor ``name``, or of a size.

    Raises
    ------
    UsageError
        If it is neither, or has a NUMA topology.
    """
    flavor = next((one for one in snapshot.flavors if name == one.name), None)
    if flavor is None:
        size = _SIZE.fullmatch(name)
        if size is None:
            known = rules.listed({one.name for one in snapshot.flavors}) or "none"
            raise exceptions.UsageError(
                f"--flavor {name}: no flavor of the snapshot is called so (there are: {known}); "
                "a size is written VCPUS:MEMORY_MIB, as 4:16384"
            )
        amounts = {"VCPU": int(size[1]), "MEMORY_MB": int(size[2])}
        return cloud.Instance(f"flavor {name}", "", amounts)
    amounts = {r: amount for r, amount in flavor.resources.items() if amount}
    if not amounts:
        raise exceptions.UsageError(
            f"--flavor {name}: the snapshot does not say what it takes; write "
            "VCPUS:MEMORY_MIB in its place"
        )
    asks = asked.Asked(flavor.extra_specs, {})
    celled = asks.cpu_policy != "shared" or "PCPU" in amounts
    celled |= asks.page_size is not None or asks.either("numa_nodes") is not None
    if celled or any(one.numa for one in snapshot.instances if one.flavor == name):
        raise exceptions.UsageError(
            f"--flavor {name}: its instances have a NUMA topology, and room for them is counted "
            "by NUMA cells: use goal fragmentation with --fragment-cores"
        )
    return cloud.Instance(
        f"flavor {name}", "", amounts, flavor=name, extra_specs=flavor.extra_specs
    )


def hosts(snapshot: cloud.Snapshot, one: cloud.Instance) -> arrays.Bools:
    """Return the hosts that take a new instance like ``one`` as long as there is room, (H,)."""
    alone = dataclasses.replace(snapshot, instances=(one,), running_migrations=())
    view = state.view_of(alone, rules.Settings(ignored_rules=constraints.NOT_FOR_BOOTS))
    masks = constraints.Masks(view)
    return masks.mask(masks.verdicts(one, view.hosts[0], 0))


def _room(
    snapshot: cloud.Snapshot,
    start: state.PlacementState,
    one: cloud.Instance,
    resources: list[int],
    weight: float,
) -> formula.Room:
    """Return the term of one flavor.

    Raises
    ------
    UsageError
        If no host could ever hold one, or one takes of a pool that hosts share.
    """
    name, count = one.id.removeprefix("flavor "), len(start.hosts)
    counted = hosts(snapshot, one) if count else np.zeros(0, dtype=bool)
    pooled = [r for r in resources if (start.row_of[counted, r] >= count).any()]
    whose = {start.resources[r]: "a pool that hosts share" for r in pooled}
    nested = [r for r in one.allocations if r + state.NESTED in start.resources]
    whose |= dict.fromkeys(nested, "nested providers")
    for resource, provider in whose.items():
        raise exceptions.UsageError(
            f"--flavor {name}: it takes {resource} of {provider}, which is not counted host by "
            "host; write VCPUS:MEMORY_MIB in its place"
        )
    need = np.array([one.allocations[start.resources[r]] for r in resources], dtype=np.int64)
    capacity = np.where(counted[:, None], start.capacity[:count, resources], 0)
    if not (capacity // need).min(axis=1, initial=state.UNLIMITED).any() or not resources:
        raise exceptions.UsageError(
            f"--flavor {name}: no usable host could hold an instance of it, even an empty one; it "
            f"takes {', '.join(f'{amount} {r}' for r, amount in one.allocations.items())}"
        )
    own = start.row_of[:, resources] == np.arange(count)[:, None]
    fixed = np.where(own, start.base[:count, resources], 0)
    amount = start.demand[:, resources]
    ideal = min(_ideal(start, r, int(need[a])) for a, r in enumerate(resources))
    price = weight / ideal if ideal else 0.0
    return formula.Room(amount, fixed, capacity, need, counted, ideal, price)


def _ideal(start: state.PlacementState, r: int, need: int) -> int:
    """Return how many times all that is free of a resource is enough, wherever it may come."""
    rows = np.unique(start.row_of[start.usable, r])
    rows = rows[rows != state.NOWHERE]
    free = np.maximum(0, (start.capacity - start.used())[rows, r])
    return int(free.sum()) // need

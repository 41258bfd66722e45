# SPDX-License-Identifier: Apache-2.0
"""What may be booted on a simulated cloud: the likes of its instances, and sizes of a trace.

All that the rules and the arrays say of an instance is worked out once for each kind, so that a
boot costs no more than a few operations on arrays.
"""

from collections.abc import Iterable
import dataclasses

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """What a trace says of an instance; it has ``guests`` NUMA cells, 0 for no topology."""

    cores: int
    memory_mib: int
    guests: int = 0

    @property
    def name(self) -> str:
        """What it is called in results."""
        cells = f"-{self.guests}n" if self.guests else ""
        return f"{self.cores}c-{self.memory_mib / 1024:g}g{cells}"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """What may be booted, by index: first the instances of the snapshot, then sizes, then others.

    Attributes
    ----------
    snapshot
        The cloud as it begins.
    examples
        An instance of each kind, (V,).
    start
        The arrays of the examples on that cloud, without the rules that are about where they are.
    names
        What each kind is called in results, (V,): its flavor, or its size.
    cores, memory_mib
        Of each kind, (V,).
    of_size, of_other
        The kind of each size, and of each other example by its id.
    """

    snapshot: cloud.Snapshot
    examples: tuple[cloud.Instance, ...]
    start: state.PlacementState
    names: tuple[str, ...]
    cores: tuple[int, ...]
    memory_mib: tuple[int, ...]
    of_size: dict[Size, int]
    of_other: dict[str, int]


def build(
    snapshot: cloud.Snapshot,
    sizes: Iterable[Size] = (),
    numa_packing: bool = False,
    others: Iterable[cloud.Instance] = (),
) -> Kinds:
    """Return the kinds of a cloud; ``others`` are examples of what else may be booted.

    Raises
    ------
    InputError
        If nothing can be booted there, or no NUMA topology can be given to a size.
    """
    sizes = tuple(dict.fromkeys(sizes))
    core = _core(snapshot)
    if snapshot.numa_choice == "nova":
        for size in sizes:
            if size.guests:
                raise exceptions.InputError(
                    f"arrivals: {size.name} has {size.guests} NUMA cells, but on cloud "
                    f"{snapshot.cloud} Nova chooses cells by a flavor's extra specs; leave "
                    "guest_cells empty"
                )
    somewhere = next(host.id for host in snapshot.hosts if host.usable)
    examples = (
        *snapshot.instances,
        *(_example(size, k, somewhere, core) for k, size in enumerate(sizes)),
        *(dataclasses.replace(one, host=somewhere) for one in others),
    )
    settings = base.Settings(ignored_rules=constraints.NOT_FOR_BOOTS, numa_packing=numa_packing)
    start = state.build(dataclasses.replace(snapshot, instances=examples), settings)
    first = len(snapshot.instances)
    last = first + len(sizes)
    return Kinds(
        snapshot,
        examples,
        start,
        (
            *(one.flavor or _size(one).name for one in snapshot.instances),
            *(size.name for size in sizes),
            *(one.flavor or _size(one).name for one in examples[last:]),
        ),
        tuple(_cores(one) for one in examples),
        tuple(one.allocations.get("MEMORY_MB", 0) for one in examples),
        {size: first + k for k, size in enumerate(sizes)},
        {one.id: last + k for k, one in enumerate(examples[last:])},
    )


def _core(snapshot: cloud.Snapshot) -> str:
    """Return what counts as cores on the usable hosts: PCPU where any has some, else VCPU."""
    usable = [host for host in snapshot.hosts if host.usable]
    if not usable:
        raise exceptions.InputError(
            f"cloud {snapshot.cloud}: it has no host that is enabled and up, nothing can be booted"
        )
    pinned = any("PCPU" in host.inventories for host in usable)
    return "PCPU" if pinned else "VCPU"


def _cores(one: cloud.Instance) -> int:
    return one.allocations.get("PCPU", 0) + one.allocations.get("VCPU", 0)


def _size(one: cloud.Instance) -> Size:
    return Size(_cores(one), one.allocations.get("MEMORY_MB", 0), len(one.numa or ()))


def _example(size: Size, number: int, host: str, core: str) -> cloud.Instance:
    amounts = {core: size.cores, "MEMORY_MB": size.memory_mib}
    numa = None
    if size.guests:
        each = {name: amount // size.guests for name, amount in amounts.items()}
        numa = (cloud.GuestCell(None, each),) * size.guests
    return cloud.Instance(f"size-{number}", host, amounts, name=size.name, numa=numa)

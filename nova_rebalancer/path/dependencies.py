# SPDX-License-Identifier: Apache-2.0
"""From a sequence to a partial order: what must be confirmed before each hop may start.

A hop into a host must find room there whatever else is done or in flight by then.  The worst
case is that every earlier hop into that host is done or in flight and only those hops out of it
that this one depends on are confirmed; later hops judge themselves by the same rule.  So taking
earlier hops out of the host as dependencies until the worst case fits is enough for every
interleaving that the dependencies allow.
"""

from collections.abc import Sequence
import dataclasses

from nova_rebalancer.model import path
from nova_rebalancer.path import charges


@dataclasses.dataclass(slots=True)
class _Ledger:
    """Something limited: what is free of it at the start, and what hops did to it.

    ``into`` is the sum of what the hops so far take; ``out`` is what each gives back.
    """

    room: int
    into: int = 0
    out: dict[int, int] = dataclasses.field(default_factory=dict)


def find(
    held: charges.Charges, hops: Sequence[path.Hop], ends: Sequence[float]
) -> list[tuple[int, ...]]:
    """Return for each hop the positions it depends on, ascending, none implied by another.

    ``hops`` must be sane one after another from the start.  Of the earlier hops that make room
    for one those are taken that end first by ``ends``, seconds.
    """
    ledgers: dict[charges.Name, _Ledger] = {}

    def ledger(name: charges.Name) -> _Ledger:
        if name not in ledgers:
            ledgers[name] = _Ledger(held.room(name))
        return ledgers[name]

    depends: list[tuple[int, ...]] = []
    # Sets of hops are whole numbers, a bit for each hop.
    before: list[int] = []
    for k, (hop, first) in enumerate(zip(hops, held.before(hops), strict=True)):
        needed: list[int] = []
        done = 0
        for j in reversed(first):
            if not done >> j & 1:
                needed.append(j)
                done |= before[j] | 1 << j
        arrival = [(ledger(name), amount) for name, amount in held.arrival(hop)]
        for thing, amount in arrival:
            short = amount + thing.into - thing.room
            if short <= 0:
                continue
            short -= sum(given for j, given in thing.out.items() if done >> j & 1)
            # Sequentially sane: with all departures confirmed it fits, so they are enough.
            for j in sorted(thing.out, key=lambda j: (ends[j], j)):
                if short <= 0:
                    break
                if not done >> j & 1:
                    needed.append(j)
                    come = (before[j] | 1 << j) & ~done
                    short -= sum(given for i, given in thing.out.items() if come >> i & 1)
                    done |= come
        before.append(done)
        implied = 0
        for j in needed:
            implied |= before[j]
        depends.append(tuple(sorted(j for j in set(needed) if not implied >> j & 1)))
        for thing, amount in arrival:
            thing.into += amount
        for name, amount in held.departure(hop):
            ledger(name).out[k] = ledger(name).out.get(k, 0) + amount
    return depends

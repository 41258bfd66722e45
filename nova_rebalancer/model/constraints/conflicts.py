# SPDX-License-Identifier: Apache-2.0
"""Conflicts: pairs of instances that must never be on one host.

Nova has server groups only; pairs come with benchmark files and from operators who write them into
a snapshot.  There may be hundreds for each instance, so they are kept as one array of partners, and
where an instance must not go is looked up by where its partners are.

References
----------
The anti-affinity of VMR2L (arXiv 2505.17359): a host with an instance that conflicts with the one
to be moved is no destination of it.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import itertools

import numpy as np

from nova_rebalancer.model import arrays


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Conflicts:
    """Who conflicts with whom; arrays are read-only.

    Attributes
    ----------
    first, partners
        Instance v conflicts with ``partners[first[v]:first[v + 1]]``, ascending; (V + 1,), and
        each pair is in ``partners`` twice.
    barred
        Hosts at the far ends of running migrations of an instance's partners, by instance.
    """

    first: arrays.Ints
    partners: arrays.Ints
    barred: Mapping[int, arrays.Ints]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.partners.size > 0

    def of(self, v: int) -> arrays.Ints:
        """Return the instances that ``v`` conflicts with."""
        return self.partners[self.first[v] : self.first[v + 1]]

    def hosts(self, v: int, host_of: arrays.Ints) -> arrays.Ints:
        """Return the hosts that ``v`` must not enter with instances at ``host_of`` (V,)."""
        there: arrays.Ints = host_of[self.of(v)]
        return np.concatenate((there, self.barred[v])) if v in self.barred else there

    def together(self, host_of: arrays.Ints) -> arrays.Ints:
        """Return the pairs that are on one host with instances at ``host_of`` (V,), (P, 2)."""
        own = np.repeat(np.arange(host_of.size), np.diff(self.first))
        met = (own < self.partners) & (host_of[own] == host_of[self.partners])
        return np.stack((own[met], self.partners[met]), axis=1)

    def broken(self, host_of: arrays.Ints) -> arrays.Bools:
        """Return which instances share their host with a partner, (V,) mask."""
        mask = np.zeros(host_of.size, dtype=bool)
        own = np.repeat(np.arange(host_of.size), np.diff(self.first))
        mask[own[host_of[own] == host_of[self.partners]]] = True
        for v, hosts in self.barred.items():
            mask[v] |= bool((hosts == host_of[v]).any())
        return mask


def of(
    pairs: Iterable[tuple[str, str]],
    index: Mapping[str, int],
    far_ends: Mapping[int, Iterable[int]],
) -> Conflicts:
    """Return the conflicts of ``pairs`` of ids, each in either order and as often as one likes.

    Parameters
    ----------
    index
        Positions of the instances; who has none is in nobody's way here.
    far_ends
        Hosts at the far ends of running migrations, by the instance's position.
    """
    size = len(index)
    known = _Positions(index)
    # Half a million pairs: no Python code for each, and a sort where ``numpy.unique`` would hash.
    ends = np.fromiter(map(known.__getitem__, itertools.chain.from_iterable(pairs)), np.int64)
    ends = ends.reshape(-1, 2)
    ends = ends[(ends >= 0).all(axis=1)]
    key = np.concatenate((ends[:, 0] * size + ends[:, 1], ends[:, 1] * size + ends[:, 0]))
    key.sort()
    key = key[np.concatenate(([True], key[1:] != key[:-1]))] if key.size else key
    first = np.searchsorted(key, np.arange(size + 1) * size)
    partners = key % max(size, 1)
    for array in (first, partners):
        array.flags.writeable = False
    found = Conflicts(first, partners, {})
    barred: dict[int, set[int]] = {}
    for u, hosts in far_ends.items():
        for v in found.of(u).tolist():
            barred.setdefault(v, set()).update(hosts)
    return dataclasses.replace(
        found, barred={v: np.array(sorted(hosts)) for v, hosts in barred.items()}
    )


class _Positions(dict[str, int]):
    """Positions by id, -1 for what has none."""

    def __missing__(self, name: str) -> int:
        return -1

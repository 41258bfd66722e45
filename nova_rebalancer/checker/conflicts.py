# SPDX-License-Identifier: Apache-2.0
"""Two instances in conflict never hold one host together, in flight included.

A row for each pair and host that one of the two comes to and the other holds at some time: it has
room for one.  With hundreds of conflicts for each instance, most pairs never meet a migration.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence

from nova_rebalancer.checker import facts
from nova_rebalancer.checker import flight
from nova_rebalancer.checker import rules


def rows(cloud: facts.Cloud, hops: Sequence[rules.Hop]) -> Iterator[flight.Row]:
    """Yield what the migrations charge where two instances in conflict could meet."""
    arrivals: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    departures: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    held: dict[str, set[str]] = collections.defaultdict(set)
    for position, hop in enumerate(hops):
        if hop.instance in cloud.conflicts:
            arrivals[hop.instance, hop.dest.host].append(position)
            departures[hop.instance, hop.source.host].append(position)
            held[hop.dest.host].add(hop.instance)
    for name in cloud.conflicts.keys() & cloud.placement.keys():
        for host in _start(cloud, name):
            held[host].add(name)
    seen: set[tuple[str, str, str]] = set()
    for name, host in sorted(arrivals):
        for other in sorted(cloud.conflicts[name] & held[host]):
            one, two = sorted((name, other))
            if (one, two, host) in seen:
                continue
            seen.add((one, two, host))
            yield flight.Row(
                key=("pair", one, two, host),
                capacity=1,
                load=sum(host in _start(cloud, who) for who in (one, two)),
                arrivals={k: 1 for who in (one, two) for k in arrivals.get((who, host), ())},
                departures={k: 1 for who in (one, two) for k in departures.get((who, host), ())},
            )


def _start(cloud: facts.Cloud, name: str) -> frozenset[str]:
    """Return the hosts that hold an instance before any migration of the plan."""
    return cloud.also_at.get(name, frozenset()) | {cloud.placement[name].host}

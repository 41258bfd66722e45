# SPDX-License-Identifier: Apache-2.0
"""All placements that some moves can lead to, by trying them, with the checker's own rules.

Only what is at the end counts: the order of moves is ignored, as the planners' bound does.
"""

from collections.abc import Iterator
import itertools

from nova_rebalancer.checker import case
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import goal
from nova_rebalancer.checker import migratable
from nova_rebalancer.checker import options
from nova_rebalancer.checker import placing
from nova_rebalancer.model import state

Placement = dict[str, facts.Place]

DEFAULTS = options.read({"options": {}})


def read(document: bytes) -> facts.Cloud:
    """The cloud as the checker sees it."""
    return facts.read(document, "test")


def rate(cloud: facts.Cloud, placement: Placement, *cores: int) -> float:
    """The fragment rate of ``placement``."""
    return goal.fragment_rate(cloud, facts.load(cloud, placement), placement, cores)


def placement(cloud: facts.Cloud, placed: state.PlacementState) -> Placement:
    """What the arrays say, in the checker's words; who did not move is where the document says."""
    found = dict(cloud.placement)
    for v, name in enumerate(placed.instances):
        h = int(placed.host_of[v])
        if placed.hosts[h] != cloud.placement[name].host:
            cells = None
            if placed.guests_of[v]:
                cells = tuple(placed.cell_ids[h][n] for n in placed.cells_of[v] if n >= 0)
            found[name] = facts.Place(placed.hosts[h], cells)
    return found


def movable(cloud: facts.Cloud) -> list[str]:
    """Instances that may move; members of affinity groups stay, as the planners promise."""
    return [
        name
        for name, one in cloud.instances.items()
        if migratable.refusal(cloud, DEFAULTS, one, "live") is None
        and not any(len(cloud.groups[group]) > 1 for group in one.together)
    ]


def may_be(cloud: facts.Cloud, name: str, place: facts.Place) -> bool:
    """Whether the instance may arrive at ``place`` whatever else is there."""
    one, host = cloud.instances[name], cloud.hosts[place.host]
    home = cloud.hosts[cloud.placement[name].host]
    if placing.forbidden(case.Case(cloud, DEFAULTS, one, home, host), home) is not None:
        return False
    if one.guests is None:
        return place.cells is None
    return (
        place.cells is not None
        and len(place.cells) == len(one.guests) == len(set(place.cells))
        and set(place.cells) <= host.cells.keys()
    )


def broken(cloud: facts.Cloud, placement: Placement) -> list[str]:
    """Rules that ``placement`` breaks where something arrived."""
    may_move = movable(cloud)
    found = [
        f"{name} may not be at {place}"
        for name, place in placement.items()
        if place.host != cloud.placement[name].host
        and (name not in may_move or not may_be(cloud, name, place))
    ]
    return found + crowded(cloud, placement)


def crowded(cloud: facts.Cloud, placement: Placement) -> list[str]:
    """Limits and conflicts that ``placement`` breaks where something arrived."""
    found = []
    load = facts.load(cloud, placement)
    for name, place in placement.items():
        home = cloud.placement[name]
        if place.host == home.host:
            continue
        here = facts.charges(cloud, name, home)
        for limit in facts.charges(cloud, name, place):
            if limit not in here and load[limit] > facts.capacity(cloud, limit):
                found.append(f"{name} at {limit}: {load[limit]}")
        for one, other in cloud.document.get("conflicts", ()):
            if name in (one, other) and place.host in _hosts(cloud, placement, one, other, name):
                found.append(f"{one} meets {other}")
    return found


def _hosts(cloud: facts.Cloud, placement: Placement, one: str, other: str, name: str) -> set[str]:
    """Where that of two instances is, or is on its way to, that is not ``name``."""
    rest = other if name == one else one
    if rest not in placement:
        return set()
    return {placement[rest].host, *cloud.also_at.get(rest, ())}


def placements(cloud: facts.Cloud, moves: int) -> Iterator[Placement]:
    """All placements that obey the rules and differ from the start by at most ``moves``."""
    names = movable(cloud)
    places = {
        name: [
            place
            for host in cloud.hosts.values()
            if host.id != cloud.placement[name].host
            for place in _places(cloud, name, host)
            if may_be(cloud, name, place)
        ]
        for name in names
    }
    for count in range(min(moves, len(names)) + 1):
        for movers in itertools.combinations(names, count):
            for chosen in itertools.product(*(places[name] for name in movers)):
                made = {**cloud.placement, **dict(zip(movers, chosen, strict=True))}
                if not crowded(cloud, made):
                    yield made


def _places(cloud: facts.Cloud, name: str, host: facts.Host) -> list[facts.Place]:
    guests = cloud.instances[name].guests
    if guests is None:
        return [facts.Place(host.id, None)]
    return [
        facts.Place(host.id, cells) for cells in itertools.permutations(host.cells, len(guests))
    ]


def best(cloud: facts.Cloud, moves: int, *cores: int) -> float:
    """The lowest rate within ``moves``."""
    return min(rate(cloud, made, *cores) for made in placements(cloud, moves))

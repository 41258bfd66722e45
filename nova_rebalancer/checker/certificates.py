# SPDX-License-Identifier: Apache-2.0
"""Proofs that no path leads to the target, verified from the documents alone.

``endpoint``
    One instance: it must not be migrated, or no chain of hosts that it may be on leads to where
    the target has it.
``relaxation``
    None of some instances can make the first migration of them, because it would not fit beside
    the others of them and what never moves.  So none of them ever moves, but one of them has to.
    From the final side the same is asked of the last migrations: moves can be undone.
``component``
    All placements that are reached in a zone of hosts, found again here.

Where Nova chooses NUMA cells they are left out, which makes proofs harder, never easier.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import checks
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import flood
from nova_rebalancer.checker import options
from nova_rebalancer.checker import question
from nova_rebalancer.checker import ways


def verify(
    asked: question.Question,
    given: options.Options,
    kept: checks.Checks,
    certificate: Mapping[str, Any],
) -> None:
    """Raise Broken if the certificate does not prove that there is no path.

    Checks that are not known here are not kept, which makes a proof harder, too.
    """
    check: Callable[[ways.Ways, Mapping[str, Any]], None] = {
        "endpoint": _endpoint,
        "relaxation": _relaxation,
        "component": _component,
    }[certificate["kind"]]
    try:
        check(ways.Ways(asked, given, kept), certificate)
    except broken.Broken as error:
        if not kept.unknown:
            raise
        unknown = ", ".join(kept.unknown)
        raise _broken(f"{error.detail} (not judged here: check {unknown})") from error


def _broken(why: str) -> broken.Broken:
    return broken.Broken("certificate", None, why)


def _known(names: list[str], known: Mapping[str, object], what: str) -> None:
    for name in names:
        if name not in known:
            raise _broken(f'it names {what} "{name}", which is not there')


def _endpoint(allowed: ways.Ways, certificate: Mapping[str, Any]) -> None:
    name, host = certificate["instance"], certificate["host"]
    _known([name], allowed.cloud.instances, "instance")
    _known([host], allowed.cloud.hosts, "host")
    if allowed.asked.target[name].host != host:
        raise _broken(f'the target does not have instance "{name}" on host "{host}"')
    home = allowed.cloud.placement[name].host
    if host == home:
        raise _broken(f'instance "{name}" is on host "{host}" already')
    if not allowed.movable(name):
        return
    # Nova's cells and versions may forbid the direct way and allow one over other hosts.
    reached, new = {home}, [home]
    while new:
        source = new.pop()
        for dest in allowed.hosts(name) - reached:
            if allowed.enters(name, dest) and allowed.follows(source, dest):
                reached.add(dest)
                new.append(dest)
    if host in reached:
        raise _broken(f'no rule keeps instance "{name}" from host "{host}"')


def _relaxation(allowed: ways.Ways, certificate: Mapping[str, Any]) -> None:
    stuck, final = certificate["stuck"], certificate["side"] == "final"
    _known(stuck, allowed.cloud.instances, "instance")
    if all(allowed.start(name) in allowed.goals(name) for name in stuck):
        raise _broken("all of the stuck instances are where the target has them")
    places: dict[str, facts.Place] = {}
    for name in dict.fromkeys(stuck):
        goals = allowed.goals(name) if final else [allowed.start(name)]
        # Cells that the target leaves open are not charged.
        places[name] = goals[0] if len(goals) == 1 else facts.Place(goals[0].host, None)
    load = allowed.fixed()
    for name, place in places.items():
        if allowed.movable(name):
            for limit, amount in allowed.charges(name, place).items():
                load[limit] = load.get(limit, 0) + amount
    ceiling = allowed.ceiling() if final else {}
    for name, place in places.items():
        if not allowed.movable(name):
            continue
        here = allowed.charges(name, place)
        for host in sorted(allowed.hosts(name) - {place.host}):
            ends = (host, place.host) if final else (place.host, host)
            if not (allowed.enters(name, ends[1]) and allowed.follows(*ends)):
                continue
            for other in allowed.places(name, host):
                if _fits(allowed, load, here, allowed.charges(name, other), ceiling):
                    way = "from" if final else "to"
                    raise _broken(
                        f'instance "{name}" can move {way} host "{allowed.cloud.hosts[host].name}" '
                        "beside the others that are called stuck"
                    )


def _fits(
    allowed: ways.Ways,
    load: Mapping[facts.Limit, int],
    here: Mapping[facts.Limit, int],
    there: Mapping[facts.Limit, int],
    ceiling: Mapping[facts.Limit, int],
) -> bool:
    """Whether there is room ``there`` for what an instance does not charge ``here`` already."""
    return all(
        load.get(limit, 0) + amount <= max(allowed.capacity(limit), ceiling.get(limit, 0))
        for limit, amount in there.items()
        if limit not in here
    )


def _component(allowed: ways.Ways, certificate: Mapping[str, Any]) -> None:
    _known(certificate["hosts"], allowed.cloud.hosts, "host")
    zone = frozenset(certificate["hosts"])
    inside = []
    for name in allowed.cloud.instances:
        if not allowed.movable(name):
            continue
        hosts = allowed.hosts(name)
        if hosts <= zone:
            inside.append(name)
        elif hosts & zone:
            raise _broken(
                f'the hosts are no zone: instance "{name}" may be on some of them and on others'
            )
    spread = flood.Flood(allowed, inside)
    try:
        found = spread.backward if certificate["side"] == "final" else spread.forward
        count, meets = found()
    except flood.TooManyError:
        raise _broken(f"it is not verified: there are more than {flood.MOST} placements") from None
    if meets:
        raise _broken("the other end is among the placements that are reached")
    loose = not allowed.settled and any(
        allowed.cloud.instances[name].guests is not None for name in inside
    )
    if count != certificate["placements"] and not loose:
        raise _broken(f"{count} placements are reached, it says {certificate['placements']}")

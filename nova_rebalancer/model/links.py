# SPDX-License-Identifier: Apache-2.0
"""What several migrations share on their way, and how many of them it takes at a time.

An operator writes ``KIND=LIMIT`` or ``KIND:NAME=LIMIT``.  The kinds are ``uplink``, of a rack, and
``network``, what the hosts with one ``migration_link`` share; a name that is no rack or link is
that of an aggregate.  The limit is a number of migrations, or what it carries: ``500MiB/s``.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import math

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud

UPLINK, NETWORK = "uplink", "network"

FACT = {UPLINK: "rack", NETWORK: "migration_link"}
"""The fact of a host that names it."""

UNIT = "MiB/s"

TOLD = "told"
"""As a limit: what the facts say that the network carries."""


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """What several migrations share on their way: a rack's uplink, a migration network.

    Parameters
    ----------
    name
        What the operator calls it.
    hosts
        Indices of the hosts behind it.
    limit
        Most migrations on it at a time.
    inside
        Whether a migration between two of ``hosts`` uses it, as in a migration network; an uplink
        is used by those with one end behind it.
    """

    name: str
    hosts: frozenset[int]
    limit: int
    inside: bool = False

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit of link {self.name} must be at least 1, not {self.limit}")

    def carries(self, source: int, dest: int) -> bool:
        """Whether a migration from ``source`` to ``dest`` uses it."""
        ends = (source in self.hosts) + (dest in self.hosts)
        return ends == 1 or (self.inside and ends == 2)


def of(texts: Iterable[str], snapshot: cloud.Snapshot, rate_mibps: float) -> tuple[Link, ...]:
    """Return the links of a cloud that ``texts`` limit; of two for one link the last counts.

    What is said of one by its name counts before what is said of all of a kind.

    Parameters
    ----------
    rate_mibps
        What one migration takes of a link.

    Raises
    ------
    UsageError
        If a text is none, or names what the cloud does not have.
    """
    named: dict[tuple[str, str], Link] = {}
    general: dict[tuple[str, str], Link] = {}
    for text in texts:
        subject, equals, limit = text.rpartition("=")
        kind, colon, name = subject.partition(":")
        if not equals or kind not in FACT or (colon and not name):
            raise exceptions.UsageError(
                f"--link {text}: write {UPLINK}=LIMIT or {NETWORK}=LIMIT, or {UPLINK}:NAME=LIMIT "
                "with a rack, a migration link or an aggregate"
            )
        for key, hosts in _hosts(kind, name, snapshot, text).items():
            most = _limit(limit, hosts, snapshot, rate_mibps, text)
            if most is not None:
                link = Link(f"{kind}:{key}", hosts, most, kind == NETWORK)
                (named if name else general)[kind, key] = link
    return tuple({**general, **named}.values())


def _hosts(
    kind: str, name: str, snapshot: cloud.Snapshot, text: str
) -> Mapping[str, frozenset[int]]:
    """Return the hosts behind what is meant, by its name."""
    facts: dict[str, set[int]] = {}
    for h, host in enumerate(snapshot.hosts):
        fact: cloud.Fact | None = getattr(host, FACT[kind])
        if fact is not None and fact.value is not None:
            facts.setdefault(fact.value, set()).add(h)
    told = {key: frozenset(hosts) for key, hosts in sorted(facts.items())}
    what = FACT[kind].replace("_", " ")
    if not name:
        if not told:
            raise exceptions.UsageError(
                f"--link {text}: the {what} of no host is known (a facts file can tell)"
            )
        return told
    if name in told:
        return {name: told[name]}
    index = {host.id: h for h, host in enumerate(snapshot.hosts)}
    groups = {one.name: one.hosts for one in snapshot.aggregates}
    if name not in groups:
        there = sorted({*told, *groups})
        say = f"there are: {', '.join(there[:10])}" if there else "none is known"
        say += ", ..." if len(there) > 10 else ""
        raise exceptions.UsageError(f"--link {text}: no {what} and no aggregate {name}; {say}")
    return {name: frozenset(index[host] for host in groups[name] if host in index)}


def _limit(
    limit: str, hosts: frozenset[int], snapshot: cloud.Snapshot, rate_mibps: float, text: str
) -> int | None:
    """Return how many migrations at a time, None for any number."""
    carried = None
    if limit == TOLD:
        facts = (snapshot.hosts[h].migration_mibps for h in hosts)
        speeds = [fact.value for fact in facts if fact is not None and fact.value is not None]
        if not speeds:
            return None
        carried = min(map(_number, speeds))
    elif limit.endswith(UNIT):
        carried = _number(limit.removesuffix(UNIT))
    elif limit.isascii() and limit.isdecimal() and 1 <= int(limit):
        return int(limit)
    if carried is None or not 0 < carried < math.inf:
        raise exceptions.UsageError(
            f"--link {text}: the limit is a whole number of at least 1, what the link carries, as "
            f"500{UNIT}, or {TOLD}, for what the facts say"
        )
    # Less than one migration takes still lets one through, more slowly.
    return max(1, int(carried / rate_mibps))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

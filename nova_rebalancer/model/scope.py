# SPDX-License-Identifier: Apache-2.0
"""Which part of a cloud a plan may touch; the rest stays in it, as load that does not move."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud

KINDS = ("aggregate", "az", "cell", "host", "project")


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """Names by kind: a host is in when each kind that is named has it in one of its names.

    Projects choose instances, the other kinds hosts.  An empty scope is the whole cloud.
    """

    names: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)

    def texts(self) -> list[str]:
        """Write it as it was given: KIND=NAME, sorted."""
        return sorted(f"{kind}={name}" for kind, names in self.names.items() for name in names)

    def hosts(self, snapshot: cloud.Snapshot) -> frozenset[str]:
        """Return the ids of the hosts it has.

        Raises
        ------
        UsageError
            If it names what the snapshot does not have, or leaves no host.
        """
        self._check(snapshot)
        kept = {host.id for host in snapshot.hosts}
        for kind, names in self.names.items():
            if kind == "aggregate":
                kept &= {
                    host
                    for aggregate in snapshot.aggregates
                    if aggregate.name in names
                    for host in aggregate.hosts
                }
            elif kind != "project":
                kept &= {host.id for host in snapshot.hosts if _name(host, kind) in names}
        if not kept:
            raise exceptions.UsageError(f"--scope {' '.join(self.texts())}: no host is in it")
        return frozenset(kept)

    def narrow(self, snapshot: cloud.Snapshot) -> cloud.Snapshot:
        """Return the snapshot with what is out of scope marked: nothing moves from or to it.

        Raises
        ------
        UsageError
            If it names what the snapshot does not have, or leaves no host.
        """
        if not self.names:
            return snapshot
        hosts = self.hosts(snapshot)
        projects = self.names.get("project")
        return dataclasses.replace(
            snapshot,
            hosts=tuple(
                dataclasses.replace(host, in_scope=host.id in hosts) for host in snapshot.hosts
            ),
            instances=tuple(
                dataclasses.replace(
                    one,
                    in_scope=one.host in hosts and (projects is None or one.project in projects),
                )
                for one in snapshot.instances
            ),
        )

    def _check(self, snapshot: cloud.Snapshot) -> None:
        known: Mapping[str, set[str | None]] = {
            "aggregate": {aggregate.name for aggregate in snapshot.aggregates},
            "project": {one.project for one in snapshot.instances},
            **{
                kind: {_name(host, kind) for host in snapshot.hosts}
                for kind in ("az", "cell", "host")
            },
        }
        for kind, names in self.names.items():
            for name in sorted(names):
                if name in known[kind]:
                    continue
                there = sorted(one for one in known[kind] if one is not None)
                more = ", ..." if len(there) > 10 else ""
                say = f"there are: {', '.join(there[:10])}{more}" if there else "none is known"
                if kind == "cell" and not there:
                    say += " (Nova's API does not tell; a facts file can)"
                raise exceptions.UsageError(f"--scope {kind}={name}: no such {kind}; {say}")


def parse(texts: Iterable[str]) -> Scope:
    """Read KIND=NAME texts.

    Raises
    ------
    UsageError
        If one is not of that form.
    """
    names: dict[str, set[str]] = {}
    for text in texts:
        kind, equals, name = text.partition("=")
        if not equals or kind not in KINDS or not name:
            raise exceptions.UsageError(
                f"--scope {text}: write KIND=NAME, KIND one of {', '.join(KINDS)}"
            )
        names.setdefault(kind, set()).add(name)
    return Scope({kind: frozenset(values) for kind, values in names.items()})


def _name(host: cloud.Host, kind: str) -> str | None:
    if kind == "az":
        return host.az
    if kind == "cell":
        return host.cell.value if host.cell else None
    return host.service_host

# SPDX-License-Identifier: Apache-2.0
"""The rules of Nova, of Placement and of the operator; each has a module of its name.

A *host rule* says which hosts an instance may be on whatever else is there, a *relation* whether
anything migrates live from one host to another.  Both are stated once, as ``refuses``, which says
why not: the mask for the planners is the hosts it does not refuse, and the last look before a
request asks it again.  Capacity, anti-affinity groups and what is free of NUMA cells depend on what
else is there and are in the ledger; what is not migrated at all is in ``migratable``.
"""

import collections
from collections.abc import Hashable
from collections.abc import Iterator
import dataclasses

import numpy as np

from nova_rebalancer import exceptions
from nova_rebalancer.model import arrays
from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import aggregate_extra_specs
from nova_rebalancer.model.constraints import allowed_hosts
from nova_rebalancer.model.constraints import banned_hosts
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import capabilities
from nova_rebalancer.model.constraints import cell
from nova_rebalancer.model.constraints import cpu
from nova_rebalancer.model.constraints import flavor_isolation
from nova_rebalancer.model.constraints import hypervisor
from nova_rebalancer.model.constraints import image_isolation
from nova_rebalancer.model.constraints import image_properties
from nova_rebalancer.model.constraints import image_traits
from nova_rebalancer.model.constraints import isolated_traits
from nova_rebalancer.model.constraints import keep_zone
from nova_rebalancer.model.constraints import migratable
from nova_rebalancer.model.constraints import numa
from nova_rebalancer.model.constraints import pinned_zone
from nova_rebalancer.model.constraints import provider_tree
from nova_rebalancer.model.constraints import scope
from nova_rebalancer.model.constraints import tenant_isolation
from nova_rebalancer.model.constraints import traits
from nova_rebalancer.model.constraints import units
from nova_rebalancer.model.constraints import usable

HOST_RULES: dict[str, base.HostRule] = {
    "usable": usable,
    "scope": scope,
    "allowed_hosts": allowed_hosts,
    "banned_hosts": banned_hosts,
    "pinned_zone": pinned_zone,
    "keep_zone": keep_zone,
    "tenant_isolation": tenant_isolation,
    "flavor_isolation": flavor_isolation,
    "image_isolation": image_isolation,
    "isolated_traits": isolated_traits,
    "aggregate_extra_specs": aggregate_extra_specs,
    "capabilities": capabilities,
    "traits": traits,
    "image_traits": image_traits,
    "image_properties": image_properties,
    "units": units,
    "provider_tree": provider_tree,
    "numa": numa,
}

RELATIONS: dict[str, base.Relation] = {"cell": cell, "hypervisor": hypervisor, "cpu": cpu}

IGNORABLE = (
    *(name for name, rule in HOST_RULES.items() if rule.IGNORABLE),
    *(name for name, rule in RELATIONS.items() if rule.IGNORABLE),
    *migratable.IGNORABLE,
)
"""What ``--ignore-rule`` takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why an instance must not be on a host: the rule's name and its reason in plain words."""

    rule: str
    text: str


def check(settings: base.Settings, snapshot: cloud.Snapshot) -> None:
    """Refuse settings that name what there is not.

    Raises
    ------
    UsageError
        If a rule that is to be ignored does not exist or always holds, or a host or an instance
        is not in the snapshot.
    """
    for name in sorted(settings.ignored_rules.difference(IGNORABLE)):
        raise exceptions.UsageError(
            f"--ignore-rule {name}: there is no such rule that may be ignored; there are: "
            + ", ".join(sorted(IGNORABLE))
        )
    hosts = {host.service_host for host in snapshot.hosts}
    instances = {one.id for one in snapshot.instances}
    for name in sorted(settings.banned_hosts - hosts):
        raise exceptions.UsageError(f"--ban-host {name}: no such service host in the snapshot")
    for option, said in (("--pin", settings.pins), ("--ban", settings.bans)):
        for instance, names in sorted(said.items()):
            if instance not in instances:
                raise exceptions.UsageError(
                    f"{option} {instance}: no such instance on a host of the snapshot"
                )
            for name in sorted(set(names) - hosts):
                raise exceptions.UsageError(
                    f"{option} {instance}={name}: no such service host in the snapshot"
                )


class Masks:
    """The hosts that the host rules leave to each instance; equal questions are asked once."""

    def __init__(self, view: base.View) -> None:
        self._view = view
        ignored = view.settings.ignored_rules
        self._rules = {name: rule for name, rule in HOST_RULES.items() if name not in ignored}
        self._known: dict[tuple[str, Hashable], arrays.Bools] = {}

    def keys(self, instance: cloud.Instance, host: cloud.Host) -> tuple[Hashable, ...]:
        """Return what the answers depend on: instances with the same keys have the same mask."""
        return tuple(rule.key(self._view, instance, host) for rule in self._rules.values())

    def mask(
        self, instance: cloud.Instance, host: cloud.Host, keys: tuple[Hashable, ...]
    ) -> arrays.Bools:
        """Return the hosts where ``instance``, now on ``host``, may be, (H,) bool."""
        mask = np.ones(len(self._view.hosts), dtype=bool)
        for (name, rule), key in zip(self._rules.items(), keys, strict=True):
            if key is None:
                continue
            known = self._known.get((name, key))
            if known is None:
                known = self._known[name, key] = np.array(
                    [
                        rule.refuses(self._view, instance, host, dest) is None
                        for dest in self._view.hosts
                    ],
                    dtype=bool,
                )
            mask &= known
        return mask


def follows(view: base.View) -> tuple[arrays.Ints, arrays.Bools]:
    """Return the kind of each host, (H,), and from which to which kind one migrates, (K, K)."""
    rules = [rule for name, rule in RELATIONS.items() if name not in view.settings.ignored_rules]
    kinds: dict[Hashable, int] = {}
    examples: list[cloud.Host] = []
    kind_of = np.zeros(len(view.hosts), dtype=np.int64)
    for h, host in enumerate(view.hosts):
        kind = kinds.setdefault(tuple(rule.key(host) for rule in rules), len(examples))
        if kind == len(examples):
            examples.append(host)
        kind_of[h] = kind
    allowed = np.array(
        [
            [all(rule.refuses(view, a, b) is None for rule in rules) for b in examples]
            for a in examples
        ],
        dtype=bool,
    ).reshape(len(examples), len(examples))
    return kind_of, allowed


def violations(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> Iterator[Refusal]:
    """Yield what keeps ``instance``, now on ``host``, off ``dest``, whatever else is there."""
    ignored = view.settings.ignored_rules
    for name, rule in HOST_RULES.items():
        text = None if name in ignored else rule.refuses(view, instance, host, dest)
        if text is not None:
            yield Refusal(name, text)
    for name, relation in RELATIONS.items():
        text = None if name in ignored else relation.refuses(view, host, dest)
        if text is not None:
            yield Refusal(name, text)


def forbidding(view: base.View, instance: cloud.Instance, host: cloud.Host) -> dict[str, int]:
    """Return how many hosts each rule is the first to keep ``instance``, now on ``host``, off."""
    counts: collections.Counter[str] = collections.Counter()
    for dest in view.hosts:
        if dest is not host:
            first = next(violations(view, instance, host, dest), None)
            if first is not None:
                counts[first.rule] += 1
    return dict(counts)

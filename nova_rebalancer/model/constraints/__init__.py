# SPDX-License-Identifier: Apache-2.0
"""The rules of Nova, of Placement and of the operator; each has a module of its name.

A *host rule* says which hosts an instance may be on whatever else is there, a *relation* whether
anything migrates live from one host to another.  Both are stated once, as ``refuses``, which says
why not: the mask for the planners is the hosts it does not refuse, and the last look before a
request asks it again.  Capacity, anti-affinity groups, conflicts and what is free of NUMA cells
depend on what else is there and are in the ledger; what is not migrated at all is in
``migratable``.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools

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

NOT_FOR_BOOTS = frozenset({*RELATIONS, "keep_zone", "scope"})
"""Rules about where an instance is now, or what a plan may touch; what is booted is nowhere yet."""

IGNORABLE = (
    *(name for name, rule in HOST_RULES.items() if rule.IGNORABLE),
    *(name for name, rule in RELATIONS.items() if rule.IGNORABLE),
    *migratable.IGNORABLE,
)
"""What ``--ignore-rule`` takes."""


ANY = 0
"""The mask of all hosts."""

Verdicts = tuple[int, ...]
"""For each rule the number of the mask that it gives."""


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
    """The hosts that the rules leave to each instance; equal questions are asked once.

    Attributes
    ----------
    kind_of, follows
        Kind of each host as the relations see it, (H,), and from which kind (first) to which
        anything migrates, (K, K).
    """

    def __init__(self, view: base.View) -> None:
        self._view = view
        ignored = view.settings.ignored_rules
        self._rules = {name: rule for name, rule in HOST_RULES.items() if name not in ignored}
        self._masks = [np.ones(len(view.hosts), dtype=bool)]
        self._numbers = {self._masks[ANY].tobytes(): ANY}
        self._known: dict[tuple[str, Hashable], int] = {}
        self._kinds: dict[int, Verdicts] = {}
        # For each rule the hosts that it cannot tell apart: an example of each, and (H,) which.
        self._alike: dict[str, tuple[list[cloud.Host], arrays.Ints]] = {}
        relations = {name: rule for name, rule in RELATIONS.items() if name not in ignored}
        examples, self.kind_of = _groups(
            view.hosts, lambda host: tuple(rule.key(host) for rule in relations.values())
        )
        self._relations = {
            name: np.array(
                [[rule.refuses(view, a, b) is None for b in examples] for a in examples], dtype=bool
            ).reshape(len(examples), len(examples))
            for name, rule in relations.items()
        }
        self.follows = np.ones((len(examples), len(examples)), dtype=bool)
        for matrix in self._relations.values():
            self.follows &= matrix

    def verdicts(self, instance: cloud.Instance, host: cloud.Host, h: int) -> Verdicts:
        """Return what the rules say of an instance, which is on ``host`` at position ``h``."""
        found = list(self._of_kind(int(self.kind_of[h])))
        known = self._known
        for name, rule in self._rules.items():
            key = rule.key(self._view, instance, host)
            if key is None:
                found.append(ANY)
                continue
            number = known.get((name, key))
            if number is None:
                number = known[name, key] = self._judge(name, rule, instance, host)
            found.append(number)
        return tuple(found)

    def mask(self, verdicts: Verdicts) -> arrays.Bools:
        """Return the hosts that no rule forbids, (H,) bool."""
        mask = self._masks[ANY].copy()
        for number in set(verdicts):
            mask &= self._masks[number]
        return mask

    def forbidding(self, verdicts: Verdicts, h: int) -> dict[str, int]:
        """Return how many hosts beside ``h`` each rule is the first to forbid."""
        left = self._masks[ANY].copy()
        left[h] = False
        counts = {}
        for name, number in zip((*self._relations, *self._rules), verdicts, strict=True):
            count = int(np.count_nonzero(left & ~self._masks[number]))
            if count:
                counts[name] = count
            left &= self._masks[number]
        return counts

    def _of_kind(self, kind: int) -> Verdicts:
        """What the relations say of what is on a host of a kind."""
        if kind not in self._kinds:
            self._kinds[kind] = tuple(
                self._numbered(matrix[kind][self.kind_of]) for matrix in self._relations.values()
            )
        return self._kinds[kind]

    def _judge(
        self, name: str, rule: base.HostRule, instance: cloud.Instance, host: cloud.Host
    ) -> int:
        """Ask a rule about one host of each kind that it can tell apart."""
        if name not in self._alike:
            self._alike[name] = _groups(self._view.hosts, functools.partial(rule.about, self._view))
        examples, which = self._alike[name]
        answers = [rule.refuses(self._view, instance, host, dest) is None for dest in examples]
        return self._numbered(np.array(answers, dtype=bool)[which])

    def _numbered(self, mask: arrays.Bools) -> int:
        number = self._numbers.setdefault(mask.tobytes(), len(self._masks))
        if number == len(self._masks):
            self._masks.append(mask)
        return number


def _groups(
    hosts: Sequence[cloud.Host], key: Callable[[cloud.Host], Hashable]
) -> tuple[list[cloud.Host], arrays.Ints]:
    """Return one host of each kind, and the kind of each host, (H,)."""
    numbers: dict[Hashable, int] = {}
    examples: list[cloud.Host] = []
    which = np.zeros(len(hosts), dtype=np.int64)
    for h, host in enumerate(hosts):
        which[h] = numbers.setdefault(key(host), len(examples))
        if which[h] == len(examples):
            examples.append(host)
    return examples, which


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

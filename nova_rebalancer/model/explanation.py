# SPDX-License-Identifier: Apache-2.0
"""Why an instance could or could not go to each host, by the rules the planners obey."""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import conflict
from nova_rebalancer.model import constraints
from nova_rebalancer.model import ledger
from nova_rebalancer.model import narrowed
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import migratable


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the instance could go to one host now; ``note`` is for one where it could."""

    host: str
    here: bool
    refusals: tuple[constraints.Refusal, ...]
    note: str

    @property
    def possible(self) -> bool:
        """Whether no rule forbids it."""
        return not self.here and not self.refusals


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """What keeps an instance altogether, and the verdict for each host in the snapshot's order."""

    instance: cloud.Instance
    host: cloud.Host
    obstacles: tuple[migratable.Obstacle, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def stays(self) -> bool:
        """Whether something forbids its live migration wherever to."""
        return any(migratable.LIVE in obstacle.methods for obstacle in self.obstacles)

    def barred(self) -> dict[str, frozenset[str]]:
        """Return what keeps the instance off each other host: its obstacles, and rules."""
        stays = frozenset(
            one.reason.code for one in self.obstacles if migratable.LIVE in one.methods
        )
        return {
            verdict.host: stays.union(refusal.rule for refusal in verdict.refusals)
            for verdict in self.verdicts
            if not verdict.here
        }

    def conflict(self) -> tuple[str, ...]:
        """Return rules that are enough to leave no host, none of them needless for that."""
        return conflict.smallest(list(self.barred().values()))

    def least(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the fewest rules to lift for there to be a host, and which hosts there are then.

        Two empty tuples if there is one now, or no other host at all.
        """
        barred = self.barred()
        lifted = conflict.least(list(barred.values()), constraints.IGNORABLE)
        return lifted, tuple(host for host, by in barred.items() if lifted and by <= {*lifted})


def find(snapshot: cloud.Snapshot, name: str) -> cloud.Instance:
    """Return the instance with this id, or the only one with this name.

    Raises
    ------
    UsageError
        If there is none, or several have the name.
    """
    for one in snapshot.instances:
        if one.id == name:
            return one
    found = [one for one in snapshot.instances if one.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        ids = base.listed([one.id for one in found])
        raise exceptions.UsageError(f"--instance {name}: {len(found)} are called so: {ids}")
    for other in snapshot.outside:
        if name in (other.id, other.name):
            raise exceptions.UsageError(
                f"--instance {name}: it is on no host of the snapshot ({other.reason})"
            )
    raise exceptions.UsageError(f"--instance {name}: no instance of the snapshot is called so")


class Explainer:
    """Judges instances of one snapshot and every host for them, under the operator's settings.

    Parameters
    ----------
    moves
        Instances that have moved since, to which host and which of its cells, by indices; what is
        full or taken is judged after them.
    """

    def __init__(
        self,
        snapshot: cloud.Snapshot,
        settings: base.Settings,
        moves: Iterable[tuple[int, int, tuple[int, ...]]] = (),
    ) -> None:
        self._start = narrowed.build(snapshot, settings)
        self._checks = narrowed.bound(snapshot, settings)
        self._book = ledger.Ledger(self._start)
        self._position = {name: v for v, name in enumerate(self._start.instances)}
        for move in moves:
            self._book.move(*move)
        self._view = state.view_of(snapshot, settings)
        self._hosts = self._view.hosts
        self._migrating = {one.instance for one in snapshot.running_migrations}
        self._affinities = state.affinities(snapshot)

    def of(self, instance: cloud.Instance) -> Explanation:
        """Judge one instance."""
        v = self._position[instance.id]
        here = self._hosts[int(self._book.host_of[v])]
        obstacles = [
            *migratable.obstacles(
                self._view,
                instance,
                here,
                instance.id in self._migrating,
                self._affinities.get(instance.id),
            )
        ]
        kept = narrowed.stays(self._checks, instance)
        obstacles += [] if kept is None else [kept]
        verdicts = tuple(
            self._verdict(instance, v, here, h, host) for h, host in enumerate(self._hosts)
        )
        return Explanation(instance, here, tuple(obstacles), verdicts)

    def _verdict(
        self, instance: cloud.Instance, v: int, here: cloud.Host, h: int, host: cloud.Host
    ) -> Verdict:
        if host is here:
            return Verdict(host.service_host, True, (), "")
        refusals = tuple(constraints.violations(self._view, instance, here, host))
        refusals += tuple(
            constraints.Refusal(why.code, why.text)
            for why in narrowed.refused(self._checks, instance, host)
        )
        known = not any(refusal.rule == "numa" for refusal in refusals)
        refusals += tuple(_now(self._book, v, h, numa=known))
        note = ""
        if not refusals and instance.numa:
            cells = self._book.free_cells(v, h) or ()
            note = "NUMA cells " + ", ".join(str(self._start.cell_ids[h][n]) for n in cells)
        return Verdict(host.service_host, False, refusals, note)


def relieved(
    snapshot: cloud.Snapshot,
    settings: base.Settings,
    instance: cloud.Instance,
    rules: Iterable[str],
) -> tuple[str, ...]:
    """Return where an instance could go with some more rules ignored.

    Nowhere if one of them must not be ignored, for all or for this instance.
    """
    more = frozenset(rules)
    if not more <= set(constraints.IGNORABLE):
        return ()
    settings = dataclasses.replace(settings, ignored_rules=settings.ignored_rules | more)
    found = Explainer(snapshot, settings).of(instance)
    return tuple(one.host for one in found.verdicts if one.possible and not found.stays)


def _now(book: ledger.Ledger, v: int, h: int, numa: bool) -> Iterator[constraints.Refusal]:
    """Say what is full or taken on host ``h`` as it is; ``numa``: its cells can be judged."""
    start, source = book.state, book.host_of[v]
    name = start.service_hosts[h]
    for r in start.demand[v].nonzero()[0].tolist():
        row, asked = start.row_of[h, r], int(start.demand[v, r])
        if row in (state.NOWHERE, start.row_of[source, r]):
            continue
        left = int(start.capacity[row, r] - book.used[row, r])
        if asked > left:
            resource = start.resources[r].removesuffix(state.NESTED)
            if resource.endswith(state.CHECKED):
                resource = resource.removesuffix(state.CHECKED)
                text = f"checks leave {max(0, left)} {resource} of {name}, it needs {asked}"
                yield constraints.Refusal("check", text)
                continue
            yield constraints.Refusal(
                "capacity", f"{name} has {left} {resource} left, it needs {asked}"
            )
    for k in book.groups_of.get(v, ()):
        group = start.groups[k]
        if book.in_group[k, h] >= group.limit:
            yield constraints.Refusal(
                "anti_affinity",
                f"{name} holds {int(book.in_group[k, h])} of anti-affinity group {group.id}, "
                f"which allows {group.limit} on a host",
            )
    partners = [start.instances[u] for u in start.conflicts.of(v) if book.host_of[u] == h]
    if partners:
        yield constraints.Refusal(
            "conflicts",
            f"{name} holds {len(partners)} of the {start.conflicts.of(v).size} instances that it "
            f"must not be with: {base.listed(partners)}",
        )
    elif h in start.conflicts.barred.get(v, ()):
        yield constraints.Refusal(
            "conflicts", f"an instance that it must not be with is migrating from or to {name}"
        )
    if numa and start.guests_of[v] and book.free_cells(v, h) is None:
        yield constraints.Refusal(
            "numa", f"its NUMA cells do not fit on {name} as Nova would place them now"
        )

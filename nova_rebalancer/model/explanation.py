# SPDX-License-Identifier: Apache-2.0
"""Why an instance could or could not go to each host, by the rules the planners obey."""

from collections.abc import Iterator
import dataclasses

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import constraints
from nova_rebalancer.model import ledger
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


def explain(
    snapshot: cloud.Snapshot, instance: cloud.Instance, settings: base.Settings
) -> Explanation:
    """Judge ``instance`` and every host for it, under the rules as ``settings`` have them."""
    start = state.build(snapshot, settings)
    pools = {pool.id: pool for pool in snapshot.pools}
    hosts = tuple(state.with_pools(host, pools) for host in snapshot.hosts)
    view = base.View(snapshot, hosts, settings)
    book = ledger.Ledger(start)
    v = start.instances.index(instance.id)
    here = hosts[int(start.host_of[v])]
    migrating = any(one.instance == instance.id for one in snapshot.running_migrations)
    affinity = state.affinities(snapshot).get(instance.id)
    verdicts = []
    for h, host in enumerate(hosts):
        refusals: tuple[constraints.Refusal, ...] = ()
        note = ""
        if host is not here:
            static = tuple(constraints.violations(view, instance, here, host))
            refusals = (*static, *_now(book, v, h, numa=not any(r.rule == "numa" for r in static)))
            if not refusals and instance.numa:
                cells = book.cells_for(v, h) or ()
                numbers = ", ".join(str(start.cell_ids[h][n]) for n in cells)
                note = f"NUMA cells {numbers}"
        verdicts.append(Verdict(host.service_host, host is here, refusals, note))
    obstacles = tuple(migratable.obstacles(view, instance, here, migrating, affinity))
    return Explanation(instance, here, obstacles, tuple(verdicts))


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
    if numa and start.guests_of[v] and book.free_cells(v, h) is None:
        yield constraints.Refusal(
            "numa", f"its NUMA cells do not fit on {name} as Nova would place them now"
        )

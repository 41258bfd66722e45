# SPDX-License-Identifier: Apache-2.0
"""Plan documents to carry out: moves that are sane, with the dependencies they really have.

Such a plan is not worth doing; it is there to be carried out.  It is made from a snapshot as
``nova-rebalance snapshot save`` writes it.
"""

import argparse
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import importlib.metadata
import pathlib
import random
from typing import Any
import uuid

from nova_rebalancer import controller
from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import path
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model.objectives import fragmentation
from nova_rebalancer.path import base
from nova_rebalancer.path import finder
from nova_rebalancer.path import memory

Json = dict[str, Any]

EXPIRES_S = 6 * 3600.0
TRIES = 20000
KINDS = (None, "room", None, "same")
"""What migrations wait for, in turn: nothing, room that others make, one of the same instance."""
PATIENCE = 300
"""Draws in vain after which a migration need not wait for another."""


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Each migration takes the same time."""

    seconds: float

    def cost(self, start: state.PlacementState, v: int) -> float:
        """All alike."""
        return 1.0

    def duration_s(self, start: state.PlacementState, v: int) -> float:
        """As given."""
        return self.seconds


@dataclasses.dataclass(frozen=True)
class Source:
    """A snapshot and what a plan made from it has to name."""

    snapshot: cloud.Snapshot
    sha256: str

    @classmethod
    def load(cls, file: pathlib.Path) -> "Source":
        """Read a snapshot's file."""
        return cls(*document.load(str(file)))


def wander(
    source: Source,
    count: int,
    seed: int,
    *,
    each: int = 2,
    waits: bool = True,
    seconds: float | None = None,
    without: Collection[str] = (),
) -> Json:
    """Make a plan of at most ``count`` migrations of instances drawn by chance.

    Where it can, every second one waits for an earlier one, as ``KINDS`` says.

    Parameters
    ----------
    each
        Most migrations of one instance.
    waits
        Whether some are to wait for others; some may anyway.
    seconds
        How long each takes; by memory if None.
    without
        Instances that stay.
    """
    start = state.build(source.snapshot)
    chance = random.Random(seed)
    book, first = ledger.Ledger(start), ledger.Ledger(start)
    moves = [0] * len(start.instances)
    movable = [v for v in start.movable.nonzero()[0].tolist() if start.instances[v] not in without]
    hops: list[path.Hop] = []
    vain = 0
    for _ in range(TRIES):
        if len(hops) == count or not movable:
            break
        v = chance.choice(movable)
        if moves[v] == each:
            continue
        wait = KINDS[len(hops) % len(KINDS)] if waits and vain < PATIENCE else None
        places = [
            (h, cells)
            for h in book.hosts_with_room(v).tolist()
            if (cells := book.cells_for(v, h)) is not None
            # One that goes back at once would be no move at all for the goal.
            and h != start.host_of[v]
            and (wait != "same" or moves[v])
            and (wait != "room" or not first.has_room(v, h))
        ]
        vain += 1
        if not places:
            continue
        vain = 0
        h, cells = chance.choice(places)
        here = tuple(int(n) for n in book.cells_of[v, : start.guests_of[v]])
        hops.append(path.Hop(v, int(book.host_of[v]), here, h, cells, path.DIRECT))
        book.move(v, h, cells)
        moves[v] += 1
    cost = memory.Memory() if seconds is None else Fixed(seconds)
    found = finder.from_hops(start, hops, {}, cost, base.Limits(count))
    return _document(source, start, found, seed)


def strangers(source: Source) -> set[str]:
    """Return the instances on hosts that their rules would not let them come back to."""
    start = state.build(source.snapshot)
    return {
        name
        for v, name in enumerate(start.instances)
        if not start.allowed[start.eligibility_of[v], start.host_of[v]]
    }


def towards(source: Source, ends: Mapping[str, str], seconds: float | None = None) -> Json:
    """Make a plan that brings instances to the service hosts of ``ends``.

    Raises
    ------
    ValueError
        If some cannot be brought there.
    """
    start = state.build(source.snapshot)
    host = {name: h for h, name in enumerate(start.service_hosts)}
    goal = start.host_of.copy()
    for v, name in enumerate(start.instances):
        if name in ends:
            goal[v] = host[ends[name]]
    cost = memory.Memory() if seconds is None else Fixed(seconds)
    found = finder.find(start, goal, start.cells_of, cost, base.Limits(len(ends) * 2))
    if found.unreachable:
        raise ValueError("; ".join(why.text for why in found.unreachable.values()))
    return _document(source, start, found, 0)


def ends(plan: Json) -> dict[str, str]:
    """Where the instances of a plan are when all of it is done."""
    return {migration["instance"]: migration["dest"] for migration in plan["migrations"]}


def dependencies(plan: Json) -> int:
    """How many of a plan's migrations wait for others."""
    return sum(bool(migration["depends_on"]) for migration in plan["migrations"])


def makespan_s(migrations: Sequence[Json], total: int) -> float:
    """When the last one ends if at most ``total`` are in flight and the rest is as planned.

    Each starts, in the plan's order, as soon as its dependencies, its hosts (one at a time from
    and to each) and the cloud allow.
    """
    end: dict[str, float] = {}
    busy: dict[tuple[str, str], float] = {}
    waiting = list(migrations)
    flying: list[float] = []
    now = 0.0
    while waiting:
        left = []
        for one in waiting:
            hosts = (("from", one["source"]), ("to", one["dest"]))
            free = all(busy.get(host, 0.0) <= now for host in hosts)
            ready = all(end.get(name, now + 1) <= now for name in one["depends_on"])
            if not (free and ready and len(flying) < total):
                left.append(one)
                continue
            end[one["id"]] = now + one["end_s"] - one["start_s"]
            busy.update(dict.fromkeys(hosts, end[one["id"]]))
            flying.append(end[one["id"]])
        waiting = left
        if waiting:
            now = min(flying)
            flying = [moment for moment in flying if moment > now]
    return max(end.values(), default=0.0)


def _document(
    source: Source, start: state.PlacementState, found: path.MigrationPath, seed: int
) -> Json:
    options = controller.Options(max_migrations=max(1, len(found.migrations)), seed=seed)
    goal = fragmentation.Fragmentation(*options.fragment_cores)
    steps = goal.trace(start, [migration.hop for migration in found.migrations])
    plan = plan_document.Plan(
        source.snapshot,
        source.sha256,
        start,
        found,
        steps,
        goal.evaluate(start),
        goal.evaluate(found.replay(start)),
        None,
        target.FEASIBLE,
        options.goal,
        "benchmark",
        dataclasses.asdict(options),
        0.0,
    )
    return plan_document.document(
        plan,
        str(uuid.uuid4()),
        datetime.datetime.now(datetime.UTC),
        EXPIRES_S,
        {"nova-rebalancer": importlib.metadata.version("nova-rebalancer")},
    )


def main() -> None:
    """Write a plan for a snapshot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("snapshot", type=pathlib.Path)
    parser.add_argument("plan", type=pathlib.Path)
    parser.add_argument("--migrations", type=int, default=40, metavar="N", help="default: 40")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    plan = wander(Source.load(arguments.snapshot), arguments.migrations, arguments.seed)
    arguments.plan.write_bytes(plan_document.dumps(plan))
    print(f"{len(plan['migrations'])} migrations, {dependencies(plan)} depend on others")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The rules that a plan keeps whatever runs beside what; each raises Broken."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import graphlib

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import case
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import migratable
from nova_rebalancer.checker import numa
from nova_rebalancer.checker import options
from nova_rebalancer.checker import placing

CLOCK_TOLERANCE_S = 1e-6
"""Estimates are rounded when written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hop:
    """One migration by where it starts and ends."""

    instance: str
    source: facts.Place
    dest: facts.Place


def same_snapshot(cloud: facts.Cloud, plan: documents.Document) -> None:
    """The plan was made from this snapshot."""
    snapshot = cloud.document
    for key, value in (
        ("snapshot_sha256", cloud.sha256),
        ("cloud", snapshot["cloud"]),
        ("region", snapshot.get("region")),
        ("snapshot_taken_at", snapshot["taken_at"]),
        ("numa_choice", snapshot["numa_choice"]),
    ):
        if plan[key] != value:
            raise broken.Broken(
                "snapshot_mismatch",
                None,
                f"{key} is {_text(plan[key])}, of the snapshot {_text(value)}",
            )


def whole(cloud: facts.Cloud) -> None:
    """Nothing is missing that matters for all hosts."""
    for lack in cloud.document.get("missing", ()):
        if lack.get("hosts") is None:
            raise broken.Broken(
                "snapshot_incomplete",
                None,
                f"the snapshot lacks {lack['what']} ({lack['reason']}), and that of all hosts",
            )


def names(cloud: facts.Cloud, plan: documents.Document) -> None:
    """Ids are unique, and everything named exists."""
    ids: set[str] = set()
    for migration in plan["migrations"]:
        if migration["id"] in ids:
            raise broken.Broken(
                "duplicate_id", migration["id"], f'two migrations have the id "{migration["id"]}"'
            )
        ids.add(migration["id"])
    for i, migration in enumerate(plan["migrations"]):
        where, name = f"migrations[{i}]", migration["id"]
        if migration["instance"] not in cloud.instances:
            raise broken.Broken(
                "unknown_instance",
                name,
                f'{where}: no instance "{migration["instance"]}" on a host of the snapshot',
            )
        for end in ("source", "dest"):
            if migration[end] not in cloud.by_service:
                raise broken.Broken(
                    "unknown_host",
                    name,
                    f'{where}.{end}: no service host "{migration[end]}" in the snapshot',
                )
        for dependency in migration["depends_on"]:
            if dependency not in ids:
                raise broken.Broken(
                    "unknown_dependency",
                    name,
                    f'{where}: depends on "{dependency}", not in the plan',
                )
    for key in ("unreachable", "excluded"):
        for i, entry in enumerate(plan[key]):
            if entry["instance"] not in cloud.instances:
                raise broken.Broken(
                    "unknown_instance",
                    None,
                    f'{key}[{i}]: no instance "{entry["instance"]}" on a host of the snapshot',
                )


def providers(cloud: facts.Cloud, plan: documents.Document) -> None:
    """Where a plan names the destination's provider too, it is that host's."""
    for i, migration in enumerate(plan["migrations"]):
        provider = cloud.by_service[migration["dest"]].id
        if migration.get("dest_provider", provider) != provider:
            raise broken.Broken(
                "unknown_host",
                migration["id"],
                f'migrations[{i}].dest_provider: is "{migration["dest_provider"]}", '
                f'of host "{migration["dest"]}" it is "{provider}"',
            )


def dependencies(plan: documents.Document) -> list[list[int]]:
    """Return the positions that each migration depends on; there is no cycle."""
    migrations = plan["migrations"]
    position = {migration["id"]: i for i, migration in enumerate(migrations)}
    depends_on = [[position[other] for other in m["depends_on"]] for m in migrations]
    try:
        graphlib.TopologicalSorter(dict(enumerate(depends_on))).prepare()
    except graphlib.CycleError as error:
        # The cycle comes as its members with the first repeated at the end; which of them is
        # first depends on the search, so it starts at the smallest position here.
        members = error.args[1][:-1]
        start = members.index(min(members))
        cycle = [migrations[i]["id"] for i in (*members[start:], *members[:start])]
        raise broken.Broken(
            "dependency_cycle",
            cycle[0],
            f"each waits for another: {', '.join(cycle[:8])}"
            + (f" and {len(cycle) - 8} more" if len(cycle) > 8 else ""),
        ) from error
    return depends_on


def limit(plan: documents.Document) -> None:
    """There are at most ``max_migrations``."""
    migrations, most = plan["migrations"], int(plan["max_migrations"])
    if len(migrations) > most:
        raise broken.Broken(
            "too_many",
            migrations[most]["id"],
            f"{len(migrations)} migrations, bypasses included; max_migrations is {most}",
        )


def stated_order(plan: documents.Document, depends_on: Sequence[Sequence[int]]) -> None:
    """List, waves and clock respect the dependencies."""
    migrations = plan["migrations"]
    for i, migration in enumerate(migrations):
        name = migration["id"]
        if migration["end_s"] < migration["start_s"] - CLOCK_TOLERANCE_S:
            raise broken.Broken(
                "order", name, f"ends at {migration['end_s']} s, starts at {migration['start_s']} s"
            )
        for other in depends_on[i]:
            earlier = migrations[other]
            what = None
            if other > i:
                what = f'stands at {i} of the list, "{earlier["id"]}" at {other}'
            elif migration["wave"] <= earlier["wave"]:
                what = f'is in wave {migration["wave"]}, "{earlier["id"]}" in {earlier["wave"]}'
            elif migration["start_s"] < earlier["end_s"] - CLOCK_TOLERANCE_S:
                what = (
                    f"starts at {migration['start_s']} s, "
                    f'"{earlier["id"]}" ends at {earlier["end_s"]} s'
                )
            if what is not None:
                raise broken.Broken("order", name, f"{what}; it depends on that")


def hops(
    cloud: facts.Cloud,
    plan: documents.Document,
    given: options.Options,
    kept: Mapping[str, str],
) -> list[Hop]:
    """Walk through the list: where each migration starts and ends, and that it may.

    ``kept`` is why a check keeps an instance where it is, by its id.
    """
    replay = None
    if cloud.document["numa_choice"] == "nova":
        replay = numa.Replay(cloud, given.packing)
    at = dict(cloud.placement)
    moved = {migration["instance"] for migration in plan["migrations"]}
    excluded = {entry["instance"]: entry["reason"]["text"] for entry in plan["excluded"]}
    found = []
    for migration in plan["migrations"]:
        instance = cloud.instances[migration["instance"]]
        source, dest = (cloud.by_service[migration[end]] for end in ("source", "dest"))
        if source is dest:
            raise _broken("same_host", migration, f'source and dest are host "{source.name}"')
        refused = migratable.refusal(cloud, given, instance, migration["method"])
        if refused is not None:
            raise _broken("not_migratable", migration, refused.why, refused.code)
        if instance.id in kept:
            raise _broken("not_migratable", migration, kept[instance.id], "check")
        if instance.id in excluded:
            raise _broken(
                "not_migratable", migration, f"the plan excludes it: {excluded[instance.id]}"
            )
        _source(cloud, migration, at[instance.id])
        home = cloud.hosts[cloud.placement[instance.id].host]
        forbidden = placing.forbidden(case.Case(cloud, given, instance, home, dest), source)
        if forbidden is not None:
            rule, why = forbidden
            raise _broken("not_allowed", migration, why, rule)
        place = facts.Place(dest.id, _cells(migration, instance, dest))
        if replay is not None and place.cells is not None:
            wrong = replay.move(instance, source, dest, migration["dest_numa"])
            if wrong is not None:
                raise _broken("numa", migration, wrong)
        _together(cloud, migration, instance, dest, moved)
        found.append(Hop(instance.id, at[instance.id], place))
        at[instance.id] = place
    return found


def chains(plan: documents.Document, depends_on: Sequence[Sequence[int]]) -> None:
    """Hops of one instance wait for each other, and only the last is direct."""
    migrations = plan["migrations"]
    last: dict[str, int] = {m["instance"]: i for i, m in enumerate(migrations)}
    previous: dict[str, int] = {}
    for i, migration in enumerate(migrations):
        instance = migration["instance"]
        role = "direct" if last[instance] == i else "bypass"
        if migration["role"] != role:
            raise _broken(
                "order",
                migration,
                f"role is {migration['role']}, of "
                + ("its last hop it is direct" if role == "direct" else "an earlier hop bypass"),
            )
        before = previous.get(instance)
        if before is not None and not _comes_before(before, i, depends_on):
            raise _broken(
                "order",
                migration,
                f'does not depend on its previous hop "{migrations[before]["id"]}"',
            )
        previous[instance] = i


def numa_order(
    cloud: facts.Cloud,
    plan: documents.Document,
    found: Sequence[Hop],
    depends_on: Sequence[Sequence[int]],
) -> None:
    """What Nova's choice of NUMA cells depends on has happened before, or happens after."""
    if cloud.document["numa_choice"] != "nova":
        return
    moves = [None if hop.dest.cells is None else (hop.source.host, hop.dest.host) for hop in found]
    wrong = numa.disorder(moves, depends_on)
    if wrong is not None:
        migration, earlier = (plan["migrations"][position] for position in wrong)
        raise _broken(
            "order",
            migration,
            f'does not depend on "{earlier["id"]}", which changes what is in the NUMA cells of a '
            f'host that "{migration["id"]}" changes too',
        )


def _comes_before(early: int, late: int, depends_on: Sequence[Sequence[int]]) -> bool:
    """Whether ``late`` waits for ``early``, directly or not; dependencies stand earlier."""
    seen, stack = {late}, [late]
    while stack:
        for other in depends_on[stack.pop()]:
            if other == early:
                return True
            if other > early and other not in seen:
                seen.add(other)
                stack.append(other)
    return False


def _source(cloud: facts.Cloud, migration: documents.Document, at: facts.Place) -> None:
    host = cloud.hosts[at.host]
    if migration["source"] != host.name:
        raise _broken(
            "wrong_source",
            migration,
            f'source is host "{migration["source"]}", the instance is on "{host.name}" then',
        )
    if migration.get("source_provider", host.id) != host.id:
        raise _broken(
            "wrong_source",
            migration,
            f'source_provider is "{migration["source_provider"]}", '
            f'of host "{host.name}" it is "{host.id}"',
        )
    cells = None if at.cells is None else list(at.cells)
    if migration["source_numa"] != cells:
        raise _broken(
            "numa",
            migration,
            f"source_numa is {_text(migration['source_numa'])}, the instance is on cells "
            f'{_text(cells)} of host "{host.name}" then',
        )


def _cells(
    migration: documents.Document, instance: facts.Instance, dest: facts.Host
) -> tuple[int, ...] | None:
    """Return the host cells it goes to."""
    cells = migration["dest_numa"]
    if instance.guests is None:
        if cells is not None:
            raise _broken(
                "numa", migration, f"dest_numa is {_text(cells)}, it has no NUMA topology"
            )
        return None
    why = None
    if cells is None:
        why = f"dest_numa is null, it has {len(instance.guests)} guest cells"
    elif not dest.cells:
        why = f'the NUMA cells of dest "{dest.name}" are not known'
    elif len(cells) != len(instance.guests):
        why = f"dest_numa is {_text(cells)}, it has {len(instance.guests)} guest cells"
    elif len(set(cells)) < len(cells):
        why = f"dest_numa {_text(cells)} puts two guest cells on one host cell"
    elif not set(cells) <= dest.cells.keys():
        why = (
            f'dest_numa is {_text(cells)}, the cells of dest "{dest.name}" are {sorted(dest.cells)}'
        )
    if why is not None:
        raise _broken("numa", migration, why)
    return tuple(int(cell) for cell in cells)


def _together(
    cloud: facts.Cloud,
    migration: documents.Document,
    instance: facts.Instance,
    dest: facts.Host,
    moved: set[str],
) -> None:
    """An affinity group stays on hosts where a member is that does not move."""
    for group in instance.together:
        others = cloud.groups[group] - {instance.id}
        # Members outside the snapshot are on none of its hosts.
        staying = others.intersection(cloud.placement) - moved
        if others and not any(cloud.placement[other].host == dest.id for other in staying):
            raise _broken(
                "affinity",
                migration,
                f'no member of affinity group "{group}" is on dest "{dest.name}" and stays there',
            )


def _broken(
    kind: str, migration: documents.Document, why: str, rule: str | None = None
) -> broken.Broken:
    detail = f'instance "{migration["instance"]}": {why}'
    return broken.Broken(kind, migration["id"], f"{rule}: {detail}" if rule else detail)


def _text(value: object) -> str:
    return "null" if value is None else str(value)

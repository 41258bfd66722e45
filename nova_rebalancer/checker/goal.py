# SPDX-License-Identifier: Apache-2.0
"""What the plan says it gains, computed again from the placements."""

from collections.abc import Mapping
from collections.abc import Sequence
import math

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import goals

TOLERANCE = 1e-9


def check(
    cloud: facts.Cloud,
    plan: documents.Document,
    load: Mapping[facts.Limit, int],
    final: Mapping[str, facts.Place],
) -> tuple[float, float]:
    """Return the value before and after the plan.

    Parameters
    ----------
    load
        What is charged before any migration.
    final
        Where every instance is at the end.

    Raises
    ------
    Broken
        Of kind ``objective``.
    """
    stated = plan["objective"]
    options = plan["options"]
    known: dict[str, tuple[float, float] | None] = {}

    def of(name: str) -> tuple[float, float] | None:
        if name not in known:
            known[name] = _both(cloud, options, load, final, name)
        return known[name]

    def one(name: str, old: bool) -> float | None:
        found = of(name)
        return None if found is None else found[0 if old else 1]

    names = [plan["goal"]]
    values = of(plan["goal"])
    if values is None:
        together = goals.combined(plan["goal"], one)
        if together is None:
            raise _wrong(f'cannot compute goal "{plan["goal"]}"')
        values, names = together[:2], together[2]
    before, after = values
    if stated["name"] != plan["goal"]:
        raise _wrong(f'objective.name is "{stated["name"]}", the goal is "{plan["goal"]}"')
    _values(stated, {"before": before, "after": after}, "objective")
    for i, part in enumerate(plan["objectives"]):
        values = of(part["name"]) if part["name"] in names else None
        if part["name"] == stated["name"]:
            values = before, after
            if not _same(part["bound"], stated["bound"]):
                raise _wrong(
                    f"objectives[{i}].bound is {part['bound']}, objective.bound {stated['bound']}"
                )
        if values is not None:
            _values(part, {"before": values[0], "after": values[1]}, f"objectives[{i}]")
    _bound(stated)
    _status(plan, stated)
    return before, after


def _both(
    cloud: facts.Cloud,
    options: documents.Document,
    load: Mapping[facts.Limit, int],
    final: Mapping[str, facts.Place],
    name: str,
) -> tuple[float, float] | None:
    """Return the value of one goal before and after; None if it is not known."""
    if name == "fragmentation":
        cores = sizes(options)
        after = fragment_rate(cloud, facts.load(cloud, final), final, cores)
        return fragment_rate(cloud, load, cloud.placement, cores), after
    before, end = (
        goals.value(name, cloud, options, placement) for placement in (cloud.placement, final)
    )
    return None if before is None or end is None else (before, end)


def fragment_rate(
    cloud: facts.Cloud,
    load: Mapping[facts.Limit, int],
    placement: Mapping[str, facts.Place],
    cores: Sequence[int],
) -> float:
    """Share of the free cores that no instance of ``cores`` cores can use, in [0, 1].

    Of several sizes the shares are weighted by how many instances all free cores would be.

    Counts hosts that are enabled, up and read whole: each NUMA cell by itself where the cells
    are known and every instance keeps to some of them, else the host as one.

    Parameters
    ----------
    load
        What ``placement`` charges.
    """
    floating = {
        host
        for name, home in placement.items()
        if cloud.instances[name].guests is None
        for host in (home.host, *cloud.also_at.get(name, ()))
    }
    free, fragments = 0, [0] * len(cores)
    for host in cloud.hosts.values():
        if host.unusable:
            continue
        pcpu = host.inventories.get("PCPU")
        resource = "PCPU" if pcpu is not None and pcpu.total > 0 else "VCPU"
        if resource not in host.rows:
            continue
        units: list[facts.Limit] = []
        if host.cells and host.id not in floating:
            units = [
                ("cell", host.id, cell, resource)
                for cell, capacity in host.cells.items()
                if resource in capacity
            ]
        else:
            units = [host.rows[resource]]
        for unit in units:
            left = max(0, facts.capacity(cloud, unit) - load.get(unit, 0))
            free += left
            for i, size in enumerate(cores):
                fragments[i] += left % size
    if not free:
        return 0.0
    lost = sum(amount / size for amount, size in zip(fragments, cores, strict=True))
    return lost / sum(free / size for size in cores)


def sizes(options: documents.Document) -> list[int]:
    """Return the sizes of the fragment rate; older plans have one, and not in a list."""
    said = options["fragment_cores"]
    return [int(size) for size in (said if isinstance(said, list) else [said])]


def _values(stated: documents.Document, replayed: Mapping[str, float], where: str) -> None:
    for key, value in replayed.items():
        if abs(stated[key] - value) > TOLERANCE * max(1.0, abs(value)):
            raise _wrong(f"{where}.{key} is {stated[key]!r}, replaying gives {value!r}")


def _bound(stated: documents.Document) -> None:
    after, bound, gap = stated["after"], stated["bound"], stated["gap"]
    if bound is None:
        if gap is not None:
            raise _wrong(f"objective.gap is {gap} without a bound")
        return
    # Leaving everything where it is is a placement within the limit too.
    for key in ("after", "before"):
        if bound > stated[key] + TOLERANCE:
            raise _wrong(f"objective.bound {bound!r} is above {key} {stated[key]!r}")
    if after == 0:
        # Nothing is below 0 but rounding, and then the gap has no better value than 0.
        true_gap = 0.0 if abs(bound) <= TOLERANCE else math.inf
    else:
        true_gap = (after - bound) / abs(after)
    if gap is None or not math.isclose(gap, true_gap, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        raise _wrong(
            f"objective.gap is {gap}, (after - bound) / |after| is {true_gap!r} "
            f"(after {after!r}, bound {bound!r})"
        )


def _status(plan: documents.Document, stated: documents.Document) -> None:
    status, after, bound = plan["status"], stated["after"], stated["bound"]
    proven = bound is not None and after - bound <= TOLERANCE
    if proven != (status == "optimal") and status in ("optimal", "feasible", "time_limit"):
        raise _wrong(
            f"status is {status} with after {after!r} and bound {bound!r}: optimal means that "
            f"they differ by at most {TOLERANCE:g}"
        )
    if status == "nothing_to_do" and plan["migrations"]:
        raise _wrong(f"status is nothing_to_do with {len(plan['migrations'])} migrations")


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE


def _wrong(detail: str) -> broken.Broken:
    return broken.Broken("objective", None, detail)

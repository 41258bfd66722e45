# SPDX-License-Identifier: Apache-2.0
"""What may be in flight together: is anything overfull at any moment?"""

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import checks
from nova_rebalancer.checker import conflicts
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import flight
from nova_rebalancer.checker import rules


def check(
    cloud: facts.Cloud,
    plan: documents.Document,
    hops: list[rules.Hop],
    depends_on: list[list[int]],
    load: dict[facts.Limit, int],
    kept: checks.Checks,
) -> None:
    """Raise Broken if something can be overfull while migrations run."""
    arrivals: dict[facts.Limit, dict[int, int]] = {}
    departures: dict[facts.Limit, dict[int, int]] = {}
    for position, hop in enumerate(hops):
        here = facts.charges(cloud, hop.instance, hop.source)
        there = facts.charges(cloud, hop.instance, hop.dest)
        if cloud.document["numa_choice"] == "nova":
            # Replaying the list in its order has judged the cells, by Nova's own rules.
            here, there = (
                {k: v for k, v in one.items() if k[0] != "cell"} for one in (here, there)
            )
        # What is charged on both sides is a shared pool: the move costs it nothing.
        for limit in there.keys() - here.keys():
            arrivals.setdefault(limit, {})[position] = there[limit]
        for limit in here.keys() - there.keys():
            departures.setdefault(limit, {})[position] = here[limit]
    rows = sorted(
        [
            *(
                flight.Row(
                    key=limit,
                    capacity=kept.capacity(cloud, limit),
                    load=load.get(limit, 0),
                    arrivals=arrived,
                    departures=departures.get(limit, {}),
                )
                for limit, arrived in arrivals.items()
            ),
            *conflicts.rows(cloud, hops),
        ],
        # Of rules that one migration breaks at once, a host's totals speak first.
        key=lambda row: (facts.KIND_ORDER.index(row.key[0]), row.key),
    )
    excess = flight.first_excess(rows, depends_on)
    if excess is None:
        return
    ids = [migration["id"] for migration in plan["migrations"]]
    raise broken.Broken(
        facts.KIND_OF[excess.row.key[0]],
        ids[excess.position],
        f'instance "{hops[excess.position].instance}": {facts.describe(cloud, excess.row.key)} '
        f"would be charged {excess.charged} of {excess.row.capacity} "
        f"(charged in the snapshot: {excess.row.load}) "
        f"with in flight: {_few(ids, excess.in_flight)}; "
        f"confirmed: {_few(ids, excess.confirmed)}",
    )


def _few(ids: list[str], positions: list[int]) -> str:
    """Name some migrations; a line must stay a line."""
    shown = ", ".join(ids[position] for position in positions[:8])
    rest = f" and {len(positions) - 8} more" if len(positions) > 8 else ""
    return shown + rest if positions else "none"

# SPDX-License-Identifier: Apache-2.0
"""What a plan spends: of the budgets of projects, and for what it gains."""

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import options

MIB = 1024
"""Of a GiB."""

TOLERANCE = 1e-9


def budgets(cloud: facts.Cloud, plan: documents.Document, given: options.Options) -> None:
    """Neither all nor a project have more migrations, or more memory migrated, than may be.

    Raises
    ------
    Broken
        Of kind ``too_many`` or ``project_budget``.
    """
    counts: dict[str, int] = {}
    memory: dict[str, int] = {}
    copied = 0
    for migration in plan["migrations"]:
        instance = cloud.instances[migration["instance"]]
        copied += instance.allocations.get("MEMORY_MB", 0)
        if given.max_gib is not None and copied > given.max_gib * MIB:
            raise broken.Broken(
                "too_many",
                migration["id"],
                f"{copied} MiB or more are copied, bypasses included; max_gib is "
                f"{given.max_gib:g} ({given.max_gib * MIB:g} MiB)",
            )
    for migration in plan["migrations"]:
        instance = cloud.instances[migration["instance"]]
        project = instance.entry.get("project")
        if project is None:
            continue
        counts[project] = counts.get(project, 0) + 1
        memory[project] = memory.get(project, 0) + instance.allocations.get("MEMORY_MB", 0)
        most, most_gib, wrong = given.project_migrations, given.project_gib, None
        if most is not None and counts[project] > most:
            wrong = f"has {counts[project]} migrations or more, {most} are allowed"
        elif most_gib is not None and memory[project] > most_gib * MIB:
            wrong = (
                f"has {memory[project]} MiB or more migrated, {most_gib:g} GiB "
                f"({most_gib * MIB:g} MiB) are allowed"
            )
        if wrong is not None:
            raise broken.Broken("project_budget", migration["id"], f'project "{project}" {wrong}')


def gain(
    cloud: facts.Cloud, plan: documents.Document, given: options.Options, gained: float
) -> None:
    """The migrations gain what the options say that they cost.

    Raises
    ------
    Broken
        Of kind ``not_worth``.
    """
    moved = [cloud.instances[migration["instance"]] for migration in plan["migrations"]]
    gib = sum(one.allocations.get("MEMORY_MB", 0) for one in moved) / MIB
    price = given.min_gain * len(moved) + given.cost_per_gib * gib
    if price > 0 and gained < price - TOLERANCE * max(1.0, price):
        raise broken.Broken(
            "not_worth",
            None,
            f"{len(moved)} migrations of {gib:g} GiB gain {gained:g} and cost {price:g}: "
            f"{given.min_gain:g} for each and {given.cost_per_gib:g} for each GiB",
        )

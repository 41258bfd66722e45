# SPDX-License-Identifier: Apache-2.0
"""The options of a plan: which rules it keeps, and which part of the cloud it may touch."""

from collections.abc import Mapping
import dataclasses
import datetime
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import documents

IGNORABLE = frozenset(
    {
        "aggregate_extra_specs",
        "capabilities",
        "cell",
        "cpu",
        "flavor_isolation",
        "image_isolation",
        "image_properties",
        "image_traits",
        "isolated_traits",
        "keep_zone",
        "nested_resources",
        "pci_devices",
        "scheduler_hints",
        "special_ports",
        "tenant_isolation",
    }
)
"""Rules, and reasons not to migrate at all, that an operator may take the risk of."""

SCOPE_KINDS = ("aggregate", "az", "cell", "host", "project")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What ``options`` of a plan says, with defaults for what it leaves out.

    Attributes
    ----------
    banned, pins, bans
        Service hosts; the last two by instance id.
    learnt
        Ids of instances that could not be migrated before.
    scope
        Names by kind; each kind that is there narrows the scope.
    cooldown_h, last_moved
        Hours that an instance stays after a migration, and when each was migrated, by id.
    cost_per_gib, min_gain
        What a GiB of memory and a migration have to gain.
    project_migrations, project_gib
        Most of any one project; None for no limit.
    max_gib
        Most memory that all migrations copy; None for no limit.
    drained
        Service hosts and aggregates, by name, that are emptied.
    cold
        Whether what is shut off there is migrated cold.
    """

    ignored: frozenset[str]
    opt_in: bool
    banned: frozenset[str]
    pins: Mapping[str, frozenset[str]]
    bans: Mapping[str, frozenset[str]]
    learnt: frozenset[str]
    packing: bool
    scope: Mapping[str, frozenset[str]]
    cooldown_h: float
    last_moved: Mapping[str, datetime.datetime]
    cost_per_gib: float
    min_gain: float
    project_migrations: int | None
    project_gib: float | None
    max_gib: float | None
    drained: frozenset[str]
    cold: bool


def read(plan: documents.Document) -> Options:
    """Return the options of a plan.

    Raises
    ------
    Broken
        Of kind ``format``: a rule that is ignored and must not be, a scope that is none, or a time
        that is none.
    """
    given = plan["options"]
    for name in given.get("ignored_rules", ()):
        if name not in IGNORABLE:
            raise broken.Broken(
                "format",
                None,
                f'options.ignored_rules: "{name}" is no rule that can be ignored; '
                f"these can: {', '.join(sorted(IGNORABLE))}",
            )
    return Options(
        ignored=frozenset(given.get("ignored_rules", ())),
        opt_in=given.get("opt_in", False),
        banned=frozenset(given.get("banned_hosts", ())),
        pins=_by_instance(given.get("pins", {})),
        bans=_by_instance(given.get("bans", {})),
        learnt=frozenset(given.get("learnt", {})),
        packing=given.get("numa_packing", False),
        scope=_scope(given.get("scope", [])),
        cooldown_h=given.get("cooldown_h", 0.0),
        last_moved=_times(given.get("last_moved", {})),
        cost_per_gib=given.get("cost_per_gib", 0.0),
        min_gain=given.get("min_gain", 0.0),
        project_migrations=given.get("project_migrations"),
        project_gib=given.get("project_gib"),
        max_gib=given.get("max_gib"),
        drained=frozenset(given.get("drain", ())),
        cold=given.get("cold", False),
    )


def _by_instance(given: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(hosts) for name, hosts in given.items()}


def _times(given: Mapping[str, str]) -> dict[str, datetime.datetime]:
    found = {}
    for name, text in given.items():
        try:
            time = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise broken.Broken(
                "format", None, f'options.last_moved: "{text}" of {name} is not a time'
            ) from error
        found[name] = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
    return found


def _scope(given: Any) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    # The schema leaves these texts, KIND=NAME, to the programs that write them.
    for text in given if isinstance(given, list) else [given]:
        kind, equals, name = str(text).partition("=")
        if not equals or kind not in SCOPE_KINDS or not name:
            raise broken.Broken(
                "format",
                None,
                f"options.scope: {text!r} is not KIND=NAME with a KIND of {', '.join(SCOPE_KINDS)}",
            )
        found[kind] = found.get(kind, frozenset()) | {name}
    return found

# SPDX-License-Identifier: Apache-2.0
"""The plan document: what was decided, for people and for other programs."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import json
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model import path
from nova_rebalancer.model import path_document
from nova_rebalancer.model import reason
from nova_rebalancer.model import state
from nova_rebalancer.model import target
from nova_rebalancer.model import worth
from nova_rebalancer.model.constraints import migratable
from nova_rebalancer.model.constraints import soft_groups
from nova_rebalancer.model.objectives import base

FORMAT = "nova-rebalancer-plan/1"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A decided plan before it is written down.

    Attributes
    ----------
    snapshot, snapshot_sha256
        What it was made from.
    start
        The snapshot's arrays.
    path, steps
        The migrations, and what each does to the goal.
    before, after
        The goal at the start and after the path.
    bound
        Bound of the goal within the limit on migrations, None if unknown.
    status
        One of the words of ``model/target.py``.
    options
        All that shaped the plan.
    regardless
        What would be done if it cost nothing, where that is more.
    """

    snapshot: cloud.Snapshot
    snapshot_sha256: str
    start: state.PlacementState
    path: path.MigrationPath
    steps: Sequence[base.Step]
    before: base.Value
    after: base.Value
    bound: float | None
    status: str
    goal: str
    planner: str
    options: Mapping[str, Any]
    runtime_s: float
    regardless: worth.Bill | None = None

    @property
    def memory_mib(self) -> int:
        """Memory that the migrations copy, each once."""
        return sum(state.memory_mib(self.start, m.hop.v) or 0 for m in self.path.migrations)


def document(
    plan: Plan,
    plan_id: str,
    created_at: datetime.datetime,
    expires_s: float,
    tool: Mapping[str, str],
) -> dict[str, Any]:
    """Return the plan document; only ``id``, times and ``runtime_s`` vary between equal runs."""
    start = plan.start
    name = plan.before.parts[0].name
    return {
        "format": FORMAT,
        "id": plan_id,
        "cloud": plan.snapshot.cloud,
        "region": plan.snapshot.region,
        "snapshot_sha256": plan.snapshot_sha256,
        "snapshot_taken_at": plan.snapshot.taken_at,
        "created_at": _utc(created_at),
        "expires_at": _utc(created_at + datetime.timedelta(seconds=expires_s)),
        "tool": dict(tool),
        "options": dict(plan.options),
        "goal": plan.goal,
        "planner": plan.planner,
        "seed": plan.options["seed"],
        "max_migrations": plan.options["max_migrations"],
        "status": plan.status,
        "runtime_s": round(plan.runtime_s, 3),
        "numa_choice": start.numa_choice,
        "objective": {
            "name": name,
            "before": plan.before.value,
            "after": plan.after.value,
            "bound": plan.bound,
            "gap": target.gap(plan.after.value, plan.bound),
        },
        **_regardless(plan.regardless),
        "objectives": [
            {
                "name": before.name,
                "unit": before.unit,
                "weight": before.weight,
                "before": before.value,
                "after": after.value,
                "bound": plan.bound if before.name == name else None,
            }
            for before, after in zip(plan.before.parts, plan.after.parts, strict=True)
        ]
        + _soft(plan),
        "migrations": [
            _migration(plan, k, migration, step)
            for k, (migration, step) in enumerate(
                zip(plan.path.migrations, plan.steps, strict=True)
            )
        ],
        "unreachable": path_document.left_out(start, plan.path.unreachable),
        "excluded": [_excluded(plan, v, found) for v, found in start.excluded.items()],
    }


def _regardless(bill: worth.Bill | None) -> dict[str, Any]:
    """Write what costs did away with, where they did."""
    if bill is None:
        return {}
    return {
        "regardless": {
            "after": bill.value,
            "migrations": bill.migrations,
            "memory_mib": bill.memory_mib,
            "price": bill.price,
            "over_budget": bill.excess,
        }
    }


def _soft(plan: Plan) -> list[dict[str, Any]]:
    """Write the cost of soft server groups, where there are some."""
    groups = plan.start.soft
    if not groups:
        return []
    return [
        {
            "name": "soft_server_groups",
            "unit": "pairs",
            "weight": plan.options.get("soft_group_cost", 0.0),
            "before": soft_groups.cost(groups, plan.start.host_of),
            "after": soft_groups.cost(groups, plan.path.ends(plan.start)),
            "bound": None,
        }
    ]


def dumps(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document, readable by people."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _utc(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _migration(plan: Plan, k: int, migration: path.Migration, step: base.Step) -> dict[str, Any]:
    code = "improves_goal" if migration.hop.role == path.DIRECT else "makes_room"
    said = plan.snapshot.instances[migration.hop.v].numa
    return {
        **path_document.migration(plan.start, k, migration, said),
        "method": _method(plan, migration.hop.v),
        "value_after": step.value,
        "reason": path_document.why(reason.Reason(code, {"value_after": step.value}, step.text)),
    }


def _method(plan: Plan, v: int) -> str:
    off = plan.snapshot.instances[v].status == migratable.SHUTOFF
    return migratable.COLD if off else migratable.LIVE


def _excluded(plan: Plan, v: int, found: migratable.Obstacle) -> dict[str, Any]:
    """Write an instance that is not migrated, and until when that was found to be so."""
    expires = None
    if found.expires_s is not None:
        taken = datetime.datetime.fromisoformat(plan.snapshot.taken_at)
        expires = _utc(taken + datetime.timedelta(seconds=found.expires_s))
    return {
        "instance": plan.start.instances[v],
        "reason": path_document.why(found.reason),
        "methods": list(found.methods),
        "confidence": found.confidence,
        "expires_at": expires,
    }

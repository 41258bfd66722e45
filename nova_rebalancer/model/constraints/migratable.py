# SPDX-License-Identifier: Apache-2.0
"""Instances that are not migrated: known before any planning, kept as fixed load."""

from nova_rebalancer.model import cloud
from nova_rebalancer.model import reason

LIVE_STATUSES = ("ACTIVE", "PAUSED")
"""What os-migrateLive accepts (nova ``compute/api.py``, ``live_migrate``)."""


def why_not(
    instance: cloud.Instance, host: cloud.Host, migrating: bool, affinity: cloud.ServerGroup | None
) -> reason.Reason | None:
    """Say why ``instance`` on ``host`` is not migrated, None when it may be.

    ``migrating`` says that a migration of it runs now; ``affinity`` is a hard affinity group it
    shares with others: Nova's filter sends a member only to hosts of other members, so one that
    moves alone is refused or splits the group.
    """
    name = instance.id
    if not instance.in_scope:
        return reason.Reason("out_of_scope", {}, f"{name} is not in the scope of the plan")
    if not instance.allow_migration:
        return reason.Reason("opted_out", {}, f"{name} does not allow migration")
    if host.unusable is not None:
        return reason.Reason(
            "host_not_usable",
            {"host": host.service_host, "what": host.unusable.partition(" (")[0]},
            f"its host {host.service_host} is {host.unusable}",
        )
    if migrating:
        return reason.Reason("migrating", {}, f"{name} is being migrated already")
    if instance.task_state is not None:
        return reason.Reason(
            "task_state",
            {"task_state": instance.task_state},
            f"Nova is busy with {name}: task state {instance.task_state}",
        )
    if instance.status not in LIVE_STATUSES:
        return reason.Reason(
            "status",
            {"status": instance.status},
            f"{name} is {instance.status}; only {' and '.join(LIVE_STATUSES)} migrate live",
        )
    if instance.locked:
        return reason.Reason("locked", {}, f"{name} is locked")
    if not instance.allocations:
        return reason.Reason(
            "no_allocations",
            {"host": host.service_host},
            f"Placement charges nothing for {name} on its host {host.service_host}",
        )
    if instance.vnic_types:
        return reason.Reason(
            "special_ports",
            {"vnic_types": ", ".join(instance.vnic_types)},
            f"{name} has ports of the types {', '.join(instance.vnic_types)}",
        )
    if instance.nested:
        return reason.Reason(
            "nested_resources",
            {"providers": len(instance.nested)},
            f"{name} uses devices of its host {host.service_host}: "
            + ", ".join(sorted(r for amounts in instance.nested.values() for r in amounts)),
        )
    if affinity is not None:
        return reason.Reason(
            "affinity",
            {"group": affinity.id},
            f"{name} must stay with the other members of affinity group {affinity.id}",
        )
    return None

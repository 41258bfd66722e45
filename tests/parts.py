# SPDX-License-Identifier: Apache-2.0
"""What a part of a cloud and the whole cloud must agree on."""

import dataclasses
from typing import Any

from nova_rebalancer.model import cloud


def seen(found: cloud.Snapshot, fresh: cloud.Snapshot, instance: str) -> dict[str, Any]:
    """What rules see of a snapshot.

    What a part cannot have as the whole has it, and no rule looks at, is left out: ``why``
    somebody is charged who is on other hosts (a migration between these, a user of a common pool),
    members elsewhere of groups that the instance is not in, and servers outside that have nothing
    to do with it.  While an instance migrates its progress changes when it was updated.
    """
    here = {one.id for one in found.instances}
    own = {one.id for one in fresh.server_groups if instance in one.members}
    pools = {pool for host in found.hosts for pool in host.shared.values()}
    return {
        "hosts": [
            dataclasses.replace(host, held=tuple(_held(one, bool(pools)) for one in host.held))
            for host in found.hosts
        ],
        "instances": [
            dataclasses.replace(one, updated_at=None) if one.task_state else one
            for one in found.instances
        ],
        "pools": found.pools,
        "aggregates": found.aggregates,
        "running": found.running_migrations,
        "missing": sorted(str(one) for one in found.missing if one.hosts != ()),
        "groups": {
            one.id: dataclasses.replace(
                one,
                members=tuple(m for m in one.members if one.id in own or m in here),
            )
            for one in found.server_groups
            if not here.isdisjoint(one.members)
        },
        "outside": [one for one in found.outside if one.id == instance],
        "refused": found.refused,
    }


def _held(one: cloud.Held, pooled: bool) -> cloud.Held:
    return one if one.why == "elsewhere" and not pooled else dataclasses.replace(one, why="")

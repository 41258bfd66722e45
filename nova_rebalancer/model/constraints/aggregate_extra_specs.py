# SPDX-License-Identifier: Apache-2.0
"""The flavor's extra specs must be matched by the metadata of the host's aggregates.

Nova: ``filters/aggregate_instance_extra_specs.py``.  Stricter than a Nova that has the filter not
enabled: the API does not show it.
"""

from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Mapping

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import extra_specs

IGNORABLE = True

SCOPE = "aggregate_instance_extra_specs"


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return the extra specs that are about aggregates, None without any."""
    return frozenset(_wishes(view.asks[instance.id].specs)) or None


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return the aggregates."""
    return view.member_of[dest.id]


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which extra spec no aggregate of the host matches."""
    said = view.metadata[dest.id]
    for name, wish in _wishes(view.asks[instance.id].specs):
        values = said.get(name)
        if not values:
            return f"no aggregate of {dest.service_host} has the metadata {name} ({wish} asked)"
        if not any(extra_specs.match(value, wish) for value in values):
            return (
                f"the aggregates of {dest.service_host} have {name}={base.listed(values)}, "
                f"its flavor asks for {wish}"
            )
    return None


def _wishes(specs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Extra specs in the filter's scope or in none."""
    for name, wish in specs.items():
        scope, colon, rest = name.partition(":")
        if not colon:
            yield name, wish
        elif scope == SCOPE:
            yield rest, wish

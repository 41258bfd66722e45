# SPDX-License-Identifier: Apache-2.0
"""Aggregates keep hosts for flavors as in Nova's filter."""

import hypothesis.strategies as st
from nova.scheduler.filters import type_filter

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

METADATA = st.dictionaries(
    st.sampled_from(["instance_type", "flavor"]),
    st.sampled_from(["flavor", "other", "other, flavor", "flavors", "", ","]),
    max_size=2,
)


@nova_objects.judged(made=nova_objects.aggregates(METADATA))
def test_as_nova(made: list[cloud.Aggregate]) -> bool:
    """The flavor's name is in the list of one of the aggregates, or none has a list."""
    one, dest = nova_objects.instance("a"), nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one], aggregates=tuple(made))
    allowed = type_filter.AggregateTypeAffinityFilter().host_passes(
        nova_objects.host_state(view, dest), nova_objects.request_spec(one)
    )
    assert nova_objects.allows("flavor_isolation", view, dest) == allowed
    return allowed

# SPDX-License-Identifier: Apache-2.0
"""Projects are kept to their aggregates as Nova's filter and request filter keep them."""

import hypothesis.strategies as st
from nova.scheduler import request_filter
from nova.scheduler.filters import aggregate_multitenancy_isolation

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

PROJECTS = ["project", "other", "project, other", "third", ""]
METADATA = st.dictionaries(
    st.sampled_from(["filter_tenant_id", "filter_tenant_id2", "owner"]),
    st.sampled_from(PROJECTS),
    max_size=2,
)


@nova_objects.judged(made=nova_objects.aggregates(METADATA))
def test_as_nova(made: list[cloud.Aggregate]) -> bool:
    """Both together, with Nova's own query for the project's aggregates."""
    one, dest = nova_objects.instance("a"), nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one], aggregates=tuple(made))
    spec = nova_objects.request_spec(one)
    judge = aggregate_multitenancy_isolation.AggregateMultiTenancyIsolation()
    allowed = judge.host_passes(nova_objects.host_state(view, dest), spec)
    with (
        nova_objects.options("scheduler", limit_tenants_to_placement_aggregate=True),
        nova_objects.stored(made) as admin,
    ):
        assert request_filter.require_tenant_aggregate(admin, spec)
    allowed = allowed and nova_objects.passes(spec, made, dest)
    assert nova_objects.allows("tenant_isolation", view, dest) == allowed
    return allowed

# SPDX-License-Identifier: Apache-2.0
"""Aggregates are kept for a trait as Nova's request filter keeps them."""

import hypothesis.strategies as st
from nova.scheduler import request_filter

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

TRAITS = ["HW_GPU_API_VULKAN", "CUSTOM_A", "COMPUTE_NET_VIRTIO_PACKED"]
METADATA = st.dictionaries(
    st.sampled_from([f"trait:{name}" for name in TRAITS] + ["CUSTOM_A"]),
    st.sampled_from(["required", "required", "forbidden"]),
    max_size=2,
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "trait:CUSTOM_A": st.sampled_from(["required", "forbidden"]),
        "trait1:HW_GPU_API_VULKAN": st.just("required"),
        "hw:virtio_packed_ring": st.just("true"),
    },
)


@nova_objects.judged(made=nova_objects.aggregates(METADATA), specs=SPECS)
def test_as_nova(made: list[cloud.Aggregate], specs: dict[str, str]) -> bool:
    """With Nova's own query for the aggregates whose traits are not all required."""
    one, dest = nova_objects.instance("a", extra_specs=specs), nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one], aggregates=tuple(made))
    spec = nova_objects.request_spec(one)
    with (
        nova_objects.options("scheduler", enable_isolated_aggregate_filtering=True),
        nova_objects.stored(made) as admin,
    ):
        assert request_filter.isolate_aggregates(admin, spec)
    allowed = nova_objects.passes(spec, made, dest)
    assert nova_objects.allows("isolated_traits", view, dest) == allowed
    return allowed

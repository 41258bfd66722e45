# SPDX-License-Identifier: Apache-2.0
"""Aggregates match the flavor's extra specs as in Nova's filter."""

import hypothesis.strategies as st
from nova.scheduler.filters import aggregate_instance_extra_specs

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

KEYS = ["ssd", "gen", "hw:gen", "a:b"]
METADATA = st.dictionaries(
    st.sampled_from(KEYS), st.sampled_from(["true", "1", "2", "1, 2", "", "true,1"]), max_size=3
)
SPECS = st.dictionaries(
    st.sampled_from(
        [*KEYS, "aggregate_instance_extra_specs:ssd", "aggregate_instance_extra_specs:a:b"]
    ),
    st.sampled_from(["true", "1", ">= 2", "<or> 1 <or> true", "s!= 1", "<in> ru", "!= 2", ""]),
    max_size=2,
)


@nova_objects.judged(made=nova_objects.aggregates(METADATA), specs=SPECS)
def test_as_nova(made: list[cloud.Aggregate], specs: dict[str, str]) -> bool:
    """Unscoped extra specs and those of the filter's scope; the rest are others' business.

    Where Nova's filter fails for want of a number, the host is forbidden here.
    """
    one, dest = nova_objects.instance("a", extra_specs=specs), nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one], aggregates=tuple(made))
    judge = aggregate_instance_extra_specs.AggregateInstanceExtraSpecsFilter()
    try:
        allowed = judge.host_passes(
            nova_objects.host_state(view, dest), nova_objects.request_spec(one)
        )
    except ValueError:
        # Which value of a set it meets first is chance; one that matches may come before.
        return nova_objects.allows("aggregate_extra_specs", view, dest)
    assert nova_objects.allows("aggregate_extra_specs", view, dest) == allowed
    return allowed

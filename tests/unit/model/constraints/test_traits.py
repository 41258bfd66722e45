# SPDX-License-Identifier: Apache-2.0
"""Hosts have the traits that Nova asks Placement for."""

import hypothesis.strategies as st
from nova.scheduler import utils

from tests.unit.model.constraints import nova_objects

NAMES = ["CUSTOM_A", "CUSTOM_B", "HW_CPU_X86_AVX2", "COMPUTE_SECURITY_UEFI_SECURE_BOOT"]
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "trait:CUSTOM_A": st.sampled_from(["required", "forbidden"]),
        "trait:CUSTOM_B": st.sampled_from(["required", "forbidden"]),
        "os:secure_boot": st.just("required"),
    },
)
PROPERTIES = st.fixed_dictionaries({}, optional={"trait:HW_CPU_X86_AVX2": st.just("required")})
TRAITS = st.sets(st.sampled_from(NAMES)).map(lambda names: tuple(sorted(names)))


@nova_objects.judged(specs=SPECS, properties=PROPERTIES, there=TRAITS)
def test_as_nova(specs: dict[str, str], properties: dict[str, str], there: tuple[str, ...]) -> bool:
    """All that are required and none that is forbidden, as in placement's ``required``."""
    one = nova_objects.instance("a", extra_specs=specs, image=nova_objects.image(properties))
    dest = nova_objects.host("b", traits=there)
    view = nova_objects.view([nova_objects.host("a"), dest], [one])
    request = utils.ResourceRequest.from_request_spec(nova_objects.request_spec(one))
    group = request.get_request_group(None)
    allowed = group.required_traits <= set(there) and not group.forbidden_traits & set(there)
    assert nova_objects.allows("traits", view, dest) == allowed
    return allowed

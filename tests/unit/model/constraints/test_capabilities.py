# SPDX-License-Identifier: Apache-2.0
"""Hosts have the capabilities that a flavor asks for as in Nova's filter."""

from typing import Any

import hypothesis.strategies as st
from nova.scheduler.filters import compute_capabilities_filter

from nova_rebalancer.model.constraints import capabilities
from tests.unit.model.constraints import nova_objects

CPUS = st.fixed_dictionaries(
    {"vendor": st.sampled_from(["Intel", "AMD"])},
    optional={
        "features": st.lists(st.sampled_from(["avx", "sse"]), unique=True),
        "maxphysaddr": st.fixed_dictionaries({"bits": st.sampled_from([40, 46])}),
        "topology": st.fixed_dictionaries({"cores": st.sampled_from([8, 16])}),
    },
)
NAMES = [
    "capabilities:cpu_info:vendor",
    "capabilities:cpu_info:topology:cores",
    "capabilities:cpu_info:features",
    "capabilities:cpu_info:features:avx",
    "capabilities:hypervisor_type",
    "capabilities:hypervisor_type:more",
    "capabilities:hypervisor_version",
    "capabilities:hypervisor_hostname",
    "capabilities:nodename",
    "capabilities:host",
    "hypervisor_type",
    "hypervisor_version",
    "host",
    "hw:maxphysaddr_bits",
    "hw:mem_page_size",
    "ssd",
]
WISHES = ["QEMU", "<in> E", "<in> a", ">= 8", "<in> avx", "s!= Intel", "<or> AMD <or> QEMU", "46"]


@nova_objects.judged(
    info=CPUS,
    kind=st.sampled_from([None, "QEMU", "ironic"]),
    version=st.sampled_from([None, 7, 8002000]),
    specs=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WISHES), max_size=2),
)
def test_as_nova(
    info: dict[str, Any], kind: str | None, version: int | None, specs: dict[str, str]
) -> bool:
    """What the API shows of a host is judged alike.

    Where Nova's filter fails for want of a number, the host is forbidden here.
    """
    dest = nova_objects.host("b", cpu_info=info, hypervisor_type=kind, hypervisor_version=version)
    one = nova_objects.instance("a", extra_specs=specs)
    view = nova_objects.view([nova_objects.host("a"), dest], [one])
    try:
        allowed = compute_capabilities_filter.ComputeCapabilitiesFilter().host_passes(
            nova_objects.host_state(view, dest), nova_objects.request_spec(one)
        )
    except ValueError:
        allowed = False
    assert nova_objects.allows("capabilities", view, dest) == allowed
    return allowed


@nova_objects.judged(
    least=0,
    name=st.sampled_from(sorted(set(vars(nova_objects.bare_host_state())) - {"_lock_name"})),
    scoped=st.booleans(),
    wish=st.sampled_from(WISHES),
)
def test_what_the_api_does_not_show(name: str, scoped: bool, wish: str) -> bool:
    """A host is forbidden where Nova would look at something of it that the API does not show."""
    one = nova_objects.instance("a", extra_specs={f"capabilities:{name}" if scoped else name: wish})
    dest = nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one])
    allowed = nova_objects.allows("capabilities", view, dest)
    assert not allowed or name in capabilities.KNOWN
    return allowed

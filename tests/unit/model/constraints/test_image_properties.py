# SPDX-License-Identifier: Apache-2.0
"""Hosts suit what an image says of them as in Nova's filter."""

from typing import Any

import hypothesis.strategies as st
from nova.scheduler.filters import image_props_filter

from tests.unit.model.constraints import nova_objects

PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "hw_architecture": st.sampled_from(["x86_64", "aarch64", "amd64"]),
        "img_hv_type": st.sampled_from(["kvm", "qemu", "QEMU"]),
        "hw_vm_mode": st.sampled_from(["hvm", "xen"]),
        "img_hv_requested_version": st.sampled_from(
            [">=8.0", "<8", ">=6.0, <9.0", "==8.2", "!=8.2.0", ">= 8.2.1", "<=8.2"]
        ),
        "hw_maxphysaddr_bits": st.sampled_from(["40", "42", "46"]),
        "architecture": st.sampled_from(["x86_64", "aarch64"]),
        "vm_mode": st.just("xen"),
        "hypervisor_type": st.sampled_from(["kvm", "qemu"]),
        "hypervisor_version_requires": st.sampled_from([">=8.0", "<8"]),
    },
)
KINDS = {
    # Type and architecture, and what a driver says of such hosts.
    ("QEMU", "x86_64"): [["x86_64", "kvm", "hvm"], ["x86_64", "qemu", "hvm"]],
    ("QEMU", "aarch64"): [["aarch64", "kvm", "hvm"]],
    ("ironic", "x86_64"): [["x86_64", "baremetal", "hvm"]],
}
HOSTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(KINDS)),
        "version": st.sampled_from([7000000, 8002000, 8002001, 9000000]),
        "bits": st.sampled_from([None, 40, 46]),
    }
)


@nova_objects.judged(properties=PROPERTIES, here=HOSTS, there=HOSTS)
def test_as_nova(properties: dict[str, str], here: dict[str, Any], there: dict[str, Any]) -> bool:
    """From a host that Nova's filter takes, what it forbids is forbidden.

    More is forbidden on purpose: the API does not show what a host supports, so an image that asks
    for some kind stays on hosts of one kind; and a version or address size counts though the image
    asks for no kind, where Nova's filter does not get so far.
    """
    hosts = [
        nova_objects.host(
            name,
            hypervisor_type=facts["kind"][0],
            hypervisor_version=facts["version"],
            cpu_info={"arch": facts["kind"][1]}
            | ({"maxphysaddr": {"bits": facts["bits"]}} if facts["bits"] else {}),
        )
        for name, facts in (("a", here), ("b", there))
    ]
    one = nova_objects.instance("a", image=nova_objects.image(properties))
    view = nova_objects.view(hosts, [one])
    spec = nova_objects.request_spec(one)
    judge = image_props_filter.ImagePropertiesFilter()
    states = [nova_objects.host_state(view, host) for host in hosts]
    for state, facts in zip(states, (here, there), strict=True):
        state.supported_instances = KINDS[facts["kind"]]
        state.cpu_info = hosts[states.index(state)].cpu_info
    ours = nova_objects.allows("image_properties", view, hosts[1])
    if not judge.host_passes(states[0], spec):
        return ours
    allowed = judge.host_passes(states[1], spec)
    assert allowed or not ours
    asks_kind = any(spec.image.properties.get(name) for name in ("hw_architecture", "img_hv_type"))
    if asks_kind and here["kind"] == there["kind"]:
        assert ours == allowed
    return ours

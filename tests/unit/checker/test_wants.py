# SPDX-License-Identifier: Apache-2.0
"""What flavor and image ask for, by our reading of them and by Nova's."""

import uuid

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from nova import exception
from nova import objects
from nova.scheduler import utils
from nova.scheduler.filters import extra_specs_ops
from nova.virt import hardware
import pytest

from nova_rebalancer.checker import isolation
from nova_rebalancer.checker import wants

SPECS = {
    "hw:cpu_policy": ["dedicated", "shared", "mixed"],
    "hw:cpu_dedicated_mask": ["0-1"],
    "hw:cpu_thread_policy": ["prefer", "require", "isolate"],
    "hw:mem_page_size": ["small", "large", "any", "2048", "2MB", "1GB", "4kb", "64KiB", "0"],
    "hw:numa_nodes": ["1", "2"],
    "resources:PCPU": ["4", "0"],
    "resources:VCPU": ["4"],
    "resources1:VGPU": ["1"],
    "trait:HW_CPU_HYPERTHREADING": ["required", "forbidden"],
    "trait:CUSTOM_A": ["required", "forbidden"],
    "trait1:CUSTOM_B": ["required"],
    "trait_net-1:CUSTOM_C": ["forbidden", "required"],
    "os:secure_boot": ["required", "optional", "disabled"],
    "hw:maxphysaddr_mode": ["emulate", "passthrough"],
    "hw:pci_numa_affinity_policy": ["socket", "required"],
    "hw:tpm_version": ["1.2", "2.0"],
    "hw:tpm_model": ["tpm-tis", "tpm-crb"],
}

IMAGE = {
    "hw_cpu_policy": ["dedicated", "shared"],
    "hw_cpu_thread_policy": ["prefer", "require", "isolate"],
    "hw_mem_page_size": ["small", "large", "any", "2048"],
    "hw_numa_nodes": ["1", "2"],
    "trait:HW_CPU_HYPERTHREADING": ["required"],
    "trait:CUSTOM_D": ["required"],
    "os_secure_boot": ["required"],
    "hw_maxphysaddr_mode": ["emulate"],
    "hw_pci_numa_affinity_policy": ["socket"],
    "hw_tpm_version": ["2.0"],
    "hw_firmware_type": ["uefi", "bios"],
    "hw_firmware_stateless": ["true", "no"],
}


@st.composite
def texts(draw, choices):
    """A few of these keys; most combinations of many are refused by Nova."""
    keys = draw(st.sets(st.sampled_from(sorted(choices)), max_size=4))
    return {key: draw(st.sampled_from(choices[key])) for key in sorted(keys)}


@pytest.fixture(autouse=True, scope="module")
def nova_objects():
    """Nova finds its objects by name."""
    objects.register_all()


def nova_pair(specs, image):
    """Return a flavor of 4 CPUs and 1 GiB, and an image, as Nova has them."""
    flavor = objects.Flavor(
        name="f",
        vcpus=4,
        memory_mb=1024,
        root_gb=0,
        ephemeral_gb=0,
        swap=0,
        extra_specs=specs,
    )
    return flavor, objects.ImageMeta.from_dict(
        {"id": str(uuid.UUID(int=1)), "name": "i", "properties": dict(image)}
    )


@settings(max_examples=600, deadline=None)
@given(texts(SPECS), texts(IMAGE))
def test_numa_request_is_that_of_nova(specs, image):
    """CPU policy, thread policy and page size are those that Nova's topology has."""
    flavor, meta = nova_pair(specs, image)
    try:
        topology = hardware.numa_get_constraints(flavor, meta)
    except exception.NovaException:
        return  # Nobody has such an instance.
    if topology is None:
        return
    entry = {"extra_specs": specs, "image": {"id": "i", "properties": image}}
    cell = topology.cells[0]
    assert wants.cpu_policy(entry) == cell.cpu_policy
    assert wants.thread_policy(entry) == cell.cpu_thread_policy
    assert wants.page_size(entry) == (cell.pagesize or None)


@settings(max_examples=600, deadline=None)
@given(texts(SPECS), texts(IMAGE))
def test_traits_are_those_that_nova_asks_placement_for(specs, image):
    """Required and forbidden traits of all groups of the request, implied ones too."""
    flavor, meta = nova_pair(specs, image)
    spec = objects.RequestSpec(
        flavor=flavor, image=meta, is_bfv=True, requested_resources=[], project_id="p"
    )
    try:
        hardware.numa_get_constraints(flavor, meta)
        request = utils.ResourceRequest.from_request_spec(spec)
    except (exception.NovaException, ValueError):
        return
    entry = {"extra_specs": specs, "image": {"id": "i", "properties": image}}
    groups = request._rg_by_id.values()
    assert wants.required_traits(entry) == request.all_required_traits
    assert wants.forbidden_traits(entry) == set().union(*(g.forbidden_traits for g in groups))


WORDS = st.sampled_from(
    "= == != >= <= <in> <all-in> <or> s== s!= s< s<= s> s>= 3 4 3.0 ab abc b".split()
)


@settings(max_examples=600)
@given(
    st.sampled_from(["3", "4", "ab", "abc", "b", ""]),
    st.lists(WORDS, max_size=5).map(" ".join),
)
def test_extra_specs_match_as_in_nova(value, wanted):
    """Where Nova's comparison fails nothing matches, else what it says."""
    try:
        said = extra_specs_ops.match(value, wanted)
    except (ValueError, IndexError):
        said = False
    assert isolation.matches(value, wanted) == said

# SPDX-License-Identifier: Apache-2.0
"""Extra specs and image properties are read as Nova's own code reads them."""

import hypothesis
import hypothesis.strategies as st
from nova import exception
from nova import objects
from nova.scheduler import request_filter
from nova.scheduler import utils
from nova.virt import hardware

from nova_rebalancer.model import asked
from tests.unit.model.constraints import nova_objects

POLICIES = ["dedicated", "shared", "mixed"]
THREADS = ["prefer", "isolate", "require"]
SIZES = [
    "small",
    "large",
    "any",
    "2048",
    "2MB",
    "1GB",
    "4KB",
    "2MiB",
    "1048576",
    "2048Kib",
    "1.5GB",
]
TRAITS = ["required", "required", "forbidden"]
TRUTHS = ["true", "false", "yes", "1", "on", "no"]
BOTH = {
    # Extra spec, image property, what either may say.
    ("hw:cpu_thread_policy", "hw_cpu_thread_policy"): THREADS,
    ("hw:mem_page_size", "hw_mem_page_size"): SIZES,
    ("hw:tpm_version", "hw_tpm_version"): ["1.2", "2.0"],
    ("hw:tpm_model", "hw_tpm_model"): ["tpm-tis", "tpm-crb"],
    ("os:secure_boot", "os_secure_boot"): ["required", "optional", "disabled"],
    ("hw:maxphysaddr_mode", "hw_maxphysaddr_mode"): ["passthrough", "emulate"],
    ("hw:virtio_packed_ring", "hw_virtio_packed_ring"): TRUTHS,
    ("hw:pci_numa_affinity_policy", "hw_pci_numa_affinity_policy"): ["socket", "preferred"],
    ("hw:ephemeral_encryption", "hw_ephemeral_encryption"): TRUTHS,
    ("hw:sound_model", "hw_sound_model"): ["virtio", "ich6"],
}
FLAVOR = {
    "trait:CUSTOM_A": TRAITS,
    "trait1:CUSTOM_B": TRAITS,
    "trait_X:CUSTOM_C": TRAITS,
    "trait:HW_CPU_HYPERTHREADING": TRAITS,
    "trait1:HW_CPU_HYPERTHREADING": TRAITS,
    "trait_X:HW_CPU_HYPERTHREADING": TRAITS,
    "resources:PCPU": ["4", "0"],
    "resources1:PCPU": ["4"],
    "resources_X:PCPU": ["4"],
    "resources:VCPU": ["4", "0"],
    "hw:emulator_threads_policy": ["isolate", "share"],
    "hw:tpm_secret_security": ["user", "host", "deployment"],
    "hw:numa_nodes": ["1", "2"],
}
IMAGE = {
    "trait:CUSTOM_D": ["required"],
    "trait:HW_CPU_HYPERTHREADING": ["required"],
    "hw_firmware_stateless": TRUTHS,
    "hw_firmware_type": ["uefi", "bios"],
    "hw_numa_nodes": ["1", "2"],
}


def _some(values: dict[str, list[str]]) -> st.SearchStrategy[dict[str, str]]:
    pairs = [st.tuples(st.just(name), st.sampled_from(said)) for name, said in values.items()]
    return st.lists(st.one_of(pairs), max_size=3).map(dict)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """Extra specs and image properties, most of which Nova's API would take."""
    specs = dict(draw(_some({**FLAVOR, **{names[0]: said for names, said in BOTH.items()}})))
    properties = dict(draw(_some({**IMAGE, **{names[1]: said for names, said in BOTH.items()}})))
    flavors, images = draw(
        st.sampled_from(
            [
                (None, None),
                ("shared", None),
                *[("dedicated", None)] * 3,
                (None, "dedicated"),
                ("dedicated", "shared"),
                *[("mixed", None)] * 2,
            ]
        )
    )
    if flavors:
        specs["hw:cpu_policy"] = flavors
    if flavors == "mixed":
        specs["hw:cpu_dedicated_mask"] = "0-1"
    if images:
        properties["hw_cpu_policy"] = images
    if draw(st.booleans()):
        specs["hw:cpu_thread_policy"] = draw(st.sampled_from(THREADS))
        properties["hw_cpu_thread_policy"] = draw(st.sampled_from(THREADS))
    return specs, properties


def _made(
    wish: tuple[dict[str, str], dict[str, str]],
) -> tuple[objects.RequestSpec, objects.InstanceNUMATopology | None] | None:
    """The request and the topology that Nova makes of it, None where its API refuses it."""
    one = nova_objects.instance("a", extra_specs=wish[0], image=nova_objects.image(wish[1]))
    try:
        spec = nova_objects.request_spec(one)
        return spec, hardware.numa_get_constraints(spec.flavor, spec.image)
    except (exception.NovaException, ValueError):
        return None


@nova_objects.judged(least=0, wish=wishes())
def test_traits(wish: tuple[dict[str, str], dict[str, str]]) -> bool:
    """Traits required and forbidden, with those that the request filters add."""
    made = _made(wish)
    hypothesis.assume(made is not None)
    assert made is not None
    spec, _ = made
    try:
        request = utils.ResourceRequest.from_request_spec(spec)
        for each in (
            request_filter.packed_virtqueue_filter,
            request_filter.ephemeral_encryption_filter,
            request_filter.virtio_sound_filter,
            request_filter.tpm_secret_security_filter,
        ):
            each(spec._context, spec)
    except exception.NovaException:
        hypothesis.reject()
    groups = request._rg_by_id.values()
    required = request.all_required_traits | spec.root_required
    forbidden = {trait for group in groups for trait in group.forbidden_traits}
    asks = asked.Asked(*wish)
    assert asks.required == required
    assert asks.forbidden == forbidden | spec.root_forbidden
    return bool(required)


@nova_objects.judged(least=0, wish=wishes())
def test_topology(wish: tuple[dict[str, str], dict[str, str]]) -> bool:
    """CPU policy, thread policy, page size and emulator threads."""
    made = _made(wish)
    hypothesis.assume(made is not None)
    assert made is not None
    _, topology = made
    asks = asked.Asked(*wish)
    if topology is None:
        assert (asks.cpu_policy, asks.page_size) == ("shared", None)
        assert not asks.emulator_isolated
        return False
    cell = topology.cells[0]
    assert asks.cpu_policy == (cell.cpu_policy or "shared")
    assert asks.thread_policy == (cell.cpu_thread_policy or "prefer")
    assert asks.page_size == cell.pagesize
    assert asks.emulator_isolated == topology.emulator_threads_isolated
    return True


@nova_objects.judged(
    least=0,
    number=st.integers(0, 5000),
    prefix=st.sampled_from(["", "K", "M", "G", "T", "Ki", "Mi", "Gi"]),
    end=st.sampled_from(["", "B", "b", "bit"]),
)
def test_page_size(number: int, prefix: str, end: str) -> bool:
    """A page size with a unit is read as Nova reads it; 0 is what Nova refuses."""
    text = f"{number}{prefix}{end}"
    one = nova_objects.instance("a", extra_specs={"hw:mem_page_size": text})
    spec = nova_objects.request_spec(one)
    try:
        size = int(hardware._get_numa_pagesize_constraint(spec.flavor, spec.image))
    except exception.MemoryPageSizeInvalid:
        size = 0
    assert asked.Asked({"hw:mem_page_size": text}, {}).page_size == size
    return bool(size)

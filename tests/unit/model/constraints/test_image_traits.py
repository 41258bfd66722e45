# SPDX-License-Identifier: Apache-2.0
"""Image properties need traits as Nova's request filter asks for them."""

import hypothesis.strategies as st
from nova.scheduler import request_filter

from tests.unit.model.constraints import nova_objects

PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "hw_disk_bus": st.sampled_from(["virtio", "scsi"]),
        "hw_vif_model": st.sampled_from(["virtio", "e1000"]),
        "hw_video_model": st.just("qxl"),
        "hw_architecture": st.sampled_from(["x86_64", "amd64", "aarch64"]),
        "architecture": st.just("aarch64"),
        "hw_viommu_model": st.just("intel"),
    },
)
TRAITS = st.sets(
    st.sampled_from(
        [
            "COMPUTE_STORAGE_BUS_VIRTIO",
            "COMPUTE_STORAGE_BUS_SCSI",
            "COMPUTE_NET_VIF_MODEL_VIRTIO",
            "COMPUTE_NET_VIF_MODEL_E1000",
            "COMPUTE_GRAPHICS_MODEL_QXL",
            "HW_ARCH_X86_64",
            "HW_ARCH_AARCH64",
            "COMPUTE_VIOMMU_INTEL",
        ]
    )
).map(lambda names: tuple(sorted(names)))


@nova_objects.judged(properties=PROPERTIES, missing=TRAITS, there=TRAITS, most=st.booleans())
def test_as_nova(
    properties: dict[str, str], missing: tuple[str, ...], there: tuple[str, ...], most: bool
) -> bool:
    """From a host that Nova would take for it, the same hosts as Nova's.

    The filter is off by default; a host that lacks what it asks for shows that it is, and then
    no more is asked for than by Nova.
    """
    one = nova_objects.instance("a", image=nova_objects.image(properties))
    spec = nova_objects.request_spec(one)
    with nova_objects.options("scheduler", image_metadata_prefilter=True):
        known = request_filter.transform_image_metadata(spec._context, spec)
    needed = spec.root_required
    source = nova_objects.host("a", traits=tuple(needed if most else needed - set(missing)))
    dest = nova_objects.host("b", traits=there)
    view = nova_objects.view([source, dest], [one])
    allowed = nova_objects.passes(spec, (), dest)
    ours = nova_objects.allows("image_traits", view, dest)
    if not known:
        # Of a value that has no trait Nova makes nothing, nor of any other property then.
        assert allowed
    elif nova_objects.passes(spec, (), source):
        assert ours == allowed
    else:
        assert ours or not allowed
    return ours

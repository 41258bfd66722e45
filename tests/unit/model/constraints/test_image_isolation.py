# SPDX-License-Identifier: Apache-2.0
"""Aggregates contradict image properties as in Nova's filter."""

import hypothesis.strategies as st
from nova.scheduler.filters import aggregate_image_properties_isolation
import pytest

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

VALUES = {
    "hw_disk_bus": ["virtio", "scsi"],
    "hw_architecture": ["x86_64", "amd64", "aarch64"],
    "architecture": ["x86_64", "aarch64"],
    "hw_cpu_cores": ["2", "4"],
    "hw_qemu_guest_agent": ["yes", "no", "true", "True"],
    "os_distro": ["debian", "yes"],
    "site": ["north", "south"],
}
PAIRS = st.sampled_from([(name, value) for name, values in VALUES.items() for value in values])
PROPERTIES = st.lists(PAIRS, max_size=3).map(dict)
METADATA = st.lists(
    st.one_of(PAIRS, PAIRS.map(lambda pair: (pair[0], f"{VALUES[pair[0]][0]}, {pair[1]}"))),
    max_size=2,
).map(dict)


@nova_objects.judged(made=nova_objects.aggregates(METADATA), properties=PROPERTIES)
def test_as_nova(made: list[cloud.Aggregate], properties: dict[str, str]) -> bool:
    """What Nova's filter forbids is forbidden.

    More is forbidden on purpose: Nova looks at no property that it has no name for, and at none
    that is false; and it may compare what a property means where texts are compared here too.
    """
    return judge(made, properties)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_qemu_guest_agent", "yes"),
        ("hw_qemu_guest_agent", "true"),
        ("hw_architecture", "amd64"),
        ("img_hv_type", "QEMU"),
        ("hw_cpu_cores", "02"),
    ],
)
def test_what_nova_rewrites(name: str, value: str) -> None:
    """Nova compares what it read a property as, so the same text in an aggregate is another."""
    made = [cloud.Aggregate("aggregate", (nova_objects.named("b"),), {name: value})]
    assert not judge(made, {name: value})


def judge(made: list[cloud.Aggregate], properties: dict[str, str]) -> bool:
    """Whether our rule allows a host; it must not where Nova's filter does not."""
    one = nova_objects.instance("a", image=nova_objects.image(properties))
    dest = nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one], aggregates=tuple(made))
    allowed = aggregate_image_properties_isolation.AggregateImagePropertiesIsolation().host_passes(
        nova_objects.host_state(view, dest), nova_objects.request_spec(one)
    )
    ours = nova_objects.allows("image_isolation", view, dest)
    assert allowed or not ours
    # Those that Nova has as texts, or does not rewrite.
    plain = not {"site", "architecture", "hw_architecture", "hw_qemu_guest_agent"} & set(properties)
    assert ours == allowed or not plain
    return ours

# SPDX-License-Identifier: Apache-2.0
"""Room for instances of flavors, by hand."""

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import fit
from tests import clouds


def two_hosts() -> clouds.Document:
    """a has 6 of 8 cores and 2 of 16 GiB free, b has 2 cores and 14 GiB; c is disabled."""
    memory = {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 16384}}
    flavors = {
        "one": {"VCPU": 2, "MEMORY_MB": 2048},
        "cores": {"VCPU": 2},
        "huge": {"VCPU": 9},
        "disk": {"VCPU": 1, "DISK_GB": 1},
        "unsaid": {},
        "pinned": {"PCPU": 2},
        "gpu": {"VCPU": 1, "VGPU": 1},
    }
    gpu = {"id": "gpu", "name": "gpu", "parent": "c", "inventories": {"VGPU": {"total": 1}}}
    return clouds.snapshot(
        [
            clouds.host("a", inventories=memory, shared={"DISK_GB": "pool"}),
            clouds.host("b", inventories=memory, shared={"DISK_GB": "pool"}),
            clouds.host("c", status="disabled", providers=[gpu]),
        ],
        [
            {"id": "i", "host": "a", "allocations": {"VCPU": 2, "MEMORY_MB": 14336}},
            {"id": "j", "host": "b", "allocations": {"VCPU": 6, "MEMORY_MB": 2048}},
        ],
        pools=[{"id": "pool", "inventories": {"DISK_GB": {"total": 9}}}],
        flavors=[
            *({"id": name, "name": name, "resources": it} for name, it in flavors.items()),
            {
                "id": "celled",
                "name": "celled",
                "resources": {"VCPU": 2},
                "extra_specs": {"hw:numa_nodes": "1"},
            },
        ],
    )


def value(made: clouds.Document, *flavors: str) -> base.Value:
    """The goal for ``flavors`` where the cloud is."""
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    return fit.make(snapshot, start, base.Settings(flavors=flavors)).evaluate(start)


def test_room_and_stranding() -> None:
    """One more fits on a, where memory is short, one on b, where cores are; all free makes four.

    On a 6 cores are enough for three, so 4 are stranded; on b 14 GiB for seven, so 12 are.
    """
    found = value(two_hosts(), "one")
    assert [(part.name, part.unit, part.value) for part in found.parts] == [
        ("flavor-fit", "share", 0.5),
        ("room_one", "instances", 2.0),
        ("stranded_VCPU_one", "units", 4.0),
        ("stranded_MEMORY_MB_one", "units", 12 * 1024.0),
    ]


def test_sizes_and_several_flavors() -> None:
    """A size counts as a flavor; of two with 2 of 4 and 4 of 4 the mean is a quarter missing."""
    assert value(two_hosts(), "2:2048").value == 0.5
    assert value(two_hosts(), "cores").value == 0.0
    found = value(two_hosts(), "one", "cores", "one")
    assert found.value == pytest.approx(0.25)
    assert [part.value for part in found.parts if part.unit == "instances"] == [2.0, 4.0]


def test_nothing_free() -> None:
    """Where not even all that is free is enough for one, nothing is missing."""
    assert value(clouds.full(), "1:1").value == 0.0


@pytest.mark.parametrize(
    ("flavor", "why"),
    [
        ("two", "no flavor of the snapshot is called so .*VCPUS:MEMORY_MIB"),
        ("0:4", "no flavor of the snapshot is called so"),
        ("unsaid", "does not say what it takes"),
        ("huge", "no usable host could hold .* it takes 9 VCPU"),
        ("disk", "takes DISK_GB of a pool that hosts share"),
        ("gpu", "takes VGPU of nested providers"),
        ("pinned", "NUMA topology"),
        ("celled", "NUMA topology"),
    ],
)
def test_what_cannot_be_counted(flavor: str, why: str) -> None:
    """Each is refused by name, with the reason and what to write."""
    with pytest.raises(exceptions.UsageError, match=f"--flavor {flavor}: .*{why}"):
        value(two_hosts(), flavor)


def test_no_flavor() -> None:
    """Without a flavor the goal says which option names one."""
    with pytest.raises(exceptions.UsageError, match="--flavor NAME"):
        value(two_hosts())

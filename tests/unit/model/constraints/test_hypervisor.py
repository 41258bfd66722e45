# SPDX-License-Identifier: Apache-2.0
"""Hypervisors go together as Nova's conductor says."""

import hypothesis.strategies as st
from nova import exception
from nova import objects
from nova.conductor.tasks import live_migrate

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import hypervisor
from tests.unit.model.constraints import nova_objects

KINDS = st.sampled_from(["QEMU", "QEMU", "VMware"])
VERSIONS = st.integers(8002000, 8002020)


class _Task(live_migrate.LiveMigrationTask):
    """The conductor's task, with the compute nodes at hand."""

    def __init__(self, source: cloud.Host, dest: cloud.Host) -> None:
        self.source = source.service_host
        self.nodes = {
            host.service_host: objects.ComputeNode(
                hypervisor_type=host.hypervisor_type, hypervisor_version=host.hypervisor_version
            )
            for host in (source, dest)
        }

    def _get_compute_info(self, host: str, nodename: str | None = None) -> objects.ComputeNode:
        return self.nodes[host]


@nova_objects.judged(here=st.tuples(KINDS, VERSIONS), there=st.tuples(KINDS, VERSIONS))
def test_as_nova(here: tuple[str, int], there: tuple[str, int]) -> bool:
    """The same type, and no older version."""
    source, dest = (
        nova_objects.host(name, hypervisor_type=facts[0], hypervisor_version=facts[1])
        for name, facts in (("a", here), ("b", there))
    )
    view = nova_objects.view([source, dest], [])
    allowed = True
    try:
        _Task(source, dest)._check_compatible_with_source_hypervisor("b")
    except (exception.InvalidHypervisorType, exception.DestinationHypervisorTooOld):
        allowed = False
    assert (hypervisor.refuses(view, source, dest) is None) == allowed
    return allowed


def test_unknown() -> None:
    """What is not known of one host only is refused, for Nova knows it."""
    known = nova_objects.host("a", hypervisor_type="QEMU", hypervisor_version=8)
    bare = nova_objects.host("b", hypervisor_type="QEMU")
    view = nova_objects.view([known, bare], [])
    assert "is not known" in (hypervisor.refuses(view, known, bare) or "")
    assert "is not known" in (hypervisor.refuses(view, bare, known) or "")
    assert hypervisor.refuses(view, bare, bare) is None

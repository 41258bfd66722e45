# SPDX-License-Identifier: Apache-2.0
"""Live migration needs the same type of hypervisor, and none older than the source's.

Nova: ``_check_compatible_with_source_hypervisor`` in ``conductor/tasks/live_migrate.py``.
"""

from collections.abc import Hashable

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = False


def key(host: cloud.Host) -> Hashable:
    """Return type and version."""
    return (host.hypervisor_type, host.hypervisor_version)


def refuses(view: base.View, source: cloud.Host, dest: cloud.Host) -> str | None:
    """Say how the hypervisors do not go together."""
    if source.hypervisor_type != dest.hypervisor_type:
        return (
            f"{source.service_host} runs {source.hypervisor_type}, "
            f"{dest.service_host} {dest.hypervisor_type}"
        )
    here, there = source.hypervisor_version, dest.hypervisor_version
    if here is None and there is None:
        return None
    if here is None or there is None:
        unknown = source if here is None else dest
        return f"the version of the hypervisor of {unknown.service_host} is not known"
    if there < here:
        return (
            f"the hypervisor of {dest.service_host} ({there}) is older than "
            f"{source.service_host}'s ({here})"
        )
    return None

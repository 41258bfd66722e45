# SPDX-License-Identifier: Apache-2.0
"""The destination's CPU can run what was started on the source's.

Nova: ``_compare_cpu`` in ``virt/libvirt/driver.py`` asks libvirt, which knows the guest's CPU; the
API shows only the hosts'.  So the same model with at least the same features is asked for:
stricter than Nova where guests run with a common model (``[libvirt] cpu_mode = custom``).
"""

from collections.abc import Hashable
from collections.abc import Mapping
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True

_SAME = ("arch", "vendor", "model")


def key(host: cloud.Host) -> Hashable:
    """Return what is compared of the CPU."""
    return (
        bool(host.cpu_info),
        *(str(host.cpu_info.get(name)) for name in _SAME),
        _features(host.cpu_info),
    )


def refuses(view: base.View, source: cloud.Host, dest: cloud.Host) -> str | None:
    """Say how the CPUs do not go together."""
    here, there = source.cpu_info, dest.cpu_info
    if not here and not there:
        return None
    if not here or not there:
        unknown = source if not here else dest
        return f"the CPU of {unknown.service_host} is not known"
    for name in _SAME:
        if here.get(name) != there.get(name):
            return (
                f"the CPUs differ: {name} is {here.get(name)} on {source.service_host}, "
                f"{there.get(name)} on {dest.service_host}"
            )
    missing = _features(here) - _features(there)
    if missing:
        return f"the CPU of {dest.service_host} lacks {base.listed(missing)}"
    return None


def _features(info: Mapping[str, Any]) -> frozenset[str]:
    said = info.get("features")
    return (
        frozenset(str(name) for name in said)
        if isinstance(said, list | tuple | dict)
        else frozenset()
    )

# SPDX-License-Identifier: Apache-2.0
"""The host suits what the image says of hypervisor, architecture and address size.

Nova: ``filters/image_props_filter.py``.  The API does not show which architectures and modes a
host supports, so an image that asks for one stays on hosts like the one it is on.
"""

from collections.abc import Hashable
import operator
import re

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import base

IGNORABLE = True

KINDS = ("hw_architecture", "img_hv_type", "hw_vm_mode")
VERSION = "img_hv_requested_version"
BITS = "hw_maxphysaddr_bits"

_COMPARED = re.compile(r"\s*(<=|>=|<|>|!=|==)\s*([0-9]{1,15}(?:\.[0-9]{1,15})*)\s*")
_NUMBER = re.compile(r"[0-9]{1,15}")
_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def key(view: base.View, instance: cloud.Instance, host: cloud.Host) -> Hashable:
    """Return what it asks for and the kind of its host, None when it asks for none of it."""
    properties = view.asks[instance.id].properties
    wishes = tuple(properties.get(name) for name in (*KINDS, VERSION, BITS))
    if not any(wishes):
        return None
    return (wishes, host.hypervisor_type, host.cpu_info.get("arch"))


def about(view: base.View, dest: cloud.Host) -> Hashable:
    """Return kind and version of the hypervisor, and what counts of the CPU."""
    return (
        dest.hypervisor_type,
        dest.hypervisor_version,
        dest.cpu_info.get("arch"),
        _bits(dest),
    )


def refuses(
    view: base.View, instance: cloud.Instance, host: cloud.Host, dest: cloud.Host
) -> str | None:
    """Say which property the host does not suit."""
    properties, name = view.asks[instance.id].properties, dest.service_host
    wish = properties.get(VERSION)
    # As in Nova, what the host does not tell is no reason against it.
    if wish and dest.hypervisor_version and not satisfies(dest.hypervisor_version, wish):
        return f"its image asks for {VERSION}={wish}, {name} has {dest.hypervisor_version}"
    bits, there = properties.get(BITS), _bits(dest)
    if bits and there and (not _NUMBER.fullmatch(bits) or there < int(bits)):
        return f"its image asks for {BITS}={bits}, {name} has {there}"
    for kind in KINDS:
        if properties.get(kind) and (
            dest.hypervisor_type != host.hypervisor_type
            or dest.cpu_info.get("arch") != host.cpu_info.get("arch")
        ):
            return (
                f"its image asks for {kind}={properties[kind]}, and {name} is another kind of "
                f"host than {host.service_host}"
            )
    return None


def satisfies(version: int, wish: str) -> bool:
    """Whether a hypervisor version, as 8002000 for 8.2.0, is one of ``>=8.0, <9``.

    References
    ----------
    oslo.utils ``versionutils.VersionPredicate``.
    """
    parts: tuple[int, ...] = ()
    while version > 0:
        version, part = divmod(version, 1000)
        parts = (part, *parts)
    for text in wish.split(","):
        match = _COMPARED.fullmatch(text)
        if match is None:
            return False
        there, other = list(parts), [int(part) for part in match[2].split(".")]
        length = max(len(there), len(other))
        there += [0] * (length - len(there))
        other += [0] * (length - len(other))
        if not _OPERATORS[match[1]](there, other):
            return False
    return True


def _bits(host: cloud.Host) -> int | None:
    said = host.cpu_info.get("maxphysaddr")
    bits = said.get("bits") if isinstance(said, dict) else None
    return bits if isinstance(bits, int) else None

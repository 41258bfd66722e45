# SPDX-License-Identifier: Apache-2.0
"""What a host must be able to do; each rule returns why it is not, None if nothing forbids it.

References
----------
Nova 34.0, ``scheduler/filters/image_props_filter.py``, ``compute_capabilities_filter.py`` and
``scheduler/request_filter.py`` (``transform_image_metadata``).
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
import operator
import re
from typing import Any

from nova_rebalancer.checker import case
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import isolation
from nova_rebalancer.checker import wants

_IMAGE_TRAITS = {
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS",
    "hw_disk_bus": "COMPUTE_STORAGE_BUS",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL",
    "hw_architecture": "HW_ARCH",
    "hw_emulation_architecture": "COMPUTE_ARCH",
    "hw_viommu_model": "COMPUTE_VIOMMU",
}

_SAME_KIND = ("hw_architecture", "img_hv_type", "hw_vm_mode")

_VERSIONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}


def traits(given: case.Case) -> str | None:
    """Traits that it needs are there, those that it must not have are not."""
    entry, there = given.instance.entry, _traits(given.dest)
    lacking = wants.required_traits(entry) | wants.prefiltered_traits(entry)
    lacking -= there
    if lacking:
        return f'dest "{given.dest.name}" lacks trait {", ".join(sorted(lacking))}'
    unwanted = wants.forbidden_traits(entry) & there
    if unwanted:
        return f'dest "{given.dest.name}" has trait {", ".join(sorted(unwanted))}'
    return None


def image_traits(given: case.Case) -> str | None:
    """Traits that Nova derives from the image, as far as the host it is on has them.

    Nova does so only if it is configured to; that its host lacks one shows that it was not.
    """
    image = wants.properties(given.instance.entry)
    derived = {
        f"{prefix}_{image[key].replace('-', '_').upper()}"
        for key, prefix in _IMAGE_TRAITS.items()
        if key in image
    }
    lacking = derived & _traits(given.home) - _traits(given.dest)
    if lacking:
        return f'dest "{given.dest.name}" lacks trait {", ".join(sorted(lacking))} of its image'
    return None


def image_properties(given: case.Case) -> str | None:
    """ImagePropertiesFilter, as far as Nova's API shows what it looks at."""
    image, dest = wants.properties(given.instance.entry), given.dest
    version, wanted = dest.entry.get("hypervisor_version"), image.get("img_hv_requested_version")
    if wanted and version and not _version_fits(int(version), wanted):
        return f'its image wants hypervisor version {wanted}, dest "{dest.name}" has {version}'
    bits = _member(dest.entry.get("cpu_info", {}), "maxphysaddr", "bits")
    asked = image.get("hw_maxphysaddr_bits")
    if asked and bits and not isolation.matches(str(bits), f">= {asked}"):
        return f'its image wants {asked} address bits, dest "{dest.name}" has {bits}'
    for key in _SAME_KIND:
        if image.get(key) and _kind(given.home) != _kind(dest):
            # What a host supports is not shown; one of the same kind does what its host does.
            return (
                f"its image has {key} {image[key]}; whether dest "
                f'"{dest.name}", another kind of hypervisor, supports that is not known'
            )
    return None


def capabilities(given: case.Case) -> str | None:
    """ComputeCapabilitiesFilter, with what Nova's API shows; what is not known is not there."""
    entry = given.dest.entry
    known = {
        "hypervisor_type": entry.get("hypervisor_type"),
        "hypervisor_version": entry.get("hypervisor_version"),
        "hypervisor_hostname": entry.get("hypervisor_hostname"),
        "cpu_info": entry.get("cpu_info") or None,
        "host": given.dest.name,
        "uuid": given.dest.id,
    }
    wanted = dict(wants.specs(given.instance.entry))
    bits = wanted.pop("hw:maxphysaddr_bits", None)
    if bits is not None:
        wanted["capabilities:cpu_info:maxphysaddr:bits"] = f">= {bits}"
    for key, value in wanted.items():
        steps = key.split(":")
        if len(steps) == 1 and key not in known:
            continue
        if len(steps) > 1 and steps.pop(0) != "capabilities":
            continue
        there = _member(known, *steps)
        if there is None or not isolation.matches(str(there), value):
            return f'wants {key} {value}; of dest "{given.dest.name}" it is {there}'
    return None


def provider_tree(given: case.Case) -> str | None:
    """For each nested provider that it uses, the destination has one like it."""
    present = {one["id"]: one for one in given.home.entry.get("providers", ())}
    for name, amounts in given.instance.entry.get("nested", {}).items():
        if name not in present:
            return f'takes from provider "{name}", which is none of host "{given.home.name}"'
        if not any(
            set(present[name].get("traits", ())) <= set(one.get("traits", ()))
            and all(_offers(one, resource, amount) for resource, amount in amounts.items())
            for one in given.dest.entry.get("providers", ())
        ):
            taken = ", ".join(f"{amount} {resource}" for resource, amount in amounts.items())
            return (
                f'takes {taken} from provider "{present[name]["name"]}"; '
                f'dest "{given.dest.name}" has none like it'
            )
    return None


def _offers(provider: dict[str, Any], resource: str, amount: int) -> bool:
    inventory = provider["inventories"].get(resource)
    return inventory is not None and facts.units(facts.inventory(inventory), amount) is None


def _traits(host: facts.Host) -> set[str]:
    return set(host.entry.get("traits", ()))


def _kind(host: facts.Host) -> tuple[Any, Any]:
    return host.entry.get("hypervisor_type"), host.entry.get("cpu_info", {}).get("arch")


def _member(value: Any, *steps: str) -> Any:
    """Follow ``steps`` into a JSON value, texts that are JSON too; None if there is nothing."""
    for step in steps:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return None
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _version_fits(version: int, wanted: str) -> bool:
    """Whether a version like 6002001 is all that ``wanted``, like ">=6.2,<7", says.

    oslo.utils' VersionPredicate for versions that are numbers; others fit nothing.
    """
    numbers: list[int] = []
    while version > 0:
        version, number = divmod(version, 1000)
        numbers.insert(0, number)
    for part in wanted.split(","):
        match = re.fullmatch(r"\s*(<=|>=|<|>|!=|==)\s*([0-9]+(?:\.[0-9]+)*)\s*", part)
        if match is None:
            return False
        other = [int(number) for number in match[2].split(".")]
        length = max(len(numbers), len(other))
        padded = [one + [0] * (length - len(one)) for one in (numbers, other)]
        if not _VERSIONS[match[1]](*padded):
            return False
    return True

# SPDX-License-Identifier: Apache-2.0
"""What an instance asked for by its flavor's extra specs and its image's properties.

References
----------
Nova 34.0, ``virt/hardware.py`` (which of flavor and image has the say), ``objects/image_meta.py``
(old names of properties), ``scheduler/utils.py`` (``ResourceRequest``) and
``scheduler/request_filter.py`` (what becomes a trait).
"""

import math
import re

from nova_rebalancer.checker import documents

SMALL, LARGE, ANY = -1, -2, -3
"""Page sizes by word; others are KiB."""

_WORDS = {"small": SMALL, "large": LARGE, "any": ANY}

_OLD_NAMES = {
    "architecture": "hw_architecture",
    "hypervisor_type": "img_hv_type",
    "hypervisor_version_requires": "img_hv_requested_version",
    "vm_mode": "hw_vm_mode",
}

_TRAIT = re.compile(r"trait([a-zA-Z0-9_-]{1,64})?:(.*)")
_HYPERTHREADING = re.compile(r"trait([1-9][0-9]*)?:HW_CPU_HYPERTHREADING")
_CPUS = re.compile(r"resources([1-9][0-9]*)?:(VCPU|PCPU)")
_SIZE = re.compile(r"([-+]?\d*\.?\d+)([KMGTPEZYRQ]i?)?(b|bit|B)")


def true(text: str | None) -> bool:
    """Whether a text means yes, as oslo.utils reads it."""
    return text is not None and text.strip().lower() in ("1", "t", "true", "on", "y", "yes")


def specs(entry: documents.Document) -> dict[str, str]:
    """Return the extra specs of its flavor."""
    found: dict[str, str] = entry.get("extra_specs", {})
    return found


def properties(entry: documents.Document) -> dict[str, str]:
    """Return the properties of its image under their present names."""
    image = entry.get("image") or {"properties": {}}
    return {_OLD_NAMES.get(key, key): value for key, value in image["properties"].items()}


def either(entry: documents.Document, key: str, prefix: str = "hw") -> str | None:
    """Return what the flavor (hw:key) or else the image (hw_key) says."""
    return specs(entry).get(f"{prefix}:{key}") or properties(entry).get(f"{prefix}_{key}")


def cpu_policy(entry: documents.Document) -> str | None:
    """Return dedicated, mixed, shared or None."""
    for key, amount in specs(entry).items():
        if (match := _CPUS.match(key)) and re.fullmatch(r"0*[1-9][0-9]*", amount.strip()):
            return "dedicated" if match[2] == "PCPU" else "shared"
    return either(entry, "cpu_policy")


def thread_policy(entry: documents.Document) -> str | None:
    """Return require, isolate, prefer or None; the hyperthreading trait is a policy too."""
    trait = next((v for k, v in specs(entry).items() if _HYPERTHREADING.match(k)), None)
    if trait is None and "HW_CPU_HYPERTHREADING" in _image_traits(entry):
        trait = "required"
    named = _named_thread_policy(entry)
    return {"required": "require", "forbidden": "isolate"}.get(trait or "", named)


def page_size(entry: documents.Document) -> int | None:
    """Return the page size asked for: SMALL, LARGE, ANY or KiB; None if none is.

    Raises
    ------
    ValueError
        If it is no size.
    """
    flavor, image = (
        specs(entry).get("hw:mem_page_size"),
        properties(entry).get("hw_mem_page_size"),
    )
    if not flavor:
        return None
    size = _size(flavor)
    if image and size in (ANY, LARGE):
        size = _size(image)
    return size or None


def isolates_emulator(entry: documents.Document) -> bool:
    """Whether its emulator threads have a CPU of their own, which Nova's API does not show."""
    return specs(entry).get("hw:emulator_threads_policy") == "isolate"


def required_traits(entry: documents.Document) -> set[str]:
    """Return the traits of the resource request, those that aggregates isolated by trait see."""
    found = _image_traits(entry) | _traits(entry, "required")
    if _named_thread_policy(entry) == "require":
        found.add("HW_CPU_HYPERTHREADING")
    version = either(entry, "tpm_version")
    if version:
        crb = either(entry, "tpm_model") == "tpm-crb"
        found.add("COMPUTE_SECURITY_TPM_CRB" if crb else "COMPUTE_SECURITY_TPM_TIS")
        found.add(f"COMPUTE_SECURITY_TPM_{version.replace('.', '_')}")
    if either(entry, "secure_boot", "os") == "required":
        found.add("COMPUTE_SECURITY_UEFI_SECURE_BOOT")
    addresses = {"passthrough": "PASSTHROUGH", "emulate": "EMULATED"}.get(
        either(entry, "maxphysaddr_mode") or ""
    )
    if addresses:
        found.add(f"COMPUTE_ADDRESS_SPACE_{addresses}")
    image = properties(entry)
    if image.get("hw_firmware_type") == "uefi" and true(image.get("hw_firmware_stateless")):
        found.add("COMPUTE_SECURITY_STATELESS_FIRMWARE")
    if either(entry, "pci_numa_affinity_policy") == "socket":
        found.add("COMPUTE_SOCKET_PCI_NUMA_AFFINITY")
    return found


def prefiltered_traits(entry: documents.Document) -> set[str]:
    """Return the traits that filters before Placement is asked require of the host itself."""
    found = set()
    if true(either(entry, "virtio_packed_ring")):
        found.add("COMPUTE_NET_VIRTIO_PACKED")
    if true(either(entry, "ephemeral_encryption")):
        found.add("COMPUTE_EPHEMERAL_ENCRYPTION")
        form = either(entry, "ephemeral_encryption_format")
        if form:
            found.add(f"COMPUTE_EPHEMERAL_ENCRYPTION_{form.upper()}")
    if either(entry, "sound_model") == "virtio":
        found.add("COMPUTE_SOUND_MODEL_VIRTIO")
    if either(entry, "tpm_version"):
        keeper = specs(entry).get("hw:tpm_secret_security") or "user"
        found.add(f"COMPUTE_SECURITY_TPM_SECRET_SECURITY_{keeper.upper()}")
    return found


def forbidden_traits(entry: documents.Document) -> set[str]:
    """Return the traits that its host must not have."""
    found = _traits(entry, "forbidden")
    if _named_thread_policy(entry) == "isolate":
        found.add("HW_CPU_HYPERTHREADING")
    return found


def _traits(entry: documents.Document, how: str) -> set[str]:
    matches = [_TRAIT.fullmatch(key) for key, value in specs(entry).items() if value == how]
    return {match[2] for match in matches if match}


def _image_traits(entry: documents.Document) -> set[str]:
    image = properties(entry)
    found = set(re.findall(r"[A-Z][A-Z0-9_]*", image.get("traits_required", "")))
    for key, value in image.items():
        if key.startswith("trait:") and value == "required":
            found.add(key.removeprefix("trait:"))
    return found


def _named_thread_policy(entry: documents.Document) -> str | None:
    flavor = specs(entry).get("hw:cpu_thread_policy")
    if flavor in (None, "prefer"):
        return flavor or properties(entry).get("hw_cpu_thread_policy")
    return flavor


def _size(text: str) -> int:
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no page size')
    power = "KMGTPEZYRQ".index(match[2][0]) + 1 if match[2] else 0
    size = float(match[1]) / (1 if match[3] == "B" else 8) * 1024**power
    return int(math.ceil(size) / 1024)

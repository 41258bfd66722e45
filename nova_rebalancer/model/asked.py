# SPDX-License-Identifier: Apache-2.0
"""What an instance was made to ask for: its flavor's extra specs and its image's properties.

Nova keeps both with the instance and judges every destination by them again.
"""

from collections.abc import Mapping
import functools
import math
import re

from nova_rebalancer.model import cloud

HYPERTHREADING = "HW_CPU_HYPERTHREADING"

SMALL, LARGE, ANY = -1, -2, -3
"""Page sizes that are asked for by a word, as Nova counts them."""

_TRAIT = re.compile(r"trait([a-zA-Z0-9_-]{1,64})?:(.+)")
_NAME = re.compile(r"[A-Z][A-Z0-9_]+")
_PCPU = re.compile(r"resources([a-zA-Z0-9_-]{1,64})?:PCPU")
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)(?:([KMGT])i?)?(b|bit|B)")

# Image property to the prefix of the trait that stands for its value.
_IMAGE_TRAITS = {
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS",
    "hw_disk_bus": "COMPUTE_STORAGE_BUS",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL",
    "hw_architecture": "HW_ARCH",
    "hw_emulation_architecture": "COMPUTE_ARCH",
    "hw_viommu_model": "COMPUTE_VIOMMU",
}


# Names that Nova still understands in an image (``objects/image_meta.py``).
_LEGACY = {
    "architecture": "hw_architecture",
    "hypervisor_type": "img_hv_type",
    "hypervisor_version_requires": "img_hv_requested_version",
    "vm_mode": "hw_vm_mode",
}


class Asked:
    """The extra specs and image properties of instances that ask for the same; by identity.

    References
    ----------
    nova ``scheduler/utils.py``, ``ResourceRequest``; ``virt/hardware.py``,
    ``numa_get_constraints`` and what it calls; ``scheduler/request_filter.py``.
    """

    def __init__(self, specs: Mapping[str, str], properties: Mapping[str, str]) -> None:
        self.specs = specs
        self.properties = {_LEGACY.get(name, name): value for name, value in properties.items()}

    def either(self, key: str, prefix: str = "hw") -> str | None:
        """Return the value of ``prefix:key`` of the flavor, else ``prefix_key`` of the image."""
        return self.specs.get(f"{prefix}:{key}") or self.properties.get(f"{prefix}_{key}")

    def true(self, key: str) -> bool:
        """Whether ``hw:key`` of the flavor or ``hw_key`` of the image is true."""
        values = (self.specs.get(f"hw:{key}"), self.properties.get(f"hw_{key}"))
        return any(value is not None and is_true(value) for value in values)

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """Traits that a host must have."""
        found = self._traits("required")
        found |= {
            name.partition(":")[2]
            for name, value in self.properties.items()
            if name.startswith("trait:") and value == "required"
        }
        found |= set(_NAME.findall(self.properties.get("traits_required", "")))
        if self.either("cpu_thread_policy") == "require":
            found.add(HYPERTHREADING)
        version = self.either("tpm_version")
        if version:
            found.add(f"COMPUTE_SECURITY_TPM_{version.replace('.', '_')}")
            crb = self.either("tpm_model") == "tpm-crb"
            found.add("COMPUTE_SECURITY_TPM_CRB" if crb else "COMPUTE_SECURITY_TPM_TIS")
            secret = self.specs.get("hw:tpm_secret_security")
            if secret:
                found.add(f"COMPUTE_SECURITY_TPM_SECRET_SECURITY_{secret.upper()}")
        if self.either("secure_boot", "os") == "required":
            found.add("COMPUTE_SECURITY_UEFI_SECURE_BOOT")
        mode = self.either("maxphysaddr_mode")
        if mode in ("passthrough", "emulate"):
            end = "PASSTHROUGH" if mode == "passthrough" else "EMULATED"
            found.add(f"COMPUTE_ADDRESS_SPACE_{end}")
        if self.true("virtio_packed_ring"):
            found.add("COMPUTE_NET_VIRTIO_PACKED")
        uefi = self.properties.get("hw_firmware_type") == "uefi"
        if uefi and is_true(self.properties.get("hw_firmware_stateless", "")):
            found.add("COMPUTE_SECURITY_STATELESS_FIRMWARE")
        if self.either("pci_numa_affinity_policy") == "socket":
            found.add("COMPUTE_SOCKET_PCI_NUMA_AFFINITY")
        if self.true("ephemeral_encryption"):
            form = self.either("ephemeral_encryption_format")
            found.add("COMPUTE_EPHEMERAL_ENCRYPTION")
            if form:
                found.add(f"COMPUTE_EPHEMERAL_ENCRYPTION_{form.upper()}")
        if self.either("sound_model") == "virtio":
            found.add("COMPUTE_SOUND_MODEL_VIRTIO")
        return frozenset(found)

    @functools.cached_property
    def forbidden(self) -> frozenset[str]:
        """Traits that a host must not have."""
        found = self._traits("forbidden")
        if self.either("cpu_thread_policy") == "isolate":
            found.add(HYPERTHREADING)
        return frozenset(found)

    def _traits(self, value: str) -> set[str]:
        return {
            match[2]
            for name, said in self.specs.items()
            if said == value and (match := _TRAIT.fullmatch(name))
        }

    @functools.cached_property
    def image_traits(self) -> frozenset[str]:
        """Traits that stand for image properties; Nova may be told to require them."""
        return frozenset(
            f"{prefix}_{self.properties[name].replace('-', '_').upper()}"
            for name, prefix in _IMAGE_TRAITS.items()
            if self.properties.get(name)
        )

    @functools.cached_property
    def cpu_policy(self) -> str:
        """How its CPUs are: shared, dedicated or mixed."""
        if any(_PCPU.fullmatch(name) for name in self.specs):
            return "dedicated"
        policy = self.either("cpu_policy")
        return policy if policy in ("dedicated", "mixed") else "shared"

    @functools.cached_property
    def thread_policy(self) -> str:
        """How pinned CPUs are put on threads of a core: prefer, isolate or require."""
        for name, said in self.specs.items():
            match = _TRAIT.fullmatch(name)
            if match and match[2] == HYPERTHREADING:
                return "isolate" if said == "forbidden" else "require"
        if self.properties.get(f"trait:{HYPERTHREADING}") == "required":
            return "require"
        policy = self.either("cpu_thread_policy")
        return policy if policy in ("isolate", "require") else "prefer"

    @functools.cached_property
    def emulator_isolated(self) -> bool:
        """Whether its emulator threads have a CPU of their own, which the API does not show."""
        policy = self.specs.get("hw:emulator_threads_policy")
        return policy == "isolate" and self.cpu_policy != "shared"

    @functools.cached_property
    def page_size(self) -> int | None:
        """Page size it asks for in KiB, or SMALL, LARGE, ANY; None when it asks for none."""
        said = self.specs.get("hw:mem_page_size")
        if not said:
            return None
        size = _page_size(said)
        image = self.properties.get("hw_mem_page_size")
        return _page_size(image) if image and size in (LARGE, ANY) else size


NOTHING = Asked({}, {})
"""What an instance asks for that asks for nothing."""


def of(instances: tuple[cloud.Instance, ...]) -> list[Asked]:
    """Return what each instance asks for; the same object where it is the same."""
    known: dict[tuple[frozenset[tuple[str, str]], ...], Asked] = {}
    found = []
    for one in instances:
        properties: Mapping[str, str] = {} if one.image is None else one.image.properties
        if not one.extra_specs and not properties:
            found.append(NOTHING)
            continue
        key = (frozenset(one.extra_specs.items()), frozenset(properties.items()))
        if key not in known:
            known[key] = Asked(one.extra_specs, properties)
        found.append(known[key])
    return found


def is_true(text: str) -> bool:
    """Whether OpenStack takes a text for true (oslo.utils ``bool_from_string``)."""
    return text.strip().lower() in ("1", "t", "true", "on", "y", "yes")


def _page_size(text: str) -> int:
    """Return a page size in KiB as Nova reads it; bytes with a unit, else KiB."""
    words = {"small": SMALL, "large": LARGE, "any": ANY}
    if text in words:
        return words[text]
    if text.isdigit():
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        return 0
    size = float(match[1]) * 1024.0 ** " KMGT".index(match[2] or " ")
    return math.ceil(size if match[3] == "B" else size / 8) // 1024

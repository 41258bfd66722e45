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
_PCPU = re.compile(r"resources([1-9][0-9]*)?:PCPU")
_THREADS = re.compile(rf"trait([1-9][0-9]*)?:{HYPERTHREADING}")
_NUMBER = re.compile(r"[0-9]{1,15}")
_SIZE = re.compile(r"([0-9]{0,15}\.?[0-9]{1,15})(?:([KMGT])i?)?(b|bit|B)")

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


# How Nova types some image properties (``objects/image_meta.py``).
_BOOLEANS = frozenset(
    (
        "hw_boot_menu",
        "hw_ephemeral_encryption",
        "hw_firmware_stateless",
        "hw_ipxe_boot",
        "hw_locked_memory",
        "hw_mem_encryption",
        "hw_pmu",
        "hw_qemu_guest_agent",
        "hw_time_hpet",
        "hw_vif_multiqueue_enabled",
        "hw_virtio_packed_ring",
        "img_bdm_v2",
        "img_bittorrent",
        "img_cache_in_nova",
        "img_hide_hypervisor_id",
        "img_linked_clone",
        "img_use_agent",
        "os_require_quiesce",
        "os_skip_agent_inject_files_at_boot",
        "os_skip_agent_inject_ssh",
    )
)
_OTHER_NAMES = {
    "hw_architecture": {
        "amd64": "x86_64",
        **dict.fromkeys(("i386", "i486", "i586", "x86_32", "x86_32p"), "i686"),
    },
    "hw_vm_mode": {"pv": "xen", "hv": "hvm", "baremetal": "hvm"},
    "img_hv_type": {"xapi": "xen"},
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
        # Where an image has both names of a property, the new one counts.
        old = {_LEGACY[name]: value for name, value in properties.items() if name in _LEGACY}
        new = {name: value for name, value in properties.items() if name not in _LEGACY}
        self.properties = {**old, **new}

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
        return self.requested | self._filtered()

    def _filtered(self) -> set[str]:
        """Traits that Nova's request filters add."""
        found = set()
        if self.true("virtio_packed_ring"):
            found.add("COMPUTE_NET_VIRTIO_PACKED")
        if self.true("ephemeral_encryption"):
            form = self.either("ephemeral_encryption_format")
            found.add("COMPUTE_EPHEMERAL_ENCRYPTION")
            if form:
                found.add(f"COMPUTE_EPHEMERAL_ENCRYPTION_{form.upper()}")
        if self.either("sound_model") == "virtio":
            found.add("COMPUTE_SOUND_MODEL_VIRTIO")
        if self.either("tpm_version"):
            secret = self.specs.get("hw:tpm_secret_security") or "user"
            found.add(f"COMPUTE_SECURITY_TPM_SECRET_SECURITY_{secret.upper()}")
        return found

    @functools.cached_property
    def requested(self) -> frozenset[str]:
        """Traits that flavor and image require by themselves."""
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
        if self.either("secure_boot", "os") == "required":
            found.add("COMPUTE_SECURITY_UEFI_SECURE_BOOT")
        mode = self.either("maxphysaddr_mode")
        if mode in ("passthrough", "emulate"):
            end = "PASSTHROUGH" if mode == "passthrough" else "EMULATED"
            found.add(f"COMPUTE_ADDRESS_SPACE_{end}")
        uefi = self.properties.get("hw_firmware_type") == "uefi"
        if uefi and is_true(self.properties.get("hw_firmware_stateless", "")):
            found.add("COMPUTE_SECURITY_STATELESS_FIRMWARE")
        if self.either("pci_numa_affinity_policy") == "socket":
            found.add("COMPUTE_SOCKET_PCI_NUMA_AFFINITY")
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
            f"{prefix}_{as_nova(name, self.properties[name]).replace('-', '_').upper()}"
            for name, prefix in _IMAGE_TRAITS.items()
            if self.properties.get(name)
        )

    @functools.cached_property
    def cpu_policy(self) -> str:
        """How its CPUs are: shared, dedicated or mixed."""
        pinned = [value for name, value in self.specs.items() if _PCPU.fullmatch(name)]
        if any(value.strip("0 ") for value in pinned):
            return "dedicated"
        policy = self.either("cpu_policy")
        return policy if policy in ("dedicated", "mixed") else "shared"

    @functools.cached_property
    def thread_policy(self) -> str:
        """How pinned CPUs are put on threads of a core: prefer, isolate or require."""
        for name, said in self.specs.items():
            if _THREADS.fullmatch(name):
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


def as_nova(name: str, value: str) -> str:
    """Return an image property as Nova has it: typed, and written as text again."""
    if name in _BOOLEANS:
        return str(is_true(value))
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name].get(value.lower(), value.lower())
    return str(int(value)) if _NUMBER.fullmatch(value) else value


def is_true(text: str) -> bool:
    """Whether OpenStack takes a text for true (oslo.utils ``bool_from_string``)."""
    return text.strip().lower() in ("1", "t", "true", "on", "y", "yes")


def _page_size(text: str) -> int:
    """Return a page size in KiB as Nova reads it; bytes with a unit, else KiB."""
    words = {"small": SMALL, "large": LARGE, "any": ANY}
    if text in words:
        return words[text]
    if _NUMBER.fullmatch(text):
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        return 0
    size = float(match[1]) * 1024.0 ** " KMGT".index(match[2] or " ")
    return math.ceil(size if match[3] == "B" else size / 8) // 1024

# SPDX-License-Identifier: Apache-2.0
"""Why: a code for programs, parameters, and one sentence for people."""

from collections.abc import Mapping
import dataclasses

CODES: Mapping[str, str] = {
    "improves_goal": "The plan as a whole lowers the goal and this migration is part of it.",
    "leads_to_target": "The target has the instance there.",
    "makes_room": "A bypass: the instance waits elsewhere until its place is free.",
    "opted_out": "The owner or operator does not allow its migration.",
    "out_of_scope": "The scope of the plan leaves it out.",
    "host_not_usable": "It is on a host that is disabled, down or was not read whole.",
    "status": "Nova migrates live only what is ACTIVE or PAUSED.",
    "task_state": "Nova is doing something with it.",
    "locked": "It is locked.",
    "migrating": "It is being migrated already.",
    "no_allocations": "Placement charges nothing for it on its host, so its size is not known.",
    "special_ports": "It has ports that are devices of its host, such as SR-IOV ones.",
    "nested_resources": "It uses devices that are resource providers of their own.",
    "not_opted_in": "Only what asks for it is moved, and it does not.",
    "learnt": "A migration of it failed in a way that would come again, some days ago at most.",
    "cooldown": "It was migrated a short time ago.",
    "power_state": "Nova migrates live only what runs or is paused.",
    "encrypted_memory": "Its memory is encrypted.",
    "vtpm": "It has a virtual TPM whose secret other hosts cannot read.",
    "accelerator": "It uses an accelerator.",
    "persistent_memory": "It uses persistent memory of its host.",
    "pci_devices": "It has PCI devices of its host.",
    "scheduler_hints": "It was made with a scheduler hint that names others or hosts.",
    "numa_unknown": "Not all is known that Nova would place its NUMA cells by.",
    "no_host": "The rules leave it no host but its own.",
    "check": "A check that the operator chose keeps it; ``params.check`` names the check.",
    "affinity": "Moving it alone would split its affinity group.",
    "not_allowed": "A rule keeps it off the host it was meant for.",
    "no_room": "No order of migrations was found that makes room for it.",
    "no_path": "It is proved that no order of migrations leads to the target.",
    "max_migrations": "The limit on migrations does not allow it.",
}
"""Every code a document of this version can hold, and what it means."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """One answer to "why?"; ``code`` is a key of CODES."""

    code: str
    params: Mapping[str, str | int | float | None]
    text: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unknown reason code {self.code!r}")

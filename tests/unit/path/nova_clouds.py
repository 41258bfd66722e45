# SPDX-License-Identifier: Apache-2.0
"""Small random clouds whose NUMA cells Nova chooses, as snapshot documents.

Instances are on cells and CPUs that have room for them, but not on those that Nova would choose
now: others came and went before.
"""

import random
from typing import Any

from tests import clouds

SMALL_KIB, LARGE_KIB = 4, 2048
CELL_MIB = 8192

KINDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("shared", {}),
    ("shared", {"hw:mem_page_size": "small"}),
    ("shared", {"hw:mem_page_size": "large"}),
    ("dedicated", {}),
    ("dedicated", {}),
    ("dedicated", {"hw:mem_page_size": "2048"}),
    ("dedicated", {"hw:mem_page_size": "any"}),
    ("dedicated", {"hw:cpu_thread_policy": "require"}),
    ("dedicated", {"hw:cpu_thread_policy": "isolate"}),
    ("mixed", {}),
)
"""CPU policies, and extra specs beside them."""

LARGE = ("large", "2048", "any")
"""What an instance in large pages may have asked for."""


class Draw:
    """One cloud; uniform numbers from a seed, so that most of them have room for migrations."""

    def __init__(self, seed: int, hosts: int, instances: int) -> None:
        self._random = random.Random(seed)
        self._cells: dict[str, list[dict[str, Any]]] = {}
        self._rooms: dict[str, dict[str, int]] = {}
        self.hosts = [self._host(f"h{h}") for h in range(hosts)]
        drawn = [self._instance(f"i{v}") for v in range(instances)]
        self.instances = [one for one in drawn if one is not None]

    def document(self) -> clouds.Document:
        """Return the snapshot document."""
        made = clouds.snapshot(self.hosts, self.instances, numa_choice="nova")
        names = [one["id"] for one in self.instances]
        if len(names) > 2 and self._seldom(0.3):
            members = self._random.sample(names, 3)
            made["server_groups"] = [{"id": "g", "policy": "anti-affinity", "members": members}]
        if names and self._seldom(0.1):
            running = self._random.choice(self.instances)
            dest = self._random.choice(self.hosts)["id"]
            made["running_migrations"] = [
                {"instance": running["id"], "source": running["host"], "dest": dest}
            ]
        return made

    def _seldom(self, share: float) -> bool:
        return self._random.random() < share

    def _host(self, name: str) -> clouds.Document:
        """A host of two or three cells with CPUs of both kinds and pages of two sizes."""
        threads = self._random.choice([1, 2])
        cores = self._random.randint(3, 5)
        ratio = self._random.choice([1.0, 2.0])
        cells = []
        for n in range(self._random.choice([2, 2, 3])):
            first = n * cores * threads
            siblings = [
                list(range(first + core * threads, first + (core + 1) * threads))
                for core in range(cores)
            ]
            shared, dedicated = siblings[0], [cpu for core in siblings[1:] for cpu in core]
            large_mib = self._random.choice([0, 2048, 4096])
            pages = {SMALL_KIB: (CELL_MIB - large_mib) * 1024 // SMALL_KIB}
            pages[LARGE_KIB] = large_mib * 1024 // LARGE_KIB
            capacity = {
                "VCPU": int(len(shared) * ratio),
                "PCPU": len(dedicated),
                "MEMORY_MB": CELL_MIB,
                f"HUGEPAGES_{LARGE_KIB}KB": pages[LARGE_KIB],
            }
            detail = {
                "shared_cpus": shared,
                "dedicated_cpus": dedicated,
                "siblings": siblings,
                "memory_mib": CELL_MIB,
                "pages": {str(kib): count for kib, count in pages.items()},
                "pci_devices": self._random.choice([0, 0, 0, 1]),
            }
            # Hosts do not number their cells as we do.
            cells.append({"id": 2 * n + 1, "capacity": capacity, "detail": detail})
        self._cells[name] = [
            {
                "id": cell["id"],
                "threads": threads,
                "vcpus": cell["capacity"]["VCPU"],
                "most": len(cell["detail"]["shared_cpus"]),
                "cpus": cell["detail"]["siblings"][1:],
                "taken": set(),
                "pages": {int(k): n for k, n in cell["detail"]["pages"].items()},
            }
            for cell in cells
        ]
        inventories = {
            "VCPU": {
                "total": sum(len(cell["detail"]["shared_cpus"]) for cell in cells),
                "allocation_ratio": ratio,
            },
            "PCPU": {"total": sum(cell["capacity"]["PCPU"] for cell in cells)},
            "MEMORY_MB": {"total": CELL_MIB * len(cells)},
        }
        self._rooms[name] = {
            "VCPU": sum(cell["capacity"]["VCPU"] for cell in cells),
            "PCPU": inventories["PCPU"]["total"],
            "MEMORY_MB": inventories["MEMORY_MB"]["total"],
        }
        provenance = "inferred" if self._seldom(0.05) else "operator"
        return {
            "id": name,
            "inventories": inventories,
            "traits": ["HW_CPU_HYPERTHREADING"] if threads > 1 else [],
            "numa": {"provenance": provenance, "cells": cells},
        }

    def _instance(self, name: str) -> clouds.Document | None:
        """An instance where there is room for it, None if there is none."""
        policy, specs = self._random.choice(KINDS)
        guests = self._random.choice([1, 1, 1, 2])
        cpus = self._random.choice([1, 2, 2, 3]) if policy != "mixed" else 2
        mib = self._random.choice([512, 1024])
        pinned = {"shared": 0, "dedicated": cpus, "mixed": 1}[policy]
        threads = specs.get("hw:cpu_thread_policy", "prefer")
        plain = self._seldom(0.15)
        taken = {"VCPU": (cpus - pinned) * guests, "PCPU": pinned * guests, "MEMORY_MB": 0}
        if plain:
            policy, specs, taken = "shared", {}, {"VCPU": cpus, "PCPU": 0}
        taken["MEMORY_MB"] = mib * guests
        hosts = list(self._cells)
        self._random.shuffle(hosts)
        for on in hosts:
            room = self._rooms[on]
            if any(amount > room[resource] for resource, amount in taken.items()):
                continue
            found: list[clouds.Document] | None = []
            size = None
            if not plain:
                size = self._page_size(specs.get("hw:mem_page_size"))
                found = self._place(on, guests, (cpus - pinned, pinned, mib), threads, size)
            if found is None:
                continue
            for resource, amount in taken.items():
                room[resource] -= amount
            made: clouds.Document = {
                "id": name,
                "host": on,
                "allocations": {r: amount for r, amount in taken.items() if amount},
            }
            if not plain:
                asked = {} if policy == "shared" else {"hw:cpu_policy": policy}
                made |= {
                    "numa": found,
                    "numa_pagesize_kib": size,
                    "extra_specs": asked | specs,
                }
            if self._seldom(0.08):
                made["locked"] = True
            return made
        return None

    def _page_size(self, asked: str | None) -> int | None:
        if asked is None:
            return None
        return SMALL_KIB if asked == "small" else LARGE_KIB

    def _place(
        self, on: str, guests: int, amounts: tuple[int, int, int], threads: str, size: int | None
    ) -> list[clouds.Document] | None:
        """Guest cells on cells drawn among those with room, None if they are too few."""
        vcpus, pinned, mib = amounts
        cells = self._cells[on]
        if (threads, cells[0]["threads"]) in (("require", 1), ("isolate", 2)):
            return None
        kib = size or SMALL_KIB
        chosen = []
        for cell in self._random.sample(cells, len(cells)):
            free = [[cpu for cpu in core if cpu not in cell["taken"]] for core in cell["cpus"]]
            if threads == "require":
                free = [core for core in free if len(core) > 1]
            self._random.shuffle(free)
            pins = [cpu for core in free for cpu in core][:pinned]
            fits = vcpus <= min(cell["vcpus"], cell["most"]) and len(pins) == pinned
            if fits and mib * 1024 // kib <= cell["pages"][kib]:
                chosen.append((cell, pins))
        if len(chosen) < guests:
            return None
        found = []
        for cell, pins in chosen[:guests]:
            cell["vcpus"] -= vcpus
            cell["taken"].update(pins)
            cell["pages"][kib] -= mib * 1024 // kib
            resources = {"VCPU": vcpus, "PCPU": pinned, "MEMORY_MB": mib}
            if kib == LARGE_KIB:
                resources[f"HUGEPAGES_{kib}KB"] = mib * 1024 // kib
            found.append(
                {
                    "cell": cell["id"],
                    "resources": {name: amount for name, amount in resources.items() if amount},
                    "pinned": sorted(pins),
                }
            )
        return found

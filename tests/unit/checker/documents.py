# SPDX-License-Identifier: Apache-2.0
"""Small clouds and plans as documents, written out by hand."""

import copy
import hashlib
import json
from typing import Any

from nova_rebalancer import checker

Document = dict[str, Any]


def host(name: str, cores: int = 16, **more: Any) -> Document:
    """Return a host with ``cores`` VCPU and memory to spare."""
    inventories = {"VCPU": {"total": cores}, "MEMORY_MB": {"total": 1 << 20}}
    return {"id": name, "inventories": inventories, **more}


def instance(name: str, on: str, cores: int = 4, **more: Any) -> Document:
    """Return an instance without NUMA topology."""
    return {"id": name, "host": on, "allocations": {"VCPU": cores, "MEMORY_MB": 1024}, **more}


def numa_host(name: str, cores: int = 16, **more: Any) -> Document:
    """Return a host with two cells of half of ``cores`` each."""
    cells = [{"id": cell, "capacity": {"VCPU": cores // 2}} for cell in (0, 1)]
    return host(name, cores, numa={"provenance": "api", "cells": cells}, **more)


def numa_instance(name: str, on: str, cells: list[int | None], cores: int, **more: Any) -> Document:
    """Return an instance whose guest cells share ``cores`` equally."""
    guests = [{"cell": cell, "resources": {"VCPU": cores // len(cells)}} for cell in cells]
    return instance(name, on, cores, numa=guests, **more)


def snapshot(hosts: list[Document], instances: list[Document], **more: Any) -> Document:
    """Return a snapshot document."""
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "test",
        "taken_at": "2026-01-01T00:00:00Z",
        "numa_choice": "planner",
        "hosts": hosts,
        "instances": instances,
        **more,
    }


def migration(
    name: str, of: str, source: str, dest: str, after: tuple[str, ...] = (), **more: Any
) -> Document:
    """Return a direct migration in wave 1 + (number of dependencies)."""
    wave = 1 + len(after)
    return {
        "id": name,
        "instance": of,
        "source": source,
        "dest": dest,
        "source_numa": None,
        "dest_numa": None,
        "role": "direct",
        "method": "live",
        "wave": wave,
        "depends_on": list(after),
        "start_s": 10.0 * (wave - 1),
        "end_s": 10.0 * wave,
        "memory_mib": 1024,
        "reason": {"code": "improves_goal", "params": {}, "text": "it gains"},
        **more,
    }


def plan(
    of: Document, migrations: list[Document], before: float = 0.0, after: float = 0.0, **more: Any
) -> Document:
    """Return a plan for the snapshot ``of`` that states the rates ``before`` and ``after``."""
    return {
        "format": "nova-rebalancer-plan/1",
        "id": "9a0f2f0e-0000-4000-8000-000000000000",
        "cloud": of["cloud"],
        "region": of.get("region"),
        "snapshot_sha256": hashlib.sha256(as_bytes(of)).hexdigest(),
        "snapshot_taken_at": of["taken_at"],
        "created_at": "2026-01-01T00:01:00Z",
        "expires_at": "2026-01-01T01:01:00Z",
        "tool": {"nova-rebalancer": "0.1"},
        "options": {"fragment_cores": 16},
        "goal": "fragmentation",
        "planner": "greedy",
        "seed": 0,
        "max_migrations": 50,
        "status": "feasible",
        "runtime_s": 0.5,
        "numa_choice": of["numa_choice"],
        "objective": {
            "name": "fragmentation",
            "before": before,
            "after": after,
            "bound": None,
            "gap": None,
        },
        "objectives": [],
        "migrations": migrations,
        "unreachable": [],
        "excluded": [],
        **more,
    }


def as_bytes(document: Document) -> bytes:
    """Return the document as it lies in a file."""
    return json.dumps(document).encode()


def verdict(of: Document, made: Document) -> checker.Verdict:
    """Check ``made`` on the snapshot ``of``."""
    return checker.check(as_bytes(of), as_bytes(made))


def changed(document: Document, *path: str | int, to: Any) -> Document:
    """Return a copy of ``document`` with another value at ``path``."""
    result: Any = copy.deepcopy(document)
    place = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return result  # type: ignore[no-any-return]

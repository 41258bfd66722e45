# SPDX-License-Identifier: Apache-2.0
"""The mixed clouds of the benchmarks: sound documents in which every rule finds something."""

import collections
import importlib.util
import pathlib

import pytest

from nova_rebalancer.collect import document
from nova_rebalancer.model import state

PATH = pathlib.Path(__file__).parents[2] / "benchmarks" / "mixed_clouds.py"


@pytest.fixture(scope="module")
def mixed():
    """The generator, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("mixed_clouds", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[0, 1, 2])
def made(mixed, request):
    """A small cloud: its cells known, not known, known in part."""
    return mixed.cloud(request.param, 40, 600)


def test_repeats(mixed):
    """The same seed and sizes give the same document."""
    assert mixed.cloud(3, 20, 200) == mixed.cloud(3, 20, 200)
    assert mixed.cloud(3, 20, 200) != mixed.cloud(4, 20, 200)


def test_sound(made):
    """It is a snapshot document of the size that was asked for, and nothing in it is overfull."""
    assert document.problems(made) == []
    assert (len(made["hosts"]), len(made["instances"])) == (40, 600)
    assert state.build(document.snapshot(made, "mixed")).overfull() == []


def test_pinned_cpus_are_apart(made):
    """Pinned CPUs are dedicated ones of the guest's host cell, each taken once."""
    detail = {
        (host["id"], cell["id"]): cell["detail"]
        for host in made["hosts"]
        for cell in (host["numa"] or {"cells": []})["cells"]
        if cell.get("detail")
    }
    pins = collections.Counter()
    for instance in made["instances"]:
        for guest in instance["numa"] or ():
            where = instance["host"], guest["cell"]
            if where in detail and guest["pinned"] is not None:
                assert set(guest["pinned"]) <= set(detail[where]["dedicated_cpus"])
                pins.update((instance["host"], cpu) for cpu in guest["pinned"])
    assert pins and max(pins.values()) == 1


def test_pages_are_there(made):
    """Guests of a host cell use no more pages of a size than it has, and all of their memory."""
    used = collections.Counter()
    for instance in made["instances"]:
        size = instance["numa_pagesize_kib"]
        for guest in instance["numa"] or () if size else ():
            pages = guest["resources"]["MEMORY_MB"] * 1024 // size
            assert size == 4 or guest["resources"][f"HUGEPAGES_{size}KB"] == pages
            used[instance["host"], guest["cell"], size] += pages
    for host in made["hosts"]:
        for cell in (host["numa"] or {"cells": []})["cells"]:
            for size, count in (cell.get("detail") or {"pages": {}})["pages"].items():
                assert used[host["id"], cell["id"], int(size)] <= count


def test_most_instances_are_plain(made):
    """Most instances have no topology, ask for nothing special and are in no group."""
    grouped = {member for group in made["server_groups"] for member in group["members"]}
    plain = [
        one
        for one in made["instances"]
        if one["numa"] is None and one["status"] == "ACTIVE" and one["id"] not in grouped
    ]
    assert len(plain) > 0.6 * len(made["instances"])

# SPDX-License-Identifier: Apache-2.0
"""Where Nova chooses NUMA cells, a plan says which, and keeps the order that they depend on."""

from typing import Any

import pytest

from tests.unit.checker import documents

PINNED = {"hw:cpu_policy": "dedicated"}


def host(name: str, **more: Any) -> documents.Document:
    """Two cells of two shared CPUs and two cores of two dedicated ones, 3 GiB small, 1 GiB large.

    Cell 0 has the CPUs 0-1 and 2-5, cell 1 has 6-7 and 8-11.
    """
    cells = [
        {
            "id": number,
            "capacity": {"VCPU": 2, "PCPU": 4, "MEMORY_MB": 4096},
            "detail": {
                "shared_cpus": [first, first + 1],
                "dedicated_cpus": [first + 2, first + 3, first + 4, first + 5],
                "siblings": [[first + i, first + i + 1] for i in (0, 2, 4)],
                "memory_mib": 4096,
                "pages": {"4": 786432, "2048": 512},
            },
        }
        for number, first in ((0, 0), (1, 6))
    ]
    inventories = {"VCPU": {"total": 4}, "PCPU": {"total": 8}, "MEMORY_MB": {"total": 8192}}
    return {
        "id": name,
        "inventories": inventories,
        "numa": {"provenance": "operator", "cells": cells},
        **more,
    }


def pinned(name: str, on: str, *cpus: list[int], **more: Any) -> documents.Document:
    """An instance with guest cells of 512 MiB that are pinned to these CPUs."""
    guests = [
        {
            "cell": one[0] // 6,
            "resources": {"PCPU": len(one), "MEMORY_MB": 512},
            "pinned": one,
        }
        for one in cpus
    ]
    taken = {"PCPU": sum(map(len, cpus)), "MEMORY_MB": 512 * len(cpus)}
    return {
        "id": name,
        "host": on,
        "allocations": taken,
        "numa": guests,
        "extra_specs": PINNED,
        **more,
    }


def shared(name: str, on: str, cell: int, cpus: int = 1, **more: Any) -> documents.Document:
    """An instance with one guest cell of 512 MiB and CPUs that are not pinned."""
    amounts = {"VCPU": cpus, "MEMORY_MB": 512}
    guests = [{"cell": cell, "resources": amounts, "pinned": []}]
    return {"id": name, "host": on, "allocations": amounts, "numa": guests, **more}


def move(
    name: str, of: str, ends: str, cells: tuple[list[int], list[int]], *after: str, **more: Any
) -> documents.Document:
    """Return a migration between two hosts of one letter each."""
    (source, dest), (here, there) = ends, cells
    return documents.migration(
        name, of, source, dest, after, **{"source_numa": here, "dest_numa": there, **more}
    )


def judged(
    hosts: list[documents.Document],
    instances: list[documents.Document],
    moves: list[documents.Document],
    given: Any = (),
    **more: Any,
) -> Any:
    """Check a plan; of one core there are no fragments, so its rates are 0."""
    made = documents.snapshot(hosts, instances, numa_choice="nova", **more)
    wanted = {"fragment_cores": 1, **dict(given)}
    return documents.verdict(made, documents.plan(made, moves, options=wanted))


TO_0, TO_1 = ([0], [0]), ([0], [1])


@pytest.mark.parametrize(
    ("there", "given", "cell"),
    [
        ([], {}, 0),
        # Nova takes the emptier cell, or the fuller one if it packs.
        ([pinned("y", "b", [2])], {}, 1),
        ([pinned("y", "b", [2])], {"numa_packing": True}, 0),
        # Only on cell 1 are two CPUs free.
        ([pinned("y", "b", [2, 3, 4])], {"numa_packing": True}, 1),
        # Those that are not pinned take memory too, and that decides between equal CPUs.
        ([shared("y", "b", 0)], {}, 1),
    ],
)
def test_cells_are_those_that_nova_takes(there, given, cell):
    """The cell that Nova would take is accepted, the other one is refused."""
    for stated in (0, 1):
        moves = [move("1", "x", "ab", ([0], [stated]))]
        instances = [pinned("x", "a", [2, 3]), *there]
        found = judged([host("a"), host("b")], instances, moves, given)
        assert found.ok == (stated == cell), found
        if not found.ok:
            assert (found.kind, found.migration) == ("numa", "1")
            assert f'Nova takes cells [{cell}] of dest "b"' in found.detail


def test_two_guest_cells_are_on_two_cells():
    """On a host with as many cells as the guest nothing is sorted: guest cell 0 is on cell 0."""
    for stated, ok in (([0, 1], True), ([1, 0], False)):
        moves = [move("1", "x", "ab", ([1, 0], stated))]
        instances = [pinned("x", "a", [8], [2]), pinned("y", "b", [2])]
        found = judged([host("a"), host("b")], instances, moves)
        assert (found.kind is None) == ok, found


def test_each_arrival_is_judged_on_what_the_earlier_ones_left():
    """Three of three pinned CPUs come: cells 0 and 1, and then nobody has room, as 1 + 1 are left.

    Of one CPU there is room for one more, on cell 0 again.
    """
    instances = [pinned(name, "a", [2, 3, 4]) for name in "x"] + [
        pinned("y", "a", [8, 9, 10]),
        pinned("z", "c", [2, 3, 4]),
        pinned("w", "c", [8]),
    ]
    moves = [
        move("1", "x", "ab", TO_0),
        move("2", "y", "ab", ([1], [1]), "1"),
        move("3", "z", "cb", TO_0, "1", "2"),
    ]
    hosts = [host(name) for name in "abc"]
    found = judged(hosts, instances, moves)
    assert (found.kind, found.migration) == ("numa", "3")
    assert 'does not fit in the NUMA cells of dest "b" then' in found.detail
    moves[2] = move("3", "w", "cb", ([1], [0]), "1", "2")
    assert judged(hosts, instances, moves).ok


def test_what_leaves_makes_room():
    """y leaves cell 0 of b, and x finds its four CPUs there; without that it does not fit."""
    instances = [
        pinned("x", "a", [2, 3, 4, 5]),
        pinned("y", "b", [2]),
        pinned("z", "b", [8]),
    ]
    moves = [move("1", "y", "bc", TO_0), move("2", "x", "ab", TO_0, "1")]
    hosts = [host(name) for name in "abc"]
    assert judged(hosts, instances, moves).ok
    found = judged(hosts, instances, [moves[1] | {"depends_on": [], "wave": 1, "start_s": 0}])
    assert (found.kind, "does not fit" in found.detail) == ("numa", True)


def test_isolated_threads_take_whole_cores():
    """y has CPU 2 and nobody may have 3: two whole cores are only on cell 1.

    Nova isolates on hosts whose CPUs are shared and dedicated at once.
    """
    hosts = [host("a"), host("b")]
    for cell in hosts[1]["numa"]["cells"]:
        cell["detail"]["shared_cpus"] = cell["detail"]["dedicated_cpus"]
    lonely = {"extra_specs": PINNED | {"hw:cpu_thread_policy": "isolate"}}
    given = {"numa_packing": True}
    for more, cell in (({}, 0), (lonely, 1)):
        instances = [pinned("x", "a", [2, 3, 4]), pinned("y", "b", [2], **more)]
        found = judged(hosts, instances, [move("1", "x", "ab", ([0], [cell]))], given)
        assert found.ok, (found, more)


def test_shared_cpus_are_promised_as_often_as_the_ratio_says():
    """Two of two shared CPUs of each cell are used: at 1.5 one more fits, at 1.0 none does."""
    for ratio, kind in ((1.0, "numa"), (1.5, None)):
        there = host("b")
        there["inventories"]["VCPU"] = {"total": 40, "allocation_ratio": ratio}
        instances = [shared("x", "a", 0), shared("y", "b", 0, 2), shared("z", "b", 1, 2)]
        found = judged([host("a"), there], instances, [move("1", "x", "ab", TO_0)])
        assert found.kind == kind, found


@pytest.mark.parametrize(
    ("asked", "present", "large", "word"),
    [
        ({"hw:mem_page_size": "large"}, 2048, 512, ""),
        ({"hw:mem_page_size": "any"}, 2048, 512, ""),
        ({"hw:mem_page_size": "2MB"}, 2048, 512, ""),
        ({"hw:mem_page_size": "small"}, 4, 512, ""),
        ({}, None, 0, ""),
        ({"hw:mem_page_size": "any"}, 4, 512, "would be of 2048 KiB"),
        ({"hw:mem_page_size": "any"}, 2048, 255, "would be of 4 KiB"),
        ({"hw:mem_page_size": "large"}, 2048, 255, "does not fit"),
        ({"hw:mem_page_size": "1GB"}, 1048576, 512, "does not fit"),
        ({"hw:mem_page_size": "huge"}, 2048, 512, '"huge" is no page size'),
    ],
)
def test_pages_stay_of_the_size_that_they_are(asked, present, large, word):
    """512 MiB are 256 large pages; Nova refuses an instance that would get another size."""
    there = host("b")
    for cell in there["numa"]["cells"]:
        cell["detail"]["pages"]["2048"] = large
    x = shared("x", "a", 0, extra_specs=asked, numa_pagesize_kib=present)
    found = judged([host("a"), there], [x], [move("1", "x", "ab", TO_0)])
    assert (found.kind, word in found.detail) == ("numa" if word else None, True), found


def test_hugepages_of_earlier_arrivals_are_gone():
    """Three times 256 of 512 large pages per cell: cells 0, 1 and 0."""
    large = {"extra_specs": {"hw:mem_page_size": "2048"}, "numa_pagesize_kib": 2048}
    there = host("b")
    there["numa"]["cells"][1]["detail"]["pages"]["2048"] = 255
    instances = [shared("x", "a", 0, **large), shared("y", "a", 1, **large)]
    moves = [move("1", "x", "ab", TO_0), move("2", "y", "ab", ([1], [0]), "1")]
    assert judged([host("a"), there], instances, moves).ok
    for cell in there["numa"]["cells"]:
        cell["detail"]["pages"]["2048"] -= 1
    found = judged([host("a"), there], instances, moves)
    assert (found.kind, found.migration) == ("numa", "2")


@pytest.mark.parametrize(
    ("key", "to", "ok"),
    [
        ("detail", None, False),
        ("inferred", None, False),
        ("running", "y", False),
        ("running", "plain", True),
        ("y", {"numa": [{"cell": None, "resources": {"PCPU": 1}, "pinned": [2]}]}, False),
        ("y", {"numa": [{"cell": 0, "resources": {"PCPU": 1}, "pinned": None}]}, False),
        ("y", {"extra_specs": PINNED | {"hw:emulator_threads_policy": "isolate"}}, False),
        ("y", {"extra_specs": PINNED | {"hw:emulator_threads_policy": "share"}}, True),
    ],
)
def test_host_is_settled(key, to, ok):
    """What Nova's choice depends on is known, or the destination is refused."""
    hosts = [host("a"), host("b"), host("c")]
    y, plain = pinned("y", "b", [2]), documents.instance("plain", "c", 0)
    more: dict[str, Any] = {}
    if key == "detail":
        hosts[1]["numa"]["cells"][1]["detail"] = to
    elif key == "inferred":
        hosts[1]["numa"]["provenance"] = "inferred"
        y = plain | {"id": "z"}
    elif key == "running":
        more["running_migrations"] = [{"instance": to, "source": "b", "dest": "c"}]
    else:
        y |= to
    if key == "running" and to == "plain":
        plain["host"] = "b"
    found = judged(hosts, [pinned("x", "a", [2]), y, plain], [move("1", "x", "ab", TO_1)], **more)
    assert found.kind == (None if ok else "numa"), found


def test_unknown_emulator_cpu_matters_to_pinned_arrivals_only():
    """A guest whose CPUs are shared goes where somebody's emulator threads have a CPU."""
    y = pinned("y", "b", [2], extra_specs=PINNED | {"hw:emulator_threads_policy": "isolate"})
    moves = [move("1", "x", "ab", TO_1)]
    assert judged([host("a"), host("b")], [shared("x", "a", 0), y], moves).ok


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"numa": [{"cell": 0, "resources": {"PCPU": 1}, "pinned": None}]}, "not known"),
        ({"allocations": {"VCPU": 1, "MEMORY_MB": 512}}, "no PCPU"),
        ({"extra_specs": PINNED | {"hw:emulator_threads_policy": "isolate"}}, "emulator"),
    ],
)
def test_pinning_that_is_not_known_stays(more, word):
    """Who is pinned to nobody knows what is not moved where Nova chooses."""
    x = pinned("x", "a", [2]) | {"numa": [{"cell": 0, "resources": {}, "pinned": [2]}]} | more
    found = judged([host("a"), host("b")], [x], [move("1", "x", "ab", TO_0)])
    assert (found.kind, found.migration) == ("not_migratable", "1")
    assert found.detail.startswith("numa_unknown: ") and word in found.detail


@pytest.mark.parametrize(
    ("depends_on", "wrong"),
    [
        ([(), ("1",), ("1", "2"), ("3",)], None),
        # What is waited for at one remove is waited for.
        ([(), ("1",), ("2",), ("3",)], None),
        # y comes to b after x, whoever of them goes on from there.
        ([(), (), ("1", "2"), ("1", "2")], ("2", "1")),
        # x leaves b after y came, or y may find what was not there when it was planned.
        ([(), ("1",), ("1",), ("2",)], ("3", "2")),
        # z comes to c after x.
        ([(), ("1",), ("2",), ("1", "2")], ("4", "3")),
    ],
)
def test_order_that_predictions_depend_on(depends_on, wrong):
    """x a -> b -> c, y a -> b meanwhile, z d -> c.  Each change of a host waits for the last."""
    instances = [pinned("x", "a", [2]), pinned("y", "a", [8]), pinned("z", "d", [2])]
    moves = [
        move("1", "x", "ab", TO_0, role="bypass"),
        move("2", "y", "ab", ([1], [1])),
        move("3", "x", "bc", TO_0),
        move("4", "z", "dc", TO_1),
    ]
    for i, (one, after) in enumerate(zip(moves, depends_on, strict=True)):
        one |= {"depends_on": list(after), "wave": i + 1, "start_s": 10 * i, "end_s": 10 * i + 10}
    found = judged([host(name) for name in "abcd"], instances, moves)
    if wrong is None:
        assert found.ok, found
    else:
        assert (found.kind, found.migration) == ("order", wrong[0]), found
        assert f'does not depend on "{wrong[1]}"' in found.detail


def test_departures_need_no_order_among_themselves():
    """Who leaves makes room, whenever it is: two that leave a host need not wait for each other."""
    instances = [pinned("x", "a", [2]), pinned("y", "a", [8])]
    moves = [move("1", "x", "ab", TO_0), move("2", "y", "ac", ([1], [0]))]
    assert judged([host(name) for name in "abc"], instances, moves).ok


def test_planner_choosing_cells_needs_no_details():
    """In a benchmark file no host has details, pinned CPUs are not told, and all cells are free."""
    made = documents.snapshot(
        [documents.numa_host("a"), documents.numa_host("b")],
        [documents.numa_instance("x", "a", [0], 4, extra_specs=PINNED)],
    )
    moves = [documents.migration("1", "x", "a", "b", source_numa=[0], dest_numa=[1])]
    plan = documents.plan(made, moves, options={"fragment_cores": 1})
    assert documents.verdict(made, plan).ok

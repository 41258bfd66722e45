# SPDX-License-Identifier: Apache-2.0
"""The operator facts file is read with clear errors and written into a snapshot document."""

import json
import pathlib
from typing import Any

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import document
from nova_rebalancer.collect import facts
from nova_rebalancer.model import cloud

ROOT = pathlib.Path(__file__).parents[3]
SAMPLE = ROOT / "etc/nova-rebalancer/facts.sample.yaml"

NUMA = """
    numa:
      - {cell: 0, memory_mib: 1000, shared_cpus: "0-1", dedicated_cpus: "2-4", hugepages: {2048: 7}}
      - {cell: 1, memory_mib: 1001, shared_cpus: "5-7"}
"""


def said(body: str) -> facts.Facts:
    """A facts file with this text after its format."""
    return facts.loads(f"format: nova-rebalancer-facts/1\n{body}".encode(), "f.yaml")


def host(name: str, **more: Any) -> dict[str, Any]:
    """A host that goes with NUMA."""
    inventories = {
        "VCPU": {"total": 5, "allocation_ratio": 1.5},
        "PCPU": {"total": 3},
        "MEMORY_MB": {"total": 2001, "allocation_ratio": 1.1},
    }
    return {"id": f"uuid-{name}", "service_host": name, "inventories": inventories, **more}


def snapshot(*hosts: dict[str, Any], instances: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """A document of these hosts."""
    return {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "c",
        "taken_at": "2026-01-01T00:00:00Z",
        "numa_choice": "nova",
        "hosts": list(hosts),
        "instances": list(instances),
    }


def guest(cell: int | None, resources: dict[str, int]) -> dict[str, Any]:
    """An instance with one NUMA cell, on host a."""
    return {
        "id": "i",
        "host": "uuid-a",
        "allocations": {"MEMORY_MB": 500},
        "numa": [{"cell": cell, "resources": {"MEMORY_MB": 500, **resources}}],
    }


def operator(value: str) -> dict[str, str]:
    """A fact as the operator's word."""
    return {"provenance": "operator", "value": value}


def test_every_fact_is_written():
    """Each fact goes into the document as the operator's word, and the document stays valid."""
    made = snapshot(host("a"))
    body = """
hosts:
  a:
    cell: cell1
    rack: r07
    power_zone: pdu-3
    migration_link: leaf-7
    migration_mibps: 1200
"""
    assert facts.apply(made, said(body + NUMA)) == []
    written = made["hosts"][0]
    assert written["cell"] == operator("cell1")
    assert written["rack"] == operator("r07")
    assert written["power_zone"] == operator("pdu-3")
    assert written["migration_link"] == operator("leaf-7")
    assert written["migration_mibps"] == operator("1200")
    assert written["numa"]["provenance"] == "operator"
    assert document.problems(made) == []


def test_capacity_of_cells():
    """A cell has floor(shared CPUs x ratio), its dedicated CPUs, floor(memory x ratio), its pages.

    Two shared CPUs at 1.5 are 3 and three are 4; 1,000 MiB at 1.1 are 1,100, 1,001 are 1,101.
    """
    made = snapshot(host("a"))
    facts.apply(made, said(f"hosts:\n  a:{NUMA}"))
    assert [cell["capacity"] for cell in made["hosts"][0]["numa"]["cells"]] == [
        {
            "VCPU": 3,
            "PCPU": 3,
            "MEMORY_MB": 1100,
            "HUGEPAGES_2048KB": 7,
            "HUGEPAGES_1048576KB": 0,
        },
        {
            "VCPU": 4,
            "PCPU": 0,
            "MEMORY_MB": 1101,
            "HUGEPAGES_2048KB": 0,
            "HUGEPAGES_1048576KB": 0,
        },
    ]


def detail(numa: str) -> dict[str, Any]:
    """What the only cell in this text becomes for Nova's fitting."""
    made = snapshot(host("a"))
    facts.apply(made, said(f"hosts: {{a: {{numa: [{numa}]}}}}"))
    assert document.problems(made) == []
    (cell,) = made["hosts"][0]["numa"]["cells"]
    found: dict[str, Any] = cell["detail"]
    return found


def test_detail_of_cells():
    """What Nova fits instances by is there in full; memory in no large page is in small ones.

    Of 8,192 MiB there are 7 x 2 MiB and 4 x 1 GiB in large pages; 4,082 MiB are 1,044,992 pages.
    """
    assert detail(
        '{cell: 3, memory_mib: 8192, shared_cpus: "0-1,8", dedicated_cpus: "2,10-11",'
        ' siblings: ["11,3", "0,8", "2,10"], pci_devices: 2, hugepages: {1048576: 4, 2048: 7}}'
    ) == {
        "shared_cpus": [0, 1, 8],
        "dedicated_cpus": [2, 10, 11],
        # CPU 3 is not configured.
        "siblings": [[0, 8], [2, 10], [11]],
        "memory_mib": 8192,
        "pages": {"4": 1044992, "2048": 7, "1048576": 4},
        "pci_devices": 2,
    }


def test_detail_without_a_word():
    """A cell of which only the memory is told has no CPUs, no cores, small pages, no devices."""
    assert detail("{cell: 0, memory_mib: 1}") == {
        "shared_cpus": [],
        "dedicated_cpus": [],
        "siblings": [],
        "memory_mib": 1,
        "pages": {"4": 256},
        "pci_devices": 0,
    }


def test_more_large_pages_than_memory():
    """A cell of nothing but large pages has no small one, never fewer."""
    assert detail("{cell: 0, memory_mib: 3, hugepages: {2048: 2}}")["pages"] == {
        "4": 0,
        "2048": 2,
    }


def test_cores_of_other_cells():
    """A core has only CPUs of its cell: those of another cell, or of none, are left out."""
    read = said("""
defaults:
  numa:
    - {cell: 0, memory_mib: 9, shared_cpus: "0-1", siblings: ["0,4", "1,5", "2,6"]}
    - {cell: 1, memory_mib: 9, dedicated_cpus: "4-5", siblings: ["4-5"]}
""")
    first, second = read.of("a").numa or ()
    assert first.siblings == (frozenset({0}), frozenset({1}))
    assert second.siblings == (frozenset({4, 5}),)


def test_resources_without_inventory_are_left_out():
    """A cell has no PCPU where the host has none for Placement."""
    one = host("a")
    del one["inventories"]["PCPU"]
    made = snapshot(one)
    warnings = facts.apply(made, said(f"hosts:\n  a:{NUMA}"))
    assert "PCPU" not in made["hosts"][0]["numa"]["cells"][0]["capacity"]
    assert any("3 dedicated CPUs, its PCPU inventory has 0" in text for text in warnings)


def test_page_sizes_in_use_are_limited_everywhere():
    """What a cell does not name is not limited, so each size some guest uses is written, as 0."""
    made = snapshot(host("a"), instances=(guest(None, {f"{cloud.PAGES}65536KB": 2}),))
    facts.apply(made, said(f"hosts:\n  a:{NUMA}"))
    for cell in made["hosts"][0]["numa"]["cells"]:
        assert cell["capacity"]["HUGEPAGES_65536KB"] == 0


def test_precedence():
    """A host's own word goes before the first pattern that has the fact, that before defaults."""
    read = said("""
hosts: {web-1: {rack: own}}
patterns:
  "web-[12]": {power_zone: first}
  "web-*": {rack: second, power_zone: second}
defaults: {rack: default, power_zone: default, cell: default}
""")
    assert read.of("web-1") == facts.Host(rack="own", power_zone="first", cell="default")
    assert read.of("web-2") == facts.Host(rack="second", power_zone="first", cell="default")
    assert read.of("web-3") == facts.Host(rack="second", power_zone="second", cell="default")
    assert read.of("WEB-3") == facts.Host(rack="default", power_zone="default", cell="default")


def test_numa_is_one_fact():
    """A host with cells of its own gets none from the defaults."""
    read = said(f"hosts:\n  a:\n    numa: [{{cell: 0, memory_mib: 9}}]\ndefaults:{NUMA}")
    assert [cell.memory_mib for cell in read.of("a").numa or ()] == [9]
    assert [cell.memory_mib for cell in read.of("b").numa or ()] == [1000, 1001]


def test_what_the_file_leaves_open_stays():
    """An empty file changes nothing: what was inferred stays inferred."""
    numa = {"provenance": "inferred", "cells": [{"id": 0, "capacity": {}}]}
    made = snapshot(host("a", numa=numa, rack={"provenance": "unknown", "value": None}))
    before = json.dumps(made)
    assert facts.apply(made, said("")) == []
    assert json.dumps(made) == before


def test_the_operators_word_replaces_what_was_inferred():
    """Guests show some of the cells; the operator knows them all."""
    made = snapshot(
        host("a", numa={"provenance": "inferred", "cells": [{"id": 0, "capacity": {}}]})
    )
    facts.apply(made, said(f"hosts:\n  a:{NUMA}"))
    assert [cell["id"] for cell in made["hosts"][0]["numa"]["cells"]] == [0, 1]


def test_host_without_service_host():
    """A host's id stands for its service host where the document has none, as everywhere."""
    made = snapshot(host("a", service_host=None))
    assert facts.apply(made, said("hosts: {uuid-a: {rack: r1}}")) == []
    assert made["hosts"][0]["rack"] == operator("r1")


def test_warning_for_strangers():
    """Entries that fit nothing are named, with the right name where we know it."""
    made = snapshot(host("a", hypervisor_hostname="a.example.org"))
    read = said('hosts: {b: {}, a.example.org: {}}\npatterns: {"x*": {rack: r}}')
    assert facts.apply(made, read) == [
        'f.yaml: host "b" is not in the cloud',
        'f.yaml: host "a.example.org" is not in the cloud; write its service host "a"',
        'f.yaml: pattern "x*" fits no host of the cloud',
    ]


@pytest.mark.parametrize(
    ("resource", "total", "text"),
    [
        ("VCPU", 6, "5 shared CPUs, its VCPU inventory has 6"),
        ("PCPU", 4, "3 dedicated CPUs, its PCPU inventory has 4"),
        ("MEMORY_MB", 2110, "2001 MiB in its NUMA cells, its MEMORY_MB inventory has 2110"),
        ("MEMORY_MB", 1900, "2001 MiB in its NUMA cells, its MEMORY_MB inventory has 1900"),
    ],
)
def test_warning_for_sums(resource, total, text):
    """A host that told Placement something else is named with both values; its cells are used."""
    made = snapshot(host("a"))
    made["hosts"][0]["inventories"][resource]["total"] = total
    warnings = facts.apply(made, said(f"hosts:\n  a:{NUMA}"))
    assert warnings == [f'f.yaml: host "a": {text}; run host-facts there again']
    assert len(made["hosts"][0]["numa"]["cells"]) == 2


@pytest.mark.parametrize("total", [1906, 2106])
def test_no_warning_for_a_little_memory(total):
    """Up to 5 % of the total is how differently memory is counted."""
    made = snapshot(host("a"))
    made["hosts"][0]["inventories"]["MEMORY_MB"]["total"] = total
    assert facts.apply(made, said(f"hosts:\n  a:{NUMA}")) == []


def test_cells_of_another_host():
    """Cells that do not include one an instance is on are not believed."""
    made = snapshot(host("a"), instances=(guest(2, {}),))
    assert facts.apply(made, said(f"hosts:\n  a:{NUMA}")) == [
        'f.yaml: host "a": instance "i" is on NUMA cell 2, the file has cells [0, 1]; '
        "its NUMA cells are not taken from the file"
    ]
    assert "numa" not in made["hosts"][0]


def test_link_with_two_speeds():
    """The lowest speed of a link counts for all its hosts, also for those that name none."""
    made = snapshot(host("a"), host("b"), host("c"), host("d"))
    read = said("""
hosts:
  a: {migration_link: l, migration_mibps: 900}
  b: {migration_link: l, migration_mibps: 1000}
  c: {migration_link: l}
  d: {migration_mibps: 5}
""")
    assert facts.apply(made, read) == [
        'f.yaml: migration_link "l" has 2 speeds, [900, 1000] MiB/s; the lowest counts'
    ]
    speeds = [entry["migration_mibps"]["value"] for entry in made["hosts"]]
    assert speeds == ["900", "900", "900", "5"]


def test_keys_are_text():
    """YAML takes 010 for 8 and no for false; as names of hosts they are what stands there."""
    read = said("hosts:\n  010: {rack: a}\n  no: {rack: b}\n  2026-01-01: {rack: 2026-01-01}")
    assert list(read.hosts) == ["010", "no", "2026-01-01"]
    assert read.of("2026-01-01").rack == "2026-01-01"


def test_aliases():
    """YAML's anchors may be used, for they are no danger."""
    read = said(f"hosts:\n  a: &it{NUMA}  b: *it")
    assert read.of("a") == read.of("b") != facts.Host()


BAD = [
    ("", "the document: null is not of type"),
    ("- 1", r"the document: \[1\] is not of type"),
    ("format: nova-rebalancer-facts/2", "format: "),
    ("format: [", "expected|find"),
    ("hosts: {a: {rack: 7}}", r'hosts.a.rack: 7 is not of type "string", put it in quotes$'),
    ("hosts: {a: }", r"hosts.a: null is not of type"),
    ("hosts: {a: {rak: r}}", r"hosts.a: .*'rak' was unexpected"),
    ("hosst: {}", r"'hosst' was unexpected"),
    ("hosts: {a b: {}}", r"hosts: "),
    ("hosts: {a: {rack: ''}}", r"hosts.a.rack: "),
    ("hosts:\n  a: {}\n  b: {}\n  a: {}", r'"a" occurs twice here \(line 5, column 3\)'),
    ("hosts: {a: {rack: x, rack: x}}", r'"rack" occurs twice here \(line 2, column 22\)'),
    ("hosts: {[a]: {}}", r"a key must be a name or a number \(line 2, column 9\)"),
    ("hosts: &x {a: *x}", r"this is part of itself \(line 2, column 8\)"),
    ("hosts: {a: *x}", r"undefined alias"),
    ("hosts: !!python/object:os.system {}", r"python/object:os.system has no meaning"),
    ("hosts: {a: {migration_mibps: !!int x}}", r'"x" is not what it is said to be'),
    ("hosts: {a: {migration_mibps: 0b_}}", r'"0b_" is not what it is said to be'),
    ("hosts: {a: {migration_mibps: yes}}", r"hosts.a.migration_mibps: true is not of type"),
    ("hosts: {a: {migration_mibps: .inf}}", r"hosts.a.migration_mibps: "),
    ("hosts: {a: {migration_mibps: 0}}", r"hosts.a.migration_mibps: "),
    ("defaults: {numa: []}", r"defaults.numa: "),
    ("defaults: {numa: [{cell: 0}]}", r'defaults.numa\[0\]: "memory_mib" is a required'),
    ("defaults: {numa: [{cell: 0, memory_mib: 1, siblings: '0,1'}]}", r"numa\[0\].siblings: "),
    ("defaults: {numa: [{cell: 0, memory_mib: 1, siblings: [1]}]}", r"siblings\[0\]: .*quotes$"),
    ("defaults: {numa: [{cell: 0, memory_mib: 1, pci_devices: -1}]}", r"\[0\].pci_devices: "),
    ("--- 1", "another document"),
    ("a: \x01", "not YAML: unacceptable character"),
]


@pytest.mark.parametrize(("body", "text"), BAD)
def test_bad_files(body, text):
    """Each bad file is refused in one line that names the file and the place."""
    head = "" if body in ("", "- 1") or "format" in body else "format: nova-rebalancer-facts/1\n"
    with pytest.raises(exceptions.InputError, match=text) as caught:
        facts.loads(f"{head}{body}".encode(), "f.yaml")
    assert str(caught.value).startswith("f.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (
            "{cell: 0, memory_mib: 1}, {cell: 0, memory_mib: 1}",
            "[1].cell: there is a cell 0 already",
        ),
        (
            '{cell: 0, memory_mib: 1, shared_cpus: "0-3", dedicated_cpus: "3"}',
            "[0].dedicated_cpus: CPU 3 is in patterns.a*.numa[0].shared_cpus already",
        ),
        (
            "{cell: 0, memory_mib: 1, shared_cpus: 0-2}, "
            "{cell: 1, memory_mib: 1, shared_cpus: 0-1}",
            "[1].shared_cpus: CPU 0 is in patterns.a*.numa[0].shared_cpus already",
        ),
        (
            '{cell: 0, memory_mib: 1, shared_cpus: "0-3,^2"}',
            '[0].shared_cpus: "^2" is neither a CPU number nor a range like 4-15',
        ),
        (
            '{cell: 0, memory_mib: 1, shared_cpus: "0-3", siblings: ["0,2", "3,2"]}',
            "[0].siblings: CPU 2 is in two cores",
        ),
        (
            '{cell: 0, memory_mib: 1, shared_cpus: "0-3", siblings: ["0+2"]}',
            '[0].siblings: "0+2" is neither a CPU number nor a range like 4-15',
        ),
    ],
)
def test_impossible_cells(cells, text):
    """What no schema can say of cells is checked too, with the place."""
    with pytest.raises(exceptions.InputError) as caught:
        said(f'patterns: {{"a*": {{numa: [{cells}]}}}}')
    assert str(caught.value) == f"f.yaml: patterns.a*.numa{text}"


def test_deep_nesting():
    """A file that nests a thousand times is refused like any other."""
    with pytest.raises(exceptions.InputError, match=r"^f.yaml: "):
        facts.loads(b"a: " + b"[" * 5000 + b"]" * 5000, "f.yaml")


def test_file_that_is_not_there(tmp_path):
    """The name is in the error."""
    with pytest.raises(exceptions.InputError, match=r"no\.yaml: cannot be read"):
        facts.load(str(tmp_path / "no.yaml"))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"\xff\xfe\xfa")
@example(b"format: nova-rebalancer-facts/1\nhosts: {a: {numa: 5}}")
def test_any_bytes(data):
    """Whatever the bytes, there is a value or a one-line error."""
    try:
        facts.loads(data, "f.yaml")
    except exceptions.InputError as error:
        assert str(error).startswith("f.yaml: ") and "\n" not in str(error)


CPUS = st.frozensets(st.integers(0, 99999), max_size=20)


@given(CPUS, st.randoms(use_true_random=False))
def test_cpu_lists(cpus, random):
    """A list means its numbers, in whatever order, alone or as ranges, with blanks or without."""
    numbers = [*cpus, *cpus]
    random.shuffle(numbers)
    parts = [random.choice([f"{n}", f" {n} ", f"{n}-{n}"]) for n in numbers]
    assert facts.parse_cpus(",".join(parts)) == cpus


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_cpu_ranges(first, last):
    """Both ends of a range are in it, and it goes upwards."""
    if first > last:
        with pytest.raises(ValueError, match="ends before it begins"):
            facts.parse_cpus(f"{first}-{last}")
    else:
        assert facts.parse_cpus(f"{first}-{last}") == frozenset(range(first, last + 1))


@given(st.text("0123456789-,^ x", max_size=12))
@example("1,,2")
@example("-1")
@example("1-2-3")
@example("100000")
@example("\u0663")
def test_cpu_texts(text):
    """Any text is a list of CPUs or a ValueError."""
    try:
        assert all(cpu >= 0 for cpu in facts.parse_cpus(text))
    except ValueError as error:
        assert str(error)


def test_sample():
    """The sample is a facts file, and says what its comments say."""
    read = facts.load(str(SAMPLE))
    first, second, other = (read.of(f"compute-{n}") for n in ("01", "02", "99"))
    assert [len(cell.shared_cpus) for cell in first.numa or ()] == [8, 8]
    assert [len(cell.dedicated_cpus) for cell in first.numa or ()] == [24, 24]
    assert [cell.hugepages for cell in first.numa or ()] == [{2048: 4096, 1048576: 32}] * 2
    assert [len(cell.siblings) for cell in first.numa or ()] == [16, 16]
    assert all(
        frozenset().union(*cell.siblings) == cell.shared_cpus | cell.dedicated_cpus
        for cell in first.numa or ()
    )
    assert (first.rack, second.rack, other.rack) == ("r07", "r08", None)
    assert (first.migration_mibps, other.migration_mibps) == (1200, 2400)
    assert (first.cell, other.cell) == ("cell1", "cell1")

# SPDX-License-Identifier: Apache-2.0
"""tools/host-facts tells a host's NUMA cells as Nova's libvirt driver would count them."""

import importlib.machinery
import importlib.util
import pathlib
import socket
import subprocess
import sys
from types import ModuleType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer.collect import document
from nova_rebalancer.collect import facts

SCRIPT = pathlib.Path(__file__).parents[2] / "tools/host-facts"

FORMAT = "format: nova-rebalancer-facts/1\nhosts:\n"


def module() -> ModuleType:
    """The script as a module, for it has no name that can be imported."""
    loader = importlib.machinery.SourceFileLoader("host_facts", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(made)
    finally:
        sys.dont_write_bytecode = before
    return made


host_facts = module()


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two nodes of 8 CPUs as threads are numbered on real hosts; CPU 15 is offline."""
    node(tmp_path, 0, "0-3,8-11", memory_kib=64 * 1024 * 1024 + 1023, pages={2048: 512, 1048576: 0})
    node(tmp_path, 1, "4-7,12-14", memory_kib=64 * 1024 * 1024, pages={2048: 0, 1048576: 16})
    (tmp_path / "sys/devices/system/node/node1/cpu15").mkdir()
    (tmp_path / "sys/devices/system/node/has_cpu").write_text("0-1\n")
    online = tmp_path / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_text("0-14\n")
    return tmp_path


def node(
    root: pathlib.Path, number: int, cpus: str, memory_kib: int, pages: dict[int, int]
) -> None:
    """What the kernel shows of one node."""
    folder = root / f"sys/devices/system/node/node{number}"
    folder.mkdir(parents=True)
    (folder / "cpulist").write_text(f"{cpus}\n")
    (folder / "meminfo").write_text(
        f"Node {number} MemTotal:       {memory_kib} kB\nNode {number} MemFree:        123 kB\n"
    )
    for kib, count in pages.items():
        size = folder / f"hugepages/hugepages-{kib}kB"
        size.mkdir(parents=True)
        (size / "nr_hugepages").write_text(f"{count}\n")


def threads(root: pathlib.Path, *cores: str) -> None:
    """What the kernel shows of cores with these CPUs, on a host with several threads each."""
    folder = root / "sys/devices/system/cpu"
    for core in cores:
        for cpu in host_facts.parse_cpus(core):
            (folder / f"cpu{cpu}/topology").mkdir(parents=True)
            (folder / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{core}\n")
    (folder / "smt").mkdir()
    (folder / "smt/control").write_text("on\n")


def siblings(host: facts.Host) -> list[list[str]]:
    """Cores of each cell, in the script's writing."""
    return [[host_facts.format_cpus(core) for core in cell.siblings] for cell in host.numa or ()]


def run(root: pathlib.Path, *arguments: str, conf: str | None = None) -> facts.Host:
    """What our reader makes of the script's output for host a."""
    options = ["--root", str(root), *arguments]
    if conf is not None:
        file = root / "nova.conf"
        file.write_text(conf)
        options += ["--nova-conf", str(file)]
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return facts.loads((FORMAT + done.stdout).encode(), "f.yaml").hosts["a"]


def cpus(host: facts.Host) -> list[tuple[str, str]]:
    """Shared and dedicated CPUs of each cell, in the script's writing."""
    return [
        (host_facts.format_cpus(cell.shared_cpus), host_facts.format_cpus(cell.dedicated_cpus))
        for cell in host.numa or ()
    ]


def fails(root: pathlib.Path, capsys: pytest.CaptureFixture[str], conf: str) -> str:
    """The error of the script with this configuration."""
    file = root / "nova.conf"
    file.write_text(conf)
    assert host_facts.main(["--root", str(root), "--nova-conf", str(file)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


def test_without_configuration(root):
    """Every CPU that is online is shared; memory in whole MiB; sizes without pages left out."""
    host = run(root, "--host", "a")
    assert cpus(host) == [("0-3,8-11", ""), ("4-7,12-14", "")]
    assert [cell.memory_mib for cell in host.numa] == [65536, 65536]
    assert [dict(cell.hugepages) for cell in host.numa] == [{2048: 512}, {1048576: 16}]


def test_cpu_sets(root):
    """The CPU sets are told cell by cell; a dedicated CPU may be asleep."""
    host = run(
        root,
        conf="[DEFAULT]\nhost = a\n[compute]\n"
        "cpu_shared_set = 0-1,4-5,^5\n"
        "cpu_dedicated_set = 2-3,8-15,^9\n",
    )
    assert cpus(host) == [("0-1", "2-3,8,10-11"), ("4", "12-15")]


def test_siblings(root):
    """Threads of one core are told by cell, CPUs that no instance may have are left out."""
    threads(root, "0,8", "1,9", "2,10", "3,11", "4,12", "5,13", "6,14", "7,15")
    host = run(
        root,
        conf="[DEFAULT]\nhost=a\n[compute]\ncpu_shared_set=0-1,4\ncpu_dedicated_set=2-3,8,10-12\n",
    )
    assert siblings(host) == [["0,8", "2,10", "3,11"], ["4,12"]]


def test_wide_cores(root):
    """A core may have more than two threads, in any numbers."""
    threads(root, "0-3", "8-11", "4,6", "5,7", "12-15")
    host = run(root, conf="[DEFAULT]\nhost=a\n[compute]\ncpu_dedicated_set=0-2,4-11\n")
    assert siblings(host) == [["0-2", "8-11"], ["4,6", "5,7"]]


def test_no_siblings(root):
    """Nothing is told of cores with one thread each."""
    threads(root, *map(str, range(15)))
    (root / "sys/devices/system/cpu/smt/control").write_text("notsupported\n")
    assert siblings(run(root, "--host", "a")) == [[], []]


def test_siblings_of_cpus_that_are_offline(root, capsys):
    """The kernel does not tell the core of a CPU that is offline: a line names such CPUs."""
    threads(root, "0,8", "1,9", "2,10", "3,11", "4,12", "5,13", "6,14", "7")
    file = root / "nova.conf"
    file.write_text("[DEFAULT]\nhost=a\n[compute]\ncpu_dedicated_set=6-7,14-15\n")
    assert host_facts.main(["--root", str(root), "--nova-conf", str(file)]) == 0
    told = capsys.readouterr()
    assert 'siblings: ["6,14"]' in told.out
    assert told.err.startswith("host-facts: CPUs 15 are offline: siblings lacks them; run it again")
    assert told.err.count("\n") == 1


def test_only_dedicated(root):
    """With dedicated CPUs only, no instance may share any."""
    host = run(root, "--host", "a", conf="[compute]\ncpu_dedicated_set = 2-3\n")
    assert cpus(host) == [("", "2-3"), ("", "")]


def test_vcpu_pin_set(root):
    """The option of old goes before the one that replaced it."""
    host = run(root, conf="[DEFAULT]\nhost=a\nvcpu_pin_set=1-5,^4\n[compute]\ncpu_shared_set=0\n")
    assert cpus(host) == [("1-3", ""), ("5", "")]


def test_reserved_huge_pages(root):
    """Pages that Nova keeps for others are no instance's; the option may come several times."""
    host = run(
        root,
        conf="[DEFAULT]\nhost: a\n"
        "reserved_huge_pages = node:0,size:2048,count:64\n"
        "reserved_huge_pages = node:1,size:1GB,count:20\n"
        "reserved_huge_pages = node:7,size:2MB,count:1\n",
    )
    assert [dict(cell.hugepages) for cell in host.numa] == [{2048: 448}, {1048576: 0}]


def test_configuration_as_oslo_reads_it(root):
    """Comments, quotes, continued lines and files that overrule one another are understood."""
    first = root / "first.conf"
    first.write_text(
        "# host = b\n[DEFAULT]\nhost = 'b'\n[compute]\ncpu_shared_set = 0,\n  1,\n\t4\n"
    )
    host = run(root, "--nova-conf", str(first), conf='; no\n[DEFAULT]\nhost = "a"\n')
    assert cpus(host) == [("0-1", ""), ("4", "")]


def test_name_is_the_hostname(root, capsys):
    """As Nova has it where nothing else is said."""
    assert host_facts.main(["--root", str(root)]) == 0
    read = facts.loads((FORMAT + capsys.readouterr().out).encode(), "f.yaml")
    assert list(read.hosts) == [socket.gethostname()]


def test_round_trip(root):
    """What the script prints fits what nova-compute of the same host tells Placement.

    The first cell has 1 GiB in large pages, the second 16; the rest of 64 GiB is in small ones.
    """
    threads(root, *(f"{cpu},{cpu + 8}" for cpu in range(8)))
    host = run(
        root, conf="[DEFAULT]\nhost=a\n[compute]\ncpu_shared_set=0-7\ncpu_dedicated_set=8-15"
    )
    read = facts.Facts("f.yaml", {"a": host}, {}, facts.Host())
    made: dict[str, Any] = {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "c",
        "taken_at": "2026-01-01T00:00:00Z",
        "numa_choice": "nova",
        "hosts": [
            {
                "id": "a",
                "inventories": {
                    "VCPU": {"total": 8, "allocation_ratio": 4.0},
                    "PCPU": {"total": 8},
                    "MEMORY_MB": {"total": 131072, "reserved": 512},
                },
            }
        ],
        "instances": [],
    }
    assert facts.apply(made, read) == []
    assert document.problems(made) == []
    capacity = {"VCPU": 16, "PCPU": 4, "MEMORY_MB": 65536}
    assert made["hosts"][0]["numa"] == {
        "provenance": "operator",
        "cells": [
            {
                "id": 0,
                "capacity": {**capacity, "HUGEPAGES_2048KB": 512, "HUGEPAGES_1048576KB": 0},
                "detail": {
                    "shared_cpus": [0, 1, 2, 3],
                    "dedicated_cpus": [8, 9, 10, 11],
                    "siblings": [[0, 8], [1, 9], [2, 10], [3, 11]],
                    "memory_mib": 65536,
                    "pages": {"4": 63 * 1024 * 256, "2048": 512},
                    "pci_devices": 0,
                },
            },
            {
                "id": 1,
                "capacity": {**capacity, "HUGEPAGES_2048KB": 0, "HUGEPAGES_1048576KB": 16},
                "detail": {
                    "shared_cpus": [4, 5, 6, 7],
                    "dedicated_cpus": [12, 13, 14, 15],
                    "siblings": [[4, 12], [5, 13], [6, 14], [7, 15]],
                    "memory_mib": 65536,
                    "pages": {"4": 48 * 1024 * 256, "1048576": 16},
                    "pci_devices": 0,
                },
            },
        ],
    }


def test_a_host_of_this_kernel(capsys):
    """The machine the tests run on is told too, or the one line says why not."""
    code = host_facts.main(["--host", "a"])
    told = capsys.readouterr()
    if code:
        assert told.err.startswith("host-facts: ") and told.err.count("\n") == 1
    else:
        assert facts.loads((FORMAT + told.out).encode(), "f.yaml").of("a").numa


def test_names_that_yaml_would_change(root):
    """The name of a host is written so that every YAML reader takes it for text."""
    assert host_facts.entry("010", []).startswith('  "010":\n')


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ("[compute]\ncpu_shared_set = 0-x\n", '"0-x" is not a CPU number, a range'),
        ("[compute]\ncpu_shared_set = 3-1\n", 'range "3-1" ends before it begins'),
        ("[compute]\ncpu_shared_set = 0-99\n", "CPUs 16-99 are configured, but no NUMA node"),
        (
            "[compute]\ncpu_shared_set = 0-3\ncpu_dedicated_set = 2-5\n",
            "CPUs 2-3 are shared and dedicated",
        ),
        ("[DEFAULT]\nhost = $my_ip\n", "[DEFAULT] host is $my_ip"),
        ("[DEFAULT]\nhost\n", 'nova.conf: "host" is neither a section nor an option'),
        ("[DEFAULT]\nreserved_huge_pages = node:0\n", '"node:0" is not node:N,size:S,count:C'),
        ("[DEFAULT]\nreserved_huge_pages=node:0,size:1YB,count:1\n", '"1YB" is not a size like'),
    ],
)
def test_bad_configuration(root, capsys, conf, text):
    """What Nova would refuse or only Nova can know is an error in one line."""
    told = fails(root, capsys, conf)
    assert told.startswith("host-facts: ") and text in told and told.count("\n") == 1


def test_files_that_are_not_there(tmp_path, capsys):
    """A tree without nodes, and a configuration that is not there, are named."""
    assert host_facts.main(["--root", str(tmp_path)]) == 1
    assert "sys/devices/system/node: cannot be read (No such file" in capsys.readouterr().err
    (tmp_path / "sys/devices/system/node").mkdir(parents=True)
    assert host_facts.main(["--root", str(tmp_path)]) == 1
    assert "knows no NUMA nodes" in capsys.readouterr().err
    assert host_facts.main(["--nova-conf", str(tmp_path / "no.conf")]) == 1
    assert "no.conf: cannot be read" in capsys.readouterr().err


def test_broken_node(root, capsys):
    """Files of a node that do not say what the kernel says are named."""
    (root / "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages").write_text("x")
    assert host_facts.main(["--root", str(root)]) == 1
    assert '"x" is not a number of pages' in capsys.readouterr().err
    (root / "sys/devices/system/node/node0/meminfo").write_text("")
    assert host_facts.main(["--root", str(root)]) == 1
    assert "meminfo: has no MemTotal" in capsys.readouterr().err


def test_help_teaches(capsys):
    """The help has the loop that makes a whole file."""
    with pytest.raises(SystemExit) as caught:
        host_facts.main(["--help"])
    assert caught.value.code == 0
    assert 'ssh "$h" sudo python3 - --nova-conf' in capsys.readouterr().out


CPUS = st.frozensets(st.integers(0, 300), max_size=40)


@given(CPUS)
def test_format_and_parse(numbers):
    """A list that is written is read as the same numbers, here and by the facts file's reader."""
    text = host_facts.format_cpus(numbers)
    assert host_facts.parse_cpus(text) == numbers
    assert facts.parse_cpus(text) == numbers


@given(CPUS)
def test_format_is_shortest(numbers):
    """There is one part for each run of numbers."""
    runs = sum(number - 1 not in numbers for number in numbers)
    text = host_facts.format_cpus(numbers)
    assert (text.count(",") + 1 if text else 0) == runs


@given(st.permutations([("3-5", {3, 4, 5}), ("9", {9}), ("^4", set()), ("^9-12", set())]))
def test_exclusions(parts):
    """What is excluded is excluded, wherever it stands, as in Nova."""
    text = " , ".join(part for part, _ in parts)
    assert host_facts.parse_cpus(text) == {3, 5}


@given(st.text("0123456789-,^ ", max_size=15))
def test_any_cpu_text(text):
    """Any text is a set of CPUs or a Problem."""
    try:
        assert all(cpu >= 0 for cpu in host_facts.parse_cpus(text))
    except host_facts.Problem as problem:
        assert str(problem)

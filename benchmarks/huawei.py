# SPDX-License-Identifier: Apache-2.0
"""The Huawei data for topology-aware placement as a cloud and arrivals for ``simulate``.

    python benchmarks/huawei.py FOLDER CLOUD.json ARRIVALS.csv [--hosts 30] [--days 50] ...

The data (github.com/mdl1104/Dataset-for-topology-aware-VM-placement, CC0) are the free cores and
GiB of the two NUMA cells of 1,710 hosts (``huawei_topo_PM_res.xlsx``) and five sequences of about
5,000 requests with cores, GiB, guest cells and groups (``huawei_topo_VM_data_C1.xlsx`` to ``C5``).
They have no times.  So:

* the cloud is a random part of the hosts, empty, with these free amounts as their capacity; only
  hosts with at least ``--gib-per-core`` are taken, because requests have 2.6 GiB for each core and
  the goal that is measured counts cores alone;
* requests come in the order of the files, C1 to C5 and again from the start, after exponential
  gaps, with heavy-tailed lifetimes; the gap is chosen for the ``--load``;
* of groups, ``anti-affinity`` is kept, cut into groups of at most eight: the cloud is much smaller
  than theirs.  ``affinity`` and ``fault_domain`` are left out.
"""

import argparse
import csv
import io
import itertools
import json
import math
import pathlib
import random
from typing import Any
from xml.etree import ElementTree
import zipfile

from nova_rebalancer.sim import arrivals

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
HOSTS, REQUESTS = "huawei_topo_PM_res.xlsx", "huawei_topo_VM_data_C{}.xlsx"
SEQUENCES = 5
MEMBERS = 8

Row = dict[str, str]


def table(path: pathlib.Path) -> list[Row]:
    """Read the first sheet of a workbook: a row for each line below the head, by column name."""
    with zipfile.ZipFile(path) as book:
        shared = []
        if "xl/sharedStrings.xml" in book.namelist():
            for item in ElementTree.fromstring(book.read("xl/sharedStrings.xml")):
                shared.append("".join(text.text or "" for text in item.iter(f"{SHEET}t")))
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    lines = []
    for row in sheet.iter(f"{SHEET}row"):
        line: Row = {}
        for cell in row:
            value = cell.find(f"{SHEET}v")
            if value is not None and value.text is not None:
                column = cell.attrib["r"].rstrip("0123456789")
                is_shared = cell.get("t") == "s"
                line[column] = shared[int(value.text)] if is_shared else value.text
        lines.append(line)
    head, *rest = lines
    return [{head[column]: value for column, value in line.items()} for line in rest]


def hosts(folder: pathlib.Path, count: int, gib_per_core: float, seed: int) -> list[list[Any]]:
    """Choose hosts: for each, (cores, GiB) of both cells."""
    known = []
    for line in table(folder / HOSTS):
        cells = [(int(line[f"CPU{n}"]), int(line[f"RAM{n}"])) for n in (1, 2)]
        cores, gib = (sum(column) for column in zip(*cells, strict=True))
        if cores and gib >= gib_per_core * cores:
            known.append(cells)
    return random.Random(f"huawei hosts {seed}").sample(known, count)


def cloud(chosen: list[list[Any]]) -> bytes:
    """Return the snapshot document of the empty hosts."""
    document = {
        "format": "nova-rebalancer-snapshot/1",
        "cloud": "huawei-topology",
        "taken_at": "2026-01-01T00:00:00Z",
        "numa_choice": "planner",
        "hosts": [
            {
                "id": f"host-{h}",
                "inventories": {
                    "PCPU": {"total": sum(cores for cores, _ in cells)},
                    "MEMORY_MB": {"total": 1024 * sum(gib for _, gib in cells)},
                },
                "numa": {
                    "provenance": "operator",
                    "cells": [
                        {"id": n, "capacity": {"PCPU": cores, "MEMORY_MB": 1024 * gib}}
                        for n, (cores, gib) in enumerate(cells)
                    ],
                },
            }
            for h, cells in enumerate(chosen)
        ],
        "instances": [],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def requests(folder: pathlib.Path) -> list[Row]:
    """All requests in order, each with the name of its group or none."""
    found = []
    for number in range(1, SEQUENCES + 1):
        members: dict[str, int] = {}
        for line in table(folder / REQUESTS.format(number)):
            group = ""
            if line.get("strategy") == "anti-affinity":
                name = line["group"]
                members[name] = members.get(name, -1) + 1
                group = f"C{number}-{name}-{members[name] // MEMBERS}"
            found.append({**line, "group": group})
    return found


def boots(
    asked: list[Row],
    chosen: list[list[Any]],
    days: float,
    load: float,
    lifetime_d: float,
    seed: int,
) -> bytes:
    """Return arrivals as CSV; ``load`` is of cores or memory, whichever is the scarcer."""
    gap_s = arrivals.DAY_S * lifetime_d / load * max(
        sum(int(line["flavor_vcpus"]) for line in asked)
        / sum(cores for cells in chosen for cores, _ in cells),
        sum(int(line["flavor_ram"]) for line in asked)
        / sum(gib for cells in chosen for _, gib in cells),
    ) / len(asked)  # fmt: skip
    lifetimes = arrivals.Lifetimes(lifetime_d * arrivals.DAY_S)
    draws = random.Random(f"huawei arrivals {seed}")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["at_s", "cores", "memory_mib", "guest_cells", "lifetime_s", "group"])
    at_s = 0.0
    # Another part of the sequences for each seed.
    first = int(draws.random() * len(asked))
    for number in itertools.count(first):
        at_s += -gap_s * math.log1p(-draws.random())
        if at_s >= days * arrivals.DAY_S:
            break
        again, k = divmod(number, len(asked))
        line = asked[k]
        rows.writerow(
            [
                round(at_s, 3),
                line["flavor_vcpus"],
                int(line["flavor_ram"]) * 1024,
                line["numa"],
                round(lifetimes.draw_s(draws.random()), 3),
                line["group"] and f"{line['group']}-{again}",
            ]
        )
    return text.getvalue().encode()


def make(
    folder: pathlib.Path, count: int, gib_per_core: float, days: float, load: float,
    lifetime_d: float, seed: int,
) -> tuple[bytes, bytes]:  # fmt: skip
    """Return the snapshot document and the arrivals."""
    chosen = hosts(folder, count, gib_per_core, seed)
    return cloud(chosen), boots(requests(folder), chosen, days, load, lifetime_d, seed)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="where the .xlsx files are")
    parser.add_argument("cloud", type=pathlib.Path, help="the snapshot document to write")
    parser.add_argument("arrivals", type=pathlib.Path, help="the CSV file to write")
    parser.add_argument("--hosts", type=int, default=30)
    parser.add_argument("--gib-per-core", type=float, default=2.6)
    parser.add_argument("--days", type=float, default=50)
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--lifetime", type=float, default=5, help="mean, in days")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    document, rows = make(
        given.folder, given.hosts, given.gib_per_core, given.days, given.load, given.lifetime,
        given.seed,
    )  # fmt: skip
    given.cloud.write_bytes(document)
    given.arrivals.write_bytes(rows)


if __name__ == "__main__":
    main()

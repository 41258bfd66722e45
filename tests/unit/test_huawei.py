# SPDX-License-Identifier: Apache-2.0
"""The Huawei data as a cloud and arrivals, on workbooks made here."""

import collections
import importlib.util
import pathlib
from xml.sax import saxutils
import zipfile

import pytest

from nova_rebalancer.collect import document
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import trace

PATH = pathlib.Path(__file__).parents[2] / "benchmarks" / "huawei.py"

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


@pytest.fixture(scope="module")
def huawei():
    """The converter, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("huawei", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: pathlib.Path, rows: list[list[int | str | None]]) -> None:
    """Write a workbook of one sheet; texts are shared, empty cells left out, as there."""
    texts: list[str] = []
    lines = []
    for r, row in enumerate(rows, 1):
        cells = ""
        for column, value in zip("ABCDEF", row, strict=False):
            if isinstance(value, str):
                texts.append(value)
                cells += f'<c r="{column}{r}" t="s"><v>{len(texts) - 1}</v></c>'
            elif value is not None:
                cells += f'<c r="{column}{r}"><v>{value}</v></c>'
        lines.append(f'<row r="{r}">{cells}</row>')
    shared = "".join(f"<si><t>{saxutils.escape(text)}</t></si>" for text in texts)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{MAIN}">{shared}</sst>')
        sheet = f'<worksheet xmlns="{MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
        book.writestr("xl/worksheets/sheet1.xml", sheet)


@pytest.fixture
def folder(huawei, tmp_path: pathlib.Path) -> pathlib.Path:
    """Four hosts, one with little memory; sequences of ten requests in one group and one alone."""
    hosts = [["CPU1", "RAM1", "CPU2", "RAM2"], [40, 120, 38, 120], [60, 202, 60, 202]]
    write(tmp_path / huawei.HOSTS, [*hosts, [24, 16, 24, 16], [0, 0, 8, 32]])
    head = ["flavor_vcpus", "flavor_ram", "numa", "strategy", "group", "domain"]
    grouped = [[4, 8, 1, "anti-affinity", 7]] * 10
    alone = [32, 64, 2, "fault_domain", 3, 1]
    for number in range(1, huawei.SEQUENCES + 1):
        write(tmp_path / huawei.REQUESTS.format(number), [head, *grouped, alone])
    return tmp_path


def test_the_cloud(huawei, folder):
    """Free amounts are capacities; the host with too little memory for its cores is left out."""
    data, _ = huawei.make(folder, 3, 2.6, 1, 1.0, 5, 0)
    snapshot, _ = document.loads(data, "huawei")
    amounts = {
        tuple((cell.capacity["PCPU"], cell.capacity["MEMORY_MB"] // 1024) for cell in host.cells)
        for host in snapshot.hosts
    }
    assert amounts == {((40, 120), (38, 120)), ((60, 202), (60, 202)), ((0, 0), (8, 32))}


def test_the_arrivals(huawei, folder):
    """Requests in order, groups of eight at most, other strategies without a group."""
    data, boots = huawei.make(folder, 3, 2.6, 300, 1.0, 5, 0)
    rows = trace.read(boots, "boots")
    assert {row.size for row in rows} == {kinds.Size(4, 8192, 1), kinds.Size(32, 65536, 2)}
    groups = collections.Counter(row.group for row in rows if row.group)
    assert max(groups.values()) == huawei.MEMBERS
    assert all(row.group is None for row in rows if row.size.cores == 32)
    share = sum(row.size.cores == 32 for row in rows) / len(rows)
    assert share == pytest.approx(1 / 11, abs=0.02)
    # 72 cores for 11 requests on 206 cores: 206 / 72 * 11 / 5 a day.
    assert len(rows) / 300 == pytest.approx(206 / 72 * 11 / 5, rel=0.1)
    assert huawei.make(folder, 3, 2.6, 300, 1.0, 5, 0) == (data, boots)

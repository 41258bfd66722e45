# SPDX-License-Identifier: Apache-2.0
"""Snapshots: which are refused, and what the sound ones charge."""

import gzip
import json

import pytest

from nova_rebalancer import checker
from nova_rebalancer import exceptions
from tests.unit.checker import documents
from tests.unit.checker.documents import changed
from tests.unit.checker.documents import verdict


def two_hosts() -> documents.Document:
    """Two hosts with cells, one instance on cell 0 and a plain one on the other host."""
    return documents.snapshot(
        [documents.numa_host("a"), documents.numa_host("b")],
        [documents.numa_instance("x", "a", [0], 4), documents.instance("y", "b")],
    )


@pytest.mark.parametrize(
    ("path", "to", "place"),
    [
        (("format",), "nova-rebalancer-snapshot/2", "format"),
        (("hosts",), {}, "hosts"),
        (("hosts", 1, "id"), "a", r"hosts\[1\]"),
        (("hosts", 1, "service_host"), "a", r"hosts\[1\]"),
        (("hosts", 0, "inventories", "VCPU", "reserved"), 17, r"hosts\[0\]\.inventories\.VCPU"),
        (("hosts", 0, "shared"), {"DISK_GB": "p"}, r"hosts\[0\]\.shared\.DISK_GB"),
        (("hosts", 0, "numa", "cells", 1, "id"), 0, r"hosts\[0\]\.numa\.cells\[1\]"),
        (("instances", 1, "id"), "x", r"instances\[1\]"),
        (("instances", 1, "host"), "ghost", r"instances\[1\]\.host"),
        (("instances", 1, "allowed_hosts"), ["ghost"], r"instances\[1\]\.allowed_hosts"),
        (("instances", 0, "numa", 0, "cell"), 2, r"instances\[0\]\.numa"),
        (("instances", 0, "numa", 0, "resources", "VCPU"), 5, r"instances\[0\]\.numa"),
        (("instances", 0, "numa"), 2 * [{"cell": 1, "resources": {}}], r"instances\[0\]\.numa"),
        (
            ("server_groups",),
            [{"id": "g", "policy": "affinity", "members": ["ghost"]}],
            r"server_groups\[0\]\.members",
        ),
        (("pools",), 2 * [{"id": "p", "inventories": {}}], r"pools\[1\]"),
        (
            ("running_migrations",),
            [{"instance": "ghost", "source": "a", "dest": "b"}],
            r"running_migrations\[0\]\.instance",
        ),
        (
            ("running_migrations",),
            [{"instance": "x", "source": "a", "dest": "ghost"}],
            r"running_migrations\[0\]\.dest",
        ),
    ],
)
def test_refused(path, to, place):
    """One line names the file, the place and the reason, whatever the plan is."""
    data = documents.as_bytes(changed(two_hosts(), *path, to=to))
    with pytest.raises(exceptions.InputError, match=rf"^s\.json: {place}: .+") as caught:
        checker.check(data, b"", snapshot_name="s.json")
    assert "\n" not in str(caught.value)


def test_gzip_is_known_by_its_bytes(tmp_path):
    """Both documents may be gzipped; the sha256 is of the plain bytes."""
    cloud = two_hosts()
    plan = documents.plan(cloud, [], before=(4 + 8 + 12) / 24, after=1.0)
    for name, document in (("s.json", cloud), ("p.json", plan)):
        (tmp_path / name).write_bytes(gzip.compress(documents.as_bytes(document)))
    found = checker.check_files(str(tmp_path / "s.json"), str(tmp_path / "p.json"))
    assert found.ok, found


def test_unreadable_file(tmp_path):
    """A file that is not there is an error, plan or snapshot."""
    there = tmp_path / "s.json"
    there.write_text(json.dumps(two_hosts()))
    with pytest.raises(exceptions.InputError, match=r"p\.json: cannot be read"):
        checker.check_files(str(there), str(tmp_path / "p.json"))


def test_capacity_is_the_floor_of_placements():
    """(9 - 2) x 1.5 = 10.5: 10 fit, 11 do not."""
    for cores, kind in ((10, None), (11, "capacity")):
        there = documents.host("b")
        there["inventories"]["VCPU"] = {"total": 9, "reserved": 2, "allocation_ratio": 1.5}
        cloud = documents.snapshot(
            [documents.host("a", 32), there], [documents.instance("x", "a", cores)]
        )
        moves = [documents.migration("1", "x", "a", "b")]
        # 10 are free on b before; a has its 32 free after, which is 2 x 16.
        free = 32 - cores
        plan = documents.plan(cloud, moves, (free % 16 + 10) / (free + 10), 0.0)
        assert verdict(cloud, plan).kind == kind


def test_running_migration_charges_both_ends():
    """4 on the way from a to b leave 12 there: 12 fit beside it, 13 do not."""
    for cores, kind in ((12, None), (13, "capacity")):
        cloud = documents.snapshot(
            [documents.host("a", 32), documents.host("b")],
            [documents.instance("moving", "a"), documents.instance("x", "a", cores)],
            running_migrations=[{"instance": "moving", "source": "a", "dest": "b"}],
        )
        moves = [documents.migration("1", "x", "a", "b")]
        # b: 12 free; a: 28 - cores free before, 28 after (12 modulo 16).
        free = 28 - cores
        plan = documents.plan(cloud, moves, (free % 16 + 12) / (free + 12), 12 / 28)
        assert verdict(cloud, plan).kind == kind


def test_running_migration_counts_in_its_group():
    """A member on its way to b is a member on b."""
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b"), documents.host("c")],
        [documents.instance("moving", "a"), documents.instance("x", "c")],
        running_migrations=[{"instance": "moving", "source": "a", "dest": "b"}],
        server_groups=[{"id": "g", "policy": "anti-affinity", "members": ["x", "moving"]}],
    )
    for dest in ("a", "b"):
        plan = documents.plan(cloud, [documents.migration("1", "x", "c", dest)])
        assert verdict(cloud, plan).kind == "anti_affinity"


def test_fragmentation_of_a_mixed_cloud():
    """Cells where all keep to cells; PCPU where there is some; whole hosts else.

    n: cells with 8 - 3 and 8 free: 5 + 8 = 13, all fragments of 8: 5 + 0.
    f: an instance without topology floats: 16 - 4 = 12 free, 4 beyond 8.
    p: 10 PCPU free count (2 beyond 8), its VCPU do not.
    o: overfull, 0.  Disabled and down hosts: nothing.
    """
    pinned = documents.host("p")
    pinned["inventories"]["PCPU"] = {"total": 10}
    cloud = documents.snapshot(
        [
            documents.numa_host("n"),
            documents.numa_host("f"),
            pinned,
            documents.host("o", 2),
            documents.host("d", status="disabled"),
            documents.host("s", state="down"),
        ],
        [
            documents.numa_instance("n1", "n", [0], 3),
            documents.instance("f1", "f", 4),
            documents.instance("o1", "o", 4),
        ],
    )
    rate = (5 + 4 + 2) / (13 + 12 + 10)
    plan = documents.plan(cloud, [], rate, rate, options={"fragment_cores": 8})
    found = verdict(cloud, plan)
    assert found.ok, found


def test_empty_cloud():
    """Nothing is free, so nothing is lost: rate 0."""
    for cloud in (documents.snapshot([], []), documents.snapshot([documents.host("a", 0)], [])):
        plan = documents.plan(cloud, [], status="nothing_to_do")
        plan["objective"] |= {"bound": 0, "gap": 0}
        assert verdict(cloud, plan).ok

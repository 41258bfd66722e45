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
        (("conflicts",), [["x", "y"], ["x", "ghost"]], r"conflicts\[1\]"),
        (("conflicts",), [["x", "x"]], r"conflicts\[0\]"),
        (("conflicts",), [["x"]], r"conflicts\[0\]"),
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
        (
            ("running_migrations",),
            [{"instance": "x", "source": None, "dest": "b"}],
            r"running_migrations\[0\]\.source",
        ),
        (("outside",), [{"id": "x", "reason": "no_host"}], r"outside\[0\]"),
        (("outside",), 2 * [{"id": "z", "reason": "no_host"}], r"outside\[1\]"),
        (("missing",), [{"what": "w", "reason": "r", "hosts": ["ghost"]}], r"missing\[0\]\.hosts"),
        (
            ("instances", 0, "numa", 0, "resources", "PAGES_2048KB"),
            1,
            r"instances\[0\]\.numa",
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


@pytest.mark.parametrize(
    ("running", "charged"),
    [
        ({"source": "a", "dest": "b", "far_allocations": {"VCPU": 2}}, 2),
        ({"source": "b", "dest": "a", "far_allocations": {"VCPU": 9, "CUSTOM_X": 1}}, 9),
        ({"source": "a", "dest": "b", "far_allocations": {}}, 0),
        ({"source": "a", "dest": None}, 0),
        ({"source": "b", "dest": None}, 4),
        ({"source": "b", "dest": None, "far_allocations": {"VCPU": 3}}, 3),
    ],
)
def test_far_end_of_a_running_migration(running, charged):
    """At the known end where it is not, an instance of 4 charges what the snapshot says, once."""
    for cores, kind in ((16 - charged, None), (17 - charged, "capacity")):
        cloud = documents.snapshot(
            [documents.host("a", 32), documents.host("b")],
            [documents.instance("moving", "a"), documents.instance("x", "a", cores)],
            running_migrations=2 * [{"instance": "moving", **running}],
        )
        # b: nothing free afterwards; a: 28 free, 12 beyond 16.
        before = (28 - cores) % 16 + (16 - charged) % 16, 28 - cores + 16 - charged
        moves = [documents.migration("1", "x", "a", "b")]
        found = verdict(cloud, documents.plan(cloud, moves, before[0] / before[1], 12 / 28))
        assert found.kind == kind, found
    moves = [documents.migration("1", "moving", "a", "b")]
    assert verdict(cloud, documents.plan(cloud, moves)).kind == "not_migratable"


@pytest.mark.parametrize(("far", "charged"), [(3, 5), (5, 5), (7, 7)])
def test_running_migration_inside_a_pool(far, charged):
    """A pool behind both ends is charged once, the larger of the two; y's 5 must fit beside it."""
    for total, kind in ((charged + 5, None), (charged + 4, "capacity")):
        hosts = [documents.host(name, shared={"DISK_GB": "p"}) for name in ("a", "b")]
        hosts.append(documents.host("c"))
        hosts[2]["inventories"]["DISK_GB"] = {"total": 5}
        cloud = documents.snapshot(
            hosts,
            [documents.instance("moving", "a", 0), documents.instance("y", "c", 0)],
            pools=[{"id": "p", "inventories": {"DISK_GB": {"total": total}}}],
            running_migrations=[
                {
                    "instance": "moving",
                    "source": "a",
                    "dest": "b",
                    "far_allocations": {"DISK_GB": far},
                }
            ],
        )
        for entry in cloud["instances"]:
            entry["allocations"]["DISK_GB"] = 5
        plan = documents.plan(cloud, [documents.migration("1", "y", "c", "b")])
        assert verdict(cloud, plan).kind == kind


def test_held_is_charged():
    """3 VCPU on b and 2 GB of the pool behind it are taken by others, whatever they are.

    x takes 13 of b's 16 VCPU beside them and 4 of the pool's 6 GB; one more of either is too
    much.  What b has no inventory of is charged nowhere.
    """
    held = [
        {"consumer": "m", "why": "migration", "resources": {"VCPU": 1, "CUSTOM_X": 5}},
        {"consumer": "u", "why": "unknown", "resources": {"VCPU": 2, "DISK_GB": 2}},
    ]
    for cores, disk, word in ((13, 4, None), (14, 4, 'host "b" VCPU'), (13, 5, "DISK_GB")):
        cloud = documents.snapshot(
            [
                documents.host("a", 32),
                documents.host("b", shared={"DISK_GB": "p"}, held=held),
            ],
            [documents.instance("x", "a", cores)],
            pools=[{"id": "p", "inventories": {"DISK_GB": {"total": 6}}}],
        )
        cloud["instances"][0]["allocations"]["DISK_GB"] = disk
        cloud["hosts"][0]["inventories"]["DISK_GB"] = {"total": 100}
        # b has 13 free before and none after; a 32 - cores, then 32.
        free = 32 - cores
        plan = documents.plan(
            cloud, [documents.migration("1", "x", "a", "b")], (free % 16 + 13) / (free + 13), 0.0
        )
        found = verdict(cloud, plan)
        assert (found.kind, (word or "safe") in found.detail) == (word and "capacity", True), found


def test_pages_count_in_cells():
    """Pages of one size, which Placement does not know, fill the cells that list them."""
    for pages, kind in ((2, None), (3, "numa")):
        cloud = documents.snapshot(
            [documents.numa_host("a"), documents.numa_host("b")],
            [documents.numa_instance("x", "a", [0], 4)],
        )
        cloud["instances"][0]["numa"][0]["resources"]["HUGEPAGES_2048KB"] = pages
        cloud["hosts"][1]["numa"]["cells"][1]["capacity"]["HUGEPAGES_2048KB"] = 2
        moves = [documents.migration("1", "x", "a", "b", source_numa=[0], dest_numa=[1])]
        assert verdict(cloud, documents.plan(cloud, moves, 1.0, 1.0)).kind == kind


def test_inferred_cells_are_not_checked():
    """Guests overfill a cell that was only seen from guests: nobody knows its capacity.

    The host counts in the rate as one: 16 - 12 free, and 16 on b, of which 16 are no fragment.
    """
    inferred = documents.numa_host("a")
    inferred["numa"]["provenance"] = "inferred"
    cloud = documents.snapshot(
        [inferred, documents.host("b")],
        [documents.numa_instance("x", "a", [0], 6), documents.numa_instance("y", "a", [0], 6)],
    )
    assert verdict(cloud, documents.plan(cloud, [], 4 / 20, 4 / 20)).ok


def test_running_migration_floats_at_its_far_end():
    """Something without topology on its way to n makes its cells uncertain: n counts as one.

    n and a have 12 free each, of which 4 are beyond 8; n's cells alone would have 8 and 8.
    """
    cloud = documents.snapshot(
        [documents.numa_host("n"), documents.host("a")],
        [documents.instance("moving", "a")],
        running_migrations=[{"instance": "moving", "source": "a", "dest": "n"}],
    )
    plan = documents.plan(cloud, [], 8 / 24, 8 / 24, options={"fragment_cores": 8})
    assert verdict(cloud, plan).ok


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


def test_running_migration_counts_in_its_conflicts():
    """An instance on its way to b is met on a and on b, whatever the pair's order."""
    for pair in (["x", "moving"], ["moving", "x"]):
        cloud = documents.snapshot(
            [documents.host("a"), documents.host("b"), documents.host("c")],
            [documents.instance("moving", "a"), documents.instance("x", "c")],
            running_migrations=[{"instance": "moving", "source": "a", "dest": "b"}],
            conflicts=[pair],
        )
        for dest in ("a", "b"):
            plan = documents.plan(cloud, [documents.migration("1", "x", "c", dest)])
            found = verdict(cloud, plan)
            assert found.kind == "anti_affinity"
            assert f'host "{dest}" instances in conflict "moving" and "x"' in found.detail


def test_conflict_of_the_snapshot_may_stay():
    """x and y are together on a: either may leave and neither come back while the other is there.

    A pair with an instance on no host is in nobody's way.  a has 8 free of 16 at first, then 12:
    with b's and c's 16 that is 8 / 40 of fragments, then 4 + 4 of 12 + 12 + 16.
    """
    cloud = documents.snapshot(
        [documents.host(name) for name in "abc"],
        [documents.instance("x", "a"), documents.instance("y", "a")],
        conflicts=[["x", "y"], ["x", "away"]],
        outside=[{"id": "away", "reason": "no_host"}],
    )
    moves = [documents.migration("1", "x", "a", "b")]
    options = {"fragment_cores": 8}
    assert verdict(cloud, documents.plan(cloud, moves, 0, 8 / 40, options=options)).ok
    moves[0]["role"] = "bypass"
    moves.append(documents.migration("2", "x", "b", "a", ("1",)))
    found = verdict(cloud, documents.plan(cloud, moves, 0, 0, options=options))
    assert (found.kind, found.migration) == ("anti_affinity", "2")


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

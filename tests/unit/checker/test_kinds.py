# SPDX-License-Identifier: Apache-2.0
"""A right plan is accepted; each single corruption of it is rejected and named."""

import pytest

from nova_rebalancer import checker
from nova_rebalancer import exceptions
from tests.unit.checker import documents
from tests.unit.checker.documents import changed
from tests.unit.checker.documents import verdict


def small_cloud() -> documents.Document:
    """Five hosts in one zone and one beside it; every rule has someone to keep it.

    a has 12 of 16 VCPU taken (a1, a2, a3: 4 each), b 12 (b1), c is empty, d is disabled, e is
    in another zone, n has two cells of 8 with n1 (4 + 4) on both, m is empty with such cells.
    """
    return documents.snapshot(
        hosts=[
            documents.host("a"),
            documents.host("b", service_host="b.example"),
            documents.host("c"),
            documents.host("d", status="disabled"),
            documents.host("e", az="east"),
            documents.numa_host("n"),
            documents.numa_host("m"),
        ],
        instances=[
            documents.instance("a1", "a", project="p"),
            documents.instance("a2", "a"),
            documents.instance("a3", "a"),
            documents.instance("b1", "b", 12, project="p"),
            documents.instance("locked", "b", 0, locked=True),
            documents.instance("pinned", "c", 0, allowed_hosts=["c", "b"]),
            documents.numa_instance("n1", "n", [0, 1], 8),
        ],
        server_groups=[
            {"id": "apart", "policy": "anti-affinity", "members": ["a1", "a3", "b1"]},
            {"id": "close", "policy": "affinity", "members": ["a2", "pinned"]},
            {"id": "alone", "policy": "affinity", "members": ["n1"]},
            {"id": "wish", "policy": "soft-anti-affinity", "members": ["n1", "a1", "a2"]},
        ],
    )


def right_plan() -> documents.Document:
    """b1 goes b -> c, a1 a -> m -> b once b1 has left, n1 n -> m once a1 has left m.

    Free cores before: a 4, b 4, c 16, e 16, n 4 + 4, m 8 + 8: 64, of which 32 beyond 16s.
    After: a 8, b 12, c 4, e 16, n 8 + 8, m 4 + 4: 64, of which 48.
    """
    return documents.plan(
        small_cloud(),
        [
            documents.migration("1", "b1", "b.example", "c"),
            documents.migration("2", "a1", "a", "m", role="bypass"),
            documents.migration("3", "a1", "m", "b.example", ("1", "2")),
            documents.migration(
                "4",
                "n1",
                "n",
                "m",
                ("2", "3"),
                source_numa=[0, 1],
                dest_numa=[1, 0],
                wave=4,
                start_s=30,
                end_s=40,
            ),
        ],
        before=32 / 64,
        after=48 / 64,
        max_migrations=4,
        excluded=[
            {"instance": "locked", "reason": {"code": "locked", "params": {}, "text": "locked"}}
        ],
    )


def test_right_plan_is_accepted():
    """The plan that the corruptions start from is right."""
    found = verdict(small_cloud(), right_plan())
    assert found.ok, found
    assert (found.kind, found.migration) == (None, None)
    assert found.detail.startswith("4 migrations in 3 waves")


@pytest.mark.parametrize(
    ("path", "to", "kind", "migration"),
    [
        (("format",), "nova-rebalancer-plan/2", "format", None),
        (("migrations", 1, "wave"), 0, "format", "2"),
        (("status",), "perfect", "format", None),
        (("runtime_s",), float("nan"), "format", None),
        (("cloud",), "other", "snapshot_mismatch", None),
        (("region",), "other", "snapshot_mismatch", None),
        (("snapshot_sha256",), "0" * 64, "snapshot_mismatch", None),
        (("snapshot_taken_at",), "2026-01-01T00:00:01Z", "snapshot_mismatch", None),
        (("numa_choice",), "nova", "snapshot_mismatch", None),
        (("migrations", 1, "id"), "1", "duplicate_id", "1"),
        (("migrations", 0, "instance"), "ghost", "unknown_instance", "1"),
        (("excluded", 0, "instance"), "ghost", "unknown_instance", None),
        (("migrations", 0, "dest"), "ghost", "unknown_host", "1"),
        # b is the id of a host, its service host is b.example.
        (("migrations", 0, "source"), "b", "unknown_host", "1"),
        (("migrations", 0, "dest_provider"), "ghost", "unknown_host", "1"),
        (("migrations", 2, "depends_on"), ["1", "ghost"], "unknown_dependency", "3"),
        (("migrations", 0, "depends_on"), ["3"], "dependency_cycle", "1"),
        (("migrations", 0, "depends_on"), ["1"], "dependency_cycle", "1"),
        (("max_migrations",), 3, "too_many", "4"),
        # Each of the four migrations is of 1 GiB.
        (("options", "max_gib"), 2.9, "too_many", "3"),
        # The first three migrations are of project p's instances, of 1 GiB each.
        (("options", "project_migrations"), 2, "project_budget", "3"),
        (("options", "project_gib"), 2.9, "project_budget", "3"),
        (("options", "last_moved"), {"a1": "yesterday"}, "format", None),
        (("migrations", 2, "wave"), 4, "order", "4"),
        (("migrations", 2, "wave"), 1, "order", "3"),
        (("migrations", 3, "wave"), 3, "order", "4"),
        (("migrations", 3, "start_s"), 29, "order", "4"),
        (("migrations", 0, "end_s"), 31, "order", "3"),
        (("migrations", 1, "role"), "direct", "order", "2"),
        (("migrations", 2, "role"), "bypass", "order", "3"),
        (("migrations", 2, "depends_on"), ["1"], "order", "3"),
        (("migrations", 0, "dest"), "b.example", "same_host", "1"),
        (("migrations", 0, "source"), "c", "same_host", "1"),
        (("migrations", 0, "source"), "a", "wrong_source", "1"),
        (("migrations", 2, "source"), "a", "wrong_source", "3"),
        (("migrations", 0, "source_provider"), "a", "wrong_source", "1"),
        (("migrations", 0, "instance"), "locked", "not_migratable", "1"),
        (("migrations", 0, "dest"), "d", "not_allowed", "1"),
        (("migrations", 0, "dest"), "e", "not_allowed", "1"),
        (("migrations", 3, "source_numa"), [1, 0], "numa", "4"),
        (("migrations", 3, "source_numa"), None, "numa", "4"),
        (("migrations", 0, "source_numa"), [0], "numa", "1"),
        (("migrations", 3, "dest_numa"), None, "numa", "4"),
        (("migrations", 3, "dest_numa"), [0], "numa", "4"),
        (("migrations", 3, "dest_numa"), [0, 0], "numa", "4"),
        (("migrations", 3, "dest_numa"), [0, 2], "numa", "4"),
        (("migrations", 3, "dest_numa"), [0, None], "numa", "4"),
        (("migrations", 3, "dest"), "c", "numa", "4"),
        (("migrations", 0, "dest_numa"), [0], "numa", "1"),
        # 12 of b1 and 12 there already.
        (("migrations", 0, "dest"), "a", "capacity", "1"),
        (("objective", "before"), 0.4, "objective", None),
        (("objective", "after"), 0.5, "objective", None),
        (("objective", "name"), "balance", "objective", None),
        (("objective", "bound"), 1.1, "objective", None),
        (("objective", "gap"), 0.1, "objective", None),
        (("options", "fragment_cores"), 5, "objective", None),
        (("options", "min_gain"), 1e-6, "not_worth", None),
        (("options", "cost_per_gib"), 1e-6, "not_worth", None),
        (("status",), "optimal", "objective", None),
        (("status",), "nothing_to_do", "objective", None),
    ],
)
def test_one_corruption(path, to, kind, migration):
    """One changed value gives exactly this kind at exactly this migration."""
    found = verdict(small_cloud(), changed(right_plan(), *path, to=to))
    assert (found.ok, found.kind, found.migration) == (False, kind, migration), found
    assert kind in checker.KINDS
    assert "\n" not in found.detail


def test_list_before_its_dependency_is_order():
    """The list is executable as it stands."""
    plan = right_plan()
    plan["migrations"][2:] = reversed(plan["migrations"][2:])
    found = verdict(small_cloud(), plan)
    assert (found.kind, found.migration) == ("order", "4")


def test_forgotten_dependency_is_capacity():
    """Without waiting for b1 to leave, a1 (4) would make b hold 12 + 4 = 16: fits; 5 would not.

    So b is shrunk to 15: the plan stays right, and only the dependency keeps it so.
    """
    cloud = changed(small_cloud(), "hosts", 1, "inventories", "VCPU", "total", to=15)
    cloud = changed(cloud, "server_groups", to=[])
    plan = documents.plan(
        cloud,
        right_plan()["migrations"],
        # b has 3 free now, 11 in the end.
        before=31 / 63,
        after=47 / 63,
    )
    assert verdict(cloud, plan).ok
    plan["migrations"][2]["depends_on"] = ["2"]
    found = verdict(cloud, plan)
    assert (found.kind, found.migration) == ("capacity", "3")
    assert 'instance "a1": host "b.example" VCPU would be charged 16 of 15' in found.detail
    assert "in flight: 3; confirmed: 2" in found.detail


def test_forgotten_dependency_is_anti_affinity():
    """b1 and a1 are in one group: a1 may come only when b1 is confirmed away."""
    plan = changed(right_plan(), "migrations", 2, "depends_on", to=["2"])
    found = verdict(small_cloud(), plan)
    assert (found.kind, found.migration) == ("anti_affinity", "3")
    assert '"apart" would be charged 2 of 1' in found.detail


def test_forgotten_dependency_is_numa():
    """On one cell 8 + 8 do not fit in 8, while the host's 32 VCPU hold both."""
    big = {"VCPU": {"total": 64}, "MEMORY_MB": {"total": 1 << 20}}
    cloud = documents.snapshot(
        [
            documents.numa_host("n") | {"inventories": big},
            documents.numa_host("m") | {"inventories": big},
            documents.numa_host("k") | {"inventories": big},
        ],
        [documents.numa_instance("x", "n", [0], 8), documents.numa_instance("y", "m", [1], 8)],
    )
    moves = [
        documents.migration("1", "y", "m", "k", source_numa=[1], dest_numa=[0]),
        documents.migration("2", "x", "n", "m", ("1",), source_numa=[0], dest_numa=[1]),
    ]
    # Four cells of 8 are free before and after.
    plan = documents.plan(cloud, moves, before=1.0, after=1.0)
    assert verdict(cloud, plan).ok
    found = verdict(cloud, changed(plan, "migrations", 1, "depends_on", to=[]))
    assert (found.kind, found.migration) == ("numa", "2")
    assert 'host "m" NUMA cell 1 VCPU would be charged 16 of 8' in found.detail


def test_member_that_leaves_its_affinity_group():
    """a2's only companion is on c: everywhere else it would be alone."""
    for dest, kind in (("m", "affinity"), ("c", None)):
        moves = [documents.migration("1", "a2", "a", dest)]
        # On c: a has 8 free, b 4, c 12, n 4 + 4, m 8 + 8.
        found = verdict(small_cloud(), documents.plan(small_cloud(), moves, 32 / 64, 48 / 64))
        assert found.kind == kind, found


def test_companion_that_moves_does_not_count():
    """Two members that swap places do not keep each other company."""
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b")],
        [documents.instance("x", "a"), documents.instance("y", "b")],
        server_groups=[{"id": "close", "policy": "affinity", "members": ["x", "y"]}],
    )
    moves = [documents.migration("1", "x", "a", "b"), documents.migration("2", "y", "b", "a")]
    assert verdict(cloud, documents.plan(cloud, moves, 1.0, 1.0)).kind == "affinity"


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"allow_migration": False}, "does not allow"),
        ({"status": "SHUTOFF"}, "SHUTOFF"),
        ({"task_state": "resizing"}, "resizing"),
        ({"locked": True}, "locked"),
        ({"host": "d"}, "disabled"),
        ({"host": "f"}, "down"),
        ({"host": "g"}, "not read whole"),
        ({"allocations": {}}, "no allocations"),
        ({"nested": {"gpu": {"VGPU": 1}}}, "nested providers"),
    ],
)
def test_not_migratable(more, word):
    """Each reason for which an instance stays."""
    cloud = documents.snapshot(
        [
            documents.host("a"),
            documents.host("b"),
            documents.host("d", status="disabled"),
            documents.host("f", state="down"),
            documents.host("g"),
        ],
        [documents.instance("x", "a") | more],
        missing=[{"what": "topologies", "reason": "timeout", "hosts": ["g"]}],
    )
    moves = [documents.migration("1", "x", more.get("host", "a"), "b")]
    found = verdict(cloud, documents.plan(cloud, moves))
    assert (found.kind, found.migration) == ("not_migratable", "1")
    assert word in found.detail


def test_excluded_or_migrating_instances_stay():
    """A plan may not move what it excludes, nor what Nova is moving."""
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b"), documents.host("c")],
        [documents.instance("x", "a")],
    )
    moves = [documents.migration("1", "x", "a", "b")]
    why = {"instance": "x", "reason": {"code": "opted_out", "params": {}, "text": "no"}}
    plan = documents.plan(cloud, moves, 12 / 44, 12 / 44)
    assert verdict(cloud, plan).ok
    assert verdict(cloud, changed(plan, "excluded", to=[why])).kind == "not_migratable"
    cloud["running_migrations"] = [{"instance": "x", "source": "a", "dest": "c"}]
    assert verdict(cloud, documents.plan(cloud, moves)).kind == "not_migratable"


@pytest.mark.parametrize(
    ("inventory", "word"),
    [
        (None, "no inventory"),
        ({"total": 16, "min_unit": 5}, "min_unit 5"),
        ({"total": 16, "max_unit": 3}, "max_unit 3"),
        ({"total": 16, "step_size": 3}, "step_size 3"),
    ],
)
def test_not_allowed_by_inventory(inventory, word):
    """Placement refuses 4 VCPU there however empty the host is."""
    there = documents.host("b")
    if inventory is None:
        del there["inventories"]["VCPU"]
    else:
        there["inventories"]["VCPU"] = inventory
    cloud = documents.snapshot([documents.host("a"), there], [documents.instance("x", "a")])
    found = verdict(cloud, documents.plan(cloud, [documents.migration("1", "x", "a", "b")]))
    assert (found.kind, found.migration) == ("not_allowed", "1")
    assert "4 VCPU" in found.detail and word in found.detail


def test_not_allowed_by_pin_and_zone():
    """allowed_hosts holds; a host without zone is in another zone than one with."""
    cloud = documents.snapshot(
        [documents.host("a", az="x"), documents.host("b"), documents.host("c", az="x")],
        [documents.instance("x", "a", allowed_hosts=["a", "b"])],
    )
    for dest, word in (("b", "availability zone null"), ("c", "allowed_hosts")):
        plan = documents.plan(cloud, [documents.migration("1", "x", "a", dest)])
        found = verdict(cloud, plan)
        assert (found.kind, word in found.detail) == ("not_allowed", True), found


@pytest.mark.parametrize(
    ("lack", "kind", "word"),
    [
        ({}, "snapshot_incomplete", "lacks ports (timeout)"),
        ({"hosts": None}, "snapshot_incomplete", "lacks ports"),
        ({"hosts": ["b"]}, "not_allowed", 'dest "b" is not read whole'),
        ({"hosts": ["c", "a"]}, "not_migratable", 'host "a", which is not read whole'),
        ({"hosts": ["c"]}, None, ""),
        ({"hosts": []}, None, ""),
    ],
)
def test_missing(lack, kind, word):
    """What is missing for all hosts forbids every plan, else only what touches the hosts named.

    A host not read whole is no part of the rates: without c 12 + 16 cores are free before and
    after the move, with it 16 more; of either 12 are fragments.
    """
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b"), documents.host("c")],
        [documents.instance("x", "a")],
        missing=[{"what": "ports", "reason": "timeout", **lack}],
    )
    moves = [documents.migration("1", "x", "a", "b")]
    rate = 12 / (28 if lack.get("hosts") else 44)
    found = verdict(cloud, documents.plan(cloud, moves, rate, rate))
    assert (found.kind, word in found.detail) == (kind, True), found
    if kind == "snapshot_incomplete":
        assert verdict(cloud, documents.plan(cloud, [], rate, rate)).kind == kind


def test_members_outside_keep_no_company():
    """An instance on no host here holds no place in a group, and is nobody to move to or with."""
    cloud = documents.snapshot(
        [documents.host("a"), documents.host("b")],
        [documents.instance("x", "a"), documents.instance("y", "a")],
        outside=[{"id": "away", "reason": "host_unknown", "host": "b"}],
        server_groups=[
            {"id": "apart", "policy": "anti-affinity", "members": ["x", "away"]},
            {"id": "close", "policy": "affinity", "members": ["y", "away"]},
        ],
    )
    for name, kind in (("x", None), ("y", "affinity"), ("away", "unknown_instance")):
        # a has 8 free and then 12, b 16 and then 12.
        plan = documents.plan(cloud, [documents.migration("1", name, "a", "b")], 8 / 24, 1.0)
        assert verdict(cloud, plan).kind == kind, name


@pytest.mark.parametrize("provenance", ["unknown", "inferred"])
def test_unknown_cells_take_no_topology(provenance):
    """Cells that nobody vouches for are no destination for an instance with a topology."""
    unknown = documents.numa_host("m")
    unknown["numa"]["provenance"] = provenance
    cloud = documents.snapshot(
        [documents.numa_host("n"), unknown], [documents.numa_instance("x", "n", [0], 4)]
    )
    moves = [documents.migration("1", "x", "n", "m", source_numa=[0], dest_numa=[0])]
    found = verdict(cloud, documents.plan(cloud, moves))
    assert found.kind == "numa" and "not known" in found.detail


def test_proof_is_called_optimal_and_nothing_else_is():
    """With a bound that meets the value the status is optimal, and the gap is 0."""
    plan = right_plan()
    for bound, gap, status, ok in (
        # after is 3/4, and before 1/2 is a placement within the limit: a bound above is false.
        (0.25, 2 / 3, "feasible", True),
        (0.25, 2 / 3, "time_limit", True),
        (0.25, 2 / 3, "interrupted", True),
        (0.25, 2 / 3, "optimal", False),
        (0.6, 0.2, "feasible", False),
        (0.25, 0.5, "feasible", False),
        (0.25, None, "feasible", False),
    ):
        plan["objective"] |= {"bound": bound, "gap": gap}
        plan["status"] = status
        found = verdict(small_cloud(), plan)
        assert (found.ok, found.kind) == (ok, None if ok else "objective"), (bound, status, found)
    cloud = small_cloud()
    plan = documents.plan(cloud, [], 32 / 64, 32 / 64, status="optimal")
    plan["objective"] |= {"bound": 32 / 64, "gap": 0}
    part = {
        "name": "fragmentation",
        "unit": "rate",
        "weight": 1,
        "before": 32 / 64,
        "after": 32 / 64,
        "bound": 32 / 64,
    }
    plan["objectives"] = [part, part | {"name": "fragment_cores", "before": 7}]
    assert verdict(cloud, plan).ok
    assert verdict(cloud, plan | {"status": "feasible"}).kind == "objective"
    assert verdict(cloud, plan | {"status": "nothing_to_do"}).ok
    for key, value in (("before", 0.1), ("after", 0.1), ("bound", None), ("bound", 0.1)):
        wrong = changed(plan, "objectives", 0, key, to=value)
        assert verdict(cloud, wrong).kind == "objective"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\x1f\x8b\x08broken", b"\xff\xfe", b"[" * 100_000, b'{"a": 1e999}'],
)
def test_plan_that_is_no_document(data):
    """Whatever the bytes are, a bad plan is a verdict; the same bytes as snapshot an error."""
    found = checker.check(documents.as_bytes(small_cloud()), data)
    assert (found.ok, found.kind, found.migration) == (False, "format", None)
    with pytest.raises(exceptions.InputError, match=r"^cloud\.json: "):
        checker.check(data, b"{}", snapshot_name="cloud.json")


def test_lone_surrogate_is_format():
    """JSON can spell strings that no file can hold and no terminal can show."""
    for spelled, kind in ((b'"\\ud800"', "format"), (b'"\\uD83D\\uDE00"', None)):
        data = documents.as_bytes(right_plan()).replace(b'"greedy"', spelled)
        assert checker.check(documents.as_bytes(small_cloud()), data).kind == kind


def test_a_new_destination_is_judged_before_its_stale_provider():
    """Who edits ``dest`` alone hears what is wrong there, not that the provider does not fit."""
    plan = changed(right_plan(), "migrations", 0, "dest_provider", to="c")
    assert verdict(small_cloud(), plan).ok
    plan = changed(plan, "migrations", 0, "dest", to="b.example")
    assert verdict(small_cloud(), plan).kind == "same_host"

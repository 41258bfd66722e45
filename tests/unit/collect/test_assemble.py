# SPDX-License-Identifier: Apache-2.0
"""What a cloud answered becomes a sound document that charges exactly what Placement charges."""

import collections
import json
import random
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import document
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.model import state
from tests.unit.collect import emulator

BIG = {"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 80}


def read(world: emulator.World) -> reading.Reading:
    """One pass."""
    return reader.Reader(emulator.Direct(world), reader.Progress()).read()


def written(world: emulator.World) -> dict[str, Any]:
    """The document of a world, which is sound."""
    made = assemble.document(read(world), "c", "RegionOne", say=lambda text: None)
    assert document.problems(made) == []
    return made


def hosts(made: dict[str, Any]) -> dict[str, Any]:
    """Hosts by service host."""
    return {one["service_host"]: one for one in made["hosts"]}


def instances(made: dict[str, Any]) -> dict[str, Any]:
    """Instances by id."""
    return {one["id"]: one for one in made["instances"]}


def held(made: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Host, consumer and reason of what is held."""
    return [
        (name, one["consumer"], one["why"])
        for name, host in hosts(made).items()
        for one in host["held"]
    ]


def check_charges(world: emulator.World, made: dict[str, Any]) -> None:
    """What the model has used of each row is what Placement charges its provider.

    Only where a migration has not claimed its destination yet, the model charges that already.
    """
    unclaimed = [
        {**one, "far_allocations": one["far_allocations"] or {}}
        for one in made["running_migrations"]
    ]
    made = {**made, "running_migrations": unclaimed}
    snapshot, _ = document.loads(json.dumps(made).encode(), "it")
    built = state.build(snapshot)
    rows = [host.id for host in snapshot.hosts] + [pool.id for pool in snapshot.pools]
    used = built.used()
    for h in range(len(built.hosts)):
        for r, resource in enumerate(built.resources):
            row = built.row_of[h, r]
            if row != state.NOWHERE:
                charged = world.charged(rows[row])[resource]
                if resource.endswith(state.NESTED):
                    nested = [one.id for one in snapshot.hosts[h].providers]
                    plain = resource.removesuffix(state.NESTED)
                    charged = sum(world.charged(one)[plain] for one in nested)
                assert used[row, r] == charged, (snapshot.hosts[h].service_host, resource)


@pytest.fixture
def world():
    """Three hosts with room for everything."""
    made = emulator.World()
    for name in "abc":
        made.host(name)
    return made


# Instances


def test_plain(world):
    """A cloud at rest: each server on its host with its allocation, nothing held or missing."""
    name = world.server("a", metadata={"k": "v"}, tags=["t"])
    world.flavor("m1", extra_specs={"hw:cpu_policy": "dedicated"}, swap=1)
    world.aggregates.append(
        {"id": 1, "uuid": "g", "name": "g", "hosts": ["b", "a", "gone"], "metadata": {"x": "1"}}
    )
    made = written(world)
    check_charges(world, made)
    one = instances(made)[name]
    assert (one["host"], one["allocations"]) == (world.node("a"), emulator.SMALL)
    assert (one["metadata"], one["tags"], one["numa"]) == ({"k": "v"}, ["t"], None)
    assert one["image"] == {"id": "e" * 8, "properties": {"hw_machine_type": "q35"}}
    assert made["flavors"][0]["resources"] == {"PCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 11}
    assert made["aggregates"][0]["hosts"] == sorted([world.node("a"), world.node("b")])
    assert held(made) == made["missing"] == made["refused"] == made["outside"] == []
    host = hosts(made)["a"]
    assert (host["az"], host["status"], host["state"]) == ("nova", "enabled", "up")
    for fact in ("cell", "rack", "power_zone", "migration_link", "migration_mibps"):
        assert host[fact] == {"provenance": "unknown", "value": None}
    assert host["numa"]["provenance"] == "unknown"


@pytest.mark.parametrize(
    ("metadata", "tags", "allowed"),
    [
        ({}, [], True),
        ({"nova-rebalancer:allow-migration": "true"}, [], True),
        ({"nova-rebalancer:allow-migration": " True "}, [], True),
        ({"nova-rebalancer:allow-migration": "false"}, [], False),
        ({"nova-rebalancer:allow-migration": "no"}, [], False),
        ({"nova-rebalancer:allow-migration": ""}, [], False),
        ({"nova-rebalancer:allow-migration": None}, [], False),
        ({}, ["nova-rebalancer:stay"], False),
        ({"nova-rebalancer:allow-migration": "true"}, ["nova-rebalancer:stay"], False),
        ({}, ["nova-rebalancer:stays"], True),
    ],
)
def test_opt_out(world, metadata, tags, allowed):
    """Anything but true means no, and the tag alone does too."""
    name = world.server("a", metadata=metadata, tags=tags)
    assert instances(written(world))[name]["allow_migration"] is allowed


@pytest.mark.parametrize(("locked", "told"), [(False, False), (True, True), (None, True)])
def test_locks(world, locked, told):
    """A server that says nothing of a lock may have one."""
    name = world.server("a", locked=locked)
    assert instances(written(world))[name]["locked"] is told


@pytest.mark.parametrize("status", ["BUILD", "ERROR", "SHELVED_OFFLOADED"])
def test_server_without_host(world, status):
    """A server on no host is outside, and is known with its status."""
    name = world.server(None, status=status)
    (one,) = written(world)["outside"]
    assert (one["id"], one["status"], one["reason"]) == (name, status, "no_host")


def test_half_deleted(world):
    """A server that is being deleted is where it is until it is gone, charged or not."""
    name = world.server("a", **{emulator.TASK: "deleting"})
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["task_state"] == "deleting"
    world.release(name)
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["allocations"] == {}


def test_host_nobody_lists(world):
    """A server on a host that is in no list is outside."""
    name = world.server("a")
    world.servers[name][emulator.HOST] = "elsewhere"
    made = written(world)
    check_charges(world, made)
    assert [(one["id"], one["reason"]) for one in made["outside"]] == [(name, "host_unknown")]
    # It may run on a after all, which is why nothing is planned there.
    assert held(made) == [("a", name, "elsewhere")]
    assert [one["hosts"] for one in made["missing"]] == [[world.node("a")]]


# Hosts that are refused


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hypervisor_type": "ironic"}, "bare metal"),
        ({"hypervisor_type": "VMware vCenter Server"}, "vCenter"),
        ({"service": None}, "names no compute service"),
        ({"hypervisor_hostname": "b2"}, "renamed"),
        ({"hypervisor_hostname": None}, "renamed"),
        ({"id": "00000000-0000-4000-8000-000000000000"}, "no provider"),
    ],
)
def test_refused_host(world, fields, reason):
    """A host this program must not plan for is refused with the reason, its servers outside."""
    name = world.server("b")
    other = world.server("a")
    hypervisor = next(one for one in world.hypervisors if one["hypervisor_hostname"] == "b")
    hypervisor.update(fields)
    made = written(world)
    check_charges(world, made)
    (refused,) = made["refused"]
    assert reason in refused["reason"]
    assert [one["id"] for one in made["outside"]] == [name]
    assert set(hosts(made)) == {"a", "c"}
    assert instances(made).keys() == {other}
    assert made["missing"] == []


def test_host_without_inventory(world):
    """A compute service that has not reported yet offers nothing that could be planned with."""
    world.inventories[world.node("b")] = {}
    (refused,) = written(world)["refused"]
    assert (refused["host"], "no inventory" in refused["reason"]) == ("b", True)


def test_two_hypervisors_on_one_service(world):
    """As with Ironic, or with one name in two cells: which host a migration means is unclear."""
    world.host("a2")
    world.hypervisors[-1]["service"]["host"] = "a"
    name = world.server("b")
    made = written(world)
    assert {one["host"] for one in made["refused"]} == {"a"}
    assert instances(made).keys() == {name}


def test_no_service(world):
    """A hypervisor whose service is not listed is not planned for."""
    world.services = [one for one in world.services if one["host"] != "a"]
    made = written(world)
    assert [one["hosts"] for one in made["missing"]] == [[world.node("a")]]


@pytest.mark.parametrize(
    ("fields", "status", "up"),
    [
        ({"status": "disabled", "disabled_reason": "new kernel"}, "disabled", "up"),
        ({"state": "down", "forced_down": True}, "enabled", "down"),
        ({"status": None, "state": None}, "disabled", "down"),
    ],
)
def test_service_states(world, fields, status, up):
    """A host is as usable as its service says; what it does not say is the worse."""
    world.services[0].update(fields)
    host = hosts(written(world))["a"]
    assert (host["status"], host["state"]) == (status, up)
    assert host["forced_down"] is (fields.get("forced_down") is True)
    assert host["disabled_reason"] == fields.get("disabled_reason")


def test_scope(world):
    """With a scope the other hosts are left out without being refused, and charges stay right."""
    inside, outside = world.server("a"), world.server("b")
    world.live(world.server("a"), "b")
    world.live(world.server("b"), "a")
    only = frozenset({world.node("a"), world.node("c")})
    made = assemble.document(read(world), "c", None, only)
    assert document.problems(made) == []
    check_charges(world, made)
    assert set(hosts(made)) == {"a", "c"}
    assert made["refused"] == []
    assert {one["id"]: one["reason"] for one in made["outside"]}[outside] == "out_of_scope"
    assert inside in instances(made)


# Migrations


def test_live_migration(world):
    """Counted once at each end: the server's allocation there, the migration's here."""
    name = world.server("a")
    running = world.live(name, "b")
    made = written(world)
    check_charges(world, made)
    one = instances(made)[name]
    assert (one["host"], one["allocations"]) == (world.node("a"), emulator.SMALL)
    (migration,) = made["running_migrations"]
    assert migration == {
        "id": running,
        "type": "live-migration",
        "instance": name,
        "source": world.node("a"),
        "dest": world.node("b"),
        "status": "running",
        "far_allocations": emulator.SMALL,
    }
    assert held(made) == []


@pytest.mark.parametrize("dest", [None, "b"])
def test_migration_before_the_destination_is_charged(world, dest):
    """A queued migration holds the source already, and perhaps names where it will go."""
    name = world.server("a")
    world.migration(name, dest)
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["allocations"] == emulator.SMALL
    (migration,) = made["running_migrations"]
    assert migration["dest"] == (dest and world.node(dest))
    # The model charges the destination as if it were claimed.
    assert migration["far_allocations"] is None


@pytest.mark.parametrize("done", [True, False])
def test_resize(world, done):
    """While it is moved, and while it waits for confirmation, the two ends differ in amounts."""
    name = world.server("a")
    world.resize(name, "b", BIG, done)
    made = written(world)
    check_charges(world, made)
    one = instances(made)[name]
    assert one["host"] == world.node("b" if done else "a")
    assert one["allocations"] == (BIG if done else emulator.SMALL)
    assert made["running_migrations"][0]["far_allocations"] == (emulator.SMALL if done else BIG)


@pytest.mark.parametrize("done", [True, False])
def test_resize_on_the_same_host(world, done):
    """Both sizes are charged on the one host."""
    name = world.server("a")
    world.resize(name, "a", BIG, done)
    made = written(world)
    check_charges(world, made)
    assert len(made["running_migrations"]) == 1


def test_stale_migration_record(world):
    """A record that a crash left behind stands beside a running one: everything stays charged."""
    name = world.server("a")
    stale = world.live(name, "c")
    world.release(name)
    world.touch(name, status="ACTIVE", **{emulator.TASK: None})
    world.claim(name, "a", emulator.SMALL)
    world.live(name, "b")
    # Its record holds the source still.
    world.claim(stale, "a", emulator.SMALL)
    made = written(world)
    check_charges(world, made)
    assert len(made["running_migrations"]) == 1


def test_migration_from_a_refused_host(world):
    """One end outside the snapshot: the other one is right."""
    name = world.server("a")
    world.resize(name, "b", BIG)
    world.inventories[world.node("a")] = {}
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["allocations"] == BIG


def test_migration_to_a_refused_host(world):
    """The same for the destination."""
    name = world.server("a")
    world.live(name, "b")
    world.inventories[world.node("b")] = {}
    made = written(world)
    check_charges(world, made)
    assert made["running_migrations"][0]["dest"] is None


def test_migration_of_a_server_elsewhere(world):
    """A migration of a server that is on no host here is no running migration, but it is held."""
    name = world.server("a")
    running = world.live(name, "b")
    world.servers[name][emulator.HOST] = None
    made = written(world)
    check_charges(world, made)
    assert made["running_migrations"] == []
    assert set(held(made)) == {("a", running, "migration"), ("b", name, "elsewhere")}


# What else is charged


def test_leak_of_a_server_elsewhere(world):
    """What a server left behind on another host stays charged there, and it is where Nova says."""
    name = world.server("a")
    world.charge(name, world.node("b"), {"VCPU": 1})
    made = written(world)
    check_charges(world, made)
    assert held(made) == [("b", name, "elsewhere")]
    assert instances(made)[name]["allocations"] == emulator.SMALL
    assert made["missing"] == []


def test_leak_of_nobody(world):
    """So does what is charged for a consumer that Nova does not list."""
    leak = world.new()
    world.charge(leak, world.node("b"), {"VCPU": 1, "CUSTOM_X": 2})
    made = written(world)
    check_charges(world, made)
    assert held(made) == [("b", leak, "unknown")]


def test_server_that_is_charged_elsewhere_only(world):
    """A server Placement has on another host alone is charged there, not here."""
    name = world.server("a", None)
    world.claim(name, "b", emulator.SMALL)
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["allocations"] == {}
    assert held(made) == [("b", name, "elsewhere")]


def test_stubs_of_a_down_cell():
    """Servers of a down cell are outside, and what they are charged on a host here is held."""
    now = emulator.World()
    now.host("a")
    lost = now.server("a")
    now.down.add(lost)
    made = written(now)
    check_charges(now, made)
    assert [(one["id"], one["reason"]) for one in made["outside"]] == [(lost, "cell_down")]
    assert {hosts for one in made["missing"] for hosts in one["hosts"]} == {now.node("a")}


# Pools and nested providers


def test_pool():
    """What a pool gives is charged to the pool, once, whichever of its hosts asks."""
    world = emulator.sharing()
    names = [world.server(name) for name in "aabcd"]
    made = written(world)
    check_charges(world, made)
    (pool,) = made["pools"]
    assert {name: host["shared"] for name, host in hosts(made).items()} == {
        "a": {"DISK_GB": pool["id"]},
        "b": {"DISK_GB": pool["id"]},
        "c": {},
        "d": {},
    }
    assert [instances(made)[name]["allocations"] for name in names] == [emulator.SMALL] * 5


@pytest.mark.parametrize("how", ["live", "resize", "begin"])
@pytest.mark.parametrize("ends", ["ab", "ac", "ca", "cd"])
def test_migrations_and_pools(how, ends):
    """Migrations within a pool, out of one and into one charge the pool as Placement does."""
    world = emulator.sharing()
    name = world.server(ends[0])
    if how == "live":
        world.live(name, ends[1])
    else:
        world.resize(name, ends[1], BIG, how == "resize")
    made = written(world)
    check_charges(world, made)
    here = BIG if how == "resize" else emulator.SMALL
    told = instances(made)[name]["allocations"]
    # Within a pool nobody knows which charge belongs to which end.
    assert told == here or (ends == "ab" and told.keys() == here.keys())
    assert told["MEMORY_MB"] == here["MEMORY_MB"]


def test_leaks_in_pools():
    """What is left behind in a pool is told at one host only."""
    world = emulator.sharing()
    leak = world.new()
    world.claim(leak, "a", emulator.SMALL)
    world.delete(world.server("b"), release=False)
    check_charges(world, written(world))


def test_refused_host_of_a_pool():
    """Servers on a refused host use the pool still, and make no other host suspicious."""
    world = emulator.sharing()
    world.server("a")
    name = world.server("b")
    world.inventories[world.node("b")] = {}
    made = written(world)
    check_charges(world, made)
    assert made["missing"] == []
    assert [one["id"] for one in made["outside"]] == [name]


def test_pool_with_more_than_is_missing():
    """A host with a disk of its own takes from a pool only what it has not."""
    world = emulator.World()
    sizes = {"DISK_GB": 1000, "IPV4_ADDRESS": 100}
    pool = world.provider("pool", sizes, traits=[emulator.SHARES], aggregates=["g"])
    world.host("a", {"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100}, aggregates=["g"])
    name = world.server("a", {**emulator.SMALL, "IPV4_ADDRESS": 1})
    made = written(world)
    check_charges(world, made)
    assert hosts(made)["a"]["shared"] == {"IPV4_ADDRESS": pool}
    assert instances(made)[name]["allocations"]["IPV4_ADDRESS"] == 1


def test_two_pools_of_one_class():
    """Two disk pools behind one host: each is charged its own."""
    world = emulator.World()
    pools = [
        world.provider(f"pool{n}", {"DISK_GB": 99}, traits=[emulator.SHARES], aggregates=["g"])
        for n in range(2)
    ]
    world.host("a", {"VCPU": 8, "MEMORY_MB": 8192}, aggregates=["g"])
    for pool in pools:
        name = world.server("a", {"VCPU": 1, "MEMORY_MB": 1})
        world.charge(name, pool, {"DISK_GB": 7})
    check_charges(world, written(world))


def test_nested_providers():
    """What a device gives is told apart, with the provider it comes from."""
    world = emulator.sharing()
    name = world.server("d")
    (gpu,) = (one for one in world.providers.values() if one["name"] == "gpu")
    world.charge(name, gpu["uuid"], {"VGPU": 2})
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["nested"] == {gpu["uuid"]: {"VGPU": 2}}
    assert instances(made)[name]["allocations"] == emulator.SMALL
    (provider,) = hosts(made)["d"]["providers"]
    assert (provider["parent"], provider["inventories"]["VGPU"]["total"]) == (world.node("d"), 16)


@settings(max_examples=150)
@given(emulator.events(), st.booleans())
def test_placement_is_charged_exactly(events, pools):
    """Whatever happened, the document is sound and the model has used what Placement charges."""
    world = emulator.sharing(pools)
    for event in events:
        emulator.happen(world, event)
    made = written(world)
    check_charges(world, made)
    assert instances(made).keys() | {one["id"] for one in made["outside"]} == world.servers.keys()


# NUMA


def topology(cells: int, cpus: int, memory: int, pinned: bool) -> dict[str, Any]:
    """A topology with this many cells of equal size."""
    return {
        "nodes": [
            {
                "vcpu_set": list(range(cell * cpus, (cell + 1) * cpus)),
                "memory_mb": memory,
                "host_node": cell,
                "cpu_pinning": {str(n): n for n in range(cpus)} if pinned else {},
                "siblings": [],
            }
            for cell in range(cells)
        ],
        "pagesize_kb": None,
    }


@pytest.mark.parametrize("charged", ["PCPU", "VCPU"])
def test_pinned(world, charged):
    """Pinned CPUs are told as Placement charges them: PCPU, or VCPU where hosts are older."""
    world.inventories[world.node("a")]["PCPU"] = {"total": 8}
    name = world.server("a", {charged: 4, "MEMORY_MB": 2048}, specs={"hw:cpu_policy": "dedicated"})
    world.topologies[name] = topology(2, 2, 1024, True)
    made = written(world)
    check_charges(world, made)
    assert instances(made)[name]["numa"] == [
        {"cell": cell, "pinned": pinned, "resources": {charged: 2, "MEMORY_MB": 1024}}
        for cell, pinned in ((0, [0, 1]), (1, [0, 1]))
    ]
    numa = hosts(made)["a"]["numa"]
    assert numa == {
        "provenance": "inferred",
        "cells": [{"id": 0, "capacity": {}}, {"id": 1, "capacity": {}}],
    }


def test_topology_of_another_moment(world):
    """Cells larger than the allocation were read at another moment: the host is told as missing."""
    name = world.server("a", specs={"hw:numa_nodes": "1"})
    world.topologies[name] = topology(1, 16, 65536, False)
    made = written(world)
    check_charges(world, made)
    assert [one["hosts"] for one in made["missing"]] == [[world.node("a")]]


# Server groups


def test_groups(world):
    """Members that are nowhere are left out, those outside stay, rules are kept."""
    a, b, outside = world.server("a"), world.server("b"), world.server(None)
    group = world.group("anti-affinity", b, a, outside)
    world.groups[0]["members"].append(world.new())
    world.groups[0]["rules"] = {"max_server_per_host": "2"}
    (told,) = written(world)["server_groups"]
    assert told["id"] == group
    assert told["members"] == sorted([a, b, outside])
    assert told["max_server_per_host"] == 2


@pytest.mark.parametrize("policy", [None, "diversity"])
def test_unknown_policy(world, policy):
    """A group whose rule nobody knows is missing, which concerns every host."""
    world.group("affinity", world.server("a"))
    world.groups[0]["policy"] = policy
    made = written(world)
    assert made["server_groups"] == []
    assert [one["hosts"] for one in made["missing"]] == [None]


# What no cloud should say


@pytest.mark.parametrize(
    "specs",
    [
        {"resources:CUSTOM_X": "3"},
        {"resources:VCPU": "0"},
        {"resources:custom_x": "3"},
        {"resources:CUSTOM_X": "99999999999999999999"},
        {"resources:CUSTOM_X": "²"},
        {"resources:CUSTOM_X": "many"},
        {"resources:": "1"},
    ],
)
def test_odd_flavors(world, specs):
    """A flavor is informative: one with odd extra specs never makes a snapshot unsound."""
    world.flavor("odd", extra_specs=specs)
    assert written(world)["flavors"][0]["extra_specs"] == specs


@pytest.mark.parametrize(
    "fields",
    [
        {"allocation_ratio": 0.0},
        {"allocation_ratio": 3e38},
        {"total": 2**31 - 1, "max_unit": 2**31 - 1},
        {"max_unit": None},
        {"allocation_ratio": None, "min_unit": None},
    ],
)
def test_odd_inventories(world, fields):
    """An inventory that cannot be planned with concerns its host alone."""
    world.inventories[world.node("a")]["VCPU"].update(fields)
    name = world.server("b")
    made = written(world)
    assert name in instances(made)


REQUIRED = {
    # Without them nothing has a name; Nova and Placement have them in every answer.
    "id",
    "uuid",
    "generation",
    "total",
    "resources",
    "allocations",
    "inventories",
    "traits",
    "aggregates",
    "resource_providers",
    "servers",
    "server",
    "hypervisors",
    "services",
    "flavors",
    "migrations",
    "server_groups",
    "server_group",
    "ports",
    "binary",
}
AMOUNTS = {"VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "VGPU"}


def damaged(rng: random.Random, path: str, answer: Any, share: float) -> Any:
    """An answer with gaps; those of Placement have them in inventories only."""
    if path.startswith("placement") and not path.endswith("/inventories"):
        return answer
    return damage(rng, answer, share)


def damage(rng: random.Random, value: Any, share: float) -> Any:
    """Replace some of what is not required by null, and leave some of it out."""
    if isinstance(value, dict):
        found = {}
        for key, one in value.items():
            if key in REQUIRED or key in AMOUNTS:
                found[key] = damage(rng, one, share) if isinstance(one, dict | list) else one
            elif rng.random() >= share:
                found[key] = damage(rng, one, share)
            elif rng.random() < 0.6:
                found[key] = None
        return found
    if isinstance(value, list):
        return [damage(rng, one, share) for one in value]
    return value


@settings(max_examples=100)
@given(emulator.events(6), st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.3]))
def test_nulls(events, seed, share):
    """With nulls and gaps anywhere in the answers it is a sound document or a clear refusal."""
    world = emulator.sharing()
    name = world.server("c", specs={"hw:numa_nodes": "2"}, addresses={"net": []})
    world.topologies[name] = topology(2, 1, 1024, False)
    world.ports.append({"id": "p", "device_id": name, "binding:vnic_type": "direct"})
    world.group("anti-affinity", name)
    world.flavor("m1", extra_specs={"resources:CUSTOM_X": "1"})
    world.aggregates.append({"id": 1, "uuid": "g", "name": "g", "hosts": ["a"], "metadata": {}})
    for event in events:
        emulator.happen(world, event)
    rng = random.Random(seed)
    ask = emulator.Direct(world, lambda path, answer: damaged(rng, path, answer, share))
    try:
        now = reader.Reader(ask, reader.Progress()).read()
        made = assemble.document(now, "c", None, say=lambda text: None)
    except exceptions.CloudError:
        return
    assert document.problems(made) == []
    document.loads(json.dumps(made).encode(), "it")


def test_everything_is_said_once(world):
    """What a person should look at is told in one line each, however often it occurs."""
    for _ in range(5):
        world.charge(world.new(), world.node("a"), {"VCPU": 1})
    world.inventories[world.node("b")] = {}
    said: list[str] = []
    assemble.document(read(world), "c", None, say=said.append)
    assert len(said) == len(set(said)) == 2
    counted = collections.Counter(text.rpartition(" ")[2] for text in said)
    assert counted["5"] == 1

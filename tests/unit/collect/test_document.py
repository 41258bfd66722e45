# SPDX-License-Identifier: Apache-2.0
"""Reading the snapshot document: what is refused, with which words, and what is not."""

from collections.abc import Callable
import gzip
import hashlib
import json
import pathlib
import re
import time

import hypothesis
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.checker import facts
from nova_rebalancer.collect import document
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from tests import clouds

Change = Callable[[clouds.Document], object]


def refusal(data: bytes) -> str:
    """The one line with which ``data`` is refused."""
    with pytest.raises(exceptions.InputError) as caught:
        document.loads(data, "cloud.json")
    text = str(caught.value)
    assert text.startswith("cloud.json: ")
    assert len(text.splitlines()) == 1
    return text


def repeat(key: str) -> Change:
    """Say the first of ``key`` twice."""
    return lambda made: made[key].append(made[key][0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format="nova-rebalancer-snapshot/2"), "format: version 2 is newer"),
        (lambda m: m.update(format="something/1"), "format: 'something/1' is not"),
        (lambda m: m.pop("format"), "format: None is not"),
        (
            lambda m: m.update(taken_at="2026-13-45T09:00:00Z"),
            'taken_at: "2026-13-45T09:00:00Z" is no time: month must be in 1..12',
        ),
        (
            lambda m: m["instances"][0].update(
                usage={"VCPU": {"mean": 1e17, "window_s": 1, "age_s": 1}}
            ),
            r"instances\[0\].usage.VCPU.mean: .* is greater than the maximum of 1000000000000",
        ),
        (lambda m: m.pop("hosts"), '"hosts" is a required property'),
        (
            lambda m: m["hosts"][0]["inventories"]["VCPU"].update(total=-1),
            r"hosts\[0\].inventories.VCPU.total: -1 is less",
        ),
        (
            lambda m: m["hosts"][0]["inventories"]["VCPU"].update(reserved=9),
            r'hosts\[0\].inventories.VCPU: capacity of "a" is negative \(total 8, reserved 9\)',
        ),
        (
            lambda m: m["pools"][0]["inventories"]["DISK_GB"].update(total=1, reserved=2),
            r'pools\[0\].inventories.DISK_GB: capacity of "pool" is negative',
        ),
        (
            lambda m: m["instances"][0].update(host="nowhere"),
            r'instances\[0\].host: instance "celled" is on unknown host "nowhere"',
        ),
        (
            lambda m: m["instances"][0]["numa"][0].update(cell=7),
            r'instances\[0\].numa: .*"celled" is on cell 7 of host "a", which has cells \[0, 1\]',
        ),
        (
            lambda m: m["instances"][1].update(numa=[{"cell": 0, "resources": {}}] * 2),
            "two guest cells",
        ),
        (
            lambda m: m["instances"][0]["numa"][0].update(resources={"VCPU": 3}),
            r"demand 3 VCPU, its allocation is 2",
        ),
        (repeat("hosts"), r'hosts: the id "a" occurs 2 times'),
        (repeat("instances"), r'instances: the id "celled" occurs 2 times'),
        (repeat("pools"), r'pools: the id "pool" occurs 2 times'),
        (repeat("server_groups"), r'server_groups: the id "g" occurs 2 times'),
        (
            lambda m: m["hosts"][1].update(service_host="a"),
            r'hosts: the service_host "a" occurs 2 times',
        ),
        (
            lambda m: m["hosts"][0]["numa"]["cells"][1].update(id=0),
            r'hosts\[0\].numa.cells: the id "0" occurs 2 times',
        ),
        (
            lambda m: m["hosts"][0].update(shared={"DISK_GB": "other"}),
            r'hosts\[0\].shared.DISK_GB: no pool "other"',
        ),
        (
            lambda m: m["server_groups"][0].update(members=["ghost"]),
            r'server_groups\[0\].members: no instance "ghost"',
        ),
        (
            lambda m: m.update(conflicts=[["celled", "plain"], ["ghost", "plain"]]),
            r'conflicts\[1\]: no instance "ghost" in the snapshot',
        ),
        (
            lambda m: m.update(conflicts=[["plain", "plain"]]),
            r'conflicts\[0\]: instance "plain" cannot conflict with itself',
        ),
        (
            lambda m: m.update(conflicts=[["celled", "plain", "other"]]),
            r"conflicts\[0\]: .*more than 2 items",
        ),
        (
            lambda m: m["instances"][0].update(allowed_hosts=["ghost"]),
            r'instances\[0\].allowed_hosts: no host "ghost"',
        ),
        (
            lambda m: m.update(aggregates=[{"name": "g", "hosts": ["ghost"]}]),
            r'aggregates\[0\].hosts: no host "ghost"',
        ),
        (
            lambda m: m.update(running_migrations=[{"instance": "x", "source": "a", "dest": "b"}]),
            r'running_migrations\[0\].instance: "x" is not in the snapshot',
        ),
        (
            lambda m: m.update(
                running_migrations=[{"instance": "other", "source": None, "dest": "b"}]
            ),
            r"running_migrations\[0\].source: null is not of type",
        ),
        (
            lambda m: m.update(
                running_migrations=[{"instance": "other", "source": "a", "dest": "ghost"}]
            ),
            r'running_migrations\[0\].dest: "ghost" is not in the snapshot',
        ),
        (
            lambda m: m.update(
                running_migrations=[
                    {
                        "instance": "other",
                        "source": "a",
                        "dest": None,
                        "far_allocations": {"VCPU": -1},
                    }
                ]
            ),
            r"running_migrations\[0\].far_allocations",
        ),
        (
            lambda m: m.update(outside=[{"id": "celled", "reason": "no_host"}]),
            r'instances: the id "celled" occurs 2 times',
        ),
        (
            lambda m: m.update(outside=[{"id": "away", "reason": "no_host"}] * 2),
            r'instances: the id "away" occurs 2 times',
        ),
        (
            lambda m: m.update(outside=[{"id": "away", "reason": "lost"}]),
            r'outside\[0\].reason: "lost" is not one of',
        ),
        (
            lambda m: m.update(missing=[{"what": "w", "reason": "r", "hosts": ["a", "ghost"]}]),
            r'missing\[0\].hosts: no host "ghost"',
        ),
        (
            lambda m: m["hosts"][0].update(
                held=[{"consumer": "c", "why": "other", "resources": {}}]
            ),
            r'hosts\[0\].held\[0\].why: "other" is not one of',
        ),
        (
            lambda m: m["hosts"][0].update(
                held=[{"consumer": "c", "why": "unknown", "resources": {"VCPU": -1}}]
            ),
            r"hosts\[0\].held\[0\].resources.VCPU: -1 is less",
        ),
        (
            lambda m: m["hosts"][0].update(providers=[{"id": "p", "name": "p", "parent": "a"}]),
            r'hosts\[0\].providers\[0\]: "inventories" is a required property',
        ),
        (
            lambda m: m["instances"][0].update(nested={"p": {"VGPU": 0.5}}),
            r"instances\[0\].nested.p.VGPU: 0.5 is not of type",
        ),
        (
            lambda m: m["instances"][0]["numa"][0].update(resources={"PAGES_2048KB": 1}),
            r"demand 1 PAGES_2048KB, its allocation is 0",
        ),
        (lambda m: m["hosts"][0].update(colour="red"), r"hosts\[0\]: .*colour"),
        (lambda m: [one.update(id="two\nlines") for one in m["instances"]], "occurs 3 times"),
        (lambda m: m["instances"][0].update(status=["long"] * 10**5), r"instances\[0\].status"),
    ],
)
def test_refused(change: Change, words: str) -> None:
    """Each bad snapshot is refused in one readable line that names file, place and reason."""
    made = clouds.mixed()
    made["pools"] = [{"id": "pool", "inventories": {"DISK_GB": {"total": 10}}}]
    made["server_groups"] = [{"id": "g", "policy": "affinity", "members": ["celled"]}]
    document.loads(clouds.as_bytes(made), "before the change")
    change(made)
    text = refusal(clouds.as_bytes(made))
    assert re.search(words, text)
    assert len(text) < 1000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", r"not JSON: .*line 1, column"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 10**5, "not JSON"),
        (b'{"format": NaN}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_not_a_document(data: bytes, words: str) -> None:
    """What is not a JSON object is refused with the place."""
    assert re.search(words, refusal(data))


def test_files(tmp_path: pathlib.Path) -> None:
    """A file may be gzip; the sum is that of the plain bytes; a truncated one is refused."""
    data = clouds.as_bytes(clouds.mixed())
    plain, packed, cut = (tmp_path / name for name in ("plain", "packed.gz", "cut.gz"))
    plain.write_bytes(data)
    packed.write_bytes(gzip.compress(data))
    cut.write_bytes(gzip.compress(data)[:-20])
    assert document.load(str(plain)) == document.load(str(packed))
    assert document.load(str(packed))[1] == hashlib.sha256(data).hexdigest()
    with pytest.raises(exceptions.InputError, match=r"cut\.gz: gzip data ends early"):
        document.load(str(cut))
    with pytest.raises(exceptions.InputError, match=r"missing: cannot be read"):
        document.load(str(tmp_path / "missing"))


@pytest.mark.parametrize("make", clouds.NAMED)
def test_valid(make: Callable[[], clouds.Document]) -> None:
    """Empty, full and overfull clouds are valid like any other."""
    made = make()
    found, _ = document.loads(clouds.as_bytes(made), "cloud.json")
    assert [one.id for one in found.hosts] == [one["id"] for one in made["hosts"]]
    assert [one.id for one in found.instances] == [one["id"] for one in made["instances"]]
    assert document.problems(made) == []


def test_conflicts() -> None:
    """Pairs are read as they are written; the same pair again, either way round, is no mistake."""
    made = clouds.mixed()
    assert document.loads(clouds.as_bytes(made), "test")[0].conflicts == ()
    made["outside"] = [{"id": "away", "reason": "no_host"}]
    pairs = [["celled", "plain"], ["plain", "celled"], ["celled", "plain"], ["away", "plain"]]
    made["conflicts"] = pairs
    found = document.loads(clouds.as_bytes(made), "test")[0]
    assert [list(pair) for pair in found.conflicts] == pairs


@hypothesis.settings(max_examples=150)
@hypothesis.given(clouds.snapshots(4, 8))
def test_accepts_what_the_checker_accepts(made: clouds.Document) -> None:
    """Random clouds are sound to both readers; whole numbers may be written as 4.0."""
    facts.read(clouds.as_bytes(made), "test")
    start = state.build(document.loads(clouds.as_bytes(made), "cloud.json")[0])
    data = re.sub(rb": (\d+)([,}])", rb": \1.0\2", clouds.as_bytes(made))
    again = state.build(document.loads(data, "cloud.json")[0])
    assert (again.capacity == start.capacity).all()
    assert (again.demand == start.demand).all()
    assert (again.cells_of == start.cells_of).all()
    assert again.cell_ids == start.cell_ids


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["instances"][0].update(allocations={}),
        lambda m: m["instances"][0]["numa"][0]["resources"].update(HUGEPAGES_1048576KB=2),
        lambda m: m.update(
            outside=[{"id": "away", "reason": "host_refused", "host": "bare-metal"}],
            server_groups=[{"id": "g", "policy": "affinity", "members": ["away", "celled"]}],
        ),
        lambda m: m.update(
            running_migrations=[{"instance": "other", "source": "b", "dest": None, "id": "m"}]
        ),
        lambda m: m.update(missing=[{"what": "w", "reason": "r", "hosts": []}]),
        lambda m: m["hosts"][0]["numa"].update(provenance="inferred"),
    ],
)
def test_not_refused(change: Change) -> None:
    """What a cloud in use says is sound, to the checker too.

    Of an instance without allocations nobody knows how large it is, and Placement does not count
    pages by size: then a guest cell may demand more than is allocated.
    """
    made = clouds.mixed()
    change(made)
    assert document.problems(made) == []
    facts.read(clouds.as_bytes(made), "test")


def test_fields() -> None:
    """Everything the schema lets a snapshot say arrives in the facts."""
    made = clouds.mixed()
    made["hosts"][0].update(
        service_host="nova-a",
        az="east",
        disabled_reason="fan",
        traits=["HW_CPU_X86_AVX2"],
        rack={"provenance": "operator", "value": "r1"},
        cell=None,
    )
    made["instances"][0].update(
        tags=["t"],
        metadata={"k": "v"},
        usage={"VCPU": {"mean": 0.5, "window_s": 60, "age_s": 1}},
        launched_at="2026-01-01T00:00:00Z",
    )
    made.update(
        region="north",
        flavors=[{"id": "f", "name": "m1"}],
        aggregates=[{"name": "ssd", "hosts": ["a"]}],
        missing=[{"what": "metrics", "reason": "timeout"}],
        meta={"free": 1},
    )
    found, _ = document.loads(clouds.as_bytes(made), "cloud.json")
    host, instance = found.hosts[0], found.instances[0]
    assert (host.service_host, host.az, host.traits) == ("nova-a", "east", ("HW_CPU_X86_AVX2",))
    assert (host.rack.value, host.cell, found.hosts[1].service_host) == ("r1", None, "b")
    assert (instance.tags, instance.metadata, instance.usage["VCPU"].mean) == (
        ("t",),
        {"k": "v"},
        0.5,
    )
    assert (found.region, found.flavors[0].name, found.aggregates[0].hosts) == (
        "north",
        "m1",
        ("a",),
    )
    assert found.missing[0].reason == "timeout"
    assert state.build(found).load[0].tolist()[0] == 0.5


def test_fields_of_a_live_cloud() -> None:
    """What only a live cloud says arrives in the facts as well, and amounts are whole numbers."""
    made = clouds.mixed()
    fact = {"provenance": "operator", "value": "800"}
    made["hosts"][0].update(
        forced_down=True,
        hypervisor_type="QEMU",
        hypervisor_version=8002000,
        cpu_info={"vendor": "Intel", "features": ["avx"]},
        power_zone=fact,
        migration_link=fact,
        migration_mibps=fact,
        providers=[
            {
                "id": "gpu",
                "name": "a_gpu",
                "parent": "a",
                "inventories": {"VGPU": {"total": 4.0}},
                "traits": ["CUSTOM_GPU"],
            }
        ],
        held=[{"consumer": "x", "why": "elsewhere", "resources": {"VCPU": 1.0}}],
    )
    made["instances"][0].update(
        nested={"gpu": {"VGPU": 1.0}},
        image={"id": None, "properties": {"hw_numa_nodes": "1"}},
        extra_specs={"hw:numa_nodes": "1"},
        scheduler_hints={"group": "g"},
        volumes=["v"],
        vnic_types=["direct"],
        pinned_az="east",
        updated_at="2026-01-01T00:00:00Z",
        vm_state="active",
        power_state=1,
        locked_reason="why",
    )
    made.update(
        aggregates=[{"id": "7", "name": "ssd", "hosts": ["a"]}],
        outside=[{"id": "away", "reason": "no_host", "status": "SHELVED_OFFLOADED"}],
        refused=[{"host": "bare-metal", "reason": "ironic"}],
        missing=[{"what": "ports", "reason": "timeout", "hosts": ["b"]}],
        collected={"seconds": 2.5, "requests": {"nova": 20}},
        running_migrations=[
            {
                "id": "m",
                "type": "resize",
                "instance": "other",
                "source": "b",
                "dest": "a",
                "status": "finished",
                "far_allocations": {"VCPU": 2},
            }
        ],
    )
    found, _ = document.loads(clouds.as_bytes(made), "cloud.json")
    host, instance = found.hosts[0], found.instances[0]
    assert (host.forced_down, host.hypervisor_type, host.hypervisor_version) == (
        True,
        "QEMU",
        8002000,
    )
    assert host.cpu_info == {"vendor": "Intel", "features": ["avx"]}
    told = cloud.Fact(**fact)
    assert [host.power_zone, host.migration_link, host.migration_mibps] == [told] * 3
    gpu = cloud.Provider("gpu", "a_gpu", "a", {"VGPU": cloud.Inventory(4)}, ("CUSTOM_GPU",))
    assert host.providers == (gpu,)
    assert host.held == (cloud.Held("x", "elsewhere", {"VCPU": 1}),)
    assert (host.lacks, found.hosts[1].lacks) == (None, "ports")
    assert instance.nested == {"gpu": {"VGPU": 1}}
    assert instance.image == cloud.Image(None, {"hw_numa_nodes": "1"})
    assert (instance.extra_specs, instance.scheduler_hints) == (
        {"hw:numa_nodes": "1"},
        {"group": "g"},
    )
    assert (instance.volumes, instance.vnic_types, instance.pinned_az) == (
        ("v",),
        ("direct",),
        "east",
    )
    assert (instance.updated_at, instance.vm_state, instance.power_state) == (
        "2026-01-01T00:00:00Z",
        "active",
        1,
    )
    assert (instance.locked_reason, found.instances[1].vnic_types) == ("why", None)
    assert found.aggregates[0].id == "7"
    assert found.outside == (cloud.Outside("away", "no_host", status="SHELVED_OFFLOADED"),)
    assert found.refused == (cloud.Refused("bare-metal", "ironic"),)
    assert found.missing == (cloud.Missing("ports", "timeout", ("b",)),)
    assert found.running_migrations == (
        cloud.RunningMigration("other", "b", "a", "finished", "m", "resize", {"VCPU": 2}),
    )


def test_large_snapshot_is_read_in_seconds() -> None:
    """20,000 instances take well under a fifth of what 200,000 may."""
    instances = [clouds.numa_instance(f"i{v}", "a", {0: 1}) for v in range(20_000)]
    data = json.dumps(clouds.snapshot([clouds.numa_host("a")], instances)).encode()
    began = time.process_time()
    document.loads(data, "cloud.json")
    assert time.process_time() - began < 3.0

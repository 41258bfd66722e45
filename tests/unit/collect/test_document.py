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


def test_large_snapshot_is_read_in_seconds() -> None:
    """20,000 instances take well under a fifth of what 200,000 may."""
    instances = [clouds.numa_instance(f"i{v}", "a", {0: 1}) for v in range(20_000)]
    data = json.dumps(clouds.snapshot([clouds.numa_host("a")], instances)).encode()
    began = time.monotonic()
    document.loads(data, "cloud.json")
    assert time.monotonic() - began < 3.0

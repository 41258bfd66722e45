# SPDX-License-Identifier: Apache-2.0
"""Target files: {instance: host}."""

import json
from typing import Any

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import aim
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from tests import clouds


def load(made: clouds.Document, target: Any, tmp_path, allow_stop: bool = False) -> aim.Aim:
    """Read a target for a snapshot document."""
    file = tmp_path / "target.json"
    file.write_text(json.dumps(target))
    return aim.load(str(file), clouds.facts_of(made), base.DEFAULTS, allow_stop)


def refusal(made: clouds.Document, target: Any, tmp_path, allow_stop: bool = False) -> str:
    """What is wrong with a target, without the name of the file."""
    with pytest.raises(exceptions.InputError) as caught:
        load(made, target, tmp_path, allow_stop)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path / 'target.json'}: ")


def named() -> clouds.Document:
    """As three_hosts, with names: web and web on a, db on b; host a has three names."""
    made = clouds.three_hosts()
    made["hosts"][0].update(service_host="compute-a", hypervisor_hostname="a.example.org")
    for one, name in zip(made["instances"], ["web", "web", "db", "a"], strict=True):
        one["name"] = name
    return made


def test_who_is_not_named_stays(tmp_path):
    """Only what the target names has another host in the end."""
    found = load(clouds.three_hosts(), {"j": "b"}, tmp_path)
    assert found.start.instances == ("i", "j", "k", "m")
    assert found.host_of.tolist() == [0, 1, 1, 2]
    assert (found.stops, found.starts) == ((), ())


@pytest.mark.parametrize("name", ["compute-a", "a", "a.example.org"])
def test_names(name, tmp_path):
    """Instances go by id or a name that one alone has, hosts by each of their three names."""
    assert load(named(), {"i": "c", "m": name}, tmp_path).host_of.tolist() == [2, 0, 1, 0]
    assert load(named(), {"db": "c", "a": "b"}, tmp_path).host_of.tolist() == [0, 0, 2, 1]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ([], "the document: not a JSON object {instance: host}"),
        ({"x": "b"}, '"x": no instance of the snapshot is called so; a new one is written as'),
        ({"j": "x"}, '"j": no host "x" in the snapshot'),
        ({"web": "b"}, '"web": 2 instances are called so: i, j'),
        ({"k": "c", "db": "b"}, '"db": instance k is at "k" too'),
        ({"j": 3}, '"j": the host must be a name, or null where the instance leaves'),
        ({"j": {"numa": [0]}}, '"j": the host must be a name'),
        ({"j": {"host": "b", "color": 1}}, '"j.color": only host, numa, flavor and resources'),
        ({"j": {"host": "b", "numa": [0]}}, '"j.numa": [0] names 1 cells, the instance has 0'),
        ({"j": {"host": "b", "numa": "0"}}, "\"j.numa\": '0' is not a list of cell numbers"),
        ({"j": {"host": "b", "flavor": "f"}}, '"j.flavor": it is in the snapshot and keeps its'),
        ({"j": None}, '"j": the target would stop it; allow that with --allow-stop'),
        (
            {"n": {"host": "b", "resources": {"VCPU": 1}}},
            '"n": the target would start it; allow that with --allow-stop',
        ),
        ({"i": "b", "j": "b"}, "the target overfills b: 12 of 8 VCPU; there arrive i, j"),
    ],
)
def test_what_is_wrong_has_its_place(target, text, tmp_path):
    """Every mistake is told with the instance and the value, in one line."""
    assert refusal(named(), target, tmp_path).startswith(text)


def test_named_twice(tmp_path):
    """Of two hosts for one instance none is right."""
    file = tmp_path / "target.json"
    file.write_text('{"j": "b", "j": "c"}')
    with pytest.raises(exceptions.InputError, match='"j": it is there 2 times'):
        aim.load(str(file), clouds.facts_of(named()), base.DEFAULTS)


def test_outside(tmp_path):
    """Who is on no host of the snapshot cannot be moved, and the reason is said."""
    made = clouds.three_hosts()
    made["outside"] = [{"id": "far", "reason": "cell_down"}]
    told = refusal(made, {"far": "a"}, tmp_path)
    assert told == '"far": it is on no host of the snapshot (cell_down)'


def test_groups_and_conflicts(tmp_path):
    """A target must not bring together what must be apart."""
    told = refusal(clouds.anti_affinity_triple(), {"i": "b"}, tmp_path)
    assert told == ('"i": the target has 2 members of anti-affinity group g on b, which may have 1')
    told = refusal(clouds.conflict_triple(), {"i": "b"}, tmp_path)
    assert told == '"i": the target has it on b with j, which it must never be with'
    # j and k may meet: only i conflicts with both.
    assert load(clouds.conflict_triple(), {"j": "c"}, tmp_path).host_of.tolist() == [0, 2, 2]


def test_what_is_overfull_already(tmp_path):
    """A host that the snapshot overfills is no fault of the target, until something comes there.

    Host a is charged 10 of 8 by i and j; b has 8 free.
    """
    made = clouds.overfull()
    made["hosts"].append(clouds.host("c"))
    made["instances"].append(clouds.instance("k", "b", 1))
    assert load(made, {"k": "c"}, tmp_path).host_of.tolist() == [0, 0, 2]
    assert refusal(made, {"k": "a"}, tmp_path).startswith("the target overfills a: 11 of 8 VCPU")


def test_pools(tmp_path):
    """Inside a pool a move costs the pool nothing; what comes to it from outside fills it.

    The pool of a and b has 10, which i and j fill.
    """
    assert load(clouds.shared_pool(), {"i": "b"}, tmp_path).host_of.tolist() == [1, 1, 2]
    told = refusal(clouds.shared_pool(), {"k": "a"}, tmp_path)
    assert told == "the target overfills the pool of a: 11 of 10 DISK_GB; there arrive k"


def test_cells(tmp_path):
    """Cells that the target names are those; else some are chosen where everything fits.

    Cells of a have 8 cores: 0 carries 2 + 4, 1 carries 2 + 2; on b cell 1 carries 2.
    """
    found = load(clouds.numa_doubles(), {"even": {"host": "b", "numa": [1, 0]}}, tmp_path)
    assert found.cells_of[0].tolist() == [1, 0]
    found = load(clouds.numa_doubles(), {"even": "b", "uneven": "b"}, tmp_path)
    end = found.start.placed(found.host_of, found.cells_of)
    assert (end.numa_free() >= 0).all()
    assert found.cells_of[1, :2].tolist() in ([0, 1], [1, 0])
    assert found.cells_of[2].tolist() == [1, state.NOWHERE]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({"even": {"host": "b", "numa": [0]}}, '"even.numa": [0] names 1 cells, the instance has'),
        ({"even": {"host": "b", "numa": [0, 0]}}, '"even.numa": [0, 0] are not different cells'),
        ({"even": {"host": "b", "numa": [0, 2]}}, '"even.numa": [0, 2] are not different cells of'),
        (
            {"even": {"host": "a", "numa": [1, 0]}},
            '"even.numa": it is on a already, on other cells than [1, 0]; a change of cells on one',
        ),
    ],
)
def test_wrong_cells(target, text, tmp_path):
    """Cells that cannot be are refused, a change of cells on the same host too."""
    assert refusal(clouds.numa_doubles(), target, tmp_path).startswith(text)


def test_full_cells(tmp_path):
    """What its host has room for may still not fit in the cells.

    On a cells 0 and 1 have 4 cores each, celled takes 2 of cell 0; other takes 3 of one cell.
    """
    told = refusal(clouds.mixed(), {"other": {"host": "a", "numa": [0]}}, tmp_path)
    assert told == '"other": the target overfills NUMA cell 0 of a: 5 of 4 VCPU'
    assert load(clouds.mixed(), {"other": "a"}, tmp_path).cells_of[2].tolist() == [1]
    made = clouds.mixed()
    made["instances"].append(clouds.numa_instance("more", "b", {1: 3}))
    made["instances"][1]["allocations"]["VCPU"] = 0
    told = refusal(made, {"other": "a", "more": "a"}, tmp_path)
    assert told.startswith("no NUMA cells of a were found for what the target has there: more, oth")


def test_stops_and_starts(tmp_path):
    """Who leaves is in nobody's way, and who is new has room when all others have moved.

    k leaves b, so that the new one of 8 cores fits there; i (4) stays on a.
    """
    made = clouds.three_hosts()
    new = {"host": "b", "resources": {"VCPU": 8}}
    found = load(made, {"k": None, "n": new, "j": "c"}, tmp_path, allow_stop=True)
    assert found.start.instances == ("i", "j", "m")
    assert found.host_of.tolist() == [0, 2, 2]
    assert (found.stops, found.starts) == (("k",), (("n", "b"),))
    told = refusal(made, {"n": new}, tmp_path, allow_stop=True)
    assert told == "the target overfills b: 14 of 8 VCPU; there arrive n"


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ({"flavor": "small"}, None),
        ({"flavor": "none"}, '"n": flavor: no flavor "none" in the snapshot'),
        ({"flavor": "blank"}, '"n": flavor: the snapshot does not say what "blank" takes'),
        ({"flavor": "celled"}, '"n": flavor: "celled" has NUMA cells'),
        ({"resources": {"VCPU": -1}}, '"n": resources.VCPU: -1 is not an amount'),
        ({"resources": {"VGPU": 1}}, '"n": resources.VGPU: c has none'),
        ({"resources": 1}, '"n": resources: not a JSON object'),
        ({"flavor": "small", "numa": [0]}, '"n": numa: a new instance has no NUMA cells yet'),
    ],
)
def test_new_instances(new, text, tmp_path):
    """A new instance has the size of a flavor, or one that the target says."""
    made = clouds.three_hosts()
    sizes = {"small": {"VCPU": 2}, "blank": {}, "celled": {"VCPU": 2}}
    made["flavors"] = [{"id": key, "name": key, "resources": sizes[key]} for key in sizes]
    made["flavors"][2]["extra_specs"] = {"hw:numa_nodes": "2"}
    target = {"n": {"host": "c", **new}}
    if text is None:
        assert load(made, target, tmp_path, allow_stop=True).starts == (("n", "c"),)
    else:
        assert refusal(made, target, tmp_path, allow_stop=True).startswith(text)


def test_new_instances_keep_the_rules(tmp_path):
    """Nothing is started on a host that is disabled."""
    made = clouds.three_hosts()
    made["hosts"][2]["status"] = "disabled"
    target = {"n": {"host": "c", "resources": {"VCPU": 1}}}
    told = refusal(made, target, tmp_path, allow_stop=True)
    assert told == '"n": a rule keeps new instances off c'


def test_who_is_migrating_is_not_stopped(tmp_path):
    """What Nova is about with an instance comes first."""
    told = refusal(clouds.running_migration(), {"i": None}, tmp_path, allow_stop=True)
    assert told == '"i": null: it is being migrated just now'

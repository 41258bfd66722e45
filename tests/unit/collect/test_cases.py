# SPDX-License-Identifier: Apache-2.0
"""Files of cases for the path-finder."""

import copy
import gzip
from typing import Any

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import cases
from tests import cases as made


def refusal(content: Any, tmp_path) -> str:
    """What is wrong with a file of this content, without the name of the file."""
    file = tmp_path / "cases.json"
    file.write_bytes(made.as_bytes(content))
    with pytest.raises(exceptions.InputError) as caught:
        cases.load(str(file))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{file}: ")


def test_a_case_becomes_a_state(tmp_path):
    """Hosts, capacities, demands, places, targets and costs are those of the file, in its order."""
    file = tmp_path / "cases.json"
    file.write_bytes(made.as_bytes(made.document(made.direct(), made.parted())))
    first, second = cases.load(str(file))
    assert (first.id, second.id) == ("direct", "parted")
    start = second.start
    assert start.hosts == start.service_hosts == ("a", "b", "c")
    assert start.instances == ("u", "v")
    column = [start.resources.index(name) for name in ("memory", "cores")]
    assert start.capacity[:, column].tolist() == [[10, 10]] * 3
    assert start.demand[:, column].tolist() == [[1, 1], [2, 1]]
    assert start.host_of.tolist() == [0, 1]
    assert second.host_of.tolist() == [1, 0]
    assert second.cells_of.shape == (2, 0)
    assert [second.costs.cost(start, v) for v in (0, 1)] == [1.0, 2.0]
    assert second.costs.duration_s(start, 0) == 1.0


def test_groups_allow_one_on_a_host(tmp_path):
    """An anti-affinity group of the file has room for one of its VMs on a host."""
    file = tmp_path / "cases.json"
    file.write_bytes(made.as_bytes(made.document(made.parted())))
    (one,) = cases.load(str(file))
    assert [(group.limit, group.members) for group in one.start.groups] == [(1, (0, 1))]


def test_allowed_hosts(tmp_path):
    """Who names hosts may be on these only, the others anywhere."""
    case = made.swap()
    case["vms"][0]["allowed_hosts"] = ["b", "a"]
    file = tmp_path / "cases.json"
    file.write_bytes(made.as_bytes(made.document(case)))
    start = cases.load(str(file))[0].start
    assert start.allowed[start.eligibility_of].tolist() == [[True, True, False], [True] * 3]


def test_gzip(tmp_path):
    """A gzipped file is read as it is, whatever it is called."""
    file = tmp_path / "cases"
    file.write_bytes(gzip.compress(made.as_bytes(made.document(made.direct()))))
    assert [one.id for one in cases.load(str(file))] == ["direct"]


def set_at(content: Any, path: list[str | int], value: Any) -> None:
    """Set what ``path`` leads to."""
    for step in path[:-1]:
        content = content[step]
    if value is ...:
        del content[path[-1]]
    else:
        content[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["vms", 0, "demand", 0], -1, "vms[0].demand[0]: -1 is less than the minimum of 0"),
        (["vms", 1, "cost"], -5, "vms[1].cost: -5 is less than the minimum of 0"),
        (["vms", 0, "demand", 0], 1.5, 'vms[0].demand[0]: 1.5 is not of type "integer"'),
        (["hosts", 2, "capacity"], [-10], "hosts[2].capacity[0]: -10 is less than the minimum"),
        (["hosts", 0, "capacity"], ..., 'hosts[0]: "capacity" is a required property'),
        (["vms", 0, "cost"], ..., 'vms[0]: "cost" is a required property'),
        (["initial"], ..., '"initial" is a required property'),
        (["final", "u"], 3, 'final.u: 3 is not of type "string"'),
        (["initial", "u"], "x", 'initial.u: no host "x" in the case'),
        (["final", "v"], "x", 'final.v: no host "x" in the case'),
        (["final", "x"], "a", 'final: no VM "x" in the case'),
        (["initial", "v"], ..., 'initial: VM "v" is missing, every VM must have a host'),
        (
            ["vms", 1, "allowed_hosts"],
            ["a", "b", "x"],
            'vms[1].allowed_hosts[2]: "v": no host "x" in the case',
        ),
        (["anti_affinity"], [["v", "x"]], 'anti_affinity[0][1]: no VM "x" in the case'),
        (["anti_affinity"], [["v", "v"]], 'anti_affinity[0][1]: "v" is at anti_affinity[0][0] too'),
        (["hosts", 2, "name"], "a", 'hosts[2].name: "a" is at hosts[0] too'),
        (["vms", 1, "name"], "u", 'vms[1].name: "u" is at vms[0] too'),
        (["resources"], ["m", "m"], 'resources[1]: "m" is at resources[0] too'),
        (
            ["vms", 1, "demand"],
            [1, 2],
            'vms[1].demand: "v" has 2 amounts, there are 1 resources',
        ),
        (
            ["hosts", 0, "capacity"],
            [],
            'hosts[0].capacity: "a" has 0 amounts, there are 1 resources',
        ),
        (
            ["initial", "v"],
            "a",
            'initial: host "a" is overfull: its VMs take 11 of 10 memory',
        ),
        (
            ["final", "v"],
            "b",
            'final: host "b" is overfull: its VMs take 11 of 10 memory',
        ),
        (
            ["vms", 0, "allowed_hosts"],
            ["b", "c"],
            'initial.u: host "a" is not in its allowed_hosts',
        ),
        (
            ["vms", 0, "allowed_hosts"],
            ["a"],
            'final.u: host "b" is not in its allowed_hosts',
        ),
    ],
)
def test_what_is_wrong_has_its_place(path, value, text, tmp_path):
    """Every mistake is told with the case, the place in it and the value, in one line."""
    content = made.document(made.direct(), made.swap())
    set_at(content["instances"][1], path, value)
    assert refusal(content, tmp_path).startswith(f'instances[1] "swap": {text}')


def test_members_together(tmp_path):
    """Two members of a group on one host are named, with the host, at the start and at the end."""
    case = made.parted()
    case["initial"]["v"] = "a"
    together = 'VMs "u" and "v" of anti_affinity[0] are both on host'
    told = refusal(made.document(case), tmp_path)
    assert told == f'instances[0] "parted": initial: {together} "a"'
    case = made.parted()
    case["final"]["v"] = "b"
    told = refusal(made.document(case), tmp_path)
    assert told == f'instances[0] "parted": final: {together} "b"'


def test_the_document(tmp_path):
    """Another format, none, an id that occurs twice or is missing, and no object are refused."""
    content = made.document(made.direct(), made.direct())
    assert refusal(content, tmp_path) == 'instances[1] "direct": id: it is that of instances[0] too'
    assert refusal({**content, "format": "other/1"}, tmp_path).startswith("format: 'other/1' is")
    assert refusal({"instances": []}, tmp_path).startswith("format: None is not")
    assert refusal([], tmp_path) == "the document: not a JSON object"
    content = made.document(copy.deepcopy(made.direct()))
    del content["instances"][0]["id"]
    assert refusal(content, tmp_path) == 'instances[0]: "id" is a required property'


def test_not_a_file(tmp_path):
    """What cannot be read or is no JSON is told with the file's name."""
    with pytest.raises(exceptions.InputError, match=r"none\.json: cannot be read"):
        cases.load(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(exceptions.InputError, match=r"bad\.json: not JSON: .*line 1"):
        cases.load(str(tmp_path / "bad.json"))

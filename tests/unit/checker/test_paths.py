# SPDX-License-Identifier: Apache-2.0
"""Every kind of mistake in a path is found, and what is right is accepted."""

from collections.abc import Callable
from typing import Any

import pytest

from nova_rebalancer import checker
from nova_rebalancer import exceptions
from tests import cases
from tests.unit.checker import path_documents

Document = dict[str, Any]


def test_sound_paths():
    """Paths that do what they say are accepted, each alone and all as a list."""
    made = [
        (cases.direct(), path_documents.direct()),
        (cases.swap(), path_documents.swap()),
        (cases.parted(), path_documents.parted()),
    ]
    for case, path in made:
        found = path_documents.verdict(case, path)
        assert found.ok, found
    document = cases.document(*(case for case, _ in made))
    found = checker.check_cases(cases.as_bytes(document), cases.as_bytes([p for _, p in made]))
    assert found.ok, found
    assert found.detail.startswith("3 reachable, 0 proved not to be, 0 unknown; 7 migrations")


def change(key: str, value: Any) -> Callable[[Document], None]:
    """Return what sets one value of a path; a key like ``1.dest`` is of its second migration."""

    def apply(path: Document) -> None:
        where, _, rest = key.partition(".")
        if rest:
            path["migrations"][int(where)][rest] = value
        else:
            path[key] = value

    return apply


def together(path: Document) -> None:
    """Let m2 start with m1: the clock stays what its dependencies allow."""
    path["migrations"][1].update(depends_on=[], start_s=0.0, end_s=1.0, wave=1)
    path["migrations"][2]["depends_on"] = ["m1", "m2"]


def short(path: Document) -> None:
    """Leave the last migration out, and say so everywhere."""
    del path["migrations"][2]
    path["migrations"][0]["role"] = "direct"
    path.update(cost=path["cost"] - 5, makespan_s=2.0)


def left(path: Document) -> None:
    """Leave somebody behind who is not there."""
    why = {"code": "no_room", "params": {}, "text": "no room"}
    path.update(reachable="unknown", optimal=False, unreachable=[{"instance": "x", "reason": why}])


def slow(path: Document) -> None:
    """Let the last migration take two seconds."""
    path["migrations"][2].update(end_s=4.0, wave=4)
    path["makespan_s"] = 4.0


def cycle(path: Document) -> None:
    """Let the first and the last wait for each other."""
    path["migrations"][0]["depends_on"] = ["m3"]


def unchained(path: Document) -> None:
    """Let the way back of v wait for nothing."""
    path["migrations"][2]["depends_on"] = []


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("format", change("migrations", None)),
        ("format", change("reachable", "maybe")),
        ("format", change("cost", "16")),
        ("duplicate_id", change("1.id", "m1")),
        ("unknown_instance", change("1.instance", "x")),
        ("unknown_instance", left),
        ("unknown_host", change("1.dest", "x")),
        ("unknown_host", change("blocking_hosts", ["x"])),
        ("unknown_dependency", change("1.depends_on", ["x"])),
        ("dependency_cycle", cycle),
        ("order", change("1.wave", 1)),
        ("order", change("1.start_s", 0.5)),
        ("order", change("0.role", "direct")),
        ("order", unchained),
        ("same_host", change("1.dest", "a")),
        ("wrong_source", change("2.source", "b")),
        ("numa", change("1.dest_numa", [0])),
        ("capacity", together),
        ("makespan", slow),
        ("makespan", change("makespan_s", 2.0)),
        ("makespan", change("makespan_bound_s", 4.0)),
        ("makespan", change("2.wave", 7)),
        ("cost", change("cost", 11)),
        ("target", short),
        ("verdict", change("reachable", False)),
        ("verdict", change("cost", None)),
        ("verdict", change("certificate", {"kind": "relaxation", "side": "final", "stuck": []})),
        ("cases", change("id", "swap2")),
    ],
)
def test_a_spoilt_swap(kind, spoil):
    """Each mistake in the path of the swap is found, and called by its kind."""
    path = path_documents.swap()
    spoil(path)
    found = path_documents.verdict(cases.swap(), path)
    assert (found.ok, found.kind) == (False, kind), found


def test_allowed_hosts():
    """A VM goes to none but its allowed hosts, on the way too."""
    case = cases.swap()
    case["vms"][1]["allowed_hosts"] = ["a", "b"]
    found = path_documents.verdict(case, path_documents.swap())
    assert (found.kind, found.migration) == ("not_allowed", "m1")


def test_members_in_flight():
    """Of a group two are never on one host, one of them in flight included."""
    path = path_documents.parted()
    together(path)
    found = path_documents.verdict(cases.parted(), path)
    assert (found.kind, found.migration) == ("anti_affinity", "m2")


@pytest.mark.parametrize(("end", "hosts"), [("leave", ("a", "bc")), ("arrive on", ("ab", "c"))])
def test_one_at_a_time(end, hosts):
    """In a case one migration leaves a host at a time, and one arrives; two in a row are fine."""
    sources, dests = hosts
    pairs = [(sources[k % len(sources)], dests[k % len(dests)]) for k in (0, 1)]
    case = cases.case(
        "two",
        [cases.host(name, 10) for name in "abc"],
        [(cases.vm(name, 1), *pair) for name, pair in zip("uv", pairs, strict=True)],
    )
    moves = [
        path_documents.move(f"m{k + 1}", "uv"[k], *pair, float(k + 1))
        for k, pair in enumerate(pairs)
    ]
    assert path_documents.verdict(case, path_documents.path("two", moves, 2)).ok
    moves[1].update(start_s=0.0, end_s=1.0, wave=1)
    found = path_documents.verdict(case, path_documents.path("two", moves, 2))
    assert found.kind == "makespan"
    assert f"2 migrations {end} host" in found.detail


def test_what_the_file_knows():
    """Who calls a cost optimal that the file has a cheaper path for, or a bound, is found out."""
    case = cases.swap() | {"known": {"optimal_cost": 15}}
    assert path_documents.verdict(case, path_documents.swap()).kind == "cost"
    path = path_documents.swap() | {"optimal": False}
    assert path_documents.verdict(case, path).ok
    case["known"] = {"optimal_rounds_1x1": 2}
    path = path_documents.swap() | {"makespan_bound_s": 3.0}
    assert path_documents.verdict(case, path).kind == "makespan"
    case["known"] = {"reachable": False}
    assert path_documents.verdict(case, path_documents.swap()).kind == "verdict"


def test_a_part_of_the_way():
    """An unknown verdict comes with any safe path, and calls nothing optimal."""
    path = path_documents.swap()
    short(path)
    path.update(reachable="unknown", optimal=False)
    assert path_documents.verdict(cases.swap(), path).ok
    assert path_documents.verdict(cases.swap(), path | {"optimal": True}).kind == "verdict"


@pytest.mark.parametrize("order", [["swap"] * 2, ["swap", "direct"], ["direct", "swap", "swap"]])
def test_a_list_is_in_the_order_of_the_file(order):
    """A list has one path for each case, in the order of the file."""
    document = cases.document(cases.direct(), cases.swap())
    made = {"direct": path_documents.direct(), "swap": path_documents.swap()}
    answers = cases.as_bytes([made[name] for name in order])
    assert checker.check_cases(cases.as_bytes(document), answers).kind == "cases"


def test_which_case():
    """The line about a mistake names the case."""
    document = cases.document(cases.direct(), cases.swap())
    answers = [path_documents.direct(), path_documents.swap() | {"cost": 1}]
    found = checker.check_cases(cases.as_bytes(document), cases.as_bytes(answers))
    assert found.detail == 'case "swap": cost is 1, its migrations cost 16'


def test_no_json():
    """What is no document at all is of kind format."""
    found = checker.check_cases(cases.as_bytes(cases.document(cases.direct())), b"{")
    assert (found.ok, found.kind) == (False, "format")


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["initial", "u"], "b", 'initial: host "b" memory is charged 11 of 10'),
        (["final", "v"], "x", 'final.v: no such VM, or no host "x"'),
        (["vms", 0, "demand"], [-1], "vms[0].demand[0]: -1 is less"),
        (["vms", 0, "allowed_hosts"], ["b"], 'initial.u: "a" is not in its allowed_hosts'),
    ],
)
def test_bad_cases(path, value, text):
    """The checker reads the file of cases by itself, and refuses what is not sound."""
    case = cases.swap()
    content: Any = case
    for step in path[:-1]:
        content = content[step]
    content[path[-1]] = value
    with pytest.raises(exceptions.InputError) as caught:
        path_documents.verdict(case, path_documents.swap())
    assert str(caught.value).startswith(f"problem: instances[0].{text}")

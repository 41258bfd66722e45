# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance explain``: what is printed about each host, and the exit codes."""

from collections.abc import Callable
import json
import pathlib
from typing import Any

import pytest

from nova_rebalancer.cmd import main
from tests import clouds

Explain = Callable[..., tuple[int, str, str]]


def zones() -> clouds.Document:
    """Hosts a, b and c in zone east, of which c is full, and d in west; web is on a.

    db is there twice, lost on no host, and stuck is locked.
    """
    made = clouds.snapshot(
        [
            clouds.host("a", az="east"),
            clouds.host("b", az="east"),
            clouds.host("c", az="east"),
            clouds.host("d", az="west", hypervisor_type="QEMU"),
        ],
        [
            clouds.instance("i-web", "a", 4) | {"name": "web"},
            clouds.instance("i-db1", "b", 2) | {"name": "db"},
            clouds.instance("i-db2", "c", 6) | {"name": "db"},
            clouds.instance("i-stuck", "b", 2, locked=True) | {"name": "stuck"},
        ],
        outside=[{"id": "i-lost", "name": "lost", "reason": "cell_down"}],
    )
    made["hosts"][3]["service_host"] = "nova-d"
    return made


@pytest.fixture
def explain(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Explain an instance of a snapshot; exit code, stdout and stderr."""

    def run(
        instance: str | None,
        *options: str,
        made: clouds.Document | None = None,
        conf: str = "",
    ):
        file, settings = tmp_path / "cloud.json", tmp_path / "rebalancer.conf"
        file.write_bytes(clouds.as_bytes(zones() if made is None else made))
        settings.write_text(conf)
        arguments = ["--config-file", str(settings), "explain", "--snapshot", str(file)]
        arguments += [] if instance is None else ["--instance", instance]
        capsys.readouterr()
        code = main.main([*arguments, *options])
        return (code, *capsys.readouterr())

    return run


def rows(answer: tuple[int, str, str]) -> dict[str, dict[str, Any]]:
    """The rows of -f json by host."""
    return {row["host"]: row for row in json.loads(answer[1])}


def possible(answer: tuple[int, str, str]) -> dict[str, str]:
    """The answer for each host."""
    return {host: row["possible"] for host, row in rows(answer).items()}


def test_table(explain: Explain) -> None:
    """A row for each host: here, yes or no with every rule that forbids it; 0: it could go to b."""
    code, out, err = explain("web", "--max-width", "0")
    assert code == 0
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    head, *found = [line for line in cells if line]
    assert head == ["host", "possible", "rule", "why"]
    assert [line[:3] for line in found] == [
        ["a", "here", ""],
        ["b", "yes", ""],
        ["c", "no", "capacity"],
        ["nova-d", "no", "keep_zone, hypervisor"],
    ]
    assert found[2][3] == "c has 2 VCPU left, it needs 4"
    assert "nova-d" in found[3][3] and "; " in found[3][3]
    assert err == "web (i-web) is on a\n"


def test_by_id(explain: Explain) -> None:
    """The id says the same as the name."""
    assert explain("i-web") == explain("web")


def test_json(explain: Explain) -> None:
    """-f json says in each row which instance it is about and what keeps it where it is."""
    found = rows(explain("web", "-f", "json"))
    assert list(found) == ["a", "b", "c", "nova-d"]
    assert {row["instance"] for row in found.values()} == {"i-web"}
    assert {row["not_migratable"] for row in found.values()} == {""}
    code, out, err = explain("stuck", "-f", "json")
    assert code == 3
    kept = [(row["possible"], row["not_migratable"]) for row in json.loads(out)]
    assert kept == [
        ("no", "i-stuck is locked"),
        ("here", "i-stuck is locked"),
        ("no", "i-stuck is locked"),
        ("no", "i-stuck is locked"),
    ]
    assert "not migratable (live and cold, certain): i-stuck is locked" in err


def test_other_formats(explain: Explain) -> None:
    """csv and value are for scripts: only what was asked for is on stdout."""
    assert explain("web", "-f", "value", "-c", "host", "-c", "possible")[1].split() == [
        *("a", "here"),
        *("b", "yes"),
        *("c", "no"),
        *("nova-d", "no"),
    ]


def test_nowhere(explain: Explain) -> None:
    """3: no host is possible; each says why."""
    code, out, _ = explain("web", "--ban-host", "b", "-f", "json")
    assert code == 3
    assert [row["rule"] for row in json.loads(out)] == [
        "",
        "banned_hosts",
        "capacity",
        "keep_zone, hypervisor",
    ]


def test_conflict(explain: Explain) -> None:
    """What is enough to leave no host, and the least to lift; how, where the operator may.

    b is banned, c full, and nova-d in another zone and of another kind of hypervisor.
    """
    _, _, err = explain("web", "--ban-host", "b")
    assert err.splitlines()[1:] == [
        "enough to leave none of 3 other hosts: banned_hosts 1, capacity 1, hypervisor 1, and no "
        "part of these does",
        "least to lift: banned_hosts: then it could go to b",
    ]
    made = zones()
    made["hosts"][3]["hypervisor_type"] = None
    _, _, err = explain("web", "--ban-host", "b", made=made)
    assert err.splitlines()[2] == (
        "least to lift: keep_zone (--ignore-rule keep_zone, at your risk): then it could go to "
        "nova-d"
    )
    _, _, err = explain("web", "--pin", "i-web=a", "--ignore-rule", "keep_zone", made=made)
    assert err.splitlines()[1:] == [
        "enough to leave none of 3 other hosts: allowed_hosts 3",
        "least to lift: allowed_hosts: then it could go to b, nova-d",
    ]
    _, _, err = explain("stuck")
    assert err.splitlines()[2:] == [
        "enough to leave none of 3 other hosts: locked 3",
        "least to lift: locked: then it could go to a, c",
    ]
    assert "enough" not in explain("web")[2]


def held() -> clouds.Document:
    """Host a is to be emptied: b has room for one of its instances, c is in another zone."""
    return clouds.snapshot(
        [
            clouds.host("a", 16, az="east"),
            clouds.host("b", 4, az="east"),
            clouds.host("c", 8, az="west"),
        ],
        [
            clouds.instance("i-free", "a", 4),
            clouds.instance("i-zone", "a", 2),
            clouds.instance("i-lock", "a", 2, locked=True),
        ],
    )


def test_what_holds_a_goal(explain: Explain, tmp_path: pathlib.Path) -> None:
    """A plan that cannot empty a host: each instance that holds it, why, and what to ignore.

    After i-free has come to b, which it fills, i-zone is kept off b by room and off c by its zone.
    """
    made, file = held(), tmp_path / "plan.json"
    snapshot = tmp_path / "cloud.json"
    snapshot.write_bytes(clouds.as_bytes(made))
    arguments = ["plan", "--snapshot", str(snapshot), "--drain", "a", "--output", str(file)]
    arguments += ["--pin", "i-free=b", "--planner", "greedy"]
    assert main.main(arguments) == 0
    code, out, err = explain(None, "--plan", str(file), "-f", "json", made=made)
    assert code == 3
    kept = {row["instance"]: row for row in json.loads(out)}
    assert kept == {
        "i-zone": {
            "instance": "i-zone",
            "host": "a",
            "conflict": "capacity, keep_zone",
            "lift": "keep_zone",
            "hosts_then": "c",
        },
        "i-lock": {
            "instance": "i-lock",
            "host": "a",
            "conflict": "locked",
            "lift": "keep_zone, locked",
            "hosts_then": "c",
        },
    }
    assert "2 instances hold the goal drain; it is not enough to ignore rules" in err
    made["instances"].pop()
    snapshot.write_bytes(clouds.as_bytes(made))
    assert main.main(arguments) == 0
    code, out, err = explain(None, "--plan", str(file), "-f", "json", made=made)
    assert "1 instances hold the goal drain; all could go with --ignore-rule keep_zone" in err
    made["instances"].pop()
    snapshot.write_bytes(clouds.as_bytes(made))
    assert main.main(arguments) == 0
    assert explain(None, "--plan", str(file), "-f", "json", made=made)[:2] == (0, "[]\n")


def test_what_is_shut_off_holds_a_host(explain: Explain, tmp_path: pathlib.Path) -> None:
    """--cold is named where it empties the host, with the rules that it takes as well.

    c is in another zone; b has room for both at first, and then for i-off alone.
    """
    made, snapshot, file = held(), tmp_path / "cloud.json", tmp_path / "plan.json"
    made["instances"][0] |= {"id": "i-off", "status": "SHUTOFF", "power_state": 4}
    made["hosts"][1]["inventories"]["VCPU"]["total"] = 8
    stuck = made["instances"].pop()

    def told(*options: str) -> str:
        snapshot.write_bytes(clouds.as_bytes(made))
        main.main(["plan", "--snapshot", str(snapshot), "--drain", "a", "--output", str(file)])
        return explain(None, "--plan", str(file), *options, made=made)[2].splitlines()[-1]

    assert told() == "1 instances hold the goal drain; all could go with --cold"
    made["hosts"][1]["inventories"]["VCPU"]["total"] = 2
    made["instances"][1]["allocations"]["VCPU"] = 4
    made["instances"][0]["allocations"]["VCPU"] = 2
    assert told() == (
        "2 instances hold the goal drain; all could go with --cold --ignore-rule keep_zone, at "
        "your risk, and each of these is needed"
    )
    made["instances"].append(stuck)
    assert told() == (
        "3 instances hold the goal drain; it is not enough to ignore rules that may be ignored, "
        "even with --cold"
    )


@pytest.mark.parametrize("goal", ["drain,consolidate", "9*drain+consolidate", "drain<=0,repair"])
def test_what_holds_one_of_several_goals(
    explain: Explain, tmp_path: pathlib.Path, goal: str
) -> None:
    """Of several goals with drain among them the same is told as of drain alone."""
    made, snapshot, file = held(), tmp_path / "cloud.json", tmp_path / "plan.json"
    made["instances"].pop()
    snapshot.write_bytes(clouds.as_bytes(made))
    told = []
    for text in ("drain", goal):
        arguments = ["plan", "--snapshot", str(snapshot), "--drain", "a", "--goal", text]
        main.main([*arguments, "--pin", "i-free=b", "--planner", "greedy", "--output", str(file)])
        told.append(explain(None, "--plan", str(file), "-f", "json", made=made))
    assert told[1] == told[0]
    assert told[0][0] == 3
    assert [row["instance"] for row in json.loads(told[0][1])] == ["i-zone"]
    assert (
        "1 instances hold the goal drain; all could go with --ignore-rule keep_zone" in told[0][2]
    )


def test_what_holds_repair(explain: Explain, tmp_path: pathlib.Path) -> None:
    """Who is too many of a group, or away from it, is listed; who counts in two goals is so once.

    Neither i nor j has another host to go to; of the group of k, l and m the last is apart.
    """
    made, snapshot, file = held(), tmp_path / "cloud.json", tmp_path / "plan.json"
    made["instances"] = [
        *(clouds.instance(name, "a", 1, locked=True) for name in "ij"),
        *(clouds.instance(name, host, 1) for name, host in zip("klm", "bba", strict=True)),
    ]
    made["server_groups"] = [
        {"id": "apart", "policy": "anti-affinity", "members": ["i", "j"]},
        {"id": "close", "policy": "affinity", "members": ["k", "l", "m"]},
    ]
    snapshot.write_bytes(clouds.as_bytes(made))
    arguments = ["plan", "--snapshot", str(snapshot), "--output", str(file)]
    for goal, names in (("repair", "ijm"), ("repair,drain", "ijm"), ("drain+repair", "ijm")):
        drain = ("--drain", "a") if "drain" in goal else ()
        main.main([*arguments, "--goal", goal, *drain])
        code, out, err = explain(None, "--plan", str(file), "-f", "json", made=made)
        found = {row["instance"]: row["conflict"] for row in json.loads(out)}
        assert (code, "".join(found)) == (3, names)
        assert found["m"] == "affinity"
        assert "3 instances hold the goal repair\n" in err


def test_a_threshold_that_is_not_reached(explain: Explain, tmp_path: pathlib.Path) -> None:
    """Another goal has no such list; the value is told, and what else to ask."""
    made, snapshot, file = held(), tmp_path / "cloud.json", tmp_path / "plan.json"
    made["instances"].append(clouds.instance("i-far", "c", 1, locked=True))
    snapshot.write_bytes(clouds.as_bytes(made))
    arguments = ["plan", "--snapshot", str(snapshot), "--output", str(file)]
    main.main([*arguments, "--goal", "consolidate<=1,balance"])
    code, _, err = explain(None, "--plan", str(file), made=made)
    assert code == 2
    assert "consolidate is 2 with the plan, not 1 or less: the bound of a plan for it alone" in err
    main.main([*arguments, "--goal", "consolidate<=2,balance"])
    assert "with the plan" not in explain(None, "--plan", str(file), made=made)[2]


def test_what_holds_needs_a_plan(explain: Explain, tmp_path: pathlib.Path) -> None:
    """Neither an instance nor a plan, or a plan whose goal counts no instances: a usage error."""
    code, _, err = explain(None)
    assert code == 2 and "name an --instance, or a --plan" in err
    file, snapshot = tmp_path / "plan.json", tmp_path / "cloud.json"
    snapshot.write_bytes(clouds.as_bytes(zones()))
    main.main(["plan", "--snapshot", str(snapshot), "--output", str(file)])
    code, _, err = explain(None, "--plan", str(file))
    assert code == 2 and "its goal is fragmentation" in err


def test_options(explain: Explain) -> None:
    """Pins, bans, opt-in and rules that are ignored change the answer."""
    assert possible(explain("web", "-f", "json"))["b"] == "yes"
    for options in (
        ("--ban-host", "b"),
        ("--ban", "i-web=b"),
        ("--pin", "i-web=c"),
        ("--pin", "i-web=b,c", "--ban", "i-web=b"),
    ):
        assert possible(explain("web", *options, "-f", "json"))["b"] == "no", options
    code, _, err = explain("web", "--opt-in", "-f", "json")
    assert code == 3 and "i-web does not ask to be moved" in err
    made = zones()
    made["hosts"][3]["hypervisor_type"] = None
    left = possible(explain("web", "--ignore-rule", "keep_zone", "-f", "json", made=made))
    assert left == {"a": "here", "b": "yes", "c": "no", "nova-d": "yes"}


def test_configuration(explain: Explain) -> None:
    """What the section [constraints] says counts too, with what the command line says."""
    conf = "[constraints]\nbanned_hosts = b\n"
    assert explain("web", conf=conf)[0] == 3
    conf = "[constraints]\nopt_in = true\n"
    assert explain("web", conf=conf)[0] == 3
    made = zones()
    made["hosts"][3]["hypervisor_type"] = None
    conf = "[constraints]\nignored_rules = keep_zone\n"
    left = possible(explain("web", "--ban-host", "b", "-f", "json", made=made, conf=conf))
    assert (left["b"], left["nova-d"]) == ("no", "yes")


def test_paused(explain: Explain) -> None:
    """What keeps it from cold migration only is said, and live migration is judged all the same."""
    made = zones()
    made["instances"][0]["status"] = "PAUSED"
    code, out, err = explain("web", "-f", "json", made=made)
    assert code == 0 and json.loads(out)[1]["possible"] == "yes"
    assert "not migratable (cold, certain): i-web is PAUSED; it migrates live only" in err


def test_a_snapshot_with_gaps(explain: Explain) -> None:
    """A snapshot that no plan is made of is explained, with a warning."""
    made = zones() | {"missing": [{"what": "cell2", "reason": "the cell is down"}]}
    code, _, err = explain("web", made=made)
    assert code == 0
    assert "warning: the snapshot lacks cell2 (the cell is down): no plan is made of it" in err


@pytest.mark.parametrize(
    ("instance", "options", "text"),
    [
        ("nobody", (), "--instance nobody: no instance of the snapshot is called so"),
        ("db", (), "--instance db: 2 are called so: i-db1, i-db2"),
        ("lost", (), "--instance lost: it is on no host of the snapshot (cell_down)"),
        ("web", ("--ignore-rule", "units"), "--ignore-rule units: there is no such rule"),
        ("web", ("--ignore-rule", "nothing"), "there are: aggregate_extra_specs, capabilities, "),
        ("web", ("--ban-host", "z"), "--ban-host z: no such service host"),
        ("web", ("--pin", "z=a"), "--pin z: no such instance"),
        ("web", ("--pin", "i-web=z"), "--pin i-web=z: no such service host"),
        ("web", ("--ban", "i-web=z"), "--ban i-web=z: no such service host"),
        ("web", ("--ban", "i-web"), "--ban i-web: write INSTANCE=HOST or INSTANCE=HOST,HOST"),
        ("web", ("--pin", "=a"), "--pin =a: write INSTANCE=HOST"),
    ],
)
def test_usage(explain: Explain, instance: str, options: tuple[str, ...], text: str) -> None:
    """A wrong name ends with exit code 2 and one line that says which."""
    code, out, err = explain(instance, *options)
    assert (code, out) == (2, "")
    assert text in err and err.count("\n") == 1


def test_no_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is an error: one line, exit code 1."""
    arguments = ["explain", "--snapshot", "/nowhere/cloud.json", "--instance", "i"]
    assert main.main(arguments) == 1
    err = capsys.readouterr().err
    assert "/nowhere/cloud.json" in err and err.count("\n") == 1


@pytest.fixture
def planned(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A plan for ``clouds.three_hosts`` with a locked instance: j goes from a to b."""
    made = clouds.three_hosts()
    made["instances"].append(clouds.instance("stuck", "c", 1, locked=True))
    snapshot, plan = tmp_path / "three.json", tmp_path / "plan.json"
    snapshot.write_bytes(clouds.as_bytes(made))
    arguments = ["plan", "--snapshot", str(snapshot), "--output", str(plan), "-f", "json"]
    assert main.main([*arguments, "--fragment-cores", "4"]) == 0
    capsys.readouterr()
    return str(plan)


def of_plan(plan: str, instance: str, capsys: pytest.CaptureFixture[str], *more: str):
    """What explain says of an instance and the plan; exit code, stdout and stderr."""
    snapshot = str(pathlib.Path(plan).with_name("three.json"))
    arguments = ["explain", "--snapshot", snapshot, "--plan", plan, "--instance", instance]
    code = main.main([*arguments, *more])
    return (code, *capsys.readouterr())


def test_why_a_plan_moves(planned, capsys):
    """The migration and its reason are told, and what the goal would be on every host."""
    plan = json.loads(pathlib.Path(planned).read_text())
    (move,) = plan["migrations"]
    answer = of_plan(planned, move["instance"], capsys, "-f", "json")
    assert f"the plan moves it: {move['id']} {move['source']} -> {move['dest']}" in answer[2]
    assert move["reason"]["text"] in answer[2]
    found = rows(answer)
    assert [host for host, row in found.items() if row["planned"]] == [move["dest"]]
    values = {host: row["value_there"] for host, row in found.items()}
    assert values[move["dest"]] == pytest.approx(plan["objective"]["after"], abs=1e-6)
    assert values[move["source"]] == pytest.approx(plan["objective"]["before"], abs=1e-6)


def test_why_a_plan_does_not_move(planned, capsys):
    """What keeps an instance out of the plan is told, or that it is well where it is."""
    assert "the plan does not move it (excluded): " in of_plan(planned, "stuck", capsys)[2]
    told = of_plan(planned, "i", capsys)[2]
    assert "the plan leaves it where it is" in told
    assert "on any other host it would be no lower" in told


def test_plan_of_another_snapshot(planned, explain):
    """A plan that was not made from the snapshot explains nothing."""
    code, _, told = explain("i-web", "--plan", planned)
    assert code == 1
    assert "it was made from another snapshot" in told


def test_checks_say_why_not(explain: Explain) -> None:
    """``--check`` keeps web where it is by its tag, or b from taking it, and says so."""
    made = zones()
    made["instances"][0]["tags"] = ["backup"]
    code, _, said = explain("web", "--check", "backup", made=made)
    assert code == 3
    assert "check backup: i-web has the tag backup" in said
    found = rows(explain("web", "--check", "headroom=VCPU:0.5", "-f", "json"))
    assert (found["b"]["possible"], found["b"]["rule"]) == ("no", "check")
    assert found["b"]["why"] == "checks leave 0 VCPU of b, it needs 4"

# SPDX-License-Identifier: Apache-2.0
"""Rules' options of the command line and of the configuration file meet in the plan document."""

from collections.abc import Callable
import json
import pathlib
from typing import Any

import pytest

from nova_rebalancer.cmd import main
from nova_rebalancer.store import journal
from tests import clouds

Plan = Callable[..., dict[str, Any]]

RULES = (
    "--ignore-rule",
    "keep_zone",
    "--ignore-rule",
    "cpu",
    "--ban-host",
    "c",
    "--pin",
    "j=b,a",
    "--pin",
    "j=d",
    "--ban",
    "i=d",
)

CONF = """\
[constraints]
ignored_rules = cell, cpu
banned_hosts = d
numa_packing = true
soft_group_cost = 0.25
"""


def cloud() -> clouds.Document:
    """Three hosts of which a move from a to b makes better use, and a fourth host in a zone."""
    made = clouds.three_hosts()
    made["hosts"].append(clouds.host("d", 4, az="west"))
    return made


@pytest.fixture
def plan(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    """Make a plan and check it; return its document."""

    def run(*options: str, conf: str = "", made: clouds.Document | None = None) -> dict[str, Any]:
        snapshot, output, settings = (tmp_path / name for name in ("s.json", "p.json", "conf"))
        snapshot.write_bytes(clouds.as_bytes(made or cloud()))
        settings.write_text(conf)
        arguments = ["--config-file", str(settings), "plan", "--snapshot", str(snapshot)]
        arguments += ["--output", str(output)]
        if "--goal" not in options:
            arguments += ["--fragment-cores", str(clouds.CORES)]
        code = main.main([*arguments, *options])
        assert code in (0, 3), capsys.readouterr().err
        assert main.main(["check", "--snapshot", str(snapshot), "--plan", str(output)]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("ok: ")
        found: dict[str, Any] = json.loads(output.read_text())
        return found

    return run


def test_several_sizes_and_a_budget_of_memory(plan: Plan) -> None:
    """Both come from the command line or else the configuration, and the checker counts again."""
    conf = "[fragmentation]\ncores = 4, 2\n[planner]\nmax_gib = 0.5\n"
    given = plan("--fragment-cores", "2,4", "--max-gib", "1")
    assert given["options"]["fragment_cores"] == [4, 2]
    assert len(given["migrations"]) == 1
    assert {part["name"] for part in given["objectives"]} > {"fragment_cores_4", "fragment_cores_2"}
    less = plan(conf=conf)
    assert (less["options"]["max_gib"], less["migrations"]) == (0.5, [])


def test_a_budget_of_memory_says_so(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exchange takes three migrations of a GiB, where two GiB are allowed."""
    snapshot = tmp_path / "s.json"
    snapshot.write_bytes(clouds.as_bytes(clouds.exchange()))
    arguments = ["plan", "--snapshot", str(snapshot), "--fragment-cores", "4", "--max-gib", "2"]
    assert main.main(arguments) == 3
    assert "3 GiB would gain 0.5; --max-gib allows 2\n" in capsys.readouterr().err


def test_sizes_of_the_configuration(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no size there is named."""
    conf = tmp_path / "conf"
    conf.write_text("[fragmentation]\ncores = 999983, 999979\n")
    assert main.main(["--config-file", str(conf), "plan", "--demo"]) == 1
    assert "[fragmentation] cores: fragment cores 999983, 999979" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_no_number_of_the_configuration(
    number: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that is none is named with its section."""
    conf = tmp_path / "conf"
    conf.write_text(f"[planner]\nmax_gib = {number}\n")
    assert main.main(["--config-file", str(conf), "plan", "--demo"]) == 1
    told = f"configuration: [planner] max_gib: {number} is not a finite number\n"
    assert told in capsys.readouterr().err


def test_defaults(plan: Plan) -> None:
    """Every rule is kept and nobody is pinned or banned."""
    options = plan()["options"]
    assert options["ignored_rules"] == options["banned_hosts"] == []
    assert options["pins"] == options["bans"] == {}
    assert (options["opt_in"], options["numa_packing"]) == (False, False)
    assert options["soft_group_cost"] == 0.001


def test_command_line(plan: Plan) -> None:
    """What is given several times counts together, sorted, each once; the plan obeys it."""
    found = plan(*RULES)
    options = found["options"]
    assert options["ignored_rules"] == ["cpu", "keep_zone"]
    assert options["banned_hosts"] == ["c"]
    assert options["pins"] == {"j": ["a", "b", "d"]}
    assert options["bans"] == {"i": ["d"]}
    assert found["migrations"]
    assert not any(move["dest"] == "c" for move in found["migrations"])


def test_a_pin_keeps(plan: Plan) -> None:
    """j would go from a to b, as the plan without the pin has it."""
    assert [(move["instance"], move["dest"]) for move in plan()["migrations"]] == [("j", "b")]
    pinned = plan("--pin", "j=a")
    assert not any(move["instance"] == "j" for move in pinned["migrations"])
    (why,) = [one["reason"] for one in pinned["excluded"] if one["instance"] == "j"]
    assert why["code"] == "no_host"


def test_configuration_adds_up(plan: Plan) -> None:
    """The section [constraints] says the same, and what both say counts together."""
    options = plan(conf=CONF)["options"]
    assert options["ignored_rules"] == ["cell", "cpu"]
    assert (options["banned_hosts"], options["numa_packing"]) == (["d"], True)
    assert options["soft_group_cost"] == 0.25
    options = plan(*RULES, conf=CONF)["options"]
    assert options["ignored_rules"] == ["cell", "cpu", "keep_zone"]
    assert options["banned_hosts"] == ["c", "d"]


def test_headroom_and_flavors(plan: Plan) -> None:
    """Shares of single resources stand beside that of all; the command line replaces the file."""
    conf = "[goals]\nheadroom = 0.3\nheadroom_of = MEMORY_MB:0.2\nflavors = 2:4,4:8\n"
    options = plan("--goal", "consolidate", conf=conf)["options"]
    assert (options["headroom"], options["headroom_of"]) == (0.3, {"MEMORY_MB": 0.2})
    given = ("--headroom", "0.1", "--headroom", "VCPU=0.4", "--flavor", "1:2")
    options = plan("--goal", "consolidate,flavor-fit", *given, conf=conf)["options"]
    assert (options["headroom"], options["headroom_of"]) == (0.1, {"VCPU": 0.4})
    assert options["flavors"] == ["1:2"]
    with pytest.raises(SystemExit):
        plan("--headroom", "VCPU=2")


@pytest.mark.parametrize(
    ("words", "users"),
    [
        (["--headroom", "0.2"], "consolidate"),
        (["--headroom", "VCPU=0.2"], "consolidate"),
        (["--spare-hosts", "0"], "consolidate"),
        (["--flavor", "4:4096"], "flavor-fit"),
        (["--balance-resource", "VCPU"], "balance"),
        (["--balance-on", "use"], "balance or power or thermal"),
        (["--fragment-cores", "32,16"], "fragmentation"),
    ],
)
def test_what_shapes_no_goal_is_refused(
    words: list[str], users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option of other goals than those asked for is an error that names them."""
    goal = "repair,sharing"
    assert main.main(["plan", "--demo", "--goal", goal, *words]) == 2
    told = f"error: {' '.join(words)}: it is for the goal {users}; the goal is {goal}\n"
    assert told in capsys.readouterr().err


def test_a_goal_is_shaped_in_company(plan: Plan) -> None:
    """One of several goals is enough; power counts measured use, too."""
    options = plan("--goal", "repair,balance+consolidate", "--spare-hosts", "1")["options"]
    assert options["spare_hosts"] == 1
    assert plan("--goal", "power", "--balance-on", "use")["options"]["balance_on"] == "use"


def test_worth(plan: Plan) -> None:
    """The section [worth] has defaults for the command line; without both nothing costs."""
    names = ("cost_per_gib", "min_gain", "cooldown_h", "project_migrations", "project_gib")

    def said(*arguments: str, conf: str = "") -> list[float | None]:
        options = plan(*arguments, conf=conf)["options"]
        return [options[name] for name in names]

    assert said() == [0.0, 0.0, 0.0, None, None]
    conf = "[worth]\ncost_per_gib = 1e-4\nmin_gain = 1e-3\ncooldown_h = 24\n"
    conf += "project_migrations = 3\nproject_gib = 4.5\n"
    assert said(conf=conf) == [1e-4, 1e-3, 24.0, 3, 4.5]
    given = ["--cost-per-gib=0", "--min-gain=0", "--cooldown=0"]
    given += ["--project-migrations=0", "--project-gib=9"]
    assert said(*given, conf=conf) == [0.0, 0.0, 0.0, 0, 9.0]


@pytest.mark.parametrize(("options", "conf"), [(("--opt-in",), ""), ((), "opt_in = true\n")])
def test_opt_in(plan: Plan, options: tuple[str, ...], conf: str) -> None:
    """Either of both turns it on: nothing asks to be moved, so nothing is."""
    found = plan(*options, conf=f"[constraints]\n{conf}")
    assert found["options"]["opt_in"] and found["migrations"] == []
    assert {one["reason"]["code"] for one in found["excluded"]} == {"not_opted_in"}


@pytest.mark.parametrize(
    ("options", "conf", "code", "text"),
    [
        (("--ignore-rule", "capacity"), "", 2, "--ignore-rule capacity: there is no such rule"),
        ((), "ignored_rules = usable\n", 2, "usable: there is no such rule"),
        ((), "banned_hosts = z\n", 2, "z: no such service host in the snapshot"),
        (("--pin", "z=a"), "", 2, "--pin z: no such instance"),
        (("--ban", "i=a,"), "opt_in = perhaps\n", 1, "opt_in"),
        ((), "soft_group_cost = -1\n", 1, "soft_group_cost"),
        ((), "[goals]\nheadroom_of = VCPU:x\n", 1, "headroom_of: 'x' is not a number"),
    ],
)
def test_bad(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    conf: str,
    code: int,
    text: str,
) -> None:
    """What is not there, or no value of an option, is one line and no plan."""
    (tmp_path / "s.json").write_bytes(clouds.as_bytes(cloud()))
    (tmp_path / "conf").write_text(f"[constraints]\n{conf}")
    arguments = ["--config-file", str(tmp_path / "conf"), "plan"]
    arguments += ["--snapshot", str(tmp_path / "s.json"), *options]
    assert main.main(arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and text in err and err.count("\n") == 1


def test_learned_from_the_journal(plan: Plan, tmp_path: pathlib.Path) -> None:
    """``--cost learned`` reads what the cloud's migrations took: j took twice as long as it says.

    j has 1024 MiB: 1.024 s at 1000 MiB/s, and a second beside copying; it took 3.048 s.
    """
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    book = journal.open(url)
    asked = {"id": "p", "goal": "g", "objective": {"before": 1, "after": 0}, "max_migrations": 1}
    new = journal.New(key="m0", instance="j", source="a", dest="b", method="live", memory_mib=1024)
    run = book.begin(asked, cloud="small", region=None, owner="me", now=0.0, entries=[new])
    (entry,) = book.entries(run.id)
    for state, at in (("REQUESTED", 1.0), ("RUNNING", 2.0), ("CONFIRMED", 5.048)):
        more = {"RUNNING": {"running_at": at}, "CONFIRMED": {"ended_at": at}}.get(state, {})
        entry = book.change(entry, "me", at, state, **more)
    book.end(run.id, "me", 9.0, "DONE", None)
    made = plan("--cost", "learned", conf=f"[store]\nconnection = {url}\n")
    assert made["options"]["cost"] == "learned"
    assert made["options"]["time_factors"] == {"*": 2.0}
    assert [one["end_s"] for one in made["migrations"]] == [3.048]


def test_cost_of_the_file(plan: Plan) -> None:
    """[path] says what migrations cost, and the command line says it last."""
    conf = "[path]\ncost = precopy\ndirty_rate_mibps = 500\n"
    made = plan(conf=conf)["options"]
    assert (made["cost"], made["dirty_rate_mibps"]) == ("precopy", 500)
    assert plan("--cost", "memory", conf=conf)["options"]["cost"] == "memory"


def test_checks(plan: Plan) -> None:
    """[constraints] and the command line name checks together; the plan keeps to them.

    b would be full with j, whose move is what the plan without them has.
    """
    conf = "[constraints]\nchecks = backup\nchecks = headroom=VCPU:0.1\n"
    found = plan("--check", "overcommit=1", "--check", "backup", conf=conf)
    assert found["options"]["checks"] == ["backup", "headroom=VCPU:0.1", "overcommit=1"]
    assert [one["instance"] for one in plan()["migrations"]] == ["j"]
    assert ("j", "b") not in [(one["instance"], one["dest"]) for one in found["migrations"]]


def test_limits(plan: Plan) -> None:
    """What migrations share is said in [path] and [execute], and by the command line over them."""
    conf = "[path]\nlinks = uplink=2\nprefer = makespan\n[execute]\ntotal = 3\n"
    made = cloud()
    for host in made["hosts"]:
        host["rack"] = {"provenance": "operator", "value": "r1"}
    found = plan(conf=conf, made=made)["options"]
    assert (found["total"], found["links"], found["prefer"]) == (3, ["uplink=2"], "makespan")
    asked = ("--concurrent", "5", "--link", "uplink:r1=1", "--prefer", "cost")
    found = plan(*asked, conf=conf, made=made)["options"]
    assert (found["total"], found["prefer"]) == (5, "cost")
    assert found["links"] == ["uplink=2", "uplink:r1=1"]


def test_links_that_are_not_there(plan: Plan) -> None:
    """A link that nobody told of stops the start."""
    with pytest.raises(AssertionError, match="--link uplink=1: the rack of no host is known"):
        plan("--link", "uplink=1")

# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance simulate``: what is printed, what is written, and the exit codes."""

import json
import os
import pathlib
import signal
import sys

import pytest

from nova_rebalancer.cmd import main
from nova_rebalancer.sim import days
from nova_rebalancer.sim import results
from tests import clouds

HEAD = "at_s,cores,memory_mib,lifetime_s\n"


@pytest.fixture
def small(tmp_path: pathlib.Path) -> str:
    """A file with a cloud of three hosts."""
    path = tmp_path / "cloud.json"
    path.write_bytes(clouds.as_bytes(clouds.three_hosts()))
    return str(path)


def simulate(*words: str) -> int:
    """Run it for two days."""
    return main.main(["simulate", "--days", "2", "--fragment-cores", "4", *words])


def test_a_row_for_each_policy(small, capsys):
    """The table names the policies in the order given; a line on stderr sums each up."""
    policies = ("--policy", "none", "--policy", "greedy every=6h max-migrations=3")
    assert simulate("--snapshot", small, *policies, "-f", "csv") == 0
    out, err = capsys.readouterr()
    head, none, greedy = out.splitlines()
    assert head.startswith('"policy","days","boots","refused","refused_cores","migrations"')
    assert none.startswith('"none",2.0,')
    assert greedy.startswith('"greedy every=6h max-migrations=3",2.0,')
    assert "none: 2.0 days, " in err
    assert " migrations of " in err


def test_the_same_call_prints_the_same(small, capsys):
    """Byte for byte, also what --output writes; another seed gives something else."""
    words = ("--snapshot", small, "--policy", "greedy", "-f", "json")
    assert simulate(*words) == 0
    first = capsys.readouterr().out
    assert simulate(*words) == 0
    assert capsys.readouterr().out == first
    assert simulate(*words, "--seed", "1") == 0
    assert capsys.readouterr().out != first


def test_the_document(small, tmp_path, capsys):
    """-f json prints what --output writes; a series has a point for each hour, both ends too."""
    file = tmp_path / "days.json"
    words = ("--policy", "none", "--policy", "greedy", "--warm-up", "1")
    assert simulate("--snapshot", small, *words, "--output", str(file), "-f", "json") == 0
    out = capsys.readouterr().out
    assert out == file.read_text()
    written = json.loads(out)
    assert written["format"] == "nova-rebalancer-simulation/1"
    assert written["status"] == "complete"
    none, greedy = written["policies"]
    assert none["options"] is None
    assert greedy["options"]["planner"] == "greedy"
    assert none["boots"] == greedy["boots"]
    for one in (none, greedy):
        series = one["series"]
        assert series["at_s"] == [3600.0 * hour for hour in range(49)]
        assert series["refused"][-1] == one["refused"] == sum(one["refused_by_flavor"].values())
        assert series["migrations"][-1] == one["migrations"]
        assert series["boots"][0] == 0
    assert [plan["at_s"] for plan in greedy["plans"]] == [0.0, 86400.0]


def test_arrivals_from_a_file(small, tmp_path, capsys):
    """The two boots of the file: 4 cores find room on c, 100 nowhere."""
    file = tmp_path / "boots.csv"
    file.write_text(HEAD + "60,4,1024,600\n90000,100,1024,600\n")
    words = ("--snapshot", small, "--arrivals", str(file), "--policy", "none", "-f", "json")
    assert simulate(*words) == 0
    out, err = capsys.readouterr()
    (none,) = json.loads(out)["policies"]
    assert (none["boots"], none["refused"], none["refused_cores"]) == (2, 1, 100)
    assert none["refused_by_flavor"] == {"100c-1g": 1}
    assert "the arrivals end before the last day" not in err


def test_resizes_have_columns(small, tmp_path, capsys):
    """One of two resizes finds room; without any there are no such columns."""
    file = tmp_path / "boots.csv"
    rows = ["60,1,1024,90000,v", "70,2,1024,,v", "80,100,1024,,v"]
    for count, columns in ((3, ["2", "1"]), (1, [])):
        file.write_text("\n".join([HEAD.strip() + ",instance", *rows[:count], ""]))
        words = ("--snapshot", small, "--arrivals", str(file), "--policy", "none", "-f", "csv")
        assert simulate(*words) == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head.split(",")[10:] == [f'"{one}"' for one in results.RESIZES[: len(columns)]]
        assert row.split(",")[10:] == columns


def test_a_picture(small, tmp_path):
    """--plot draws an SVG, the same for the same days."""
    pytest.importorskip("matplotlib")
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    for file in (first, second):
        assert simulate("--snapshot", small, "--policy", "none", "--plot", str(file)) == 0
    assert first.read_text().startswith("<?xml")
    assert first.read_bytes() == second.read_bytes()


def test_no_matplotlib(small, monkeypatch, capsys):
    """Before anything is simulated the error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert simulate("--snapshot", small, "--plot", "days.svg") == 2
    assert "pip install 'nova-rebalancer[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--policy", "auto often"), "'often' is not understood"),
        (("--policy", "clever"), 'planners: no "clever"'),
        (("--plot", "days.gif"), "must end with .svg or .png"),
        (("--lifetime", "1e-9"), "e+10 boots, more than 5,000,000"),
        (("--load", "1", "--arrivals", "BOOTS"), "--load is for made-up arrivals"),
    ],
)
def test_a_wrong_call(small, tmp_path, capsys, words, why):
    """Exit code 2 and a line that says what is wrong."""
    boots = tmp_path / "boots.csv"
    boots.write_text(HEAD + "60,4,1024,600\n")
    words = [str(boots) if word == "BOOTS" else word for word in words]
    assert simulate("--snapshot", small, *words) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--load", "0"), "0 is too little"),
        (("--days", "x"), "'x' is not a number"),
        (("--demo",), "not allowed with argument --snapshot"),
    ],
)
def test_a_wrong_option(small, capsys, words, why):
    """The same for what argparse finds, which ends the program."""
    with pytest.raises(SystemExit) as ended:
        simulate("--snapshot", small, *words)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_bad_trace(small, tmp_path, capsys):
    """Exit code 1; the line and the value are named."""
    boots = tmp_path / "boots.csv"
    boots.write_text(HEAD + "60,many,1024,600\n")
    assert simulate("--snapshot", small, "--arrivals", str(boots)) == 1
    assert f"{boots}: line 2: cores 'many' is not a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(("looks", "code"), [(0, 130), (60, 0)])
def test_ctrl_c_keeps_what_is_done(small, monkeypatch, capsys, looks, code):
    """Pressed in the second policy, the first is whole and the second as far as it came.

    Pressed before anything is done, there is no result.
    """
    reached, seen = days.Watch.reached, []

    def press(self, at_s: float) -> None:
        reached(self, at_s)
        seen.append(at_s)
        if len(seen) == looks:
            os.kill(os.getpid(), signal.SIGINT)

    from nova_rebalancer.cmd import simulating

    monkeypatch.setattr(simulating.Progress, "reached", press)
    if not looks:
        begin = simulating.Progress.begin

        def at_once(self, *arguments) -> None:
            begin(self, *arguments)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(simulating.Progress, "begin", at_once)
    words = ("--policy", "none", "--policy", "greedy", "-f", "json")
    assert simulate("--snapshot", small, *words) == code
    out, err = capsys.readouterr()
    if code:
        assert out == ""
        assert "interrupted before there was a result" in err
        return
    written = json.loads(out)
    assert written["status"] == "interrupted"
    assert [one["days"] for one in written["policies"]] == [2.0, pytest.approx(10 / 24)]


def test_checks_of_the_configuration(small, tmp_path, capsys):
    """Plans of a simulation keep to the checks that [constraints] names: nothing may be used here.

    Without the check the greedy policy moves something on the first day.
    """
    file = tmp_path / "nova-rebalancer.conf"
    words = ["simulate", "--snapshot", small, "--days", "1", "--fragment-cores", "4"]
    words += ["--policy", "greedy", "-f", "json"]
    moved = {}
    for text in ("", "checks = overcommit=0\n"):
        file.write_text(f"[constraints]\n{text}")
        assert main.main(["--config-file", str(file), *words]) == 0
        (greedy,) = json.loads(capsys.readouterr().out)["policies"]
        moved[tuple(greedy["options"]["checks"])] = greedy["migrations"]
    assert moved[()] > 0
    assert moved["overcommit=0",] == 0

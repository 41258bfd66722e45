# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance check``."""

import io
import json
import subprocess
import sys

from cliff import app
from cliff import commandmanager
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import check
from tests.unit.checker import documents


def run(*arguments: str) -> tuple[int, str]:
    """Run the command as the application does; its exit code and standard output."""
    output = io.StringIO()
    program = app.App(
        "test", "0", commandmanager.CommandManager("nova_rebalancer.test_none"), stdout=output
    )
    command = check.Check(program, None)
    parsed = command.get_parser("nova-rebalance check").parse_args(arguments)
    return command.run(parsed), output.getvalue()


@pytest.fixture
def files(tmp_path):
    """Return the options for one host, one instance and a plan of nothing: 12 of 12 free."""
    cloud = documents.snapshot([documents.host("a")], [documents.instance("x", "a")])
    (tmp_path / "s.json").write_bytes(documents.as_bytes(cloud))
    plan = documents.plan(cloud, [], 1.0, 1.0)
    (tmp_path / "p.json").write_bytes(documents.as_bytes(plan))
    bad = plan | {"migrations": [documents.migration("m7", "x", "a", "a")]}
    (tmp_path / "bad.json").write_bytes(documents.as_bytes(bad))
    snapshot = ("--snapshot", str(tmp_path / "s.json"))
    return (
        (*snapshot, "--plan", str(tmp_path / "p.json")),
        (*snapshot, "--plan", str(tmp_path / "bad.json")),
    )


def test_one_line(files):
    """By default one line says ok, or which rule is violated by what, with the exit code."""
    code, output = run(*files[0])
    assert code == 0
    assert output.startswith("ok: 0 migrations") and output.count("\n") == 1
    code, output = run(*files[1])
    assert code == 1
    assert output == 'same_host: migration m7: instance "x": source and dest are host "a"\n'


def test_json(files):
    """-f json prints one object with exactly the promised keys."""
    code, output = run("-f", "json", *files[0])
    found = json.loads(output)
    assert (code, found["ok"], found["kind"], found["migration"]) == (0, True, None, None)
    code, output = run("-f", "json", *files[1])
    assert code == 1
    assert json.loads(output) == {
        "ok": False,
        "kind": "same_host",
        "migration": "m7",
        "detail": 'instance "x": source and dest are host "a"',
    }


@pytest.mark.parametrize("form", ["table", "yaml", "value", "csv", "shell"])
def test_other_formats(files, form):
    """Every format of a command line of OpenStack works and keeps the exit code."""
    code, output = run("-f", form, *files[1])
    assert code == 1
    assert "same_host" in output and "m7" in output
    assert "same_host" in run("-f", form, "-c", "kind", *files[1])[1]


def test_error_is_for_the_application(files, tmp_path):
    """What is wrong with the files themselves is raised, in one line, with the file's name."""
    with pytest.raises(exceptions.InputError, match=r"no\.json: cannot be read: No such file"):
        run(*files[0][:2], "--plan", str(tmp_path / "no.json"))


def printed(code: str) -> str:
    """Return what ``code`` prints in an interpreter of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_importing_the_command_is_light():
    """``--help`` imports the command and must not wait for solvers."""
    code = (
        "import sys, nova_rebalancer.cmd.check as c\n"
        "print([m for m in ('networkx', 'numpy', 'jsonschema_rs') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout == "[]\n"


def test_the_checker_shares_no_code():
    """It loads nothing of the program but its own modules and the errors."""
    code = (
        "import sys, nova_rebalancer.checker\n"
        "print(sorted({'.'.join(m.split('.')[:2]) for m in sys.modules"
        " if m.startswith('nova_rebalancer.')}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout == "['nova_rebalancer.checker', 'nova_rebalancer.exceptions']\n"

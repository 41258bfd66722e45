# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance doctor``."""

import argparse
import io
import json

from cliff import app
from cliff import commandmanager
import pytest

from nova_rebalancer.cmd import doctor
from nova_rebalancer.rest import client
from tests.unit.collect import emulator


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A cloud of one host and a server of another project on it."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.04)
    with emulator.running(tmp_path, monkeypatch) as running:
        running.world.host("a")
        running.world.server("a", tenant_id="8" * 32)
        yield running


def run(*arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Run the command as the application does; its exit code and rows."""
    output = io.StringIO()
    manager = commandmanager.CommandManager("nova_rebalancer.test_none")
    program = app.App("test", "0", manager, stdout=output)
    command = doctor.Doctor(program, argparse.Namespace(config_file=None))
    given = ["--os-cloud", "here", "-f", "json", *arguments]
    parsed = command.get_parser("nova-rebalance doctor").parse_args(given)
    return command.run(parsed), json.loads(output.getvalue())


def test_a_cloud_in_order(cloud):
    """All checks are listed with the same keys, and the exit code is 0."""
    code, rows = run()
    assert code == 0
    assert {tuple(row) for row in rows} == {doctor.COLUMNS}
    assert rows[0]["check"] == "credentials"


def test_a_warning_is_no_failure(cloud):
    """A host that is down is told, and a script goes on."""
    cloud.world.services[0]["state"] = "down"
    code, rows = run("--bad")
    assert code == 0
    assert [(row["check"], row["result"]) for row in rows] == [
        ("services", "warning"),
        ("notifications", "unknown"),
    ]


def test_an_error_is_one(cloud):
    """An error gives exit code 1, with all rows on standard output."""
    cloud.world.password = "another"
    code, rows = run()
    assert code == 1
    assert [row["check"] for row in rows] == ["credentials"]


def test_urls_from_standard_input(cloud, monkeypatch):
    """Passwords need not stand on the command line."""
    monkeypatch.setattr("sys.stdin", io.StringIO("rabbit://u:secret@h:port/\nnonsense\n"))
    code, rows = run("--transport-url", "-", "--bad")
    assert code == 1
    assert [row["check"] for row in rows] == ["notifications"] * 2
    assert "secret" not in json.dumps(rows)


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", "99999"])
def test_seconds_to_listen(value):
    """What is no time to listen is a usage error."""
    with pytest.raises(SystemExit) as ended:
        run("--listen", value)
    assert ended.value.code == 2

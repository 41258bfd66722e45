# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance status``: one row for each cloud, of the open run or the last one."""

import time

import pytest

from nova_rebalancer.store import journal
from nova_rebalancer.store import owner
from tests.unit.cmd import journals


def test_the_interrupted_run_of_a_cloud(tmp_path, capsys):
    """An open run whose owner is gone is shown with what it has left."""
    _, run = journals.fill(tmp_path)
    (row,) = journals.rows(journals.command(("status", "-f", "json"), tmp_path, capsys))
    assert row == {
        "cloud": "prod",
        "region": None,
        "run": run,
        "state": "OPEN",
        "began_at": "1970-01-02T00:00:00Z",
        "plan": "plan",
        "migrations": {"PLANNED": 2, "RUNNING": 1},
        "owner": journals.GONE,
        "owner_lives": False,
    }


def test_the_last_run_where_none_is_open(tmp_path, capsys):
    """It has no owner, so whether that one lives is no question."""
    _, run = journals.fill(tmp_path)
    book = journal.open(journals.url(tmp_path))
    book.end(run, journals.GONE, 90000.0, "STOPPED", "by a person")
    (row,) = journals.rows(journals.command(("status", "-f", "json"), tmp_path, capsys))
    assert (row["run"], row["state"]) == (run, "STOPPED")
    assert (row["owner"], row["owner_lives"]) == (None, None)


def test_who_is_at_work(tmp_path, capsys):
    """A run of a process that lives says so, also in a table."""
    _, run = journals.fill(tmp_path)
    journal.open(journals.url(tmp_path)).take(run, owner.me(), time.time())
    (row,) = journals.rows(journals.command(("status", "-f", "json"), tmp_path, capsys))
    assert (row["owner"], row["owner_lives"]) == (owner.me(), True)
    code, out, _ = journals.command(("status",), tmp_path, capsys)
    assert code == 0
    assert "PLANNED 2, RUNNING 1" in out


def test_one_cloud(tmp_path, capsys):
    """``--cloud`` and, as other commands call it, ``--os-cloud`` leave the others out."""
    journals.fill(tmp_path)
    for option in ("--cloud", "--os-cloud"):
        words = ("status", "-f", "json", option)
        assert len(journals.rows(journals.command((*words, "prod"), tmp_path, capsys))) == 1
        assert journals.rows(journals.command((*words, "other"), tmp_path, capsys)) == []


def test_an_empty_journal_is_no_error(tmp_path, capsys):
    """Before the first run there is nothing to show, which is said on stderr."""
    code, out, err = journals.command(("status",), tmp_path, capsys)
    assert (code, out.strip()) == (0, "")
    assert err == "nova-rebalance: the journal has no runs\n"


@pytest.mark.parametrize("content", ["[store\n", "[store]\nconnection = nonsense\n", None])
def test_a_bad_configuration_is_one_line(tmp_path, capsys, content):
    """A file that is not there or cannot be understood, or a URL that is none, ends with code 1."""
    bad = tmp_path / "bad.conf"
    if content is not None:
        bad.write_text(content)
    code, out, err = journals.command(("--config-file", str(bad), "status"), tmp_path, capsys)
    assert (code, out) == (1, "")
    assert err.startswith("nova-rebalance: error: ")
    assert err.count("\n") == 1

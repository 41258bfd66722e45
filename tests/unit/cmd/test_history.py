# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance history``: the runs, the newest first."""

import pytest

from tests.unit.cmd import journals


def test_the_newest_first(tmp_path, capsys):
    """What was promised and what came of it, of every run."""
    first, second = journals.fill(tmp_path)
    rows = journals.rows(journals.command(("history", "-f", "json"), tmp_path, capsys))
    assert [row["run"] for row in rows] == [second, first]
    assert rows[1] == {
        "run": first,
        "cloud": "prod",
        "region": None,
        "state": "PARTLY",
        "began_at": "1970-01-01T00:00:00Z",
        "ended_at": "1970-01-01T00:00:21Z",
        "migrations": {"CONFIRMED": 1, "FAILED": 1, "PLANNED": 1},
        "goal": "fragmentation",
        "before": 0.5,
        "predicted": 0.25,
        "after": 0.3,
        "cause": "one failed",
    }


def test_fewer(tmp_path, capsys):
    """``--limit`` keeps the newest, ``--cloud`` those of one cloud."""
    _, second = journals.fill(tmp_path)
    words = ("history", "-f", "json")
    (row,) = journals.rows(journals.command((*words, "--limit", "1"), tmp_path, capsys))
    assert row["run"] == second
    assert journals.rows(journals.command((*words, "--cloud", "x"), tmp_path, capsys)) == []


def test_no_runs(tmp_path, capsys):
    """An empty journal is no error; a limit of nothing is one of the call."""
    code, out, err = journals.command(("history",), tmp_path, capsys)
    assert (code, out.strip(), err) == (0, "", "nova-rebalance: the journal has no runs\n")
    with pytest.raises(SystemExit) as caught:
        journals.command(("history", "--limit", "0"), tmp_path, capsys)
    assert caught.value.code == 2

# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance show``: a run, its migrations and their changes of state."""

import pytest

from tests.unit.cmd import journals


def test_the_migrations_of_a_run(tmp_path, capsys):
    """In the order of the plan, with what each took and why it failed, whole for programs."""
    first, _ = journals.fill(tmp_path)
    rows = journals.rows(journals.command(("show", first[:8], "-f", "json"), tmp_path, capsys))
    assert [row["id"] for row in rows] == ["m0", "m1", "m2"]
    assert rows[0]["instance"] == "i-0"
    assert (rows[0]["state"], rows[0]["seconds"]) == ("CONFIRMED", 12.5)
    assert (rows[1]["state"], rows[1]["code"]) == ("FAILED", "refused")
    assert rows[1]["why"].startswith("No valid host was found.\nThe second line. ")
    assert len(rows[1]["why"]) > 500
    assert (rows[2]["state"], rows[2]["seconds"], rows[2]["why"]) == ("PLANNED", None, None)


def test_a_table_has_a_head(tmp_path, capsys):
    """People see first what the run is; a long reason does not break the table."""
    first, second = journals.fill(tmp_path)
    code, out, _ = journals.command(("show", first), tmp_path, capsys)
    assert code == 0
    head = out[: out.index("+--")].splitlines()
    assert head == [
        f"run            {first}",
        "plan           plan",
        "cloud          prod",
        "state          PARTLY: one failed",
        "began          1970-01-01T00:00:00Z",
        "ended          1970-01-01T00:00:21Z",
        "fragmentation  0.5 before, 0.25 predicted, 0.3 after",
        "migrations     CONFIRMED 1, FAILED 1, PLANNED 1",
    ]
    assert "No valid host was found. The second line. xxx" in out
    assert max(map(len, out.splitlines())) < 300
    _, out, _ = journals.command(("show", second), tmp_path, capsys)
    assert "owner          far.example:1:1\n" in out
    assert "ended          not yet\n" in out


def test_every_change(tmp_path, capsys):
    """``--changes`` tells the run as a story, with the cause of each step."""
    first, _ = journals.fill(tmp_path)
    words = ("show", first, "--changes", "-f", "json")
    rows = journals.rows(journals.command(words, tmp_path, capsys))
    assert [(row["id"], row["before"], row["after"]) for row in rows] == [
        ("m0", None, "PLANNED"),
        ("m1", None, "PLANNED"),
        ("m2", None, "PLANNED"),
        ("m0", "PLANNED", "REQUESTED"),
        ("m0", "REQUESTED", "RUNNING"),
        ("m0", "RUNNING", "CONFIRMED"),
        ("m1", "PLANNED", "FAILED"),
    ]
    assert (rows[5]["at"], rows[6]["code"]) == ("1970-01-01T00:00:14Z", "refused")


@pytest.mark.parametrize("run", ["none", "", "%"])
def test_no_such_run(tmp_path, capsys, run):
    """Exit code 1 and one line that names what was asked for."""
    journals.fill(tmp_path)
    code, out, err = journals.command(("show", run), tmp_path, capsys)
    assert (code, out) == (1, "")
    assert (
        err
        == f'nova-rebalance: error: there is no run "{run}"; nova-rebalance history lists them\n'
    )

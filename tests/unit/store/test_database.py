# SPDX-License-Identifier: Apache-2.0

import os
import socket
import sqlite3
import stat

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.store import database
from nova_rebalancer.store import journal


def test_the_default_is_a_file_of_ones_own(tmp_path, monkeypatch):
    """It lies where the desktop's standard wants it, and nobody else may read it or its folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    previous = os.umask(0)
    try:
        journal.open(None)
    finally:
        os.umask(previous)
    folder = tmp_path / "state" / "nova-rebalancer"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert folder / "journal.sqlite" in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_default_without_a_setting(tmp_path, monkeypatch):
    """Without ``XDG_STATE_HOME`` it is ``~/.local/state``, as the standard says."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".local/state/nova-rebalancer/journal.sqlite"
    assert journal.default_url() == f"sqlite:///{path}"


def test_a_strange_folder_does(tmp_path, monkeypatch):
    """A home with characters that mean something in URLs is a home."""
    home = tmp_path / "a b%20?c#ü"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    journal.open(None)
    assert (home / "nova-rebalancer" / "journal.sqlite").exists()


def test_what_is_committed_is_on_the_disk(tmp_path):
    """SQLite waits for the disk at each commit, watches foreign keys, and lets others read."""
    data = database.Database(f"sqlite:///{tmp_path / 'journal.sqlite'}")

    def pragma(name):
        return data.read(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    assert pragma("journal_mode") == "wal"
    assert pragma("busy_timeout") == 30_000


def test_another_program_reads_while_we_write(tmp_path):
    """``status`` does not wait for ``apply``, nor the other way round."""
    path = tmp_path / "journal.sqlite"
    journal.open(f"sqlite:///{path}")
    with sqlite3.connect(path, timeout=0) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert journal.open(f"sqlite:///{path}").runs() == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:s3cret@127.0.0.1:{port}/journal",
        "mysql+pymysql://user:s3cret@127.0.0.1:{port}/journal",
    ],
)
def test_an_unreachable_server_is_one_line_without_the_password(url):
    """The error says which journal, and why, and keeps the password to itself."""
    with socket.socket() as taken:
        # Bound and not listening: nobody answers, and nobody else gets the port.
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(exceptions.RebalancerError) as caught:
            journal.open(url.format(port=taken.getsockname()[1]))
    text = str(caught.value)
    assert "s3cret" not in text
    assert "user:***@127.0.0.1" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "url",
    [
        "journal.sqlite",
        "postgresql+psycopg2://user:s3cret@host/journal",
        "oracle://user:s3cret@host/journal",
        "nonsense+x://user:s3cret@host/journal",
    ],
)
def test_other_databases_are_refused(url):
    """The error names the option and what it may be, and keeps the password to itself."""
    with pytest.raises(exceptions.InputError, match=r"connection.*sqlite") as caught:
        journal.open(url)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_cannot_be(tmp_path):
    """A folder in place of the file, or a file that is no database, is an error of ours."""
    with pytest.raises(exceptions.RebalancerError, match="directory"):
        journal.open(f"sqlite:///{tmp_path}")
    other = tmp_path / "notes"
    other.write_text("no database at all, " * 100)
    with pytest.raises(exceptions.RebalancerError, match=r"notes.*not a database"):
        journal.open(f"sqlite:///{other}")
    assert other.read_text().startswith("no database")

# SPDX-License-Identifier: Apache-2.0
"""``python -m nova_rebalancer.cmd.downgrade``: the way back to an older version."""

from nova_rebalancer.cmd import downgrade
from nova_rebalancer.store import database
from nova_rebalancer.store import journal
from nova_rebalancer.store import upgrade
from tests.unit.cmd import journals


def test_there_and_back(tmp_path, capsys):
    """The tables are of the older revision then; the next start brings them forward, with all."""
    ids = journals.fill(tmp_path)
    settings = tmp_path / "rebalancer.conf"
    settings.write_text(f"[store]\nconnection = {journals.url(tmp_path)}\n")
    assert downgrade.main(["--config-file", str(settings), "0001"]) == 0
    assert "of revision 0001 now" in capsys.readouterr().out
    assert database.Database(journals.url(tmp_path)).read(upgrade.revision) == "0001"
    book = journal.open(journals.url(tmp_path))
    assert {run.id for run in book.runs()} == set(ids)


def test_a_revision_that_is_none(tmp_path, capsys, monkeypatch):
    """The error lists those that there are; nothing is done."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert downgrade.main(["7"]) == 1
    assert "there is no revision 7; there are 0002, 0001" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""A journal with two runs on "prod", as the commands that read it find it."""

import json
import pathlib
from typing import Any

import pytest

from nova_rebalancer.cmd import main
from nova_rebalancer.store import journal

GONE = "far.example:1:1"


def command(
    words: tuple[str, ...], folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Run a command on the journal in a folder; exit code, stdout and stderr."""
    settings = folder / "rebalancer.conf"
    settings.write_text(f"[store]\nconnection = {url(folder)}\n")
    capsys.readouterr()
    code = main.main(["--config-file", str(settings), *words])
    return (code, *capsys.readouterr())


def url(folder: pathlib.Path) -> str:
    """Of the journal in a folder."""
    return f"sqlite:///{folder / 'journal.sqlite'}"


def rows(answer: tuple[int, str, str]) -> list[dict[str, Any]]:
    """The rows of -f json."""
    assert answer[0] == 0, answer[2]
    made: list[dict[str, Any]] = json.loads(answer[1])
    return made


def fill(folder: pathlib.Path) -> tuple[str, str]:
    """Write a run that ended partly and then one that was interrupted; their ids.

    Of the first, m0 was confirmed after 12.5 s and m1 failed; of the second, m0 is on its way.
    """
    book = journal.open(url(folder))
    objective = {"before": 0.5, "after": 0.25}
    plan = {"id": "plan", "goal": "fragmentation", "objective": objective, "max_migrations": 50}
    new = [
        journal.New(key=f"m{k}", instance=f"i-{k}", source="a", dest="b", method="live")
        for k in range(3)
    ]
    ids = []
    for day in range(2):
        run = book.begin(
            plan, cloud="prod", region=None, owner=GONE, now=day * 86400.0, entries=new
        )
        ids.append(run.id)
        at = run.began_at + 1
        m0, m1, _ = book.entries(run.id)
        m0 = book.change(m0, GONE, at, "REQUESTED", requested_at=at, attempts=1)
        m0 = book.change(m0, GONE, at + 1, "RUNNING", running_at=at + 1)
        if day:
            break
        book.change(m0, GONE, at + 13.5, "CONFIRMED", ended_at=at + 13.5)
        why = "No valid host was found.\nThe second line. " + "x" * 500
        book.change(m1, GONE, at + 14, "FAILED", "refused", why)
        book.end(run.id, GONE, at + 20, "PARTLY", "one failed", 0.3)
    return ids[0], ids[1]

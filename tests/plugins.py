# SPDX-License-Identifier: Apache-2.0
"""Distributions with plug-ins of an operator's, as pip would install them."""

import importlib
import pathlib
import sys

import pytest
import stevedore


def install(
    where: pathlib.Path, monkeypatch: pytest.MonkeyPatch, group: str, names: str, code: str
) -> None:
    """Install a distribution of one module, ``mine``, with entry points of one group."""
    (where / "mine.py").write_text(code)
    about = where / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{names}\n")
    monkeypatch.syspath_prepend(where)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    importlib.invalidate_caches()
    # A process looks once for each group, as nobody installs anything under its feet.
    monkeypatch.setattr(stevedore.ExtensionManager, "ENTRY_POINT_CACHE", {})

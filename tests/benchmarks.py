# SPDX-License-Identifier: Apache-2.0
"""The scripts under ``benchmarks``, which are no part of the package, as modules."""

import importlib
import pathlib
import sys
from types import ModuleType

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    """Import a script; those that it uses lie beside it."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)

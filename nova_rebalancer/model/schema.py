# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schemas and their compiled validators."""

from collections.abc import Callable
import functools
import importlib.resources
import json
from typing import Any

import jsonschema_rs

SNAPSHOT = "snapshot-1"
PLAN = "plan-1"
CASES = "path-1"
PATH = "path-result-1"

LONGEST = 300
"""Characters of a message at most."""

Place = Callable[[list[str | int]], str]
"""What writes a path into a document for people."""


@functools.cache
def validator(name: str) -> Any:
    """Return the compiled validator of the schema ``name``, one of those above."""
    text = importlib.resources.files(__package__).joinpath(f"schemas/{name}.json").read_text()
    return jsonschema_rs.validator_for(json.loads(text))


def problems(name: str, document: object, limit: int = 10, where: Place | None = None) -> list[str]:
    """Say where ``document`` breaks the schema, at most ``limit`` lines.

    Each line is ``place: reason``, the place written like ``instances[3].host``, or as ``where``
    has it.
    """
    where = where or place
    found = []
    for error in validator(name).iter_errors(document):
        found.append(f"{where(error.instance_path)}: {_short(error.message)}")
        if len(found) == limit:
            break
    return found


def _short(message: str) -> str:
    """Keep one line of readable length: a message quotes the whole value it speaks of."""
    line = " ".join(message.split())
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def place(path: list[str | int]) -> str:
    """Write a path into a JSON document as people do: ``hosts[2].inventories.VCPU``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"

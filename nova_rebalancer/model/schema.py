# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schemas and their compiled validators."""

import functools
import importlib.resources
import json
from typing import Any

import jsonschema_rs

SNAPSHOT = "snapshot-1"
PLAN = "plan-1"


@functools.cache
def validator(name: str) -> Any:
    """Return the compiled validator of the schema ``name`` (SNAPSHOT or PLAN)."""
    text = importlib.resources.files(__package__).joinpath(f"schemas/{name}.json").read_text()
    return jsonschema_rs.validator_for(json.loads(text))


def problems(name: str, document: object, limit: int = 10) -> list[str]:
    """Say where ``document`` breaks the schema, at most ``limit`` lines.

    Each line is ``place: reason``, the place written like ``instances[3].host``.
    """
    found = []
    for error in validator(name).iter_errors(document):
        found.append(f"{place(error.instance_path)}: {error.message}")
        if len(found) == limit:
            break
    return found


def place(path: list[str | int]) -> str:
    """Write a path into a JSON document as people do: ``hosts[2].inventories.VCPU``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"

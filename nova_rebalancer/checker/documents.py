# SPDX-License-Identifier: Apache-2.0
"""Bytes to JSON that its schema accepts."""

import functools
import gzip
import hashlib
import importlib.resources
import json
import math
import re
from typing import Any
import zlib

import jsonschema_rs

from nova_rebalancer.checker import broken

Document = dict[str, Any]

PLAN_FORMAT = "nova-rebalancer-plan/1"
SNAPSHOT_FORMAT = "nova-rebalancer-snapshot/1"

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Malformed(Exception):
    """The bytes are not such a document; ``path`` leads to the place, the text says why."""

    def __init__(self, path: list[str | int], reason: str) -> None:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        super().__init__(f"{where.lstrip('.')}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def read_plan(data: bytes) -> Document:
    """Return the plan document in ``data``.

    Raises
    ------
    Broken
        Of kind ``format``.
    """
    document: object = None
    try:
        document, _ = decode(data)
        conform(document, PLAN_FORMAT, "plan-1.json")
    except Malformed as error:
        migration = None
        if error.path[:1] == ["migrations"] and len(error.path) > 1:
            entry = document["migrations"][error.path[1]]  # type: ignore[index]
            name = entry.get("id") if isinstance(entry, dict) else None
            migration = name if isinstance(name, str) else None
        raise broken.Broken("format", migration, str(error)) from error
    return document  # type: ignore[return-value]


def decode(data: bytes) -> tuple[object, str]:
    """Return the JSON value in ``data``, gzipped or not, and the sha256 of its plain bytes.

    Raises
    ------
    Malformed
        If it is neither.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise Malformed([], f"broken gzip: {error}") from error
    try:
        # Standard JSON has neither NaN nor infinities, and comparisons with them mislead.
        value = json.loads(data.decode(), parse_constant=_no_number, parse_float=_finite)
        if _SURROGATE.search(data):
            # Half a surrogate pair is no character: no file or terminal takes it.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise Malformed([], "not JSON: nested too deeply") from error
    except ValueError as error:
        raise Malformed([], f"not JSON: {error}") from error
    return value, hashlib.sha256(data).hexdigest()


def conform(document: object, form: str, schema: str) -> None:
    """Check ``document`` against the schema of format ``form`` in the file ``schema``.

    Raises
    ------
    Malformed
        At the first place that breaks it.
    """
    if not isinstance(document, dict):
        raise Malformed([], "not a JSON object")
    if document.get("format") != form:
        # Said before the schema speaks: all other differences follow from this one.
        raise Malformed(["format"], f"is {document.get('format')!r}, this checker reads {form!r}")
    accept(document, schema)


def accept(document: object, schema: str) -> None:
    """Check ``document`` against the schema in the file ``schema``.

    Raises
    ------
    Malformed
        At the first place that breaks it.
    """
    error = next(iter(_validator(schema).iter_errors(document)), None)
    if error is not None:
        text = error.message
        raise Malformed(error.instance_path, text if len(text) <= 300 else f"{text[:300]}...")


@functools.cache
def _validator(schema: str) -> Any:
    files = importlib.resources.files("nova_rebalancer")
    text = files.joinpath("model", "schemas", schema).read_text("utf-8")
    return jsonschema_rs.validator_for(json.loads(text))


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number

# SPDX-License-Identifier: Apache-2.0
"""Files of JSON, gzipped or not: read whole, parse with a place in each error, write atomically."""

from collections.abc import Iterator
import contextlib
import gc
import gzip
import os
import pathlib
import sys
from typing import Any
import uuid
import zlib

import orjson

from nova_rebalancer import exceptions

_GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: str) -> bytes:
    """Content of a file, unpacked if it is gzip.

    Parameters
    ----------
    path
        A file name; ``-`` reads standard input.

    Raises
    ------
    exceptions.InputError
        If the file cannot be read, or its gzip data are cut off or damaged.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else pathlib.Path(path).read_bytes()
    except OSError as error:
        raise exceptions.InputError(f"{path}: cannot be read ({error.strerror})") from error
    return gunzip(data, path)


def gunzip(data: bytes, name: str) -> bytes:
    """Unpack gzip data; anything else comes back as it is.

    The first two bytes decide, not the name: people rename files, and JSON cannot start so.

    Raises
    ------
    exceptions.InputError
        If gzip data are cut off or damaged.
    """
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except EOFError as error:
        raise exceptions.InputError(
            f"{name}: gzip data ends early (after {len(data)} bytes; was the copy cut off?)"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise exceptions.InputError(f"{name}: gzip data is damaged ({error})") from error


def parse_json(data: bytes, name: str) -> Any:
    """Value of a JSON text.

    NaN, infinities and text that is not UTF-8 are refused, as RFC 8259 does.

    Raises
    ------
    exceptions.InputError
        If the text is not JSON; the message has line and column.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise exceptions.InputError(
            f"{name}: not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """Put garbage collection off while large documents are read.

    A million small lists are none; to look through them while they grow takes twice the time of
    reading them.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def to_json(document: Any) -> bytes:
    """Compact JSON text with keys in the given order and one final newline."""
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def write_bytes(path: str, data: bytes) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path
        A file name; gzipped when it ends in ``.gz``; ``-`` writes to standard output, plain.
    data
        The content before any packing.

    Raises
    ------
    exceptions.RebalancerError
        If the file cannot be written; what was there before is untouched.
    """
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if path.endswith(".gz"):
        # No time of packing inside: the same content gives the same file.
        data = gzip.compress(data, mtime=0)
    try:
        _replace(pathlib.Path(path), data)
    except OSError as error:
        raise exceptions.RebalancerError(f"{path}: cannot be written ({error.strerror})") from error


def _replace(path: pathlib.Path, data: bytes) -> None:
    if path.exists() and not path.is_file():
        # A pipe or a device such as /dev/stdout has no earlier content to keep.
        path.write_bytes(data)
        return
    # A link stays a link; the rename must happen on the file system of the file behind it.
    path = path.resolve()
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        # Not tempfile: its files are readable by the owner only, whatever the umask says.
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise

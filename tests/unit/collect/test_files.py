# SPDX-License-Identifier: Apache-2.0
"""Files are read with clear errors and written whole or not at all."""

import gzip
import io
import os
import stat
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import files

CONTENT = b'{"a": 1}\n'


@pytest.mark.parametrize("name", ["x.json", "x.json.gz"])
def test_gzip_is_known_by_its_bytes(tmp_path, name):
    """Plain and gzipped content are told apart by the first bytes, whatever the name."""
    path = tmp_path / name
    for data in (CONTENT, gzip.compress(CONTENT)):
        path.write_bytes(data)
        assert files.read_bytes(str(path)) == CONTENT


def test_missing_file(tmp_path):
    """A file that is not there is an error that names it."""
    path = str(tmp_path / "no.json")
    with pytest.raises(exceptions.InputError, match=f"^{path}: cannot be read .No such file"):
        files.read_bytes(path)


@pytest.mark.parametrize("length", range(2, len(gzip.compress(CONTENT))))
def test_truncated_gzip(length):
    """Gzip data cut at any byte are refused in one line."""
    with pytest.raises(exceptions.InputError, match=r"^f: gzip data ends early \(.*\)$"):
        files.gunzip(gzip.compress(CONTENT)[:length], "f")


@given(st.integers(2, len(gzip.compress(CONTENT)) - 1), st.integers(1, 255))
def test_damaged_gzip(position, flip):
    """A changed byte is refused, or it was one of the header that carries no content."""
    data = bytearray(gzip.compress(CONTENT, mtime=0))
    data[position] ^= flip
    try:
        assert files.gunzip(bytes(data), "f") == CONTENT
    except exceptions.InputError as error:
        assert str(error).startswith("f: gzip data ") and "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"", "(line 1, column 1)"),
        (b'{\n "a": x}', "(line 2, column 7)"),
        (b'{"a": NaN}', "(line 1, column 7)"),
        (b'"\xff"', ""),
        (b"[" * 100_000, ""),
    ],
)
def test_not_json(text, place):
    """What is not JSON is refused in one line with line and column."""
    with pytest.raises(exceptions.InputError) as caught:
        files.parse_json(text, "f")
    assert str(caught.value).startswith("f: not JSON: ")
    assert place in str(caught.value) and "\n" not in str(caught.value)


def test_round_trip(tmp_path):
    """What was written is read again, gzipped if the name says so, with no part file left."""
    for name in ("x.json", "x.json.gz"):
        path = tmp_path / name
        path.write_bytes(b"old")
        files.write_bytes(str(path), CONTENT)
        assert files.read_bytes(str(path)) == CONTENT
        assert path.read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert sorted(os.listdir(tmp_path)) == ["x.json", "x.json.gz"]


def test_gzip_has_no_time(tmp_path):
    """The same content gives the same packed file: bytes 4 to 7, the time, are zero."""
    files.write_bytes(str(tmp_path / "x.gz"), CONTENT)
    assert (tmp_path / "x.gz").read_bytes()[4:8] == bytes(4)


def test_mode_follows_umask(tmp_path):
    """A written file is as readable as any other that the user makes."""
    old = os.umask(0o027)
    try:
        files.write_bytes(str(tmp_path / "x"), CONTENT)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_link_stays(tmp_path):
    """Writing to a symbolic link changes the file behind it."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    files.write_bytes(str(tmp_path / "link"), CONTENT)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == CONTENT


def test_unwritable(tmp_path):
    """A folder that is not there is an error that names the file."""
    path = str(tmp_path / "no" / "x")
    with pytest.raises(exceptions.RebalancerError, match=f"^{path}: cannot be written"):
        files.write_bytes(path, CONTENT)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    """When the disk fills up, the old content stays and no part file is left."""
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(exceptions.RebalancerError, match="No space left"):
        files.write_bytes(str(path), CONTENT)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_standard_streams(monkeypatch):
    """A dash reads standard input, gzipped or not, and writes standard output, plain."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(CONTENT))))
    assert files.read_bytes("-") == CONTENT
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output))
    files.write_bytes("-", CONTENT)
    assert output.getvalue() == CONTENT


def test_json_keeps_the_order():
    """Keys stay in their order and the text ends with one newline."""
    assert files.to_json({"b": 1, "a": [2.0]}) == b'{"b":1,"a":[2.0]}\n'

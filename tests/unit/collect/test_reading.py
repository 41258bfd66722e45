# SPDX-License-Identifier: Apache-2.0
"""What a pass leaves for the next comes back as it was, or not at all."""

import dataclasses
import pathlib
import stat

from hypothesis import given
import orjson
import pytest

from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from tests.unit.collect import emulator


def read(world: emulator.World) -> reading.Reading:
    """One pass."""
    return reader.Reader(emulator.Direct(world), reader.Progress()).read()


@pytest.fixture
def now():
    """A pass over a cloud with a bit of everything."""
    world = emulator.sharing()
    name = world.server("c", specs={"hw:numa_nodes": "1"})
    world.topologies[name] = {"nodes": [], "pagesize_kb": None}
    world.live(world.server("a"), "b")
    return read(world)


@given(emulator.events())
def test_round_trip(tmp_path_factory, events):
    """What the next pass uses is what was saved."""
    world = emulator.sharing()
    for event in events:
        emulator.happen(world, event)
    now = read(world)
    path = tmp_path_factory.getbasetemp() / "reading"
    reading.save(now, path)
    earlier = reading.load(path, now.identity)
    assert earlier is not None
    assert earlier.stamps == {name: reading.stamp(one) for name, one in now.servers.items()}
    for field in dataclasses.fields(reading.Earlier):
        if field.name != "stamps":
            assert getattr(earlier, field.name) == getattr(now, field.name)


def test_only_its_owner_may_read_it(now, tmp_path):
    """Names of servers and projects are nobody else's business; nor is a folder made for it."""
    path = tmp_path / "new" / "reading.json"
    reading.save(now, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["reading.json"]


def test_saved_again(now, tmp_path):
    """A newer one takes the place of the older, whoever could read that."""
    path = tmp_path / "reading.json"
    path.write_text("old")
    path.chmod(0o644)
    reading.save(now, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert reading.load(path, now.identity) is not None


def test_no_place_to_write(now, tmp_path):
    """Where nothing can be written that is an error, and what was there stays."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        reading.save(now, tmp_path / "file" / "reading.json")
    assert (tmp_path / "file").read_text() == "x"


def test_nothing_there(tmp_path):
    """A first pass finds nothing."""
    assert reading.load(tmp_path / "reading.json", "direct") is None
    assert reading.load(tmp_path, "direct") is None


def test_another_cloud(now, tmp_path):
    """What belongs to another cloud or account is never taken."""
    path = tmp_path / "reading.json"
    reading.save(now, path)
    assert reading.load(path, f"{now.identity} ") is None


def altered(path: pathlib.Path, **values: object) -> None:
    """Change what was saved."""
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"format": "nova-rebalancer-reading/0"},
        {"format": None},
        {"providers": {"p": {"id": "p", "colour": "red"}}},
        {"providers": {"p": {"id": "p"}}},
        {"providers": {"p": None}},
        {"providers": []},
    ],
)
def test_another_format(now, tmp_path, values):
    """Nor is what another version of this program wrote."""
    path = tmp_path / "reading.json"
    reading.save(now, path)
    altered(path, **values)
    assert reading.load(path, now.identity) is None


@pytest.mark.parametrize(
    "key", ["format", "identity", "started", "read_at", "stamps", "migrations", "topologies"]
)
def test_something_is_absent(now, tmp_path, key):
    """Nor is what lacks a part."""
    path = tmp_path / "reading.json"
    reading.save(now, path)
    kept = orjson.loads(path.read_bytes())
    del kept[key]
    path.write_bytes(orjson.dumps(kept))
    assert reading.load(path, now.identity) is None


def test_cut_off(now, tmp_path):
    """A file that ends early, wherever, is none."""
    path = tmp_path / "reading.json"
    reading.save(now, path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 1, 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert reading.load(path, now.identity) is None


@pytest.mark.parametrize("text", ["null", "[]", "1", '"x"', "\x00"])
def test_not_ours(tmp_path, text):
    """Nor is a file of somebody else."""
    path = tmp_path / "reading.json"
    path.write_text(text)
    assert reading.load(path, "direct") is None

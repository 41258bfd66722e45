# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance snapshot validate|show|convert|anonymise``."""

import gzip
import io
import json
import subprocess
import sys

from cliff import app
from cliff import command
from cliff import commandmanager
import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import snapshot
from tests.unit.collect import vmr2l_files


def run(kind: type[command.Command], *arguments: str) -> tuple[int, str, str]:
    """Run a command as the application does: exit code, standard output and error."""
    output, errors = io.StringIO(), io.StringIO()
    program = app.App(
        "test",
        "0",
        commandmanager.CommandManager("nova_rebalancer.test_none"),
        stdout=output,
        stderr=errors,
    )
    instance = kind(program, None)
    parsed = instance.get_parser("nova-rebalance snapshot").parse_args(arguments)
    return instance.run(parsed), output.getvalue(), errors.getvalue()


@pytest.fixture
def source(tmp_path):
    """A VMR2L file of three hosts, one disabled, and four instances, one of which stays."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(vmr2l_files.two_clusters()))
    return str(path)


@pytest.fixture
def cloud(source, tmp_path):
    """The same as a snapshot."""
    path = str(tmp_path / "cloud.json.gz")
    run(snapshot.Convert, "--from", "vmr2l", source, path)
    return path


def test_convert(source, tmp_path):
    """Convert writes the snapshot and says its size, with a warning for each rack set."""
    path = tmp_path / "cloud.json.gz"
    code, output, errors = run(snapshot.Convert, "--from", "vmr2l", source, str(path))
    assert (code, output) == (0, "")
    lines = errors.splitlines()
    assert [line.split(":")[1] for line in lines[:2]] == [" warning", " warning"]
    assert lines[2:] == [f"{path}: 3 hosts, 4 instances"]
    content = json.loads(gzip.decompress(path.read_bytes()))
    assert content["hosts"][1]["status"] == "disabled"


def test_convert_is_reproducible(source, tmp_path):
    """Two conversions give the same bytes."""
    for name in ("a.json.gz", "b.json.gz"):
        run(snapshot.Convert, "--from", "vmr2l", source, str(tmp_path / name))
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_convert_needs_a_known_format(source):
    """Another format than those offered is a usage error."""
    with pytest.raises(SystemExit) as caught:
        run(snapshot.Convert, "--from", "btrplace", source, "-")
    assert caught.value.code == 2


def test_validate(cloud):
    """A sound snapshot gives one line and 0."""
    assert run(snapshot.Validate, cloud) == (0, f"ok: {cloud}: 3 hosts, 4 instances\n", "")


def test_validate_lists_problems(cloud, tmp_path):
    """The first ten problems come one to a line, with 1."""
    content = json.loads(gzip.decompress(open(cloud, "rb").read()))
    for i in range(12):
        content["instances"].append({"id": f"x{i}", "host": "nowhere", "allocations": {}})
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    code, output, errors = run(snapshot.Validate, str(path))
    assert (code, output) == (1, "")
    lines = errors.splitlines()
    assert len(lines) == 10
    assert all(line.startswith(f"nova-rebalance: error: {path}: instances[") for line in lines)


@pytest.mark.parametrize("data", [b"no json", gzip.compress(b"{}", mtime=0)[:-3]])
def test_validate_unreadable(tmp_path, data):
    """What cannot be read is an input error, which the application prints."""
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(exceptions.InputError, match=f"^{path}: "):
        run(snapshot.Validate, str(path))


def test_show(cloud):
    """Programs get numbers.  Free cores: 40 and 44 on pm_0, 36 and 44 on pm_2.

    At 16 cores the fragments are 8 + 12 + 4 + 12 = 36 of 164.
    """
    code, output, _ = run(snapshot.Show, "-f", "json", cloud)
    shown = json.loads(output)
    assert code == 0
    assert len(shown.pop("sha256")) == 64
    assert shown == {
        "cloud": "small",
        "region": None,
        "taken_at": "1970-01-01T00:00:00Z",
        "hosts": 3,
        "hosts_usable": 2,
        "hosts_disabled": 1,
        "hosts_down": 0,
        "instances": 4,
        "not_migratable": {"host_not_usable": 1, "opted_out": 1},
        "server_groups": 1,
        "conflicts": 0,
        "resources": {
            "VCPU": {"capacity": 264, "used": 44},
            "MEMORY_MB": {"capacity": 1106328, "used": 90112},
        },
        "overfull": 0,
        "fragment_cores": [16],
        "fragment_rate": round(36 / 164, 6),
        "outside": 0,
        "refused": 0,
        "missing": 0,
    }


def test_show_for_people(cloud):
    """The table says counts and shares in words."""
    _, output, _ = run(snapshot.Show, "--fragment-cores", "8", cloud)
    assert "host_not_usable 1, opted_out 1" in output
    assert "VCPU 44 of 264 (16.7%)" in output
    _, output, _ = run(snapshot.Show, "--fragment-cores", "8,16", cloud)
    assert "16, 8" in output


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many"])
def test_show_refuses_sizes(cloud, text):
    """A fragment size that is not a positive whole number is a usage error."""
    with pytest.raises(SystemExit) as caught:
        run(snapshot.Show, f"--fragment-cores={text}", cloud)
    assert caught.value.code == 2


def test_anonymise(cloud, tmp_path):
    """The result is a sound snapshot with the same rate and without the names."""
    path = str(tmp_path / "public.json")
    code, _, errors = run(snapshot.Anonymise, cloud, path)
    assert (code, errors) == (0, f"{path}: 3 hosts, 4 instances\n")
    assert "pm_0" not in open(path).read()
    assert run(snapshot.Validate, path)[0] == 0
    for column in ("fragment_rate", "not_migratable"):
        options = ("-f", "json", "-c", column)
        assert run(snapshot.Show, *options, path) == run(snapshot.Show, *options, cloud)


def test_anonymise_with_a_key(cloud, tmp_path):
    """The secret comes from a file, and an empty one is refused."""
    key, path = tmp_path / "key", str(tmp_path / "public.json")
    key.write_bytes(b" \n")
    with pytest.raises(exceptions.UsageError, match="the key is empty"):
        run(snapshot.Anonymise, "--key-file", str(key), cloud, path)
    key.write_bytes(b"a secret")
    assert run(snapshot.Anonymise, "--key-file", str(key), cloud, path)[0] == 0
    assert "host-0001" not in open(path).read()


def test_anonymise_refuses_unsound(tmp_path):
    """What is not a sound snapshot is refused before anything is written."""
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(exceptions.InputError, match=f"^{path}: format"):
        run(snapshot.Anonymise, str(path), str(tmp_path / "out.json"))
    assert not (tmp_path / "out.json").exists()


def test_import_is_light():
    """Loading the commands loads neither numpy nor a validator."""
    code = (
        "import sys, nova_rebalancer.cmd.snapshot;"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'jsonschema_rs', 'orjson')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

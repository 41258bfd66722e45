# SPDX-License-Identifier: Apache-2.0
"""A test cloud of real services for the tests of this folder, started once and ended for sure."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import shutil
import subprocess
import tempfile
from typing import Any

import orjson
import pytest

from nova_rebalancer.collect import live
from nova_rebalancer.collect import reader
from nova_rebalancer.rest import client as collect_client
from nova_rebalancer.rest import connection
from tests.cloud import client
from tests.cloud import configs
from tests.cloud import control
from tests.cloud import settings

SCENARIO = pathlib.Path(control.__file__).with_name("scenario")
COMPUTES = "8"
SERVERS = "48"
BASE_PORT = "20500"
LARGE_BASE_PORT = "22500"

Collect = Callable[..., live.Live]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs the cloud where it cannot be had."""
    if reason := missing():
        for item in items:
            if {"cloud", "large_cloud"}.intersection(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.skip(reason=reason))


def missing() -> str | None:
    """Why there can be no test cloud here; None if there can."""
    packages = shutil.which("mariadbd") and control.RABBITMQ.exists()
    python = settings.default_venv(settings.default_release()) / "constraints.txt"
    if packages and python.exists():
        return None
    return "the test cloud is not installed: tests/cloud/install, as root"


@pytest.fixture(scope="session")
def cloud() -> Iterator[settings.Settings]:
    """A cloud of eight hosts in two cells, with the scenario; wiped in the end."""
    with filled(SERVERS, "--computes", COMPUTES, "--cells", "2", "--base-port", BASE_PORT) as made:
        yield made


@pytest.fixture(scope="module")
def large_cloud() -> Iterator[settings.Settings]:
    """A cloud of 20 hosts in one cell with 200 servers; wiped in the end."""
    with filled("200", "--computes", "20", "--base-port", LARGE_BASE_PORT) as made:
        yield made


@contextlib.contextmanager
def filled(servers: str, *options: str) -> Iterator[settings.Settings]:
    """A cloud with the scenario."""
    # Its sockets need a short path, which pytest's own folders are not.
    state = pathlib.Path(tempfile.mkdtemp(prefix="nova-rebalancer-"))
    try:
        with control.kept(state, *options, wipe=True) as made:
            command = [SCENARIO, "--state", state, "--servers", servers]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            yield made
    finally:
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
def admin(cloud: settings.Settings) -> client.Client:
    """The administrator's view on the APIs."""
    return client.Client(cloud)


@pytest.fixture
def collect(cloud: settings.Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Collect:
    """Read the cloud as the commands do: ``collect(name, endpoints, cache=..., limits=...)``.

    ``endpoints`` are URLs by service type in place of the catalogue's.
    """
    # With little patience, so that a test of what fails in the end is short.
    patient = collect_client.Limits(attempts=4, timeout_s=60.0, deadline_s=120.0)

    def read(
        name: str = "test-cloud",
        endpoints: dict[str, str] | None = None,
        cache: bool = False,
        limits: collect_client.Limits = patient,
        progress: reader.Progress | None = None,
        **options: Any,
    ) -> live.Live:
        clouds = tmp_path / "clouds.yaml"
        configs.write_clients(cloud, clouds, endpoints)
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        source = connection.connect(name, limits.timeout_s)
        how = live.Options(limits, cache=cache, **options)
        return live.snapshot(source, how, progress or reader.Progress())

    return read


@pytest.fixture
def collected(collect: Collect) -> Callable[[], dict[str, Any]]:
    """Read the cloud: the document alone."""

    def read() -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(collect().data)
        return document

    return read

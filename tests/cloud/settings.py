# SPDX-License-Identifier: Apache-2.0
"""Where a test cloud lives: its folders, ports and password. Standard library only.

``python3 -m tests.cloud.settings [--state DIR] [--release RELEASE]`` prints the release of that
cloud and the virtual environment that runs it; the commands ask it before they can run anything.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import secrets
import sys

ADDRESS = "127.0.0.1"
REGION = "RegionOne"

# What each port of a cloud is for, as an offset from its base port. The whole range lies below the
# ports Linux hands out by itself, so no client's connection can sit on one of them.
PORTS = {
    "keystone": 0,
    "placement": 1,
    "glance": 2,
    "nova-api": 3,
    "neutron": 4,
    "mariadb": 5,
    "rabbitmq": 6,
    "rabbitmq-nodes": 7,
    "epmd": 8,
}
BASE_PORT = 21000

# The newest and the oldest one that are tried. The first is the default; its pins are in
# constraints.txt, those of another one in constraints-RELEASE.txt.
RELEASES = ("2026.2", "2025.1")

# A Unix socket's path has at most 107 bytes, and some are made below the state folder.
LONGEST_STATE = 80


class CloudError(Exception):
    """The cloud cannot do what was asked; the message is for people."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """One cloud."""

    state: pathlib.Path
    """Everything the cloud writes lies below it."""
    venv: pathlib.Path
    """Where OpenStack is installed."""
    release: str
    cells: tuple[str, ...]
    """Their names in Nova; each has a database, with an account that is called like the cell, a
    virtual host of the message queue and a conductor."""
    base_port: int
    password: str
    """Of every account; made up for each new state."""

    @property
    def config(self) -> pathlib.Path:
        return self.state / "etc"

    @property
    def logs(self) -> pathlib.Path:
        return self.state / "log"

    @property
    def pids(self) -> pathlib.Path:
        return self.state / "pid"

    @property
    def driver(self) -> pathlib.Path:
        """The fake hypervisors' sizes, guests and faults."""
        return self.state / "driver"

    @property
    def mariadb_socket(self) -> pathlib.Path:
        return self.state / "mariadb.sock"

    @property
    def computes_socket(self) -> pathlib.Path:
        return self.state / "computes.sock"

    @property
    def clouds_yaml(self) -> pathlib.Path:
        return self.state / "clouds.yaml"

    @property
    def auth_url(self) -> str:
        return f"{self.url('keystone')}/v3"

    def port(self, service: str) -> int:
        return self.base_port + PORTS[service]

    def url(self, service: str) -> str:
        return f"http://{ADDRESS}:{self.port(service)}"

    def cell_socket(self, cell: str) -> pathlib.Path:
        """By which Nova's API and scheduler reach the cell's database."""
        return self.state / f"{cell}.sock"

    def host_file(self, host: str) -> pathlib.Path:
        """What the fake hypervisor of a host is."""
        return self.driver / "hosts" / f"{host}.json"

    def hosts(self) -> list[str]:
        """The hosts this cloud ever had, in order."""
        return sorted(path.stem for path in (self.driver / "hosts").glob("*.json"))


def default_release() -> str:
    """The release of a new cloud when none is named."""
    return os.environ.get("NOVA_REBALANCER_CLOUD_RELEASE") or RELEASES[0]


def default_state(release: str | None = None) -> pathlib.Path:
    """The folder that is used when none is named."""
    named = os.environ.get("NOVA_REBALANCER_CLOUD_STATE")
    if named:
        return pathlib.Path(named)
    return _of_release(_cache() / "test-cloud", release or default_release())


def default_venv(release: str) -> pathlib.Path:
    """Where ``up`` installs a release."""
    named = os.environ.get("NOVA_REBALANCER_CLOUD_VENV")
    return _of_release(pathlib.Path(named) if named else _cache() / "test-cloud-venv", release)


def _cache() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "nova-rebalancer"


def _of_release(path: pathlib.Path, release: str) -> pathlib.Path:
    return path if release == RELEASES[0] else path.with_name(f"{path.name}-{release}")


def load(state: pathlib.Path) -> Settings:
    """The cloud of a state folder.

    Raises
    ------
    CloudError
        If there is none.
    """
    state = state.expanduser().resolve()
    try:
        stored = json.loads((state / "settings.json").read_text())
    except FileNotFoundError:
        raise CloudError(f"no test cloud in {state}: start one with tests/cloud/up") from None
    # The first clouds did not write down their release and cells.
    release = stored.get("release", RELEASES[0])
    venv = pathlib.Path(stored.get("venv") or default_venv(release))
    cells = tuple(f"cell{number}" for number in range(1, stored.get("cells", 1) + 1))
    return Settings(state, venv, release, cells, stored["base_port"], stored["password"])


def load_or_create(
    state: pathlib.Path,
    base_port: int | None = None,
    release: str | None = None,
    cells: int | None = None,
) -> Settings:
    """The cloud of a state folder, a new one if there is none, run by this virtual environment.

    Ports, release and cells are in the databases, so they cannot change later.

    Raises
    ------
    CloudError
        If the folder's path is too long, or the cloud is another one than is asked for.
    """
    state = state.expanduser().resolve()
    if len(os.fsencode(state)) > LONGEST_STATE:
        raise CloudError(f"{state} is longer than {LONGEST_STATE} bytes, too long for Unix sockets")
    file = state / "settings.json"
    if not file.exists():
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored = {
            "release": release or default_release(),
            "venv": sys.prefix,
            "cells": cells or 1,
            "base_port": base_port or BASE_PORT,
            "password": secrets.token_hex(12),
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(stored))
    settings = load(state)
    asked = {
        "release": (settings.release, release),
        "--cells": (len(settings.cells), cells),
        "base port": (settings.base_port, base_port),
    }
    for what, (has, wanted) in asked.items():
        if wanted not in (None, has):
            raise CloudError(
                f"the cloud in {state} has {what} {has}, not {wanted}: "
                "use another --state, or tests/cloud/down --wipe"
            )
    return settings


def main() -> None:
    """Print the release and the virtual environment of a cloud, existing or not."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--state", type=pathlib.Path)
    parser.add_argument("--release")
    named, _ = parser.parse_known_args()
    release = named.release or default_release()
    if release not in RELEASES:
        sys.exit(f"release {release} is not known: use one of {', '.join(RELEASES)}")
    try:
        cloud = load(named.state or default_state(release))
        print(cloud.release, cloud.venv)
    except CloudError:
        print(release, default_venv(release))


if __name__ == "__main__":
    main()

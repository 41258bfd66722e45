# SPDX-License-Identifier: Apache-2.0
"""Where a test cloud lives: its folders, ports and password. Standard library only."""

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

# A Unix socket's path has at most 107 bytes, and two of them are made below the state folder.
LONGEST_STATE = 80


class CloudError(Exception):
    """The cloud cannot do what was asked; the message is for people."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """One cloud."""

    state: pathlib.Path
    """Everything the cloud writes lies below it."""
    venv: pathlib.Path
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

    def host_file(self, host: str) -> pathlib.Path:
        """What the fake hypervisor of a host is."""
        return self.driver / "hosts" / f"{host}.json"

    def hosts(self) -> list[str]:
        """The hosts this cloud ever had, in order."""
        return sorted(path.stem for path in (self.driver / "hosts").glob("*.json"))


def default_state() -> pathlib.Path:
    """The folder that is used when none is named."""
    named = os.environ.get("NOVA_REBALANCER_CLOUD_STATE")
    if named:
        return pathlib.Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "nova-rebalancer" / "test-cloud"


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
    return Settings(state, pathlib.Path(sys.prefix), stored["base_port"], stored["password"])


def load_or_create(state: pathlib.Path, base_port: int | None) -> Settings:
    """The cloud of a state folder, a new one if there is none.

    The catalogue holds the ports, so they cannot change later.

    Raises
    ------
    CloudError
        If the folder's path is too long, or the cloud has another base port.
    """
    state = state.expanduser().resolve()
    if len(os.fsencode(state)) > LONGEST_STATE:
        raise CloudError(f"{state} is longer than {LONGEST_STATE} bytes, too long for Unix sockets")
    file = state / "settings.json"
    if not file.exists():
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored = {"base_port": base_port or BASE_PORT, "password": secrets.token_hex(12)}
        file.touch(mode=0o600)
        file.write_text(json.dumps(stored))
    settings = load(state)
    if base_port not in (None, settings.base_port):
        raise CloudError(
            f"the cloud in {state} has base port {settings.base_port}, not {base_port}: "
            "use another --state, or tests/cloud/down --wipe"
        )
    return settings

# SPDX-License-Identifier: Apache-2.0
"""What a cloud answered, before it becomes a snapshot, and how much of it the next pass can use."""

import dataclasses
import os
import pathlib
from typing import Any

import orjson

FORMAT = "nova-rebalancer-reading/1"

Json = dict[str, Any]
Amounts = dict[str, int]


@dataclasses.dataclass
class Provider:
    """A resource provider; ``aggregates`` is None when nothing is shared in this cloud."""

    id: str
    name: str
    parent: str | None
    root: str
    generation: int
    inventories: dict[str, Json]
    traits: list[str]
    aggregates: list[str] | None
    allocations: dict[str, Amounts]
    """By consumer."""


@dataclasses.dataclass
class Lack:
    """Something that could not be read; ``hosts`` are providers' ids, None for all hosts."""

    what: str
    reason: str
    hosts: list[str] | None = None


@dataclasses.dataclass
class Reading:
    """The answers of one pass.

    ``started``, ``read_at`` and ``checked_at`` are the cloud's time in seconds since 1970: when
    this pass began, when everything in here was last read anew, and when allocations were last
    compared with Placement's sums, or read anew.
    """

    identity: str
    started: float
    read_at: float
    checked_at: float
    servers: dict[str, Json] = dataclasses.field(default_factory=dict)
    hypervisors: list[Json] = dataclasses.field(default_factory=list)
    services: list[Json] = dataclasses.field(default_factory=list)
    aggregates: list[Json] = dataclasses.field(default_factory=list)
    flavors: list[Json] = dataclasses.field(default_factory=list)
    groups: list[Json] = dataclasses.field(default_factory=list)
    migrations: dict[str, Json] = dataclasses.field(default_factory=dict)
    """Those in progress, by uuid."""
    providers: dict[str, Provider] = dataclasses.field(default_factory=dict)
    topologies: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """By server: the stamp of the server it was read for, and the answer."""
    vnic_types: dict[str, list[str]] | None = None
    """Of ports that are not normal, by server; None when they could not be seen."""
    images: dict[str, dict[str, str] | None] = dataclasses.field(default_factory=dict)
    """What Glance says of traits by image; None for an image that it does not show."""
    unreachable: list[str] = dataclasses.field(default_factory=list)
    """Servers of a cell that does not answer, as far as they are known."""
    dead_hosts: list[str] = dataclasses.field(default_factory=list)
    """Service hosts of such a cell."""
    lacks: list[Lack] = dataclasses.field(default_factory=list)
    microversions: dict[str, str] = dataclasses.field(default_factory=dict)
    requests: int = 0


def stamp(server: Json) -> list[Any]:
    """Return what of a server tells that its allocations or topology may be others now."""
    return [server["updated"], server["host"], server["status"], server["task_state"]]


def save(reading: Reading, path: pathlib.Path) -> None:
    """Keep of a reading what the next pass can use; only its owner may read it.

    Raises
    ------
    OSError
        If it cannot be written; what was there stays.
    """
    kept = {
        "format": FORMAT,
        "identity": reading.identity,
        "started": reading.started,
        "read_at": reading.read_at,
        "checked_at": reading.checked_at,
        "stamps": {name: stamp(server) for name, server in reading.servers.items()},
        "migrations": reading.migrations,
        "providers": reading.providers,
        "topologies": reading.topologies,
        "images": reading.images,
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(orjson.dumps(kept))
    part.replace(path)


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What an earlier pass left."""

    started: float
    read_at: float
    checked_at: float
    stamps: dict[str, list[Any]]
    migrations: dict[str, Json]
    providers: dict[str, Provider]
    topologies: dict[str, list[Any]]
    images: dict[str, dict[str, str] | None]


def load(path: pathlib.Path, identity: str) -> Earlier | None:
    """Return what ``save`` kept, None if there is nothing of this cloud and account."""
    try:
        kept = orjson.loads(path.read_bytes())
        if kept["format"] != FORMAT or kept["identity"] != identity:
            return None
        return Earlier(
            kept["started"],
            kept["read_at"],
            kept["checked_at"],
            kept["stamps"],
            kept["migrations"],
            {name: Provider(**values) for name, values in kept["providers"].items()},
            kept["topologies"],
            kept["images"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Missing, cut off or of another version: the next pass reads everything.
        return None

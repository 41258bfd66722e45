# SPDX-License-Identifier: Apache-2.0
"""What several tests of this folder do with the cloud and with what was read of it."""

from collections.abc import Iterator
import contextlib
import json
from typing import Any

from keystoneauth1 import exceptions as ksa

from nova_rebalancer.collect import live
from tests.cloud import client
from tests.cloud import settings
from tests.cloud import watch


def facts(found: live.Live) -> dict[str, Any]:
    """What a snapshot says, without when and how it was read."""
    document = json.loads(found.data)
    return {key: value for key, value in document.items() if key not in ("taken_at", "collected")}


@contextlib.contextmanager
def fault(cloud: settings.Settings, **rule: Any) -> Iterator[None]:
    """A rule for the simulated hypervisors while the body runs: migrations go wrong."""
    file = cloud.driver / "faults.json"
    file.write_text(json.dumps([rule]))
    try:
        yield
    finally:
        file.unlink()


def look(cloud: settings.Settings) -> watch.Look:
    """What the databases hold."""
    tables = watch.Tables(cloud)
    with contextlib.closing(tables):
        return tables.look()


def boot(admin: client.Client, wait: bool = True, **more: Any) -> str:
    """Make a small server; returns its id when it is ACTIVE."""
    flavors = admin.list(admin.compute, "/flavors", "flavors")
    flavor = next(one["id"] for one in flavors if one["name"] == "general.small")
    image = admin.list(admin.image, "/v2/images?name=test-image", "images")[0]["id"]
    body = {"name": "extra", "flavorRef": flavor, "imageRef": image, "networks": "none", **more}
    made: str = admin.compute.post("/servers", json={"server": body}).json()["server"]["id"]
    if wait:
        client.until(lambda: status(admin, made) == "ACTIVE", f"server {made}", 60)
    return made


def status(admin: client.Client, name: str) -> str | None:
    """A server's status, None when it is gone."""
    try:
        found: str = admin.compute.get(f"/servers/{name}").json()["server"]["status"]
    except ksa.NotFound:
        return None
    return found


def shown(admin: client.Client, name: str) -> dict[str, Any]:
    """A server as Nova shows it."""
    found: dict[str, Any] = admin.compute.get(f"/servers/{name}").json()["server"]
    return found

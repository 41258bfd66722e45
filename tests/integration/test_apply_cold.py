# SPDX-License-Identifier: Apache-2.0
"""A plan with an instance that is shut off, carried out on a real cloud."""

from collections.abc import Iterator
import pathlib
from typing import Any

import pytest

from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import client
from tests.cloud import settings
from tests.integration import common

SOURCE = "host-007"


@pytest.fixture
def booted(admin: client.Client) -> Iterator[str]:
    """A server that can migrate; deleted in the end."""
    name = common.boot(admin, host=SOURCE)
    try:
        yield name
    finally:
        admin.compute.delete(f"/servers/{name}")


def stop(admin: client.Client, name: str) -> None:
    """Shut a server off."""
    admin.compute.post(f"/servers/{name}/action", json={"os-stop": None})
    client.until(lambda: common.shown(admin, name)["status"] == "SHUTOFF", f"stopping {name}", 60)


@pytest.mark.parametrize("allowed", [False, True])
def test_shut_off(
    cloud: settings.Settings,
    admin: client.Client,
    booted: str,
    tmp_path: pathlib.Path,
    allowed: bool,
) -> None:
    """It is migrated cold and confirmed if the operator allows that, and stays if not."""
    home = process.Home(
        cloud,
        tmp_path,
        {"replans": 0, "drift_share": 1.0, "cold_migration": allowed},
        facts=True,
    )
    source = plans.Source.load(home.snapshot())
    others = {one.id for one in source.snapshot.instances} - {booted}
    plan = plans.wander(source, 1, seed=1, each=1, waits=False, without=others)
    (one,) = plan["migrations"]
    one["method"] = "cold"
    stop(admin, booted)
    apply = home.apply(home.write_plan(plan, "plan.json"))
    assert apply.end(180.0) == (0 if allowed else 4), apply.text()
    (entry,) = home.entries()
    server: dict[str, Any] = common.shown(admin, booted)
    assert server["status"] == "SHUTOFF"
    host = server["OS-EXT-SRV-ATTR:host"]
    if allowed:
        assert (entry["state"], host) == ("CONFIRMED", one["dest"])
    else:
        assert (entry["state"], entry["code"], host) == ("SKIPPED", "cold", SOURCE)

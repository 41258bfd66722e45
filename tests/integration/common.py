# SPDX-License-Identifier: Apache-2.0
"""What several tests of this folder do with the cloud and with what was read of it."""

from collections.abc import Iterator
import contextlib
import json
from typing import Any

from nova_rebalancer.collect import live
from tests.cloud import settings


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

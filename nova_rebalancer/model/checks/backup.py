# SPDX-License-Identifier: Apache-2.0
"""An instance stays where it is while it has a tag: its backup runs."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from nova_rebalancer.model import cloud
from nova_rebalancer.model.checks import base

TAG = "backup"


@dataclasses.dataclass(frozen=True, slots=True)
class Backup(base.Check):
    """The tag that keeps an instance where it is."""

    tag: str

    def instance(self, instance: cloud.Instance) -> base.Verdict:
        """Keep what has the tag."""
        if self.tag not in instance.tags:
            return base.PASS
        return base.refuse(f"{instance.id} has the tag {self.tag}", tag=self.tag)


def make(snapshot: cloud.Snapshot, value: str | None, options: Mapping[str, Any]) -> Backup:
    """Return the check for a tag, ``backup`` without one."""
    if value == "":
        raise ValueError("write a tag, or nothing for the tag backup")
    return Backup(TAG if value is None else value)

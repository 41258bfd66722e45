# SPDX-License-Identifier: Apache-2.0
"""Instances of one image, or of one workload, together on few hosts.

``sharing``: a host keeps memory pages that are equal in several instances once (kernel samepage
merging), and those of one image have most in common; each further host with instances of an image
is a further copy.  ``locality``: the same for instances that name one workload.
"""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np

from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base
from nova_rebalancer.model.objectives import formula
from nova_rebalancer.model.objectives import separable


def sharing(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal: how many copies of images the hosts keep, an image once per host."""
    return _copies("sharing", start, [image(one) for one in snapshot.instances])


def locality(
    snapshot: cloud.Snapshot, start: state.PlacementState, settings: base.Settings
) -> separable.Separable:
    """Return the goal: on how many hosts each workload is, summed."""
    key = settings.locality_key
    return _copies("locality", start, [workload(one, key) for one in snapshot.instances])


def image(instance: cloud.Instance) -> str | None:
    """Return the image of an instance; None if it has none or it is not known."""
    return instance.image.id if instance.image is not None else None


def workload(instance: cloud.Instance, key: str) -> str | None:
    """Return what the metadata ``key``, or a tag ``key=...``, says; None if neither does."""
    if key in instance.metadata:
        return instance.metadata[key]
    tags = [tag.partition("=")[2] for tag in instance.tags if tag.startswith(f"{key}=")]
    return min(tags) if tags else None


def _copies(
    name: str, start: state.PlacementState, names: Sequence[Hashable]
) -> separable.Separable:
    numbers: dict[Hashable, int] = {}
    label = np.zeros_like(start.host_of)
    for v, one in enumerate(names):
        if one is not None:
            label[v] = numbers.setdefault(one, len(numbers))
    hosts = len(start.hosts)
    term = formula.Term(
        np.array([one is not None for one in names], dtype=np.int64),
        np.zeros(hosts, dtype=np.int64),
        formula.Any(np.ones(hosts)),
        label,
        max(1, len(numbers)),
    )
    return separable.Separable(
        name,
        "copies" if name == "sharing" else "places",
        formula.Formula((term,), np.zeros(start.host_of.size), start.host_of),
    )

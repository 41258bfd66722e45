# SPDX-License-Identifier: Apache-2.0
"""POP: the hosts in blocks, and each block solved for itself by the plain model.

As VMR2L compares with it: hosts in file order in k equal blocks, each with the instances on it and
an equal part of the limit, rounded down.  Where the hosts cannot be divided by k theirs leaves some
out; here some blocks have one more.  The blocks are solved one after another, and share the time.
The published figures rise in steps that fit k = 16.
"""

import dataclasses
import time

import numpy as np
import peer_cluster
import peer_mip

BLOCKS = 16


def solve(
    cluster: peer_cluster.Cluster,
    limit: int,
    time_limit_s: float,
    workers: int,
    blocks: int = BLOCKS,
) -> tuple[list[peer_cluster.Place], float]:
    """Return where the instances are then, and the seconds it took."""
    began = time.monotonic()
    places = cluster.start()
    for block in np.array_split(np.arange(len(cluster.hosts)), blocks):
        first = int(block[0])
        members = [
            v for v, one in enumerate(cluster.instances) if first <= one.start[0] <= block[-1]
        ]
        part = peer_cluster.Cluster(
            tuple(cluster.hosts[h] for h in block),
            cluster.capacity[block],
            tuple(
                dataclasses.replace(one, start=(one.start[0] - first, one.start[1]))
                for one in (cluster.instances[v] for v in members)
            ),
        )
        found = peer_mip.solve(part, limit // blocks, time_limit_s / blocks, workers)
        for v, (host, nodes) in zip(members, found.places, strict=True):
            places[v] = first + host, nodes
    return places, time.monotonic() - began

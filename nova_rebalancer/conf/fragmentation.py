# SPDX-License-Identifier: Apache-2.0
"""What counts as a fragment."""

from oslo_config import cfg
from oslo_config import types

GROUP = cfg.OptGroup(
    "fragmentation",
    title="Fragmentation options",
    help="""
The goal ``fragmentation``: the share of free cores that no instance of a
given size, or of several, can use.
""",
)

OPTIONS = [
    cfg.ListOpt(
        "cores",
        item_type=types.Integer(min=1, max=1_000_000),
        default=[16],
        help="""
Size in cores of the instance that free capacity should have room for, or
several sizes with commas between them, as ``32,16,8,4``: room for one more
instance counts as much whatever its size.

Free cores of a NUMA cell (or of a host without NUMA cells) that do not
make up a whole instance of this size are fragments. Set it to the cores of
the largest common flavor that fits into one NUMA cell: the one whose
creation fails with ``No valid host was found`` while the cloud still has
free cores. 16 is a good start for cells of 32 to 64 cores. With several
sizes fewer boots are refused in all, and more is migrated:
``nova-rebalance simulate`` tells how many.
""",
    ),
]

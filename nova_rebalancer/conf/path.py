# SPDX-License-Identifier: Apache-2.0
"""How long migrations take and how many run at once, for the time estimates of a plan."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "path",
    title="Path options",
    help="""
Estimates for the times in a plan. They change ``start_s`` and ``end_s``,
never what is safe.
""",
)

OPTIONS = [
    cfg.FloatOpt(
        "migration_rate_mibps",
        default=1000.0,
        min=1.0,
        help="""
Memory in MiB that one live migration copies per second.

The estimated duration of a migration is the memory of its instance divided
by this. Set it to what your migration network gives one migration: about
1000 on a 10 Gbit/s link, 100 on 1 Gbit/s. Busy instances change memory
while it is copied and take longer than the estimate.
""",
    ),
    cfg.IntOpt(
        "host_outgoing",
        default=1,
        min=1,
        help="""
Migrations that leave one host at the same time, as the time estimate
counts them.

Set it to ``max_concurrent_live_migrations`` of the compute nodes. That
option of Nova is 1 by default, and so is this.
""",
    ),
    cfg.IntOpt(
        "host_incoming",
        default=1,
        min=1,
        help="""
Migrations that arrive on one host at the same time, as the time estimate
counts them.

Nova does not limit them, but they share the host's network link. Raise it
when a destination has more than one link or when ``migration_rate_mibps``
is far below what its link gives. Start with 1.
""",
    ),
]

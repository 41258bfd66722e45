# SPDX-License-Identifier: Apache-2.0
"""What migrations cost, how long they take and how many run at once."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "path",
    title="Path options",
    help="""
What migrations cost and how long they take. It decides which of several
ways to a target is taken, and the times in a plan; never what is safe.
""",
)

OPTIONS = [
    cfg.StrOpt(
        "cost",
        default="memory",
        help="""
What a migration costs: of several ways to the target the cheapest is taken.

``memory`` counts the memory of the instance, copied once. ``precopy`` counts
what is sent, with the pages that are written again while memory is copied;
choose it when somebody measures how much your instances write. ``learned``
corrects ``memory`` for each flavor by how long its migrations took, as the
journal has it; choose it after some dozen migrations. Start with ``memory``.

Possible values:

* ``learned``
* ``memory``
* ``precopy``
* any other entry point in the group ``nova_rebalancer.costs``

A name that does not load is an error.
""",
    ),
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
    cfg.FloatOpt(
        "dirty_rate_mibps",
        default=2.5,
        min=0.0,
        help="""
Memory in MiB that an instance writes per second, for the cost ``precopy``
and the check ``converges``, where the snapshot has no measured use
``MEMORY_DIRTY_MIBPS`` of it.

An idle guest writes 2 or 3, a busy database some hundred. What is written
while memory is copied is copied again.
""",
    ),
    cfg.FloatOpt(
        "migration_downtime_s",
        default=0.5,
        min=0.001,
        help="""
Longest that an instance stands still at the end of its live migration, in
seconds, for the cost ``precopy`` and the check ``converges``.

Set it to ``[libvirt] live_migration_downtime`` of the compute nodes, which
is half a second by default.
""",
    ),
    cfg.FloatOpt(
        "migration_timeout_s",
        default=800.0,
        min=0.0,
        help="""
Seconds for each GiB of memory after which Nova gives a live migration up,
for the cost ``precopy`` and the check ``converges``; 0 for never.

Set it to ``[libvirt] live_migration_completion_timeout`` of the compute
nodes. Nova counts an instance of less than 2 GiB as 2 GiB.
""",
    ),
    cfg.StrOpt(
        "prefer",
        default="cost",
        choices=["cost", "makespan"],
        help="""
What to make small first: the sum of what the migrations cost, or the time
until the last one ends.

``cost`` moves as little memory as it can. Choose ``makespan`` when a
maintenance window is short and more copying does no harm.
""",
    ),
    cfg.MultiStrOpt(
        "links",
        default=[],
        help="""
How many migrations share a link at the same time, for the times in a plan
and for ``nova-rebalance apply``; one a line, as many as you like.

Set it where several hosts share what their migrations go over. Start with
what the link carries divided by ``migration_rate_mibps``.

Possible values:

* ``uplink=2``: of each rack, which the facts file tells, two migrations at
  a time leave or enter
* ``network=4``: on each migration link of the facts file, four; also inside
* ``uplink:NAME=2``, ``network:NAME=4``: of one rack, link or host aggregate
* a bandwidth in place of the number, ``uplink=500MiB/s``: as many as that
  carries at ``migration_rate_mibps``, at least one
* ``network=told``: what the facts file says that each link carries
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

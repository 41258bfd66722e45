# SPDX-License-Identifier: Apache-2.0
"""What migrations have to gain, and how many there may be of what."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "worth",
    title="What a migration must be worth",
    help="""
Every migration loads the network and slows its instance down for a while.
These options say what that has to bring, and how much of it an instance and
a project have to bear. A plan that is not worth it has no migrations.
""",
)

OPTIONS = [
    cfg.FloatOpt(
        "cost_per_gib",
        default=0.0,
        min=0.0,
        help="""
What each GiB of memory that is copied has to gain, in the goal's unit.

For the goal ``fragmentation`` 0.0001 means: 100 GiB are copied for a
hundredth of the free cores that become usable. Raise it when plans copy
large instances for little. 0 looks at the goal alone.
""",
    ),
    cfg.FloatOpt(
        "min_gain",
        default=0.0,
        min=0.0,
        help="""
What each migration of a plan has to gain, in the goal's unit.

Migrations that only gain together are judged together. Raise it when plans
are long and their last migrations bring next to nothing; a hundredth of what
a good plan gains in all is a good start.
""",
    ),
    cfg.FloatOpt(
        "cooldown_h",
        default=0.0,
        min=0.0,
        help="""
Hours for which an instance stays where it is after a migration, whoever
asked for it.

The journal and Nova's records say when it was migrated. Set it where plans
are made often, so that an instance is not sent to and fro; 24 is a good
start for plans every few hours. With 0 nobody is asked.
""",
    ),
    cfg.IntOpt(
        "project_migrations",
        min=0,
        help="""
The most migrations that one plan may have of the instances of any one
project. No value: as many as ``max_migrations``.

Set it where one customer's instances would bear all the work. Instances
whose project is not known count for none.
""",
    ),
    cfg.FloatOpt(
        "project_gib",
        min=0.0,
        help="""
The most GiB of memory of any one project's instances that the migrations of
one plan copy. No value: no limit.

It is fairer than ``project_migrations`` where the instances of some
customers are much larger than those of others; both may be set.
""",
    ),
]

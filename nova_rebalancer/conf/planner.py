# SPDX-License-Identifier: Apache-2.0
"""How a target placement is looked for, and how long a plan made of it may be used."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "planner",
    title="Planner options",
    help="""
Which planner looks for a better placement, how long it may look and how
much it may move.
""",
)

OPTIONS = [
    cfg.StrOpt(
        "planner",
        default="auto",
        help="""
The planner that looks for the target placement.

``auto`` picks one; today that is ``mip``, the exact planner, which has a
search beside it. Name one to use that one only: ``greedy`` when a plan is
wanted at once and no bound is needed, ``search`` when a bound is not worth
the time. Start with ``auto``.

Possible values:

* ``auto``
* ``greedy``
* ``mip``
* ``search``
* any other entry point in the group ``nova_rebalancer.planners``

A name that does not load is an error.
""",
    ),
    cfg.FloatOpt(
        "time_limit_s",
        default=30.0,
        min=0.0,
        help="""
Seconds from the arrays being built to the order of the migrations being
decided.

At the limit the best plan found so far is given, with the bound proven so
far. Raise it when plans end with the status ``time_limit`` and a gap that
is worth closing; lower it when somebody waits. Reading the cloud and
writing the plan are not counted. 30 seconds are a good start for some
hundred hosts.
""",
    ),
    cfg.IntOpt(
        "max_migrations",
        default=50,
        min=0,
        help="""
The most migrations one plan may have. A stop on the way to the target
counts as one too.

Each migration loads the network and slows its instance down for a while,
and the first ones bring the most. Raise it when a plan that uses all of
them still leaves much to gain and the cloud is quiet; lower it for a first
try. 50 are a good start: about one instance in forty in a cloud of 2,000.
""",
    ),
    cfg.FloatOpt(
        "max_gib",
        min=0.0,
        help="""
The most GiB of memory that the migrations of one plan copy, stops on the way
counted again. No value: no limit.

Planners look for the best target within it. Set it to what the migration
network carries in the time there is: 500 GiB take about an hour at 1,200
MBit/s.
""",
    ),
    cfg.IntOpt(
        "seed",
        default=0,
        min=0,
        max=2**31 - 1,
        help="""
Start of the random numbers a planner may use.

The same snapshot, options and seed give the same plan where no clock cut
the search short. Change it only to see whether another order of search
finds a better plan in the same time.
""",
    ),
    cfg.IntOpt(
        "plan_expires_s",
        default=86400,
        min=1,
        help="""
Seconds after which a plan is refused.

A cloud moves on, and a plan is about one moment of it. Lower it in a cloud
where instances come and go by the minute; raise it when plans wait for a
maintenance window. A day, the default, suits a plan that a person reviews
before it is carried out.
""",
    ),
]

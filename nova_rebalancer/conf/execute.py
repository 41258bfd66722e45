# SPDX-License-Identifier: Apache-2.0
"""How carefully a plan is carried out."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "execute",
    title="Execution options",
    help="""
How many migrations run at once, how long one may take, and when carrying
out stops by itself. A migration starts only when all of it allows it.
""",
)

OPTIONS = [
    cfg.IntOpt(
        "total",
        default=8,
        min=1,
        help="""
Migrations in flight at the same time, in the whole cloud; the times in a
plan go by it, too. A plan made with ``--concurrent`` keeps to the smaller
one.

Raise it for a large cloud whose migration network has room; lower it while
users are sensitive. 8 is a good start.
""",
    ),
    cfg.IntOpt(
        "per_source",
        default=1,
        min=1,
        help="""
Migrations that leave one host at the same time.

More than ``max_concurrent_live_migrations`` of the compute nodes, which is 1
by default, only wait inside of Nova.
""",
    ),
    cfg.IntOpt(
        "per_dest",
        default=1,
        min=1,
        help="""
Migrations that arrive on one host at the same time.

Nova does not limit them, but they share the host's network link. Raise it
where that link is much faster than a migration.
""",
    ),
    cfg.IntOpt(
        "per_zone",
        min=1,
        help="""
Migrations that leave or enter one availability zone at the same time; no
limit without it. Set it where zones share little network; half of ``total``
is a start.
""",
    ),
    cfg.IntOpt(
        "per_project",
        min=1,
        help="""
Migrations of one project's instances at the same time; no limit without it.
Set it where a few large projects own most instances; 2 keeps each of them
calm.
""",
    ),
    cfg.IntOpt(
        "per_link",
        min=1,
        help="""
Migrations that use one migration link at the same time, as the facts file
names links (``migration_link``); no limit without it. Set it where several
racks share an uplink. ``[path] links`` says more, and plans know of it.
""",
    ),
    cfg.IntOpt(
        "per_hour",
        min=1,
        help="""
Migrations asked for in any 60 minutes, those of earlier runs on the same
cloud included; no limit without it. Set it to spread a long plan over hours
in which users are sensitive.
""",
    ),
    cfg.FloatOpt(
        "project_share",
        default=0.34,
        min=0.0,
        max=1.0,
        help="""
Share of a project's instances that may be in flight at the same time; one
always may. 1 is no limit; lower it where projects run clusters without
server groups.
""",
    ),
    cfg.FloatOpt(
        "group_share",
        default=0.34,
        min=0.0,
        max=1.0,
        help="""
Share of a server group's members that may be in flight at the same time;
one always may.

Of a group with a hard policy never more than one is, whatever this says:
two migrations at once can break it (Nova bug 1821755).
""",
    ),
    cfg.FloatOpt(
        "downtime_budget_s",
        default=10.0,
        min=0.0,
        help="""
Seconds of downtime that migrations may cost one instance in 24 hours.

A live migration counts as ``live_downtime_s``; what is migrated cold is off
anyway. An instance whose budget is spent is skipped.
""",
    ),
    cfg.FloatOpt(
        "live_downtime_s",
        default=0.5,
        min=0.0,
        help="""
Seconds of downtime that one live migration is taken to cost; Nova's
``live_migration_downtime`` is half a second by default. Change it with that
option of Nova.
""",
    ),
    cfg.BoolOpt(
        "cold_migration",
        default=False,
        help="""
Whether instances that are shut off may be migrated cold, where a plan says
so. Nova confirms nothing by itself; this program does. The disk is copied,
so it takes longer than a live migration.
""",
    ),
    cfg.FloatOpt(
        "poll_s",
        default=2.0,
        min=0.1,
        help="""
Seconds between two looks at the migrations in flight. Raise it when the API
is slow; it costs three requests for each migration in flight.
""",
    ),
    cfg.FloatOpt(
        "request_timeout_s",
        default=60.0,
        min=1.0,
        help="""
Seconds after which a request that got no answer can no longer be carried
out by the API.

Only then is a migration that Nova does not show taken to be not sent. It
must be more than the longest time that a proxy in front of Nova's API, and
the API itself, hold a request.
""",
    ),
    cfg.FloatOpt(
        "time_factor",
        default=4.0,
        min=1.0,
        help="""
A live migration that takes this many times what was predicted, and
``time_extra_s`` more, is over its time limit.

The prediction is made of the instance's memory and of what migrations on
the same hosts took before. Raise it for instances that write much memory.
""",
    ),
    cfg.FloatOpt(
        "time_extra_s",
        default=120.0,
        min=0.0,
        help="""
Seconds added to the time limit of every migration, for the checks before it
and the settling after it. On a busy cloud the record of a migration may end
a minute after the instance has arrived.
""",
    ),
    cfg.StrOpt(
        "on_time_limit",
        default="abort",
        choices=("abort", "force_complete", "wait"),
        help="""
What is done with a live migration that is over its time limit.

``abort`` gives it up; the instance goes on at the source. ``force_complete``
ends it with a longer downtime, or by post-copy where Nova allows that.
``wait`` does nothing. In each case the migration is UNKNOWN until Nova says
what became of it.
""",
    ),
    cfg.FloatOpt(
        "unknown_limit_s",
        default=1800.0,
        min=0.0,
        help="""
Seconds for which the end of a migration in state UNKNOWN is waited for
after its time limit; then the run ends with it open. ``apply`` with the same
plan asks again.
""",
    ),
    cfg.IntOpt(
        "attempts",
        default=3,
        min=1,
        help="""
How often one migration is asked for, if it is refused for a reason that
passes, such as a server error or another task of the instance. A migration
that Nova accepted and gave up is not asked for again.
""",
    ),
    cfg.FloatOpt(
        "retry_s",
        default=30.0,
        min=0.0,
        help="""
Seconds after which a migration that was refused for now is asked for again,
twice as long each time. Raise it when the API needs long to recover; see
``attempts``.
""",
    ),
    cfg.FloatOpt(
        "patience_s",
        default=900.0,
        min=0.0,
        help="""
Seconds for which a migration waits for others: for somebody else's
migration on the same host, for room that is taken, for a task of Nova's.
Then it is skipped.
""",
    ),
    cfg.IntOpt(
        "breaker_failures",
        default=3,
        min=1,
        help="""
Failed migrations within ``breaker_window_s`` after which no more are
started and the run stops. Raise it for long runs on a cloud that is known to
refuse some.
""",
    ),
    cfg.FloatOpt(
        "breaker_window_s",
        default=900.0,
        min=0.0,
        help="""
Seconds that ``breaker_failures`` looks back. Failures before that are
forgotten, so a long run is not stopped by a few, far apart; 0 lets only
those of one moment count.
""",
    ),
    cfg.IntOpt(
        "host_failures",
        default=2,
        min=1,
        help="""
Failed migrations from or to one host after which nothing more is moved from
or to it in this run. The host should be looked at; the rest of the plan goes
on.
""",
    ),
    cfg.BoolOpt(
        "stop_on_error",
        default=True,
        help="""
Whether the run stops when a migration leaves its instance in status ERROR.
A person has to look at such an instance, and what broke it may break the
next one. Switch it off where nobody is there at night.
""",
    ),
    cfg.IntOpt(
        "replans",
        default=2,
        min=0,
        help="""
How often what is left is planned again, from fresh facts and within what is
left of ``max_migrations`` and ``max_gib``, after migrations failed or no longer fitted. 0:
what does not fit any more is left out.
""",
    ),
    cfg.FloatOpt(
        "drift_share",
        default=0.5,
        min=0.0,
        max=1.0,
        help="""
Share of a plan's migrations that may no longer fit the cloud; with more of
them the plan is dropped as a whole. Lower it to plan anew sooner; 1 carries
out what is left of any plan.
""",
    ),
    cfg.FloatOpt(
        "learnt_days",
        default=7.0,
        min=0.0,
        help="""
Days for which an instance that Nova would not migrate is left out of plans.
Lower it when the cause, such as old hypervisors, is about to go; 0 remembers
nothing.
""",
    ),
]

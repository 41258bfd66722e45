# SPDX-License-Identifier: Apache-2.0
"""How a live cloud is read: how hard it may be asked, and what is kept for the next time."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "collect",
    title="Collecting options",
    help="""
How Nova, Placement, Neutron and Glance are asked. The number of requests under way
goes down by itself when the cloud answers slower than usual or refuses for
load, and up again afterwards; these options are the most it may be.
""",
)

OPTIONS = [
    cfg.IntOpt(
        "workers",
        default=8,
        min=1,
        max=64,
        help="""
Requests under way at the same time, at most.

Placement answers for one host at a time, so a first reading of 1,000 hosts
is some 3,000 small requests. Lower it when the API processes are few or
busy. More than two for each API process only makes a queue.
""",
    ),
    cfg.FloatOpt(
        "requests_per_s",
        default=200.0,
        min=0.1,
        help="""
Requests begun in one second, at most.

Lower it when a proxy in front of the APIs limits the rate of a user; the
limit of that proxy, less what other programs of the user need, is a good
value.
""",
    ),
    cfg.IntOpt(
        "attempts",
        default=6,
        min=1,
        help="""
How often one request is sent before it counts as failed.

Tried again is what may pass: refused connections, cut answers, and the
statuses 429, 500, 502, 503 and 504. The pauses grow, to some seconds, and
are as long as the cloud asks for. Raise it for a network that loses
connections.
""",
    ),
    cfg.FloatOpt(
        "request_timeout_s",
        default=120.0,
        min=1.0,
        help="""
Seconds until an answer must have come.

The slowest is a page of 1,000 servers, some seconds on a quiet cloud. A
proxy in front of the API often has a limit of its own, and more than that
is of no use here.
""",
    ),
    cfg.FloatOpt(
        "deadline_s",
        default=900.0,
        min=1.0,
        help="""
Seconds for reading the whole cloud.

A snapshot that took long is of many moments. When the time is over there is
no snapshot and the command fails. Raise it for a cloud of several thousand
hosts with slow APIs.
""",
    ),
    cfg.FloatOpt(
        "full_every_s",
        default=3600.0,
        min=0.0,
        help="""
Seconds for which inventories, traits and allocations that were read are
used again, unless there is a sign of a change.

The signs are the generation of a provider and what Nova says of servers and
migrations. A change by hand in Placement may come without any; this is how
long it can go unseen. 0 reads everything each time.
""",
    ),
    cfg.FloatOpt(
        "check_every_s",
        default=900.0,
        min=0.0,
        help="""
Seconds after which allocations that are used again are compared with
Placement's sums, one request for each provider.

Where they differ, the allocations are read again. It finds what left no
sign, such as an allocation that somebody deleted by hand. Raise it up to
``full_every_s`` if Placement is slow; 0 compares each time.
""",
    ),
    cfg.StrOpt(
        "facts_file",
        help="""
File of facts that Nova's API does not tell: NUMA cells, Nova cell, rack and
more of each host.

Without it such facts are unknown, and instances with a NUMA topology are
not moved. ``tools/host-facts`` makes the file.
""",
    ),
]

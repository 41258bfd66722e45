# SPDX-License-Identifier: Apache-2.0
"""Which rules a plan keeps beside those that always hold."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "constraints",
    title="Rules",
    help="""
What may be moved, where to, and which rules you know better than Nova's API
can tell. The documentation has a table of all rules.
""",
)

OPTIONS = [
    cfg.ListOpt(
        "ignored_rules",
        default=[],
        help="""
Rules that plans do not keep, at your risk.

Nova's API does not show which filters its scheduler has enabled, so plans
keep to all that the documentation's table of rules has. Name the rules
whose filter your scheduler does not have when they keep instances where
they are for nothing; ``nova-rebalance explain`` says which rule that is. A
migration that Nova refuses leaves the instance where it is. A name that is
no rule, or one that always holds, is an error.
""",
    ),
    cfg.BoolOpt(
        "opt_in",
        default=False,
        help="""
Whether only instances that ask for it are moved.

They ask by the metadata ``nova-rebalancer:allow-migration=true`` or the tag
``nova-rebalancer:move``. Turn it on for the first weeks on a cloud whose
owners have not been told. An instance that opts out stays in any case.
""",
    ),
    cfg.ListOpt(
        "banned_hosts",
        default=[],
        help="""
Service hosts that nothing is sent to. What is there may leave.

Use it for hosts that are about to go, or that you do not trust. A host that
is disabled in Nova neither gets nor loses anything.
""",
    ),
    cfg.MultiStrOpt(
        "checks",
        default=[],
        help="""
Checks that plans keep beside the rules, ``NAME`` or ``NAME=VALUE``; one a
line, as many as you like.

They make plans more careful than Nova and Placement are. Start without any,
or with ``headroom=0.1`` where hosts should keep room for their guests to
grow. What ``--check`` names counts too.

Possible values:

* ``overcommit=RATIO``: fill hosts up to this allocation ratio at most, 1 for
  no overcommit; ``overcommit=VCPU:4,MEMORY_MB:1`` for single classes
* ``headroom=SHARE``: leave this share of each host's capacity free where
  instances are sent to; ``headroom=MEMORY_MB:0.1`` for single classes
* ``groups``: keep soft server groups as if they were hard
* ``backup`` or ``backup=TAG``: leave instances alone while they have the tag
* ``converges``: leave alone what writes memory faster than a live migration
  copies it
* any other entry point in the group ``nova_rebalancer.checks``
""",
    ),
    cfg.FloatOpt(
        "soft_group_cost",
        default=0.001,
        min=0.0,
        help="""
What one more pair of a soft server group costs that is not as the group
wishes, in the goal's unit.

A plan is cut where its migrations gain less than its pairs cost, and other
targets are looked for that part nobody. 0 ignores soft groups; with 1 hardly
any gain is worth a pair.
""",
    ),
    cfg.BoolOpt(
        "numa_packing",
        default=False,
        help="""
Nova's ``[compute] packing_host_numa_cells_allocation_strategy``.

It decides on which NUMA cell of a host Nova puts an instance. Set it here
when it is set there: the plans predict Nova's choice.
""",
    ),
]

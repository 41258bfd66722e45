# SPDX-License-Identifier: Apache-2.0
"""What the goals beside the fragment rate are shaped by."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "goals",
    title="Options of the goals",
    help="""
What shapes the goals ``flavor-fit``, ``balance``, ``consolidate``, ``power``,
``thermal`` and ``locality``; the goal ``fragmentation`` has a group of its own.
""",
)

OPTIONS = [
    cfg.ListOpt(
        "flavors",
        default=[],
        help="""
Flavors by name, and sizes written VCPUS:MEMORY_MIB, that the goal
``flavor-fit`` makes room for. Name what users ask for and are refused most;
with several, each counts the same. Flavors whose instances have a NUMA
topology cannot be named: ``fragmentation`` counts their cores by cells.
""",
    ),
    cfg.ListOpt(
        "balance_resources",
        default=["VCPU", "MEMORY_MB"],
        help="""
What the goal ``balance`` evens out over the hosts: resource classes, and
names of measured use. VCPU stands for all cores, shared and dedicated. Each
counts the same. Take DISK_GB in where local disks fill up unevenly.
""",
    ),
    cfg.StrOpt(
        "balance_on",
        default="allocation",
        choices=["allocation", "use", "both"],
        help="""
Whether ``balance``, ``power`` and ``thermal`` count what instances are
allocated or what they were measured to use; an instance that was not
measured counts as what it is allocated. ``both`` is the mean of the two,
for ``balance`` only. Use needs measurements in the snapshot.
""",
    ),
    cfg.FloatOpt(
        "headroom",
        default=0.0,
        min=0.0,
        max=0.99,
        help="""
Share of every host's capacity, of each resource, that the goal
``consolidate`` leaves free on hosts that it sends instances to. Loads have
peaks: 0.1 to 0.2 is a good start where cores are not overcommitted.
""",
    ),
    cfg.DictOpt(
        "headroom_of",
        default={},
        help="""
The same for single resource classes, in place of ``headroom``, as
MEMORY_MB:0.1,DISK_GB:0.3. VCPU stands for all cores where PCPU is not named.
Memory is seldom overcommitted and needs less than cores that are.
""",
    ),
    cfg.IntOpt(
        "spare_hosts",
        default=0,
        min=0,
        help="""
How many hosts' worth of capacity, of each resource, the goal ``consolidate``
leaves free in all on the hosts that stay in use, counted by the largest: with
1 what is free on the others is as much as any one host that fails can hold.
""",
    ),
    cfg.FloatOpt(
        "idle_w",
        default=100.0,
        min=0.0,
        help="""
Watts of a host without load, for hosts that have no ``watts`` in the facts
file. Only the differences between hosts and between loads shape a plan.
""",
    ),
    cfg.FloatOpt(
        "busy_w",
        default=300.0,
        min=0.0,
        help="""
Watts of a host with all cores busy, for hosts that have no ``watts`` in the
facts file. Set it to what a typical host of the cloud draws at full load.
""",
    ),
    cfg.FloatOpt(
        "inlet_limit_c",
        default=40.0,
        help="""
Temperature of the air at a host's inlet, in degrees Celsius, at which the
goal ``thermal`` wants no heat there. A host may have the more of all heat
the further its ``inlet_c`` (facts file) is below.
""",
    ),
    cfg.StrOpt(
        "locality_key",
        default="workload",
        help="""
Metadata key of instances, or what stands before ``=`` in a tag, that names
the workload an instance belongs to; the goal ``locality`` brings those of
one workload together.
""",
    ),
]

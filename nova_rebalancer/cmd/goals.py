# SPDX-License-Identifier: Apache-2.0
"""The options that say what a plan is to be good at."""

import argparse

from nova_rebalancer.cmd import numbers

GOALS = {
    "fragmentation": "share of free cores that no instance of --fragment-cores cores, or of "
    "several sizes, can use",
    "flavor-fit": "share of the instances of --flavor that all free capacity would be enough for "
    "and that there is no room for",
    "consolidate": "hosts with anything on them",
    "balance": "share of the load that is on hosts with more than their fair share",
    "drain": "instances on the hosts and aggregates of --drain",
    "repair": "instances that break a rule where they are, members of groups too close or split, "
    "and conflicts on one host",
    "power": "watts of all hosts",
    "thermal": "share of the heat above what the air at each host takes",
    "sharing": "copies of images, each image once per host",
    "locality": "hosts that each workload is on, summed",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--goal`` and what shapes the goals."""
    told = "; ".join(f"{name}: {what}" for name, what in GOALS.items())
    parser.add_argument(
        "--goal",
        metavar="GOAL",
        help="what to lower (default fragmentation, with --drain drain); several in order, the "
        "first down to a value: balance<=0.1,fragmentation; or by weights: "
        f"2*balance+fragmentation. Goals are {told}",
    )
    parser.add_argument(
        "--flavor",
        metavar="NAME",
        action="append",
        help="flavor that flavor-fit makes room for, or a size written VCPUS:MEMORY_MIB, as "
        "4:16384; may be given again",
    )
    parser.add_argument(
        "--drain",
        metavar="NAME",
        action="append",
        default=[],
        help="empty this service host, or the hosts of this aggregate, and send nothing there; "
        "may be given again",
    )
    parser.add_argument(
        "--cold",
        action="store_true",
        help="with --drain: migrate cold what is shut off there; apply does so if [execute] "
        "cold_migration is set",
    )
    parser.add_argument(
        "--balance-resource",
        metavar="NAME",
        action="append",
        help="what balance evens out: a resource class or a name of measured use; may be given "
        "again (default VCPU and MEMORY_MB; VCPU stands for all cores)",
    )
    parser.add_argument(
        "--balance-on",
        choices=("allocation", "use", "both"),
        help="count what instances are allocated or what they were measured to use (default "
        "allocation)",
    )
    parser.add_argument(
        "--headroom",
        metavar="SHARE",
        type=_headroom,
        action="append",
        default=[],
        help="share of each host's capacity that consolidate leaves free where it sends "
        "instances (default 0), or RESOURCE=SHARE for one resource class; may be given again",
    )
    parser.add_argument(
        "--spare-hosts",
        metavar="N",
        type=numbers.whole(0),
        help="hosts' worth of capacity, of the largest, that consolidate leaves free in all "
        "(default 0)",
    )


def check(given: argparse.Namespace, goal: str) -> None:
    """See that each option given on the command line shapes ``goal``.

    The configuration file is not looked at: it is written once, for all goals.

    Raises
    ------
    UsageError
        If one does not, or ``goal`` cannot be read.
    """
    from nova_rebalancer.model.objectives import shaped

    said = [("drain", name) for name in given.drain]
    said += [("flavor", name) for name in given.flavor or ()]
    said += [("balance-resource", name) for name in given.balance_resource or ()]
    said += [("headroom", f"{r}={share:g}" if r else f"{share:g}") for r, share in given.headroom]
    if given.balance_on is not None:
        said.append(("balance-on", given.balance_on))
    if given.spare_hosts is not None:
        said.append(("spare-hosts", str(given.spare_hosts)))
    if given.fragment_cores is not None:
        said.append(("fragment-cores", ",".join(map(str, given.fragment_cores))))
    for option, value in said:
        shaped.check(goal, option, f"--{option} {value}")


def _headroom(text: str) -> tuple[str, float]:
    """Read SHARE or RESOURCE=SHARE; without a resource it is empty."""
    resource, _, share = text.rpartition("=")
    return resource.strip(), numbers.share(share)

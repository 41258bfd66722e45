# SPDX-License-Identifier: Apache-2.0
"""Accounts with fewer rights than an administrator's: what they see is right, or said to lack."""

import re

import pytest

from nova_rebalancer import exceptions
from tests.integration import common


def test_reader(collect):
    """An account with nothing but the role reader is told that it may not list the servers."""
    with pytest.raises(exceptions.CloudError, match=r"refuses GET /servers.* with 403"):
        collect("test-cloud-reader")


def test_role_of_its_own(cloud, collect):
    """The role the docs describe sees all but what Nova shows to administrators only.

    Server groups are among that, so there is no plan.
    """
    found, whole = collect("test-cloud-rebalancer"), collect()
    ours, theirs = common.facts(found), common.facts(whole)
    numa = {one["id"] for one in theirs["instances"] if one["numa"]}
    grouped = {name for group in theirs["server_groups"] for name in group["members"]}
    for one in theirs["instances"]:
        # Nova shows the NUMA topologies of the own project's instances only.
        if one["id"] in numa:
            one["numa"] = one["numa_pagesize_kib"] = None
        if one["id"] in grouped:
            one["scheduler_hints"] = {}
    for document in (ours, theirs):
        for host in document["hosts"]:
            host.pop("numa")
    missing = {one["what"]: one["hosts"] for one in ours.pop("missing")}
    assert missing.pop("server groups") is None
    assert {name for hosts in missing.values() for name in hosts} == {
        one.host for one in whole.snapshot.instances if one.id in numa
    }
    assert not theirs.pop("missing")
    assert ours.pop("server_groups") == [] != theirs.pop("server_groups")
    private = {one["name"] for one in theirs["flavors"]} - {one["name"] for one in ours["flavors"]}
    assert private == {"private.small"}
    theirs["flavors"] = [one for one in theirs["flavors"] if one["name"] not in private]
    for our_one, their_one in zip(ours["instances"], theirs["instances"], strict=True):
        assert our_one == their_one
    assert {**ours, "cloud": "test-cloud"} == theirs


def test_only_get_requests(cloud, collect):
    """A credential whose access rules allow GET alone reads the cloud like its owner."""
    found = common.facts(collect("test-cloud-get-only"))
    assert {**found, "cloud": "test-cloud"} == common.facts(collect())


def test_nothing_is_changed(cloud, collect):
    """Reading sends no request but GET, and one POST to Keystone for the token."""
    logs = {name: cloud.logs / f"{name}.access.log" for name in ("nova-api", "placement")}
    before = {name: file.stat().st_size for name, file in logs.items()}
    collect()
    for name, file in logs.items():
        lines = file.read_text()[before[name] :].splitlines()
        # Computes talk to Placement as well, but never with our user agent.
        methods = {re.search(r'"([A-Z]+) ', line)[1] for line in lines if "nova-rebalancer" in line}
        assert methods <= {"GET"}, name

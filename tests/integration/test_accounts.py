# SPDX-License-Identifier: Apache-2.0
"""Accounts with fewer rights than an administrator's: what they see is right, or said to lack."""

import json
import re

import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.plan import base


def facts(found):
    """What a snapshot says, without when and how it was read."""
    document = json.loads(found.data)
    return {key: value for key, value in document.items() if key not in ("taken_at", "collected")}


def test_reader(collect):
    """An account with nothing but the role reader is told that it may not list the servers."""
    with pytest.raises(exceptions.CloudError, match=r"refuses GET /servers.* with 403"):
        collect("test-cloud-reader")


def test_least_privilege(cloud, collect):
    """The account the docs describe sees what an administrator sees, or the snapshot lists it."""
    found, whole = collect("test-cloud-rebalancer"), collect()
    ours, theirs = facts(found), facts(whole)
    numa = {one["id"] for one in theirs["instances"] if one["numa"]}
    for one in theirs["instances"]:
        if one["id"] in numa:
            one["numa"] = None
    # Nor groups of other projects.
    for group in theirs["server_groups"]:
        group.update(name=None, project=None, policy="unknown", max_server_per_host=1)
    private = {one["name"] for one in theirs["flavors"]} - {one["name"] for one in ours["flavors"]}
    assert private == {"private.small"}
    theirs["flavors"] = [one for one in theirs["flavors"] if one["name"] not in private]
    for document in (ours, theirs):
        for host in document["hosts"]:
            host.pop("numa")
    # Nova shows the NUMA topologies of the own project's instances only.
    lost = {name for one in ours.pop("missing") for name in one["hosts"]}
    assert lost == {one.host for one in whole.snapshot.instances if one.id in numa}
    assert not theirs.pop("missing")
    for ours_one, theirs_one in zip(ours["instances"], theirs["instances"], strict=True):
        assert ours_one == theirs_one
    assert {**ours, "cloud": "test-cloud"} == theirs
    grouped = {name for group in ours["server_groups"] for name in group["members"]}
    options = controller.Options(planner="greedy")
    plan = controller.run(found.snapshot, found.sha256, options, base.Watch())
    hosts = {plan.start.hosts[m.hop.source] for m in plan.path.migrations}
    hosts |= {plan.start.hosts[m.hop.dest] for m in plan.path.migrations}
    assert not hosts & lost
    assert not {plan.start.instances[m.hop.v] for m in plan.path.migrations} & grouped


def test_only_get_requests(cloud, collect):
    """A credential whose access rules allow GET alone reads the cloud like its owner."""
    assert {**facts(collect("test-cloud-get-only")), "cloud": "test-cloud"} == facts(collect())


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

# SPDX-License-Identifier: Apache-2.0
"""Proofs that a target cannot be reached: the right ones are accepted, the wrong ones are not."""

from typing import Any

from hypothesis import given
from hypothesis import settings
import pytest

from nova_rebalancer.checker import cases as case_files
from nova_rebalancer.checker import checks
from nova_rebalancer.checker import flood
from nova_rebalancer.checker import options
from nova_rebalancer.checker import ways
from tests import cases
from tests.unit.checker import path_documents

Document = dict[str, Any]


def relaxation(*stuck: str, side: str = "initial") -> Document:
    """Return the proof that none of these can ever move."""
    return {"kind": "relaxation", "side": side, "stuck": list(stuck)}


def component(hosts: str, placements: int, side: str = "initial") -> Document:
    """Return the proof that no more placements are reached on these hosts."""
    return {"kind": "component", "side": side, "hosts": list(hosts), "placements": placements}


@pytest.mark.parametrize("side", ["initial", "final"])
def test_proofs(side):
    """Of two that block each other, beside a third that moves, both kinds of proof hold."""
    proofs = relaxation("u", "v", side=side), component("ab", 2, side)
    for certificate in proofs:
        answer = path_documents.unreachable("wandering", certificate)
        found = path_documents.verdict(cases.wandering(), answer)
        assert found.ok, found


@pytest.mark.parametrize("side", ["initial", "final"])
@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (relaxation("u"), 'instance "u" can move'),
        (relaxation("u", "v", "w"), 'instance "w" can move'),
        (relaxation("w"), "all of the stuck instances are where the target has them"),
        (relaxation("u", "x"), 'instance "x", which is not there'),
        (relaxation(), "all of the stuck instances"),
        (component("ab", 3), "2 placements are reached, it says 3"),
        (component("a", 1), 'the hosts are no zone: instance "u" may be'),
        (component("ax", 2), 'host "x", which is not there'),
        ({"kind": "endpoint", "instance": "u", "host": "b", "reason": "no_host"}, "no rule keeps"),
        ({"kind": "endpoint", "instance": "u", "host": "a", "reason": "x"}, "does not have"),
        ({"kind": "endpoint", "instance": "w", "host": "a", "reason": "x"}, "is on host"),
        ({"kind": "endpoint", "instance": "x", "host": "a", "reason": "x"}, "not there"),
    ],
)
def test_no_proofs(certificate, why, side):
    """A proof with a hole is none, though the target cannot be reached."""
    if "side" in certificate:
        certificate = certificate | {"side": side}
    answer = path_documents.unreachable("wandering", certificate)
    found = path_documents.verdict(cases.wandering(), answer)
    assert (found.ok, found.kind) == (False, "certificate"), found
    assert why in found.detail


@pytest.mark.parametrize("side", ["initial", "final"])
def test_what_can_be_reached(side):
    """No certificate proves that the swap by way of a third host is none.

    Its 6 placements are those of two instances on three hosts, never both on one.
    """
    for certificate, why in (
        (relaxation("u", "v", side=side), "can move"),
        (component("abc", 6, side), "the other end is among the placements"),
    ):
        answer = path_documents.unreachable("swap", certificate)
        found = path_documents.verdict(cases.swap(), answer)
        assert found.kind == "certificate", found
        assert why in found.detail


def test_no_certificate():
    """Nobody is believed that there is no path without a proof."""
    found = path_documents.verdict(cases.deadlock(), path_documents.unreachable("deadlock", None))
    assert found.kind == "verdict"
    proof = relaxation("u", "v")
    answer = path_documents.unreachable("deadlock", proof)
    assert path_documents.verdict(cases.deadlock(), answer).ok
    for spoilt in ({"cost": 1}, {"optimal": False}, {"certificate": {"kind": "trust"}}):
        found = path_documents.verdict(cases.deadlock(), answer | spoilt)
        assert found.kind == ("format" if "certificate" in spoilt else "verdict")


def test_more_than_can_be_gone_through(monkeypatch):
    """A component that is too large is not accepted, and the line says why."""
    monkeypatch.setattr(flood, "MOST", 1)
    answer = path_documents.unreachable("wandering", component("ab", 2))
    found = path_documents.verdict(cases.wandering(), answer)
    assert found.kind == "certificate"
    assert "more than 1 placements" in found.detail


@settings(max_examples=40, deadline=None)
@given(cases.small())
def test_flooding_finds_every_placement(case):
    """From both ends the flood finds as many placements as trying every move does, and no fewer."""
    (asked,) = case_files.read(cases.as_bytes(cases.document(case)), "case")
    plan: Document = {"options": {}}
    allowed = ways.Ways(asked, options.read(plan), checks.read(asked.cloud, plan))
    movable = [name for name in asked.cloud.instances if allowed.movable(name)]
    spread = flood.Flood(allowed, movable)
    ends = [tuple(case[key][vm["name"]] for vm in case["vms"]) for key in ("initial", "final")]
    start, goal = (cases.reached(case, end) for end in ends)
    fixed_differ = any(
        case["initial"][name] != case["final"][name]
        for name in asked.cloud.instances
        if name not in movable
    )
    assert not fixed_differ
    assert spread.forward() == (len(start), ends[1] in start)
    assert spread.backward() == (len(goal), ends[0] in goal)

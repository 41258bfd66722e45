# SPDX-License-Identifier: Apache-2.0
"""Pins of three kinds, all of them kept: our own rule, none of Nova's."""

import dataclasses

import hypothesis.strategies as st

from nova_rebalancer.model.constraints import allowed_hosts
from nova_rebalancer.model.constraints import base
from tests.unit.model.constraints import nova_objects

NAMES = st.sets(st.sampled_from("abc")).map(sorted)
TEXTS = st.lists(st.sampled_from(["a", " b", "b ", "c", "", " "]), max_size=3).map(",".join)


@nova_objects.judged(
    ids=st.one_of(st.none(), NAMES), operators=NAMES, owners=st.one_of(st.none(), TEXTS)
)
def test_laws(ids: list[str] | None, operators: list[str], owners: str | None) -> bool:
    """Each pin forbids alone what it forbids with others; an empty list of names is no pin."""
    pinned = None if ids is None else tuple(nova_objects.named(name) for name in ids)
    metadata = {} if owners is None else {allowed_hosts.METADATA: owners}
    bare = nova_objects.instance("a")
    dest = nova_objects.host("b")

    def allows(pins: list[str], **facts: object) -> bool:
        one = dataclasses.replace(bare, **facts)
        settings = base.Settings(pins={one.id: tuple(pins)} if pins else {})
        hosts = [nova_objects.host("a"), dest]
        return nova_objects.allows("allowed_hosts", nova_objects.view(hosts, [one], settings), dest)

    allowed = allows(operators, allowed_hosts=pinned, metadata=metadata)
    first = allows([], allowed_hosts=pinned)
    second, third = allows(operators), allows([], metadata=metadata)
    assert allowed == (first and second and third)
    assert first == (ids is None or "b" in ids)
    assert second == (not operators or "b" in operators)
    words = (owners or "").replace(",", " ").split()
    assert third == (not words or "b" in words)
    return allowed

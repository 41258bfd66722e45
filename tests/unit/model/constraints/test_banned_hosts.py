# SPDX-License-Identifier: Apache-2.0
"""Bans of three kinds, each enough alone: our own rule, none of Nova's."""

import hypothesis.strategies as st

from nova_rebalancer.model.constraints import banned_hosts
from nova_rebalancer.model.constraints import base
from tests.unit.model.constraints import nova_objects

NAMES = st.sets(st.sampled_from("abcdef")).map(frozenset)
TEXTS = st.lists(st.sampled_from(["a", " b", "b ", "c", "d", "", " "]), max_size=3).map(",".join)


@nova_objects.judged(everybodys=NAMES, operators=NAMES, owners=TEXTS)
def test_laws(everybodys: frozenset[str], operators: frozenset[str], owners: str) -> bool:
    """Whoever bans a host bans it, and a pin to it does not help."""
    one = nova_objects.instance("a", metadata={banned_hosts.METADATA: owners})
    settings = base.Settings(
        banned_hosts=everybodys, bans={one.id: tuple(operators)}, pins={one.id: ("b",)}
    )
    dest = nova_objects.host("b")
    view = nova_objects.view([nova_objects.host("a"), dest], [one], settings)
    allowed = nova_objects.allows("banned_hosts", view, dest)
    said = {*everybodys, *operators, *owners.replace(",", " ").split()}
    assert allowed == ("b" not in said)
    return allowed

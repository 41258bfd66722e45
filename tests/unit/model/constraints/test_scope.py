# SPDX-License-Identifier: Apache-2.0
"""Nothing is sent out of the plan's scope: our own rule, none of Nova's."""

import hypothesis.strategies as st

from tests.unit.model.constraints import nova_objects


@nova_objects.judged(scopes=st.lists(st.booleans(), min_size=2, max_size=9))
def test_laws(scopes: list[bool]) -> bool:
    """The destination is in scope, whatever other hosts are."""
    hosts = [nova_objects.host(f"h{n}", in_scope=said) for n, said in enumerate(scopes)]
    view = nova_objects.view(hosts, [nova_objects.instance("h0")])
    for host, said in zip(hosts, scopes, strict=True):
        assert nova_objects.allows("scope", view, host) == said
    return scopes[-1]

# SPDX-License-Identifier: Apache-2.0
"""An instance that asked for no zone stays in the one it is in: our own rule, none of Nova's."""

import hypothesis.strategies as st

from tests.unit.model.constraints import nova_objects

ZONES = st.one_of(st.none(), st.sampled_from(["north", "south"]), st.text("ab", max_size=3))


@nova_objects.judged(here=ZONES, there=ZONES, asked=ZONES)
def test_laws(here: str | None, there: str | None, asked: str | None) -> bool:
    """The zones are the same, or the instance asked for one: that is another rule's matter."""
    source, dest = nova_objects.host("a", az=here), nova_objects.host("b", az=there)
    view = nova_objects.view([source, dest], [nova_objects.instance("a", pinned_az=asked)])
    allowed = nova_objects.allows("keep_zone", view, dest)
    assert allowed == (bool(asked) or here == there)
    return allowed

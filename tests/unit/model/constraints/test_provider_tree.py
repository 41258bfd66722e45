# SPDX-License-Identifier: Apache-2.0
"""Nested providers at the destination are like those an instance uses.

Placement owns the rule, and is asked for groups that the API does not show any more; these are the
laws of our own statement.
"""

import dataclasses

import hypothesis.strategies as st

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

INVENTORIES = st.dictionaries(
    st.sampled_from(["VGPU", "CUSTOM_A"]),
    st.builds(cloud.Inventory, st.just(4), min_unit=st.integers(1, 2)),
    max_size=2,
)
TRAITS = st.sets(st.sampled_from(["CUSTOM_BIG", "CUSTOM_FAST"])).map(lambda all: tuple(sorted(all)))


@st.composite
def providers(draw: st.DrawFn, owner: str) -> tuple[cloud.Provider, ...]:
    """Some nested providers of a host."""
    made = draw(st.lists(st.tuples(INVENTORIES, TRAITS), min_size=1, max_size=3))
    return tuple(
        cloud.Provider(f"{owner}{n}", f"{owner}{n}", owner, inventories, traits)
        for n, (inventories, traits) in enumerate(made)
    )


@nova_objects.judged(
    here=providers("a"), there=providers("b"), more=providers("c"), uses=st.sets(st.integers(0, 2))
)
def test_laws(
    here: tuple[cloud.Provider, ...],
    there: tuple[cloud.Provider, ...],
    more: tuple[cloud.Provider, ...],
    uses: set[int],
) -> bool:
    """The same providers will do if units allow, more never forbid, and each use counts alone."""

    def allows(used: set[int], offered: tuple[cloud.Provider, ...]) -> bool:
        source = nova_objects.host("a", providers=here)
        dest = nova_objects.host("b", providers=offered)
        nested = {
            one.id: dict.fromkeys(one.inventories, 1)
            for n, one in enumerate(here)
            if n in used and one.inventories
        }
        view = nova_objects.view([source, dest], [nova_objects.instance("a", nested=nested)])
        return nova_objects.allows("provider_tree", view, dest)

    allowed = allows(uses, there)
    assert allows(set(), there)
    assert allowed == all(allows({n}, there) for n in uses)
    assert not allowed or allows(uses, (*there, *more))
    assert allows(uses, there) == allows(uses, there[::-1])
    loose = tuple(
        dataclasses.replace(
            one,
            inventories={
                name: dataclasses.replace(inventory, min_unit=1)
                for name, inventory in one.inventories.items()
            },
        )
        for one in here
    )
    assert allows(uses, loose)
    bare = tuple(dataclasses.replace(one, inventories={}) for one in there)
    assert allows(uses, bare) == (not any(here[n].inventories for n in uses if n < len(here)))
    return allowed

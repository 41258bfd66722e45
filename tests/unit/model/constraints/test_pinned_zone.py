# SPDX-License-Identifier: Apache-2.0
"""An instance that asked for a zone is kept in it as Nova keeps it."""

import hypothesis.strategies as st
from nova.scheduler import request_filter

from nova_rebalancer.model import cloud
from tests.unit.model.constraints import nova_objects

ZONES = ["north", "south"]
METADATA = st.dictionaries(
    st.sampled_from(["availability_zone", "zone"]), st.sampled_from(ZONES), max_size=1
)


@nova_objects.judged(
    made=nova_objects.aggregates(METADATA), asked=st.sampled_from([None, *ZONES, "nova"])
)
def test_as_nova(made: list[cloud.Aggregate], asked: str | None) -> bool:
    """With Nova's own query for the aggregates of the zone.

    Where no aggregate has the zone, as with the default one, Nova forbids nothing; here the host
    must still be in it.
    """
    dest = nova_objects.host("b", az="nova")
    zones = [
        one.metadata["availability_zone"]
        for one in made
        if dest.id in one.hosts and "availability_zone" in one.metadata
    ]
    # Nova lets no host be in two zones.
    made = [one for one in made if one.metadata.get("availability_zone") not in zones[1:]]
    dest = nova_objects.host("b", az=zones[0] if zones else "nova")
    one = nova_objects.instance("a", pinned_az=asked)
    view = nova_objects.view([nova_objects.host("a"), dest], [one], aggregates=tuple(made))
    spec = nova_objects.request_spec(one)
    with nova_objects.stored(made) as admin:
        request_filter.map_az_to_placement_aggregate(admin, spec)
    allowed = nova_objects.passes(spec, made, dest)
    ours = nova_objects.allows("pinned_zone", view, dest)
    known = any(one.metadata.get("availability_zone") == asked for one in made)
    assert ours == allowed or (not ours and not known)
    return ours

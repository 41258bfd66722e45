# SPDX-License-Identifier: Apache-2.0
"""Server groups are kept as Nova's filters keep them."""

import hypothesis.strategies as st
from nova import objects
from nova.scheduler.filters import affinity_filter

from nova_rebalancer.model import cloud
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from tests.unit.model.constraints import nova_objects

HOSTS = ("a", "b", "c")
PLACES = st.lists(st.sampled_from(HOSTS), min_size=1, max_size=6)


def group_of(made: cloud.ServerGroup, on: dict[str, str]) -> objects.InstanceGroup:
    """A server group as ``setup_instance_group`` leaves it in the request."""
    rules = {}
    if made.policy == "anti-affinity":
        rules = {"max_server_per_host": str(made.max_server_per_host)}
    return objects.InstanceGroup(
        uuid=nova_objects.named(made.id),
        policy=made.policy,
        # Older requests have the policy in a list.
        policies=[made.policy],
        rules=rules,
        members=list(made.members),
        hosts=sorted({on[one] for one in made.members}),
    )


@nova_objects.judged(
    places=PLACES,
    dest=st.sampled_from(HOSTS),
    most=st.integers(1, 3),
    outside=st.sets(st.integers(0, 5)),
)
def test_anti_affinity(places: list[str], dest: str, most: int, outside: set[int]) -> bool:
    """So many members on a host and no more; the instance that moves is not on its new host yet."""
    instances = [nova_objects.instance(on, f"i{n}") for n, on in enumerate(places)]
    members = tuple(one.id for n, one in enumerate(instances) if n == 0 or n not in outside)
    group = cloud.ServerGroup("group", "anti-affinity", members, most)
    hosts = [nova_objects.host(name) for name in HOSTS]
    view = nova_objects.view(hosts, instances, server_groups=(group,))
    on = dict(zip((one.id for one in instances), places, strict=True))
    spec = nova_objects.request_spec(instances[0], instance_group=group_of(group, on))
    allowed = places[0] != dest and affinity_filter.ServerGroupAntiAffinityFilter().host_passes(
        nova_objects.host_state(view, hosts[HOSTS.index(dest)]), spec
    )
    book = ledger.Ledger(state.build(view.snapshot))
    assert book.has_room(0, HOSTS.index(dest)) == allowed
    return allowed


@nova_objects.judged(
    places=PLACES,
    policy=st.sampled_from(["affinity", "affinity", "soft-affinity"]),
    alone=st.booleans(),
    dest=st.sampled_from(HOSTS),
)
def test_affinity(places: list[str], policy: str, alone: bool, dest: str) -> bool:
    """What Nova's filter forbids is not moved at all.

    Nova sends a member to hosts of members only, its own among them.  Where another member is on
    another host, Nova would let it go there; it stays on purpose, with the rest of its group.
    """
    instances = [nova_objects.instance(on, f"i{n}") for n, on in enumerate(places)]
    members = tuple(one.id for one in (instances[:1] if alone else instances))
    group = cloud.ServerGroup("group", policy, members)
    hosts = [nova_objects.host(name) for name in HOSTS]
    view = nova_objects.view(hosts, instances, server_groups=(group,))
    on = dict(zip((one.id for one in instances), places, strict=True))
    spec = nova_objects.request_spec(instances[0], instance_group=group_of(group, on))
    allowed = places[0] != dest and affinity_filter.ServerGroupAffinityFilter().host_passes(
        nova_objects.host_state(view, hosts[HOSTS.index(dest)]), spec
    )
    start = state.build(view.snapshot)
    book = ledger.Ledger(start)
    ours = bool(start.movable[0]) and book.has_room(0, HOSTS.index(dest))
    assert allowed or not ours
    assert ours or not allowed or policy == "affinity"
    return ours

# SPDX-License-Identifier: Apache-2.0
"""As many instances of a flavor can be booted as the goal ``flavor-fit`` says fit."""

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.model.objectives import fit
from nova_rebalancer.plan import base
from nova_rebalancer.sim import books
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import scheduler
from tests import clouds
from tests.unit.path import nova_clouds

FLAVORS = {
    "small": {"resources": {"VCPU": 2, "MEMORY_MB": 3}},
    "able": {
        "resources": {"VCPU": 1, "MEMORY_MB": 2},
        "extra_specs": {"trait:CUSTOM_FAST": "required"},
    },
    "apart": {"resources": {"VCPU": 3}, "extra_specs": {"gold": "yes"}},
    "diskful": {"resources": {"VCPU": 1, "DISK_GB": 1}},
}

some_clouds = clouds.snapshots(4, 8) | st.integers(0, 2**32 - 1).map(
    lambda seed: nova_clouds.Draw(seed, 3, 5).document()
)


def furnished(made: clouds.Document) -> clouds.Document:
    """The cloud with the flavors, and hosts that differ to them."""
    hosts = made["hosts"]
    for one in hosts[::2]:
        one["traits"] = [*one.get("traits", ()), "CUSTOM_FAST"]
    gold = [one["id"] for one in hosts[1:]]
    made["aggregates"] = [
        *made.get("aggregates", ()),
        {"name": "gold", "hosts": gold, "metadata": {"gold": "yes"}},
        {"name": "theirs", "hosts": gold[1:], "metadata": {"filter_tenant_id": "p"}},
    ]
    made["flavors"] = [{"id": name, "name": name, **facts} for name, facts in FLAVORS.items()]
    return made


@pytest.mark.parametrize("planner", ["greedy", "mip"])
def test_as_many_as_predicted(planner: str) -> None:
    """After a plan is carried out just as many are booted as it predicts, under either rule."""
    counted = []

    @hypothesis.settings(max_examples=60)
    @hypothesis.given(
        some_clouds,
        st.sampled_from([*FLAVORS, "2:4"]),
        st.integers(0, 3),
        st.sampled_from(scheduler.RULES),
    )
    def law(made: clouds.Document, flavor: str, moves: int, rule: str) -> None:
        snapshot = clouds.facts_of(furnished(made))
        hypothesis.assume(any(host.usable for host in snapshot.hosts))
        options = controller.Options(
            goal="flavor-fit",
            flavors=(flavor,),
            planner=planner,
            max_migrations=moves,
            time_limit_s=None,
            work_limit=1,
        )
        try:
            plan = controller.run(snapshot, "", options, base.Watch())
        except exceptions.UsageError as error:
            assert "pool" in str(error) or "no usable host" in str(error)
            return
        one = fit.example(snapshot, flavor)
        there = books.Books(kinds.build(snapshot, others=[one]))
        kind = there.kinds.of_other[one.id]
        (before,), (after,) = (
            [part.value for part in value.parts if part.name == f"room_{flavor}"]
            for value in (plan.before, plan.after)
        )
        assert scheduler.fill(there.copy(), kind, rule) == before <= after
        for migration in plan.path.migrations:
            hop = migration.hop
            assert there.move(plan.start.instances[hop.v], hop.dest, hop.dest_cells)
        assert scheduler.fill(there, kind, rule) == after
        counted.append(after > before)

    law()
    assert any(counted)

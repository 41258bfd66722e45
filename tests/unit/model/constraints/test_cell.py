# SPDX-License-Identifier: Apache-2.0
"""Nothing leaves its Nova cell.

Nova's conductor asks the scheduler for the source's cell in ``_get_destination_cell_mapping`` of
``conductor/tasks/live_migrate.py``, which only reads its database; these are the rule's laws.
"""

import hypothesis.strategies as st

from nova_rebalancer.model import cloud
from nova_rebalancer.model.constraints import cell
from tests.unit.model.constraints import nova_objects

FACTS = st.one_of(
    st.none(),
    st.builds(
        cloud.Fact,
        st.sampled_from(["api", "operator", "operator", "inferred", "unknown"]),
        st.sampled_from([None, "cell1", "cell1", "cell2"]),
    ),
)


@nova_objects.judged(here=FACTS, there=FACTS, elsewhere=FACTS, several=st.booleans())
def test_laws(
    here: cloud.Fact | None,
    there: cloud.Fact | None,
    elsewhere: cloud.Fact | None,
    several: bool,
) -> bool:
    """Both known and the same, or no cell known of any host and nothing that shows several."""
    facts = (here, there, elsewhere)
    hosts = [nova_objects.host(name, cell=fact) for name, fact in zip("abc", facts, strict=True)]
    view = nova_objects.view(hosts, [], several_cells=several)
    known = [
        fact.value
        if fact is not None and fact.provenance in ("api", "operator") and fact.value is not None
        else None
        for fact in facts
    ]
    allowed = cell.refuses(view, hosts[0], hosts[1]) is None
    assert allowed == (cell.refuses(view, hosts[1], hosts[0]) is None)
    if None not in known[:2]:
        assert allowed == (known[0] == known[1])
    else:
        assert allowed == (known == [None] * 3 and not several)
    return allowed

# SPDX-License-Identifier: Apache-2.0
"""Hosts take instances as in Nova's filter and request filter."""

import hypothesis.strategies as st
from nova.scheduler import request_filter
from nova.scheduler.filters import compute_filter

from tests.unit.model.constraints import nova_objects


@nova_objects.judged(
    disabled=st.sampled_from([False, False, False, True]),
    reason=st.sampled_from([None, "broken", "AUTO: lost"]),
    down=st.sampled_from([False, False, False, True]),
    forced=st.sampled_from([False, False, False, True]),
    traits=st.sets(st.sampled_from(["COMPUTE_STATUS_DISABLED", "CUSTOM_A", "CUSTOM_B"])),
    lacks=st.sampled_from([None, None, None, "its traits"]),
)
def test_as_nova(
    disabled: bool,
    reason: str | None,
    down: bool,
    forced: bool,
    traits: set[str],
    lacks: str | None,
) -> bool:
    """Enabled, up, not forced down and without the trait that says disabled.

    A host that was not read whole is forbidden on purpose: what else it has is not known.
    """
    # Nova's API calls a service that is forced down "down".
    dest = nova_objects.host(
        "b",
        status="disabled" if disabled else "enabled",
        state="down" if down else "up",
        forced_down=forced,
        disabled_reason=reason,
        traits=tuple(traits),
        lacks=lacks,
    )
    one = nova_objects.instance("a")
    view = nova_objects.view([nova_objects.host("a"), dest], [one])
    spec = nova_objects.request_spec(one)
    assert request_filter.compute_status_filter(spec._context, spec)
    allowed = compute_filter.ComputeFilter().host_passes(
        nova_objects.host_state(view, dest), spec
    ) and nova_objects.passes(spec, (), dest)
    assert nova_objects.allows("usable", view, dest) == (allowed and lacks is None)
    return allowed and lacks is None

# SPDX-License-Identifier: Apache-2.0
"""Destinations can run what the source's CPU ran.

libvirt owns this rule: ``virConnectCompareCPU`` answers for a guest's CPU on a host.  It cannot be
imported and asked about hosts that are not here, so these are the laws of our own statement.
"""

from typing import Any

import hypothesis.strategies as st

from nova_rebalancer.model.constraints import cpu
from tests.unit.model.constraints import nova_objects

INFOS = st.one_of(
    st.just({}),
    *[
        st.fixed_dictionaries(
            {
                "arch": st.sampled_from(["x86_64", "x86_64", "x86_64", "aarch64"]),
                "vendor": st.sampled_from(["Intel", "Intel", "AMD"]),
                "model": st.sampled_from(["Haswell", "Haswell", "EPYC"]),
                "features": st.sets(st.sampled_from(["avx", "sse"])).map(sorted),
            },
            optional={"topology": st.just({"cores": 8})},
        )
    ]
    * 6,
)


def follows(here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether our rule lets an instance go from a CPU to another."""
    source = nova_objects.host("a", cpu_info=here)
    dest = nova_objects.host("b", cpu_info=there)
    allowed = cpu.refuses(nova_objects.view([source, dest], []), source, dest) is None
    assert allowed or cpu.key(source) != cpu.key(dest)
    return allowed


@nova_objects.judged(here=INFOS, there=INFOS, onward=INFOS, more=st.booleans())
def test_laws(
    here: dict[str, Any], there: dict[str, Any], onward: dict[str, Any], more: bool
) -> bool:
    """A CPU follows itself, whoever follows a follower follows, and both ways only the same.

    More features never forbid a destination; a CPU that is not known follows only such ones.
    """
    if more and here:
        there = {**here, "features": sorted({*here["features"], *there.get("features", ())})}
        assert follows(here, there)
    allowed = follows(here, there)
    assert follows(here, here)
    if allowed and follows(there, onward):
        assert follows(here, onward)
    if allowed and follows(there, here):
        names = ("arch", "vendor", "model", "features")
        assert [here.get(name) for name in names] == [there.get(name) for name in names]
    assert not allowed or bool(here) == bool(there)
    if allowed and here:
        lacking = {**there, "features": []}
        assert follows(here, lacking) == (not here["features"])
    return allowed

# SPDX-License-Identifier: Apache-2.0
"""How long a migration should take."""

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer.execute import patience

RATE_MIBPS, OVERHEAD_S = 1000.0, 5.0
"""What is said where nothing is known."""

SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768)


@st.composite
def clouds(draw: st.DrawFn) -> tuple[float, dict[str, float], list[patience.Seen]]:
    """Overhead, seconds per MiB of each host, and what migrations took there exactly.

    Each host sent three sizes or more: with fewer, nobody could tell its rate from the overhead.
    """
    overhead = draw(st.floats(0, 60))
    rates = draw(
        st.dictionaries(st.sampled_from("abcdef"), st.floats(20, 5000), min_size=1, max_size=6)
    )
    slowness = {host: 1.0 / mibps for host, mibps in rates.items()}
    seen = [
        (host, "z", "live", size, overhead + s_per_mib * size)
        for host, s_per_mib in slowness.items()
        for size in draw(st.lists(st.sampled_from(SIZES), min_size=3, max_size=8, unique=True))
    ]
    return overhead, slowness, draw(st.permutations(seen))


def learnt(seen: list[patience.Seen]) -> patience.Patience:
    """What is learnt of these."""
    return patience.learn(seen, RATE_MIBPS, OVERHEAD_S)


@hypothesis.given(clouds())
@hypothesis.settings(max_examples=100)
def test_fits_what_made_the_data(made):
    """Hosts of several speeds and one overhead: every size on every host is told within 2 %."""
    overhead, slowness, seen = made
    found = learnt(seen)
    for host, s_per_mib in slowness.items():
        for size in SIZES:
            real = overhead + s_per_mib * size
            assert found.predict(host, size) == pytest.approx(real, rel=0.02, abs=0.1)


@hypothesis.given(
    st.floats(0, 30), st.floats(100, 2000), st.floats(0, 5000), st.sampled_from(SIZES)
)
def test_one_odd_migration_changes_little(overhead, mibps, odd_s, size):
    """Among 14 that took what they should, one that took anything is no more than a ripple."""
    good = [("a", "z", "live", one, overhead + one / mibps) for one in (*SIZES, *SIZES)]
    found = learnt([("a", "z", "live", size, odd_s), *good])
    for one in SIZES:
        real = overhead + one / mibps
        assert found.predict("a", one) == pytest.approx(real, rel=0.02, abs=0.1)


def test_nothing_known():
    """An empty history gives what was said: 8192 MiB at 1000 MiB/s, and 5 s."""
    found = learnt([])
    assert found.predict("a", 8192) == pytest.approx(8.192 + 5.0)
    assert found.predict("a", None) == OVERHEAD_S


def test_cold_ones_tell_nothing():
    """A cold migration copies a disk, so it says nothing of a live one."""
    assert learnt([("a", "z", "cold", 1024, 900.0)]) == learnt([])


def test_unknown_memory_tells_nothing():
    """What is not known to have copied anything has no rate."""
    assert learnt([("a", "z", "live", None, 900.0), ("a", "z", "live", 0, 900.0)]) == learnt([])


def test_one_size_only():
    """While all were of one size the overhead is what was said, and the size comes out right."""
    found = learnt([("a", "z", "live", 1000, 15.0)] * 4)
    assert found.overhead_s == OVERHEAD_S
    assert found.predict("a", 1000) == pytest.approx(15.0)
    assert found.predict("a", 3000) == pytest.approx(35.0)


def test_new_hosts_are_like_the_others():
    """Of a host that has sent nothing yet the middle of all is expected."""
    seen = [
        (host, "z", "live", size, 10.0 + size / mibps)
        for host, mibps in (("a", 100.0), ("b", 200.0), ("c", 400.0))
        for size in (1000, 2000, 4000)
    ]
    assert learnt(seen).predict("new", 2000) == pytest.approx(20.0)


def test_one_migration_is_half_believed():
    """A host's first migration moves the prediction half the way from the others' rate."""
    seen = [("a", "z", "live", size, 10.0 + size / 100.0) for size in (1000, 2000, 3000, 4000)]
    found = learnt([*seen, ("b", "z", "live", 1000, 10.0 + 20.0)])
    assert found.predict("b", 1000) == pytest.approx(10.0 + 15.0)


def test_never_negative():
    """Migrations that took less than the overhead do not make others take negative time."""
    found = learnt([("a", "z", "live", 1000, 1.0), ("a", "z", "live", 1000, 2.0)])
    assert found.predict("a", 10**6) >= 0
    assert learnt([("a", "z", "live", 1000, 9.0), ("a", "z", "live", 2000, 1.0)]).overhead_s >= 0

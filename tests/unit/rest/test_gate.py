# SPDX-License-Identifier: Apache-2.0
"""The gate lets in no more than it says, halves under load, and opens again."""

import threading
import time

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from nova_rebalancer.rest import gate

QUICK_S = 0.01


def never() -> bool:
    """There is time."""
    return False


class Clock:
    """The gate's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time; it never stands still."""
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock instead of the real one."""
    made = Clock()
    monkeypatch.setattr(gate, "time", made)
    monkeypatch.setattr(gate, "LOOK_S", 0.001)
    return made


def once(one: gate.Gate, latency_s: float, refused_s: float | None = None) -> None:
    """One request, when nothing else is under way."""
    assert one.enter(never)
    one.leave("kind", latency_s, refused_s)


steps = st.lists(
    st.tuples(
        st.sampled_from(["good", "slow", "refused"]),
        st.floats(0.0, 1.5),
    ),
    max_size=60,
)


@given(st.integers(1, 16), steps)
def test_laws(most, taken):
    """Whatever happens: 1 <= limit <= most, and each second it halves once at most."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "time", clock)
        one = gate.Gate(most, 1e9)
        shrunk = -10.0
        for what, passed_s in taken:
            clock.now += passed_s
            before = one.limit
            if what == "refused":
                once(one, QUICK_S, 0.0)
            else:
                once(one, QUICK_S if what == "good" else 30.0)
            assert 1 <= one.limit <= most
            if one.limit < before:
                assert one.limit == max(1, before / 2)
                assert clock.now - shrunk > 1.0
                shrunk = clock.now
            if what == "refused" and before > 1 and clock.now - shrunk > 1.0:
                pytest.fail("a refusal a second after the last step down halves")


def test_refusals_of_one_second_halve_once(clock):
    """Eight refusals of what was under way together are one sign of load, not eight."""
    one = gate.Gate(8, 1e9)
    for _ in range(8):
        assert one.enter(never)
    for _ in range(8):
        one.leave("kind", QUICK_S, 0.0)
    assert one.limit == 4
    clock.now += 1.1
    once(one, QUICK_S, 0.0)
    assert one.limit == 2


def test_rising_latency_shrinks(clock):
    """Answers that take four times as long as they used to are a sign of load too."""
    one = gate.Gate(8, 1e9)
    for _ in range(20):
        once(one, 0.1)
    assert one.limit == 8
    for _ in range(10):
        clock.now += 0.05
        once(one, 1.0)
    assert one.limit == 4


def test_noise_does_not_shrink(clock):
    """Tenths of a second are no sign of load, however fast the best answers were."""
    one = gate.Gate(8, 1e9)
    for latency_s in [0.001] * 20 + [0.09] * 50:
        clock.now += 0.1
        once(one, latency_s)
    assert one.limit == 8


def test_slow_kinds_are_no_load(clock):
    """A listing that always takes long is compared with itself, not with quick requests."""
    one = gate.Gate(8, 1e9)
    for _ in range(20):
        clock.now += 1.0
        once(one, 0.01)
        assert one.enter(never)
        one.leave("listing", 5.0)
    assert one.limit == 8


def test_recovery(clock):
    """After the load is over the gate opens by about one for each round of good answers."""
    one = gate.Gate(8, 1e9)
    for _ in range(4):
        clock.now += 2.0
        once(one, QUICK_S, 0.0)
    assert one.limit == 1
    answers = 0
    while one.limit < 8:
        once(one, QUICK_S)
        answers += 1
    # 1 + 2 + ... + 7 answers make it grow from 1 to 8 in exact rounds.
    assert 20 <= answers <= 36


def test_wait_asked_for(clock):
    """Nobody gets in before the time the cloud asked for, nor when it is over meanwhile."""
    one = gate.Gate(4, 1e9)
    once(one, QUICK_S, 5.0)
    asked = 0

    def over() -> bool:
        nonlocal asked
        asked += 1
        clock.now += 1.0
        return asked > 3

    assert not one.enter(over)
    assert asked == 4
    clock.now += 5.0
    assert one.enter(never)


@settings(max_examples=10)
@given(st.integers(1, 6), st.integers(1, 10), st.booleans())
def test_never_more_inside_than_the_limit(most, threads, refusals):
    """With real threads there are never more inside than the limit was when they came."""
    one = gate.Gate(most, 1e9)
    lock, inside, seen = threading.Lock(), 0, []

    def work(number: int) -> None:
        nonlocal inside
        for turn in range(5):
            assert one.enter(never)
            with lock:
                inside += 1
                seen.append(inside)
            time.sleep(0.0005)
            with lock:
                inside -= 1
            refused = refusals and (number + turn) % 4 == 0
            one.leave("kind", QUICK_S, 0.0 if refused else None)

    pool = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join(10.0)
        assert not thread.is_alive()
    assert len(seen) == 5 * threads
    assert max(seen) <= most


def test_rate():
    """However many may be inside, they come no faster than the rate allows."""
    one = gate.Gate(8, 100.0)
    began = time.monotonic()
    pool = [threading.Thread(target=once, args=(one, QUICK_S)) for _ in range(20)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join(5.0)
    assert 0.19 <= time.monotonic() - began < 10.0

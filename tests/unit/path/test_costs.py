# SPDX-License-Identifier: Apache-2.0
"""What a migration costs: memory, pre-copy, learned, and an operator's own."""

import dataclasses
import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.collect import document
from nova_rebalancer.model import plan_document
from nova_rebalancer.model import precopy
from nova_rebalancer.model import state
from nova_rebalancer.path import base
from nova_rebalancer.path import learned
from nova_rebalancer.plan import base as plan_base
from tests import clouds
from tests import plugins

OPTIONS = controller.Options(fragment_cores=(clouds.CORES,), time_limit_s=None, work_limit=1)


def cost_of(made: clouds.Document, **options: object) -> tuple[base.Cost, state.PlacementState]:
    """The cost of these options for a cloud, with its arrays."""
    snapshot = clouds.facts_of(made)
    start = state.build(snapshot)
    return controller.cost_of(snapshot, start, dataclasses.replace(OPTIONS, **options)), start


def writing(mibps: float) -> dict[str, object]:
    """The measured use of an instance that writes so much."""
    return {"usage": {precopy.DIRTY: {"mean": mibps, "window_s": 300.0, "age_s": 0.0}}}


def one_instance(memory_mib: int, host: dict | None = None, **facts: object) -> clouds.Document:
    """Two hosts; on the first one instance of so much memory."""
    made = clouds.instance("i", "a", **facts)
    made["allocations"]["MEMORY_MB"] = memory_mib
    return clouds.snapshot([clouds.host("a", **(host or {})), clouds.host("b")], [made])


@hypothesis.given(
    st.integers(1, 1 << 20), st.floats(0, 900), st.floats(10, 1000), st.floats(0.001, 5)
)
@hypothesis.settings(max_examples=300)
def test_closed_form_is_the_rounds(memory: int, dirty: float, rate: float, downtime: float) -> None:
    """The closed form is what copying round after round sends, to a millionth."""
    link = precopy.Link(rate, downtime)
    found = precopy.copy(memory, dirty, link)
    rest, sent, rounds = float(memory), 0.0, 0
    while rest > rate * downtime and dirty < rate:
        sent, rounds, rest = sent + rest, rounds + 1, rest * dirty / rate
        if rounds > 100_000:
            return
    if rest > rate * downtime:
        assert found is precopy.ENDLESS
        return
    assert found.sent_mib == pytest.approx(sent + rest, rel=1e-6)
    assert found.seconds == pytest.approx(found.sent_mib / rate)
    assert found.downtime_s <= downtime * (1 + 1e-9)
    assert found.rounds == pytest.approx(rounds + 1, abs=1)


def test_worked_by_hand() -> None:
    """8000 MiB at 1000 MiB/s, 500 MiB/s written: 8000, 4000, 2000, 1000, 500 fits into 0.5 s."""
    found = precopy.copy(8000, 500, precopy.Link(1000, 0.5))
    assert (found.rounds, found.sent_mib, found.seconds) == (5, 15500, 15.5)
    assert found.downtime_s == 0.5


def test_nothing_written_is_memory() -> None:
    """An instance that writes nothing costs its memory, as the cost ``memory`` says."""
    made = one_instance(8000)
    for name in ("memory", "precopy"):
        cost, start = cost_of(made, cost=name, dirty_rate_mibps=0.0)
        assert cost.cost(start, 0) == pytest.approx(8000)
        assert cost.duration_s(start, 0) == pytest.approx(9.0)


def test_measured_use_is_the_dirty_rate() -> None:
    """What an instance was measured to write counts; the option is for the others."""
    cost, start = cost_of(one_instance(8000, **writing(500)), cost="precopy", dirty_rate_mibps=1)
    assert cost.cost(start, 0) == pytest.approx(15500)
    cost, start = cost_of(one_instance(8000), cost="precopy", dirty_rate_mibps=500.0)
    assert cost.duration_s(start, 0) == pytest.approx(16.5)


def test_slow_link_of_the_host() -> None:
    """A migration copies no faster than the link of its host: 8000 MiB at 100 MiB/s, 80 s."""
    told = {"migration_mibps": {"provenance": "operator", "value": "100"}}
    cost, start = cost_of(one_instance(8000, told), cost="precopy", dirty_rate_mibps=0.0)
    assert cost.duration_s(start, 0) == pytest.approx(81.0)


def test_never_ends() -> None:
    """Written faster than copied: it counts until Nova gives up, 800 s a GiB, and is doubted."""
    cost, start = cost_of(one_instance(8192, **writing(1000)), cost="precopy")
    assert cost.duration_s(start, 0) == pytest.approx(6401.0)
    assert "copying never ends" in cost.doubt(start, 0)
    # 8192 MiB at 999 of 1000 written take some 2,797 rounds, 7,692 s of the 6,400.
    cost, start = cost_of(one_instance(8192, **writing(999)), cost="precopy")
    assert "Nova gives up after 6400 s" in cost.doubt(start, 0)
    cost, start = cost_of(one_instance(8192, **writing(900)), cost="precopy")
    assert cost.doubt(start, 0) is None


def test_plan_says_what_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A plan that moves such an instance says so."""
    made = clouds.three_hosts()
    made["instances"][1].update(writing(2000))
    snapshot, sha256 = document.loads(clouds.as_bytes(made), "cloud.json")
    options = dataclasses.replace(OPTIONS, cost="precopy")
    plan = controller.run(snapshot, sha256, options, plan_base.Watch())
    assert [m.hop.v for m in plan.path.migrations] == [1]
    assert "j writes 2000 MiB/s of memory" in caplog.text


def test_factors_by_hand() -> None:
    """Flavor m took twice and three times as long; with the median of all, 2, that makes 2."""
    seen = [("m", 1000, 3.0), ("m", 1000, 4.0), ("x", 1000, 2.0), (None, 1000, 3.0)]
    assert learned.factors(seen, 1000.0) == {"*": 2.0, "m": 2.0, "x": 1.5}
    assert learned.factors([], 1000.0) == {}


@hypothesis.given(
    st.dictionaries(st.sampled_from("abc"), st.floats(0.2, 20), min_size=1),
    st.lists(st.integers(256, 1 << 18), min_size=40, max_size=40),
)
def test_learned_finds_what_made_the_data(real: dict[str, float], sizes: list[int]) -> None:
    """Where each flavor has one true factor, every flavor's is found, exactly."""
    seen = [(name, mib, 1 + mib * x / 1000) for name, x in real.items() for mib in sizes]
    found = learned.factors(seen, 1000.0)
    for name, factor in real.items():
        assert found[name] == pytest.approx(factor, rel=1e-3)


def test_learned_corrects_by_flavor() -> None:
    """An instance of flavor m is told by m's factor, one of another by that of all."""
    factors = {"*": 2.0, "m": 3.0}
    cost, start = cost_of(one_instance(1000, flavor="m"), cost="learned", time_factors=factors)
    assert (cost.cost(start, 0), cost.duration_s(start, 0)) == (3000, 4.0)
    cost, start = cost_of(one_instance(1000, flavor="n"), cost="learned", time_factors=factors)
    assert cost.cost(start, 0) == 2000
    cost, start = cost_of(one_instance(1000), cost="learned")
    assert cost.cost(start, 0) == 1000


OWN = """\
class Volumes:
    def __init__(self, counts):
        self.counts = counts

    def cost(self, start, v):
        return 1.0 + self.counts[v]

    def duration_s(self, start, v):
        return 100.0


def make(snapshot, start, settings):
    return Volumes([len(one.volumes) for one in snapshot.instances])
"""


@pytest.fixture
def own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution of an operator's with the cost ``volumes``, installed."""
    names = "volumes = mine:make\nbroken = nothing_here:make"
    plugins.install(tmp_path, monkeypatch, "nova_rebalancer.costs", names, OWN)


def test_operators_own(own: None) -> None:
    """An entry point of another distribution is found by its name, and shapes the plan."""
    made = clouds.three_hosts()
    snapshot, sha256 = document.loads(clouds.as_bytes(made), "cloud.json")
    options = dataclasses.replace(OPTIONS, cost="volumes")
    plan = controller.run(snapshot, sha256, options, plan_base.Watch())
    assert [m.end_s for m in plan.path.migrations] == [100.0]
    assert json.loads(plan_document.dumps(dict(plan.options)))["cost"] == "volumes"


@pytest.mark.parametrize(("cost", "took_s"), [("-1.0", "1.0"), ("float('nan')", "1"), ("1", "0")])
def test_no_cost_at_all(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, cost: str, took_s: str
) -> None:
    """A plug-in that says what is no cost, or no time, is named with what it says of whom."""
    code = OWN.replace("1.0 + self.counts[v]", cost).replace("100.0", took_s)
    plugins.install(tmp_path, monkeypatch, "nova_rebalancer.costs", "volumes = mine:make", code)
    with pytest.raises(exceptions.UsageError, match=r"--cost volumes: .*migration of i costs"):
        cost_of(clouds.three_hosts(), cost="volumes")


def test_no_such_cost(own: None) -> None:
    """A name that is not there, or does not load, stops the start and says what there is."""
    with pytest.raises(exceptions.UsageError, match=r'costs: no "money"; there are: .*volumes'):
        cost_of(clouds.three_hosts(), cost="money")
    with pytest.raises(exceptions.UsageError, match=r"plug-in broken \(nothing_here:make\)"):
        cost_of(clouds.three_hosts(), cost="broken")

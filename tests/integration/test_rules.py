# SPDX-License-Identifier: Apache-2.0
"""Nova does what the rules predict; ``benchmarks/constraints_cloud.py`` asks for far more moves."""

import json
import pathlib
import sys

import pytest

from tests.cloud import facts
from tests.cloud import settings

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import constraints_cloud


@pytest.fixture
def prober(cloud: settings.Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """One who asks for moves, with the operator's facts."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    file = tmp_path / "facts.json"
    file.write_text(json.dumps(facts.document(cloud)))
    return constraints_cloud.Prober(cloud, str(file), seed=1)


def test_nova_accepts_what_no_rule_forbids(prober: constraints_cloud.Prober) -> None:
    """What is called migratable migrates to a host drawn from the mask, to the predicted cells."""
    done, _ = prober.migratable(batches=6)
    assert [one for one in done if not one.accepted or one.cells != one.move.cells] == []
    assert len(done) >= 8


def test_nova_refuses_what_a_rule_forbids(prober: constraints_cloud.Prober) -> None:
    """What one rule alone forbids Nova refuses, but where the rule is stricter on purpose."""
    done = prober.forbidden(least=10, each=1)
    assert len({one.move.rule for one in done}) >= 5
    taken = {one.move.rule for one in done if one.accepted}
    assert taken <= constraints_cloud.STRICTER.keys()


def test_without_facts_no_topology_moves(
    cloud: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody tells the hosts' NUMA cells, no instance with a topology may be moved."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    snapshot = constraints_cloud.Prober(cloud, "", seed=1).snapshot()
    assert any(one.numa for one in snapshot.instances)
    assert constraints_cloud.without_facts(snapshot) == 0

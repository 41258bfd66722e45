# SPDX-License-Identifier: Apache-2.0
"""The conflicts that the benchmarks draw: nothing is broken at first, and they repeat."""

import importlib.util
import pathlib
from types import ModuleType

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer.collect import document
from nova_rebalancer.model import state
from tests import clouds

PATH = pathlib.Path(__file__).parents[2] / "benchmarks" / "instances.py"


@pytest.fixture(scope="module")
def instances() -> ModuleType:
    """The generator, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("instances", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@hypothesis.given(clouds.snapshots(4, 8), st.integers(0, 4), st.integers(0, 2**32))
def test_drawn(instances: ModuleType, made: clouds.Document, level: int, seed: int) -> None:
    """Each instance has as many partners as it draws, or all on other hosts; none on its own."""
    pairs = instances.conflicts(made, level, seed)
    assert instances.conflicts(made, level, seed) == pairs
    made["conflicts"] = [list(pair) for pair in pairs]
    assert document.problems(made) == []
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    host_of = {one["id"]: one["host"] for one in made["instances"]}
    assert all(host_of[one] != host_of[other] for one, other in pairs)
    start = state.build(document.snapshot(made, "test"))
    for v, name in enumerate(start.instances):
        others = sum(host != host_of[name] for host in host_of.values())
        assert min(level, others) <= start.conflicts.of(v).size <= others

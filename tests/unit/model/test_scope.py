# SPDX-License-Identifier: Apache-2.0
"""Which part of a cloud a plan may touch."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import scope
from nova_rebalancer.model import state
from nova_rebalancer.plan import base


def host(name: str, az: str, cell: str | None = None) -> cloud.Host:
    """A host of 16 cores."""
    fact = None if cell is None else cloud.Fact("operator", cell)
    inventories = {"VCPU": cloud.Inventory(16)}
    return cloud.Host(f"id-{name}", name, inventories, az=az, cell=fact)


def instance(name: str, where: str, cores: int, project: str = "red") -> cloud.Instance:
    """An instance of some cores."""
    return cloud.Instance(name, f"id-{where}", {"VCPU": cores}, project=project)


FOUR = cloud.Snapshot(
    cloud="four",
    taken_at="2026-01-01T00:00:00Z",
    numa_choice="nova",
    hosts=(
        host("a", "z1", "c1"),
        host("b", "z1", "c1"),
        host("c", "z2", "c2"),
        host("d", "z2", "c2"),
    ),
    instances=(
        instance("a1", "a", 8),
        instance("b1", "b", 8, "blue"),
        instance("c1", "c", 8),
        instance("d1", "d", 8),
    ),
    aggregates=(cloud.Aggregate("rack", ("id-a", "id-b"), {}),),
)
"""Half full; in each zone one instance could go to the other host and leave its own empty."""


def moved(texts: list[str]) -> set[str]:
    """Instances the best plan within a scope moves."""
    options = controller.Options(planner="greedy", scope=tuple(texts))
    made = controller.run(FOUR, "0" * 64, options, base.Watch())
    return {FOUR.instances[m.hop.v].id[0] for m in made.path.migrations}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], {"ab", "cd"}),
        (["az=z1"], {"ab"}),
        (["aggregate=rack"], {"ab"}),
        (["cell=c1"], {"ab"}),
        (["host=c", "host=d"], {"cd"}),
        (["az=z1", "az=z2", "host=c", "host=d"], {"cd"}),
        (["host=c"], set()),
    ],
)
def test_hosts(texts, expected):
    """Names of one kind are alternatives, kinds must all hold; what moves stays inside."""
    assert {pair for pair in ("ab", "cd") if moved(texts) & set(pair)} == expected


def test_project():
    """Only instances of the project move; the others stay as load."""
    assert moved(["project=blue"]) == {"b"}


def test_rates_are_the_whole_clouds():
    """A scope changes neither capacity nor use: only what may move and where to."""
    narrowed = state.build(scope.parse(["az=z1"]).narrow(FOUR))
    whole = state.build(FOUR)
    assert (narrowed.capacity == whole.capacity).all()
    assert (narrowed.used() == whole.used()).all()
    assert (narrowed.usable == whole.usable).all()
    assert {why.reason.code for why in narrowed.excluded.values()} == {"out_of_scope"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("az=z3", "no such az; there are: z1, z2"),
        ("host=x", "no such host; there are: a, b, c, d"),
        ("project=x", "there are: blue, red"),
        ("rack=x", "KIND one of aggregate, az, cell, host, project"),
        ("az", "write KIND=NAME"),
        ("az=", "write KIND=NAME"),
    ],
)
def test_names_that_are_not_there(text, said):
    """A name that is not there is a usage error which says what there is."""
    with pytest.raises(exceptions.UsageError, match=said):
        scope.parse([text]).narrow(FOUR)


def test_unknown_cells():
    """Where nobody told the cells, the error says who could."""
    hosts = tuple(dataclasses.replace(one, cell=None) for one in FOUR.hosts)
    with pytest.raises(exceptions.UsageError, match="a facts file can"):
        scope.parse(["cell=c1"]).narrow(dataclasses.replace(FOUR, hosts=hosts))


def test_nothing_in_it():
    """Kinds that exclude each other leave no host, which is an error."""
    with pytest.raises(exceptions.UsageError, match="no host is in it"):
        scope.parse(["az=z1", "host=c"]).narrow(FOUR)


@given(st.lists(st.tuples(st.sampled_from(scope.KINDS), st.text(min_size=1))))
def test_round_trip(names):
    """A scope written as texts is the same scope when read, in any order."""
    parsed = scope.parse([f"{kind}={name}" for kind, name in names])
    assert scope.parse(reversed(parsed.texts())) == parsed

# SPDX-License-Identifier: Apache-2.0
"""How many migrations may be in flight."""

import collections
import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer.execute import gate
from nova_rebalancer.model import cloud
from nova_rebalancer.model import links
from nova_rebalancer.store import records
from tests.unit.execute import entries

HOSTS = "abcd"
ZONES = {"a": "east", "b": "east", "c": "west", "d": None}
LINKS = {"a": "one", "b": "two", "c": "two", "d": None}
GROUPS = {
    "soft": ("soft-anti-affinity", range(6)),
    "hard": ("anti-affinity", range(4, 8)),
    "near": ("affinity", range(10, 12)),
}


def facts() -> cloud.Snapshot:
    """Twelve instances of three projects on four hosts, with zones, links and groups."""
    return cloud.Snapshot(
        cloud="small",
        taken_at="2026-01-01T00:00:00Z",
        numa_choice="nova",
        hosts=tuple(
            cloud.Host(
                f"id-{name}",
                name,
                {},
                az=ZONES[name],
                migration_link=cloud.Fact("operator", LINKS[name]),
            )
            for name in HOSTS
        ),
        instances=tuple(
            cloud.Instance(f"v{n}", f"id-{HOSTS[n % 4]}", {}, project=f"p{n % 3}")
            for n in range(12)
        ),
        server_groups=tuple(
            cloud.ServerGroup(name, policy, tuple(f"v{n}" for n in members))
            for name, (policy, members) in GROUPS.items()
        ),
    )


def move(n: int, dest: str) -> records.Entry:
    """A migration of instance n; not to its own host."""
    source = HOSTS[n % 4]
    if dest == source:
        dest = HOSTS[(n + 1) % 4]
    return entries.entry(f"v{n}", source, dest, id=n, key=f"m{n}")


MOVES = st.permutations(range(12)).flatmap(
    lambda order: st.tuples(*(st.builds(move, st.just(n), st.sampled_from(HOSTS)) for n in order))
)
SOME = st.one_of(st.none(), st.integers(1, 4))
LIMITS = st.builds(
    gate.Limits,
    total=st.integers(1, 8),
    per_source=st.integers(1, 3),
    per_dest=st.integers(1, 3),
    per_zone=SOME,
    per_project=SOME,
    per_link=SOME,
    per_hour=SOME,
    project_share=st.floats(0, 1),
    group_share=st.floats(0, 1),
    links=st.lists(
        st.lists(st.sampled_from(("network=1", "network:two=2", "network:one=3")), max_size=2),
        max_size=2,
    ).map(lambda sets: tuple(map(tuple, sets))),
)


def admitted(limits: gate.Limits, wanted: tuple[records.Entry, ...]) -> list[records.Entry]:
    """Those of ``wanted`` that the gate lets through, one after another."""
    one = gate.Gate(limits, facts())
    flying: list[records.Entry] = []
    for entry in wanted:
        if one.blocks(entry, flying, 0) is None:
            flying.append(entry)
    return flying


def most(counts: collections.Counter) -> int:
    """The greatest count, of what has a name."""
    return max((count for name, count in counts.items() if name is not None), default=0)


@hypothesis.given(LIMITS, MOVES)
@hypothesis.settings(max_examples=100)
def test_never_more_than_the_limits(limits, wanted):
    """Whatever is asked for in whatever order, no limit is exceeded."""
    flying = admitted(limits, wanted)
    assert len(flying) <= limits.total
    assert most(collections.Counter(one.source for one in flying)) <= limits.per_source
    assert most(collections.Counter(one.dest for one in flying)) <= limits.per_dest
    ends = [{one.source, one.dest} for one in flying]
    for names, limit in ((ZONES, limits.per_zone), (LINKS, limits.per_link)):
        counts = collections.Counter(
            name for pair in ends for name in {names[host] for host in pair}
        )
        assert limit is None or most(counts) <= limit
    for said in limits.links:
        for link in links.of(said, facts(), limits.rate_mibps):
            uses = [link.carries(HOSTS.index(one.source), HOSTS.index(one.dest)) for one in flying]
            assert sum(uses) <= link.limit
    project = {one.id: one.project for one in facts().instances}
    counts = collections.Counter(project[one.instance] for one in flying)
    # Each project has four instances, and one always may.
    assert most(counts) <= max(1, int(4 * limits.project_share))
    assert limits.per_project is None or most(counts) <= limits.per_project
    moving = {one.instance for one in flying}
    for policy, members in GROUPS.values():
        together = len(moving & {f"v{n}" for n in members})
        share = max(1, int(len(members) * limits.group_share))
        assert together <= (share if policy == "soft-anti-affinity" else 1)


@hypothesis.given(LIMITS, MOVES)
@hypothesis.settings(max_examples=50)
def test_one_always_may(limits, wanted):
    """However small the limits are, what has the cloud for itself may start."""
    for entry in wanted:
        assert gate.Gate(limits, facts()).blocks(entry, (), 0) is None


@hypothesis.given(LIMITS, MOVES)
@hypothesis.settings(max_examples=50)
def test_nothing_is_held_back_without_need(limits, wanted):
    """What is refused would exceed a limit: with none of these set it may start."""
    one = gate.Gate(limits, facts())
    free = gate.Gate(
        gate.Limits(total=99, per_source=99, per_dest=99),
        dataclasses.replace(facts(), server_groups=()),
    )
    for n, entry in enumerate(wanted):
        assert free.blocks(entry, wanted[:n], 10**6) is None
        if one.blocks(entry, wanted[:n], 0) is None:
            assert one.blocks(entry, (), 0) is None


@pytest.mark.parametrize(
    ("limits", "flying", "asked", "text"),
    [
        ({"total": 1}, move(0, "b"), move(2, "d"), "1 in flight: total None"),
        ({"per_source": 1}, move(0, "b"), move(8, "d"), "1 in flight: source a"),
        ({"per_dest": 1}, move(0, "b"), move(2, "b"), "1 in flight: dest b"),
        ({"per_zone": 1}, move(0, "c"), move(1, "d"), "1 in flight: zone east"),
        ({"per_link": 1}, move(1, "d"), move(2, "a"), "1 in flight: link two"),
        ({"links": (("network=1",),)}, move(1, "d"), move(2, "a"), "1 in flight: network:two"),
        (
            {"links": ((), ("network:two=1",))},
            move(1, "c"),
            move(2, "d"),
            "1 in flight: network:two",
        ),
        ({"per_project": 1}, move(0, "b"), move(3, "c"), "1 in flight: project p0"),
        ({"project_share": 0.34}, move(0, "b"), move(3, "c"), "1 in flight: project p0"),
        ({"group_share": 0.34}, move(0, "b"), move(2, "d"), None),
        ({"group_share": 0.2}, move(0, "b"), move(2, "d"), "1 in flight: group soft"),
        ({}, move(6, "d"), move(7, "c"), "1 in flight: group hard"),
        ({}, move(10, "d"), move(11, "c"), "1 in flight: group near"),
    ],
)
def test_says_what_is_full(limits, flying, asked, text):
    """Each limit works by itself, and the reason names it."""
    wide = {"total": 9, "per_source": 9, "per_dest": 9}
    one = gate.Gate(gate.Limits(**{**wide, **limits}), facts())
    assert one.blocks(asked, [flying], 0) == text


def test_one_zone_counts_once():
    """A migration inside of a zone, or of a link, takes one place of it, not two."""
    one = gate.Gate(gate.Limits(per_source=9, per_zone=2, per_link=2), facts())
    assert one.blocks(move(4, "b"), [move(0, "b")], 0) == "1 in flight: dest b"
    assert one.blocks(move(5, "a"), [move(0, "b")], 0) is None
    assert one.blocks(move(2, "b"), [move(1, "c")], 0) is None


def test_an_instance_moves_once_at_a_time():
    """A second migration of what is in flight waits, whatever the limits."""
    first = move(0, "b")
    again = dataclasses.replace(first, id=99, key="m99", source="b", dest="c")
    one = gate.Gate(gate.Limits(), facts())
    assert one.blocks(again, [first], 0) == "v0 is in flight already"


def test_per_hour():
    """What was asked for within an hour counts, in flight or not."""
    one = gate.Gate(gate.Limits(per_hour=5), facts())
    assert one.blocks(move(0, "b"), (), 4) is None
    assert one.blocks(move(0, "b"), (), 5) == "5 migrations were asked for within an hour"


def test_hosts_nobody_knows():
    """What came after the facts were read has no zone, link or project that could be full."""
    one = gate.Gate(gate.Limits(per_source=9, per_zone=1, per_link=1, per_project=1), facts())
    new = entries.entry("new", "x", "y")
    assert one.blocks(new, [entries.entry("newer", "x", "z")], 0) is None

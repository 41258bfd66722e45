# SPDX-License-Identifier: Apache-2.0
"""What migrations share on their way, as an operator writes it."""

import dataclasses

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud
from nova_rebalancer.model import links
from tests import clouds

RATE = 250.0


def facts() -> cloud.Snapshot:
    """a and b in rack r1 on link slow, c in r2 on link fast, d in no rack; b and d are gpu."""

    def told(value: str) -> dict[str, str]:
        return {"provenance": "operator", "value": value}

    def host(name: str, rack: str, link: str, mibps: str) -> clouds.Document:
        return clouds.host(
            name, rack=told(rack), migration_link=told(link), migration_mibps=told(mibps)
        )

    made = clouds.snapshot(
        [
            host("a", "r1", "slow", "600"),
            host("b", "r1", "slow", "500"),
            host("c", "r2", "fast", "1500"),
            clouds.host("d"),
        ],
        [],
        aggregates=[{"name": "gpu", "hosts": ["b", "d"], "metadata": {}}],
    )
    return clouds.facts_of(made)


def limits(*texts: str) -> dict[str, tuple[str, int, bool]]:
    """The links by name: their hosts, their limit, and whether they are used inside."""
    hosts = "abcd"
    return {
        one.name: ("".join(hosts[h] for h in sorted(one.hosts)), one.limit, one.inside)
        for one in links.of(texts, facts(), RATE)
    }


def test_all_of_a_kind() -> None:
    """Each rack, or each migration link; a host that says neither shares nothing."""
    assert limits("uplink=2") == {"uplink:r1": ("ab", 2, False), "uplink:r2": ("c", 2, False)}
    assert limits("network=3") == {"network:fast": ("c", 3, True), "network:slow": ("ab", 3, True)}
    assert limits() == {}


def test_one_by_its_name() -> None:
    """A rack or a link, else a host aggregate."""
    assert limits("uplink:r1=1") == {"uplink:r1": ("ab", 1, False)}
    assert limits("network:gpu=1") == {"network:gpu": ("bd", 1, True)}


def test_what_counts() -> None:
    """A name counts before a kind, wherever it stands; of two of one kind the last."""
    found = limits("uplink:r1=1", "uplink=2", "uplink=3")
    assert {name: one[1] for name, one in found.items()} == {"uplink:r1": 1, "uplink:r2": 3}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("uplink:r1=1000MiB/s", 4),
        ("uplink:r1=999MiB/s", 3),
        ("uplink:r1=1MiB/s", 1),
        ("network:fast=told", 6),
        # Hosts of one link that say different things: the least is sure.
        ("network:slow=told", 2),
    ],
)
def test_bandwidth(text: str, count: int) -> None:
    """What a link carries is as many migrations as fit into it at 250 MiB/s, at least one."""
    ((_, limit, _),) = limits(text).values()
    assert limit == count


def test_told_by_nobody() -> None:
    """Where the facts say nothing of what a link carries, nothing is limited."""
    assert limits("network:gpu=told") == {"network:gpu": ("bd", 2, True)}
    bare = clouds.facts_of(clouds.three_hosts())
    group = cloud.Aggregate("g", ("a",), {})
    bare = dataclasses.replace(bare, aggregates=(group,))
    assert links.of(["uplink:g=told"], bare, RATE) == ()


def test_who_uses_it() -> None:
    """An uplink is used by what leaves or enters, a network by what is inside, too."""
    (uplink,) = links.of(["uplink:r1=1"], facts(), RATE)
    (network,) = links.of(["network:slow=1"], facts(), RATE)
    inside, out, elsewhere = (0, 1), (0, 2), (3, 2)
    assert [uplink.carries(*ends) for ends in (inside, out, elsewhere)] == [False, True, False]
    assert [network.carries(*ends) for ends in (inside, out, elsewhere)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("uplink", "write uplink=LIMIT or network=LIMIT"),
        ("cable=1", "write uplink=LIMIT or network=LIMIT"),
        ("uplink:=1", "write uplink=LIMIT or network=LIMIT"),
        ("uplink=0", "a whole number of at least 1"),
        ("uplink=1.5", "a whole number of at least 1"),
        ("uplink=fastMiB/s", "a whole number of at least 1"),
        ("uplink=-1MiB/s", "a whole number of at least 1"),
        ("uplink=nanMiB/s", "a whole number of at least 1"),
        ("uplink:r9=1", "no rack and no aggregate r9; there are: gpu, r1, r2"),
        ("network:r1=1", "no migration link and no aggregate r1; there are: fast, gpu, slow"),
    ],
)
def test_wrong(text: str, says: str) -> None:
    """What cannot be meant is named with what can."""
    with pytest.raises(exceptions.UsageError, match=f"^--link {text}: .*") as caught:
        links.of([text], facts(), RATE)
    assert says in str(caught.value)


def test_nobody_knows() -> None:
    """A kind that no host says anything of is an error, not no limit."""
    with pytest.raises(exceptions.UsageError, match=r"the rack of no host is known \(a facts file"):
        links.of(["uplink=2"], clouds.facts_of(clouds.three_hosts()), RATE)

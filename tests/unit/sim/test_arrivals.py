# SPDX-License-Identifier: Apache-2.0
"""Arrivals: made up from what is there, or read from a file."""

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import trace
from tests import clouds

DAY_S = arrivals.DAY_S
FIVE_DAYS = arrivals.Lifetimes(5 * DAY_S)
HEAD = "at_s,cores,memory_mib,lifetime_s"


def mean(values: list[float]) -> float:
    """Their mean."""
    return sum(values) / len(values)


@pytest.mark.parametrize("heavy", [False, True])
def test_lifetimes_have_the_mean_they_are_asked_for(heavy):
    """The mean over equal shares of the distribution is the mean; most of it is below."""
    lifetimes = arrivals.Lifetimes(1.0, heavy)
    shares = [(k + 0.5) / 100_000 for k in range(100_000)]
    drawn = [lifetimes.draw_s(share) for share in shares]
    assert mean(drawn) == pytest.approx(1.0, rel=0.02)
    assert drawn[50_000] == pytest.approx(0.479 if heavy else 0.693, rel=0.01)


@pytest.mark.parametrize("heavy", [False, True])
def test_what_is_left_of_a_lifetime(heavy):
    """An instance seen at any moment lives on longer than t with the share of long lives.

    The chance is the integral of (1 - F) from t on, over the mean: here from the quantiles.
    """
    lifetimes = arrivals.Lifetimes(1.0, heavy)
    shares = [(k + 0.5) / 100_000 for k in range(100_000)]
    drawn = [lifetimes.draw_s(share) for share in shares]
    for share in (0.1, 0.5, 0.9):
        left = lifetimes.left_s(share)
        beyond = mean([max(0.0, one - left) for one in drawn])
        assert beyond == pytest.approx(1 - share, rel=0.1)


@pytest.mark.parametrize(("seed", "load"), [(0, 0.3), (1, 0.9), (2, 2.0)])
def test_the_load_is_what_was_asked_for(seed, load):
    """Over many days, cores times lifetime per second is the load times the 24 cores there are."""
    there = kinds.build(clouds.facts_of(clouds.three_hosts()))
    lifetimes = arrivals.Lifetimes(DAY_S, heavy=False)
    story = arrivals.generate(there, 400, load, lifetimes, seed)
    offered = sum(there.cores[boot.kind] * boot.lifetime_s for boot in story.boots)
    assert offered / (400 * DAY_S) == pytest.approx(24 * load, rel=0.15)
    assert [boot.at_s for boot in story.boots] == sorted(boot.at_s for boot in story.boots)


def test_the_number_of_boots_that_is_refused():
    """What is expected is what is made up, and more than there is memory for is not begun."""
    there = kinds.build(clouds.facts_of(clouds.three_hosts()))
    cores = sum(there.cores) / len(there.cores)
    minute = arrivals.Lifetimes(60.0)
    most_days = arrivals.MOST_BOOTS * 60.0 * cores / (24 * DAY_S)
    with pytest.raises(exceptions.UsageError, match=r"about 5.1e\+06 boots, .* longer --lifetime"):
        arrivals.generate(there, 1.02 * most_days, 1.0, minute, 0)
    made = arrivals.generate(there, most_days / 500, 1.0, minute, 0)
    assert len(made.boots) == pytest.approx(arrivals.MOST_BOOTS / 500, rel=0.05)


def test_another_seed_is_another_story():
    """The same seed gives the same boots and departures, another one others."""
    there = kinds.build(clouds.facts_of(clouds.three_hosts()))
    one, same, other = (arrivals.generate(there, 30, 0.9, FIVE_DAYS, seed) for seed in (1, 1, 2))
    assert one == same
    assert one.boots != other.boots
    assert one.ends_s != other.ends_s


def test_groups_are_booted_whole():
    """The like of a group is a new group of as many members, booted and deleted together."""
    there = kinds.build(clouds.facts_of(clouds.anti_affinity_triple()))
    story = arrivals.generate(there, 30, 0.9, FIVE_DAYS, 0)
    assert len(story.boots) % 3 == 0
    for k in range(0, len(story.boots), 3):
        trio = story.boots[k : k + 3]
        assert len({(one.at_s, one.lifetime_s, one.group) for one in trio}) == 1
        assert trio[0].group.policy == "anti-affinity"
    assert len({boot.group.id for boot in story.boots}) == len(story.boots) // 3


def test_a_cloud_without_instances_says_so():
    """Nothing is there that arrivals could be like."""
    there = kinds.build(clouds.facts_of(clouds.snapshot([clouds.host("a")], [])))
    with pytest.raises(exceptions.InputError, match="no instances with cores to make up"):
        arrivals.generate(there, 1, 0.9, FIVE_DAYS, 0)


def test_a_cloud_without_hosts_says_so():
    """Nothing can be booted where no host is enabled and up."""
    down = clouds.snapshot([clouds.host("a", state="down")], [])
    for made in (clouds.empty(), down):
        with pytest.raises(exceptions.InputError, match="no host that is enabled and up"):
            kinds.build(clouds.facts_of(made))


def read(*lines: str, head: str = HEAD) -> list[trace.Row]:
    """Read a file of these lines."""
    return trace.read("\n".join((head, *lines)).encode(), "boots.csv")


def test_a_trace_is_read():
    """Rows in any order, times as numbers; memory, cells and groups make kinds and groups."""
    rows = read(
        "60,4,2048,30,2,db,x", "0,2,1024,,,,single", head=f"{HEAD},guest_cells,group,instance"
    )
    assert [row.at_s for row in rows] == [0.0, 60.0]
    assert rows[0] == trace.Row(0.0, kinds.Size(2, 1024), None, "single", None, "boots.csv: line 3")
    assert rows[1].size.name == "4c-2g-2n"
    there = kinds.build(clouds.facts_of(clouds.numa_doubles()), [row.size for row in rows])
    story = trace.story(rows, there, FIVE_DAYS, 0)
    assert story.boots[1].group.policy == "anti-affinity"
    example = there.examples[story.boots[1].kind]
    assert example.allocations == {"VCPU": 4, "MEMORY_MB": 2048}
    assert [guest.resources["VCPU"] for guest in example.numa] == [2, 2]


def test_a_resize_of_nobody_is_refused():
    """Who is resized is in the snapshot or was booted before."""
    head = f"{HEAD},instance"
    there = clouds.facts_of(clouds.three_hosts())
    known = there.instances[0].id
    right = read("1,2,1024,60,new", "2,4,1024,,new", f"3,4,1024,,{known}", head=head)
    story = trace.story(right, kinds.build(there, [row.size for row in right]), FIVE_DAYS, 0)
    assert [boot.lifetime_s for boot in story.boots] == [60, None, None]
    for lines in (["1,2,1024,60,new", "2,4,1024,,nwe"], ["2,2,1024,60,nwe", "1,4,1024,,nwe"]):
        rows = read(*lines, head=head)
        with pytest.raises(exceptions.InputError, match=r"boots.csv: line 3: .* resizes nwe, and"):
            trace.story(rows, kinds.build(there, [row.size for row in rows]), FIVE_DAYS, 0)


@pytest.mark.parametrize(
    ("lines", "head", "why"),
    [
        ([], "at_s,cores,lifetime_s", "column memory_mib is missing"),
        ([], f"{HEAD},colour", "column 'colour' is not known"),
        ([], HEAD, "it has no arrivals"),
        (["x,1,1,1"], HEAD, "line 2: at_s 'x' is not a number of seconds"),
        (["1,1,1,1", "1,-1,1,1"], HEAD, "line 3: cores '-1' is not a whole number"),
        (["1,1,nan,1"], HEAD, "memory_mib 'nan' is not a whole number"),
        (["1,1,1,inf"], HEAD, "lifetime_s 'inf' is not a number"),
        (["1,1,1,"], HEAD, "lifetime_s is empty"),
        (["1,3,1024,1,2"], f"{HEAD},guest_cells", "cannot be shared evenly by 2 guest cells"),
        (["1"], HEAD, "lifetime_s is empty"),
    ],
)
def test_a_bad_trace_is_refused(lines, head, why):
    """The error names the file, the line, and the value."""
    with pytest.raises(exceptions.InputError, match=f"boots.csv: .*{why}"):
        read(*lines, head=head)


def test_a_file_that_is_no_text_is_refused():
    """Such as a compressed one."""
    with pytest.raises(exceptions.InputError, match="not a text file"):
        trace.read(b"\x1f\x8b\xff", "boots.csv")


def test_guest_cells_need_a_planner_that_chooses():
    """On a live cloud Nova chooses cells by extra specs, which a trace does not have."""
    facts = clouds.facts_of(clouds.snapshot([clouds.host("a")], [], numa_choice="nova"))
    with pytest.raises(exceptions.InputError, match="leave guest_cells empty"):
        kinds.build(facts, [kinds.Size(2, 1024, 1)])

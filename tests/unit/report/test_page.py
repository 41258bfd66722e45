# SPDX-License-Identifier: Apache-2.0
"""The page about a plan: it holds what the document says, and nothing lies on anything else."""

import html.parser
import itertools
import random
import re
from typing import Any
import xml.etree.ElementTree as ET

import hypothesis
import hypothesis.strategies as st
import pytest

from nova_rebalancer.report import gantt
from nova_rebalancer.report import page
from nova_rebalancer.report import words

NASTY = ("<script>alert(1)</script>", 'a"b', "x'y&z", "ヴィーナス-01", "h" * 300, "]]>", "h1", "h2")


def migrations(seed: int, count: int) -> list[dict[str, Any]]:
    """Migrations between hosts with any names, one out and one in at a time, some waiting."""
    rng = random.Random(seed)
    hosts = [*NASTY, *(f"compute-{k}" for k in range(rng.randint(1, 30)))]
    free: dict[tuple[str, bool], float] = {}
    made: list[dict[str, Any]] = []
    for k in range(count):
        source, dest = rng.sample(hosts, 2)
        leaving = [one for one in made if one["source"] == dest]
        waits = rng.sample(leaving, min(len(leaving), rng.randint(0, 2)))
        start = max(
            [free.get((source, True), 0), free.get((dest, False), 0), *(m["end_s"] for m in waits)]
        )
        end = start + rng.choice([0.001, 1, 4, 33, 66, 500])
        free[source, True] = free[dest, False] = end
        made.append(
            {
                "id": f"m{k + 1}",
                "instance": rng.choice(NASTY),
                "source": source,
                "dest": dest,
                "source_numa": rng.choice([None, [0], [None, 1]]),
                "dest_numa": None,
                "role": rng.choice(["direct", "bypass"]),
                "method": "live",
                "wave": 1 + max((one["wave"] for one in waits), default=0),
                "depends_on": [one["id"] for one in waits],
                "start_s": start,
                "end_s": end,
                "memory_mib": rng.choice([None, 512, 65536]),
                "reason": {"code": "improves_goal", "params": {}, "text": rng.choice(NASTY)},
            }
        )
    return made


def drawn(made: list[dict[str, Any]]) -> ET.Element:
    """The chart as a tree of elements; it is sound XML."""
    return ET.fromstring(gantt.svg(made))


def boxes(chart: ET.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each bar."""
    found = []
    for group in chart.iter("g"):
        rect = group.find("rect")
        assert rect is not None
        x, y, width, height = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


CASES = st.builds(migrations, st.integers(0, 2**32), st.integers(1, 60))


@hypothesis.given(CASES)
@hypothesis.settings(max_examples=40)
def test_everything_is_there(made: list[dict[str, Any]]) -> None:
    """Each migration has a bar where it leaves and one where it comes, each wait an arrow."""
    chart = drawn(made)
    titles = [group.findtext("title", "") for group in chart.iter("g")]
    for one in made:
        assert sum(title.startswith(f"{one['id']}: {one['instance']} ") for title in titles) == 2
    arrows = [one for one in chart.iter("path") if one.get("class") == "waits"]
    assert len(arrows) == sum(len(one["depends_on"]) for one in made)
    hosts = [one.findtext("title") for one in chart.iter("text") if one.get("class") == "host"]
    ends = {one[end] for one in made for end in ("source", "dest")}
    assert hosts == sorted(ends, key=words.natural)


@hypothesis.given(CASES)
@hypothesis.settings(max_examples=40)
def test_nothing_lies_on_anything(made: list[dict[str, Any]]) -> None:
    """Bars and texts have room of their own, inside of the picture.

    A bar that would be thinner than two pixels is that thick all the same, and so may touch the
    next one.
    """
    chart = drawn(made)
    bars = sorted(boxes(chart), key=lambda box: (box[1], box[0]))
    for (_, top, right, bottom), (left, top_2, _, _) in itertools.pairwise(bars):
        assert top_2 >= bottom or (top_2 == top and left >= right - 2.1)
    height = float(chart.get("height", ""))
    assert all(gantt.LEFT <= box[0] and box[2] <= gantt.WIDTH and box[3] <= height for box in bars)
    labels = [one for one in chart.iter("text") if one.get("class") == "host"]
    tops = [float(one.get("y", "")) for one in labels]
    assert all(b - a >= 12 for a, b in itertools.pairwise(tops))
    for one in labels:
        assert words.columns(one.text or "") * gantt.CHARACTER <= gantt.LEFT - 8
    times = [one for one in chart.iter("text") if one.get("class") == "time"]
    ends = [float(one.get("x", "")) for one in times]
    assert len(times) <= gantt.TICKS + 1
    assert all(b - a >= 12 * gantt.SMALL for a, b in itertools.pairwise(ends))
    for one in chart.iter("text"):
        if (one.get("class") or "").startswith("id"):
            x, width = float(one.get("x", "")), len(one.text or "") * gantt.SMALL
            assert any(box[0] <= x - width / 2 and x + width / 2 <= box[2] + 1 for box in bars)


class Texts(html.parser.HTMLParser):
    """The names of the tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [f"{key}={value}" for key, value in attrs if key in ("src", "href", "on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def plan(made: list[dict[str, Any]]) -> dict[str, Any]:
    """As much of a plan document as the page reads."""
    return {
        "id": NASTY[0],
        "cloud": NASTY[1],
        "region": NASTY[2],
        "created_at": "2026-01-01T00:00:00Z",
        "goal": "fragmentation",
        "planner": "mip",
        "status": "optimal",
        "objective": {
            "name": "fragmentation",
            "before": 0.5,
            "after": 0,
            "bound": None,
            "gap": None,
        },
        "objectives": [
            {"name": NASTY[0], "unit": "x", "weight": 0, "before": 1, "after": 2, "bound": None}
        ],
        "migrations": made,
        "excluded": [
            {"instance": NASTY[0], "reason": {"code": "locked", "params": {}, "text": NASTY[2]}}
        ],
        "unreachable": [],
        "options": {"seed": 0, "scope": [NASTY[0]]},
    }


@hypothesis.given(st.builds(migrations, st.integers(0, 2**32), st.integers(0, 12)))
@hypothesis.settings(max_examples=20)
def test_page_is_only_a_page(made: list[dict[str, Any]]) -> None:
    """Whatever the names are, they are text: no script, nothing from elsewhere, all of it shown."""
    written = page.page(plan(made))
    read = Texts()
    read.feed(written)
    assert "script" not in read.tags and read.outside == []
    assert not re.search(r"url\((?!#)|@import|https?:", page.STYLE)
    for one in made:
        assert one["reason"]["text"] in read.text
        assert one["instance"] in read.text


def test_path_alone() -> None:
    """What ``nova-rebalance path`` prints has no goal; its own words are shown."""
    found = {
        "id": "c7",
        "reachable": "unknown",
        "cost": 12,
        "optimal": False,
        "migrations": migrations(1, 3),
        "makespan_s": 3,
        "makespan_bound_s": 2,
        "certificate": None,
        "blocking_hosts": ["b", "c"],
        "stops": ["x"],
        "starts": [],
    }
    read = Texts()
    read.feed(page.page(found))
    for text in (
        "Path c7",
        "unknown",
        "Time at least",
        "Hosts without room",
        "b, c",
        "Stopped first",
    ):
        assert text in read.text
    read = Texts()
    read.feed(page.page({**found, "reachable": False, "cost": None, "migrations": []}))
    assert "There are none." in read.text and "svg" not in read.tags


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (4.25, "4.25 s"), (59.9, "59.9 s"), (185, "3:05 min"), (7260, "2:01 h")],
)
def test_durations(seconds: float, text: str) -> None:
    """Times are written as people say them."""
    assert words.duration(seconds) == text


@hypothesis.given(st.text(max_size=60), st.integers(3, 30))
def test_shortened(text: str, most: int) -> None:
    """A long name keeps its beginning or its end, and never needs more room than there is."""
    found = words.shortened(text, most)
    assert words.columns(found) <= most
    assert found == text or words.ELLIPSIS in found

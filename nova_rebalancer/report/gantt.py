# SPDX-License-Identifier: Apache-2.0
"""A Gantt chart: when migrations leave and come to each host, and what each waits for."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from nova_rebalancer.report import words

WIDTH, LEFT, RIGHT, TOP = 1180, 200, 50, 34
"""Of the picture, and of what is beside and above the bars, in pixels."""

LANE, BAR, GAP, GUTTER = 15, 12, 5, 14
"""Height of a lane, of a bar in it, between the hosts, and between lanes where arrows run."""

CHARACTER = 7.0
"""Width of a character of labels; of ids a little less."""

SMALL = 6.1

TICKS = 9
"""Marks on the axis at most."""

Migration = Mapping[str, Any]


SPREAD = (0.0, 3.0, -3.0)
"""Arrows that run beside each other lie so far from the middle between the lanes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """One end of a migration in its lane.

    ``y`` is the top of the bar and ``between`` the middle of what is between the lanes of the
    host that leave it, above, and those that come to it, below.
    """

    migration: Migration
    leaves: bool
    x: float
    y: float
    width: float
    between: float

    @property
    def inner(self) -> float:
        """Return the edge of the bar that is nearer to the middle."""
        return self.y + BAR if self.leaves else self.y


def svg(migrations: Sequence[Migration]) -> str:
    """Return the chart of migrations in the form of the plan document."""
    ends: dict[str, dict[bool, list[Migration]]] = {}
    for one in migrations:
        ends.setdefault(one["source"], {True: [], False: []})[True].append(one)
        ends.setdefault(one["dest"], {True: [], False: []})[False].append(one)
    waits = list(_waits(migrations))
    busy = {host for _, _, host in waits}
    whole_s = max((one["end_s"] for one in migrations), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / whole_s
    bars: dict[tuple[str, bool], Bar] = {}
    bands: list[str] = []
    labels: list[str] = []
    y = float(TOP)
    for k, host in enumerate(sorted(ends, key=words.natural)):
        above, below = (_lanes(ends[host][leaves]) for leaves in (True, False))
        gutter = GUTTER if host in busy else 0
        height = (len(above) + len(below)) * LANE + gutter + GAP
        if k % 2:
            bands.append(f'<rect class="band" x="0" y="{y:g}" width="{WIDTH}" height="{height}"/>')
        labels.append(_label(host, y + height / 2))
        between = y + GAP / 2 + len(above) * LANE + gutter / 2
        tops = [y + GAP / 2 + n * LANE for n in range(len(above))]
        tops += [between + gutter / 2 + n * LANE for n in range(len(below))]
        for n, lane in enumerate((*above, *below)):
            for one in lane:
                x = LEFT + one["start_s"] * scale
                width = max(2.0, (one["end_s"] - one["start_s"]) * scale)
                top = tops[n] + (LANE - BAR) / 2
                leaves = n < len(above)
                bars[one["id"], leaves] = Bar(one, leaves, x, top, width, between)
        y += height
    parts = [*bands, *_axis(whole_s, scale, y), *labels]
    parts += [_bar(bar) for bar in bars.values()]
    parts += [
        _arrow(bars[first], bars[second], SPREAD[k % len(SPREAD)] if host is not None else None)
        for k, (first, second, host) in enumerate(waits)
    ]
    # Last, so that nothing is drawn over them.
    parts += [_id(bar) for bar in bars.values()]
    return (
        f'<svg class="gantt" role="img" aria-label="Migrations per host over time" '
        f'width="{WIDTH}" height="{y + 6:g}" viewBox="0 0 {WIDTH} {y + 6:g}">'
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="6" '
        'markerHeight="6" orient="auto"><path class="tip" d="M0 0 6 3 0 6z"/></marker></defs>'
        + "".join(parts)
        + "</svg>"
    )


def _waits(
    migrations: Sequence[Migration],
) -> Iterator[tuple[tuple[str, bool], tuple[str, bool], str | None]]:
    """Yield for each dependency the two bars it is drawn between, and their host if it is one."""
    known = {one["id"]: one for one in migrations}
    for one in migrations:
        for name in one["depends_on"]:
            other = known.get(name)
            if other is None:
                continue
            # Mostly one leaves the host that the other comes to.
            for before, after in ((True, False), (False, True), (False, False), (True, True)):
                host = other["source" if before else "dest"]
                if host == one["source" if after else "dest"]:
                    yield (name, before), (one["id"], after), host
                    break
            else:
                yield (name, False), (one["id"], True), None


def _lanes(migrations: Iterable[Migration]) -> list[list[Migration]]:
    """Put migrations that overlap into lanes of their own."""
    lanes: list[list[Migration]] = []
    for one in sorted(migrations, key=lambda one: (one["start_s"], one["end_s"])):
        for lane in lanes:
            if lane[-1]["end_s"] <= one["start_s"] + 1e-6:
                lane.append(one)
                break
        else:
            lanes.append([one])
    return lanes


def _label(host: str, y: float) -> str:
    text = words.shortened(host, int((LEFT - 16) / CHARACTER))
    return (
        f'<text class="host" x="{LEFT - 8}" y="{y + 4:g}">{words.escaped(text)}'
        f"<title>{words.escaped(host)}</title></text>"
    )


def _axis(whole_s: float, scale: float, bottom: float) -> list[str]:
    """Return the marks of the time axis."""
    step = _step(whole_s / TICKS)
    found = []
    for k in range(int(whole_s / step + 1e-9) + 1):
        x = LEFT + k * step * scale
        text = words.duration(k * step) if k else "0"
        found.append(
            f'<line class="tick" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom:g}"/>'
            f'<text class="time" x="{x:.1f}" y="{TOP - 12}">{text}</text>'
        )
    return found


def _step(least_s: float) -> float:
    """Return a round number of seconds, minutes or hours of at least so much."""
    for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200):
        if step >= least_s:
            if least_s >= 0.5:
                return float(step)
            power = 10.0 ** math.floor(math.log10(least_s))
            return next(n * power for n in (1, 2, 5, 10) if n * power >= least_s)
    return 86400.0 * math.ceil(least_s / 86400)


def _bar(bar: Bar) -> str:
    one = bar.migration
    way = "leaves" if bar.leaves else "arrives"
    kind = f"bar {way}" + (" bypass" if one["role"] == "bypass" else "")
    waits = f", waits for {', '.join(one['depends_on'])}" if one["depends_on"] else ""
    memory = "" if one["memory_mib"] is None else f", {words.size(one['memory_mib'])}"
    title = (
        f"{one['id']}: {one['instance']} {one['source']} → {one['dest']}{memory}, "
        f"{words.duration(one['start_s'])} to {words.duration(one['end_s'])}{waits}"
    )
    return (
        f'<g class="{kind}"><title>{words.escaped(title)}</title><rect x="{bar.x:.1f}" '
        f'y="{bar.y:g}" width="{max(2.0, bar.width - 1):.1f}" height="{BAR}" rx="2"/></g>'
    )


def _id(bar: Bar) -> str:
    """Write the id into a bar that has room for it."""
    text = bar.migration["id"]
    if words.columns(text) * SMALL + 4 > bar.width:
        return ""
    kind = "id bypass" if bar.migration["role"] == "bypass" else "id"
    return (
        f'<text class="{kind}" x="{bar.x + bar.width / 2:.1f}" y="{bar.y + BAR - 2.5:g}">'
        f"{words.escaped(text)}</text>"
    )


def _arrow(first: Bar, second: Bar, beside: float | None) -> str:
    """Draw that ``second`` waits for ``first``; between the lanes if ``beside`` is a number."""
    x1, x2 = first.x + first.width - 2, second.x + 2
    if beside is not None:
        y = first.between + beside
        way = f"M{x1:.1f} {first.inner:g}V{y:g}H{x2:.1f}V{second.inner:g}"
    else:
        y1, y2 = first.y + BAR / 2, second.y + BAR / 2
        way = f"M{x1:.1f} {y1:g}C{x1 + 24:.1f} {y1:g} {x2 - 24:.1f} {y2:g} {x2:.1f} {y2:g}"
    return f'<path class="waits" marker-end="url(#tip)" d="{way}"/>'

# SPDX-License-Identifier: Apache-2.0
"""Directives that show what the code of carrying out has as data.

``states-drawing`` draws the states of a migration, ``states``, ``run-states`` and ``transitions``
list them, ``failure-codes`` lists what follows from each failure.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import html

from docutils import nodes
from docutils import statemachine
from sphinx.application import Sphinx
from sphinx.util import docutils

from nova_rebalancer.execute import failures
from nova_rebalancer.execute import states

Edge = tuple[str, str]

COLUMN, WIDTH, HEIGHT = 205, 118, 30
"""Distance of two columns and size of a box, in pixels."""

DEPTH = 440
"""Height of the drawing."""

PORT = 9
"""Distance of two lines that meet a box on one side."""

FILLS = {"flying": "#fdf3d0", "final": "#e3e9ee", "other": "#ffffff"}


def edges() -> list[Edge]:
    """Every change of state, in the order of the table; its place there is its number."""
    return [(before, after) for before, row in states.TRANSITIONS.items() for after in row]


def columns() -> dict[str, int]:
    """Return in which column each state is: one after the first state that leads to it.

    A final state is right of all that lead to it, unless a migration comes to it at once.
    """
    found = {states.PLANNED: 0}
    waiting = [states.PLANNED]
    while waiting:
        before = waiting.pop(0)
        for after in states.TRANSITIONS[before]:
            if after not in found:
                found[after] = found[before] + 1
                waiting.append(after)
    for state in states.FINAL:
        if state not in states.TRANSITIONS[states.PLANNED]:
            found[state] = 1 + max(found[a] for a, b in edges() if b == state)
    return found


def places() -> dict[str, tuple[int, int]]:
    """Return the middle of each box."""
    column = columns()
    found = {}
    for n in sorted(set(column.values())):
        inside = [state for state in states.TRANSITIONS if column[state] == n]
        for i, state in enumerate(inside):
            y = DEPTH * (i + 1) // (len(inside) + 1)
            found[state] = (WIDTH // 2 + 8 + n * COLUMN, y)
    return found


def sides(edge: Edge, at: dict[str, tuple[int, int]]) -> tuple[str, str]:
    """Return on which side a line leaves its first box, and where it enters the other."""
    steps = (at[edge[1]][0] - at[edge[0]][0]) // COLUMN
    if steps == 0:
        down = at[edge[1]][1] > at[edge[0]][1]
        return ("bottom", "top") if down else ("top", "bottom")
    if steps < -1:
        # Below everything that is between.
        return "bottom", "bottom"
    return ("right", "left") if steps > 0 else ("left", "right")


def ends(at: dict[str, tuple[int, int]]) -> dict[Edge, list[tuple[int, int]]]:
    """Return where each line begins and ends: lines share a side in the order they come from."""
    sharing: dict[tuple[str, str], list[tuple[int, int, Edge, int]]] = {}
    for number, edge in enumerate(edges()):
        for end, side in enumerate(sides(edge, at)):
            far = at[edge[1 - end]]
            along = far[1] if side in ("left", "right") else far[0]
            sharing.setdefault((edge[end], side), []).append((along, number, edge, end))
    found: dict[Edge, list[tuple[int, int]]] = {edge: [(0, 0), (0, 0)] for edge in edges()}
    for (state, side), lines in sharing.items():
        x, y = at[state]
        for i, (_, _, edge, end) in enumerate(sorted(lines)):
            shift = round((i - (len(lines) - 1) / 2) * PORT)
            found[edge][end] = {
                "left": (x - WIDTH // 2, y + shift),
                "right": (x + WIDTH // 2, y + shift),
                "top": (x + 2 * shift, y - HEIGHT // 2),
                "bottom": (x + 2 * shift, y + HEIGHT // 2),
            }[side]
    return found


def line(number: int, begin: tuple[int, int], end: tuple[int, int], under: bool) -> str:
    """Draw one change of state with its number."""
    (x, y), (to_x, to_y) = begin, end
    path = f"M{x},{y} L{to_x},{to_y}"
    label = (x + 0.25 * (to_x - x), y + 0.25 * (to_y - y))
    if under:
        path = f"M{x},{y} C{x},{DEPTH - 10} {to_x},{DEPTH - 10} {to_x},{to_y}"
        label = ((x + to_x) / 2, (y + to_y) / 8 + 0.75 * (DEPTH - 10))
    return (
        f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#arrow)"/>'
        f'<circle cx="{label[0]:.0f}" cy="{label[1]:.0f}" r="9" fill="#fff" stroke="#999"/>'
        f'<text x="{label[0]:.0f}" y="{label[1] + 3.5:.0f}" font-size="10">{number}</text>'
    )


def drawing() -> str:
    """Return the picture of the states as SVG."""
    at = places()
    met = ends(at)
    parts = []
    for number, edge in enumerate(edges(), 1):
        under = sides(edge, at) == ("bottom", "bottom")
        parts.append(line(number, *met[edge], under))
    for state, (x, y) in at.items():
        kind = "flying" if state in states.IN_FLIGHT else "other"
        kind = "final" if state in states.FINAL else kind
        parts.append(
            f'<g><title>{html.escape(states.MEANING[state])}</title><rect x="{x - WIDTH // 2}" '
            f'y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="5" '
            f'fill="{FILLS[kind]}" stroke="#333"/><text x="{x}" y="{y + 4}">{state}</text></g>'
        )
    width = max(x for x, _ in at.values()) + WIDTH // 2 + 8
    top = min(y for _, y in at.values()) - HEIGHT
    box = f"0 {top} {width} {DEPTH - 30 - top}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" '
        'aria-label="States of a migration" style="max-width: 100%; font: 12px sans-serif; '
        'text-anchor: middle">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>'
        + "".join(parts)
        + "</svg>"
    )


class Drawing(docutils.SphinxDirective):
    """Shows the picture in HTML; other formats have the tables."""

    def run(self) -> list[nodes.Node]:
        """Return the picture."""
        self.env.note_dependency(states.__file__)
        return [nodes.raw("", drawing(), format="html")]


class Table(docutils.SphinxDirective):
    """A table of something in the code; ``rows`` are reStructuredText, the first is the head."""

    widths: tuple[int, ...] = ()

    def rows(self) -> Iterable[Sequence[str]]:
        """Return the rows."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        widths = " ".join(map(str, self.widths))
        text = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
        for row in self.rows():
            for i, cell in enumerate(row):
                text.append(f"   {'* -' if i == 0 else '  -'} {cell}")
        where = f"<{self.name}>"
        holder = nodes.container()
        self.state.nested_parse(statemachine.StringList(text, where), 0, holder)
        return holder.children


class States(Table):
    """The states of a migration."""

    widths = (20, 80)

    def rows(self) -> Iterable[Sequence[str]]:
        """Return each state and its meaning."""
        yield "State", "Meaning"
        for state, meaning in states.MEANING.items():
            yield f"``{state}``", f"{meaning[0].upper()}{meaning[1:]}."


class RunStates(Table):
    """The states of a run."""

    widths = (20, 80)

    def rows(self) -> Iterable[Sequence[str]]:
        """Return each state and its meaning."""
        yield "State", "Meaning"
        for state, meaning in states.RUN_MEANING.items():
            yield f"``{state}``", f"{meaning[0].upper()}{meaning[1:]}."


class Transitions(Table):
    """What leads from one state to another, numbered as in the picture."""

    widths = (8, 16, 16, 60)

    def rows(self) -> Iterable[Sequence[str]]:
        """Return each change of state and its cause."""
        yield "", "From", "To", "When"
        for number, (before, after) in enumerate(edges(), 1):
            cause = states.TRANSITIONS[before][after]
            yield str(number), f"``{before}``", f"``{after}``", f"{cause[0].upper()}{cause[1:]}."


class FailureCodes(Table):
    """What each code means, and what follows from it."""

    widths = (18, 42, 40)

    def rows(self) -> Iterable[Sequence[str]]:
        """Return each code, its meaning and its consequences."""
        yield "Code", "Meaning", "What follows"
        for code, kind in failures.KINDS.items():
            follows = []
            if kind.counts:
                follows.append("counts for the circuit breaker")
            if kind.blames:
                follows.append(f"counts against the {' and the '.join(_hosts(kind.blames))}")
            if kind.learns:
                follows.append("the instance is left where it is for ``learnt_days``")
            if kind.bans:
                follows.append("it is not sent to that destination again in this run")
            if kind.stops:
                follows.append("the run stops at once")
            text = "; ".join(follows) or "nothing more"
            yield f"``{code}``", kind.about, f"{text[0].upper()}{text[1:]}."


def _hosts(blames: Sequence[str]) -> list[str]:
    return ["destination" if end == "dest" else end for end in blames]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directives known."""
    app.add_directive("states-drawing", Drawing)
    app.add_directive("states", States)
    app.add_directive("run-states", RunStates)
    app.add_directive("transitions", Transitions)
    app.add_directive("failure-codes", FailureCodes)
    return {"parallel_read_safe": True}

# SPDX-License-Identifier: Apache-2.0
"""The goal before and after, beside what is proved to be the best."""

from collections.abc import Mapping
from typing import Any

from nova_rebalancer.report import words

WIDTH, LEFT, ROW, BAR = 700, 70, 26, 18
"""Of the picture, of the names, of a row and of a bar, in pixels."""

VALUE = 120
"""Room for the number behind a bar."""


def section(document: Mapping[str, Any]) -> str:
    """Return what a plan document says of its goal; empty for a document without one."""
    goal = document.get("objective")
    if goal is None:
        return ""
    gap = "" if goal["gap"] is None else f", gap {100 * goal['gap']:.3g} %"
    heading = f"{goal['name']}: {words.number(goal['before'])} → {words.number(goal['after'])}{gap}"
    parts = [one for one in document.get("objectives", ()) if one["name"] != goal["name"]]
    return f"<h2>{words.escaped(heading)}</h2>{_svg(goal)}{_parts(parts)}"


def _svg(goal: Mapping[str, Any]) -> str:
    """Draw a bar for each of before, after and bound."""
    rows = [(key, goal[key]) for key in ("before", "after", "bound") if goal[key] is not None]
    most = max((abs(value) for _, value in rows), default=0.0) or 1.0
    room = WIDTH - LEFT - VALUE
    drawn = []
    for k, (name, value) in enumerate(rows):
        y, width = k * ROW, max(1.0, room * abs(value) / most)
        drawn.append(
            f'<text x="0" y="{y + 14}">{name}</text><rect class="{name}" x="{LEFT}" y="{y + 1}" '
            f'width="{width:.1f}" height="{BAR}" rx="2"/>'
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 14}">{words.number(value)}</text>'
        )
    height = len(rows) * ROW
    return (
        f'<div class="wide"><svg role="img" aria-label="The goal before, after and its bound" '
        f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">{"".join(drawn)}</svg>'
        "</div>"
    )


def _parts(parts: list[Mapping[str, Any]]) -> str:
    """Return a table of the goal's parts."""
    if not parts:
        return ""
    rows = "".join(
        f'<tr><td class="name">{words.escaped(one["name"])}</td>'
        f"<td>{words.escaped(one['unit'])}</td>"
        + "".join(
            f'<td class="n">{words.number(one[key])}</td>'
            for key in ("weight", "before", "after", "bound")
        )
        + "</tr>"
        for one in parts
    )
    head = "".join(f'<th class="n">{name}</th>' for name in ("Weight", "Before", "After", "Bound"))
    return (
        f"<details><summary>Parts of the goal</summary><table><thead><tr><th>Part</th><th>Unit</th>"
        f"{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )

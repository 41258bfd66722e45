# SPDX-License-Identifier: Apache-2.0
"""Numbers and names as people read them, and how much room they take."""

import html
import re
import unicodedata

ELLIPSIS = "…"


def escaped(text: object) -> str:
    """Return a text as it may stand in HTML and SVG."""
    return html.escape(str(text))


def columns(text: str) -> int:
    """Return how many characters of a monospaced font a text is as wide as."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` columns; what is in the middle goes first."""
    if columns(text) <= most:
        return text
    head, tail = list(text), list[str]()
    # Names of hosts and instances differ at their ends more than anywhere.
    while head and columns("".join(tail)) < (most - 1) // 2:
        tail.insert(0, head.pop())
    while head and columns("".join((*head, ELLIPSIS, *tail))) > most:
        head.pop()
    return "".join((*head, ELLIPSIS, *tail))


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return what sorts names with numbers in them as people count."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(one), "") if one.isdecimal() else (1, 0, one) for one in parts if one]


def duration(seconds: float) -> str:
    """Return a time span: 4.2 s, 3:05 min, 2:00 h."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02} h"


def size(mib: float) -> str:
    """Return an amount of memory."""
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.4g} GiB"


def number(value: float | None) -> str:
    """Return a number of a goal."""
    return "–" if value is None else f"{value:.6g}"

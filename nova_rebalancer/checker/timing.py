# SPDX-License-Identifier: Apache-2.0
"""The clock of a path: how long migrations take, and how many run at a time from and to a host."""

from collections.abc import Mapping
import heapq
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import question
from nova_rebalancer.checker import rules


def check(asked: question.Question, answer: documents.Document) -> None:
    """Raise Broken if the times are not those of a schedule within the limits.

    That nothing is overfull at any time, and that each migration waits for those it depends on, is
    checked elsewhere; together these make the timed replay.
    """
    migrations = answer["migrations"]
    for one in migrations:
        took = one["end_s"] - one["start_s"]
        if asked.move_s is not None and abs(took - asked.move_s) > rules.CLOCK_TOLERANCE_S:
            raise _broken(one, f"it takes {took:g} s, of a case it is {asked.move_s:g} s")
        if asked.move_s is not None and one["wave"] != one["end_s"]:
            raise _broken(one, f"its wave is {one['wave']}, it ends at {one['end_s']:g} s")
        if took <= 0:
            raise _broken(one, f"it takes {took:g} s")
    given = answer.get("options", {}) if asked.move_s is None else {}
    _slots(migrations, "source", int(given.get("host_outgoing", 1)), "leave")
    _slots(migrations, "dest", int(given.get("host_incoming", 1)), "arrive on")
    last = max((one["end_s"] for one in migrations), default=0.0)
    if abs(answer["makespan_s"] - last) > rules.CLOCK_TOLERANCE_S:
        raise broken.Broken(
            "makespan", None, f"makespan_s is {answer['makespan_s']:g}, the last ends at {last:g} s"
        )
    if answer["reachable"] is True:
        _bound(asked.known, answer)


def _bound(known: Mapping[str, Any], answer: documents.Document) -> None:
    bound = answer["makespan_bound_s"]
    least = known.get("optimal_rounds_1x1")
    for most, whose in ((answer["makespan_s"], "this path"), (least, "a path of the file")):
        if most is not None and bound > most + rules.CLOCK_TOLERANCE_S:
            raise broken.Broken(
                "makespan", None, f"makespan_bound_s is {bound:g}, {whose} takes {most:g} s"
            )


def _slots(migrations: list[documents.Document], end: str, most: int, what: str) -> None:
    """Raise Broken if more than ``most`` migrations of a host run at a time."""
    running: dict[str, list[float]] = {}
    for one in sorted(migrations, key=lambda one: float(one["start_s"])):
        ends = running.setdefault(one[end], [])
        while ends and ends[0] <= one["start_s"] + rules.CLOCK_TOLERANCE_S:
            heapq.heappop(ends)
        if len(ends) >= most:
            raise _broken(
                one, f'{len(ends) + 1} migrations {what} host "{one[end]}" at a time, not {most}'
            )
        heapq.heappush(ends, one["end_s"])


def _broken(one: documents.Document, why: str) -> broken.Broken:
    return broken.Broken("makespan", one["id"], why)

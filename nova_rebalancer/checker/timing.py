# SPDX-License-Identifier: Apache-2.0
"""The clock of a path: how long migrations take, and how many run at a time."""

from collections.abc import Mapping
import heapq
from typing import Any

from nova_rebalancer.checker import broken
from nova_rebalancer.checker import documents
from nova_rebalancer.checker import links
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
    outgoing, incoming = (int(given.get(f"host_{way}", 1)) for way in ("outgoing", "incoming"))
    for key, most, what in (("source", outgoing, "leave"), ("dest", incoming, "arrive on")):
        by_host: dict[str, list[documents.Document]] = {}
        for one in migrations:
            by_host.setdefault(one[key], []).append(one)
        for host, users in by_host.items():
            _slots(users, most, f'{what} host "{host}"')
    if given.get("total") is not None:
        _slots(migrations, int(given["total"]), "run in the cloud")
    for link in links.read(asked.cloud, given):
        users = [one for one in migrations if link.carries(one["source"], one["dest"])]
        _slots(users, link.most, f"go over {link.name}")
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


def _slots(users: list[documents.Document], most: int, what: str) -> None:
    """Raise Broken if more than ``most`` of these migrations run at a time."""
    ends: list[float] = []
    for one in sorted(users, key=lambda one: float(one["start_s"])):
        while ends and ends[0] <= one["start_s"] + rules.CLOCK_TOLERANCE_S:
            heapq.heappop(ends)
        if len(ends) >= most:
            raise _broken(one, f"{len(ends) + 1} migrations {what} at a time, not {most}")
        heapq.heappush(ends, one["end_s"])


def _broken(one: documents.Document, why: str) -> broken.Broken:
    return broken.Broken("makespan", one["id"], why)

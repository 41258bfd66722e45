# SPDX-License-Identifier: Apache-2.0
"""Paths as documents, written out by hand, and what the checker says of them."""

from typing import Any

from nova_rebalancer import checker
from tests import cases

Document = dict[str, Any]


def move(
    name: str, of: str, source: str, dest: str, end_s: float, after: tuple[str, ...] = ()
) -> Document:
    """Return a direct migration of one second that ends at ``end_s``."""
    return {
        "id": name,
        "instance": of,
        "source": source,
        "dest": dest,
        "source_numa": None,
        "dest_numa": None,
        "role": "direct",
        "method": "live",
        "wave": int(end_s),
        "depends_on": list(after),
        "start_s": end_s - 1.0,
        "end_s": end_s,
        "memory_mib": None,
        "reason": {"code": "leads_to_target", "params": {}, "text": "the target has it there"},
    }


def path(of: str, migrations: list[Document], cost: int) -> Document:
    """Return the path for a case that can be reached."""
    return {
        "id": of,
        "reachable": True,
        "cost": cost,
        "optimal": True,
        "migrations": migrations,
        "makespan_s": max((one["end_s"] for one in migrations), default=0.0),
        "makespan_bound_s": 0.0,
        "runtime_s": 0.1,
        "certificate": None,
        "blocking_hosts": [],
    }


def unreachable(of: str, certificate: Document | None) -> Document:
    """Return the verdict that there is no path, for this reason."""
    return path(of, [], 0) | {"reachable": False, "cost": None, "certificate": certificate}


def direct() -> Document:
    """u goes from a to b."""
    return path("direct", [move("m1", "u", "a", "b", 1.0)], 4)


def swap() -> Document:
    """v waits on c while u takes its place."""
    aside = move("m1", "v", "b", "c", 1.0) | {"role": "bypass"}
    over, back = move("m2", "u", "a", "b", 2.0, ("m1",)), move("m3", "v", "c", "a", 3.0, ("m2",))
    return path("swap", [aside, over, back], 16)


def parted() -> Document:
    """u waits on c while v takes its place; only the group keeps them apart."""
    aside = move("m1", "u", "a", "c", 1.0) | {"role": "bypass"}
    over, back = move("m2", "v", "b", "a", 2.0, ("m1",)), move("m3", "u", "c", "b", 3.0, ("m2",))
    return path("parted", [aside, over, back], 4)


def verdict(of: Document, answer: object) -> checker.Verdict:
    """Check an answer, or a list, on one case."""
    return checker.check_cases(cases.as_bytes(cases.document(of)), cases.as_bytes(answer))

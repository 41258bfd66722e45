# SPDX-License-Identifier: Apache-2.0
"""A path document in one line for people."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

NAMED = 5
"""Names in a list, at most."""


def summary(answer: Mapping[str, Any]) -> str:
    """Say what the verdict is, and what follows from it."""
    took = f"; took {answer['runtime_s']:.1f} s"
    if answer["reachable"] is True:
        return _reachable(answer) + took
    if answer["reachable"] is False:
        return f"not reachable, proven: {_proof(answer['certificate'])}{took}"
    return _unknown(answer) + took


def total(answers: Sequence[Mapping[str, Any]]) -> str:
    """Count the verdicts of several."""
    verdicts = [answer["reachable"] for answer in answers]
    return (
        f"{_count(answers, 'case')}: {verdicts.count(True)} reachable, "
        f"{verdicts.count(False)} not reachable, {verdicts.count('unknown')} unknown"
    )


def _reachable(answer: Mapping[str, Any]) -> str:
    migrations = answer["migrations"]
    if not migrations:
        return "reachable: everything is where the target has it"
    bypasses = sum(one["role"] == "bypass" for one in migrations)
    also = f" ({bypasses} of them to make room)" if bypasses else ""
    least = ", proven least" if answer["optimal"] else ""
    return (
        f"reachable: {_count(migrations, 'migration')}{also}, cost {answer['cost']}{least}, "
        f"{answer['makespan_s']:.0f} s (no path ends before {answer['makespan_bound_s']:.0f} s)"
    )


def _proof(certificate: Mapping[str, Any] | None) -> str:
    match certificate:
        case {"kind": "endpoint", "instance": instance, "host": host, "reason": why}:
            return f"{instance} can never be migrated to {host} ({why})"
        case {"kind": "relaxation", "stuck": stuck}:
            return (
                f"none of {_some(stuck)} can ever move, even if all others that can be migrated "
                "were gone"
            )
        case {"kind": "component", "hosts": hosts, "placements": count, "side": side}:
            start, end = ("target", "start") if side == "final" else ("start", "target")
            return (
                f"only {count} placements on {_some(hosts)} are in reach of the {start}, and the "
                f"{end} is none of them"
            )
    return "without a certificate"


def _unknown(answer: Mapping[str, Any]) -> str:
    migrations, left = answer["migrations"], answer["unreachable"]
    text = "unknown: neither a path to the whole target was found nor a proof that there is none"
    if migrations:
        text += f"; a part of the way is listed, {_count(migrations, 'migration')}"
    if left:
        text += f"; {_count(left, 'instance')} left, the first: {left[0]['reason']['text']}"
    if answer["blocking_hosts"]:
        text += f"; in the way: too little room on {_some(answer['blocking_hosts'])}"
    return text


def _count(things: Sequence[Any], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more

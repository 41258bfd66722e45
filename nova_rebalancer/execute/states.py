# SPDX-License-Identifier: Apache-2.0
"""States of a migration and of a run, and how one comes after another, as data."""

from nova_rebalancer.store import records

PLANNED = records.PLANNED
REQUESTED = "REQUESTED"
RUNNING = "RUNNING"
UNKNOWN = "UNKNOWN"
CONFIRMED = records.CONFIRMED
FAILED = "FAILED"
ABORTED = "ABORTED"
SKIPPED = "SKIPPED"

MEANING = {
    PLANNED: "not asked for yet, or proved not to have reached the cloud",
    REQUESTED: "written down, and being asked for",
    RUNNING: "Nova has it: queued, preparing, copying or finishing",
    UNKNOWN: "nobody knows what became of it; only Nova's answer ends this",
    CONFIRMED: "host, task state and migration record agree that it arrived",
    FAILED: "Nova gave it up; the reason and where the instance is are written down",
    ABORTED: "given up because we or somebody else asked for it",
    SKIPPED: "will not be asked for in this run",
}

TRANSITIONS = {
    PLANNED: {
        REQUESTED: "all it depends on is confirmed, the gate has room and the last look is clean",
        SKIPPED: "the last look forbids it, what it depends on was not confirmed, or the run stops",
    },
    REQUESTED: {
        RUNNING: "the cloud accepts it",
        PLANNED: "the cloud refuses it for now",
        FAILED: "the cloud refuses it",
        SKIPPED: "locked or opted out in the last moment",
        UNKNOWN: "no answer, or the program ended before there was one",
    },
    RUNNING: {
        CONFIRMED: "it arrived",
        FAILED: "Nova says so",
        ABORTED: "Nova says so",
        PLANNED: "given up because a person stopped the run; going on asks again",
        UNKNOWN: "its time is over, or what Nova shows does not fit together",
    },
    UNKNOWN: {
        RUNNING: "Nova shows it",
        CONFIRMED: "Nova shows that it arrived",
        FAILED: "Nova shows that it failed",
        ABORTED: "Nova shows that it was given up",
        PLANNED: "it never reached the cloud: Nova shows nothing after the request timeout",
    },
    CONFIRMED: {},
    FAILED: {},
    ABORTED: {},
    SKIPPED: {},
}

IN_FLIGHT = (REQUESTED, RUNNING, UNKNOWN)
"""They may hold two hosts."""

FINAL = tuple(state for state, after in TRANSITIONS.items() if not after)

# Of a run.
OPEN = records.OPEN
DONE = "DONE"
PARTLY = "PARTLY"
STOPPED = "STOPPED"

RUN_MEANING = {
    OPEN: "being carried out, or interrupted: apply with the same plan goes on",
    DONE: "every migration is confirmed",
    PARTLY: "ended by itself, and some migrations are not confirmed",
    STOPPED: "ended early: by the circuit breaker, or because a person ended it with --stop",
}


def check(before: str, after: str) -> None:
    """Refuse a change of state that there is not.

    Raises
    ------
    ValueError
        If no migration in state ``before`` comes to ``after``.
    """
    if after not in TRANSITIONS[before]:
        raise ValueError(f"no migration goes from {before} to {after}")

# SPDX-License-Identifier: Apache-2.0
"""Which process carries a run out, and whether it still lives.

An owner is written ``host:pid:start``.  ``start`` is when the process began, in the kernel's clock
ticks since boot, so that a number that was given to another process is not taken for the owner.
"""

import os
import pathlib
import socket

BEAT_LIMIT_S = 60.0
"""After this long without a word, a process that cannot be seen from here is taken for dead."""

_FIRST_NAMESPACE = "pid:[4026531836]"
"""Of the machine itself (``PROC_PID_INIT_INO`` in Linux); containers have others."""


def me() -> str:
    """Return how this process signs what it owns."""
    pid = os.getpid()
    return f"{_host()}:{pid}:{_start(pid)}"


def alive(owner: str, beat_at: float | None, now: float) -> bool:
    """Say whether the process that signed as ``owner`` still runs.

    On this host the kernel knows.  Of another host only the beat tells: ``beat_at``, in seconds
    since 1970, is younger than BEAT_LIMIT_S.  So the clocks of hosts that share a journal must
    not differ by much of that.
    """
    host, _, process = owner.partition(":")
    pid, _, start = process.partition(":")
    if host == _host() and pid.isdigit():
        return _start(int(pid)) == start
    return beat_at is not None and now - beat_at < BEAT_LIMIT_S


def _host() -> str:
    """Name what shares our view of processes: the host, or a container on it."""
    name = socket.gethostname().replace(":", "-")
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = _FIRST_NAMESPACE
    # Two containers may have one name, and neither sees the other's processes.
    return name if namespace == _FIRST_NAMESPACE else f"{name}/{namespace[5:-1]}"


def _start(pid: int) -> str | None:
    """Return when a process began; None if there is none, or only what is left of a dead one."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the name, in parentheses, and may hold anything.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]

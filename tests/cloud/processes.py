# SPDX-License-Identifier: Apache-2.0
"""Starting the cloud's processes and ending every one of them. Standard library only.

Each service leads a session of its own and is known by its pid and its start time, so that a pid
that was given to somebody else meanwhile is never signalled. Each process also carries a mark in
its environment; what a crash left without a pid file is found by it.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from tests.cloud import settings

MARK = "NOVA_REBALANCER_TEST_CLOUD_PROCESS"


def start_time(pid: int) -> int | None:
    """In clock ticks since boot; None if there is no such process or it is a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def environment(cloud: settings.Settings, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a service: no credentials or proxies of the caller's, and our mark."""
    # RabbitMQ's scripts read names as common as LOGS and CONFIG_FILE, so next to nothing passes.
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **kept,
        "HOME": str(cloud.state),
        "PATH": f"{cloud.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONUNBUFFERED": "1",
        # Our own modules are in the source tree, which stays as it is.
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK: str(cloud.state),
        **(extra or {}),
    }


def record(cloud: settings.Settings, name: str, pid: int) -> None:
    """Remember a process that leads its session."""
    (cloud.pids / name).write_text(f"{pid} {start_time(pid) or 0}\n")


def running(cloud: settings.Settings, name: str) -> int | None:
    """The pid of a service, None if it does not run."""
    pid, started = _recorded(cloud.pids / name)
    return pid if pid and start_time(pid) == started else None


def start(
    cloud: settings.Settings,
    name: str,
    command: Sequence[str | os.PathLike[str]],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Start a service unless it runs; its output goes to ``log/NAME.log``."""
    if running(cloud, name):
        return
    with (cloud.logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=environment(cloud, extra),
            cwd=cloud.state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record(cloud, name, process.pid)


def wait_for(cloud: settings.Settings, name: str, service: str, limit_s: float) -> None:
    """Wait until the port of a service is open and, where it speaks HTTP, answers.

    Raises
    ------
    CloudError
        If the process ends or the time is over; with the end of its log.
    """
    http = service not in ("mariadb", "rabbitmq", "epmd")
    until = time.monotonic() + limit_s
    while True:
        alive = running(cloud, name)
        if alive and (_answers(cloud.url(service)) if http else port_open(cloud.port(service))):
            return
        if not alive or time.monotonic() > until:
            why = "does not answer" if alive else "ended"
            raise settings.CloudError(f"{name} {why}\n{log_end(cloud.logs / f'{name}.log')}")
        time.sleep(0.1)


def port_open(port: int) -> bool:
    """Whether something listens there."""
    with contextlib.suppress(OSError):
        socket.create_connection((settings.ADDRESS, port), timeout=1).close()
        return True
    return False


def log_end(path: pathlib.Path, lines: int = 15) -> str:
    """The last lines of a log and where it lies."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join([*text.splitlines()[-lines:], f"(from {path})"])


def stop(cloud: settings.Settings, names: Iterable[str], limit_s: float) -> None:
    """End services and all that belongs to their sessions: first asked, then killed."""
    files = [cloud.pids / name for name in names]
    sessions = dict(recorded for recorded in map(_recorded, files) if recorded[0])
    leaders = [pid for pid, started in sessions.items() if start_time(pid) == started]
    for pid in leaders:
        _signal(pid, signal.SIGTERM)
    _wait_gone(lambda: _members(sessions), limit_s)
    for pid in _members(sessions):
        _signal(pid, signal.SIGKILL)
    _wait_gone(lambda: _members(sessions), 5)
    for file in files:
        file.unlink(missing_ok=True)


def stop_marked(cloud_state: pathlib.Path) -> list[int]:
    """Kill what still carries the mark of a cloud; return whom."""
    mark = f"{MARK}={cloud_state}".encode()
    ourselves = {os.getpid(), os.getppid()}
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if mark in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    found = [pid for pid in found if pid not in ourselves]
    for pid in found:
        _signal(pid, signal.SIGKILL)
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on: state, ppid, pgrp, session, ..."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    return text[text.rindex(")") + 2 :].split()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _recorded(file: pathlib.Path) -> tuple[int, int]:
    try:
        pid, started = file.read_text().split()
    except (FileNotFoundError, ValueError):
        return 0, 0
    return int(pid), int(started)


def _members(sessions: Mapping[int, int]) -> list[int]:
    """The living processes of the sessions, but not those of a later session of the same number."""
    ours = {pid for pid, started in sessions.items() if start_time(pid) in (started, None)}
    found = []
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[0] != "Z" and int(fields[3]) in ours:
            session = int(fields[3])
            if int(fields[19]) >= sessions[session]:
                found.append(pid)
    return found


def _wait_gone(living: Callable[[], list[int]], limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while living() and time.monotonic() < until:
        time.sleep(0.1)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _answers(url: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30).close()
    except urllib.error.HTTPError as error:
        # A refusal is an answer too.
        error.close()
    except OSError:
        return False
    return True

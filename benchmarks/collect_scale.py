# SPDX-License-Identifier: Apache-2.0
"""How long ``nova-rebalance snapshot save`` takes on a large cloud, and how much it asks.

    python benchmarks/collect_scale.py

The cloud is that of ``scripted_api.py``, in a process of its own.  Each run reads it twice: with
``--fresh``, and again with the cache of the first time.  Prints what both took beside what they
may take; exit code 1 if a limit is exceeded or the snapshot has not all hosts.
"""

import argparse
import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from typing import Any
import urllib.request

PROGRAM = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"
API = pathlib.Path(__file__).with_name("scripted_api.py")
CLOUD = "scripted"
FIRST_S, SECOND_S, FIRST_MIB = 60.0, 10.0, 1024.0
IDENTITY = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclasses.dataclass(frozen=True)
class Pass:
    """What one call of the command took."""

    wall_s: float
    cpu_s: float
    api_cpu_s: float
    peak_mib: float
    requests: collections.Counter[str]
    refused: collections.Counter[str]

    @property
    def own_s(self) -> float:
        """Wall time without what the scripted API computed meanwhile."""
        return self.wall_s - self.api_cpu_s


class Api:
    """The scripted API while it runs."""

    def __init__(self, url: str, log: pathlib.Path) -> None:
        self.url, self._log = url, log

    def stats(self) -> dict[str, Any]:
        """What it did so far; its log is complete then."""
        root = self.url.partition("/identity")[0]
        with urllib.request.urlopen(f"{root}/_stats") as answer:
            return dict(json.load(answer))

    def log(self) -> list[list[str]]:
        """Method, target and status of each request."""
        return [line.split() for line in self._log.read_text().splitlines()]


@contextlib.contextmanager
def scripted(options: argparse.Namespace, folder: pathlib.Path) -> Iterator[Api]:
    """Run the scripted API on a free port."""
    log = folder / "access.log"
    words = [sys.executable, str(API), "--access-log", str(log)]
    for name in ("hosts", "servers", "seed"):
        words += [f"--{name}", str(getattr(options, name))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise SystemExit("the scripted API did not start")
            yield Api(url, log)
        finally:
            process.terminate()
            process.communicate()


def environment(url: str, folder: pathlib.Path) -> dict[str, str]:
    """Return the command's environment: this cloud, and neither options nor a cache of others."""
    auth = {"auth_url": url, "username": "admin", "password": "scripted", "project_name": "admin"}
    auth |= {"user_domain_id": "default", "project_domain_id": "default"}
    clouds = folder / "clouds.yaml"
    # YAML reads JSON.
    clouds.write_text(json.dumps({"clouds": {CLOUD: {"auth": auth, "region_name": "RegionOne"}}}))
    others = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return others | {
        "OS_CLIENT_CONFIG_FILE": str(clouds),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }


def measured(api: Api, variables: dict[str, str], *arguments: str) -> Pass:
    """Save a snapshot and say what it took."""
    before, seen = api.stats(), len(api.log())
    began = time.monotonic()
    words = [str(PROGRAM), "snapshot", "save", "--os-cloud", CLOUD, *arguments]
    process = subprocess.Popen(words, env=variables, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"nova-rebalance ended with exit code {process.returncode}")
    after = api.stats()
    lines = api.log()[seen:]
    return Pass(
        wall_s,
        used.ru_utime + used.ru_stime,
        after["cpu_s"] - before["cpu_s"],
        # Linux counts in KiB.
        used.ru_maxrss / 1024,
        collections.Counter(kind(method, target) for method, target, _ in lines),
        collections.Counter(" ".join(line) for line in lines if int(line[2]) >= 400),
    )


def kind(method: str, target: str) -> str:
    """Return the request without what differs from one to the next of its kind."""
    return f"{method} {IDENTITY.sub('{id}', target.partition('?')[0])}"


def limits(first: Pass, second: Pass, cloud: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return name, value and limit of what is limited."""
    servers, numa, providers = cloud["servers"], cloud["numa_servers"], cloud["providers"]
    # Lists of server groups come on top: their pages are as many as the groups want.
    groups = "GET /compute/v2.1/os-server-groups"
    calls = [made.requests.total() - made.requests[groups] for made in (first, second)]
    return [
        ("first pass without the API's CPU time, s", first.own_s, FIRST_S),
        ("first pass peak memory, MiB", first.peak_mib, FIRST_MIB),
        ("first pass requests", calls[0], servers / 500 + 4 * providers + numa + 40),
        ("second pass without the API's CPU time, s", second.own_s, SECOND_S),
        ("second pass requests", calls[1], 25 + servers / 1000),
    ]


def show(name: str, made: Pass) -> None:
    """Print what a pass took and asked."""
    print(
        f"\n{name}: {made.wall_s:.2f} s, {made.own_s:.2f} s without the API's "
        f"{made.api_cpu_s:.2f} s of CPU; {made.cpu_s:.2f} s of CPU of its own, "
        f"{made.peak_mib:.0f} MiB, {made.requests.total()} requests"
    )
    for request, count in sorted(made.requests.items()):
        print(f"  {count:6} {request}")
    for request, count in sorted(made.refused.items()):
        print(f"  {count:6} refused: {request[:160]}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=1000, help="default 1000")
    parser.add_argument("--servers", type=int, default=30_000, help="default 30000")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--runs", type=int, default=1, help="default 1")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with scripted(options, folder) as api:
            variables, out = environment(api.url, folder), folder / "cloud.json"
            for run in range(options.runs):
                first = measured(api, variables, "--fresh", str(out))
                second = measured(api, variables, str(out))
                show(f"run {run + 1}, first pass", first)
                show(f"run {run + 1}, second pass", second)
                print()
                for what, value, limit in limits(first, second, api.stats()):
                    good &= value <= limit
                    verdict = "ok" if value <= limit else "EXCEEDED"
                    print(f"{what:44} {value:9.1f}  limit {limit:8.1f}  {verdict}")
                saved = json.loads(out.read_text())
                hosts, instances = len(saved["hosts"]), len(saved["instances"])
                print(f"the snapshot has {hosts} hosts, {instances} instances")
                good &= hosts == options.hosts
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

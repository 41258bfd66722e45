# SPDX-License-Identifier: Apache-2.0
"""What becomes of a plan when something breaks: every fault there is, one after another.

For each a small plan with dependencies is carried out on a test cloud, and one of its migrations,
or an API, a service, a host, goes wrong.  Then the program must end by itself; its journal must
say of every migration what Nova's database says; nothing that depends on a migration that was not
confirmed may ever have been asked for; and a watcher must have seen neither an overfull host nor a
broken group.  Exits with 1 if anything is otherwise.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.execution import command
from benchmarks.execution import ground
from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import client
from tests.cloud import computes
from tests.cloud import control
from tests.cloud import processes
from tests.cloud import proxy
from tests.cloud import settings
from tests.cloud import watch

Json = dict[str, Any]

SECONDS = 5.0
LIMITS = watch.Limits(source=1, dest=1, total=8)
END_S = 420.0
HEADROOM_MIB = 3072
DOWN_S = 25.0
"""How long a host that crashed stays away; Nova calls it down after 20 s."""

# Nothing is planned again, so that what must not be asked for is known beforehand.
OPTIONS = {
    "replans": 0,
    "time_factor": 2,
    "time_extra_s": 15,
    "unknown_limit_s": 120,
    "patience_s": 60,
    "attempts": 3,
    "stop_on_error": "false",
}
NOVA_GOES_ON = ("accepted", "queued", "preparing", "running", "post-migrating", "pre-migrating")


@dataclasses.dataclass
class Scene:
    """What a fault has to work with."""

    cloud: settings.Settings
    home: process.Home
    nova: proxy.Proxy
    placement: proxy.Proxy
    keystone: proxy.Proxy
    plan: Json
    victim: Json
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def bound(self) -> Json:
        """Which migration a fault of the driver is for."""
        return {
            "server": self.victim["instance"],
            "source": self.victim["source"],
            "dest": self.victim["dest"],
        }

    @property
    def asked(self) -> str:
        """Pattern of the request for the victim's migration."""
        return rf"POST /v2.1/servers/{self.victim['instance']}/action"

    def wait_running(self) -> None:
        """Wait until Nova copies the victim, or all is over."""
        tables = watch.Tables(self.cloud)
        known: set[str] | None = None
        while not self.ended.wait(0.3):
            look = tables.look()
            if known is None:
                known = {record.uuid for record in look.records.values()} - {
                    record.uuid
                    for record in look.records.values()
                    if record.status in watch.IN_FLIGHT
                }
            if any(r.status == "running" for r in look.records_of(self.victim["instance"], known)):
                break
        tables.close()


Fault = Callable[[Scene], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault, and in which states the victim may end."""

    fault: Fault
    states: tuple[str, ...]
    options: Json = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Outcome:
    """What came of a case."""

    name: str
    code: int | None
    seconds: float
    victim: str
    journal: dict[str, int]
    nova: dict[str, int]
    problems: list[str]


def driver(kind: str, **more: Any) -> Fault:
    """A fault of the simulated hypervisors, for the victim's migration."""

    @contextlib.contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        with ground.faults(scene.cloud, {"fault": kind, **scene.bound, **more}), reviving(scene):
            yield

    return fault


def crash(end: str) -> Fault:
    """The compute of the victim's source or destination dies while it copies."""

    @contextlib.contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        def act() -> None:
            scene.wait_running()
            if not scene.ended.is_set():
                computes.ask(scene.cloud, "kill", [scene.victim[end]], signal.SIGKILL)

        with ground.faults(scene.cloud, {"fault": "copy-slow", "seconds": 12, **scene.bound}):
            with reviving(scene), beside(act):
                yield

    return fault


def rules(*made: Callable[[Scene], proxy.Rule], of: str = "nova") -> Fault:
    """Rules of the proxy in front of an API."""

    @contextlib.contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        behind: proxy.Proxy = getattr(scene, of)
        behind.rules.extend(make(scene) for make in made)
        try:
            yield
        finally:
            behind.rules.clear()

    return fault


def outage(stop: Callable[[settings.Settings], None], seconds: float) -> Fault:
    """Something stops while the victim is copied, and starts again."""

    @contextlib.contextmanager
    def fault(scene: Scene) -> Iterator[None]:
        def act() -> None:
            scene.wait_running()
            if scene.ended.is_set():
                return
            stop(scene.cloud)
            time.sleep(seconds)
            start_all(scene.cloud)

        with beside(act):
            yield

    return fault


@contextlib.contextmanager
def revoked(scene: Scene) -> Iterator[None]:
    """All tokens of the account end while the victim is copied: its user is switched off and on."""
    admin = client.Client(scene.cloud)
    user = client.Client(scene.cloud, user=CARRIER).session.get_user_id()

    def act() -> None:
        scene.wait_running()
        for enabled in (False, True):
            admin.identity.patch(f"/users/{user}", json={"user": {"enabled": enabled}})

    with beside(act):
        yield


CARRIER = "carrier"


def asks(status: int, count: int | None = None, **more: Any) -> Callable[[Scene], proxy.Rule]:
    """The request for the victim's migration is answered so."""
    return lambda scene: proxy.Rule(scene.asked, status=status, count=count, **more)


def drops(when: str) -> Callable[[Scene], proxy.Rule]:
    """The connection breaks at the first request for the victim's migration."""
    return lambda scene: proxy.Rule(scene.asked, close=when, count=1)


def reads(pattern: str = "GET ", **more: Any) -> Callable[[Scene], proxy.Rule]:
    """Some of the requests that change nothing."""
    return lambda scene: proxy.Rule(pattern, **more)


GOOD, BAD = ("CONFIRMED",), ("FAILED",)

CASES: dict[str, Case] = {
    "check-dest": Case(driver("check-dest"), BAD),
    "check-source": Case(driver("check-source"), BAD),
    "prepare": Case(driver("prepare"), BAD),
    "copy-rollback": Case(driver("copy-rollback"), BAD),
    "copy-error": Case(driver("copy-error"), BAD),
    "copy-slow": Case(driver("copy-slow", seconds=15), GOOD),
    "copy-hang": Case(driver("copy-hang"), ("ABORTED",)),
    "copy-hang, forced": Case(driver("copy-hang"), GOOD, {"on_time_limit": "force_complete"}),
    "copy-kill": Case(driver("copy-kill"), ("FAILED", "ABORTED")),
    "finish-error": Case(driver("finish-error"), BAD),
    "finish-kill": Case(driver("finish-kill"), BAD),
    "source crashes": Case(crash("source"), ("FAILED", "ABORTED", "UNKNOWN")),
    "destination crashes": Case(crash("dest"), ("CONFIRMED", "FAILED", "ABORTED", "UNKNOWN")),
    "API 500 once": Case(rules(asks(500, 1)), (*GOOD, "FAILED")),
    "API 500 always": Case(rules(asks(500)), ("SKIPPED", "FAILED")),
    "API 503 once": Case(rules(asks(503, 1, headers={"Retry-After": "2"})), GOOD),
    "API 409 once": Case(rules(asks(409, 1)), GOOD),
    "API 409 always": Case(rules(asks(409)), ("SKIPPED", "FAILED")),
    "API 403": Case(rules(asks(403)), BAD),
    "request not heard": Case(rules(drops("before")), GOOD),
    "answer lost": Case(rules(drops("after")), GOOD),
    "answer cut": Case(rules(drops("midway")), GOOD),
    "reads: 500 now and then": Case(rules(reads(status=500, chance=0.2)), GOOD),
    "reads: cut now and then": Case(rules(reads(close="midway", chance=0.2)), GOOD),
    "reads: dropped now and then": Case(rules(reads(close="before", chance=0.2)), GOOD),
    "Placement: 500 now and then": Case(rules(reads(status=500, chance=0.2), of="placement"), GOOD),
    "401 once": Case(rules(asks(401, 1)), GOOD),
    "401 now and then": Case(rules(reads("", status=401, chance=0.1)), (*GOOD, "SKIPPED")),
    "tokens revoked": Case(revoked, GOOD),
    "RabbitMQ restarts": Case(
        outage(lambda cloud: processes.stop(cloud, ["rabbitmq"], 20), 1.0),
        ("CONFIRMED", "FAILED", "ABORTED", "UNKNOWN"),
    ),
    "MariaDB restarts": Case(
        outage(lambda cloud: processes.stop(cloud, ["mariadb"], 20), 1.0),
        ("CONFIRMED", "FAILED", "ABORTED", "UNKNOWN"),
    ),
    "Placement is down": Case(
        outage(lambda cloud: control.stop_api(cloud, "placement"), 20.0),
        ("CONFIRMED", "FAILED", "ABORTED", "UNKNOWN"),
    ),
    "Nova's API is down": Case(
        outage(lambda cloud: control.stop_api(cloud, "nova-api"), 15.0), GOOD
    ),
    "Keystone is down": Case(
        outage(lambda cloud: control.stop_api(cloud, "keystone"), 15.0),
        ("CONFIRMED", "FAILED", "ABORTED", "UNKNOWN"),
    ),
}


def start_all(cloud: settings.Settings) -> None:
    """Start what does not run."""
    up = pathlib.Path(control.__file__).with_name("up")
    subprocess.run(
        [up, "--state", cloud.state], check=True, stdin=subprocess.DEVNULL, capture_output=True
    )


@contextlib.contextmanager
def beside(act: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread while the body runs, and wait for it."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def reviving(scene: Scene) -> Iterator[None]:
    """Start computes again some time after they died."""

    def act() -> None:
        gone: dict[str, float] = {}
        while not scene.ended.wait(1.0):
            alive = computes.ask(scene.cloud, "list")
            for host in set(scene.cloud.hosts()) - set(alive):
                if time.monotonic() - gone.setdefault(host, time.monotonic()) > DOWN_S:
                    computes.ask(scene.cloud, "start", [host])
                    del gone[host]

    with beside(act):
        yield


class Matrix:
    """Carries out the cases on one cloud."""

    def __init__(self, cloud: settings.Settings, folder: pathlib.Path, migrations: int) -> None:
        self._cloud = cloud
        self._folder = folder
        self._migrations = migrations

    def run(self, name: str, number: int) -> Outcome:
        """Do one case; what it broke stays broken."""
        case = CASES[name]
        cloud = self._cloud
        home = process.Home(cloud, self._folder / f"case-{number:02}", {**OPTIONS, **case.options})
        plan, victim = self._plan(home, number)
        file = home.write_plan(plan, "plan.json")
        with contextlib.ExitStack() as stack:
            nova, placement, keystone = (
                stack.enter_context(proxy.Proxy(cloud.url(service), seed=number))
                for service in ("nova-api", "placement", "keystone")
            )
            home.endpoints(
                {
                    "compute": f"{nova.url}/v2.1",
                    "placement": placement.url,
                    "identity": f"{keystone.url}/v3",
                }
            )
            if name == "tokens revoked":
                self._as_carrier(home)
            scene = Scene(cloud, home, nova, placement, keystone, plan, victim)
            began = time.monotonic()
            with watch.Watcher(cloud, LIMITS, plan) as watcher, case.fault(scene):
                try:
                    apply = home.apply(file)
                    code = apply.end(END_S)
                    seconds = time.monotonic() - began
                    if code is None:
                        apply.kill()
                finally:
                    scene.ended.set()
            # Ended and unkilled are compared with Nova as it is now, before anything is mended.
            tables = watch.Tables(cloud)
            look = tables.look()
            tables.close()
        home.endpoints({})
        return self._judge(name, code, seconds, scene, apply.text(), look, watcher.report)

    def _plan(self, home: process.Home, seed: int) -> tuple[Json, Json]:
        """Make a plan with something that others depend on; return both."""
        source = plans.Source.load(home.snapshot())
        best: tuple[int, Json, Json] | None = None
        for turn in range(10):
            plan = plans.wander(source, self._migrations, seed * 100 + turn)
            behind = collections.Counter(
                name for one in plan["migrations"] for name in one["depends_on"]
            )
            firsts = [one for one in plan["migrations"] if not one["depends_on"]]
            victim = max(firsts, key=lambda one: behind[one["id"]])
            if best is None or behind[victim["id"]] > best[0]:
                best = (behind[victim["id"]], plan, victim)
        assert best is not None
        if not best[0]:
            raise process.ProgramError("no plan with dependencies was found")
        return best[1], best[2]

    def _as_carrier(self, home: process.Home) -> None:
        """Let an administrator of its own ask, whose tokens are nobody else's."""
        ground.account(self._cloud, CARRIER, ["admin"])
        file = home.folder / "clouds.yaml"
        # JSON is YAML, and the file is written so.
        clouds = json.loads(file.read_text())
        clouds["clouds"][process.CLOUD]["auth"]["username"] = CARRIER
        file.write_text(json.dumps(clouds))

    def _judge(
        self,
        name: str,
        code: int | None,
        seconds: float,
        scene: Scene,
        text: str,
        look: watch.Look,
        report: watch.Report,
    ) -> Outcome:
        problems = list(report.violations)
        if code not in (0, 4):
            last = " / ".join(text.splitlines()[-3:])
            problems.append(
                f"exit code {code}: {last}" if code is not None else f"no end within {END_S:.0f} s"
            )
        if "Traceback" in text:
            problems.append("a traceback in its output")
        entries = scene.home.entries() if code is not None else []
        found = watch.matched(scene.plan["migrations"], look, report.known)
        nova: collections.Counter[str] = collections.Counter()
        for entry in entries:
            records = found.get(entry["id"], [])
            nova[records[-1].status if records else "-"] += 1
            problems += disagreements(entry, records, look)
        states = collections.Counter(entry["state"] for entry in entries)
        mine = [one for one in entries if one["id"] == scene.victim["id"]]
        victim = mine[0]["state"] if mine else "-"
        if victim not in CASES[name].states:
            problems.append(
                f"{scene.victim['id']} ended {victim}, not {' or '.join(CASES[name].states)}"
            )
        return Outcome(name, code, seconds, victim, dict(states), dict(nova), problems)

    def mend(self) -> None:
        """Wait until all is at rest, and put in order what is not."""
        cloud = self._cloud
        ground.open_all(cloud)
        tables = watch.Tables(cloud)

        def at_rest() -> watch.Look | None:
            look = tables.look()
            flying = any(record.status in watch.IN_FLIGHT for record in look.records.values())
            busy = any(server.task_state for server in look.servers.values())
            return None if flying or busy else look

        try:
            client.until(at_rest, "all servers are at rest", 180, 1.0)
        except settings.CloudError:
            # Nova has lost them with its database or its messages: an operator's work.
            print("    mended: migrations that Nova lost were ended by hand", flush=True)
            ground.end_lost(cloud)
            client.until(at_rest, "all servers are at rest", 60, 1.0)
        for line in ground.mend(cloud):
            print(f"    mended: {line}", flush=True)
        look = tables.look()
        here = {name: server.host for name, server in look.servers.items() if server.host}
        wrong = watch.wrong_ends(look, here, look)
        tables.close()
        for line in wrong:
            print(f"    not mended: {line}", flush=True)


def disagreements(entry: Json, records: list[watch.Record], look: watch.Look) -> Iterator[str]:
    """Say where the journal and Nova's database differ on one migration."""
    last = records[-1].status if records else None
    server = look.servers.get(entry["instance"])
    host = server.host if server else None
    state = entry["state"]
    fits = {
        "CONFIRMED": last == watch.COMPLETED,
        "FAILED": last in ("error", "failed", None) or server is None,
        "ABORTED": last == "cancelled",
        "SKIPPED": last in (None, "error", "failed", "cancelled"),
        "PLANNED": last in (None, "error", "failed", "cancelled"),
        "UNKNOWN": last in NOVA_GOES_ON,
    }
    if not fits.get(state, False):
        yield f"{entry['id']} is {state} in the journal, {last} in Nova, server on {host}"


def measure(cloud: settings.Settings, folder: pathlib.Path, names: list[str], count: int) -> bool:
    """Do the cases, print the table; return whether the bars are met."""
    matrix = Matrix(cloud, folder, count)
    outcomes: list[Outcome] = []
    with ground.speed(cloud, lambda host: {"seconds": SECONDS}):
        for number, name in enumerate(CASES):
            if name not in names:
                continue
            outcome = matrix.run(name, number)
            outcomes.append(outcome)
            _say(outcome)
            matrix.mend()
    bad = [outcome for outcome in outcomes if outcome.problems]
    print(
        f"fault matrix: {len(outcomes)} faults, {len(bad)} with a problem (limit 0): "
        f"{'FAIL' if bad else 'PASS'}"
    )
    return not bad


def _say(outcome: Outcome) -> None:
    def counted(counts: dict[str, int]) -> str:
        return " ".join(f"{count} {name}" for name, count in sorted(counts.items()))

    print(
        f"{outcome.name:28} {outcome.victim:10} exit {outcome.code} {outcome.seconds:4.0f} s | "
        f"{counted(outcome.journal)} | Nova: {counted(outcome.nova)} | "
        f"{'FAIL' if outcome.problems else 'PASS'}",
        flush=True,
    )
    for line in outcome.problems:
        print(f"    {line}", flush=True)


def main() -> None:
    """Do all cases, or those named."""
    parser = command.parser(__doc__, migrations=8)
    parser.add_argument("--only", action="append", metavar="NAME", help=", ".join(CASES))
    given = parser.parse_args()
    names = given.only or list(CASES)
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(cloud, given.work, names, given.migrations),
    )


if __name__ == "__main__":
    main()

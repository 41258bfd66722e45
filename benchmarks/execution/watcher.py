# SPDX-License-Identifier: Apache-2.0
"""OpenStack's Watcher beside a test cloud, to compare with: it carries given migrations out.

Watcher is installed into a virtual environment of its own and has all its defaults.  Its strategy
``actuator`` takes a list of actions from who asks; its default planner makes them into a graph and
its applier carries that out.  No relation to ``tests/cloud/watch.py``.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from keystoneauth1 import adapter
from keystoneauth1 import exceptions
import pymysql

from tests.cloud import catalogue
from tests.cloud import client
from tests.cloud import configs
from tests.cloud import control
from tests.cloud import processes
from tests.cloud import settings

Json = dict[str, Any]

VERSION = "17.0.0"
CONSTRAINTS = pathlib.Path(__file__).with_name("watcher-constraints.txt")
KIND = "infra-optim"
# Actions tell why they failed or were skipped.
MICROVERSION = "1.5"
SERVICES = ("watcher-decision-engine", "watcher-applier")
START_S = 300.0
POLL_S = 1.0

SUCCEEDED = "SUCCEEDED"
# What an action that was never begun, or that has ended, can be; all else is in between.
UNTOUCHED = ("PENDING", "SKIPPED", "CANCELLED")
ENDED = (SUCCEEDED, "FAILED", "SKIPPED", "CANCELLED", "SUPERSEDED", "DELETED")


@dataclasses.dataclass
class Action:
    """What became of one migration.

    Attributes
    ----------
    state, why
        Watcher's words for it.
    began, ended
        When that was first seen (seconds of a clock that only goes forward), to a second; None if
        it was not.
    """

    state: str = "PENDING"
    why: str | None = None
    began: float | None = None
    ended: float | None = None

    def see(self, state: str, now: float) -> None:
        """Write down what it is now."""
        self.state = state
        if self.began is None and state not in UNTOUCHED:
            self.began = now
        if self.ended is None and state in ENDED:
            self.ended = now


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a list of migrations; ``actions`` by their ids in the plan document."""

    actions: Mapping[str, Action]
    state: str
    """Of the whole, in Watcher's words."""

    def counts(self) -> dict[str, int]:
        """How many actions are in each state."""
        states = sorted(action.state for action in self.actions.values())
        return {state: states.count(state) for state in states}

    def took_s(self) -> float:
        """From the first action's start to the last one's end."""
        began = [action.began for action in self.actions.values() if action.began is not None]
        ended = [action.ended for action in self.actions.values() if action.ended is not None]
        return max(ended, default=0.0) - min(began, default=0.0)

    def too_early(self, migrations: Sequence[Json]) -> list[str]:
        """Ids of those that began though something they depend on had not ended well by then."""
        return [
            one["id"]
            for one in migrations
            if (began := self.actions[one["id"]].began) is not None
            and any(not self._well(name, began) for name in one["depends_on"])
        ]

    def _well(self, name: str, by: float) -> bool:
        action = self.actions[name]
        return action.state == SUCCEEDED and action.ended is not None and action.ended <= by


class Watcher:
    """Its API."""

    def __init__(self, cloud: settings.Settings) -> None:
        self._api = adapter.Adapter(
            client.Client(cloud).session, service_type=KIND, default_microversion=MICROVERSION
        )

    def ready(self) -> bool:
        """Whether both its engines have reported, and one has read the cloud.

        Before that the decision engine cancels whatever it is asked to do.
        """
        try:
            services = self._get("/v1/services")["services"]
            active = {service["name"] for service in services if service["status"] == "ACTIVE"}
            return active.issuperset(SERVICES) and bool(self._get("/v1/data_model")["context"])
        except exceptions.ClientException:
            return False

    def carry_out(self, migrations: Sequence[Json], limit_s: float) -> Outcome:
        """Let it carry migrations of a plan document out, given in their order.

        Parameters
        ----------
        limit_s
            How long we look; what has not ended by then is told as it is.

        Raises
        ------
        CloudError
            If it makes no action plan.
        """
        audit = self._api.post("/v1/audits", json=_audit(migrations)).json()["uuid"]

        def planned() -> str | None:
            state = self._get(f"/v1/audits/{audit}")["state"]
            if state in ENDED and state != SUCCEEDED:
                raise settings.CloudError(f"Watcher's audit {audit} is {state}")
            plans = self._get(f"/v1/action_plans?audit_uuid={audit}")["action_plans"]
            return str(plans[0]["uuid"]) if state == SUCCEEDED and plans else None

        plan = client.until(planned, "Watcher's action plan", START_S, POLL_S)
        # An action may not carry a name of ours.
        ids = {(one["instance"], one["source"], one["dest"]): one["id"] for one in migrations}
        actions = {name: Action() for name in ids.values()}
        self._api.post(f"/v1/action_plans/{plan}/start")
        end = time.monotonic() + limit_s
        while True:
            # First the whole: when it has ended its actions have.
            state = self._get(f"/v1/action_plans/{plan}")["state"]
            found = self._get(f"/v1/actions/detail?action_plan_uuid={plan}")["actions"]
            now = time.monotonic()
            for one in found:
                given = one["input_parameters"]
                key = given["resource_id"], given["source_node"], given["destination_node"]
                action = actions[ids[key]]
                action.see(one["state"], now)
                action.why = one.get("status_message")
            if state in ENDED or now > end:
                return Outcome(actions, state)
            time.sleep(POLL_S)

    def _get(self, path: str) -> Json:
        return dict(self._api.get(path).json())


def install(cloud: settings.Settings) -> pathlib.Path:
    """Install it beside the cloud's own virtual environment unless it is; return where."""
    venv = cloud.venv.with_name(f"watcher-venv-{VERSION}")
    mark = venv / "constraints.txt"
    pins = CONSTRAINTS.read_text()
    if not mark.exists() or mark.read_text() != pins:
        print(f"installing Watcher {VERSION} into {venv}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin/python", "-m", "pip", "install", "--quiet"]
        wanted = [f"python-watcher=={VERSION}", "PyMySQL", "gunicorn"]
        subprocess.run([*pip, "-c", CONSTRAINTS, *wanted], check=True)
        mark.write_text(pins)
    return venv


@contextlib.contextmanager
def running(cloud: settings.Settings) -> Iterator[Watcher]:
    """Watcher beside a cloud that runs, as long as the body does.

    Raises
    ------
    CloudError
        If it does not start.
    """
    venv = install(cloud)
    # The first port behind the cloud's own.
    port = cloud.base_port + len(settings.PORTS)
    if processes.port_open(port) and not processes.running(cloud, "watcher-api"):
        raise settings.CloudError(f"port {port}, for Watcher, is in use")
    catalogue.register(cloud, KIND, "watcher", f"http://{settings.ADDRESS}:{port}")
    folder = configs.write_watcher(cloud)
    (cloud.state / "watcher").mkdir(exist_ok=True)
    file = ["--config-file", folder / "watcher.conf"]
    _fill(cloud, [venv / "bin/watcher-db-manage", *file, "upgrade"])
    api = {
        # Its application reads the command line, so gunicorn's options must not be there.  It
        # finds its configuration in the home folder.
        "HOME": str(folder),
        "GUNICORN_CMD_ARGS": f"--config {control.HERE / 'gunicorn_settings.py'}",
        "CLOUD_APPLICATION": "watcher.wsgi.api:application",
        "CLOUD_BIND": f"{settings.ADDRESS}:{port}",
        "CLOUD_THREADS": "4",
        "CLOUD_WORKER": "gthread",
        "CLOUD_ACCESS_LOG": str(cloud.logs / "watcher-api.access.log"),
    }
    names = ("watcher-api", *SERVICES)
    try:
        processes.start(cloud, "watcher-api", [venv / "bin/gunicorn"], api)
        for name in SERVICES:
            processes.start(cloud, name, [venv / "bin" / name, *file])
        watcher = Watcher(cloud)

        def ready() -> bool:
            for name in names:
                if not processes.running(cloud, name):
                    log = processes.log_end(cloud.logs / f"{name}.log")
                    raise settings.CloudError(f"{name} ended\n{log}")
            return processes.port_open(port) and watcher.ready()

        client.until(ready, "Watcher is ready", START_S)
        yield watcher
    finally:
        processes.stop(cloud, names, 10)


def _audit(migrations: Sequence[Json]) -> Json:
    return {
        "audit_type": "ONESHOT",
        "goal": "unclassified",
        "strategy": "actuator",
        "auto_trigger": False,
        "parameters": {
            "actions": [
                {
                    "action_type": "migrate",
                    "resource_id": one["instance"],
                    "input_parameters": {
                        "migration_type": "live",
                        "source_node": one["source"],
                        "destination_node": one["dest"],
                    },
                }
                for one in migrations
            ]
        },
    }


def _fill(cloud: settings.Settings, upgrade: Sequence[str | os.PathLike[str]]) -> None:
    """Make its database."""
    connection = pymysql.connect(
        host=settings.ADDRESS,
        port=cloud.port("mariadb"),
        user="cloud",
        password=cloud.password,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(configs.make_database("watcher"))
    log = cloud.logs / "watcher-database.log"
    with log.open("ab") as output:
        done = subprocess.run(
            upgrade,
            env=processes.environment(cloud),
            cwd=cloud.state,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise settings.CloudError(f"watcher-db-manage failed\n{processes.log_end(log)}")

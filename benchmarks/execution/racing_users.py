# SPDX-License-Identifier: Apache-2.0
"""Whether a plan stays sane while users do what they like with the same cloud.

While ``nova-rebalance apply`` carries plans out, a few users create, delete, resize, stop, start,
tag and migrate servers, theirs and those of the plan.  A watcher looks for overfull hosts, broken
server groups and too many migrations of ours.  Exits with 1 if it saw any, if a plan did not end
by itself, or if the program stumbled.
"""

import collections
from collections.abc import Callable
import pathlib
import random
import sys
import threading
import time
from typing import Any

from keystoneauth1 import exceptions as ksa

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.execution import command
from benchmarks.execution import ground
from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import catalogue
from tests.cloud import client
from tests.cloud import scenario
from tests.cloud import settings
from tests.cloud import watch

Json = dict[str, Any]

SECONDS = 8.0
HEADROOM_MIB = 8192
END_S = 1200.0
RACER = "racer"
FLAVORS = ("general.small", "general.medium")
OWN_MOST = 12
"""Servers that one user keeps at most."""
PAUSE_S = (0.2, 1.5)


class User(threading.Thread):
    """One who works on servers of a project until told to end."""

    def __init__(self, cloud: settings.Settings, project: str, plan: Json, seed: int) -> None:
        super().__init__(daemon=True)
        self.done: collections.Counter[str] = collections.Counter()
        self.refused = 0
        self.ended = threading.Event()
        self._chance = random.Random(seed)
        self._client = client.Client(cloud, project, RACER)
        self._image = catalogue.image(cloud)
        found = self._client.compute.get("/flavors").json()["flavors"]
        self._flavors = {one["name"]: one["id"] for one in found if one["name"] in FLAVORS}
        self._own: list[str] = []
        self._planned = [one["instance"] for one in plan["migrations"]]
        self._name = f"race-{project}-{seed}"

    def run(self) -> None:
        """One operation after another."""
        kinds: tuple[tuple[str, Callable[[], bool]], ...] = (
            *[("create", self._create)] * 4,
            *[("delete", self._delete)] * 3,
            *[("resize", self._resize)] * 2,
            *[("confirm", self._confirm)] * 3,
            *[("migrate", self._migrate)] * 2,
            *[("stop", lambda: self._act(self._any(), {"os-stop": None}))] * 1,
            *[("start", lambda: self._act(self._any(), {"os-start": None}))] * 2,
            *[("tag", self._tag)] * 4,
        )
        while not self.ended.wait(self._chance.uniform(*PAUSE_S)):
            name, what = self._chance.choice(kinds)
            try:
                if what():
                    self.done[name] += 1
            except ksa.HttpError:
                # Busy, gone, in another state: as it is when several work on one cloud.
                self.refused += 1
            except ksa.ClientException:
                self.refused += 1

    def leave(self) -> None:
        """Delete what is left, and start what was stopped."""
        compute = self._client.compute
        for server in self._own:
            with_suppressed(lambda name=server: compute.delete(f"/servers/{name}"))
        for server in self._planned:
            with_suppressed(
                lambda name=server: compute.post(f"/servers/{name}/action", json={"os-start": None})
            )

    def _create(self) -> bool:
        if len(self._own) >= OWN_MOST:
            return False
        body = {
            "name": self._name,
            "flavorRef": self._flavors[self._chance.choice(FLAVORS)],
            "imageRef": self._image,
            "networks": "none",
        }
        made = self._client.compute.post("/servers", json={"server": body}).json()
        self._own.append(made["server"]["id"])
        return True

    def _delete(self) -> bool:
        if not self._own:
            return False
        name = self._own.pop(self._chance.randrange(len(self._own)))
        self._client.compute.delete(f"/servers/{name}")
        return True

    def _resize(self) -> bool:
        flavor = self._flavors[self._chance.choice(FLAVORS)]
        return bool(self._own) and self._act(
            self._chance.choice(self._own), {"resize": {"flavorRef": flavor}}
        )

    def _confirm(self) -> bool:
        for name in self._own:
            server = self._client.compute.get(f"/servers/{name}").json()["server"]
            if server["status"] == "VERIFY_RESIZE":
                return self._act(name, {"confirmResize": None})
        return False

    def _migrate(self) -> bool:
        return self._act(self._any(), {"os-migrateLive": {"host": None, "block_migration": "auto"}})

    def _tag(self) -> bool:
        name = self._any()
        self._client.compute.put(f"/servers/{name}/tags/race-{self._chance.randrange(5)}")
        return True

    def _any(self) -> str:
        """Return one of its own servers or, now and then, of the plan's."""
        if self._own and self._chance.random() < 0.7:
            return self._chance.choice(self._own)
        return self._chance.choice(self._planned)

    def _act(self, name: str, body: Json) -> bool:
        self._client.compute.post(f"/servers/{name}/action", json=body)
        return True


def with_suppressed(what: Callable[[], object]) -> None:
    """Do it, whatever the cloud says."""
    try:
        what()
    except ksa.ClientException:
        pass


def measure(
    cloud: settings.Settings, folder: pathlib.Path, *, operations: int, migrations: int, seed: int
) -> bool:
    """Carry plans out until there were enough operations; return whether the bars are met."""
    home = process.Home(cloud, folder)
    ground.account(cloud, RACER, scenario.PROJECTS)
    ours = client.Client(cloud).session.get_user_id()
    limits = watch.Limits(source=1, dest=1, total=8, user=ours)
    done: collections.Counter[str] = collections.Counter()
    bad: list[str] = []
    turn = 0
    with ground.speed(cloud, lambda host: {"seconds": SECONDS}):
        while done.total() < operations and not bad:
            turn += 1
            source = plans.Source.load(home.snapshot())
            plan = plans.wander(source, migrations, seed * 1000 + turn)
            if len(plan["migrations"]) < migrations:
                raise process.ProgramError(f"only {len(plan['migrations'])} migrations were found")
            users = [
                User(cloud, project, plan, seed * 1000 + turn) for project in scenario.PROJECTS
            ]
            began = time.monotonic()
            with watch.Watcher(cloud, limits, plan) as watcher:
                apply = home.apply(home.write_plan(plan, f"plan-{turn}.json"))
                # While it reads the cloud nothing is asked for yet.
                apply.wait_line(0, 60.0)
                for user in users:
                    user.start()
                code = apply.end(END_S)
                for user in users:
                    user.ended.set()
                for user in users:
                    user.join()
                if code is None:
                    apply.kill()
            for user in users:
                done.update(user.done)
                user.leave()
            bad += watcher.report.violations
            if code not in (0, 4):
                bad.append(f"exit code {code}: {apply.text()[-300:]}")
            if "Traceback" in apply.text():
                bad.append("a traceback in its output")
            states = collections.Counter(entry["state"] for entry in home.entries())
            told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            print(
                f"plan {turn}: {len(plan['migrations'])} migrations, exit code {code} after "
                f"{time.monotonic() - began:.0f} s: {told}; {watcher.report.text()}; "
                f"{done.total()} operations so far, {sum(u.refused for u in users)} refused",
                flush=True,
            )
            _rest(cloud)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
    for line in bad:
        print(f"    {line}")
    good = not bad and done.total() >= operations
    print(
        f"racing users: {done.total()} operations (at least {operations}: {kinds}), {len(bad)} "
        f"problems (limit 0): {'PASS' if good else 'FAIL'}"
    )
    return good


def _rest(cloud: settings.Settings) -> None:
    """Wait until nothing moves, and put in order what the users left."""
    tables = watch.Tables(cloud)

    def at_rest() -> bool:
        look = tables.look()
        flying = any(record.status in watch.IN_FLIGHT for record in look.records.values())
        return not flying and not any(server.task_state for server in look.servers.values())

    client.until(at_rest, "all servers are at rest", 240, 1.0)
    tables.close()
    for line in ground.mend(cloud):
        print(f"    mended: {line}", flush=True)


def main() -> None:
    """Make the cloud ready and race."""
    parser = command.parser(__doc__)
    parser.add_argument("--operations", type=int, default=500, metavar="N", help="default: 500")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(
            cloud,
            given.work,
            operations=given.operations,
            migrations=given.migrations,
            seed=given.seed,
        ),
    )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Whether an opt-out or a lock that is set while a plan is carried out stops the migration.

While ``nova-rebalance apply`` is at work, instances whose migration was not asked for yet get, in
turn, the tag, the metadata or a lock.  None of them may leave its host after Nova has answered
that.  A proxy in front of Nova tells when each request came, so two things are counted: requests
that came after the answer all the same, and instances that such a request moved, because it was
not given up again.  For some the proxy itself opts the instance out while the request is on its
way, before Nova hears of it: those can only be given up.  Exits with 1 if an instance was moved,
or if there were too few tries.
"""

import collections
import dataclasses
import pathlib
import random
import re
import sys
import threading
import time
from typing import Any

from keystoneauth1 import exceptions as http

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.execution import command
from benchmarks.execution import ground
from benchmarks.execution import plans
from benchmarks.execution import process
from tests.cloud import client
from tests.cloud import proxy
from tests.cloud import scenario
from tests.cloud import settings
from tests.cloud import watch

Json = dict[str, Any]

SECONDS = 4.0
HEADROOM_MIB = 8192
END_S = 900.0
# What is left out may be most of the plan here, and all else goes on.
OPTIONS = {"replans": 0, "drift_share": 1.0}
ASKED = re.compile(r"^POST /v2.1/servers/([0-9a-f-]{36})/action$")
WAYS = ("tag", "metadata", "lock")


class Stamped(proxy.Proxy):
    """Knows when each request came."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.asked: dict[str, list[float]] = collections.defaultdict(list)

    def rule(self, method: str, path: str) -> proxy.Rule | None:
        """As it is, with the time."""
        found = ASKED.match(f"{method} {path}")
        if found:
            self.asked[found[1]].append(time.time())
        return super().rule(method, path)


@dataclasses.dataclass(frozen=True)
class Try:
    """An instance that was opted out, and when that was answered."""

    instance: str
    way: str
    at: float
    on_its_way: bool = False
    """Whether the request had been sent and was held until this was answered."""


class User:
    """Opts instances of a plan out while it is carried out, and takes it back."""

    def __init__(self, cloud: settings.Settings, seed: int) -> None:
        self._admin = client.Client(cloud)
        self._chance = random.Random(seed)
        self.tries: list[Try] = []

    def go_on(self, plan: Json, nova: Stamped, share: float, ended: threading.Event) -> None:
        """Opt so large a share of the plan's instances out, at moments by chance."""
        names = [one["instance"] for one in plan["migrations"]]
        self._chance.shuffle(names)
        for name in names[: int(len(names) * share)]:
            if ended.wait(self._chance.uniform(0.0, 2.0)):
                return
            if not nova.asked[name]:
                way = WAYS[len(self.tries) % len(WAYS)]
                self._set(name, way)
                self.tries.append(Try(name, way, time.time()))

    def on_its_way(self, plan: Json, nova: Stamped, share: float) -> None:
        """Opt the last instances of a plan out when their request comes by the proxy."""
        names = [one["instance"] for one in plan["migrations"]]
        self._chance.shuffle(names)
        for name in names[: int(len(names) * share)]:
            pattern = f"POST /v2.1/servers/{name}/action"
            nova.rules.append(
                proxy.Rule(pattern, count=1, before=lambda name=name: self._hold(name))
            )

    def _hold(self, name: str) -> None:
        """Opt an instance out unless it is already."""
        if all(one.instance != name for one in self.tries):
            way = WAYS[sum(one.on_its_way for one in self.tries) % len(WAYS)]
            self._set(name, way)
            self.tries.append(Try(name, way, time.time(), on_its_way=True))

    def _set(self, name: str, way: str) -> None:
        compute = self._admin.compute
        if way == "tag":
            compute.put(f"/servers/{name}/tags/{scenario.OPT_OUT_TAG}")
        elif way == "metadata":
            compute.post(f"/servers/{name}/metadata", json={"metadata": scenario.OPT_OUT_METADATA})
        else:
            compute.post(f"/servers/{name}/action", json={"lock": None})

    def take_back(self) -> None:
        """Undo all of it."""
        compute = self._admin.compute
        for one in self.tries:
            try:
                if one.way == "tag":
                    compute.delete(f"/servers/{one.instance}/tags/{scenario.OPT_OUT_TAG}")
                elif one.way == "metadata":
                    for key in scenario.OPT_OUT_METADATA:
                        compute.delete(f"/servers/{one.instance}/metadata/{key}")
                else:
                    compute.post(f"/servers/{one.instance}/action", json={"unlock": None})
            except http.NotFound:
                continue


class Count:
    """What became of the tries."""

    def __init__(self) -> None:
        self.held: collections.Counter[str] = collections.Counter()
        """Tries in time, by way."""
        self.late = 0
        self.slipped: list[str] = []
        self.on_its_way = 0
        self.moved: list[str] = []
        """What a request that came too late to be right moved."""

    @property
    def tries(self) -> int:
        """In time."""
        return self.held.total()

    def add(self, one: Try, asked: list[float], moved: bool) -> None:
        """Take one more; ``moved``: whether the instance left its host."""
        what = f"{one.instance}: {one.way}, "
        if one.on_its_way:
            self.on_its_way += 1
            if moved:
                self.moved.append(what + "answered while the request was on its way; it was moved")
            return
        if asked and asked[0] <= one.at:
            self.late += 1
            return
        self.held[one.way] += 1
        if asked:
            what += f"asked for {(asked[0] - one.at) * 1000:.0f} ms after it was answered"
            self.slipped.append(f"{what}, {'moved' if moved else 'given up again'}")
        if moved:
            self.moved.append(what)

    def text(self) -> str:
        """Say it in one line."""
        by_way = ", ".join(f"{count} by {way}" for way, count in sorted(self.held.items()))
        return (
            f"{self.tries} tries in time ({by_way}), of which {len(self.slipped)} were asked for "
            f"all the same; {self.on_its_way} set while the request was on its way; "
            f"{self.late} too late; {len(self.moved)} moved"
        )


def measure(
    cloud: settings.Settings, folder: pathlib.Path, *, tries: int, migrations: int, seed: int
) -> bool:
    """Try so often and print the figures; return whether the bar is met."""
    home = process.Home(cloud, folder, OPTIONS)
    count = Count()
    bad: list[str] = []
    turn = 0
    with ground.speed(cloud, lambda host: {"seconds": SECONDS}):
        while count.tries < tries and not bad:
            turn += 1
            source = plans.Source.load(home.snapshot())
            plan = plans.wander(source, migrations, seed * 1000 + turn, each=1, waits=False)
            user = User(cloud, seed * 1000 + turn)
            ended = threading.Event()
            with Stamped(cloud.url("nova-api")) as nova:
                home.endpoints({"compute": f"{nova.url}/v2.1"})
                user.on_its_way(plan, nova, 0.2)
                apply = home.apply(home.write_plan(plan, f"plan-{turn}.json"))
                thread = threading.Thread(target=user.go_on, args=(plan, nova, 0.7, ended))
                # While it reads the cloud nothing is asked for yet.
                apply.wait_line(0, 60.0)
                thread.start()
                code = apply.end(END_S)
                ended.set()
                thread.join()
            home.endpoints({})
            if code not in (0, 4) or "Traceback" in apply.text():
                bad.append(f"exit code {code}: {apply.text()[-300:]}")
                apply.kill()
            tables = watch.Tables(cloud)
            look = tables.look()
            tables.close()
            sources = {one["instance"]: one["source"] for one in plan["migrations"]}
            for one in user.tries:
                moved = look.servers[one.instance].host != sources[one.instance]
                count.add(one, nova.asked[one.instance], moved)
            states = collections.Counter(
                f"{one['state']} ({one['code']})" if one["code"] else one["state"]
                for one in home.entries()
            )
            user.take_back()
            told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
            print(f"plan {turn}: exit code {code}: {told}; so far {count.text()}", flush=True)
    good = not count.moved and not bad and count.tries >= tries
    for line in (*count.slipped, *count.moved, *bad):
        print(f"    {line}")
    print(
        f"opt-out: {count.text()} (at least {tries} in time, limit 0 moved): "
        f"{'PASS' if good else 'FAIL'}"
    )
    return good


def main() -> None:
    """Make the cloud ready and try."""
    parser = command.parser(__doc__)
    parser.add_argument("--tries", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command.run(
        given.state,
        HEADROOM_MIB,
        lambda cloud: measure(
            cloud,
            given.work,
            tries=given.tries,
            migrations=given.migrations,
            seed=given.seed,
        ),
    )


if __name__ == "__main__":
    main()

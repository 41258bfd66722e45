# SPDX-License-Identifier: Apache-2.0
"""Whether Nova does what our rules predict, on a test cloud with its scenario.

Every instance that the rules call migratable is migrated live once, to a host drawn from those the
rules leave to it; Nova must accept each, and put its NUMA cells where they were predicted.  Then
moves that one rule alone forbids are asked for: Nova must refuse each, or the rule must be one of
those that are stricter on purpose.  Exits with 1 if anything is otherwise.
"""

import argparse
import collections
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import json
import os
import pathlib
import random
import sys
import tempfile
import time
from typing import Any

from keystoneauth1 import exceptions as http

from nova_rebalancer import exceptions
from nova_rebalancer.collect import live
from nova_rebalancer.collect import reader
from nova_rebalancer.model import cloud as model
from nova_rebalancer.model import explanation
from nova_rebalancer.model import ledger
from nova_rebalancer.model import state
from nova_rebalancer.model.constraints import base
from nova_rebalancer.model.constraints import migratable
from nova_rebalancer.rest import client as collect_client
from nova_rebalancer.rest import connection

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from tests.cloud import client
from tests.cloud import settings

STRICTER = {
    "allowed_hosts": "a pin is ours, Nova knows none",
    "cpu": "the API does not show the guest's CPU, so the same model is asked for",
    "host_not_usable": "nothing leaves a host that is disabled, down or not read whole",
    "pci_devices": "whether a device migrates is in Nova's configuration alone",
    "banned_hosts": "a ban is ours, Nova knows none",
    "keep_zone": "Nova lets what asked for no zone leave its zone",
    "affinity": "the group is split where a member is on the destination already, or refused",
    "image_isolation": "Nova compares only the properties it knows",
    "locked": "an administrator may move what is locked",
    "nested_resources": "whether a device migrates depends on drivers",
    "numa": "where devices in use decide on the cells, and the API does not show them",
    "numa_unknown": "pinned instances with isolated emulator threads",
    "opted_out": "opting out is ours, Nova knows none",
    "scheduler_hints": "a hint may be met all the same",
    "special_ports": "whether a port migrates depends on drivers",
    "traits": "a nested provider may have the trait in place of the host",
}
"""Rules that may forbid what Nova does, and why; the documentation has a table of all."""

FLIGHTS = 6
"""Migrations under way at a time; each has hosts of its own."""

SETTLED_S = 240.0
POLL_S = 0.5
OVER = ("completed", "error", "failed", "cancelled", "done", "confirmed")


@dataclasses.dataclass(frozen=True)
class Move:
    """One to ask for; ``rule`` forbids it, and ``cells`` are what is predicted if none does."""

    instance: str
    name: str
    source: str
    dest: str
    rule: str | None = None
    text: str = ""
    cells: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What Nova did: where the instance ended, on which cells, and what it said."""

    move: Move
    accepted: bool
    said: str
    cells: tuple[int, ...] | None = None


class Prober:
    """Asks a test cloud for moves and sees what becomes of them."""

    def __init__(self, cloud: settings.Settings, facts: str, seed: int) -> None:
        self._admin = client.Client(cloud)
        self._facts = facts
        self._random = random.Random(seed)
        self._read = collect_client.Limits()

    def snapshot(self) -> model.Snapshot:
        """Read the cloud as ``nova-rebalance plan`` does."""
        source = connection.connect("test-cloud", 60)
        how = live.Options(self._read, facts_file=self._facts or None, cache=False)
        return live.snapshot(source, how, reader.Progress()).snapshot

    def migratable(self, batches: int | None = None) -> tuple[list[Outcome], list[Move]]:
        """Move everything once that may be moved; what was done, and what found no room.

        With ``batches`` only so many of a few moves each.
        """
        done: list[Outcome] = []
        seen: set[str] = set()
        while True:
            snapshot = self.snapshot()
            start = state.build(snapshot)
            batch, left = self._batch(snapshot, start, seen)
            if not batch or batches == 0:
                return done, left
            batches = None if batches is None else batches - 1
            seen.update(move.instance for move in batch)
            outcomes = list(self._carry_out(batch))
            done += outcomes
            refused = [one for one in outcomes if not one.accepted]
            print(f"  {len(done)} moved, {len(refused)} refused in this batch", flush=True)

    def _batch(
        self, snapshot: model.Snapshot, start: state.PlacementState, seen: set[str]
    ) -> tuple[list[Move], list[Move]]:
        """Draw moves that have no host and no group in common, and name what has no room now."""
        book = ledger.Ledger(start)
        busy: set[int] = set()
        groups: set[int] = set()
        batch: list[Move] = []
        waiting: list[Move] = []
        order = [v for v in range(len(start.instances)) if start.instances[v] not in seen]
        self._random.shuffle(order)
        for v in order:
            if not start.movable[v]:
                continue
            source = int(start.host_of[v])
            hosts = [
                h for h in book.hosts_with_room(v).tolist() if book.cells_for(v, h) is not None
            ]
            mine = set(book.groups_of.get(v, ()))
            free = [h for h in hosts if h not in busy]
            one = snapshot.instances[v]
            if len(batch) >= FLIGHTS or source in busy or mine & groups or not free:
                if not hosts:
                    waiting.append(Move(one.id, str(one.name), start.service_hosts[source], ""))
                continue
            h = self._random.choice(free)
            cells = book.cells_for(v, h) or ()
            numbers = tuple(start.cell_ids[h][n] for n in cells) if one.numa else None
            busy |= {source, h}
            groups |= mine
            batch.append(
                Move(
                    one.id,
                    str(one.name),
                    start.service_hosts[source],
                    start.service_hosts[h],
                    cells=numbers,
                )
            )
        return batch, waiting

    def forbidden(self, least: int, each: int) -> list[Outcome]:
        """Ask for moves that one rule alone forbids: at least so many, each rule up to a number."""
        done: list[Outcome] = []
        tried: set[tuple[str, str]] = set()
        counts: collections.Counter[str] = collections.Counter()
        while True:
            snapshot = self.snapshot()
            batch = self._forbidden_batch(snapshot, tried, counts, each)
            if not batch:
                if len(done) >= least or each > 10 * least:
                    return done
                each *= 2
                continue
            for outcome in self._carry_out(batch):
                done.append(outcome)
                counts[str(outcome.move.rule)] += 1
                tried.add((outcome.move.instance, outcome.move.dest))
            print(f"  {len(done)} forbidden moves asked for", flush=True)

    def _forbidden_batch(
        self,
        snapshot: model.Snapshot,
        tried: set[tuple[str, str]],
        counts: collections.Counter[str],
        each: int,
    ) -> list[Move]:
        moves = [
            move
            for move in self._candidates(snapshot)
            if (move.instance, move.dest) not in tried and counts[str(move.rule)] < each
        ]
        self._random.shuffle(moves)
        # Rare rules first.
        moves.sort(key=lambda move: counts[str(move.rule)])
        batch: list[Move] = []
        busy: set[str] = set()
        soon = collections.Counter(counts)
        for move in moves:
            ends = {move.source, move.dest, move.instance}
            if len(batch) < FLIGHTS and not ends & busy and soon[str(move.rule)] < each:
                batch.append(move)
                busy |= ends
                soon[str(move.rule)] += 1
        return batch

    def _candidates(self, snapshot: model.Snapshot) -> Iterator[Move]:
        """Yield moves that exactly one rule forbids; down hosts are left alone as sources."""
        up = {host.id for host in snapshot.hosts if host.state == "up" and not host.forced_down}
        judged = explanation.Explainer(snapshot, base.DEFAULTS)
        for one in snapshot.instances:
            if one.host not in up or one.status not in ("ACTIVE", "PAUSED", "SHUTOFF"):
                continue
            found = judged.of(one)
            stops = [o for o in found.obstacles if migratable.LIVE in o.methods]
            for verdict in found.verdicts:
                reasons = [(refusal.rule, refusal.text) for refusal in verdict.refusals]
                reasons += [(o.reason.code, o.reason.text) for o in stops]
                if len(reasons) == 1 and not verdict.here:
                    rule, text = reasons[0]
                    yield Move(
                        one.id,
                        str(one.name),
                        found.host.service_host,
                        verdict.host,
                        rule,
                        text,
                    )

    def _carry_out(self, moves: Iterable[Move]) -> Iterator[Outcome]:
        """Ask for moves together and wait for the end of each."""
        asked: dict[Move, str | None] = {}
        before = {move: self._migrations(move.instance) for move in moves}
        for move in before:
            body = {"os-migrateLive": {"host": move.dest, "block_migration": "auto"}}
            try:
                self._admin.compute.post(f"/servers/{move.instance}/action", json=body)
                asked[move] = None
            except http.HttpError as error:
                asked[move] = f"{error.http_status}: {error.message}"
        for move, refusal in asked.items():
            if refusal is not None:
                yield Outcome(move, False, refusal)
            else:
                yield self._settled(move, set(before[move]))

    def _settled(self, move: Move, before: set[int]) -> Outcome:
        end = time.monotonic() + SETTLED_S
        while time.monotonic() < end:
            new = [m for i, m in self._migrations(move.instance).items() if i not in before]
            server = self._admin.compute.get(f"/servers/{move.instance}").json()["server"]
            if server["OS-EXT-STS:task_state"] is None and all(m["status"] in OVER for m in new):
                host = server["OS-EXT-SRV-ATTR:host"]
                if host == move.dest and any(m["status"] == "completed" for m in new):
                    return Outcome(move, True, "completed", self._cells(move.instance))
                if new or host == move.source:
                    statuses = ", ".join(sorted(m["status"] for m in new)) or "no record"
                    return Outcome(move, False, f"{statuses}; it is {server['status']} on {host}")
            time.sleep(POLL_S)
        raise settings.CloudError(f"{move.name} to {move.dest}: not over after {SETTLED_S:.0f} s")

    def _migrations(self, instance: str) -> dict[int, dict[str, Any]]:
        path = f"/os-migrations?instance_uuid={instance}"
        found = self._admin.list(self._admin.compute, path, "migrations")
        return {one["id"]: one for one in found}

    def _cells(self, instance: str) -> tuple[int, ...] | None:
        found = self._admin.compute.get(f"/servers/{instance}/topology").json()
        return tuple(node["host_node"] for node in found["nodes"]) or None


def main() -> None:
    """Move, ask for what is forbidden, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forbidden", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--each", type=int, default=10, metavar="N", help="of a rule; default: 10")
    arguments = parser.parse_args()
    try:
        cloud = settings.load(arguments.state)
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(cloud.clouds_yaml)
        good = measure(cloud, arguments.seed, arguments.forbidden, arguments.each)
    except (settings.CloudError, exceptions.RebalancerError) as error:
        sys.exit(f"constraints_cloud: {error}")
    sys.exit(0 if good else 1)


def measure(cloud: settings.Settings, seed: int, forbidden: int, each: int) -> bool:
    """Print all figures; return whether all is as it should be."""
    from tests.cloud import facts

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "facts.json")
        # JSON is YAML.
        file.write_text(json.dumps(facts.document(cloud)))
        unknown = without_facts(Prober(cloud, "", seed).snapshot())
        prober = Prober(cloud, str(file), seed)
        done, left = prober.migratable()
        asked = prober.forbidden(forbidden, each)
    refused = [one for one in done if not one.accepted]
    elsewhere = [one for one in done if one.accepted and one.cells != one.move.cells]
    print(f"migratable: {len(done)} moved, {len(refused)} of them refused by Nova (limit 0)")
    for one in refused:
        print(f"    {one.move.name} {one.move.source} -> {one.move.dest}: {one.said}")
    numa = sum(one.move.cells is not None for one in done)
    print(f"NUMA: {numa} moved, {len(elsewhere)} on other cells than predicted (limit 0)")
    for one in elsewhere:
        print(f"    {one.move.name} on {one.move.dest}: {one.cells}, not {one.move.cells}")
    print(f"migratable, but no host ever had room: {len(left)}")
    for move in left:
        print(f"    {move.name} on {move.source}")
    print(f"without facts: {unknown} instances with a NUMA topology could be moved (limit 0)")
    accepted = [one for one in asked if one.accepted]
    wrong = [one for one in accepted if one.move.rule not in STRICTER]
    print(
        f"forbidden: {len(asked)} asked for (at least {forbidden}), {len(asked) - len(accepted)} "
        f"refused by Nova, {len(accepted)} accepted, of these {len(wrong)} where we are not "
        "stricter on purpose (limit 0)"
    )
    rules = sorted({str(one.move.rule) for one in asked})
    for rule in rules:
        mine = [one for one in asked if one.move.rule == rule]
        took = sum(one.accepted for one in mine)
        why = f"; {STRICTER[rule]}" if took and rule in STRICTER else ""
        print(f"    {rule}: {len(mine) - took} refused, {took} accepted{why}")
    for one in wrong:
        print(f"    {one.move.name} -> {one.move.dest} ({one.move.rule}): {one.move.text}")
    return not (refused or elsewhere or wrong or unknown or len(asked) < forbidden)


def without_facts(snapshot: model.Snapshot) -> int:
    """Return how many instances with a NUMA topology could be moved where nobody tells cells."""
    start = state.build(snapshot)
    return int((start.movable & (start.guests_of > 0)).sum())


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What is true of a path-finding case, by search over all placements.

    python benchmarks/path_reference.py FILE...

Shares no code with the package.  For each case of the files (the format that ``nova-rebalance path
--problem`` reads) it finds whether the final placement can be reached, the least cost, the least
number of moves, and the least number of rounds when each host has at most one outgoing and one
incoming move per round.  Prints a line for each, and where the file's ``known`` says otherwise;
exit code 1 if it does.

Placements are integers: a bit for each instance and host.  For each host a table says which sets of
instances may be on it, so a move is legal if the table has the set with the newcomer.  Hosts and
instances that have nothing to do with each other (zones) are searched one by one.  That takes
seconds up to about ten instances on four hosts, and gives up beyond ``MOST`` placements.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import heapq
import json
import pathlib
import sys
from typing import Any

MOST = 2_000_000
"""Placements looked at before giving up."""
MOST_ROUNDS = 1_000_000
"""Rounds, or placements for their sake, looked at before the number of rounds is given up."""
MOST_INSTANCES = 16
"""Of a zone: a table has two to the power of this entries."""

Case = dict[str, Any]
Move = tuple[int, int, int]
"""Instance, from host, to host, as positions."""


class TooLarge(Exception):
    """The case has too many placements."""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What is true of a case, as ``known`` of the format has it; None where it is not known.

    ``cheapest_rounds_1x1`` is not in the format: the fewest rounds of a path of the least cost.
    """

    reachable: bool
    optimal_cost: int | None
    optimal_moves: int | None
    direct_cost: int
    direct_moves: int
    optimal_rounds_1x1: int | None
    cheapest_rounds_1x1: int | None
    states_closed: int
    witness: list[list[str]] | None


class Zone:
    """Some hosts, and the instances on them, which may be on no others."""

    def __init__(self, case: Case, hosts: Sequence[dict[str, Any]], vms: Sequence[Any]) -> None:
        if len(vms) > MOST_INSTANCES:
            raise TooLarge(f"{case['id']}: {len(vms)} instances depend on each other")
        self.hosts, self.vms = [host["name"] for host in hosts], [vm["name"] for vm in vms]
        self.costs = [int(vm["cost"]) for vm in vms]
        self.width = len(vms)
        self.full = (1 << self.width) - 1
        at = {name: h for h, name in enumerate(self.hosts)}
        self.start_of = [at[case["initial"][name]] for name in self.vms]
        self.goal_of = [at[case["final"][name]] for name in self.vms]
        self.start, self.goal = self.placed(self.start_of), self.placed(self.goal_of)
        self.may = self._tables(case, hosts, vms)

    def placed(self, host_of: Sequence[int]) -> int:
        """The placement with instance v on ``host_of[v]``."""
        return sum(1 << v << h * self.width for v, h in enumerate(host_of))

    def _tables(
        self, case: Case, hosts: Sequence[dict[str, Any]], vms: Sequence[Any]
    ) -> list[bytearray]:
        """For each host, for each set of instances, whether it may be there."""
        bit = {name: 1 << v for v, name in enumerate(self.vms)}
        groups = [sum(bit.get(name, 0) for name in group) for group in case["anti_affinity"]]
        apart = bytearray(
            not any((taken & group).bit_count() > 1 for group in groups)
            for taken in range(self.full + 1)
        )
        loads = [[0] * (self.full + 1) for _ in case["resources"]]
        for taken in range(1, self.full + 1):
            last = taken & -taken
            demand = vms[last.bit_length() - 1]["demand"]
            for load, amount in zip(loads, demand, strict=True):
                load[taken] = load[taken ^ last] + amount
        tables = []
        for host in hosts:
            banned = sum(
                bit[vm["name"]] for vm in vms if host["name"] not in allowed_hosts(case, vm)
            )
            table = bytearray(apart[taken] and not taken & banned for taken in range(self.full + 1))
            for load, most in zip(loads, host["capacity"], strict=True):
                for taken, amount in enumerate(load):
                    if amount > most:
                        table[taken] = 0
            tables.append(table)
        return tables

    def moves(self, placement: int) -> Iterator[Move]:
        """Legal moves."""
        there = [placement >> h * self.width & self.full for h in range(len(self.hosts))]
        for a, here in enumerate(there):
            while here:
                bit = here & -here
                here ^= bit
                for b, table in enumerate(self.may):
                    if b != a and table[there[b] | bit]:
                        yield bit.bit_length() - 1, a, b

    def moved(self, placement: int, move: Move) -> int:
        """The placement after a move."""
        v, a, b = move
        return placement ^ (1 << v << a * self.width) ^ (1 << v << b * self.width)

    def price(self, before: int, after: int) -> int:
        """What it costs to move each instance straight from one placement to the other."""
        moved, change = 0, before ^ after
        while change:
            moved |= change & self.full
            change >>= self.width
        return sum(cost for v, cost in enumerate(self.costs) if moved >> v & 1)

    def rounds(self, placement: int) -> Iterator[int]:
        """The placements after each legal round, one outgoing and one incoming move a host.

        Who leaves a host in a round is still there for who comes, and nobody else comes, so each
        move of a round is legal if it is by itself.
        """
        leaving: list[list[tuple[int, int]]] = [[] for _ in self.hosts]
        for move in self.moves(placement):
            leaving[move[1]].append((self.moved(placement, move) ^ placement, 1 << move[2]))
        reached = [(placement, 0)]
        for choices in leaving:
            reached += [
                (after ^ change, taken | dest)
                for after, taken in reached
                for change, dest in choices
                if not taken & dest
            ]
        return (after for after, _ in reached)


def allowed_hosts(case: Case, vm: dict[str, Any]) -> list[str]:
    """Hosts where an instance may be."""
    return vm.get("allowed_hosts") or [host["name"] for host in case["hosts"]]


def zones(case: Case) -> list[Zone]:
    """The case cut into zones; hosts without instances that may be there are left out."""
    root = {host["name"]: host["name"] for host in case["hosts"]}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for vm in case["vms"]:
        first, *others = allowed_hosts(case, vm)
        for other in others:
            root[find(other)] = find(first)
    hosts: dict[str, list[Any]] = {}
    for host in case["hosts"]:
        hosts.setdefault(find(host["name"]), []).append(host)
    vms: dict[str, list[Any]] = {}
    for vm in case["vms"]:
        vms.setdefault(find(case["initial"][vm["name"]]), []).append(vm)
    return [Zone(case, hosts[name], vms[name]) for name in vms]


def connected(zone: Zone) -> tuple[bool, int]:
    """Whether the goal can be reached, and how many placements that took.

    Moves can be undone, so it is searched from both ends; one that has no more placements proves
    that there is no path.
    """
    seen = [{zone.start}, {zone.goal}]
    fronts = [[zone.start], [zone.goal]]
    if zone.start == zone.goal:
        return True, 1
    while fronts[0] and fronts[1]:
        side = int(len(seen[1]) < len(seen[0]))
        front = []
        for placement in fronts[side]:
            for move in zone.moves(placement):
                after = zone.moved(placement, move)
                if after not in seen[side]:
                    if after in seen[1 - side]:
                        return True, sum(map(len, seen))
                    seen[side].add(after)
                    front.append(after)
        if len(seen[side]) > MOST:
            raise TooLarge(f"more than {MOST} placements")
        fronts[side] = front
    return False, sum(map(len, seen))


def cheapest(zone: Zone, costs: Sequence[int]) -> tuple[int, list[Move], int]:
    """The least cost to the goal, which can be reached; moves that cost so much; placements closed.

    Uniform-cost search, directed by the cost of what is not at its goal: each move changes that by
    at most its own cost, so the first time the goal is taken is the cheapest.
    """
    goal_of = zone.goal_of
    left = sum(c for c, a, b in zip(costs, zone.start_of, goal_of, strict=True) if a != b)
    paid = {zone.start: 0}
    came: dict[int, tuple[int, Move]] = {}
    closed: set[int] = set()
    heap = [(left, left, zone.start)]
    while heap:
        total, left, placement = heapq.heappop(heap)
        if placement in closed:
            continue
        if placement == zone.goal:
            break
        closed.add(placement)
        if len(closed) > MOST:
            raise TooLarge(f"more than {MOST} placements")
        for move in zone.moves(placement):
            after = zone.moved(placement, move)
            v, a, b = move
            price = total - left + costs[v]
            if after not in paid or price < paid[after]:
                paid[after] = price
                came[after] = placement, move
                rest = left + costs[v] * ((a == goal_of[v]) - (b == goal_of[v]))
                heapq.heappush(heap, (price + rest, rest, after))
    moves, placement = [], zone.goal
    while placement != zone.start:
        placement, move = came[placement]
        moves.append(move)
    return paid[zone.goal], moves[::-1], len(closed)


def fewest_rounds(zone: Zone) -> int | None:
    """The least number of rounds to the goal, which can be reached; None after ``MOST_ROUNDS``.

    A round can be undone by a round (who came to a host had room beside who left), so it is
    searched from both ends.
    """
    seen = [{zone.start}, {zone.goal}]
    fronts = [[zone.start], [zone.goal]]
    count, looked = 0, 0
    if zone.start == zone.goal:
        return 0
    while True:
        count += 1
        side = int(len(fronts[1]) < len(fronts[0]))
        front = []
        for placement in fronts[side]:
            for after in zone.rounds(placement):
                looked += 1
                if after not in seen[side]:
                    if after in seen[1 - side]:
                        return count
                    seen[side].add(after)
                    front.append(after)
            if looked > MOST_ROUNDS:
                return None
        fronts[side] = front


def costs_to_goal(zone: Zone, most: int) -> dict[int, int] | None:
    """The least cost from a placement to the goal; None if there are too many placements.

    Of those that a path of cost ``most`` may come by: the way from the start costs no less than
    moving straight what is elsewhere.
    """
    least, heap = {zone.goal: 0}, [(0, zone.goal)]
    while heap:
        paid, placement = heapq.heappop(heap)
        if paid > least[placement]:
            continue
        if len(least) > MOST_ROUNDS:
            return None
        for move in zone.moves(placement):
            after, price = zone.moved(placement, move), paid + zone.costs[move[0]]
            if after in least:
                if price >= least[after]:
                    continue
            elif price + zone.price(zone.start, after) > most:
                continue
            least[after] = price
            heapq.heappush(heap, (price, after))
    return least


def fewest_rounds_of_cheapest(zone: Zone, cost: int) -> int | None:
    """The least number of rounds of a path of the least cost; None after ``MOST_ROUNDS``.

    The moves of a round can be made one after another, so it is part of a cheapest path if what
    they cost is what it brings the goal nearer.
    """
    left = costs_to_goal(zone, cost)
    if left is None:
        return None
    front, seen, count, looked = [zone.start], {zone.start}, 0, 0
    while zone.goal not in seen:
        count += 1
        next_front = []
        for placement in front:
            for after in zone.rounds(placement):
                looked += 1
                if after in left and after not in seen:
                    if left[placement] - left[after] == zone.price(placement, after):
                        seen.add(after)
                        next_front.append(after)
            if looked > MOST_ROUNDS:
                return None
        front = next_front
    return count


def solve(case: Case) -> Known:
    """What is true of a case.

    Raises
    ------
    TooLarge
        If a zone has too many placements.
    """
    parts = zones(case)
    looked = 0
    reachable = True
    for zone in parts:
        there, closed = connected(zone)
        looked += closed
        reachable &= there
    moved = [vm for vm in case["vms"] if case["initial"][vm["name"]] != case["final"][vm["name"]]]
    direct = sum(vm["cost"] for vm in moved), len(moved)
    if not reachable:
        return Known(False, None, None, *direct, None, None, looked, None)
    cost, moves, witness = 0, 0, []
    rounds: list[int | None] = [0]
    cheapest_rounds: list[int | None] = [0]
    for zone in parts:
        least, path, closed = cheapest(zone, zone.costs)
        fewest, *_ = cheapest(zone, [1] * zone.width)
        rounds.append(fewest_rounds(zone))
        cheapest_rounds.append(fewest_rounds_of_cheapest(zone, least))
        cost, moves, looked = cost + least, moves + fewest, looked + closed
        witness += [[zone.vms[v], zone.hosts[a], zone.hosts[b]] for v, a, b in path]
    return Known(
        True, cost, moves, *direct, slowest(rounds), slowest(cheapest_rounds), looked, witness
    )


def slowest(rounds: Sequence[int | None]) -> int | None:
    """Rounds of zones side by side; None if those of one are not known."""
    return None if None in rounds else max(filter(None, rounds), default=0)


def differences(case: Case, found: Known) -> list[str]:
    """Where the file's ``known`` says something else."""
    return [
        f"{name} is {said} in the file"
        for name, said in case.get("known", {}).items()
        if name in ("reachable", "optimal_cost", "optimal_moves", "optimal_rounds_1x1")
        and said is not None
        and getattr(found, name) not in (said, None)
    ]


def read(file: pathlib.Path) -> list[Case]:
    """The cases of a file."""
    cases: list[Case] = json.loads(file.read_bytes())["instances"]
    return cases


def main() -> int:
    """Solve and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    wrong = 0
    print(
        f"{'case':28} {'family':26} {'path':5} {'cost':>7} {'moves':>5} {'rounds':>6} {'looked':>8}"
    )
    for file in options.files:
        for case in read(file):
            try:
                found = solve(case)
            except TooLarge as error:
                print(f"{case['id']:28} {case['family']:26} too large: {error}")
                continue
            bad = differences(case, found)
            wrong += len(bad)
            print(
                f"{case['id']:28} {case['family']:26} {found.reachable!s:5}"
                f" {found.optimal_cost!s:>7} {found.optimal_moves!s:>5}"
                f" {found.optimal_rounds_1x1!s:>6} {found.cheapest_rounds_1x1!s:>8}"
                f" {found.states_closed:8} {'; '.join(bad)}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

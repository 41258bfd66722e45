# SPDX-License-Identifier: Apache-2.0
"""Small path-finding cases with what is true of them.

    python benchmarks/path_cases.py FAMILY SEED N OUT.json

``FAMILY`` is one of those below, or ``all`` for some of each; with ``/REASON`` only cases of that
reason are drawn.  The same words give the same file.

==============  ============================================================================
family          how it is drawn
==============  ============================================================================
one_dim         3 or 4 hosts, 5 to 7 instances, memory only
two_dim         the same with two resources, hosts of several sizes
three_dim       the same with three
allowed         two resources; some instances may not be on some hosts
anti_affinity   two instances must never meet
flavours        sizes of flavors; so instances are alike, and fill hosts exactly
custom_cost     the cost of a migration has nothing to do with the size
rotation        a big instance on each host changes to the next; perhaps a host to spare
two_host        2 hosts, 8 or 9 instances: subset-sum reconfiguration
larger          4 hosts, 9 or 10 instances
composite       5 to 41 of these side by side, which have nothing to do with each other
tiny            whatever comes: all of 1 to 3 resources, allowed hosts, anti-affinity
==============  ============================================================================

==============  ============================================================================
reason          why it was kept
==============  ============================================================================
extra           more is needed than each instance straight to its target
order           straight moves suffice, and any order will do
order_stall     straight moves suffice, but not in any order
multi           the cheapest path moves an instance three times or more
unreach_hard    no path, and the relaxation does not see it
unreach_easy    no path, and the relaxation proves it
any             not chosen at all
==============  ============================================================================
"""

import argparse
import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import json
import pathlib
import random
from typing import Any

import path_reference

Case = path_reference.Case
RESOURCES = ("memory_mb", "vcpu", "disk_gb")
FLAVORS = ((2048, 1), (4096, 1), (4096, 2), (8192, 2), (8192, 4), (16384, 4), (16384, 8))
FLAVOR_HOSTS = ((16384, 8), (19456, 8), (27648, 10), (32768, 16))
COSTS = (1, 2, 5, 10, 20, 50)
SHARES = {
    "extra": 6,
    "order": 1,
    "order_stall": 2,
    "multi": 1,
    "unreach_hard": 4,
    "unreach_easy": 1,
}
"""How often each reason is drawn."""
RING_SHARES = {"extra": 3, "multi": 1, "unreach_hard": 2, "unreach_easy": 1}
"""The same for rings, where something is always in the way."""
TRIES = 4000
"""Draws to find one of a reason before another reason is drawn."""


class NoRoom(Exception):
    """What was drawn does not fit."""


def amounts(
    rng: random.Random, size: int, capacity: Sequence[int], fill: tuple[float, float]
) -> list[int]:
    """Sizes that fill so much of ``capacity`` together, from 1 to 9 in proportion."""
    shares = [rng.uniform(1, 9) for _ in range(size)]
    scale = rng.uniform(*fill) * sum(capacity) / sum(shares)
    return [max(1, round(share * scale)) for share in shares]


def case_of(
    hosts: Sequence[Sequence[int]],
    demands: Sequence[Sequence[int]],
    initial: Sequence[int],
    final: Sequence[int],
    costs: Sequence[int] | None = None,
    allowed: Sequence[Sequence[int]] | None = None,
    apart: Sequence[Sequence[int]] = (),
) -> Case:
    """The case of hosts and instances by position; a migration costs the first resource."""
    vms: list[dict[str, Any]] = [
        {"name": f"v{v}", "demand": list(demand), "cost": demand[0] if costs is None else costs[v]}
        for v, demand in enumerate(demands)
    ]
    if allowed is not None:
        for vm, some in zip(vms, allowed, strict=True):
            vm["allowed_hosts"] = [f"h{h}" for h in some]
    return {
        "id": "",
        "family": "",
        "resources": list(RESOURCES[: len(hosts[0])]),
        "hosts": [{"name": f"h{h}", "capacity": list(most)} for h, most in enumerate(hosts)],
        "vms": vms,
        "anti_affinity": [[f"v{v}" for v in group] for group in apart],
        "initial": {f"v{v}": f"h{h}" for v, h in enumerate(initial)},
        "final": {f"v{v}": f"h{h}" for v, h in enumerate(final)},
    }


def placed(
    rng: random.Random,
    hosts: Sequence[Sequence[int]],
    demands: Sequence[Sequence[int]],
    allowed: Sequence[Sequence[int]],
    apart: Sequence[Sequence[int]],
) -> list[int]:
    """A random sane placement."""
    order = sorted(range(len(demands)), key=lambda v: -max(demands[v]))
    for _ in range(20):
        free = [list(most) for most in hosts]
        host_of = [-1] * len(demands)
        for v in order:
            rivals = {host_of[u] for group in apart if v in group for u in group}
            fitting = [
                h
                for h in allowed[v]
                if h not in rivals and all(f >= d for f, d in zip(free[h], demands[v], strict=True))
            ]
            if not fitting:
                break
            host_of[v] = rng.choice(fitting)
            for r, amount in enumerate(demands[v]):
                free[host_of[v]][r] -= amount
        else:
            return host_of
        rng.shuffle(order)
    raise NoRoom


def drawn(
    rng: random.Random,
    hosts: Sequence[Sequence[int]],
    demands: Sequence[Sequence[int]],
    costs: Sequence[int] | None = None,
    allowed: Sequence[Sequence[int]] | None = None,
    apart: Sequence[Sequence[int]] = (),
) -> Case:
    """A case with two random placements."""
    anywhere = [range(len(hosts))] * len(demands) if allowed is None else allowed
    ends = [placed(rng, hosts, demands, anywhere, apart) for _ in range(2)]
    return case_of(hosts, demands, ends[0], ends[1], costs, allowed, apart)


def vectors(
    rng: random.Random,
    kinds: int,
    size: int,
    capacity: Sequence[Sequence[int]],
    fill: tuple[float, float],
) -> list[tuple[int, ...]]:
    """Demands in ``kinds`` resources, each filled as much."""
    columns = [amounts(rng, size, [most[r] for most in capacity], fill) for r in range(kinds)]
    return list(zip(*columns, strict=True))


def alike(hosts: int, kinds: int = 1) -> list[list[int]]:
    """Hosts of 100 of everything."""
    return [[100] * kinds for _ in range(hosts)]


def mixed(rng: random.Random, hosts: int, kinds: int) -> list[list[int]]:
    """Hosts of several sizes, or all alike."""
    sizes = rng.choice(((100,), (60, 80), (80, 100, 120), (60, 80, 100, 120)))
    return [[rng.choice(sizes)] * kinds for _ in range(hosts)]


def one_dim(rng: random.Random) -> Case:
    """Memory only."""
    hosts = alike(rng.randint(3, 4))
    return drawn(rng, hosts, vectors(rng, 1, rng.randint(5, 7), hosts, (0.70, 0.92)))


def two_dim(rng: random.Random) -> Case:
    """Two resources."""
    hosts = mixed(rng, rng.randint(3, 4), 2)
    return drawn(rng, hosts, vectors(rng, 2, rng.randint(5, 7), hosts, (0.68, 0.85)))


def three_dim(rng: random.Random) -> Case:
    """Three resources."""
    hosts = mixed(rng, rng.randint(3, 4), 3)
    return drawn(rng, hosts, vectors(rng, 3, rng.randint(5, 7), hosts, (0.66, 0.80)))


def some_hosts(rng: random.Random, hosts: int, size: int) -> list[list[int]]:
    """Allowed hosts, at least two for each instance."""
    return [sorted(rng.sample(range(hosts), rng.randint(2, hosts))) for _ in range(size)]


def allowed(rng: random.Random) -> Case:
    """Two resources, some hosts for each."""
    hosts, size = alike(rng.randint(3, 4), 2), rng.randint(6, 7)
    demands = vectors(rng, 2, size, hosts, (0.60, 0.80))
    return drawn(rng, hosts, demands, allowed=some_hosts(rng, len(hosts), size))


def anti_affinity(rng: random.Random) -> Case:
    """Two instances must not meet."""
    hosts, size = alike(rng.randint(3, 4)), rng.randint(5, 7)
    pair = sorted(rng.sample(range(size), 2))
    return drawn(rng, hosts, vectors(rng, 1, size, hosts, (0.65, 0.85)), apart=[pair])


def flavours(rng: random.Random) -> Case:
    """Sizes of flavors."""
    hosts = [list(rng.choice(FLAVOR_HOSTS))] * rng.randint(3, 4)
    demands = [rng.choice(FLAVORS) for _ in range(rng.randint(5, 7))]
    columns = zip(*demands, strict=True)
    shares = [sum(column) / most for column, most in zip(columns, hosts[0], strict=True)]
    if not 0.5 <= max(shares) / len(hosts) <= 0.95:
        raise NoRoom
    return drawn(rng, hosts, demands)


def custom_cost(rng: random.Random) -> Case:
    """Costs that sizes do not tell."""
    hosts, size = alike(3), rng.randint(6, 7)
    costs = [rng.choice(COSTS) for _ in range(size)]
    return drawn(rng, hosts, vectors(rng, 1, size, hosts, (0.72, 0.88)), costs)


def rotation(rng: random.Random) -> Case:
    """Big ones in a ring, small ones anywhere."""
    count, spare = rng.randint(3, 5), rng.randint(0, 1)
    ring = count - spare
    bigs = [(rng.randint(54, 75),) for _ in range(ring)]
    smalls = [(rng.randint(5, 30),) for _ in range(rng.randint(1, 8 - ring))]
    hosts = alike(count)
    free = [100 - bigs[h][0] if h < ring else 100 for h in range(count)]
    after = [100 - bigs[h - 1][0] if h < ring else 100 for h in range(count)]
    at = []
    for (size,) in smalls:
        fitting = [h for h in range(count) if min(free[h], after[h]) >= size]
        if not fitting:
            raise NoRoom
        at.append(rng.choice(fitting))
        free[at[-1]] -= size
        after[at[-1]] -= size
    initial = [*range(ring), *at]
    final = [*((h + 1) % ring for h in range(ring)), *at]
    return case_of(hosts, bigs + smalls, initial, final)


def two_host(rng: random.Random) -> Case:
    """Two hosts, small pieces."""
    hosts = alike(2)
    return drawn(rng, hosts, vectors(rng, 1, rng.randint(8, 9), hosts, (0.78, 0.90)))


def larger(rng: random.Random) -> Case:
    """More instances."""
    hosts = alike(4, rng.randint(1, 2))
    return drawn(rng, hosts, vectors(rng, len(hosts[0]), rng.randint(9, 10), hosts, (0.78, 0.88)))


def tiny(rng: random.Random) -> Case:
    """Everything, 3 to 5 hosts, 5 to 9 instances, 70 to 97 % full."""
    kinds, count, size = rng.randint(1, 3), rng.randint(3, 5), rng.randint(5, 9)
    hosts = mixed(rng, count, kinds)
    demands = vectors(rng, kinds, size, hosts, (0.70, 0.97))
    some = some_hosts(rng, count, size) if rng.random() < 0.4 else None
    groups = [
        sorted(rng.sample(range(size), rng.choice((2, 2, 3))))
        for _ in range(rng.choice((0, 0, 1, 2)))
    ]
    costs = [rng.choice(COSTS) for _ in range(size)] if rng.random() < 0.3 else None
    return drawn(rng, hosts, demands, costs, some, groups)


FAMILIES: dict[str, Callable[[random.Random], Case]] = {
    "one_dim": one_dim,
    "two_dim": two_dim,
    "three_dim": three_dim,
    "allowed": allowed,
    "anti_affinity": anti_affinity,
    "flavours": flavours,
    "custom_cost": custom_cost,
    "rotation": rotation,
    "two_host": two_host,
    "larger": larger,
    "tiny": tiny,
}
COMPOSITE = "composite"
PARTS = ("one_dim", "anti_affinity", "custom_cost", "rotation", "two_host")
"""Families of one resource, which composite cases are made of."""


class Sketch:
    """What is free of each host, and where each instance is, while single moves are tried."""

    def __init__(self, case: Case, host_of: dict[str, str]) -> None:
        self.case = case
        self.vms = {vm["name"]: vm for vm in case["vms"]}
        self.host_of = dict(host_of)
        self.free = {host["name"]: list(host["capacity"]) for host in case["hosts"]}
        self.rivals: dict[str, set[str]] = collections.defaultdict(set)
        for group in case["anti_affinity"]:
            for name in group:
                self.rivals[name] |= {*group} - {name}
        for name, host in host_of.items():
            self._charge(name, host, -1)

    def _charge(self, name: str, host: str, sign: int) -> None:
        for r, amount in enumerate(self.vms[name]["demand"]):
            self.free[host][r] += sign * amount

    def fits(self, name: str, host: str) -> bool:
        """Whether an instance may come to a host."""
        vm = self.vms[name]
        return (
            host in path_reference.allowed_hosts(self.case, vm)
            and all(f >= d for f, d in zip(self.free[host], vm["demand"], strict=True))
            and not any(self.host_of.get(rival) == host for rival in self.rivals[name])
        )

    def take(self, name: str) -> None:
        """Take an instance off."""
        self._charge(name, self.host_of.pop(name), 1)

    def move(self, name: str, host: str) -> None:
        """Move an instance."""
        self.take(name)
        self.host_of[name] = host
        self._charge(name, host, -1)


def greedy_stalls(case: Case) -> bool:
    """Whether moving straight the first that fits, in the order of the file, gets stuck."""
    sketch, final = Sketch(case, case["initial"]), case["final"]
    while sketch.host_of != final:
        for name, host in final.items():
            if sketch.host_of[name] != host and sketch.fits(name, host):
                sketch.move(name, host)
                break
        else:
            return True
    return False


def easily_unreachable(case: Case) -> bool:
    """Whether the relaxation proves that there is no path.

    From either end: an instance can move at most if it fits somewhere when all that can move are
    gone, and is no larger than all that is free together.  One that cannot must not have to.
    """
    for side in ("initial", "final"):
        sketch = Sketch(case, case[side])
        total = [sum(column) for column in zip(*sketch.free.values(), strict=True)]
        went = True
        while went:
            went = False
            for name, host in list(sketch.host_of.items()):
                small = all(d <= f for d, f in zip(sketch.vms[name]["demand"], total, strict=True))
                if small and any(sketch.fits(name, h) for h in sketch.free if h != host):
                    sketch.take(name)
                    went = True
        if any(case["initial"][name] != case["final"][name] for name in sketch.host_of):
            return True
    return False


def known(case: Case) -> dict[str, Any]:
    """What is true of a case, as the format has it."""
    found = path_reference.solve(case)
    moved = collections.Counter(name for name, *_ in found.witness or ())
    return {
        **dataclasses.asdict(found),
        "method": "exhaustive",
        "greedy_direct_stalls": greedy_stalls(case),
        "easy_unreachable_certificate": None if found.reachable else easily_unreachable(case),
        "max_moves_of_one_vm": max(moved.values(), default=0),
    }


def has_reason(true: dict[str, Any], reason: str) -> bool:
    """Whether a case with that ``known`` is kept for ``reason``."""
    straight = true["reachable"] and true["optimal_moves"] == true["direct_moves"]
    return bool(
        {
            "extra": true["reachable"] and not straight,
            "order": straight and not true["greedy_direct_stalls"],
            "order_stall": straight and true["greedy_direct_stalls"],
            "multi": true["max_moves_of_one_vm"] >= 3,
            "unreach_hard": true["easy_unreachable_certificate"] is False,
            "unreach_easy": true["easy_unreachable_certificate"],
            "any": True,
        }[reason]
    )


def one(family: str, reason: str, rng: random.Random) -> Case | None:
    """A case of the family and reason; None if none was found."""
    for _ in range(TRIES):
        try:
            case = FAMILIES[family](rng)
            if reason == "any" or (reason == "order") != greedy_stalls(case):
                if case["initial"] == case["final"]:
                    continue
                true = known(case)
                if has_reason(true, reason):
                    return case | {"family": f"{family}/{reason}", "known": true}
        except (NoRoom, path_reference.TooLarge):
            continue
    return None


def beside(parts: Sequence[Case]) -> Case:
    """Cases of one resource side by side; each instance may be on the hosts of its part only."""
    whole: dict[str, Any] = {
        "id": "", "family": COMPOSITE, "resources": list(RESOURCES[:1]),
        "hosts": [], "vms": [], "anti_affinity": [], "initial": {}, "final": {},
    }  # fmt: skip
    for z, part in enumerate(parts):
        for host in part["hosts"]:
            whole["hosts"].append(host | {"name": f"z{z}{host['name']}"})
        for vm in part["vms"]:
            hosts = [f"z{z}{name}" for name in path_reference.allowed_hosts(part, vm)]
            whole["vms"].append(vm | {"name": f"z{z}{vm['name']}", "allowed_hosts": hosts})
        whole["anti_affinity"] += [[f"z{z}{name}" for name in g] for g in part["anti_affinity"]]
        for side in ("initial", "final"):
            whole[side] |= {f"z{z}{name}": f"z{z}{host}" for name, host in part[side].items()}
    return whole


def composite(rng: random.Random) -> Case:
    """Some zones; in every other case one of them cannot be solved."""
    zones = []
    for _ in range(rng.choice((5, 10, 20, 41))):
        part = rng.choice(PARTS)
        reason = "extra" if part == "rotation" else rng.choice(("extra", "order_stall", "order"))
        zones.append(one(part, reason, rng) or one("one_dim", "extra", rng))
    if rng.random() < 0.5:
        zones[rng.randrange(len(zones))] = one("one_dim", "unreach_hard", rng)
    case = beside([zone for zone in zones if zone is not None])
    return case | {"known": known(case) | {"method": "exhaustive, zone by zone"}}


def cases(family: str, seed: int, count: int) -> Iterator[Case]:
    """``count`` cases of FAMILY, FAMILY/REASON or all; the same for the same words."""
    name, _, reason = family.partition("/")
    rng = random.Random(f"{family} {seed}")
    names = [*FAMILIES, COMPOSITE] if name == "all" else [name]
    for i in range(count):
        one_of = names[i % len(names)]
        found = composite(rng) if one_of == COMPOSITE else None
        while found is None:
            shares = RING_SHARES if one_of == "rotation" else SHARES
            wanted = reason or rng.choices(list(shares), list(shares.values()))[0]
            found = one(one_of, wanted, rng)
        yield found | {"id": f"{one_of}-{seed}-{i:04}"}


def write(made: Iterable[Case], file: pathlib.Path) -> None:
    """Write cases as a file that ``nova-rebalance path --problem`` reads."""
    document = {"format": "nova-rebalancer-path/1", "instances": list(made)}
    file.write_text(json.dumps(document) + "\n")


def main() -> None:
    """Draw cases, write them and say what they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", metavar="FAMILY")
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, metavar="N")
    parser.add_argument("output", type=pathlib.Path, metavar="OUT.json")
    options = parser.parse_args()
    name, _, reason = options.family.partition("/")
    if name not in (*FAMILIES, COMPOSITE, "all") or reason not in ("", "any", *SHARES):
        parser.error(f"there is no family {options.family!r}; --help lists them")
    made = list(cases(options.family, options.seed, options.count))
    write(made, options.output)
    for kind, number in sorted(collections.Counter(case["family"] for case in made).items()):
        print(f"{number:5} {kind}")


if __name__ == "__main__":
    main()

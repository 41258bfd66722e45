# SPDX-License-Identifier: Apache-2.0
"""Small cases for the path-finder with names, as documents written out by hand."""

import json
from typing import Any

import hypothesis.strategies as st

Document = dict[str, Any]


def host(name: str, *capacity: int) -> Document:
    """A host with its capacity in each resource."""
    return {"name": name, "capacity": list(capacity)}


def vm(name: str, *demand: int, **more: Any) -> Document:
    """A VM that costs what it takes of the first resource."""
    return {"name": name, "demand": list(demand), "cost": demand[0], **more}


def case(
    name: str,
    hosts: list[Document],
    vms: list[tuple[Document, str, str]],
    **more: Any,
) -> Document:
    """A case; each of ``vms`` comes with its initial and its final host."""
    count = len(hosts[0]["capacity"])
    return {
        "id": name,
        "resources": ["memory", "cores", "disk"][:count],
        "hosts": hosts,
        "vms": [one for one, _, _ in vms],
        "initial": {one["name"]: here for one, here, _ in vms},
        "final": {one["name"]: there for one, _, there in vms},
        **more,
    }


def document(*cases: Document) -> Document:
    """A file of cases."""
    return {"format": "nova-rebalancer-path/1", "instances": list(cases)}


def as_bytes(made: object) -> bytes:
    """The document as it lies in a file."""
    return json.dumps(made).encode()


def direct() -> Document:
    """u goes from a to b, which has room: one move that costs 4."""
    return case("direct", [host("a", 10), host("b", 10)], [(vm("u", 4), "a", "b")])


def swap() -> Document:
    """u (6) and v (5) change places; c has room for either, so the least cost is 5 + 6 + 5."""
    return case(
        "swap",
        [host("a", 10), host("b", 10), host("c", 10)],
        [(vm("u", 6), "a", "b"), (vm("v", 5), "b", "a")],
    )


def deadlock() -> Document:
    """As swap, without a third host: neither can ever move."""
    return case(
        "deadlock",
        [host("a", 10), host("b", 10)],
        [(vm("u", 6), "a", "b"), (vm("v", 6), "b", "a")],
    )


def wandering() -> Document:
    """u and v change places in vain: each fits beside w only, which goes to and fro.

    w (2) fits everywhere, so there are 2 placements, and u (6) and v (6) never move.
    """
    return case(
        "wandering",
        [host("a", 8), host("b", 8)],
        [(vm("u", 6), "a", "b"), (vm("v", 6), "b", "a"), (vm("w", 2), "a", "a")],
    )


def parted() -> Document:
    """u and v must be apart and change places by way of c; both resources have room for all."""
    return case(
        "parted",
        [host(name, 10, 10) for name in "abc"],
        [(vm("u", 1, 1), "a", "b"), (vm("v", 2, 1), "b", "a")],
        anti_affinity=[["u", "v"]],
    )


@st.composite
def small(draw: st.DrawFn) -> Document:
    """Draw a tight case of 1 or 2 resources, some VMs with allowed hosts, and a group."""
    count = draw(st.integers(1, 2))
    hosts = [host(name, *[draw(st.integers(4, 9)) for _ in range(count)]) for name in "abc"]
    vms, free = [], {key: [list(h["capacity"]) for h in hosts] for key in ("initial", "final")}
    group = draw(st.sets(st.sampled_from("uvwxy"), max_size=2))
    taken: dict[str, set[int]] = {"initial": set(), "final": set()}
    for name in "uvwxy":
        demand = [draw(st.integers(0, 5)) for _ in range(count)]
        places = []
        for key, left in free.items():
            fits = [
                h
                for h in range(3)
                if all(f >= d for f, d in zip(left[h], demand, strict=True))
                and not (name in group and h in taken[key])
            ]
            if not fits:
                break
            places.append((key, draw(st.sampled_from(fits))))
        if len(places) < 2:
            continue
        for key, h in places:
            free[key][h] = [f - d for f, d in zip(free[key][h], demand, strict=True)]
            if name in group:
                taken[key].add(h)
        here, there = ("abc"[h] for _, h in places)
        more = {}
        if draw(st.booleans()):
            more["allowed_hosts"] = sorted({here, there, draw(st.sampled_from("abc"))})
        vms.append((vm(name, *demand, **more), here, there))
    there_are = {one["name"] for one, _, _ in vms}
    groups = [sorted(group & there_are)] if group & there_are else []
    return case("drawn", hosts, vms, anti_affinity=groups)


def reached(one: Document, first: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return all placements that sane moves lead to from ``first``, by trying every move."""
    capacity = {host["name"]: host["capacity"] for host in one["hosts"]}

    def sane(placed: tuple[str, ...]) -> bool:
        for name, most in capacity.items():
            on = [vm for vm, host in zip(one["vms"], placed, strict=True) if host == name]
            if any(sum(vm["demand"][r] for vm in on) > most[r] for r in range(len(most))):
                return False
            names = {vm["name"] for vm in on}
            if any(len(names & set(group)) > 1 for group in one["anti_affinity"]):
                return False
        return True

    seen, new = {first}, [first]
    while new:
        placed = new.pop()
        for k, vm in enumerate(one["vms"]):
            for host in vm.get("allowed_hosts", capacity):
                after = (*placed[:k], host, *placed[k + 1 :])
                if after not in seen and sane(after):
                    seen.add(after)
                    new.append(after)
    return seen

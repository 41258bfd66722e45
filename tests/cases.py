# SPDX-License-Identifier: Apache-2.0
"""Small cases for the path-finder with names, as documents written out by hand."""

import json
from typing import Any

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

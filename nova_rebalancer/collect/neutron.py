# SPDX-License-Identifier: Apache-2.0
"""What is asked of Neutron: which servers have ports that are not normal ones."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from urllib import parse

from nova_rebalancer import exceptions
from nova_rebalancer.rest import client

NORMAL = "normal"
"""The vnic type of a port that is no device."""

SAMPLE = 3
"""Servers of which one must have a visible port before the absence of ports means anything: one
may be deleted this moment."""


def vnic_types(ask: client.Client, servers: Sequence[str]) -> dict[str, list[str]]:
    """Return the special vnic types of each server that has such a port.

    ``servers`` have addresses.  Neutron shows an account only its own project's ports, without a
    word of the others, so it is tried on some of them whether ports are visible at all.

    Raises
    ------
    CloudError
        If Neutron does not answer or does not show the ports.
    """
    chosen = servers[:: max(1, len(servers) // SAMPLE)][:SAMPLE]
    for name in chosen:
        one = parse.urlencode([("device_id", name), ("fields", "id")])
        if ask.get("network", f"/v2.0/ports?{one}")["ports"]:
            break
    else:
        raise exceptions.CloudError(
            f"Neutron shows no port of server {chosen[0]}, which has addresses: the account may "
            "not see the ports of all projects"
        )
    found: dict[str, set[str]] = {}
    for port in ports(ask):
        kind = port.get("binding:vnic_type")
        if port.get("device_id") and kind not in (None, NORMAL):
            found.setdefault(port["device_id"], set()).add(str(kind))
    return {name: sorted(kinds) for name, kinds in found.items()}


def ports(ask: client.Client, servers: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the ports of some servers, all ports if none are named.

    Neutron cannot filter them by their vnic type.
    """
    query = [("fields", name) for name in ("id", "device_id", "binding:vnic_type")]
    query += [("device_id", name) for name in servers]
    marker: list[tuple[str, str]] = []
    while True:
        page = ask.get("network", f"/v2.0/ports?{parse.urlencode([*query, *marker])}")
        yield from page["ports"]
        # Without pagination_max_limit in Neutron one answer has them all.
        links = page.get("ports_links") or ()
        if not page["ports"] or not any(link.get("rel") == "next" for link in links):
            return
        marker = [("marker", page["ports"][-1]["id"])]

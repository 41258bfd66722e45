# SPDX-License-Identifier: Apache-2.0
"""What is asked of Neutron: which servers have ports that are not normal ones."""

from collections.abc import Sequence
from urllib import parse

from nova_rebalancer import exceptions
from nova_rebalancer.collect import client

SPECIAL = (
    "direct",
    "direct-physical",
    "macvtap",
    "baremetal",
    "virtio-forwarder",
    "smart-nic",
    "vdpa",
    "accelerator-direct",
    "accelerator-direct-physical",
    "remote-managed",
)
"""Every vnic type but normal; neutron-lib ``api/definitions/portbindings.py``."""

SAMPLE = 3
"""Servers whose ports must be visible before the absence of ports means anything."""


def vnic_types(ask: client.Client, servers: Sequence[str]) -> dict[str, list[str]]:
    """Return the special vnic types of each server that has such a port.

    ``servers`` have addresses.  Neutron shows an account only its own project's ports, without a
    word of the others, so it is tried on some of them whether ports are visible at all.

    Raises
    ------
    CloudError
        If Neutron does not answer or does not show the ports.
    """
    chosen = sorted(servers)[:: max(1, len(servers) // SAMPLE)][:SAMPLE]
    for name in chosen:
        one = parse.urlencode([("device_id", name), ("fields", "id")])
        if not ask.get("network", f"/v2.0/ports?{one}")["ports"]:
            raise exceptions.CloudError(
                f"Neutron shows no port of server {name}, which has addresses: the account may "
                "not see the ports of all projects"
            )
    found: dict[str, set[str]] = {}
    wanted = [("binding:vnic_type", kind) for kind in SPECIAL]
    wanted += [("fields", name) for name in ("id", "device_id", "binding:vnic_type")]
    for port in ask.get("network", f"/v2.0/ports?{parse.urlencode(wanted)}")["ports"]:
        if port.get("device_id"):
            found.setdefault(port["device_id"], set()).add(str(port.get("binding:vnic_type")))
    return {name: sorted(kinds) for name, kinds in found.items()}

# SPDX-License-Identifier: Apache-2.0
"""Ports that are not normal are found in a few requests, and blindness is noticed."""

from urllib import parse

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import neutron
from tests.unit.collect import emulator


@pytest.fixture
def world():
    """A cloud with ten servers that have a port each."""
    made = emulator.World()
    for n in range(10):
        port(made, f"server-{n}", "normal")
    return made


def port(world: emulator.World, server: str, kind: str) -> None:
    """Give a server a port."""
    name = f"port-{len(world.ports)}"
    world.ports.append({"id": name, "device_id": server, "binding:vnic_type": kind})


def names() -> list[str]:
    """The servers."""
    return [f"server-{n}" for n in range(10)]


def test_special_ports(world):
    """Each server's special types, each once, in order; servers without one are absent."""
    for kind in ("vdpa", "direct", "direct"):
        port(world, "server-3", kind)
    port(world, "server-4", "macvtap")
    found = neutron.vnic_types(emulator.Direct(world), names())
    assert found == {"server-3": ["direct", "vdpa"], "server-4": ["macvtap"]}


def test_few_requests(world):
    """However many servers there are, it takes two requests where Neutron does not page."""
    asked = []
    ask = emulator.Direct(world, lambda path, answer: asked.append(path) or answer)
    neutron.vnic_types(ask, names())
    assert len(asked) == 2
    query = parse.parse_qs(parse.urlsplit(asked[-1].partition(" ")[2]).query)
    assert set(query["fields"]) == {"id", "device_id", "binding:vnic_type"}


@pytest.mark.parametrize("size", [1, 3, 10, 12, 13])
def test_pages(world, size):
    """However Neutron is configured to cut its pages, no port is missed."""
    for kind in ("vdpa", "direct"):
        port(world, "server-3", kind)
    world.port_pages = size
    found = neutron.vnic_types(emulator.Direct(world), names())
    assert found == {"server-3": ["direct", "vdpa"]}


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_deleted_meanwhile(world, gone):
    """That a server or two of the sample are gone meanwhile does not make the account blind."""
    chosen = names()[:: 10 // neutron.SAMPLE]
    world.ports = [one for one in world.ports if one["device_id"] not in chosen[:gone]]
    assert neutron.vnic_types(emulator.Direct(world), names()) == {}


def test_blind_account(world):
    """Neutron hides other projects' ports without a word, so their absence is an error."""
    world.ports = [one for one in world.ports if one["device_id"] == "server-0"]
    with pytest.raises(exceptions.CloudError, match="may not see the ports of all projects"):
        neutron.vnic_types(emulator.Direct(world), names()[1:])


def test_ports_without_a_server(world):
    """A special port that no server has yet is nobody's."""
    port(world, "", "direct")
    assert neutron.vnic_types(emulator.Direct(world), names()) == {}

# SPDX-License-Identifier: Apache-2.0
"""The operator facts file of a test cloud: what an operator knows and Nova's API does not tell.

It is made of the hosts' descriptions alone, the same way as the driver makes its topologies.
"""

import argparse
import pathlib
import sys
from typing import Any

import yaml

from tests.cloud import hosts
from tests.cloud import settings

FORMAT = "nova-rebalancer-facts/1"


def document(cloud: settings.Settings) -> dict[str, Any]:
    """The facts of all hosts by name."""
    return {
        "format": FORMAT,
        "hosts": {name: _host(hosts.description(cloud, name)) for name in cloud.hosts()},
    }


def _host(described: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"cell": described.get("cell", "cell1")}
    if described.get("numa"):
        facts["numa"] = [_cell(described, number) for number in range(described["numa"]["cells"])]
    return facts


def _cell(described: dict[str, Any], number: int) -> dict[str, Any]:
    numa = described["numa"]
    shared = described.get("vcpus", 16) // numa["cells"]
    pinned = numa.get("pcpus_per_cell", 0)
    first = number * (shared + pinned)
    middle, end = first + pinned, first + pinned + shared
    found: dict[str, Any] = {
        "cell": number,
        "memory_mib": described.get("memory_mb", 65536) // numa["cells"],
        "shared_cpus": f"{middle}-{end - 1}",
        "hugepages": {
            2048: numa.get("hugepages_2m_per_cell", 0),
            1048576: numa.get("hugepages_1g_per_cell", 0),
        },
    }
    if pinned:
        found["dedicated_cpus"] = f"{first}-{middle - 1}"
    threads = described.get("threads", 1)
    if threads > 1:
        found["siblings"] = [f"{cpu}-{cpu + threads - 1}" for cpu in range(first, end, threads)]
    devices = sum(product["per_cell"] for product in described.get("pci_devices", ()))
    if devices:
        found["pci_devices"] = devices
    return found


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(
        prog="tests/cloud/facts", description="Print the facts file of a test cloud."
    )
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    try:
        told = document(settings.load(parser.parse_args().state))
    except settings.CloudError as error:
        sys.exit(f"facts: {error}")
    print(yaml.safe_dump(told, sort_keys=False), end="")


if __name__ == "__main__":
    main()

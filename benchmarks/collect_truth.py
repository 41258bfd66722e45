# SPDX-License-Identifier: Apache-2.0
"""Whether a snapshot of a test cloud is what the databases hold, and how many requests it takes.

Reads a cloud twice, the second time with what the first left, compares both with the databases
and counts the requests at the services' access logs.  The cloud has to be quiet.  Exits with 1
when anything differs or a budget is missed.

The computes, and Nova's API itself, ask Placement, Keystone and Neutron all the time.  Where the
access logs tell the clients, only ours are counted; in older ones every line is.
"""

import argparse
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.rest import client
from nova_rebalancer.rest import connection

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from tests.cloud import settings
from tests.cloud import truth

Json = dict[str, Any]

SERVICES = ("nova-api", "placement", "keystone", "neutron")
TIMEOUT_S = 60
SHOWN = 20

AGENT = ("collect-truth", str(os.getpid()))
# ... "GET /path HTTP/1.1" 123 "client/1.0"
TOLD = re.compile(r'" \S+ "([^"]*)"$')


def main() -> None:
    """Read, compare, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--os-cloud", default="test-cloud", metavar="NAME")
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    arguments = parser.parse_args()
    try:
        cloud = settings.load(arguments.state)
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(cloud.clouds_yaml)
        good = measure(cloud, arguments.os_cloud)
    except (settings.CloudError, exceptions.RebalancerError) as error:
        sys.exit(f"collect_truth: {error}")
    sys.exit(0 if good else 1)


def measure(cloud: settings.Settings, name: str) -> bool:
    """Print all figures; return whether all is as it should be."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        kept = pathlib.Path(folder, "reading.json")
        for number, label in enumerate(("first pass", "second pass")):
            log = _Log(cloud)
            document = collect(name, kept)
            made, groups, ours = log.requests()
            allowed = budget(document)[number]
            own = document["collected"]["requests"]
            print(f"{label}: {made} requests, {groups} of them pages of server groups")
            print(f"  by the collector's own count {own}, tokens and discovery left out")
            print(f"  budget {allowed:.1f} and those pages: {_verdict(made - groups <= allowed)}")
            if not ours:
                print("  (the logs do not tell the clients: other programs' requests count)")
            held = truth.read(cloud)
            wrong = truth.compare(document, held) + truth.covered(document, held)
            print(f"  differences from the databases: {len(wrong)}")
            for line in wrong[:SHOWN]:
                print(f"    {line}")
            good = good and not wrong and made - groups <= allowed
    print(contents(document))
    return good


def collect(name: str, kept: pathlib.Path) -> Json:
    """Read the cloud as it is now, using and then replacing what an earlier pass left."""
    source = connection.connect(name, TIMEOUT_S)
    # So that the access logs tell this pass from all other programs.
    source.session.additional_user_agent.append(AGENT)
    ask = client.Client(source, client.Limits())
    now = reader.Reader(ask, reader.Progress()).read(reading.load(kept, ask.identity()))
    reading.save(now, kept)
    return assemble.document(now, source.name, source.region)


def budget(document: Json) -> tuple[float, float]:
    """Requests a first and a second pass may take, pages of server groups aside."""
    servers = len(document["instances"]) + len(document["outside"])
    topologies = sum(1 for one in document["instances"] if one["numa"])
    providers = len(document["hosts"]) + len(document["pools"])
    providers += sum(len(one["providers"]) for one in document["hosts"])
    return servers / 500 + 4 * providers + topologies + 40, 25 + servers / 1000


def contents(document: Json) -> str:
    """Say how much there was to compare."""
    numbers = [
        f"{len(document[name])} {name.replace('_', ' ')}"
        for name in ("hosts", "instances", "outside", "flavors", "server_groups", "aggregates")
    ]
    topologies = sum(1 for one in document["instances"] if one["numa"])
    return f"{', '.join(numbers)}; {topologies} instances with a NUMA topology"


class _Log:
    """The access logs of a cloud from now on."""

    def __init__(self, cloud: settings.Settings) -> None:
        self._files = [cloud.logs / f"{name}.access.log" for name in SERVICES]
        self._begins = [file.stat().st_size if file.exists() else 0 for file in self._files]

    def requests(self) -> tuple[int, int, bool]:
        """Count requests and those for server groups; tell whether only ours are in."""
        lines: list[str] = []
        for file, begin in zip(self._files, self._begins, strict=True):
            if file.exists():
                with file.open("rb") as log:
                    log.seek(begin)
                    lines += log.read().decode(errors="replace").splitlines()
        agents = [TOLD.search(line) for line in lines]
        told = bool(lines) and all(agents)
        if told:
            lines = [
                line
                for line, agent in zip(lines, agents, strict=True)
                if agent is not None and "/".join(AGENT) in agent[1]
            ]
        groups = sum(1 for line in lines if "/os-server-groups?" in line)
        return len(lines), groups, told


def _verdict(good: bool) -> str:
    return "kept" if good else "MISSED"


if __name__ == "__main__":
    main()

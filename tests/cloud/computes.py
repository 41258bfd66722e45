# SPDX-License-Identifier: Apache-2.0
"""Many real nova-compute processes that share the memory of one import of Nova.

``python -m tests.cloud.computes [--state DIR] serve`` imports Nova once and then forks a
nova-compute for each host it is asked for. ``start HOST...``, ``kill SIGNAL HOST...`` and ``list``
ask it.
"""

import argparse
from collections.abc import Sequence
import contextlib
import gc
import json
import os
import pathlib
import random
import select
import signal
import socket
import sys
import traceback
from typing import Any
from typing import NoReturn

from tests.cloud import configs
from tests.cloud import processes
from tests.cloud import settings

HERE = pathlib.Path(__file__).parent

# Imported before the forks: what a compute needs anyway.
SHARED = (
    "nova.cmd.compute",
    "nova.compute.manager",
    "nova.compute.resource_tracker",
    "nova.conductor.api",
    "nova.image.glance",
    "nova.network.neutron",
    "nova.scheduler.client.report",
    "nova.virt.simulated",
    "nova.volume.cinder",
    "kombu.transport.pyamqp",
    "keystoneauth1.identity",
    "neutronclient.v2_0.client",
    "openstack",
    "oslo_messaging._drivers.impl_rabbit",
)


def ask(cloud: settings.Settings, action: str, hosts: Sequence[str] = (), number: int = 0) -> Any:
    """Have ``serve`` do something; returns the pids of the computes by host.

    Raises
    ------
    CloudError
        If nothing serves.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(cloud.computes_socket))
        except OSError:
            raise settings.CloudError(f"no computes run in {cloud.state}") from None
        message = {"action": action, "hosts": list(hosts), "signal": number}
        connection.sendall(json.dumps(message).encode())
        connection.shutdown(socket.SHUT_WR)
        return json.loads(_receive(connection))


class Server:
    """The process that forks."""

    def __init__(self, cloud: settings.Settings):
        self._cloud = cloud
        self._pids: dict[str, int] = {}

    def run(self) -> NoReturn:
        """Import, then answer until ended."""
        self._import()
        # Nothing of what is there now is ever freed, so the forks do not touch its pages.
        gc.collect()
        gc.freeze()
        self._cloud.computes_socket.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with socket.socket(socket.AF_UNIX) as self._listener:
            self._listener.bind(str(self._cloud.computes_socket))
            self._listener.listen()
            while True:
                readable, _, _ = select.select([self._listener], [], [], 1)
                self._reap()
                if readable:
                    self._connection, _ = self._listener.accept()
                    with self._connection, contextlib.suppress(OSError):
                        self._answer(json.loads(_receive(self._connection)))

    def _import(self) -> None:
        os.environ["CLOUD_DRIVER"] = str(self._cloud.driver)
        # First of all, as in nova-compute itself. In 2025.1 it is done by importing nova.cmd.
        from nova import monkey_patch

        if hasattr(monkey_patch, "patch"):
            monkey_patch.patch(backend="threading")
        import nova.objects
        import nova.virt

        # Drivers name the objects' classes when they are imported.
        nova.objects.register_all()
        # Nova takes drivers from below nova.virt only.
        nova.virt.__path__.append(str(HERE / "driver"))
        for module in SHARED:
            __import__(module)

    def _answer(self, message: dict[str, Any]) -> None:
        for host in message["hosts"]:
            if message["action"] == "start" and host not in self._pids:
                self._fork(host)
            elif message["action"] == "kill" and host in self._pids:
                os.kill(self._pids[host], message["signal"])
        self._connection.sendall(json.dumps(self._pids).encode())

    def _reap(self) -> None:
        for host, pid in list(self._pids.items()):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                del self._pids[host]

    def _fork(self, host: str) -> None:
        pid = os.fork()
        if pid:
            self._pids[host] = pid
            return
        try:
            self._listener.close()
            self._connection.close()
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if "eventlet.hubs" in sys.modules:
                # The one that came with the fork polls the same file as our parent's.
                sys.modules["eventlet.hubs"].use_hub()
            processes.record(self._cloud, f"compute-{host}", os.getpid())
            self._compute(host)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _compute(self, host: str) -> None:
        from nova.cmd import compute
        from nova.virt import simulated

        log = os.open(
            self._cloud.logs / f"compute-{host}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND
        )
        os.dup2(log, 1)
        os.dup2(log, 2)
        random.seed()
        folder = self._cloud.state / "nova" / host
        (folder / "instances").mkdir(parents=True, exist_ok=True)
        # Nova writes it at the first start, but does not start a known host without it.
        identity = folder / "compute_id"
        if not identity.exists():
            identity.write_text(simulated.node_uuid(host))
        own = configs.write_host(self._cloud, host, folder)
        common = self._cloud.config / "nova/nova-compute.conf"
        sys.argv = ["nova-compute", "--config-file", str(common), "--config-file", str(own)]
        compute.main()


def _receive(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests/cloud/computes")
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("serve")
    actions.add_parser("list", help="the computes that run, with their pids")
    start = actions.add_parser("start", help="start computes that do not run")
    start.add_argument("hosts", nargs="+", metavar="HOST")
    kill = actions.add_parser("kill", help="send computes a signal, such as KILL, STOP or CONT")
    kill.add_argument("signal", type=lambda name: signal.Signals[f"SIG{name}"])
    kill.add_argument("hosts", nargs="+", metavar="HOST")
    arguments = parser.parse_args()
    try:
        cloud = settings.load(arguments.state)
        if arguments.action == "serve":
            Server(cloud).run()
        pids = ask(
            cloud,
            arguments.action,
            getattr(arguments, "hosts", ()),
            int(getattr(arguments, "signal", 0)),
        )
    except settings.CloudError as error:
        sys.exit(f"computes: {error}")
    for host, pid in sorted(pids.items()):
        print(host, pid)


if __name__ == "__main__":
    main()

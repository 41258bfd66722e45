# SPDX-License-Identifier: Apache-2.0
"""The whole cloud, up and down, and single APIs of it.

All but ``up`` needs nothing but the standard library and works from any virtual environment.
"""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import fcntl
import getpass
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

from tests.cloud import cells
from tests.cloud import processes
from tests.cloud import settings

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent

RABBITMQ = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

# WSGI application, threads.
APIS = {
    "keystone": ("keystone.wsgi.api:application", 8),
    "placement": ("placement.wsgi.api:application", 8),
    "glance": ("glance.wsgi.api:application", 4),
    "neutron": ("neutron.wsgi.api:application", 8),
    "nova-api": ("nova.wsgi.osapi_compute:application", 16),
}
# They patch the standard library while they are imported; threads of gunicorn's then wait forever.
EVENTLET = {"2025.1": ("nova-api", "neutron")}
# Ended in this order: a queue or a database that went first would keep the others waiting.
BASE = ("rabbitmq", "mariadb", "epmd")


class Progress:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, what: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {what}", flush=True)


def up(cloud: settings.Settings, computes: int | None) -> None:
    """Start what does not run.

    Raises
    ------
    CloudError
        If something does not start; what was started goes on running.
    """
    from tests.cloud import catalogue
    from tests.cloud import configs
    from tests.cloud import hosts

    say = Progress()
    _check_ports(cloud)
    for folder in (cloud.logs, cloud.pids, cloud.state / "lock", cloud.state / "nova/instances"):
        folder.mkdir(parents=True, exist_ok=True)
    configs.write(cloud)
    _start_base(cloud)
    say("MariaDB answers, RabbitMQ starts")

    filled = cloud.state / "filled"
    if not filled.exists():
        # Three at a time: two CPUs are busy then, and the longest one, Nova's, begins at once.
        pool = futures.ThreadPoolExecutor(3)
        work = {
            pool.submit(_fill_nova, cloud): "Nova's",
            pool.submit(_fill_keystone, cloud, catalogue.fill): "Keystone's",
            pool.submit(_fill_others, cloud): "Neutron's, Placement's and Glance's",
        }
        try:
            for done in futures.as_completed(work):
                done.result()
                say(f"{work[done]} databases are filled")
        finally:
            # After a failure or a Ctrl-C the threads end when the guard ends their commands.
            pool.shutdown(wait=False)
        filled.touch()

    for name in APIS:
        _start_api(cloud, name)
    processes.wait_for(cloud, "rabbitmq", "rabbitmq", 120)
    for cell in cloud.cells:
        name = "nova-conductor" if cell == "cell1" else f"nova-conductor-{cell}"
        _start_nova(cloud, name, "nova-conductor", configs.conductor(cloud, cell))
    _start_nova(cloud, "nova-scheduler", "nova-scheduler", cloud.config / "nova/nova.conf")
    if not processes.running(cloud, "computes"):
        # A killed one left it.
        cloud.computes_socket.unlink(missing_ok=True)
    serve = [sys.executable, "-m", "tests.cloud.computes", "--state", str(cloud.state), "serve"]
    processes.start(cloud, "computes", serve, {"PYTHONPATH": str(ROOT)})
    for name in APIS:
        processes.wait_for(cloud, name, name, 120)
    say("the APIs answer")
    catalogue.image(cloud)
    configs.write_clients(cloud)

    count = computes if computes is not None else len(cloud.hosts()) or 6
    names = hosts.write_missing(cloud, count)
    _start_computes(cloud, names)
    say(f"{count} computes are up, in the cell and in Placement")


def stop_api(cloud: settings.Settings, name: str) -> None:
    """End one of ``APIS``; what it is answering has 3 seconds to end."""
    processes.stop(cloud, [name], 8)


def start_api(cloud: settings.Settings, name: str) -> None:
    """Start one of ``APIS`` again and wait until it answers."""
    _start_api(cloud, name)
    processes.wait_for(cloud, name, name, 120)


@contextlib.contextmanager
def kept(
    state: pathlib.Path,
    *options: str,
    release: str | None = None,
    wipe: bool = False,
) -> Iterator[settings.Settings]:
    """A cloud that runs as long as the body, and ends even if this process is killed.

    Parameters
    ----------
    options
        More of the command ``up``, such as ``"--computes", "3"``.
    release
        As for the command.
    wipe
        Whether to delete all of it in the end, which is not done after a kill.

    Raises
    ------
    CloudError
        If it does not start; ``up`` has then said why.
    """
    if release:
        options = ("--release", release, *options)
    command = [str(HERE / "up"), "--state", str(state), "--for", str(os.getpid()), *options]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
        raise settings.CloudError(f"no cloud in {state}: see above")
    try:
        yield settings.load(state)
    finally:
        down(state, wipe)


def down(state: pathlib.Path, wipe: bool) -> None:
    """End every process of the cloud in a folder; with ``wipe`` delete what it wrote."""
    state = state.expanduser().resolve()
    cloud = None
    with contextlib.suppress(settings.CloudError):
        cloud = settings.load(state)
        names = {path.name for path in cloud.pids.glob("*")} - {"guard"}
        # Those who fork or restart others go first.
        processes.stop(cloud, names - set(BASE), 8)
        for name in BASE:
            processes.stop(cloud, [name], 20)
        cloud.computes_socket.unlink(missing_ok=True)
    while processes.stop_marked(state):
        time.sleep(0.2)
    # Up to here it would take over if we were killed.
    if cloud is not None and processes.running(cloud, "guard") != os.getpid():
        processes.stop(cloud, ["guard"], 1)
    # Nothing but a folder of ours is deleted.
    if wipe and (state / "settings.json").exists():
        shutil.rmtree(state)


def _check_ports(cloud: settings.Settings) -> None:
    owners = {"rabbitmq-nodes": "rabbitmq"}
    for service in settings.PORTS:
        port = cloud.port(service)
        if not processes.running(cloud, owners.get(service, service)) and processes.port_open(port):
            raise settings.CloudError(
                f"port {port}, for {service}, is in use: end who uses it, "
                "or begin a new --state with another --base-port"
            )


def _start_base(cloud: settings.Settings) -> None:
    options = f"--defaults-file={cloud.config / 'mariadb/my.cnf'}"
    if not (cloud.state / "mariadb/mysql").is_dir():
        install = ["mariadb-install-db", options, "--skip-test-db"]
        if os.geteuid() == 0:
            install.append(f"--user={getpass.getuser()}")
        _run(cloud, "mariadb-install", *install)
    # A schema is hundreds of statements with an fsync each, and the data may be lost.
    eatmydata = next(pathlib.Path("/usr/lib").glob("*/libeatmydata.so"), None)
    preload = {"LD_PRELOAD": str(eatmydata)} if eatmydata else {}
    processes.start(cloud, "mariadb", ["mariadbd", options], preload)
    for cell in cloud.cells:
        cells.connect(cloud, cell)

    epmd = ["epmd", "-address", settings.ADDRESS, "-port", str(cloud.port("epmd"))]
    processes.start(cloud, "epmd", epmd)
    processes.wait_for(cloud, "epmd", "epmd", 10)
    rabbit = cloud.state / "rabbitmq"
    rabbit.mkdir(exist_ok=True)
    variables = {
        "HOME": str(rabbit),
        "ERL_EPMD_ADDRESS": settings.ADDRESS,
        "ERL_EPMD_PORT": str(cloud.port("epmd")),
        "RABBITMQ_NODENAME": f"cloud-{cloud.base_port}@localhost",
        "RABBITMQ_DIST_PORT": str(cloud.port("rabbitmq-nodes")),
        "RABBITMQ_MNESIA_BASE": str(rabbit / "mnesia"),
        "RABBITMQ_LOG_BASE": str(rabbit / "log"),
        "RABBITMQ_CONFIG_FILE": str(cloud.config / "rabbitmq/rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(cloud.config / "rabbitmq/enabled_plugins"),
        # Not the machine's own settings.
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        # Talks to no other machine, and its schedulers do not spin while idle.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"
        ),
    }
    processes.start(cloud, "rabbitmq", [RABBITMQ], variables)
    processes.wait_for(cloud, "mariadb", "mariadb", 60)


def _fill_nova(cloud: settings.Settings) -> None:
    from tests.cloud import configs

    manage = ["nova-manage", "--config-file", str(cloud.config / "nova/nova.conf")]
    _run(cloud, "nova-api-database", *manage, "api_db", "sync")
    # It adds "_cell0" to the name of Nova's database.
    _run(cloud, "nova-cell0", *manage, "cell_v2", "map_cell0")
    for cell in cloud.cells:
        database = ["--database_connection", configs.cell_mapping(cloud, cell)]
        queue = ["--transport-url", configs.rabbit_url(cloud, cell)]
        create = [*manage, "cell_v2", "create_cell", "--name", cell, *database, *queue]
        # With code 2 it says that the cell is there, from a first start that did not come to its
        # end.
        _run(cloud, f"nova-{cell}", *create, accept=(0, 2))
        file = str(configs.conductor(cloud, cell))
        # cell0's database is filled with the first one.
        local = [] if cell == "cell1" else ["--local_cell"]
        sync = ["nova-manage", "--config-file", file, "db", "sync", *local]
        _run(cloud, f"nova-{cell}-database", *sync)


def _fill_keystone(cloud: settings.Settings, fill: Callable[[settings.Settings], None]) -> None:
    manage = ["keystone-manage", "--config-file", str(cloud.config / "keystone/keystone.conf")]
    user = getpass.getuser()
    owner = ["--keystone-user", user, "--keystone-group", str(os.getegid())]
    _run(cloud, "keystone-database", *manage, "db_sync")
    for keys in ("fernet", "receipt", "credential"):
        (cloud.state / "keystone" / keys).mkdir(parents=True, exist_ok=True)
    # The first one makes the keys of receipts, too.
    for keys in ("fernet", "credential"):
        _run(cloud, f"keystone-{keys}", *manage, f"{keys}_setup", *owner)
    url = cloud.auth_url
    account = ["--bootstrap-username", "admin", "--bootstrap-project-name", "admin"]
    urls = ["--bootstrap-public-url", url, "--bootstrap-internal-url", url]
    region = ["--bootstrap-region-id", settings.REGION, "--bootstrap-service-name", "keystone"]
    password = {"OS_BOOTSTRAP_PASSWORD": cloud.password}
    command = [*manage, "bootstrap", *account, *urls, *region]
    _run(cloud, "keystone-bootstrap", *command, extra=password)
    _start_api(cloud, "keystone")
    processes.wait_for(cloud, "keystone", "keystone", 120)
    fill(cloud)


def _fill_others(cloud: settings.Settings) -> None:
    etc = cloud.config
    neutron = ["neutron-db-manage", "--config-file", str(etc / "neutron/neutron.conf")]
    placement = ["placement-manage", "--config-file", str(etc / "placement/placement.conf")]
    glance = ["glance-manage", "--config-file", str(etc / "glance/glance-api.conf")]
    _run(cloud, "neutron-database", *neutron, "upgrade", "heads")
    _run(cloud, "placement-database", *placement, "db", "sync")
    _run(cloud, "glance-database", *glance, "db_sync")


def _start_nova(cloud: settings.Settings, name: str, program: str, config: pathlib.Path) -> None:
    processes.start(cloud, name, [cloud.venv / "bin" / program, "--config-file", config])


def _start_api(cloud: settings.Settings, name: str) -> None:
    application, threads = APIS[name]
    for folder in ("images", "tasks", "staging"):
        (cloud.state / "glance" / folder).mkdir(parents=True, exist_ok=True)
    variables = {
        "CLOUD_APPLICATION": application,
        "CLOUD_BIND": f"{settings.ADDRESS}:{cloud.port(name)}",
        "CLOUD_THREADS": str(threads),
        "CLOUD_WORKER": "eventlet" if name in EVENTLET.get(cloud.release, ()) else "gthread",
        "CLOUD_ACCESS_LOG": str(cloud.logs / f"{name}.access.log"),
        # The applications read the command line as theirs, so gunicorn's options must not be there.
        "GUNICORN_CMD_ARGS": f"--config {HERE / 'gunicorn_settings.py'}",
        "OS_KEYSTONE_CONFIG_FILES": str(cloud.config / "keystone/keystone.conf"),
        "OS_PLACEMENT_CONFIG_DIR": str(cloud.config / "placement"),
        "OS_GLANCE_CONFIG_DIR": str(cloud.config / "glance"),
        "OS_NEUTRON_CONFIG_FILES": str(cloud.config / "neutron/neutron.conf"),
        "OS_NOVA_CONFIG_DIR": str(cloud.config / "nova"),
    }
    processes.start(cloud, name, [cloud.venv / "bin/gunicorn"], variables)


def _start_computes(cloud: settings.Settings, names: list[str]) -> None:
    from tests.cloud import client
    from tests.cloud import computes

    def listens() -> bool:
        if not processes.running(cloud, "computes"):
            raise settings.CloudError(
                f"computes ended\n{processes.log_end(cloud.logs / 'computes.log')}"
            )
        return cloud.computes_socket.exists()

    client.until(listens, "the computes' parent listens", 120, 0.1)
    computes.ask(cloud, "start", names)
    admin = client.Client(cloud)

    def ready() -> bool:
        services = admin.list(admin.compute, "/os-services?binary=nova-compute", "services")
        alive = {service["host"] for service in services if service["state"] == "up"}
        if not alive.issuperset(names):
            return False
        # Only hosts that are mapped to a cell are listed.
        nodes = admin.list(admin.compute, "/os-hypervisors", "hypervisors")
        mapped = {node["hypervisor_hostname"] for node in nodes if node["state"] == "up"}
        providers = admin.list(admin.placement, "/resource_providers", "resource_providers")
        provided = {provider["name"] for provider in providers}
        return mapped.issuperset(names) and provided.issuperset(names)

    client.until(ready, f"{len(names)} computes up", 120 + 5 * len(names))


def _run(
    cloud: settings.Settings,
    name: str,
    *command: str,
    extra: dict[str, str] | None = None,
    accept: tuple[int, ...] = (0,),
) -> None:
    """A command that ends; its output goes to a log of its own."""
    log = cloud.logs / f"{name}.log"
    with log.open("ab") as output:
        code = subprocess.run(
            command,
            env=processes.environment(cloud, extra),
            cwd=cloud.state,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code not in accept:
        raise settings.CloudError(f"{name} failed\n{processes.log_end(log)}")


@contextlib.contextmanager
def _cleaning_up(cloud: settings.Settings, watched: int | None) -> Iterator[None]:
    """No process stays when the body does not reach its end, not even when this one is killed.

    With the id of a process that is ``watched``, none stays when that one has ended either.
    """
    # It ends what we started when its input ends without a word.
    command = [sys.executable, "-m", "tests.cloud.control", "guard", "--state", str(cloud.state)]
    if watched is not None:
        command += ["--for", str(watched)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    cloud.logs.mkdir(exist_ok=True)
    with (cloud.logs / "guard.log").open("ab") as log:
        guard = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            # One that stays would hold a pipe open that our output goes to.
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    assert guard.stdin is not None
    reached = False
    try:
        yield
        if watched is not None:
            processes.stop(cloud, ["guard"], 1)
            processes.record(cloud, "guard", guard.pid)
        guard.stdin.write(b"up\n")
        reached = True
    except BaseException:
        print("up did not come to its end: ending what was started", file=sys.stderr, flush=True)
        raise
    finally:
        # A second Ctrl-C must not cut the cleaning short; the guard has a session of its own.
        guard.stdin.close()
        if watched is None or not reached:
            guard.wait()


def guard(state: pathlib.Path, watched: int | None) -> None:
    """Wait for the word that the cloud is up and for the end of a process, then end the cloud.

    A word and nobody to watch means that the cloud is to go on.
    """
    # Opened at once: later the id may be somebody else's.
    process = None
    if watched is not None:
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(watched)
    if sys.stdin.readline() == "up\n":
        if watched is None:
            return
        if process is not None:
            select.select([process], [], [])
    down(state, wipe=False)


@contextlib.contextmanager
def _alone(state: pathlib.Path) -> Iterator[None]:
    """One ``up`` at a time."""
    with (state / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise settings.CloudError(f"another up is at work in {state}") from None
        yield


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """The commands ``up`` and ``down``."""
    parser = argparse.ArgumentParser(prog="tests/cloud")
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name) for name in ("up", "down", "guard")}
    for name, command in parsers.items():
        command.prog = f"tests/cloud/{name}"
        command.add_argument(
            "--state",
            type=pathlib.Path,
            metavar="DIR",
            help=f"the folder of everything it writes (default: {settings.default_state()})",
        )
        command.add_argument(
            "--release",
            choices=settings.RELEASES,
            help=f"OpenStack's; it has a default folder of its own "
            f"(default: {settings.default_release()})",
        )
        if name != "down":
            command.add_argument(
                "--for",
                dest="watched",
                type=int,
                metavar="PID",
                help="end the cloud when this process has ended",
            )
    parsers["up"].add_argument(
        "--computes",
        type=int,
        metavar="N",
        help="how many hosts (default: as many as there were, at first 6)",
    )
    parsers["up"].add_argument(
        "--cells",
        type=int,
        choices=(1, 2),
        help="of Nova; the hosts come into them in pairs (default: 1)",
    )
    parsers["up"].add_argument(
        "--base-port",
        type=int,
        metavar="PORT",
        help=f"the first of its nine ports (default: {settings.BASE_PORT})",
    )
    parsers["down"].add_argument(
        "--wipe", action="store_true", help="delete the databases and all else of it, too"
    )
    arguments = parser.parse_args()
    state = arguments.state or settings.default_state(arguments.release)
    if arguments.command == "guard":
        guard(state, arguments.watched)
        return
    if arguments.command == "down":
        down(state, arguments.wipe)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup wants us to go on when the terminal is closed.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        if arguments.watched is not None and processes.start_time(arguments.watched) is None:
            raise settings.CloudError(f"--for {arguments.watched}: there is no such process")
        cloud = settings.load_or_create(
            state, arguments.base_port, arguments.release, arguments.cells
        )
        with _alone(cloud.state), _cleaning_up(cloud, arguments.watched):
            up(cloud, arguments.computes)
    except settings.CloudError as error:
        sys.exit(f"up: {error}")
    print(f"export OS_CLIENT_CONFIG_FILE={cloud.clouds_yaml} OS_CLOUD=test-cloud")


if __name__ == "__main__":
    main()

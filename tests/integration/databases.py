# SPDX-License-Identifier: Apache-2.0
"""Database servers of our own on loopback, in temporary folders, ended for sure.

Nothing of the machine's own servers is used or touched: not their data, ports, sockets or
configuration.  As root, PostgreSQL runs as the account of its Debian package, because it refuses to
be root; MariaDB runs as whoever we are.  A server dies with this process, however that dies.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import getpass
import itertools
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import sqlalchemy as sa

ADDRESS = "127.0.0.1"
START_LIMIT_S = 120

KINDS = ("sqlite", "postgresql", "mariadb")


@dataclasses.dataclass(frozen=True)
class Server:
    """One that runs; ``url`` is its administrator's way in."""

    url: sa.URL
    process: subprocess.Popen[bytes]

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """An empty database, dropped in the end; its URL with the password."""
        name = f"journal_{next(_numbers)}"
        self._do(f"CREATE DATABASE {name}")
        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            force = " WITH (FORCE)" if self.url.get_backend_name() == "postgresql" else ""
            self._do(f"DROP DATABASE {name}{force}")

    def _do(self, statement: str) -> None:
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


_numbers = itertools.count()


def missing(kind: str) -> str | None:
    """Why there can be no such server here; None if there can."""
    if kind == "postgresql" and (_postgresql("initdb") is None or shutil.which("setpriv") is None):
        return "PostgreSQL is not installed: tests/cloud/install, as root"
    if kind == "mariadb" and shutil.which("mariadbd") is None:
        return "MariaDB is not installed: tests/cloud/install, as root"
    return None


@contextlib.contextmanager
def server(kind: str) -> Iterator[Server]:
    """A server of ``kind`` for as long as the body runs."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nova-rebalancer-database-"))
    port, password = _free_port(), secrets.token_hex(16)
    start = {"postgresql": _start_postgresql, "mariadb": _start_mariadb}[kind]
    try:
        with (folder / "log").open("ab") as log:
            process, url = start(folder, port, password, log.fileno())
        try:
            yield _until_it_answers(Server(url, process), folder / "log")
        finally:
            # For both: end without waiting for clients.
            process.send_signal(signal.SIGQUIT if kind == "postgresql" else signal.SIGKILL)
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start_postgresql(
    folder: pathlib.Path, port: int, password: str, log: int
) -> tuple[subprocess.Popen[bytes], sa.URL]:
    data, secret = folder / "data", folder / "password"
    secret.write_text(password)
    user: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        for path in (folder, secret):
            os.chown(path, account.pw_uid, account.pw_gid)
        user = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    initdb, postgres = _postgresql("initdb"), _postgresql("postgres")
    make = [initdb, "--pgdata", data, "--username=admin", "--pwfile", secret, "--no-sync"]
    make += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    _run(_dies_with_us(make, user), folder, log)
    run = [postgres, "-D", data, "-p", port, "-k", folder, "-h", ADDRESS, "-c", "fsync=off"]
    url = sa.URL.create("postgresql+psycopg", "admin", password, ADDRESS, port, "postgres")
    return _start(_dies_with_us(run, user), folder, log), url


def _start_mariadb(
    folder: pathlib.Path, port: int, password: str, log: int
) -> tuple[subprocess.Popen[bytes], sa.URL]:
    accounts = folder / "accounts.sql"
    accounts.write_text(
        f"CREATE USER admin@'{ADDRESS}' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO admin@'{ADDRESS}';\n"
    )
    accounts.chmod(0o600)
    data = f"--datadir={folder / 'data'}"
    # It refuses to be root unless told so by name.
    user = [f"--user={getpass.getuser()}"] if os.geteuid() == 0 else []
    make = ["mariadb-install-db", "--no-defaults", data, "--skip-test-db", *user]
    _run(make, folder, log)
    run = ["mariadbd", "--no-defaults", data, *user, f"--port={port}", f"--bind-address={ADDRESS}"]
    run += [f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"]
    run += [f"--init-file={accounts}", "--skip-name-resolve", "--innodb-flush-method=nosync"]
    url = sa.URL.create("mysql+pymysql", "admin", password, ADDRESS, port)
    return _start(_dies_with_us(run, []), folder, log), url


def _postgresql(program: str) -> str | None:
    """Where a program of PostgreSQL is; Debian keeps them apart by version."""
    versions = pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{program}")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return str(newest) if newest else shutil.which(program)


def _dies_with_us(command: Sequence[object], user: Sequence[str]) -> list[str]:
    """Have the kernel end a command when this process ends, even by a SIGKILL."""
    return [*map(str, ["setpriv", *user, "--pdeathsig", "KILL", "--", *command])]


def _start(command: Sequence[str], folder: pathlib.Path, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )


def _run(command: Sequence[str], folder: pathlib.Path, log: int) -> None:
    if _start(command, folder, log).wait(START_LIMIT_S):
        raise RuntimeError(f"{command[0]} failed\n{(folder / 'log').read_text(errors='replace')}")


def _environment() -> dict[str, str]:
    """Nothing of the caller's, such as PGHOST or a home with a .my.cnf."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def _until_it_answers(made: Server, log: pathlib.Path) -> Server:
    engine = sa.create_engine(made.url, poolclass=sa.NullPool)
    until = time.monotonic() + START_LIMIT_S
    while True:
        try:
            engine.connect().close()
            return made
        except sa.exc.OperationalError:
            if made.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"the database does not answer\n{log.read_text(errors='replace')}"
                ) from None
        time.sleep(0.1)

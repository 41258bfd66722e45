# SPDX-License-Identifier: Apache-2.0
"""The databases that can hold a journal, and how each is spoken to."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import pathlib
from typing import Any
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc

from nova_rebalancer import exceptions

Result = TypeVar("Result")

DRIVERS = {
    "sqlite+pysqlite": "",
    "postgresql+psycopg": "postgresql",
    "mysql+pymysql": "mysql",
    "mariadb+pymysql": "mysql",
}
"""What SQLAlchemy calls them: the extra of this package that brings the driver."""

PATIENCE_S = 30
"""How long a write waits for those of others, and a connection for its server."""

# How databases say that two transactions were in each other's way and one was undone: MariaDB's
# number, PostgreSQL's SQLSTATE.
_UNDONE: tuple[object, ...] = (1020, 1205, 1213, "40001", "40P01")
_ATTEMPTS = 10


class Database:
    """One database; its errors leave as ``exceptions.RebalancerError``, in one line.

    Parameters
    ----------
    url
        As SQLAlchemy writes it.  The folder and file of an SQLite database are made, for their
        owner alone.

    Raises
    ------
    RebalancerError
        If the URL is none of these databases, or its file cannot be made.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except exc.ArgumentError:
            raise exceptions.InputError(
                "[store] connection: not a database URL; write sqlite:////path/file, "
                "postgresql+psycopg://user:password@host/database or "
                "mysql+pymysql://user:password@host/database"
            ) from None
        self.name = parsed.render_as_string(hide_password=True)
        try:
            driver = f"{parsed.get_backend_name()}+{parsed.get_driver_name()}"
        except exc.NoSuchModuleError:
            driver = parsed.drivername
        if driver not in DRIVERS:
            raise exceptions.InputError(
                f"[store] connection: {parsed.drivername}: write sqlite, postgresql+psycopg or "
                "mysql+pymysql"
            )
        self._engine = self._make(parsed, driver)

    def write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Do ``work`` in one transaction; it is stored for good when this returns.

        ``work`` may be done again if another transaction was in its way, or another process came
        first with a row of which there can be one only; it then sees what that process wrote.
        """
        with self._told():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return self._once(work)
                except exc.DBAPIError as error:
                    if not isinstance(error, exc.IntegrityError) and not _undone(error):
                        raise
            return self._once(work)

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Do ``work``, which changes nothing."""
        with self._told(), self._engine.connect() as connection:
            return work(connection)

    def all(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        """Return the rows that a query finds."""
        return self.read(lambda connection: connection.execute(query).all())

    def _once(self, work: Callable[[sa.Connection], Result]) -> Result:
        with (
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            return work(connection)

    def _make(self, url: sa.URL, driver: str) -> sa.Engine:
        options: dict[str, Any] = {"pool_pre_ping": True}
        if driver == "sqlite+pysqlite":
            _make_file(url.database)
            options = {"connect_args": {"timeout": PATIENCE_S}}
        else:
            options["connect_args"] = {"connect_timeout": PATIENCE_S}
            # Both by default have another one; this one is enough, and MariaDB locks less.
            options["isolation_level"] = "READ COMMITTED"
        try:
            engine = sa.create_engine(url, **options)
        except ModuleNotFoundError as error:
            raise exceptions.RebalancerError(
                f"journal {self.name}: {error.name} is not installed: pip install "
                f"nova-rebalancer[{DRIVERS[driver]}]"
            ) from None
        if driver == "sqlite+pysqlite":
            event.listen(engine, "connect", _set_sqlite_up)
            event.listen(engine, "begin", _begin_sqlite)
        elif DRIVERS[driver] == "mysql":
            event.listen(engine, "connect", _set_mariadb_up)
        return engine

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            text = " ".join(str(cause).split()) or type(cause).__name__
            raise exceptions.RebalancerError(f"journal {self.name}: {text}") from error


def _make_file(name: str | None) -> None:
    """Make the file, and a folder for it, before SQLite would make it readable for everybody."""
    if not name or name == ":memory:":
        return
    path = pathlib.Path(name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise exceptions.RebalancerError(f"journal {path}: {error.strerror}") from None


def _set_sqlite_up(connection: Any, _: object) -> None:
    # Python's module would begin transactions where it thinks right; _begin_sqlite does.
    connection.isolation_level = None
    # Readers and one writer do not wait for each other.
    connection.execute("PRAGMA journal_mode = WAL")
    # What was written is on the disk before the cloud is asked.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes then could be refused in the middle.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_mariadb_up(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        # A server may be set to cut what is too long.
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")


def _undone(error: exc.DBAPIError) -> bool:
    """Say whether the database undid a transaction in favour of another one."""
    cause = error.orig
    number = cause.args[0] if cause is not None and cause.args else None
    return getattr(cause, "sqlstate", None) in _UNDONE[3:] or number in _UNDONE[:3]

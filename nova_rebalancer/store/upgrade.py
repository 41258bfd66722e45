# SPDX-License-Identifier: Apache-2.0
"""Bringing the tables of a database to the version of this program, or back to an older one."""

from collections.abc import Iterator
import contextlib
import logging
from typing import Any

import sqlalchemy as sa

from nova_rebalancer import exceptions
from nova_rebalancer.store import database
from nova_rebalancer.store import schema

BASE = "base"
"""The revision before the first one: no tables."""

_LOCK = "nova-rebalancer journal"
_PATIENCE_S = 600


def upgrade(data: database.Database) -> None:
    """Bring the tables to what this program knows; two processes at once are no trouble.

    Raises
    ------
    RebalancerError
        If the tables are newer than this program.
    """
    if data.read(revision) != schema.REVISION:
        data.write(lambda connection: _move(connection, data.name, schema.REVISION))


def downgrade(data: database.Database, to: str) -> None:
    """Bring the tables back to revision ``to``; what its tables can hold stays.

    Raises
    ------
    RebalancerError
        If the tables are newer than this program, or there is no such revision.
    """
    data.write(lambda connection: _move(connection, data.name, to))


def revision(connection: sa.Connection) -> str | None:
    """Return the revision of the tables; None if there are none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _move(connection: sa.Connection, name: str, to: str) -> None:
    # What it tells of itself and of each step is for those who write steps.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It takes longer to load than a command like "status" takes otherwise.
    from alembic import command
    from alembic import config
    from alembic import script

    settings = config.Config()
    settings.set_main_option("script_location", "nova_rebalancer.store:migrations")
    steps = script.ScriptDirectory.from_config(settings)
    known = [step.revision for step in steps.walk_revisions()]
    with _alone(connection):
        # It may have changed while we waited.
        now = revision(connection)
        if now is not None and now not in known:
            raise exceptions.RebalancerError(
                f"journal {name}: its tables are of revision {now}, and this program knows them up "
                f"to {schema.REVISION}: a newer nova-rebalancer has used it; install that version "
                "or name another database"
            )
        if to != BASE and to not in known:
            raise exceptions.InputError(f"there is no revision {to}; there are {', '.join(known)}")
        settings.attributes["connection"] = connection
        # From the newest to the oldest.
        back = now is not None and (to == BASE or known.index(to) > known.index(now))
        go: Any = command.downgrade if back else command.upgrade
        go(settings, to)


@contextlib.contextmanager
def _alone(connection: sa.Connection) -> Iterator[None]:
    """Let nobody else change the tables meanwhile; SQLite does so for every one who writes."""
    kind = connection.dialect.name
    if kind == "postgresql":
        # Held until the transaction ends.
        query = sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))")
        connection.execute(query, {"name": _LOCK})
    if kind not in ("mysql", "mariadb"):
        yield
        return
    # Transactions end with each table here; this lock is held until the connection gives it back.
    query = sa.text("SELECT GET_LOCK(:name, :patience)")
    if connection.scalar(query, {"name": _LOCK, "patience": _PATIENCE_S}) != 1:
        raise exceptions.RebalancerError("another process is changing the tables of the journal")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    finally:
        connection.execute(sa.text("DO RELEASE_LOCK(:name)"), {"name": _LOCK})

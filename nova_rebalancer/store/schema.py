# SPDX-License-Identifier: Apache-2.0
"""The tables of the journal, as this version of the program knows them.

``migrations/versions`` says how a database comes here from any earlier version.  Times are seconds
since 1970.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

REVISION = "0002"
"""The newest of ``migrations/versions``, written here so that a start need not look for it."""

# 64 KiB are not enough for what some clouds have to say.
LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LONG_BINARY = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
# SQLite numbers rows by itself only where the type is INTEGER.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# The longest that Nova and Keystone have for a name; an index needs a limit.
NAME = sa.String(255)
TIME = sa.Double[float]()

TABLE: dict[str, Any] = {
    # Names differ when one letter does, also in its case.
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
}
"""Options of every table."""

METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

PLANS = sa.Table(
    "plans",
    METADATA,
    # A plan that somebody edited has its old id and is another plan.
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("document", LONG_BINARY, nullable=False, comment="JSON, compressed by zlib"),
    **TABLE,
)

RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("plan", LONG_TEXT, nullable=False),
    sa.Column("plan_sha256", sa.ForeignKey("plans.sha256"), nullable=False, index=True),
    sa.Column("cloud", NAME, nullable=False),
    sa.Column("region", NAME, nullable=False, comment="empty: none"),
    sa.Column("open", sa.SmallInteger, comment="1 or null"),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("cause", LONG_TEXT),
    sa.Column("began_at", TIME, nullable=False, index=True),
    sa.Column("ended_at", TIME),
    sa.Column("owner", NAME),
    sa.Column("beat_at", TIME),
    sa.Column("goal", LONG_TEXT, nullable=False),
    sa.Column("before", TIME),
    sa.Column("predicted", TIME),
    sa.Column("after", TIME),
    sa.Column("budget", sa.Integer, nullable=False),
    # One open run in one place, however many begin at once: null is never equal to null.
    sa.UniqueConstraint("cloud", "region", "open"),
    sa.Index("ix_runs_cloud", "cloud", "began_at"),
    **TABLE,
)

MIGRATIONS = sa.Table(
    "migrations",
    METADATA,
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column("run", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("key", NAME, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("instance", NAME, nullable=False, index=True),
    sa.Column("source", NAME, nullable=False),
    sa.Column("dest", NAME, nullable=False),
    sa.Column("method", sa.String(32), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("memory_mib", sa.BigInteger),
    sa.Column("project", NAME),
    sa.Column("depends_on", LONG_TEXT, nullable=False, comment="JSON, keys"),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("code", LONG_TEXT),
    sa.Column("text", LONG_TEXT),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before", TIME),
    sa.Column("request", NAME),
    sa.Column("known_record", sa.BigInteger, nullable=False),
    sa.Column("known_action", NAME),
    sa.Column("record", sa.BigInteger),
    sa.Column("predicted_s", TIME),
    sa.Column("requested_at", TIME, index=True),
    sa.Column("running_at", TIME),
    sa.Column("ended_at", TIME, index=True),
    sa.Column("aborting", sa.Boolean, nullable=False),
    sa.Column("bytes", sa.BigInteger),
    sa.UniqueConstraint("run", "key"),
    sa.Index("ix_migrations_run", "run", "state"),
    **TABLE,
)

CHANGES = sa.Table(
    "changes",
    METADATA,
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column(
        "migration",
        sa.ForeignKey("migrations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("at", TIME, nullable=False),
    sa.Column("before", sa.String(32)),
    sa.Column("after", sa.String(32), nullable=False),
    sa.Column("code", LONG_TEXT),
    sa.Column("text", LONG_TEXT),
    **TABLE,
)

LEARNT = sa.Table(
    "learnt",
    METADATA,
    sa.Column("cloud", NAME, primary_key=True),
    sa.Column("instance", NAME, primary_key=True),
    sa.Column("code", LONG_TEXT, nullable=False),
    sa.Column("text", LONG_TEXT, nullable=False),
    sa.Column("learnt_at", TIME, nullable=False),
    sa.Column("until", TIME, nullable=False, index=True),
    **TABLE,
)

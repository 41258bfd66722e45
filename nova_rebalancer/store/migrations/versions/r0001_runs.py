# SPDX-License-Identifier: Apache-2.0
"""Runs, their plans, their migrations and every change of these."""

from typing import Any

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
LONG_BINARY = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(255)
TIME = sa.Double[float]()
TABLE: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "if_not_exists": True,
}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "plans",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("document", LONG_BINARY, nullable=False, comment="JSON, compressed by zlib"),
        sa.PrimaryKeyConstraint("sha256", name="pk_plans"),
        **TABLE,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("plan", LONG_TEXT, nullable=False),
        sa.Column("plan_sha256", sa.String(64), nullable=False),
        sa.Column("cloud", NAME, nullable=False),
        sa.Column("region", NAME, nullable=False, comment="empty: none"),
        sa.Column("open", sa.SmallInteger, comment="1 or null"),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("cause", LONG_TEXT),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("owner", NAME),
        sa.Column("beat_at", TIME),
        sa.Column("goal", LONG_TEXT, nullable=False),
        sa.Column("before", TIME),
        sa.Column("predicted", TIME),
        sa.Column("after", TIME),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["plan_sha256"], ["plans.sha256"], name="fk_runs_plan_sha256"),
        sa.UniqueConstraint("cloud", "region", "open", name="uq_runs_cloud"),
        **TABLE,
    )
    _index("runs", "plan_sha256")
    _index("runs", "began_at")
    _index("runs", "cloud", "began_at")
    op.create_table(
        "migrations",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("instance", NAME, nullable=False),
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
        sa.Column("requested_at", TIME),
        sa.Column("running_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("aborting", sa.Boolean, nullable=False),
        sa.Column("bytes", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_migrations"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_migrations_run", ondelete="CASCADE"),
        sa.UniqueConstraint("run", "key", name="uq_migrations_run"),
        **TABLE,
    )
    _index("migrations", "run", "state")
    for column in ("instance", "requested_at", "ended_at"):
        _index("migrations", column)
    op.create_table(
        "changes",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("migration", NUMBER, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("before", sa.String(32)),
        sa.Column("after", sa.String(32), nullable=False),
        sa.Column("code", LONG_TEXT),
        sa.Column("text", LONG_TEXT),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sa.ForeignKeyConstraint(
            ["migration"], ["migrations.id"], name="fk_changes_migration", ondelete="CASCADE"
        ),
        **TABLE,
    )
    _index("changes", "migration")


def downgrade() -> None:
    """Drop the tables: before them there was no journal."""
    for table in ("changes", "migrations", "runs", "plans"):
        op.drop_table(table, if_exists=True)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{columns[0]}", table, list(columns), if_not_exists=True)

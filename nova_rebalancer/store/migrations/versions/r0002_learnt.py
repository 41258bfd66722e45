# SPDX-License-Identifier: Apache-2.0
"""Instances that turned out not to be migratable, for a time."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
NAME = sa.String(255)
TIME = sa.Double[float]()


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "learnt",
        sa.Column("cloud", NAME, nullable=False),
        sa.Column("instance", NAME, nullable=False),
        sa.Column("code", LONG_TEXT, nullable=False),
        sa.Column("text", LONG_TEXT, nullable=False),
        sa.Column("learnt_at", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("cloud", "instance", name="pk_learnt"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
        mariadb_engine="InnoDB",
        if_not_exists=True,
    )
    op.create_index("ix_learnt_until", "learnt", ["until"], if_not_exists=True)


def downgrade() -> None:
    """Drop the table; what it held was worth a wasted request at most."""
    op.drop_table("learnt", if_exists=True)

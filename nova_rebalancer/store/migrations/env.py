# SPDX-License-Identifier: Apache-2.0
"""Run by alembic; ``store/upgrade.py`` gives the connection, inside a transaction of its own."""

from alembic import context

from nova_rebalancer.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.METADATA,
)
context.run_migrations()

# SPDX-License-Identifier: Apache-2.0
"""How the tables of the journal came to be, step by step, as alembic wants it."""

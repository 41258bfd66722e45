# SPDX-License-Identifier: Apache-2.0
"""Where the journal is kept, and for how long."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    "store",
    title="Store options",
    help="""
The journal of runs and migrations: what was meant, what was asked of the
cloud, and what came of it.
""",
)

OPTIONS = [
    cfg.StrOpt(
        "connection",
        secret=True,
        help="""
URL of the journal's database.

Without it the journal is the file ``nova-rebalancer/journal.sqlite`` in
``XDG_STATE_HOME`` (``~/.local/state``), which is enough for one person on
one machine. Name a PostgreSQL or MariaDB database when several machines
carry plans out on one cloud: they see each other's runs only there.

Possible values:

* ``sqlite:////path/to/journal.sqlite``
* ``postgresql+psycopg://user:password@host/database``
* ``mysql+pymysql://user:password@host/database?charset=utf8mb4``
""",
    ),
    cfg.IntOpt(
        "keep_days",
        default=90,
        min=1,
        help="""
Days for which a run that has ended is kept.

Older runs are deleted, with their migrations, whenever a run begins; nobody
has to do it by hand. Raise it when you look further back, lower it when the
database is small. A migration is some kB.
""",
    ),
]

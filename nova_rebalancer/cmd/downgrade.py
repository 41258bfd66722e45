# SPDX-License-Identifier: Apache-2.0
"""``python -m nova_rebalancer.cmd.downgrade``: make a journal one that an older version can use.

Going forward needs no command: every start brings the tables up to date.
"""

import argparse
from collections.abc import Sequence
import sys

from nova_rebalancer import exceptions
from nova_rebalancer.cmd import journalled
from nova_rebalancer.store import database
from nova_rebalancer.store import journal
from nova_rebalancer.store import upgrade


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nova_rebalancer.cmd.downgrade",
        description="Bring the tables of the journal back to an older revision. What the older "
        "tables can hold stays. Let nothing use the journal meanwhile, and keep a copy of it.",
    )
    parser.add_argument("--config-file", metavar="FILE", action="append", help="as nova-rebalance")
    parser.add_argument("revision", metavar="REVISION", help="such as 0001")
    given = parser.parse_args(argv)
    try:
        url = journalled.connection(given.config_file) or journal.default_url()
        data = database.Database(url)
        upgrade.downgrade(data, given.revision)
    except exceptions.RebalancerError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"journal {data.name}: its tables are of revision {given.revision} now")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Cells of Nova that the API cannot reach. Standard library only.

``python3 -m tests.cloud.cells [--state DIR] cut cell1`` and ``heal cell1``. Nova's API and
scheduler reach the database of a cell by what its mapping names, which is here a symbolic link to
MariaDB's socket. Without the link they find nobody there, from the next request on. The cell's
conductor and computes have another way and go on working, as they do when the network between the
API and a cell is broken.

That the address refuses is an error at once. Over a network that drops packets Nova would wait
longer with each request; a rule of the proxy can delay the requests as well.
"""

import argparse
import os
import pathlib
import subprocess
import sys

from tests.cloud import settings


def cut(cloud: settings.Settings, cell: str) -> None:
    """Make a cell unreachable for Nova's API and scheduler.

    Raises
    ------
    CloudError
        If there is no such cell, or MariaDB refuses.
    """
    _check(cloud, cell)
    cloud.cell_socket(cell).unlink(missing_ok=True)
    _hang_up(cloud, cell)


def heal(cloud: settings.Settings, cell: str) -> None:
    """Undo ``cut``.

    Raises
    ------
    CloudError
        If there is no such cell.
    """
    _check(cloud, cell)
    connect(cloud, cell)


def connect(cloud: settings.Settings, cell: str) -> None:
    """Make the link, in place of what is there."""
    new = cloud.cell_socket(cell).with_suffix(".new")
    new.unlink(missing_ok=True)
    new.symlink_to(cloud.mariadb_socket)
    new.replace(cloud.cell_socket(cell))


def _check(cloud: settings.Settings, cell: str) -> None:
    if cell not in cloud.cells:
        raise settings.CloudError(f"no {cell} in {cloud.state}: it has {', '.join(cloud.cells)}")


def _hang_up(cloud: settings.Settings, cell: str) -> None:
    """End the connections that are there; without it they would go on."""
    client = ["mariadb", "--no-defaults", "--user", "cloud", "--host", settings.ADDRESS]
    done = subprocess.run(
        [*client, "--port", str(cloud.port("mariadb")), "-e", f"KILL HARD USER {cell}@localhost"],
        env={**os.environ, "MYSQL_PWD": cloud.password},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise settings.CloudError(done.stderr.strip())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.cloud.cells")
    parser.add_argument(
        "--state", type=pathlib.Path, metavar="DIR", default=settings.default_state()
    )
    parser.add_argument("action", choices=("cut", "heal"))
    parser.add_argument("cell", help="cell1, or cell2 if it was made")
    arguments = parser.parse_args()
    act = {"cut": cut, "heal": heal}[arguments.action]
    try:
        act(settings.load(arguments.state), arguments.cell)
    except settings.CloudError as error:
        sys.exit(f"cells: {error}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What the command lines of these benchmarks have in common."""

import argparse
from collections.abc import Callable
import pathlib
import sys
from typing import NoReturn

from benchmarks.execution import ground
from benchmarks.execution import process
from tests.cloud import settings


def parser(about: str | None, migrations: int = 40) -> argparse.ArgumentParser:
    """Return a parser with the options that all have; ``about`` is the module's docstring."""
    made = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    made.add_argument("--state", type=pathlib.Path, metavar="DIR", default=settings.default_state())
    made.add_argument("--work", type=pathlib.Path, metavar="DIR", required=True)
    made.add_argument(
        "--migrations",
        type=int,
        default=migrations,
        metavar="N",
        help=f"default: {migrations}",
    )
    return made


def run(
    state: pathlib.Path,
    headroom_mib: int,
    measure: Callable[[settings.Settings], bool],
    ready: bool = False,
) -> NoReturn:
    """Make the cloud ready, unless it is, measure, and exit with 0 if what came out is good."""
    try:
        cloud = settings.load(state)
        if not ready:
            ground.open_all(cloud)
            ground.level(cloud, headroom_mib)
        good = measure(cloud)
    except (settings.CloudError, process.ProgramError) as error:
        sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {error}")
    sys.exit(0 if good else 1)

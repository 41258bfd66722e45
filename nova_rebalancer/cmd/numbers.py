# SPDX-License-Identifier: Apache-2.0
"""Numbers on the command line: types for argparse that say what is wrong with one."""

import argparse
from collections.abc import Callable

MOST_SEED = 2**31 - 1


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"{value} is more than {most}")
        return value

    return read


def sizes(text: str) -> tuple[int, ...]:
    """Read each X of the fragment rate, with commas between them."""
    from nova_rebalancer.model.objectives import fragmentation

    try:
        return fragmentation.sizes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def amount(text: str) -> float:
    """Read a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def positive(text: str) -> float:
    """Read a finite number above 0."""
    value = amount(text)
    if not value:
        raise argparse.ArgumentTypeError("0 is too little")
    return value


def share(text: str) -> float:
    """Read a number from 0 to below 1."""
    value = amount(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value

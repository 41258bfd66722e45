# SPDX-License-Identifier: Apache-2.0
"""Arrivals read from a CSV file."""

from collections.abc import Iterable
import csv
import dataclasses
import io

from nova_rebalancer import exceptions
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import books
from nova_rebalancer.sim import kinds

NEEDED = ("at_s", "cores", "memory_mib", "lifetime_s")
OPTIONAL = ("instance", "guest_cells", "group")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line; ``lifetime_s`` None resizes ``instance``; ``where`` is its place for errors."""

    at_s: float
    size: kinds.Size
    lifetime_s: float | None
    instance: str
    group: str | None
    where: str = ""


def read(data: bytes, name: str) -> list[Row]:
    """Read arrivals, sorted by time; ``name`` stands for the file in errors.

    Raises
    ------
    InputError
        If the file is not such a table, with the line and what is wrong there.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise exceptions.InputError(f"{name}: it is not a text file") from None
    lines = csv.DictReader(io.StringIO(text, newline=""))
    header = [*(lines.fieldnames or ())]
    for column in NEEDED:
        if column not in header:
            raise exceptions.InputError(
                f"{name}: column {column} is missing in the first line; needed are "
                f"{', '.join(NEEDED)}, known beside them {', '.join(OPTIONAL)}"
            )
    for column in header:
        if column not in (*NEEDED, *OPTIONAL):
            raise exceptions.InputError(
                f"{name}: column {column!r} is not known; there are "
                f"{', '.join((*NEEDED, *OPTIONAL))}"
            )
    rows = []
    for number, line in enumerate(lines, 1):
        where = f"{name}: line {lines.line_num}"
        instance = line.get("instance") or f"boot-{number}"
        lifetime_s = None
        if line["lifetime_s"]:
            lifetime_s = _number(line["lifetime_s"], "lifetime_s", where)
        elif not line.get("instance"):
            raise exceptions.InputError(
                f"{where}: lifetime_s is empty, which resizes the instance named in column "
                "instance, and none is named"
            )
        size = kinds.Size(
            _whole(line["cores"], "cores", where),
            _whole(line["memory_mib"], "memory_mib", where),
            _whole(line.get("guest_cells") or "0", "guest_cells", where),
        )
        if size.guests and (size.cores % size.guests or size.memory_mib % size.guests):
            raise exceptions.InputError(
                f"{where}: {size.cores} cores and {size.memory_mib} MiB cannot be shared evenly "
                f"by {size.guests} guest cells"
            )
        at_s = _number(line["at_s"], "at_s", where)
        rows.append(Row(at_s, size, lifetime_s, instance, line.get("group") or None, where))
    if not rows:
        raise exceptions.InputError(f"{name}: it has no arrivals")
    return sorted(rows, key=lambda row: row.at_s)


def story(
    rows: Iterable[Row], cloud: kinds.Kinds, lifetimes: arrivals.Lifetimes, seed: int
) -> arrivals.Story:
    """Return what the rows say will happen; ``cloud`` was built with their sizes.

    How long instances live that are there already is drawn from ``lifetimes``.

    Raises
    ------
    InputError
        If something is resized that was never there, with the line.
    """
    rows = tuple(rows)
    known = {one.id for one in cloud.snapshot.instances}
    for row in rows:
        if row.lifetime_s is not None:
            known.add(row.instance)
        elif row.instance not in known:
            raise exceptions.InputError(
                f"{row.where}: lifetime_s is empty, which resizes {row.instance}, and that is "
                "neither an id of the snapshot nor booted before"
            )
    boots = tuple(
        arrivals.Boot(
            row.at_s,
            row.instance,
            cloud.of_size[row.size],
            row.lifetime_s,
            None if row.group is None else books.Group(f"trace-{row.group}", "anti-affinity"),
        )
        for row in rows
    )
    return arrivals.Story(boots, arrivals.ends_s(cloud, lifetimes, seed))


def _number(text: str | None, column: str, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise exceptions.InputError(f"{where}: {column} {text!r} is not a number of seconds")
    return value


def _whole(text: str | None, column: str, where: str) -> int:
    try:
        value = int(text or "")
    except ValueError:
        value = -1
    if not 0 <= value < 10**9:
        raise exceptions.InputError(f"{where}: {column} {text!r} is not a whole number")
    return value

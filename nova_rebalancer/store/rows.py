# SPDX-License-Identifier: Apache-2.0
"""From records to rows and back, inside of a transaction that somebody else began."""

from collections.abc import Sequence
import dataclasses
import json
from typing import Any
import zlib

import sqlalchemy as sa

from nova_rebalancer import exceptions
from nova_rebalancer.store import owner as owners
from nova_rebalancer.store import records
from nova_rebalancer.store import schema

TEXT_LIMIT = 65536
"""Of a message, in characters; the rest of a longer one is cut off."""

_GIVEN = tuple(field.name for field in dataclasses.fields(records.New))
_FIXED = {*_GIVEN, "id", "run"} - {"predicted_s", "memory_mib", "code", "text"}
_CHANGEABLE = {field.name for field in dataclasses.fields(records.Entry)} - _FIXED
RUN_COLUMNS = tuple(
    getattr(schema.RUNS.c, field.name)
    for field in dataclasses.fields(records.Run)
    if field.name != "document"
)
_WITH_DOCUMENT: sa.Select[*tuple[Any, ...]] = sa.select(*RUN_COLUMNS, schema.PLANS.c.document).join(
    schema.PLANS, schema.PLANS.c.sha256 == schema.RUNS.c.plan_sha256
)
_ENTRY_COLUMNS = tuple(
    getattr(schema.MIGRATIONS.c, field.name) for field in dataclasses.fields(records.Entry)
)


def plain(text: Any) -> Any:
    """Make a text one that every database can hold: short enough, no half characters, no NUL."""
    if text is None:
        return None
    text = str(text).replace("\0", "\N{REPLACEMENT CHARACTER}")
    text = text.encode(errors="replace").decode()
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def checked(fields: dict[str, Any]) -> dict[str, Any]:
    if wrong := fields.keys() - _CHANGEABLE:
        raise TypeError(f"of a migration, {', '.join(sorted(wrong))} cannot be changed")
    return fields


def as_run(row: sa.Row[*tuple[Any, ...]]) -> records.Run:
    values = row._asdict()
    values["region"] = values["region"] or None
    packed = values.get("document")
    values["document"] = {} if packed is None else json.loads(zlib.decompress(packed))
    return records.Run(**values)


def run(connection: sa.Connection, where: sa.ColumnElement[bool]) -> records.Run:
    return as_run(connection.execute(_WITH_DOCUMENT.where(where)).one())


def open_run(connection: sa.Connection, cloud: str, region: str | None) -> records.Run | None:
    c = schema.RUNS.c
    where = (c.cloud == cloud) & (c.region == (region or "")) & (c.open == 1)
    found = connection.execute(_WITH_DOCUMENT.where(where)).one_or_none()
    return None if found is None else as_run(found)


def refuse_beside(found: records.Run, plan: str, now: float) -> None:
    """Say why a run cannot begin beside an open one."""
    if found.owner is not None and owners.alive(found.owner, found.beat_at, now):
        raise records.TakenError(found.id, found.owner, found.began_at)
    what = "this plan" if found.plan == plan else f"plan {found.plan}"
    raise exceptions.InputError(
        f"run {found.id} of {what} was interrupted on cloud {found.cloud}: apply that plan again "
        "to go on with it, or with --stop to end it"
    )


def beat(connection: sa.Connection, run_id: str, owner: str, now: float) -> None:
    """Write the owner's beat, which fails for another process and locks the run's row.

    It is written and not only locked so that two writers on two nodes of one Galera cluster, which
    do not see each other's locks, are in each other's way, too.
    """
    c = schema.RUNS.c
    mine = (c.id == run_id) & (c.owner == owner)
    if connection.execute(sa.update(schema.RUNS).where(mine).values(beat_at=now)).rowcount != 1:
        raise records.LostError(f"run {run_id} is not this process's any more")


def insert(
    connection: sa.Connection,
    run_id: str,
    now: float,
    entries: Sequence[records.New | records.Entry],
) -> list[int]:
    """Write new migrations down, each with its first change."""
    ids: list[int] = []
    for entry in entries:
        row = {name: getattr(entry, name) for name in _GIVEN}
        row |= {
            "run": run_id,
            "depends_on": json.dumps(entry.depends_on),
            "code": plain(entry.code),
            "text": plain(entry.text),
            "attempts": 0,
            "known_record": 0,
            "aborting": False,
        }
        done = connection.execute(sa.insert(schema.MIGRATIONS).values(row))
        ids.extend(done.inserted_primary_key or ())
    changes = [
        {
            "migration": number,
            "at": now,
            "before": None,
            "after": entry.state,
            "code": plain(entry.code),
            "text": plain(entry.text),
        }
        for number, entry in zip(ids, entries, strict=True)
    ]
    if changes:
        connection.execute(sa.insert(schema.CHANGES), changes)
    return ids


def update(connection: sa.Connection, entry: records.Entry, values: dict[str, Any]) -> None:
    """Write to a migration that is as ``entry`` says."""
    c = schema.MIGRATIONS.c
    this = (c.id == entry.id) & (c.state == entry.state)
    if not values:
        return
    if connection.execute(sa.update(schema.MIGRATIONS).where(this).values(values)).rowcount != 1:
        raise records.LostError(
            f"run {entry.run}: migration {entry.key} is not {entry.state} any more, or it is gone"
        )


def entries(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[records.Entry]:
    query = sa.select(*_ENTRY_COLUMNS).where(where).order_by(schema.MIGRATIONS.c.id)
    found = []
    for row in connection.execute(query):
        values = row._asdict()
        values["depends_on"] = tuple(json.loads(values["depends_on"]))
        found.append(records.Entry(**values))
    return found

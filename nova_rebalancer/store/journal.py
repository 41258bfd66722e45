# SPDX-License-Identifier: Apache-2.0
"""The journal: what was meant, asked of the cloud and answered, written before the cloud is asked.

Every method is one transaction, stored for good when it returns, and either done as a whole or not
at all, also if the process is killed.  What changes a run that is carried out names the owner of
the run, and fails if that is another process by now.  Times are seconds since 1970, given by the
caller.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from typing import Any
import uuid
import zlib

import sqlalchemy as sa

from nova_rebalancer import exceptions
from nova_rebalancer.store import database
from nova_rebalancer.store import owner as owners
from nova_rebalancer.store import records
from nova_rebalancer.store import rows
from nova_rebalancer.store import schema
from nova_rebalancer.store import upgrade

# Callers need this module only.
New = records.New
Entry = records.Entry
Run = records.Run
Change = records.Change
OPEN = records.OPEN
LostError = records.LostError
TakenError = records.TakenError

_RUNS_AT_ONCE = 20
_INSTANCES_AT_ONCE = 500


def default_path() -> pathlib.Path:
    """Return the file of the journal that a person has on this machine."""
    home = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(home, "nova-rebalancer", "journal.sqlite").absolute()


def default_url() -> str:
    """Return the URL of that journal."""
    return sa.URL.create("sqlite", database=str(default_path())).render_as_string()


def open(url: str | None) -> "Journal":
    """Open a journal; None is ``default_url``.  Makes it, or brings its tables up to date.

    Raises
    ------
    RebalancerError
        If the database does not answer, cannot be used, or was written by a newer version.
    """
    data = database.Database(url or default_url())
    upgrade.upgrade(data)
    return Journal(data)


class Journal:
    """An open journal; several threads may share it."""

    def __init__(self, data: database.Database) -> None:
        self._data = data

    # Runs.

    def begin(
        self,
        document: dict[str, Any],
        *,
        cloud: str,
        region: str | None,
        owner: str,
        now: float,
        entries: Sequence[New | Entry],
    ) -> Run:
        """Write a run of the plan ``document`` down, with its migrations, and own it.

        Raises
        ------
        TakenError
            If another process carries a run out there.
        InputError
            If an interrupted run is there.
        """
        plan = json.dumps(document, separators=(",", ":")).encode()
        sha256 = hashlib.sha256(plan).hexdigest()
        run = Run(
            id=str(uuid.uuid4()),
            plan=rows.plain(document["id"]),
            cloud=cloud,
            region=region,
            state=records.OPEN,
            cause=None,
            began_at=now,
            ended_at=None,
            owner=owner,
            beat_at=now,
            goal=rows.plain(document["goal"]),
            before=document["objective"]["before"],
            predicted=document["objective"]["after"],
            after=None,
            budget=document["max_migrations"],
            document=document,
        )
        row = {column.name: getattr(run, column.name) for column in rows.RUN_COLUMNS}
        row |= {"region": region or "", "open": 1, "plan_sha256": sha256}

        def work(connection: sa.Connection) -> None:
            found = rows.open_run(connection, cloud, region)
            if found is not None:
                rows.refuse_beside(found, run.plan, now)
            c = schema.PLANS.c
            if connection.scalar(sa.select(c.sha256).where(c.sha256 == sha256)) is None:
                values = {"sha256": sha256, "document": zlib.compress(plan)}
                connection.execute(sa.insert(schema.PLANS), values)
            connection.execute(sa.insert(schema.RUNS), row)
            rows.insert(connection, run.id, now, entries)

        self._data.write(work)
        return run

    def interrupted(self, cloud: str, region: str | None) -> Run | None:
        """Return the open run there, whether or not its owner lives; None if there is none."""
        return self._data.read(lambda connection: rows.open_run(connection, cloud, region))

    def take(self, run_id: str, owner: str, now: float) -> Run:
        """Become the owner of an open run.

        Raises
        ------
        TakenError
            If its owner lives.
        InputError
            If it has ended.
        """
        c = schema.RUNS.c

        def work(connection: sa.Connection) -> Run:
            # A lock on the row: whoever is about to write for its present owner comes first, or
            # finds that the run is ours.
            columns = (c.owner, c.beat_at, c.state, c.began_at)
            locked = sa.select(*columns).where(c.id == run_id).with_for_update()
            found = connection.execute(locked).one_or_none()
            if found is None or found.state != records.OPEN:
                raise exceptions.InputError(f"run {run_id} is not open any more")
            taken = found.owner not in (None, owner)
            if taken and owners.alive(found.owner, found.beat_at, now):
                raise TakenError(run_id, found.owner, found.began_at)
            values = {"owner": owner, "beat_at": now}
            connection.execute(sa.update(schema.RUNS).where(c.id == run_id).values(values))
            return rows.run(connection, c.id == run_id)

        return self._data.write(work)

    def beat(self, run_id: str, owner: str, now: float) -> None:
        """Say that the owner lives; every other write for the run says so, too.

        Raises
        ------
        LostError
            If the run is another process's by now, or has ended.
        """
        self._data.write(lambda connection: rows.beat(connection, run_id, owner, now))

    def end(
        self,
        run_id: str,
        owner: str,
        now: float,
        state: str,
        cause: str | None,
        after: float | None = None,
    ) -> None:
        """Close a run; nobody owns it any more.

        Raises
        ------
        LostError
            If the run is another process's by now, or has ended.
        """
        values = {
            "state": state,
            "cause": rows.plain(cause),
            "ended_at": now,
            "after": after,
            "owner": None,
            "beat_at": None,
            "open": None,
        }

        def work(connection: sa.Connection) -> None:
            rows.beat(connection, run_id, owner, now)
            mine = schema.RUNS.c.id == run_id
            connection.execute(sa.update(schema.RUNS).where(mine).values(values))

        self._data.write(work)

    def release(self, run_id: str, owner: str) -> None:
        """Leave a run open without an owner; nothing happens if it is not ours."""
        c = schema.RUNS.c
        mine = (c.id == run_id) & (c.owner == owner)
        nobody = sa.update(schema.RUNS).where(mine).values(owner=None, beat_at=None)
        self._data.write(lambda connection: connection.execute(nobody).close())

    # Migrations.

    def add(
        self, run_id: str, owner: str, now: float, entries: Sequence[New | Entry]
    ) -> list[Entry]:
        """Write more migrations of a run down, and return them.

        Raises
        ------
        LostError
            If the run is another process's by now, or has ended.
        """

        def work(connection: sa.Connection) -> list[Entry]:
            rows.beat(connection, run_id, owner, now)
            ids = rows.insert(connection, run_id, now, entries)
            c = schema.MIGRATIONS.c
            return rows.entries(connection, (c.run == run_id) & (c.id >= min(ids, default=0)))

        return self._data.write(work) if entries else []

    def change(
        self,
        entry: Entry,
        owner: str,
        now: float,
        to: str,
        code: str | None = None,
        text: str | None = None,
        **fields: Any,
    ) -> Entry:
        """Bring a migration from the state of ``entry`` to state ``to``, because of ``code``.

        Returns
        -------
        Entry
            As it is now: with the new state, its cause, and ``fields``.

        Raises
        ------
        LostError
            If the run is another process's by now, or has ended, or if the migration is not in
            the state of ``entry`` any more.  Nothing was written then.
        """
        code, text = rows.plain(code), rows.plain(text)
        row = {
            "migration": entry.id,
            "at": now,
            "before": entry.state,
            "after": to,
            "code": code,
            "text": text,
        }
        values = {**rows.checked(fields), "state": to, "code": code, "text": text}

        def work(connection: sa.Connection) -> None:
            rows.beat(connection, entry.run, owner, now)
            rows.update(connection, entry, values)
            connection.execute(sa.insert(schema.CHANGES), row)

        self._data.write(work)
        return dataclasses.replace(entry, **values)

    def note(self, entry: Entry, owner: str, now: float, **fields: Any) -> Entry:
        """Write ``fields`` of a migration down that change without its state.

        A ``code`` and ``text`` say what it waits for.

        Raises
        ------
        LostError
            As ``change`` does.
        """
        values = rows.checked(fields)
        if "text" in values:
            values["text"] = rows.plain(values["text"])

        def work(connection: sa.Connection) -> None:
            rows.beat(connection, entry.run, owner, now)
            rows.update(connection, entry, values)

        self._data.write(work)
        return dataclasses.replace(entry, **values)

    # Reading.

    def entries(self, run_id: str) -> list[Entry]:
        """Return the migrations of a run in the order in which they were written down."""
        mine = schema.MIGRATIONS.c.run == run_id
        return self._data.read(lambda connection: rows.entries(connection, mine))

    def changes(self, run_id: str) -> list[Change]:
        """Return the changes of state of a run's migrations, the oldest first."""
        c = schema.CHANGES.c
        query = (
            sa.select(c.at, c.migration, c.before, c.after, c.code, c.text)
            .join(schema.MIGRATIONS)
            .where(schema.MIGRATIONS.c.run == run_id)
            .order_by(c.id)
        )
        return [Change(*row) for row in self._data.all(query)]

    def run(self, run_id_or_prefix: str) -> Run:
        """Return a run by its id, or by the beginning of it if no other id begins so.

        Raises
        ------
        InputError
            If there is no such run, or more than one.
        """
        wanted, c = run_id_or_prefix, schema.RUNS.c

        def work(connection: sa.Connection) -> Run:
            like = c.id.startswith(wanted, autoescape=True)
            ids = connection.scalars(sa.select(c.id).where(like).limit(2)).all()
            if not wanted or not ids:
                raise exceptions.InputError(
                    f'there is no run "{wanted}"; nova-rebalance history lists them'
                )
            if len(ids) > 1:
                raise exceptions.InputError(f'more than one run begins with "{wanted}"')
            return rows.run(connection, c.id == ids[0])

        return self._data.read(work)

    def runs(self, cloud: str | None = None, limit: int = 20) -> list[Run]:
        """Return runs without their documents, the newest first."""
        c = schema.RUNS.c
        query = sa.select(*rows.RUN_COLUMNS).order_by(c.began_at.desc(), c.id.desc()).limit(limit)
        if cloud is not None:
            query = query.where(c.cloud == cloud)
        return [rows.as_run(row) for row in self._data.all(query)]

    def latest(self, cloud: str | None = None) -> list[Run]:
        """Return for each cloud and region its open run, else the last one; without documents."""
        c = schema.RUNS.c
        # Asked for each place by itself an index answers at once, however many runs there are.
        places = sa.select(c.cloud, c.region).distinct().order_by(c.cloud, c.region)
        if cloud is not None:
            places = places.where(c.cloud == cloud)
        found: list[sa.Row[Any]] = []
        for place in self._data.all(places):
            there = (c.cloud == place.cloud) & (c.region == place.region)
            runs = sa.select(*rows.RUN_COLUMNS).where(there)
            last = runs.order_by(c.began_at.desc(), c.id.desc()).limit(1)
            found += (self._data.all(runs.where(c.open == 1)) or self._data.all(last))[:1]
        return [rows.as_run(row) for row in found]

    def counts(self, run_id: str) -> dict[str, int]:
        """Return how many of a run's migrations are in each state."""
        c = schema.MIGRATIONS.c
        query = sa.select(c.state, sa.func.count()).where(c.run == run_id).group_by(c.state)
        return dict(sorted(map(tuple, self._data.all(query))))

    # What was measured and learnt.

    def durations(
        self, cloud: str, limit: int = 300
    ) -> list[tuple[str, str, str, int | None, float]]:
        """Return what confirmed migrations took, the newest first.

        Returns
        -------
        list
            Source, destination, method, memory in MiB, and the seconds from running to ended.
        """
        c = schema.MIGRATIONS.c
        found = self._arrived(cloud, limit, c.source, c.dest, c.method, c.memory_mib)
        return [(source, dest, how, mib, float(took)) for source, dest, how, mib, took in found]

    def copied(self, cloud: str, limit: int = 3000) -> list[tuple[str, int, float]]:
        """Return what confirmed live migrations of known memory took, the newest first.

        Returns
        -------
        list
            Instance, memory in MiB, and the seconds from running to ended.
        """
        c = schema.MIGRATIONS.c
        found = self._arrived(cloud, limit, c.instance, c.method, c.memory_mib)
        return [(one, mib, float(took)) for one, how, mib, took in found if how == "live" and mib]

    def _arrived(self, cloud: str, limit: int, *columns: sa.ColumnElement[Any]) -> Sequence[Any]:
        """Return columns of confirmed migrations, and last the seconds from running to ended."""
        c = schema.MIGRATIONS.c
        seconds = c.ended_at - c.running_at
        query = (
            sa.select(*columns, seconds)
            .join(schema.RUNS)
            .where(schema.RUNS.c.cloud == cloud, c.state == records.CONFIRMED, seconds.is_not(None))
            .order_by(c.ended_at.desc(), c.id.desc())
            .limit(limit)
        )
        return self._data.all(query)

    def asked_since(self, cloud: str, since: float) -> int:
        """Return how many migrations were asked for at ``since`` or later."""
        query = (
            sa.select(sa.func.count())
            .select_from(schema.MIGRATIONS.join(schema.RUNS))
            .where(schema.RUNS.c.cloud == cloud, schema.MIGRATIONS.c.requested_at >= since)
        )
        return int(self._data.all(query)[0][0])

    def moved_since(
        self, cloud: str, instances: Iterable[str], since: float
    ) -> dict[str, list[tuple[str, float]]]:
        """Return the confirmed migrations of instances that ended at ``since`` or later.

        Returns
        -------
        dict
            By instance, those without any left out: method, and seconds from running to ended.
        """
        c = schema.MIGRATIONS.c
        found: dict[str, list[tuple[str, float]]] = {}
        query = (
            sa.select(c.instance, c.method, c.ended_at - sa.func.coalesce(c.running_at, c.ended_at))
            .join(schema.RUNS)
            .where(schema.RUNS.c.cloud == cloud, c.state == records.CONFIRMED, c.ended_at >= since)
            .order_by(c.ended_at, c.id)
        )
        left = iter(dict.fromkeys(instances))
        while part := list(itertools.islice(left, _INSTANCES_AT_ONCE)):
            some = query.where(c.instance.in_(part))
            for instance, method, seconds in self._data.all(some):
                found.setdefault(instance, []).append((method, float(seconds)))
        return found

    def last_moved(self, cloud: str, since: float) -> dict[str, float]:
        """Return when instances were migrated last, of those that were at ``since`` or later."""
        c = schema.MIGRATIONS.c
        query = (
            sa.select(c.instance, sa.func.max(c.ended_at))
            .join(schema.RUNS)
            .where(schema.RUNS.c.cloud == cloud, c.state == records.CONFIRMED, c.ended_at >= since)
            .group_by(c.instance)
            .order_by(c.instance)
        )
        return {instance: float(ended_at) for instance, ended_at in self._data.all(query)}

    def learn(
        self, cloud: str, instance: str, code: str, text: str, now: float, until: float
    ) -> None:
        """Remember that an instance cannot be migrated, in place of what was known of it."""
        c = schema.LEARNT.c
        values = {
            "code": rows.plain(code),
            "text": rows.plain(text),
            "learnt_at": now,
            "until": until,
        }
        this = (c.cloud == cloud) & (c.instance == instance)

        def work(connection: sa.Connection) -> None:
            if not connection.execute(sa.update(schema.LEARNT).where(this).values(values)).rowcount:
                names = {"cloud": cloud, "instance": instance}
                connection.execute(sa.insert(schema.LEARNT), {**names, **values})

        self._data.write(work)

    def learnt(self, cloud: str, now: float) -> dict[str, tuple[str, str, float]]:
        """Return code, text and end of what is remembered, by instance."""
        c = schema.LEARNT.c
        query = sa.select(c.instance, c.code, c.text, c.until).order_by(c.instance)
        query = query.where(c.cloud == cloud, c.until > now)
        found = self._data.all(query)
        return {instance: (code, text, until) for instance, code, text, until in found}

    # Retention.

    def expire(self, before: float) -> int:
        """Delete runs that ended before a time, with all that hangs on them; return how many.

        What was learnt and is forgotten before that time goes, too.  Each transaction deletes a
        few runs only, so that others can write meanwhile.
        """
        c = schema.RUNS.c
        old = c.open.is_(None) & (c.ended_at < before)

        def work(connection: sa.Connection) -> int:
            query = sa.select(c.id).where(old).order_by(c.ended_at, c.id).limit(_RUNS_AT_ONCE)
            ids = connection.scalars(query).all()
            gone = sa.delete(schema.RUNS).where(c.id.in_(ids))
            return connection.execute(gone).rowcount if ids else 0

        def clean(connection: sa.Connection) -> None:
            used = sa.select(c.id).where(c.plan_sha256 == schema.PLANS.c.sha256)
            connection.execute(sa.delete(schema.PLANS).where(~used.exists()))
            connection.execute(sa.delete(schema.LEARNT).where(schema.LEARNT.c.until < before))

        deleted = 0
        while some := self._data.write(work):
            deleted += some
        self._data.write(clean)
        return deleted

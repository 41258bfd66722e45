# SPDX-License-Identifier: Apache-2.0
"""The journal on real servers: every claim holds on SQLite, PostgreSQL and MariaDB."""

from collections.abc import Iterator
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from typing import Any

from alembic import autogenerate
from alembic import migration
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from nova_rebalancer import exceptions
from nova_rebalancer.store import database
from nova_rebalancer.store import journal
from nova_rebalancer.store import owner
from nova_rebalancer.store import schema
from nova_rebalancer.store import upgrade
from tests.integration import databases

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 120

# Of another host, so that only its beat tells whether it lives.
FAR, OTHER = "far.example:1:1", "other.example:1:1"


@pytest.fixture(scope="module", params=databases.KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[databases.Server | None]:
    """A server of each kind; None for SQLite, which has none."""
    if reason := databases.missing(request.param):
        pytest.skip(reason)
    if request.param == "sqlite":
        yield None
        return
    with databases.server(request.param) as made:
        yield made


@pytest.fixture
def url(server: databases.Server | None, tmp_path: pathlib.Path) -> Iterator[str]:
    """An empty database."""
    if server is None:
        yield f"sqlite:///{tmp_path / 'journal.sqlite'}"
        return
    with server.database() as made:
        yield made


@pytest.fixture
def book(url: str) -> journal.Journal:
    """An empty journal."""
    return journal.open(url)


def document(name: str = "plan") -> dict[str, Any]:
    """As much of a plan as the journal reads, and a key that it does not know."""
    objective = {"name": "fragmentation", "before": 0.5, "after": 0.25}
    return {
        "id": name,
        "goal": "fragmentation",
        "objective": objective,
        "max_migrations": 50,
        "other": ["Zürich", None, 1.5, {"ключ": "值"}],
    }


def new(count: int) -> list[journal.New]:
    """Migrations m0, m1 and so on, each of which depends on the one before it."""
    return [
        journal.New(
            key=f"m{k}",
            instance=f"instance-{k}",
            source="a",
            dest="b",
            method="live",
            memory_mib=1024,
            project="project",
            depends_on=(f"m{k - 1}",) if k else (),
            predicted_s=30.0,
        )
        for k in range(count)
    ]


def begin(
    book: journal.Journal, count: int = 2, who: str = FAR, now: float = 1000.0, on: str = "prod"
) -> journal.Run:
    """Begin a run of ``count`` migrations."""
    return book.begin(document(), cloud=on, region=None, owner=who, now=now, entries=new(count))


def confirm(
    book: journal.Journal, entry: journal.Entry, at: float, took_s: float, who: str = FAR
) -> journal.Entry:
    """Bring a migration from PLANNED to CONFIRMED."""
    entry = book.change(entry, who, at, "REQUESTED", attempts=1, requested_at=at)
    entry = book.change(entry, who, at, "RUNNING", record=7, running_at=at)
    return book.change(entry, who, at + took_s, "CONFIRMED", ended_at=at + took_s, bytes=1 << 40)


# What is written is read again.


def test_a_run_is_kept_as_it_was_given(book, url):
    """Another process reads the run, its plan and its migrations, all values and types equal."""
    run = begin(book, 3)
    again = journal.open(url)
    assert again.run(run.id) == run == again.interrupted("prod", None)
    assert again.run(run.id).document == document()
    entries = again.entries(run.id)
    assert [(one.key, one.state, one.depends_on) for one in entries] == [
        ("m0", "PLANNED", ()),
        ("m1", "PLANNED", ("m0",)),
        ("m2", "PLANNED", ("m1",)),
    ]
    assert entries[0].aborting is False
    assert (run.before, run.predicted, run.after, run.budget) == (0.5, 0.25, None, 50)


def test_a_change_is_kept_with_its_cause(book):
    """What ``change`` and ``note`` return is what is stored, times to the microsecond."""
    run = begin(book)
    entry = book.entries(run.id)[0]
    at = 1763741234.123456
    entry = book.change(
        entry, FAR, at, "REQUESTED", "code", "text", known_record=1 << 40, requested_at=at
    )
    entry = book.note(entry, FAR, at, aborting=True, bytes=1 << 50)
    assert entry == book.entries(run.id)[0]
    assert entry.requested_at == at
    assert (entry.code, entry.text, entry.aborting) == ("code", "text", True)
    first, _, last = book.changes(run.id)
    assert (first.before, first.after, first.at) == (None, "PLANNED", 1000.0)
    assert last == journal.Change(at, entry.id, "PLANNED", "REQUESTED", "code", "text")


def test_no_text_breaks_a_write(book):
    """Long texts are cut, and what a database cannot hold is replaced; nothing is refused."""
    run = begin(book)
    entry = book.entries(run.id)[0]
    for text in ("🐌" * 10**6, "a\0b", "half \ud83d", "'; DROP TABLE runs; --", "%s %(x)s :x"):
        entry = book.change(entry, FAR, 1.0, "PLANNED", text=text, code=text[:300])
        assert book.entries(run.id)[0] == entry
    book.learn("prod", "instance-0", "code", "🐌" * 10**6, 0.0, 10.0)
    book.end(run.id, FAR, 2.0, "STOPPED", "🐌" * 10**6)
    assert len(book.run(run.id).cause) < 10**6


def test_names_differ_by_case(book):
    """Runs on "prod" and on "Prod" are of two clouds, and a region's are its own."""
    begin(book, on="prod")
    begin(book, on="Prod")
    plan = document()
    book.begin(plan, cloud="prod", region="east", owner=FAR, now=1.0, entries=[])
    assert {(run.cloud, run.region) for run in book.latest()} == {
        ("prod", None),
        ("Prod", None),
        ("prod", "east"),
    }
    assert book.interrupted("PROD", None) is None


def test_a_plan_is_stored_once(book, url):
    """Two runs of one plan share its document; the same id with another text is another plan."""
    first = begin(book)
    book.end(first.id, FAR, 1001.0, "STOPPED", None)
    second = begin(book)
    book.end(second.id, FAR, 1002.0, "STOPPED", None)
    edited = {**document(), "max_migrations": 1}
    third = book.begin(edited, cloud="prod", region=None, owner=FAR, now=1003.0, entries=[])
    assert book.run(second.id).document == document()
    assert book.run(third.id).document == edited
    assert len(tables(url)["plans"]) == 2


def test_a_large_plan_fits(book):
    """A plan with 100,000 reasons, 20 MB, is stored, whatever a packet of the database may hold."""
    plan = {
        **document(),
        "excluded": [{"instance": str(k), "reason": "x" * 200} for k in range(10**5)],
    }
    run = book.begin(plan, cloud="prod", region=None, owner=FAR, now=1.0, entries=[])
    assert book.run(run.id).document == plan


# Questions.


def test_newest_first(book):
    """Runs are listed from the newest on, of one cloud or all, without their documents."""
    ids = []
    for k in range(5):
        run = begin(book, on=f"cloud{k % 2}", now=100.0 + k)
        book.end(run.id, FAR, 200.0 + k, "DONE", None, after=0.25)
        ids.append(run.id)
    assert [run.id for run in book.runs()] == ids[::-1]
    assert [run.id for run in book.runs("cloud0", 2)] == [ids[4], ids[2]]
    assert {run.after for run in book.runs()} == {0.25}
    assert all(run.document == {} for run in book.runs())


def test_latest_prefers_the_open_run(book):
    """Of each cloud the open run is shown, also if clocks went back, else the newest one."""
    old = begin(book, now=500.0)
    ended = begin(book, now=100.0, on="other")
    book.end(ended.id, FAR, 101.0, "DONE", None)
    newer = begin(book, now=200.0, on="other")
    book.end(newer.id, FAR, 201.0, "DONE", None)
    assert [run.id for run in book.latest()] == [newer.id, old.id]
    assert [run.id for run in book.latest("prod")] == [old.id]
    assert book.latest("nowhere") == []


def test_a_run_is_found_by_its_beginning(book):
    """A few characters do if no other run begins so; wildcards of SQL are characters."""
    run = begin(book)
    book.end(run.id, FAR, 1001.0, "DONE", None)
    other = begin(book)
    assert book.run(run.id[:13]).id == run.id
    same = 0
    while run.id[same] == other.id[same]:
        same += 1
    for wrong in (run.id[:same], "%", "_" * 36, "zz", "", f"{run.id}x"):
        with pytest.raises(exceptions.InputError):
            book.run(wrong)


def test_what_was_measured(book):
    """Durations, requests and moves count as they ended, by cloud."""
    run = begin(book, 4)
    first, second, third, _ = book.entries(run.id)
    confirm(book, first, 1000.0, 30.0)
    confirm(book, second, 1010.0, 40.0)
    book.change(third, FAR, 1020.0, "REQUESTED", requested_at=1020.0)
    begin(book, on="other")
    assert book.durations("prod") == [
        ("a", "b", "live", 1024, 40.0),
        ("a", "b", "live", 1024, 30.0),
    ]
    assert book.durations("prod", 1) == [("a", "b", "live", 1024, 40.0)]
    assert book.durations("other") == []
    assert book.copied("prod") == [("instance-1", 1024, 40.0), ("instance-0", 1024, 30.0)]
    assert book.copied("other") == []
    assert [book.asked_since("prod", at) for at in (1000.0, 1000.1, 1020.0, 1020.1)] == [3, 2, 1, 0]
    names = [f"instance-{k}" for k in range(2000)]
    moves = {"instance-0": [("live", 30.0)], "instance-1": [("live", 40.0)]}
    assert book.moved_since("prod", names, 1030.0) == moves
    assert book.moved_since("prod", names, 1031.0) == {"instance-1": [("live", 40.0)]}
    assert book.moved_since("other", names, 0.0) == {}
    assert book.moved_since("prod", [], 0.0) == {}
    assert book.last_moved("prod", 1030.0) == {"instance-0": 1030.0, "instance-1": 1050.0}
    assert book.last_moved("prod", 1031.0) == {"instance-1": 1050.0}
    assert book.last_moved("other", 0.0) == {}
    assert book.counts(run.id) == {"CONFIRMED": 2, "PLANNED": 1, "REQUESTED": 1}
    assert book.counts("none") == {}


def test_what_is_learnt_is_forgotten(book):
    """The last lesson on an instance counts, for its cloud and until its time."""
    book.learn("prod", "i", "old", "text", 0.0, 100.0)
    book.learn("prod", "i", "new", "text", 1.0, 50.0)
    book.learn("other", "i", "code", "text", 1.0, 50.0)
    assert book.learnt("prod", 49.9) == {"i": ("new", "text", 50.0)}
    assert book.learnt("prod", 50.0) == {}


# Who may write.


def test_one_open_run_on_a_cloud(book):
    """Beside a living owner nobody begins, and beside an interrupted run no other plan does."""
    run = begin(book, now=1000.0)
    with pytest.raises(journal.TakenError, match=run.id) as caught:
        begin(book, who=OTHER, now=1059.0)
    assert (caught.value.run, caught.value.owner, caught.value.since) == (run.id, FAR, 1000.0)
    with pytest.raises(exceptions.InputError, match=f"run {run.id} of this plan was interrupted"):
        begin(book, who=OTHER, now=1061.0)
    with pytest.raises(exceptions.InputError, match=r"run .* of plan plan was interrupted"):
        book.begin(
            document("second"), cloud="prod", region=None, owner=OTHER, now=1061.0, entries=[]
        )
    assert len(book.runs()) == 1


def test_an_open_run_passes_to_another_process(book):
    """It is taken when its owner is silent, has released it or takes it again; never else."""
    run = begin(book, now=1000.0)
    with pytest.raises(journal.TakenError):
        book.take(run.id, OTHER, 1059.0)
    assert book.take(run.id, FAR, 1059.0).beat_at == 1059.0
    book.beat(run.id, FAR, 1100.0)
    with pytest.raises(journal.TakenError):
        book.take(run.id, OTHER, 1159.0)
    assert book.take(run.id, OTHER, 1161.0).owner == OTHER
    book.release(run.id, FAR)
    assert book.run(run.id).owner == OTHER
    book.release(run.id, OTHER)
    assert book.take(run.id, FAR, 1161.0).owner == FAR
    book.end(run.id, FAR, 1162.0, "DONE", None)
    for wrong in (run.id, "none"):
        with pytest.raises(exceptions.InputError, match="not open any more"):
            book.take(wrong, FAR, 1163.0)


def test_who_lost_a_run_writes_nothing(book, url):
    """Each write of a former owner, or to a run that has ended, is refused as a whole."""
    run = begin(book, now=1000.0)
    entry = book.entries(run.id)[0]
    book.take(run.id, OTHER, 1061.0)

    def writes(who: str) -> list[Any]:
        return [
            lambda: book.change(entry, who, 1062.0, "REQUESTED", attempts=1),
            lambda: book.note(entry, who, 1062.0, bytes=1),
            lambda: book.add(run.id, who, 1062.0, [dataclasses.replace(entry, key="r1.m0")]),
            lambda: book.beat(run.id, who, 1062.0),
            lambda: book.end(run.id, who, 1062.0, "DONE", None),
        ]

    def refused(who: str) -> None:
        before = tables(url)
        for write in writes(who):
            with pytest.raises(journal.LostError):
                write()
        assert tables(url) == before

    refused(FAR)
    book.end(run.id, OTHER, 1063.0, "STOPPED", None)
    refused(OTHER)


def test_a_state_that_was_left_is_not_left_again(book, url):
    """An entry that is out of date changes nothing, neither its row nor the list of changes."""
    run = begin(book)
    entry = book.entries(run.id)[0]
    book.change(entry, FAR, 1001.0, "REQUESTED")
    before = tables(url)
    for _ in range(2):
        with pytest.raises(journal.LostError, match="m0 is not PLANNED any more"):
            book.change(entry, FAR, 1002.0, "SKIPPED")
        with pytest.raises(journal.LostError):
            book.note(entry, FAR, 1002.0, bytes=5)
    assert tables(url) == before


def test_a_key_is_used_once(book):
    """Two migrations of one key in a run are refused, and neither is written."""
    run = begin(book)
    with pytest.raises(exceptions.RebalancerError):
        book.add(run.id, FAR, 1001.0, [dataclasses.replace(new(1)[0], key="r1.m0"), new(1)[0]])
    assert len(book.entries(run.id)) == 2
    added = book.add(run.id, FAR, 1001.0, [dataclasses.replace(new(1)[0], key="r1.m0", revision=1)])
    assert [one.key for one in book.entries(run.id)] == ["m0", "m1", "r1.m0"]
    assert added == book.entries(run.id)[2:]


# Retention.


def test_expire_deletes_what_is_old_and_ended(book, url):
    """With their migrations, changes and plans; open runs and younger ones stay whole."""
    for k in range(45):
        run = begin(book, now=100.0 + k, on=f"cloud{k}")
        book.end(run.id, FAR, 200.0 + k, "DONE", None)
    kept = begin(book, now=0.0)
    book.learn("prod", "i", "code", "text", 0.0, 220.0)
    other = book.begin(document("two"), cloud="two", region=None, owner=FAR, now=0.0, entries=[])
    book.end(other.id, FAR, 10.0, "DONE", None)
    assert book.expire(240.0) == 41
    assert {run.ended_at for run in book.runs(limit=99)} == {
        240.0,
        241.0,
        242.0,
        243.0,
        244.0,
        None,
    }
    left = tables(url)
    assert [len(left[name]) for name in ("plans", "migrations", "changes", "learnt")] == [
        1,
        12,
        12,
        0,
    ]
    assert len(book.entries(kept.id)) == 2
    assert book.expire(240.0) == 0


# Several processes.


def run_in(count: int, target: Any, *arguments: Any) -> list[Any]:
    """Call ``target(barrier, k, *arguments)`` in ``count`` processes; return what they return."""
    barrier = SPAWN.Barrier(count)
    with contextlib.ExitStack() as stack:
        pipes = []
        for k in range(count):
            ours, theirs = SPAWN.Pipe(duplex=False)
            process = SPAWN.Process(target=answer, args=(theirs, target, barrier, k, *arguments))
            process.start()
            stack.callback(process.kill)
            theirs.close()
            pipes.append(ours)
        return [pipe.recv() for pipe in pipes if pipe.poll(PATIENCE_S) or pytest.fail("no answer")]


def answer(pipe: Any, target: Any, *arguments: Any) -> None:
    """Send what a function returns."""
    pipe.send(target(*arguments))


def race_to_begin(barrier: Any, k: int, url: str, clouds: int) -> list[str]:
    """Begin a run on each cloud at the same moment as others do; say what came of it."""
    book = journal.open(url)
    came = []
    for on in range(clouds):
        barrier.wait(PATIENCE_S)
        try:
            came.append(begin(book, 20, owner.me(), time.time(), f"cloud{on}").id)
        except journal.TakenError as error:
            came.append(f"taken {error.run}")
    # Owners live until all have seen so.
    barrier.wait(PATIENCE_S)
    return came


def test_of_those_who_begin_at_once_one_wins(url):
    """Three processes make the journal and begin on the same clouds: one run each, whole."""
    answers = run_in(3, race_to_begin, url, 8)
    book = journal.open(url)
    for on in range(8):
        (run,) = book.runs(f"cloud{on}")
        assert sorted(came[on] for came in answers) == [run.id, *[f"taken {run.id}"] * 2]
        assert len(book.entries(run.id)) == 20


def go_on_until_lost(barrier: Any, k: int, url: str, run_id: str) -> list[int]:
    """Take a run over again and again, and write until it is lost; return what was written."""
    book = journal.open(url)
    me = f"{k}.example:1:1"
    written = []

    def count_up(entry: journal.Entry, now: float) -> journal.Entry:
        after = str(int(entry.state) + 1)
        entry = book.change(entry, me, now, after, attempts=int(after))
        written.append(int(after))
        return entry

    for _ in range(15):
        while True:
            with contextlib.suppress(journal.TakenError):
                book.take(run_id, me, 100.0)
                break
        # We live for others now, so nobody takes it back; and who had it before writes no more.
        entry = count_up(book.entries(run_id)[0], 100.0)
        with contextlib.suppress(journal.LostError):
            for _ in range(10):
                # By this time others take us for dead, while we go on.
                entry = count_up(entry, 0.0)
    return written


def test_owners_do_not_mix(url):
    """Two processes take a run from each other all the time: who lost it has written its last.

    Each counts the state of one migration up, and after taking the run nothing comes between what
    it reads and what it writes.  What both say they wrote are the numbers from 1 on, each once, and
    the journal has them in this order.
    """
    book = journal.open(url)
    counter = [dataclasses.replace(new(1)[0], state="0")]
    run = book.begin(document(), cloud="prod", region=None, owner=FAR, now=0.0, entries=counter)
    answers = run_in(2, go_on_until_lost, url, run.id)
    written = sorted(number for numbers in answers for number in numbers)
    assert written == list(range(1, len(written) + 1))
    assert [int(change.after) for change in book.changes(run.id)] == [0, *written]
    assert book.entries(run.id)[0].attempts == len(written)


def write_until_killed(book: journal.Journal, run_id: str) -> None:
    """Change migrations for ever; print each change before and after it is made."""
    me = owner.me()
    book.take(run_id, me, time.time())
    while True:
        for entry in book.entries(run_id):
            after = str(int(entry.state) + 1)
            print("will", entry.id, after, flush=True)
            book.change(entry, me, time.time(), after, attempts=int(after), text="x" * 5000)
            print("done", entry.id, after, flush=True)


def test_a_killed_writer_leaves_no_half(url):
    """SIGKILL at any moment: all that was acknowledged is there, and nothing is there in part.

    The next process takes the run over at once, since it sees that the owner is gone.
    """
    book = journal.open(url)
    counters = [dataclasses.replace(one, state="0") for one in new(3)]
    me = owner.me()
    run = book.begin(document(), cloud="prod", region=None, owner=me, now=0.0, entries=counters)
    book.release(run.id, me)
    rng = random.Random(5)
    code = (
        "import sys; from tests.integration import test_journal as t; "
        "t.write_until_killed(t.journal.open(sys.argv[1]), sys.argv[2])"
    )
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", code, url, run.id],
            cwd=pathlib.Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(rng.randrange(1, 200)):
            assert process.stdout.readline()
        process.kill()
        said = process.stdout.read().splitlines()
        process.wait(PATIENCE_S)
        entries = {entry.id: entry for entry in book.entries(run.id)}
        last = {}
        for change in book.changes(run.id):
            assert change.before == last.get(change.entry)
            last[change.entry] = change.after
        assert last == {number: entry.state for number, entry in entries.items()}
        assert all(int(entry.state) == entry.attempts for entry in entries.values())
        for what, number, after in (line.split() for line in said if len(line.split()) == 3):
            if what == "done":
                assert int(entries[int(number)].state) >= int(after)


# The tables.


def tables(url: str) -> dict[str, list[Any]]:
    """All rows of all tables of the journal that there are."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        there = set(sa.inspect(connection).get_table_names())
        return {
            name: [
                tuple(row)
                for row in connection.execute(sa.select(table).order_by(*table.primary_key))
            ]
            for name, table in schema.METADATA.tables.items()
            if name in there
        }


def differences(url: str) -> list[Any]:
    """How the tables differ from those that the program knows."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = migration.MigrationContext.configure(connection, opts={"compare_type": True})
        return list(autogenerate.compare_metadata(context, schema.METADATA))


def fill(book: journal.Journal) -> None:
    """Write something into every table."""
    run = begin(book, 5)
    confirm(book, book.entries(run.id)[0], 1000.0, 30.0)
    book.end(run.id, FAR, 1100.0, "PARTLY", "Zürich 🐌", 0.3)
    begin(book, 3)


def test_the_steps_lead_to_what_the_program_knows(book, url):
    """The tables that the steps make are those of ``schema.py``, with their indexes and types."""
    assert differences(url) == []


def test_back_and_forth_without_loss(book, url):
    """Down to each older revision and up again, every row that the older one can hold stays."""
    fill(book)
    book.learn("prod", "i", "code", "text", 0.0, 100.0)
    data = database.Database(url)
    before = tables(url)
    upgrade.downgrade(data, "0001")
    older = {name: rows for name, rows in before.items() if name != "learnt"}
    assert tables(url) == older
    upgrade.upgrade(data)
    assert tables(url) == {**older, "learnt": []}
    assert differences(url) == []
    upgrade.downgrade(data, upgrade.BASE)
    assert tables(url) == {}
    upgrade.upgrade(data)
    assert differences(url) == []


def test_a_journal_of_the_first_revision_is_upgraded(url):
    """Opening it is enough, and its rows are as they were."""
    data = database.Database(url)
    upgrade.downgrade(data, "0001")
    fill(journal.Journal(data))
    before = tables(url)
    book = journal.open(url)
    assert tables(url) == {**before, "learnt": []}
    assert len(book.runs()) == 2


def test_newer_tables_are_refused(book, url):
    """A program that does not know the tables leaves them alone and says who does."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(exceptions.RebalancerError, match=r"revision 9999.*newer nova-rebalancer"):
        journal.open(url)
    with pytest.raises(exceptions.RebalancerError, match="revision 9999"):
        upgrade.downgrade(database.Database(url), "0001")


def open_and_die(url: str, statements: int) -> None:
    """Open a journal, and be killed after so many statements that change the database."""
    left = [statements]

    def count(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(("CREATE", "INSERT", "UPDATE")):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    event.listen(sa.Engine, "after_cursor_execute", count)
    journal.open(url)


@pytest.mark.parametrize("statements", [3, 9, 16])
def test_a_killed_upgrade_is_done_again(url, statements):
    """SIGKILL while the tables are made: the next start makes what is missing.

    There are 17 such statements; MariaDB keeps each, the others none.
    """
    process = SPAWN.Process(target=open_and_die, args=(url, statements))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    fill(journal.open(url))
    assert differences(url) == []

# SPDX-License-Identifier: Apache-2.0
"""Laws of the journal; ``tests/integration/test_journal.py`` has the single cases."""

import dataclasses
from typing import Any

import hypothesis
from hypothesis import strategies as st
import pytest

from nova_rebalancer.store import database
from nova_rebalancer.store import journal
from nova_rebalancer.store import schema
from nova_rebalancer.store import upgrade

ME = "far.example:1:1"
STATES = ("PLANNED", "REQUESTED", "RUNNING", "UNKNOWN", "CONFIRMED", "FAILED")


def document(name: str = "plan") -> dict[str, Any]:
    """As much of a plan as the journal reads."""
    objective = {"before": 0.5, "after": 0.25}
    return {"id": name, "goal": "goal", "objective": objective, "max_migrations": 9}


def new(count: int) -> list[journal.New]:
    """Migrations m0, m1 and so on."""
    return [
        journal.New(key=f"m{k}", instance=f"i{k}", source="a", dest="b", method="live")
        for k in range(count)
    ]


TIMES = st.floats(0, 4e9)
TEXTS = st.none() | st.text(max_size=20)

WRITES = st.lists(
    st.tuples(
        # Which migration, and how many of its versions ago it was read.
        st.integers(0, 2),
        st.sampled_from([0, 0, 0, 1, 2]),
        TIMES,
        # None: a note.
        st.none() | st.sampled_from(STATES),
        TEXTS,
        TEXTS,
        st.fixed_dictionaries(
            {},
            optional={
                "attempts": st.integers(0, 9),
                "bytes": st.none() | st.integers(0, 2**62),
                "aborting": st.booleans(),
                "request": st.none() | st.text("abc-0123", max_size=40),
                "requested_at": st.none() | TIMES,
                "known_record": st.integers(0, 2**62),
            },
        ),
    ),
    max_size=12,
)


@hypothesis.given(WRITES)
@hypothesis.settings(max_examples=60)
def test_the_changes_tell_how_the_migrations_came_to_be(writes):
    """Replaying the changes gives the states, codes and texts; and who is out of date fails.

    A write succeeds if and only if the state is the one that the writer saw; then the migration is
    exactly what was returned, and else nothing changed.
    """
    book = journal.open("sqlite://")
    run = book.begin(document(), cloud="c", region=None, owner=ME, now=0.0, entries=new(3))
    known = [[entry] for entry in book.entries(run.id)]
    for k, ago, now, to, code, text, fields in writes:
        seen, present = known[k][max(len(known[k]) - 1 - ago, 0)], known[k][-1]
        try:
            if to is None:
                made = book.note(seen, ME, now, **fields)
            else:
                made = book.change(seen, ME, now, to, code, text, **fields)
        except journal.LostError:
            assert seen.state != present.state
        else:
            # A note of no fields has nothing to compare.
            assert seen.state == present.state or not (to or fields)
            if to or fields:
                written = {**fields, "state": made.state, "code": made.code, "text": made.text}
                if to is None:
                    written = fields
                known[k].append(dataclasses.replace(present, **written))
    assert book.entries(run.id) == [versions[-1] for versions in known]
    replayed = {}
    for change in book.changes(run.id):
        assert change.before == (replayed[change.entry][0] if change.entry in replayed else None)
        replayed[change.entry] = (change.after, change.code, change.text)
    assert replayed == {one.id: (one.state, one.code, one.text) for one in book.entries(run.id)}
    total = sum(count for count in book.counts(run.id).values())
    assert total == 3


@hypothesis.given(
    st.lists(st.tuples(st.none() | st.integers(0, 20), st.integers(0, 3)), max_size=30),
    st.lists(st.integers(0, 25), min_size=1, max_size=3),
)
@hypothesis.settings(max_examples=40)
def test_exactly_the_old_ended_runs_go(ends, befores):
    """A run is deleted if and only if it ended before the time, however often that is said.

    What is left is whole: each run's plan, migrations and changes, and none of others.
    """
    data = database.Database("sqlite://")
    upgrade.upgrade(data)
    book = journal.Journal(data)
    left = {}
    for k, (ended, count) in enumerate(ends):
        plan = document(str(k % 7))
        run = book.begin(plan, cloud=str(k), region=None, owner=ME, now=0.0, entries=new(count))
        if ended is not None:
            book.end(run.id, ME, float(ended), "DONE", None)
        left[run.id] = (ended, count, plan)
    for before in befores:
        gone = {one for one, (ended, *_) in left.items() if ended is not None and ended < before}
        assert book.expire(float(before)) == len(gone)
        left = {one: kept for one, kept in left.items() if one not in gone}
        assert {run.id for run in book.runs(limit=99)} == left.keys()
    for one, (_, count, plan) in left.items():
        assert book.run(one).document == plan
        assert len(book.entries(one)) == len(book.changes(one)) == count

    def rows(table):
        return len(data.all(table.select()))

    assert rows(schema.MIGRATIONS) == rows(schema.CHANGES) == sum(kept[1] for kept in left.values())
    assert rows(schema.PLANS) == len({kept[2]["id"] for kept in left.values()})


@hypothesis.given(st.text(), st.text())
@hypothesis.settings(max_examples=60)
def test_any_text_is_taken(text, code):
    """Whatever a cloud says, also half characters and NUL, is written; most of it as it is."""
    book = journal.open("sqlite://")
    run = book.begin(document(), cloud="c", region=None, owner=ME, now=0.0, entries=new(1))
    made = book.change(book.entries(run.id)[0], ME, 1.0, "FAILED", code, text)
    assert book.entries(run.id) == [made]
    if text.isprintable():
        assert made.text == text


def test_only_what_changes_can_be_changed():
    """A misspelt field, or one that says which migration it is, is a mistake of the caller."""
    book = journal.open("sqlite://")
    run = book.begin(document(), cloud="c", region=None, owner=ME, now=0.0, entries=new(1))
    entry = book.entries(run.id)[0]
    for wrong in ({"byte": 1}, {"state": "DONE"}, {"key": "m2"}, {"dest": "c"}, {"id": 5}):
        with pytest.raises(TypeError):
            book.note(entry, ME, 1.0, **wrong)
    assert book.entries(run.id) == [entry]

# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance plan``: what is printed, what is written, and the exit codes."""

import datetime
import gzip
import json
import pathlib

import pytest

from nova_rebalancer.cmd import main
from nova_rebalancer.report import page
from nova_rebalancer.store import journal

EMPTY = {
    "format": "nova-rebalancer-snapshot/1",
    "cloud": "small",
    "taken_at": "2026-01-01T00:00:00Z",
    "numa_choice": "planner",
    "hosts": [],
    "instances": [],
}


def host(name: str, cores: int = 32) -> dict:
    """Return a host of so many cores."""
    return {"id": name, "inventories": {"VCPU": {"total": cores}, "MEMORY_MB": {"total": 65536}}}


def instance(name: str, on: str, cores: int = 8) -> dict:
    """Return an instance of so many cores."""
    return {"id": name, "host": on, "allocations": {"VCPU": cores, "MEMORY_MB": 1024 * cores}}


def two_halves() -> dict:
    """Two hosts with 8 cores in use each: one migration makes 16 more cores usable."""
    return EMPTY | {
        "hosts": [host("a"), host("b")],
        "instances": [instance("v", "a"), instance("w", "b")],
    }


@pytest.fixture
def write(tmp_path: pathlib.Path):
    """Write a document into a file and return its name."""

    def to_file(document: object, name: str = "cloud.json") -> str:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return to_file


def test_one_migration(write, capsys):
    """Two half-used hosts become one full slot more: 16 of 48 cores are fragments, then none.

    Free are 24 and 24 cores, so 8 and 8 are fragments; after, 32 and 16.
    """
    assert main.main(["plan", "--snapshot", write(two_halves()), "-f", "json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)
    assert plan["objective"] == {
        "name": "fragmentation",
        "before": 16 / 48,
        "after": 0.0,
        "bound": 0.0,
        "gap": 0.0,
    }
    assert plan["status"] == "optimal"
    assert len(plan["migrations"]) == 1
    assert "0.3333 -> 0.0000 (bound 0.0000, proven optimal): 1 migrations, 8 GiB" in err


def test_the_table_says_what_moves_and_why(write, capsys):
    """One row for each migration: what moves, from where to where, and what that does."""
    assert main.main(["plan", "--snapshot", write(two_halves()), "--planner", "greedy"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "m1" in line)
    assert [cell.strip() for cell in row.split("|")[1:6]] == ["m1", "v", "a", "b", "8192"]
    assert "free cores on a: 24 -> 32, b: 24 -> 16" in row


def test_other_formats_list_the_migrations(write, capsys):
    """csv and value are for scripts: one line for each migration."""
    file = write(two_halves())
    assert main.main(["plan", "--snapshot", file, "-f", "value", "-c", "id"]) == 0
    assert capsys.readouterr().out == "m1\n"


def test_output_is_what_json_prints(write, tmp_path, capsys):
    """The file and the printed document are the same bytes."""
    output = tmp_path / "plan.json"
    arguments = ["plan", "--snapshot", write(two_halves()), "-f", "json", "--output", str(output)]
    assert main.main(arguments) == 0
    assert capsys.readouterr().out.encode() == output.read_bytes()


@pytest.mark.parametrize(
    "document",
    [EMPTY, EMPTY | {"hosts": [host("a", 8)], "instances": [instance("v", "a")]}],
    ids=["empty cloud", "nothing free"],
)
def test_nothing_to_do(document, write, tmp_path, capsys):
    """Exit code 3, rate 0, and the document is written all the same."""
    output = tmp_path / "plan.json"
    arguments = ["plan", "--snapshot", write(document), "--output", str(output)]
    assert main.main(arguments) == 3
    plan = json.loads(output.read_text())
    assert plan["migrations"] == []
    assert plan["objective"]["before"] == plan["objective"]["after"] == 0
    assert "nothing worth doing" in capsys.readouterr().err


def test_not_worth_it(write, tmp_path, capsys):
    """Exit code 3, with what it would gain and cost: 8 GiB at 0.1 for a third."""
    output = tmp_path / "plan.json"
    arguments = ["plan", "--snapshot", write(two_halves()), "--output", str(output)]
    assert main.main([*arguments, "--cost-per-gib", "0.1"]) == 3
    err = capsys.readouterr().err
    told = "not worth it: 1 migrations of 8 GiB would gain 0.3333 and cost 0.8 (0.1 for each GiB)"
    assert told in err
    plan = json.loads(output.read_text())
    assert plan["migrations"] == [] and plan["options"]["cost_per_gib"] == 0.1
    assert plan["regardless"]["price"] == 0.1 * 8
    assert main.main([*arguments, "--cost-per-gib", "0.04"]) == 0
    assert "worth it" not in capsys.readouterr().err


def test_a_spent_budget(write, capsys):
    """Exit code 3 too where a project may have no migration, and that is said."""
    document = two_halves()
    for one in document["instances"]:
        one["project"] = "p"
    arguments = ["plan", "--snapshot", write(document), "--project-gib", "7.9"]
    assert main.main(arguments) == 3
    told = "would gain 0.3333; some project has more than its budget of them (7.9 GiB)"
    assert told in capsys.readouterr().err


def test_cooldown_by_the_journal(write, tmp_path, monkeypatch, capsys):
    """What the journal of this cloud has migrated an hour before the snapshot stays for two."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    book = journal.open(None)
    moved = datetime.datetime.fromisoformat(EMPTY["taken_at"]).timestamp() - 3600
    plan = {"id": "p", "goal": "g", "objective": {"before": 1, "after": 0}, "max_migrations": 1}
    new = journal.New(key="m1", instance="v", source="b", dest="a", method="live")
    run = book.begin(plan, cloud="small", region=None, owner="x", now=moved, entries=[new])
    book.change(book.entries(run.id)[0], "x", moved, "CONFIRMED", ended_at=moved)
    arguments = ["plan", "--snapshot", write(two_halves()), "-f", "json", "--cooldown"]
    for hours, excluded in (("2", ["v"]), ("1", [])):
        assert main.main([*arguments, hours]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [one["instance"] for one in found["excluded"]] == excluded
        assert found["options"]["last_moved"] == {"v": "2025-12-31T23:00:00Z"}


def test_what_holds_a_host_is_named(write, capsys):
    """Who cannot leave a host that is to be emptied, and what would help with one that is off."""
    document = two_halves()
    document["instances"] += [instance("x", "a") | {"locked": True}]
    document["instances"][0]["status"] = "SHUTOFF"
    arguments = ["plan", "--snapshot", write(document), "--drain", "a"]
    assert main.main(arguments) == 3
    err = capsys.readouterr().err
    assert "a is still held by v: v is SHUTOFF; only ACTIVE and PAUSED migrate live; --cold" in err
    assert "a is still held by x: x is locked\n" in err
    assert main.main([*arguments, "--cold", "-f", "json"]) == 0
    out, err = capsys.readouterr()
    assert [one["method"] for one in json.loads(out)["migrations"]] == ["cold"]
    assert "held by v" not in err and "a is still held by x: x is locked\n" in err
    assert main.main(["plan", "--snapshot", write(document), "--cold"]) == 2
    assert "--cold: only what --drain names" in capsys.readouterr().err


def test_what_no_goal_empties_is_not_drained(write, capsys):
    """Without the goal drain nobody looks for other places; how to say both is told."""
    arguments = ["plan", "--snapshot", write(two_halves()), "--drain", "a", "--goal"]
    assert main.main([*arguments, "balance"]) == 2
    err = capsys.readouterr().err
    assert "--drain a: it is for the goal drain; the goal is balance" in err
    assert "say --goal drain,balance to empty it first\n" in err
    assert main.main([*arguments, "drain,balance"]) == 0


def test_an_overfull_host_is_reported(write, capsys):
    """A host charged above capacity is no error: it is named, and planning goes on."""
    document = two_halves()
    document["hosts"].append(host("full", 8))
    document["instances"] += [instance("x", "full"), instance("y", "full")]
    assert main.main(["plan", "--snapshot", write(document)]) in (0, 3)
    assert "warning: full is overfull: VCPU 16 of 8" in capsys.readouterr().err


def test_a_snapshot_with_gaps_is_refused(write, capsys):
    """A plan on part of a cloud would count room that is not there."""
    document = two_halves() | {"missing": [{"what": "cell2", "reason": "the cell is down"}]}
    assert main.main(["plan", "--snapshot", write(document)]) == 1
    assert "cell2 is missing (the cell is down)" in capsys.readouterr().err


def test_configuration_gives_defaults(write, capsys):
    """A configuration file changes a default, and the command line wins over it."""
    conf = write("[planner]\nmax_migrations = 7\nseed = 5\n", "rebalancer.conf")
    file = write(two_halves())
    arguments = ["--config-file", conf, "plan", "--snapshot", file, "--seed", "3", "-f", "json"]
    assert main.main(arguments) == 0
    options = json.loads(capsys.readouterr().out)["options"]
    assert (options["max_migrations"], options["seed"]) == (7, 3)


def test_a_work_limit_has_no_clock(write, capsys):
    """With --work-limit and no --time-limit nothing in the options depends on the machine."""
    arguments = ["plan", "--snapshot", write(two_halves()), "--work-limit", "1", "-f", "json"]
    assert main.main(arguments) == 0
    options = json.loads(capsys.readouterr().out)["options"]
    assert (options["work_limit"], options["time_limit_s"]) == (1, None)


BAD = {
    "not JSON": ("{", "not JSON"),
    "newer version": (
        EMPTY | {"format": "nova-rebalancer-snapshot/2"},
        "format: version 2 is newer than 1",
    ),
    "negative capacity": (
        EMPTY | {"hosts": [{"id": "a", "inventories": {"VCPU": {"total": 4, "reserved": 5}}}]},
        'hosts[0].inventories.VCPU: capacity of "a" is negative (total 4, reserved 5)',
    ),
    "unknown host": (
        EMPTY | {"instances": [instance("v", "nowhere")]},
        'instances[0].host: instance "v" is on unknown host "nowhere"',
    ),
    "duplicate ids": (
        EMPTY | {"hosts": [host("a"), host("a")]},
        'hosts: the id "a" occurs 2 times',
    ),
    "cell beyond the host's": (
        EMPTY
        | {
            "hosts": [
                host("a")
                | {"numa": {"provenance": "operator", "cells": [{"id": 0, "capacity": {}}]}}
            ],
            "instances": [instance("v", "a") | {"numa": [{"cell": 1, "resources": {"VCPU": 8}}]}],
        },
        'instances[0].numa: instance "v" is on cell 1 of host "a", which has cells [0]',
    ),
}


@pytest.mark.parametrize(("document", "text"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(document, text, write, capsys):
    """A bad snapshot ends with exit code 1 and one line: file, place, reason."""
    file = write(document)
    assert main.main(["plan", "--snapshot", file]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"nova-rebalance: error: {file}: ")
    assert text in err
    assert err.count("\n") == 1


def test_truncated_gzip_is_one_line(tmp_path, capsys):
    """Half a file is not half a cloud."""
    file = tmp_path / "cloud.json.gz"
    file.write_bytes(gzip.compress(json.dumps(two_halves()).encode())[:-20])
    assert main.main(["plan", "--snapshot", str(file)]) == 1
    assert f"{file}: gzip data ends early" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--planner", "no-such"], 'planners: no "no-such"; there are: auto, greedy, mip'),
        (["--goal", "no-such"], 'goals: no "no-such"; there are: balance, consolidate'),
    ],
)
def test_a_plugin_that_is_not_there_is_usage(arguments, text, write, capsys):
    """A wrong name ends with exit code 2 and says which names there are."""
    assert main.main(["plan", "--snapshot", write(two_halves()), *arguments]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-migrations", "-1"],
        ["--time-limit", "nan"],
        ["--fragment-cores", "0"],
        ["--fragment-cores", "16,x"],
        ["--fragment-cores", "999983,999979"],
        ["--max-gib", "-1"],
        ["--seed", "x"],
    ],
)
def test_an_impossible_number_is_usage(arguments, write, capsys):
    """argparse refuses it by name, with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main.main(["plan", "--snapshot", write(two_halves()), *arguments])
    assert stop.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err


def test_a_bad_configuration_is_one_line(write, capsys):
    """A value that an option does not take is named."""
    conf = write("[planner]\nmax_migrations = many\n", "rebalancer.conf")
    assert main.main(["--config-file", conf, "plan", "--demo"]) == 1
    err = capsys.readouterr().err
    assert "max_migrations" in err and err.count("\n") == 1


def test_no_command_is_usage(capsys):
    """Without a command there is no shell of cliff's, but a hint."""
    assert main.main([]) == 2
    assert "see nova-rebalance --help" in capsys.readouterr().err


def test_report(write, tmp_path, capsys):
    """``--report`` writes the page of the plan that is printed; standard output is refused."""
    report = tmp_path / "plan.html"
    asked = ["plan", "--snapshot", write(two_halves()), "--report"]
    assert main.main([*asked, str(report), "-f", "json"]) == 0
    assert report.read_text() == page.page(json.loads(capsys.readouterr().out))
    assert main.main([*asked, "-"]) == 2
    assert "--report -: a page is written into a file" in capsys.readouterr().err

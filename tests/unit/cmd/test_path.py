# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance path``, and ``check`` of what it says."""

import io
import json
import pathlib
from typing import Any

import pytest

from nova_rebalancer.cmd import main
from nova_rebalancer.cmd import path
from nova_rebalancer.cmd import progress
from nova_rebalancer.cmd import words
from nova_rebalancer.collect import aim
from nova_rebalancer.model import path as model_path
from nova_rebalancer.model.constraints import base
from nova_rebalancer.path import memory
from nova_rebalancer.report import page
from tests import cases
from tests import clouds

KEYS = (
    "id",
    "reachable",
    "cost",
    "optimal",
    "migrations",
    "makespan_s",
    "makespan_bound_s",
    "runtime_s",
    "certificate",
    "blocking_hosts",
)


@pytest.fixture
def problem(tmp_path) -> pathlib.Path:
    """Return a file of four cases; the last two cannot be reached."""
    file = tmp_path / "cases.json"
    made = cases.document(cases.direct(), cases.swap(), cases.deadlock(), cases.wandering())
    file.write_bytes(cases.as_bytes(made))
    return file


@pytest.fixture
def swapped(tmp_path) -> tuple[str, ...]:
    """Return the options for the cloud where i on a and j on b change places by way of c."""
    (tmp_path / "cloud.json").write_bytes(clouds.as_bytes(clouds.swap_cycle()))
    (tmp_path / "target.json").write_text(json.dumps({"i": "b", "j": "a"}))
    return ("--snapshot", str(tmp_path / "cloud.json"), "--target", str(tmp_path / "target.json"))


def run(capsys, *arguments: str | pathlib.Path) -> tuple[int, str, str]:
    """Run the program; its exit code, output and messages."""
    try:
        code = main.main([str(argument) for argument in arguments])
    except SystemExit as ended:
        # argparse says itself what is wrong with an option.
        code = int(ended.code or 0)
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return code, found.out, found.err


def printed(capsys, *arguments: str | pathlib.Path) -> Any:
    """Return the document that a path command prints."""
    code, out, _ = run(capsys, "path", *arguments, "-f", "json")
    assert code == 0
    return json.loads(out)


def test_a_list_in_the_order_of_the_file(capsys, problem):
    """Without --id all cases are answered: the verdicts, costs and rounds worked out by hand."""
    found = printed(capsys, "--problem", problem)
    assert [one["id"] for one in found] == ["direct", "swap", "deadlock", "wandering"]
    assert [one["reachable"] for one in found] == [True, True, False, False]
    assert [one["cost"] for one in found] == [4, 16, None, None]
    assert [one["makespan_s"] for one in found] == [1.0, 3.0, 0.0, 0.0]
    for one in found:
        assert set(KEYS) <= one.keys()
        assert one["optimal"] is True
        assert (one["certificate"] is None) == one["reachable"]
        assert bool(one["migrations"]) == one["reachable"]
    assert type(found[0]["cost"]) is int


def test_one_object(capsys, problem):
    """With --id one case is answered, as one object; its migrations have the form of a plan's."""
    found = printed(capsys, "--problem", problem, "--id", "swap")
    assert found["id"] == "swap"
    first = found["migrations"][0]
    assert first == {
        "id": "m1",
        "instance": "v",
        "source": "b",
        "dest": "c",
        "source_numa": None,
        "dest_numa": None,
        "role": "bypass",
        "method": "live",
        "wave": 1,
        "depends_on": [],
        "start_s": 0.0,
        "end_s": 1.0,
        "memory_mib": None,
        "reason": first["reason"],
    }
    assert [one["wave"] for one in found["migrations"]] == [1, 2, 3]
    assert [one["end_s"] for one in found["migrations"]] == [1.0, 2.0, 3.0]


def test_what_is_printed_is_accepted(capsys, problem, tmp_path):
    """``check`` accepts what ``path`` writes: paths, and proofs that there is none."""
    code, out, _ = run(capsys, "path", "--problem", problem, "--output", tmp_path / "p.json")
    assert code == 0
    assert "makes room" not in out
    code, out, _ = run(capsys, "check", "--problem", problem, "--path", tmp_path / "p.json")
    assert (code, out.count("\n")) == (0, 1)
    assert out.startswith("ok: 2 reachable, 2 proved not to be, 0 unknown")
    written = json.loads((tmp_path / "p.json").read_text())
    written[1]["migrations"][1]["depends_on"] = []
    (tmp_path / "p.json").write_text(json.dumps(written))
    code, out, _ = run(capsys, "check", "--problem", problem, "--path", tmp_path / "p.json")
    assert code == 1
    assert out.startswith('order: migration m3: case "swap"') or "capacity" in out


def test_people_read_a_table(capsys, problem):
    """The table has a row for each migration; what follows from them is said on stderr."""
    code, out, err = run(capsys, "path", "--problem", problem)
    assert code == 0
    assert out.count("\n") == 4 + 4
    assert "| swap   | m2 | u        | a      | b    |" in out
    assert "swap: reachable: 3 migrations (1 of them to make room), cost 16, proven least" in err
    assert "deadlock: not reachable, proven: " in err
    assert "4 cases: 2 reachable, 2 not reachable, 0 unknown" in err


def test_report(capsys, problem, swapped, tmp_path):
    """--report writes a page about one path: what is printed, and nothing of a list."""
    report = tmp_path / "path.html"
    found = printed(capsys, "--problem", problem, "--id", "swap", "--report", report)
    assert report.read_text() == page.page(found)
    found = printed(capsys, *swapped, "--report", report)
    assert report.read_text() == page.page(found)
    code, _, said = run(capsys, "path", "--problem", problem, "--report", report)
    assert code == 2 and "--report is about one path: name the case with --id" in said


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


@pytest.mark.parametrize(
    ("stream", "total", "shown"),
    [(Terminal(), 2, True), (Terminal(), 1, False), (io.StringIO(), 2, False)],
)
def test_progress(stream, total, shown):
    """On a terminal a bar counts the cases, if there are several; elsewhere nothing is written."""
    with progress.Counting(stream, "cases", total) as bar:
        bar.begin("swap")
        bar.end()
    assert ("0 of 2" in stream.getvalue()) is shown
    assert bool(stream.getvalue()) is shown


def test_no_time(capsys, problem):
    """When the time is over at once nothing is claimed, but what goes without a search."""
    code, out, _ = run(capsys, "path", "--problem", problem, "--time-limit", "0", "-f", "json")
    assert code == 0
    for one in json.loads(out):
        assert one["reachable"] in (True, "unknown")
        assert one["certificate"] is None


def test_no_migrations(capsys, problem):
    """Without migrations a target that needs some is unknown, and what would be left is named."""
    options = ("--problem", problem, "--id", "direct", "--max-migrations", "0")
    found = printed(capsys, *options)
    assert (found["reachable"], found["optimal"], found["migrations"]) == ("unknown", False, [])
    assert [one["instance"] for one in found["unreachable"]] == ["u"]


def test_a_part_of_the_way(capsys, problem):
    """Who is left half-way waits there: nobody says that the target has it on that host."""
    found = printed(capsys, "--problem", problem, "--id", "swap", "--max-migrations", "2")
    goals = cases.swap()["final"]
    left = [one["instance"] for one in found["unreachable"]]
    assert found["reachable"] == "unknown" and len(found["migrations"]) == 2 and len(left) == 1
    for one in found["migrations"]:
        there = one["dest"] == goals[one["instance"]]
        assert there != (one["instance"] in left)
        assert one["reason"]["code"] == ("leads_to_target" if there else "makes_room")


def test_a_target_on_a_snapshot(capsys, swapped, tmp_path):
    """The same for a snapshot, where a migration costs its memory; check accepts it."""
    file = tmp_path / "path.json"
    code, out, err = run(capsys, "path", *swapped, "--output", file, "-f", "json")
    assert code == 0
    assert out == file.read_text()
    found = json.loads(out)
    assert (found["reachable"], found["cost"]) == (True, 3 * 1024)
    assert [one["memory_mib"] for one in found["migrations"]] == [1024] * 3
    assert (found["stops"], found["starts"]) == ([], [])
    assert err.startswith("reachable: 3 migrations (1 of them to make room), cost 3072")
    code, out, _ = run(capsys, "check", *swapped, "--path", file)
    assert (code, out.partition(";")[0]) == (0, "ok: 1 reachable, 0 proved not to be, 0 unknown")


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("cost", 1, "cost"),
        ("snapshot_sha256", "0" * 64, "snapshot_mismatch"),
        ("stops", ["i"], "snapshot_mismatch"),
        ("makespan_s", 0.0, "makespan"),
    ],
)
def test_a_spoilt_path(capsys, swapped, tmp_path, key, value, kind):
    """What is not as the snapshot and the target have it is found."""
    found = printed(capsys, *swapped)
    (tmp_path / "path.json").write_text(json.dumps(found | {key: value}))
    code, out, _ = run(capsys, "check", *swapped, "--path", tmp_path / "path.json")
    assert (code, out.partition(":")[0]) == (1, kind)


def test_rules_forbid_it(capsys, swapped, tmp_path):
    """A host that nothing may be sent to gives a proof; check takes it from the path's options."""
    file = tmp_path / "path.json"
    options = ("--ban-host", "b", "--output", file)
    code, _, err = run(capsys, "path", *swapped, *options)
    assert code == 0
    assert err.startswith("not reachable, proven: i can never be migrated to b (not_allowed)")
    assert run(capsys, "check", *swapped, "--path", file)[0] == 0
    found = json.loads(file.read_text())
    found["options"]["banned_hosts"] = []
    file.write_text(json.dumps(found))
    code, out, _ = run(capsys, "check", *swapped, "--path", file)
    assert (code, out.partition(":")[0]) == (1, "certificate")


def test_stops_and_starts(capsys, swapped, tmp_path):
    """Who leaves does so first, who is new comes last; without --allow-stop that is an error."""
    new = {"host": "a", "resources": {"VCPU": 8}}
    (tmp_path / "target.json").write_text(json.dumps({"i": "b", "j": None, "n": new}))
    code, out, err = run(capsys, "path", *swapped)
    assert (code, out) == (1, "")
    assert 'target.json: "j": the target would stop it; allow that with --allow-stop' in err
    file = tmp_path / "path.json"
    found = printed(capsys, *swapped, "--allow-stop", "--output", file)
    assert [one["instance"] for one in found["migrations"]] == ["i"]
    assert (found["stops"], found["starts"]) == (["j"], [{"instance": "n", "host": "a"}])
    assert run(capsys, "check", *swapped, "--path", file)[0] == 0
    found["options"]["allow_stop"] = False
    file.write_text(json.dumps(found))
    assert run(capsys, "check", *swapped, "--path", file)[1].startswith("verdict: the target stops")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--snapshot", "s"], "--snapshot needs a target: --target FILE"),
        (["--snapshot", "s", "--target", "t", "--id", "x"], "--id is for --problem"),
        (["--problem", "p", "--target", "t"], "--target is for --snapshot, not --problem"),
        (["--problem", "p", "--allow-stop"], "--allow-stop is for --snapshot"),
        (["--problem", "p", "--cost", "memory"], "--cost is for --snapshot"),
        (["--problem", "p", "--ban-host", "h"], "--ban-host is for --snapshot"),
        ([], "one of the arguments --snapshot --problem is required"),
        (["--problem", "p", "--prefer", "luck"], "invalid choice: 'luck'"),
        (["--problem", "p", "--time-limit", "-1"], "-1 is not a finite number of at least 0"),
    ],
)
def test_usage(capsys, arguments, text):
    """A call that cannot be meant ends with 2 and says what to change."""
    code, out, err = run(capsys, "path", *arguments)
    assert (code, out) == (2, "")
    assert text in err


def test_no_such_case(capsys, problem):
    """An unknown id is told with those that there are."""
    code, _, err = run(capsys, "path", "--problem", problem, "--id", "swop")
    assert code == 2
    assert "--id swop: no such case" in err
    assert "there are: direct, swap, deadlock, wandering" in err


def test_bad_files(capsys, problem, tmp_path):
    """A file that is not sound ends with 1, one line, and the place."""
    content = json.loads(problem.read_text())
    content["instances"][1]["final"]["u"] = "nowhere"
    problem.write_text(json.dumps(content))
    code, out, err = run(capsys, "path", "--problem", problem)
    assert (code, out) == (1, "")
    assert err.endswith(f'{problem}: instances[1] "swap": final.u: no host "nowhere" in the case\n')
    (tmp_path / "p.json").write_text("[]")
    code, _, err = run(capsys, "check", "--problem", problem, "--path", tmp_path / "p.json")
    assert code == 1
    assert 'instances[1].final.u: no such VM, or no host "nowhere"' in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--snapshot", "s"],
        ["--plan", "p"],
        ["--snapshot", "s", "--target", "t"],
        ["--problem", "p"],
        ["--problem", "p", "--plan", "q"],
        ["--problem", "p", "--path", "q", "--snapshot", "s"],
        [],
    ],
)
def test_what_check_is_given(capsys, arguments):
    """Files that do not belong together end with 2."""
    code, _, err = run(capsys, "check", *arguments)
    assert code == 2
    assert "give --snapshot and --plan, or --snapshot, --target and --path, or --problem" in err


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (
            {"kind": "endpoint", "instance": "i", "host": "b", "reason": "locked"},
            "i can never be migrated to b (locked)",
        ),
        (
            {"kind": "relaxation", "side": "initial", "stuck": list("abcdefg")},
            "none of a, b, c, d, e and 2 more can ever move, even if all others that can be "
            "migrated were gone",
        ),
        (
            {"kind": "component", "side": "final", "hosts": ["a", "b"], "placements": 12},
            "only 12 placements on a, b are in reach of the target, and the start is none of them",
        ),
    ],
)
def test_proofs_in_words(certificate, text):
    """Each kind of proof is one plain sentence."""
    answer = {"reachable": False, "certificate": certificate, "runtime_s": 0.25}
    assert words.summary(answer) == f"not reachable, proven: {text}; took 0.2 s"


def asked(tmp_path, made: clouds.Document, target: Any) -> tuple[str, ...]:
    """Return the options for a target on a snapshot document."""
    (tmp_path / "cloud.json").write_bytes(clouds.as_bytes(made))
    (tmp_path / "target.json").write_text(json.dumps(target))
    return ("--snapshot", str(tmp_path / "cloud.json"), "--target", str(tmp_path / "target.json"))


@pytest.mark.parametrize("members", ["ijk", "i"])
def test_affinity(capsys, tmp_path, members):
    """Members of an affinity group do not move; that is a proof, as it is a rule of plans."""
    made = clouds.anti_affinity_triple()
    made["server_groups"][0].update(policy="affinity", members=list(members))
    options = asked(tmp_path, made, {"i": "b"})
    found = printed(capsys, *options, "--output", tmp_path / "path.json")
    assert found["certificate"]["kind"] == "endpoint"
    assert run(capsys, "check", *options, "--path", tmp_path / "path.json")[0] == 0


def celled() -> clouds.Document:
    """On a and b two NUMA instances of 4 of 8 cores each, so that all cells are full."""
    hosts = [clouds.numa_host("a"), clouds.numa_host("b")]
    places = [("i", "a", 0), ("j", "a", 1), ("k", "b", 0), ("m", "b", 1)]
    return clouds.snapshot(
        hosts, [clouds.numa_instance(name, on, {cell: 4}) for name, on, cell in places]
    )


def test_cells_that_the_target_leaves_open(capsys, tmp_path):
    """A proof holds for any cells, and a path leads to some; check asks for no others."""
    options = asked(tmp_path, celled(), {"i": "b", "k": "a"})
    found = printed(capsys, *options, "--output", tmp_path / "path.json")
    assert (found["reachable"], found["certificate"]["kind"]) == (False, "relaxation")
    assert run(capsys, "check", *options, "--path", tmp_path / "path.json")[0] == 0
    options = asked(tmp_path, clouds.numa_doubles(), {"even": {"host": "b", "numa": [1, 0]}})
    found = printed(capsys, *options, "--output", tmp_path / "path.json")
    assert (found["reachable"], found["optimal"]) == (True, True)
    assert found["migrations"][0]["dest_numa"] == [1, 0]
    assert run(capsys, "check", *options, "--path", tmp_path / "path.json")[0] == 0
    found["migrations"][0]["dest_numa"] = [0, 1]
    (tmp_path / "path.json").write_text(json.dumps(found))
    code, out, _ = run(capsys, "check", *options, "--path", tmp_path / "path.json")
    assert (code, out.partition(":")[0]) == (1, "target")


@pytest.mark.parametrize(
    ("certificate", "kept"),
    [
        ({"kind": "endpoint", "instance": "i", "host": "b", "reason": "locked"}, True),
        ({"kind": "relaxation", "side": "initial", "stuck": ["i"]}, True),
        ({"kind": "relaxation", "side": "final", "stuck": ["i"]}, False),
        ({"kind": "component", "side": "initial", "hosts": ["a", "b"], "placements": 1}, False),
    ],
)
def test_what_is_proved_for_chosen_cells_only(tmp_path, certificate, kept):
    """Where the command chose the cells, a proof about these is no proof about the target."""
    file = tmp_path / "target.json"
    file.write_text(json.dumps({"i": "b", "k": "a"}))
    question = aim.load(str(file), clouds.facts_of(celled()), base.DEFAULTS)
    assert question.chosen
    found = model_path.MigrationPath((), {}, False, optimal=True, certificate=certificate)
    modest = path.modest(found, question, memory.Memory())
    assert (modest.reachable, modest.optimal) == ((False, True) if kept else (None, False))
    assert modest.certificate == (certificate if kept else None)
    found = model_path.MigrationPath((), {}, True, cost=3 * 1024.0, optimal=True)
    assert not path.modest(found, question, memory.Memory()).optimal
    found = model_path.MigrationPath((), {}, True, cost=2 * 1024.0, optimal=True)
    assert path.modest(found, question, memory.Memory()).optimal


@pytest.mark.parametrize(
    ("options", "spoilt", "text"),
    [
        (["--concurrent", "1"], {"total": 1}, "run in the cloud"),
        (["--link", "uplink=1"], {"links": ["uplink=1"]}, "go over uplink r1"),
        (["--link", "uplink:r1=1"], {"links": ["uplink=2", "uplink:r1=1"]}, "at a time, not 1"),
        (["--link", "network=1"], {"links": ["network=1"]}, "go over network n"),
        (["--link", "network:g=1"], {"links": ["network:g=500MiB/s"]}, "go over network g"),
        (["--link", "network=told"], {"links": ["network=told"]}, "go over network n"),
    ],
)
def test_limits(capsys, tmp_path, options, spoilt, text):
    """Migrations share what the limits say; check knows from the path's options.

    i goes from a to c and j from b to d; a and b are in rack r1, all on network n of 600 MiB/s.
    """
    told = {
        key: {"provenance": "operator", "value": value}
        for key, value in (("migration_link", "n"), ("migration_mibps", "600"))
    }
    hosts = [
        clouds.host(
            name, rack={"provenance": "operator", "value": "r1" if name in "ab" else "r2"}, **told
        )
        for name in "abcd"
    ]
    made = clouds.snapshot(hosts, [clouds.instance("i", "a"), clouds.instance("j", "b")])
    made["aggregates"] = [{"name": "g", "hosts": ["a", "b"]}]
    question = asked(tmp_path, made, {"i": "c", "j": "d"})
    free = printed(capsys, *question)
    assert [one["start_s"] for one in free["migrations"]] == [0.0, 0.0]
    found = printed(capsys, *question, *options, "--output", tmp_path / "path.json")
    assert found["migrations"][1]["start_s"] >= found["migrations"][0]["end_s"]
    assert run(capsys, "check", *question, "--path", tmp_path / "path.json")[0] == 0
    free["options"].update(spoilt)
    (tmp_path / "path.json").write_text(json.dumps(free))
    code, out, _ = run(capsys, "check", *question, "--path", tmp_path / "path.json")
    assert (code, out.partition(":")[0]) == (1, "makespan")
    assert text in out


@pytest.mark.parametrize("link", ["uplink", "wire=1", "uplink=0", "network=x", "uplink=-1MiB/s"])
def test_links_that_are_none(capsys, swapped, tmp_path, link):
    """A limit that means nothing is of kind format."""
    found = printed(capsys, *swapped)
    found["options"]["links"] = [link]
    (tmp_path / "path.json").write_text(json.dumps(found))
    code, out, _ = run(capsys, "check", *swapped, "--path", tmp_path / "path.json")
    assert (code, out.partition(":")[0]) == (1, "format")

# SPDX-License-Identifier: Apache-2.0
"""Whole commands, as a person types them."""

import contextlib
import gzip
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sysconfig

import pytest

from nova_rebalancer.sim import demo
from tests import cases

ROOT = pathlib.Path(__file__).parents[2]
REAL = ROOT / "benchmarks" / "data" / "real_medium.json.gz"


def rebalance(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run the installed console script; none of its ends may be a traceback."""
    program = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_from_a_real_cluster_to_a_checked_plan(tmp_path):
    """Convert, validate, plan, check: the documents of each command are what the next one reads."""
    cloud, plan = tmp_path / "cloud.json.gz", tmp_path / "plan.json"
    converted = rebalance("snapshot", "convert", "--from", "vmr2l", REAL, cloud)
    assert converted.returncode == 0, converted.stderr
    assert rebalance("snapshot", "validate", cloud).returncode == 0
    limits = ("--planner", "greedy", "--max-migrations", "10", "--time-limit", "20")
    planned = rebalance("plan", "--snapshot", cloud, *limits, "--output", plan)
    assert planned.returncode == 0, planned.stderr
    document = json.loads(plan.read_text())
    assert 0 < len(document["migrations"]) <= 10
    assert document["objective"]["after"] < document["objective"]["before"]
    checked = rebalance("check", "--snapshot", cloud, "--plan", plan, "-f", "json")
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["ok"] is True


def test_a_wrong_plan_is_refused(tmp_path):
    """Exit code 1 and the kind of the first violation: here a host that does not exist."""
    cloud, plan = tmp_path / "cloud.json", tmp_path / "plan.json"
    rebalance("snapshot", "convert", "--from", "vmr2l", REAL, cloud)
    limits = ("--planner", "greedy", "--max-migrations", "2")
    rebalance("plan", "--snapshot", cloud, *limits, "--output", plan)
    document = json.loads(plan.read_text())
    document["migrations"][0]["dest"] = "nowhere"
    plan.write_text(json.dumps(document))
    checked = rebalance("check", "--snapshot", cloud, "--plan", plan, "-f", "json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["kind"] == "unknown_host"


def test_from_cases_to_checked_paths(tmp_path):
    """Paths and proofs of a file of cases are what check reads; a spoilt one is found."""
    problem, paths = tmp_path / "cases.json.gz", tmp_path / "paths.json.gz"
    made = cases.document(cases.swap(), cases.deadlock(), cases.parted())
    problem.write_bytes(gzip.compress(cases.as_bytes(made)))
    found = rebalance("path", "--problem", problem, "-f", "json", "--output", paths)
    assert found.returncode == 0, found.stderr
    assert found.stdout.encode() == gzip.decompress(paths.read_bytes())
    answers = json.loads(found.stdout)
    assert [(one["reachable"], one["cost"]) for one in answers] == [
        (True, 16),
        (False, None),
        (True, 4),
    ]
    checked = rebalance("check", "--problem", problem, "--path", paths)
    assert checked.returncode == 0, checked.stdout
    del answers[0]["migrations"][0]
    (tmp_path / "spoilt.json").write_text(json.dumps(answers))
    checked = rebalance("check", "--problem", problem, "--path", tmp_path / "spoilt.json")
    assert checked.returncode == 1
    assert checked.stdout.startswith('unknown_dependency: migration m2: case "swap"')


def test_demo_prints_the_document_it_writes(tmp_path):
    """``-f json`` prints exactly what ``--output`` writes; everything else is on stderr."""
    file = tmp_path / "plan.json"
    done = rebalance("plan", "--demo", "--time-limit", "3", "-f", "json", "--output", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == file.read_text()
    assert json.loads(done.stdout)["format"] == "nova-rebalancer-plan/1"


def test_a_bad_file_is_one_line(tmp_path):
    """What is wrong, and where, in one line on stderr, with exit code 1."""
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    done = rebalance("plan", "--snapshot", bad)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"nova-rebalance: error: .*bad\.json.*\n", done.stderr)


def test_an_unknown_option_is_usage():
    """Exit code 2 means that the call has to change."""
    assert rebalance("plan", "--no-such-option").returncode == 2


def start(*arguments: str, **options: int) -> subprocess.Popen[str]:
    """Start the installed console script and return while it runs."""
    program = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"
    return subprocess.Popen([program, *arguments], text=True, **options)


def test_ctrl_c_gives_the_best_plan_so_far(tmp_path):
    """An interrupted search ends at once with exit code 0 and a plan that is safe."""
    cloud, plan = tmp_path / "cloud.json", tmp_path / "plan.json"
    cloud.write_bytes(demo.document(0, 400))
    # It improves a placement as long as it may, and proves nothing.
    long = ("--planner", "search", "--time-limit", "300")
    arguments = ("--snapshot", str(cloud), *long, "--output", str(plan))
    running = start("plan", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(8)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    assert "Traceback" not in err
    assert json.loads(plan.read_text())["status"] == "interrupted"
    assert rebalance("check", "--snapshot", cloud, "--plan", plan).returncode == 0


def test_a_terminal_shows_progress(tmp_path):
    """On a terminal a bar shows the best value so far while planning goes on."""
    cloud = tmp_path / "cloud.json"
    cloud.write_bytes(demo.document(0, 200))
    ours, theirs = pty.openpty()
    arguments = ("--snapshot", str(cloud), "--time-limit", "4")
    running = start("plan", *arguments, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side has closed
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    assert running.wait(30) == 0
    assert b"planning" in shown
    assert re.search(rb"best 0\.\d+", shown)

# SPDX-License-Identifier: Apache-2.0
"""Whole commands, as a person types them."""

import json
import pathlib
import re
import subprocess
import sysconfig

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

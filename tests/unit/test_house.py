# SPDX-License-Identifier: Apache-2.0
"""The package as installed: version, entry points, data files, and what starting it loads."""

import importlib.metadata
import importlib.resources
import json
import pathlib
import re
import subprocess
import sys
import sysconfig

import pytest

from nova_rebalancer.model import reason

ROOT = pathlib.Path(__file__).parents[2]

GROUPS = (
    "nova_rebalancer.checks",
    "nova_rebalancer.cli",
    "nova_rebalancer.costs",
    "nova_rebalancer.goals",
    "nova_rebalancer.planners",
    "oslo.config.opts",
)


def run(*arguments: str) -> tuple[str, set[str]]:
    """What ``nova-rebalance ARGUMENTS`` prints, and the top-level packages it imports."""
    program = pathlib.Path(sysconfig.get_path("scripts")) / "nova-rebalance"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(re.findall(r"^import time:.*\| +(\w+)", done.stderr, re.MULTILINE))


def entry_points() -> list[importlib.metadata.EntryPoint]:
    """All of ours, the console script included."""
    ours = importlib.metadata.distribution("nova-rebalancer").entry_points
    return [point for point in ours if point.group in (*GROUPS, "console_scripts")]


def test_version():
    """pbr found the version; 0.0.0 is what setuptools says without it."""
    assert importlib.metadata.version("nova-rebalancer") != "0.0.0"


@pytest.mark.parametrize("point", entry_points(), ids=lambda point: f"{point.group}:{point.name}")
def test_entry_point_loads(point):
    """What setup.cfg names exists."""
    assert callable(point.load())


def test_every_group_has_entry_points():
    """No plug-in group was lost when the package was built."""
    assert {point.group for point in entry_points()} == {*GROUPS, "console_scripts"}


@pytest.mark.parametrize(
    "name", ["snapshot-1.json", "plan-1.json", "facts-1.json", "path-1.json", "path-result-1.json"]
)
def test_schema_is_packaged(name):
    """The schemas travel with the code that needs them."""
    schema = importlib.resources.files("nova_rebalancer.model") / "schemas" / name
    assert json.loads(schema.read_text())["$schema"].endswith("2020-12/schema")


def test_help_is_light():
    """``--help`` must answer at once, so it loads nothing numerical."""
    printed, loaded = run("--help")
    assert printed.startswith("usage: nova-rebalance")
    assert "nova_rebalancer" in loaded
    assert not loaded & {"numpy", "scipy", "ortools", "networkx", "pandas", "torch"}


@pytest.mark.parametrize(
    "command", ["plan", "apply", "check", "path", "simulate", "snapshot validate"]
)
def test_command_help_is_light(command):
    """Nor does a command's help, which is about that command."""
    printed, loaded = run(*command.split(), "--help")
    assert printed.startswith(f"usage: nova-rebalance {command} ")
    assert not loaded & {"numpy", "scipy", "ortools", "networkx", "pandas", "torch"}


@pytest.mark.needs("torch")
def test_plan_does_not_load_torch():
    """torch takes seconds to load; a plan does without it even where it is installed."""
    _, loaded = run("plan", "--demo", "--time-limit", "1", "--max-migrations", "2")
    assert "numpy" in loaded
    assert "torch" not in loaded


def test_reason_codes_are_published():
    """Programs decide by the code of a reason, so the documentation lists every one."""
    page = (ROOT / "doc/source/admin/documents.rst").read_text()
    assert [code for code in reason.CODES if f"* - ``{code}``" not in page] == []

# SPDX-License-Identifier: Apache-2.0
"""The commands on a real cloud, as people type them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.cloud import control
from tests.cloud import facts
from tests.cloud import settings

VARYING = ("id", "created_at", "expires_at", "runtime_s")


@pytest.fixture
def run(cloud: settings.Settings, tmp_path):
    """Run a command in a folder of its own; returns what subprocess.run returns."""

    def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
            "OS_CLIENT_CONFIG_FILE": str(cloud.clouds_yaml),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            **variables,
        }
        program = pathlib.Path(sys.executable).with_name("nova-rebalance")
        return subprocess.run(
            [program, *arguments],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def comparable(path: pathlib.Path) -> str:
    """The text of a plan without the lines of what may vary."""
    lines = path.read_text().splitlines()
    return "\n".join(
        line for line in lines if not line.startswith(tuple(f'  "{key}":' for key in VARYING))
    )


def test_plan(run, tmp_path):
    """A plan for the cloud is one for the snapshot it saved, byte for byte, and a sound one."""
    live = run(
        "plan", "--os-cloud", "test-cloud", "--save-snapshot", "cloud.json.gz", "--output", "a.json"
    )
    assert live.returncode in (0, 3), live.stderr
    assert "read test-cloud: 8 hosts" in live.stderr
    offline = run("plan", "--snapshot", "cloud.json.gz", "--output", "b.json")
    assert offline.returncode == live.returncode
    status = json.loads((tmp_path / "a.json").read_text())["status"]
    assert status in ("optimal", "nothing_to_do")
    assert comparable(tmp_path / "a.json") == comparable(tmp_path / "b.json")
    checked = run("check", "--snapshot", "cloud.json.gz", "--plan", "a.json")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("scope", ["az=zone-1", "aggregate=fast-disks", "host=host-002"])
def test_scope(run, tmp_path, scope):
    """A plan for a part of the cloud moves nothing from or to the rest of it."""
    made = run("plan", "--os-cloud", "test-cloud", "--scope", scope, "--output", "plan.json")
    assert made.returncode in (0, 3), made.stderr
    saved = run("snapshot", "save", "--os-cloud", "test-cloud", "--scope", scope, "part.json")
    assert saved.returncode == 0, saved.stderr
    part = json.loads((tmp_path / "part.json").read_text())
    names = {host["service_host"] for host in part["hosts"]}
    assert names and len(names) < 8
    for migration in json.loads((tmp_path / "plan.json").read_text())["migrations"]:
        assert {migration["source"], migration["dest"]} <= names
    assert run("plan", "--snapshot", "part.json").returncode in (0, 3)


def test_cloud_from_the_environment(run):
    """Without --os-cloud the environment decides, and without that the error says how to."""
    found = run("snapshot", "save", "-", OS_CLOUD="test-cloud")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["cloud"] == "test-cloud"
    lost = run("snapshot", "save", "-")
    assert lost.returncode == 2
    assert "no cloud is named: give --os-cloud NAME" in lost.stderr
    unknown = run("plan", "--os-cloud", "nowhere")
    assert unknown.returncode == 2
    assert "clouds.yaml has: test-cloud" in unknown.stderr


def test_least_privilege(run):
    """A credential that allows GET alone is enough for a plan; a role without admin is not."""
    made = run("plan", "--os-cloud", "test-cloud-get-only")
    assert made.returncode in (0, 3), made.stderr
    refused = run("plan", "--os-cloud", "test-cloud-rebalancer")
    assert refused.returncode == 1
    assert "server groups is missing" in refused.stderr
    assert "allows GET alone" in refused.stderr


def test_doctor(run):
    """A cloud in order has warnings only; an account that sees too little is an error."""
    good = run("doctor", "--os-cloud", "test-cloud", "-f", "json")
    assert good.returncode == 0, good.stdout
    results = {row["result"] for row in json.loads(good.stdout)}
    assert "error" not in results
    bad = run("doctor", "--os-cloud", "test-cloud-rebalancer", "-f", "json")
    assert bad.returncode == 1
    assert "server groups" in {r["check"] for r in json.loads(bad.stdout) if r["result"] == "error"}


def test_cloud_from_the_configuration(cloud, run, tmp_path):
    """Credentials in the section [cloud] do as well as clouds.yaml."""
    (tmp_path / "our.conf").write_text(
        f"""[cloud]
auth_type = password
auth_url = {cloud.auth_url}
username = admin
password = {cloud.password}
project_name = admin
user_domain_id = default
project_domain_id = default
region_name = {settings.REGION}
"""
    )
    found = run("--config-file", "our.conf", "snapshot", "save", "-")
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["hosts"]) == 8


def test_no_placement(cloud, run, tmp_path):
    """Without Placement there is one line that says so, exit code 1, and no file."""
    (tmp_path / "our.conf").write_text("[collect]\nattempts = 2\n")
    control.stop_api(cloud, "placement")
    try:
        lost = run(
            "--config-file", "our.conf", "snapshot", "save", "--os-cloud", "test-cloud", "no.json"
        )
    finally:
        control.start_api(cloud, "placement")
    assert lost.returncode == 1
    assert "placement" in lost.stderr and "Traceback" not in lost.stderr
    assert len(lost.stderr.splitlines()) == 1
    assert not (tmp_path / "no.json").exists()


def test_facts(cloud, run, tmp_path):
    """Told facts are in the snapshot with their provenance, and make NUMA instances movable."""
    # JSON is YAML.
    (tmp_path / "facts.yaml").write_text(json.dumps(facts.document(cloud)))
    saved = run(
        "snapshot", "save", "--os-cloud", "test-cloud", "--facts", "facts.yaml", "told.json"
    )
    assert saved.returncode == 0, saved.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert {host["cell"]["value"] for host in told["hosts"]} == {"cell1", "cell2"}
    known = {host["service_host"]: host["numa"]["provenance"] for host in told["hosts"]}
    assert known["host-004"] == "operator" and known["host-002"] in ("unknown", "inferred")
    assert run("plan", "--snapshot", "told.json", "--output", "p.json").returncode in (0, 3)
    checked = run("check", "--snapshot", "told.json", "--plan", "p.json")
    assert checked.returncode == 0, checked.stderr
    within = run("plan", "--snapshot", "told.json", "--scope", "cell=cell2")
    assert within.returncode in (0, 3), within.stderr

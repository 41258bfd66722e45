# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance apply``."""

import argparse
import datetime
import gzip
import io
import json
import os
import pathlib
import signal
from typing import Any

from cliff import app as cliff_app
from cliff import commandmanager
import pytest

from nova_rebalancer import controller
from nova_rebalancer import exceptions
from nova_rebalancer.cmd import apply
from nova_rebalancer.collect import document
from nova_rebalancer.model import plan_document
from nova_rebalancer.plan import base as plan_base
from nova_rebalancer.sim import demo

SEED, HOSTS = 5, 30


class Terminal(io.StringIO):
    """Text streams say that they are a terminal."""

    def isatty(self) -> bool:
        return True


class CtrlC(io.StringIO):
    """Somebody who presses Ctrl-C ``times`` times when the first migration is confirmed."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def write(self, text: str) -> int:
        written = super().write(text)
        while text.startswith("confirmed") and self._times:
            self._times -= 1
            os.kill(os.getpid(), signal.SIGINT)
        return written


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """A plan for the demo cloud, by the greedy planner."""
    snapshot, sha256 = document.loads(demo.document(SEED, HOSTS), "the demo cloud")
    options = controller.Options(planner="greedy", demo={"seed": SEED, "hosts": HOSTS})
    plan = controller.run(snapshot, sha256, options, plan_base.Watch())
    now = datetime.datetime.now(datetime.UTC)
    written = plan_document.document(plan, "a plan", now, 3600, {})
    assert len(written["migrations"]) >= 4
    return written


@pytest.fixture
def plan(made: dict[str, Any]) -> dict[str, Any]:
    """The plan, to change as one likes."""
    copy: dict[str, Any] = json.loads(json.dumps(made))
    return copy


class Applied:
    """What ``apply`` did: exit code and what it wrote."""

    def __init__(
        self,
        path: pathlib.Path,
        plan: dict[str, Any] | bytes,
        *arguments: str,
        stdin: io.StringIO | None = None,
        stderr: io.StringIO | None = None,
    ) -> None:
        file = path / "plan.json"
        file.write_bytes(plan if isinstance(plan, bytes) else json.dumps(plan).encode())
        stdin, stdout, stderr = stdin or io.StringIO(), io.StringIO(), stderr or io.StringIO()
        program = cliff_app.App(
            "a program", "1", commandmanager.CommandManager("none"),
            stdin=stdin, stdout=stdout, stderr=stderr,
        )  # fmt: skip
        command = apply.Apply(program, argparse.Namespace(config_file=None))
        self.code = command.run(command.get_parser("apply").parse_args([str(file), *arguments]))
        self.out, self.err = stdout.getvalue(), stderr.getvalue()


def summary(plan: dict[str, Any]) -> str:
    """How the last line begins when all went well."""
    count, objective = len(plan["migrations"]), plan["objective"]
    return (
        f"demo: {count} of {count} migrations confirmed, "
        f"fragment rate {objective['before']:.4f} -> {objective['after']:.4f}, "
    )


def test_applies_a_plan(plan, tmp_path):
    """A line for each migration with the rate since then, and where it ended."""
    applied = Applied(tmp_path, plan, "--demo", "--yes")
    assert applied.code == 0
    assert applied.out.startswith(summary(plan))
    lines = applied.err.splitlines()
    assert len(lines) == len(plan["migrations"])
    assert lines[0].startswith(f"confirmed 1/{len(lines)} ")
    assert lines[-1].endswith(f"fragment rate {plan['objective']['after']:.4f}")


def test_reads_gzip(plan, tmp_path):
    """A packed plan is as good."""
    packed = gzip.compress(json.dumps(plan).encode())
    assert Applied(tmp_path, packed, "--demo", "--yes").code == 0


def test_shows_it_on_a_terminal(plan, tmp_path):
    """On a terminal running migrations are drawn, and wiped in the end."""
    stderr = Terminal()
    applied = Applied(tmp_path, plan, "--demo", "--yes", "--speed", "1e6", stderr=stderr)
    assert applied.code == 0
    assert f"0/{len(plan['migrations'])} |" in applied.err
    assert "% " in applied.err
    assert f"confirmed, fragment rate {plan['objective']['after']:.4f}" in applied.err
    assert applied.err.endswith("\r")


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)]
)
def test_asks(plan, tmp_path, answer, code):
    """On a terminal it asks, and only yes is yes."""
    applied = Applied(tmp_path, plan, "--demo", stdin=Terminal(answer))
    assert applied.code == code
    question = f"Carry out {len(plan['migrations'])} migrations on cloud demo? [y/N] "
    assert applied.err.startswith(question)
    assert bool(applied.out) == (code == 0)


def test_cannot_ask(plan, tmp_path):
    """Without a terminal and without --yes it is the call that is wrong."""
    with pytest.raises(exceptions.UsageError, match="--yes"):
        Applied(tmp_path, plan, "--demo")


def test_plans_of_the_demo_cloud(plan, tmp_path):
    """A plan for the demo cloud is not tried on a real one."""
    with pytest.raises(exceptions.UsageError, match="add --demo"):
        Applied(tmp_path, plan, "--yes")


@pytest.mark.parametrize("options", [{}, {"demo": None}])
def test_plans_of_snapshots(plan, tmp_path, options):
    """A plan that was not made for the demo cloud is not applied to it."""
    plan["options"] = {"fragment_cores": 16, **options}
    with pytest.raises(exceptions.UsageError, match="made from a snapshot file or a live"):
        Applied(tmp_path, plan, "--demo", "--yes")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cloud": "prod"}, 'is for cloud "prod", this is cloud "demo"'),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expired at 2020-01-01T00:00:00Z"),
        ({"expires_at": "2020-01-01T00:00:00"}, "expired at"),
        ({"expires_at": "soon"}, '"soon" is not a time'),
        ({"snapshot_sha256": "0" * 64}, f"{'0' * 64}, the demo cloud's is [0-9a-f]{{64}}$"),
        ({"migrations": 3}, "migrations: "),
        ({"format": "nova-rebalancer-plan/2"}, "format: "),
        ({"goal": "energy"}, 'goals: no "energy"'),
    ],
)
def test_refuses_plans(plan, tmp_path, changes, text):
    """A plan that is damaged, outdated or for another cloud is refused in one line."""
    with pytest.raises(exceptions.InputError, match=text) as caught:
        Applied(tmp_path, {**plan, **changes}, "--demo", "--yes")
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"demo": 3}, "options.demo: not"),
        ({"demo": {"seed": 1}}, "options.demo: not"),
        ({"demo": {"seed": True, "hosts": 20}}, "options.demo: not"),
        ({"demo": {"seed": 1, "hosts": 10**9}}, "options.demo: a demo cloud has"),
        ({"host_incoming": 0}, "options.host_incoming: not"),
        ({"migration_rate_mibps": -1}, "options.migration_rate_mibps: not"),
    ],
)
def test_refuses_options(plan, tmp_path, changes, text):
    """Options that nobody could have planned with are refused."""
    plan["options"].update(changes)
    with pytest.raises(exceptions.InputError, match=text):
        Applied(tmp_path, plan, "--demo", "--yes")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"depends_on": ["m99"]}, "does not pass the check: migration m1: unknown_dependency"),
        ({"id": "m2"}, 'two migrations have the id "m2"'),
        ({"instance": "nobody"}, "migration m1: unknown_instance"),
        ({"dest": "nowhere"}, "migration m1: unknown_host"),
        ({"depends_on": ["m1"]}, "migration m1: dependency_cycle"),
        ({"method": "cold"}, "live migrations only, not cold"),
    ],
)
def test_refuses_migrations(plan, tmp_path, changes, text):
    """What the independent checker does not accept is refused before anything moves."""
    plan["migrations"][0].update(changes)
    with pytest.raises(exceptions.InputError, match=text):
        Applied(tmp_path, plan, "--demo", "--yes")


def test_refuses_a_false_promise(plan, tmp_path):
    """A plan that states another result than it has is refused before anything moves."""
    plan["objective"]["after"] -= 0.01
    with pytest.raises(exceptions.InputError, match="does not pass the check: objective"):
        Applied(tmp_path, plan, "--demo", "--yes")


def test_interrupted(plan, tmp_path):
    """The first Ctrl-C finishes what runs and leaves the rest, and the handler is put back."""
    before = signal.getsignal(signal.SIGINT)
    for i, migration in enumerate(plan["migrations"][1:]):
        # One after another, so that there is a rest.
        previous = plan["migrations"][i]
        migration["depends_on"] = [previous["id"]]
        migration["wave"] = previous["wave"] + 1
        migration["start_s"], migration["end_s"] = previous["end_s"], previous["end_s"] + 1
    applied = Applied(tmp_path, plan, "--demo", "--yes", stderr=CtrlC(1))
    assert applied.code == 4
    count = len(plan["migrations"])
    assert applied.out.startswith(
        f"demo: 1 of {count} migrations confirmed, {count - 1} not started, "
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupted_twice(plan, tmp_path):
    """The second Ctrl-C gives up what runs; nothing more is confirmed."""
    applied = Applied(tmp_path, plan, "--demo", "--yes", stderr=CtrlC(2))
    assert applied.code == 4
    assert "interrupted again: giving up what is under way" in applied.err
    confirmed = sum(line.startswith("confirmed") for line in applied.err.splitlines())
    left = len(plan["migrations"]) - confirmed
    assert f"{confirmed} of {len(plan['migrations'])} migrations confirmed, {left} not started" in (
        applied.out
    )


def test_interrupted_thrice(plan, tmp_path):
    """The third Ctrl-C ends the program at once."""
    # A shell starts what runs in the background deaf to Ctrl-C, and this test may run there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Applied(tmp_path, plan, "--demo", "--yes", stderr=CtrlC(3))
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_to_do(plan, tmp_path):
    """An empty plan is carried out without a question."""
    plan["migrations"] = []
    before = plan["objective"]["before"]
    for value in (plan["objective"], plan["objectives"][0]):
        value.update(after=before, bound=None)
    plan["objective"]["gap"] = None
    plan["status"] = "nothing_to_do"
    applied = Applied(tmp_path, plan, "--demo")
    assert (applied.code, applied.out) == (0, "nothing to do: the plan has no migrations\n")


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "fast"])
def test_speed(plan, tmp_path, speed):
    """Only a number above 0 is a speed."""
    with pytest.raises(SystemExit) as caught:
        Applied(tmp_path, plan, "--demo", "--yes", "--speed", speed)
    assert caught.value.code == 2

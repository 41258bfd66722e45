# SPDX-License-Identifier: Apache-2.0
"""Every run says which tests it left out and why; with --nothing-left-out it then fails."""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import importlib.util
from typing import Any

import hypothesis
from oslo_service import backend
import pytest

# Whoever comes first chooses for the whole process, and Nova's modules would choose eventlet.
backend.init_backend(backend.BackendType.THREADING)

# A slow machine is no reason for a test to fail, and a failure must come again on the next run.
hypothesis.settings.register_profile("nova-rebalancer", deadline=None, derandomize=True)
hypothesis.settings.load_profile("nova-rebalancer")


@pytest.fixture(autouse=True, scope="session")
def _no_journal_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the journal of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the test cloud's tests, and those of database servers, to one process each."""
    from xdist import scheduler

    class Together(scheduler.LoadScopeScheduling):
        """Sends tests with one scope to one process."""

        def _split_scope(self, nodeid: str) -> str:
            if not nodeid.startswith("tests/integration/"):
                return nodeid
            return "journal" if "/test_journal.py" in nodeid else "cloud"

    return Together(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The switch CI uses."""
    parser.addoption(
        "--nothing-left-out",
        action="store_true",
        help="fail when a test was skipped, deselected or expected to fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The mark of a test that an optional dependency makes possible."""
    config.addinivalue_line("markers", "needs(*modules): runs where these modules are installed")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Leave out what cannot run here."""
    for item in items:
        for marker in item.iter_markers("needs"):
            for module in marker.args:
                if importlib.util.find_spec(module) is None:
                    reason = f"{module} is not installed"
                    item.add_marker(pytest.mark.skip(reason=reason))


def left_out(config: pytest.Config) -> collections.Counter[str]:
    """How many tests were left out, by reason."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    reasons: collections.Counter[str] = collections.Counter()
    for report in stats.get("skipped", []):
        reasons[report.longrepr[2].removeprefix("Skipped: ")] += 1
    for report in stats.get("xfailed", []):
        reasons[f"expected to fail: {report.wasxfail}"] += 1
    if deselected := len(stats.get("deselected", [])):
        reasons["deselected on the command line"] += deselected
    return reasons


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that was to leave nothing out and did."""
    if hasattr(session.config, "workerinput"):
        # What was left out is counted where all the reports come together.
        return
    strict = session.config.getoption("--nothing-left-out")
    if strict and exitstatus == pytest.ExitCode.OK and left_out(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, above pytest's own last line."""
    terminalreporter.section("left out")
    reasons = left_out(terminalreporter.config)
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")
    if not reasons:
        terminalreporter.line("nothing: every test ran")
    elif terminalreporter.config.getoption("--nothing-left-out"):
        terminalreporter.line("this run was to leave nothing out, so it failed")

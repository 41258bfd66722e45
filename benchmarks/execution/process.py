# SPDX-License-Identifier: Apache-2.0
"""``nova-rebalance`` as a process, with a journal of its own, and what it says as it says it."""

from collections.abc import Callable
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

from tests.cloud import configs
from tests.cloud import facts as cloud_facts
from tests.cloud import settings

Json = dict[str, Any]

CLOUD = "test-cloud"
PROGRAM = pathlib.Path(sys.executable).with_name("nova-rebalance")
# Answers come within seconds here, and nobody holds requests on the way.
QUICK = {
    "poll_s": 1,
    "request_timeout_s": 20,
    "retry_s": 5,
    # The benchmarks move the same servers again and again.
    "downtime_budget_s": 1000,
}


class ProgramError(Exception):
    """A command did not do what a benchmark needs; the message has its output."""


@dataclasses.dataclass
class Line:
    """One that the process wrote, and when (seconds since 1970)."""

    at: float
    text: str


class Home:
    """A folder with all that the commands of one benchmark write and read.

    Parameters
    ----------
    options
        Of the section ``[execute]``, over ``QUICK``.
    facts
        Whether the commands know what an operator knows: cells of Nova and of the hosts.
    """

    def __init__(
        self,
        cloud: settings.Settings,
        folder: pathlib.Path,
        options: Json | None = None,
        *,
        facts: bool = False,
    ) -> None:
        self.cloud = cloud
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._facts = self.folder / "facts.json" if facts else None
        self.configure(options or {})
        self.endpoints({})

    @property
    def journal(self) -> pathlib.Path:
        """The file of the journal."""
        return self.folder / "state" / "nova-rebalancer" / "journal.sqlite"

    def configure(self, options: Json) -> None:
        """Write the configuration file."""
        lines = [f"{name} = {value}" for name, value in {**QUICK, **options}.items()]
        if self._facts is not None:
            # JSON is YAML.
            self._facts.write_text(json.dumps(cloud_facts.document(self.cloud)))
            lines += ["[collect]", f"facts_file = {self._facts}"]
        (self.folder / "our.conf").write_text("\n".join(["[execute]", *lines, ""]))

    def endpoints(self, urls: dict[str, str]) -> None:
        """Write ``clouds.yaml``, with URLs by service type in place of the catalogue's."""
        configs.write_clients(self.cloud, self.folder / "clouds.yaml", urls or None)

    def environment(self) -> dict[str, str]:
        """For a command: ours alone."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        return {
            **kept,
            "OS_CLIENT_CONFIG_FILE": str(self.folder / "clouds.yaml"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PYTHONUNBUFFERED": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        """What to execute."""
        return [str(PROGRAM), "--config-file", str(self.folder / "our.conf"), *arguments]

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Run a command to its end; return what it printed.

        Raises
        ------
        ProgramError
            If it exits with another code than those accepted.
        """
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in accept:
            raise ProgramError(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def snapshot(self, name: str = "snapshot.json.gz") -> pathlib.Path:
        """Read the cloud as it is now into a file."""
        file = self.folder / name
        self.run("snapshot", "save", "--os-cloud", CLOUD, str(file))
        return file

    def write_plan(self, plan: Json, name: str) -> pathlib.Path:
        """Write a plan document."""
        file = self.folder / name
        file.write_text(json.dumps(plan, indent=2) + "\n")
        return file

    def apply(self, plan: pathlib.Path, *more: str) -> "Apply":
        """Begin to carry a plan out."""
        return Apply(
            self.command("apply", str(plan), "--os-cloud", CLOUD, "--yes", *more),
            self.environment(),
            self.folder / "apply.log",
        )

    def read(self, *command: str) -> list[Json]:
        """The rows that a command lists."""
        return list(json.loads(self.run(*command, "-f", "json")))

    def runs(self) -> list[Json]:
        """The journal's runs, the newest first."""
        return self.read("history")

    def entries(self, run: str | None = None) -> list[Json]:
        """A run's migrations as the journal has them; of the newest run if None."""
        return self.read("show", run or str(self.runs()[0]["run"]))


class Apply:
    """A process that carries a plan out."""

    def __init__(self, command: list[str], environment: dict[str, str], log: pathlib.Path) -> None:
        self.lines: list[Line] = []
        self.began = time.time()
        self._told = threading.Condition()
        self._log = log
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self._log.open("a") as log:
            log.write(f"--- {self.process.pid}\n")
            for text in self.process.stdout:
                with self._told:
                    self.lines.append(Line(time.time(), text.rstrip("\n")))
                    self._told.notify_all()
                log.write(f"{self.lines[-1].at:.3f} {text}")
                log.flush()

    def wait_line(self, after: int, limit_s: float) -> int:
        """Wait, at most so long, for a line beyond the first ``after``; return their number."""
        with self._told:
            self._told.wait_for(lambda: len(self.lines) > after or not self._alive(), limit_s)
            return len(self.lines)

    def wait_for(self, what: Callable[[str], bool], limit_s: float) -> bool:
        """Wait for a line that is as wanted; return whether one came."""
        with self._told:
            return self._told.wait_for(lambda: any(what(line.text) for line in self.lines), limit_s)

    def end(self, limit_s: float) -> int | None:
        """Wait for its end; return its exit code, None if it goes on."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)

    def text(self) -> str:
        """All it wrote."""
        return "\n".join(line.text for line in self.lines)

    def _alive(self) -> bool:
        return self.process.poll() is None

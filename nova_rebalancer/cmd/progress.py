# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a plan is made, and how Ctrl-C asks for what there is."""

import shutil
import signal
import threading
import time
import types
from typing import Any
from typing import Self
from typing import TextIO

import tqdm

from nova_rebalancer.collect import reader
from nova_rebalancer.plan import base

TICK_S = 0.2


def bar(stream: TextIO, what: str, total: float | None, shape: str) -> "tqdm.tqdm[Any] | None":
    """Return a bar of ``shape`` (``bar_format`` of tqdm) on a terminal, None elsewhere."""
    if not stream.isatty():
        return None
    return tqdm.tqdm(
        total=total,
        file=stream,
        desc=what,
        leave=False,
        # A terminal that does not tell its size says 0, and tqdm would draw nothing.
        ncols=shutil.get_terminal_size().columns,
        nrows=shutil.get_terminal_size().lines,
        bar_format=shape,
    )


class Fetching(reader.Progress):
    """One line on a terminal with what is read of a cloud; nothing elsewhere."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._counts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._bar = bar(stream, f"reading {name}", None, "{desc}: {elapsed}{postfix}")

    def step(self, what: str, done: int, total: int | None = None) -> None:
        """Show how far it is."""
        if self._bar is None:
            return
        with self._lock:
            self._counts[what] = f"{done} {what}" if total is None else f"{done}/{total} {what}"
            self._bar.set_postfix_str(", ".join(self._counts.values()))

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.close()


class Interruptible:
    """Takes SIGINT: the first asks to end with what there is, the second interrupts as usual."""

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def stopped(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.interrupted

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self._previous)


class Counting(Interruptible):
    """A bar that counts what is done of several things on a terminal; nothing elsewhere."""

    def __init__(self, stream: TextIO, what: str, total: int) -> None:
        super().__init__()
        shape = "{desc} {bar:24} {n_fmt} of {total_fmt}, {elapsed}{postfix}"
        self._bar = bar(stream, what, total, shape) if total > 1 else None

    def begin(self, name: str) -> None:
        """Show what is being done."""
        if self._bar is not None:
            self._bar.set_postfix_str(name)

    def end(self) -> None:
        """Count one more."""
        if self._bar is not None:
            self._bar.update()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        super().__exit__(kind, error, trace)


class Progress(Interruptible, base.Watch):
    """A bar with the incumbent and the bound on a terminal; nothing elsewhere.

    As a context manager it also takes SIGINT: the first one asks the planner to end with the
    best plan it has, the second one interrupts as usual.
    """

    def __init__(self, stream: TextIO, time_limit_s: float | None) -> None:
        super().__init__()
        self._stop = threading.Event()
        self._incumbent: float | None = None
        self._bound: float | None = None
        self._began = time.monotonic()
        self._limit_s = time_limit_s
        self._ticker: threading.Thread | None = None
        shape = "{desc} {n:.0f} s{postfix}"
        if time_limit_s:
            shape = "{desc} {bar:24} {n:.0f} s of {total:.0f} s{postfix}"
        self._bar = bar(stream, "planning", time_limit_s, shape)

    def incumbent(self, value: float) -> None:
        """Keep the best value."""
        if self._incumbent is None or value < self._incumbent:
            self._incumbent = value

    def bound(self, value: float) -> None:
        """Keep the best bound."""
        if self._bound is None or value > self._bound:
            self._bound = value

    def __enter__(self) -> Self:
        super().__enter__()
        if self._bar is not None:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._bar is not None:
            self._bar.close()
        super().__exit__(kind, error, trace)

    def _tick(self) -> None:
        assert self._bar is not None
        while not self._stop.wait(TICK_S):
            gone = time.monotonic() - self._began
            self._bar.n = gone if self._limit_s is None else min(gone, self._limit_s)
            known = [
                f"{word} {value:.4f}"
                for word, value in (("best", self._incumbent), ("bound", self._bound))
                if value is not None
            ]
            if self.interrupted:
                known.append("stopping")
            self._bar.set_postfix_str(", ".join(known))

# SPDX-License-Identifier: Apache-2.0
"""What a person sees while days are simulated, and how Ctrl-C ends them."""

import types
from typing import Any
from typing import TextIO

import tqdm

from nova_rebalancer.cmd import progress
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import days


class Progress(progress.Interruptible, days.Watch):
    """A bar for the days of each policy on a terminal, else a line when one is done.

    As a context manager it takes SIGINT: the first one ends the days at what is done, the second
    one interrupts as usual.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._begun_s = 0.0
        self._bar: tqdm.tqdm[Any] | None = None

    def begin(self, name: str, begun_s: float, count: float) -> None:
        """Say that the ``count`` days of a policy begin."""
        self._begun_s = begun_s
        shape = "{desc} {bar:24} day {n:.1f} of {total:g}{postfix}"
        self._bar = progress.bar(self._stream, name, count, shape)

    def reached(self, at_s: float) -> None:
        """Show how far it is."""
        if self._bar is not None:
            self._bar.n = (at_s - self._begun_s) / arrivals.DAY_S
            self._bar.set_postfix_str("stopping" if self.interrupted else "")

    def end(self, text: str) -> None:
        """Take the bar away and say what came out."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        print(text, file=self._stream)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        super().__exit__(kind, error, trace)

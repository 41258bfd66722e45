# SPDX-License-Identifier: Apache-2.0
"""What a person sees while migrations are carried out."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TextIO

from nova_rebalancer.execute import base
from nova_rebalancer.execute import executor
from nova_rebalancer.execute import states
from nova_rebalancer.model import cloud
from nova_rebalancer.model import state
from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.store import records

LINES = 8
"""Most running migrations that are drawn."""

GIB = 2**30

TOLD = {
    states.CONFIRMED: "confirmed",
    states.FAILED: "failed",
    states.ABORTED: "aborted",
    states.UNKNOWN: "unknown",
    states.SKIPPED: "skipped",
}
"""States that are worth a line, and how they are called there."""


ANSWERS = (
    "interrupted: starting no more, waiting for what is under way (Ctrl-C again: give that up)",
    "interrupted again: giving up what is under way (Ctrl-C again: end at once)",
)
"""To Ctrl-C, one after the other."""


def rate_name(goal: objectives.Goal) -> str:
    """Return what the goal's value is called for people."""
    return goal.name.replace("fragmentation", "fragment rate")


class Rate:
    """The goal's value as migrations are confirmed; those in flight count at their source."""

    def __init__(
        self,
        start: state.PlacementState,
        goal: objectives.Goal,
        cells: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.name = rate_name(goal)
        self._placement = start
        self._goal = goal
        self._cells = cells
        self._v = {instance: v for v, instance in enumerate(start.instances)}
        self._h = {host: h for h, host in enumerate(start.service_hosts)}
        self.value = goal.evaluate(start).value

    def confirmed(self, entry: records.Entry) -> None:
        """Take a confirmed migration into account, if it is about what was there at the start."""
        v, h = self._v.get(entry.instance), self._h.get(entry.dest)
        if v is None or h is None:
            return
        ids = self._placement.cell_ids[h]
        places = [ids.index(cell) for cell in self._cells.get(entry.key, ()) if cell in ids]
        self._placement = self._placement.moved(v, h, places)
        self.value = self._goal.evaluate(self._placement).value


class Lines(executor.View):
    """A line for each migration that ends, or of which nobody knows what became of it."""

    def __init__(
        self,
        stream: TextIO,
        facts: cloud.Snapshot,
        entries: Sequence[records.Entry],
        rate: Rate,
    ) -> None:
        self.presses = 0
        """How often Ctrl-C was pressed."""
        self._told = 0
        self._stream = stream
        self._rate = rate
        self._names = {one.id: one.name or one.id for one in facts.instances}
        self._states = {one.id: one.state for one in entries}
        for entry in entries:
            if entry.state == states.CONFIRMED:
                rate.confirmed(entry)

    @property
    def _done(self) -> int:
        return sum(one == states.CONFIRMED for one in self._states.values())

    def changed(self, entry: records.Entry) -> None:
        """Say what it has come to."""
        self._states[entry.id] = entry.state
        word = TOLD.get(entry.state)
        if word is None:
            return
        total = len(self._states)
        text = f"{word:9} {self._done:{len(str(total))}}/{total} {entry.key} {self.label(entry)}"
        if entry.state == states.CONFIRMED:
            self._rate.confirmed(entry)
            if entry.ended_at is not None and entry.running_at is not None:
                text += f", {entry.ended_at - entry.running_at:.1f} s"
            self.say(f"{text}, {self._rate.name} {self._rate.value:.4f}")
        else:
            self.say(f"{text}: {entry.text or entry.code}")

    def waits(self, entry: records.Entry, text: str) -> None:
        """Say what it waits for."""
        self.say(f"waiting   {entry.key} {self.label(entry)}: {text}")

    def tick(self, entries: Sequence[records.Entry]) -> None:
        """Learn of migrations that were planned again, and answer Ctrl-C."""
        self._states.update((one.id, one.state) for one in entries)
        while self._told < min(self.presses, len(ANSWERS)):
            self.say(ANSWERS[self._told])
            self._told += 1

    def say(self, text: str) -> None:
        """Write one line."""
        print(" ".join(text.split()), file=self._stream, flush=True)

    def label(self, entry: records.Entry) -> str:
        """Write a migration for people."""
        name = self._names.get(entry.instance, entry.instance)
        return f"{name}: {entry.source} -> {entry.dest}"

    def close(self) -> None:
        """Leave the stream as it was found."""


class Live(Lines):
    """The lines, and below them what runs now."""

    def __init__(
        self,
        stream: TextIO,
        facts: cloud.Snapshot,
        entries: Sequence[records.Entry],
        rate: Rate,
    ) -> None:
        super().__init__(stream, facts, entries, rate)
        import tqdm

        self._write = tqdm.tqdm.write
        self._copied: dict[int, base.Progress] = {}
        total = len(entries)
        self._running = [self._bar(i, bar_format="{desc}") for i in range(min(LINES, total))]
        self._all = self._bar(
            len(self._running),
            total=total,
            bar_format="{n_fmt}/{total_fmt} |{bar:30}| {desc}",
        )
        self._show_all()

    def _bar(self, position: int, **options: Any) -> Any:
        import tqdm

        return tqdm.tqdm(
            file=self._stream, position=position, leave=False, dynamic_ncols=True, **options
        )

    def changed(self, entry: records.Entry) -> None:
        """Say what it has come to, and draw how far all of them are."""
        super().changed(entry)
        self._show_all()

    def progress(self, entry: records.Entry, done: base.Progress) -> None:
        """Keep how far it is."""
        self._copied[entry.id] = done

    def tick(self, entries: Sequence[records.Entry]) -> None:
        """Draw those in flight, the oldest above."""
        super().tick(entries)
        self._all.total = len(self._states)
        flying = [one for one in entries if one.state in states.IN_FLIGHT]
        flying.sort(key=lambda one: one.requested_at or 0.0)
        for i, line in enumerate(self._running):
            text = ""
            if i == len(self._running) - 1 and len(flying) > len(self._running):
                text = f"  and {len(flying) - i} more"
            elif i < len(flying):
                text = "  " + self._text(flying[i])
            line.set_description_str(text)
        self._show_all()

    def _text(self, entry: records.Entry) -> str:
        """Write state, bytes and the time that is left of a migration."""
        label = f"{entry.key} {self.label(entry)}"
        done = self._copied.get(entry.id)
        if entry.state != states.RUNNING or done is None or not done.total:
            return f"{entry.state.lower():9} {label}"
        share = (done.total - done.remaining) / done.total
        copied, total = (done.total - done.remaining) / GIB, done.total / GIB
        text = f"{share:4.0%} {label}, {copied:.1f} of {total:.1f} GiB"
        left = self._left_s(entry, share)
        return text if left is None else f"{text}, about {left:.0f} s left"

    def _left_s(self, entry: records.Entry, share: float) -> float | None:
        if entry.predicted_s is None:
            return None
        return max(0.0, entry.predicted_s * (1 - share))

    def _show_all(self) -> None:
        self._all.n = self._done
        self._all.set_description_str(f"confirmed, {self._rate.name} {self._rate.value:.4f}")

    def say(self, text: str) -> None:
        """Write one line above what runs."""
        self._write(" ".join(text.split()), file=self._stream)

    def close(self) -> None:
        """Wipe what was drawn."""
        for bar in (self._all, *reversed(self._running)):
            bar.close()
        # The lowest line leaves the cursor at its end.
        self._stream.write("\r")

# SPDX-License-Identifier: Apache-2.0
"""Days of a cloud in memory: instances come and go, and a policy rebalances now and then.

Migrations of a plan are carried out in the moment of the plan, one after another, in the path's
order; a real cloud takes minutes for them, and what comes in these minutes is not simulated.
Whatever happens by chance is in the story, so the same story, policy and scheduler give the same
days, unless a clock limits the planner.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import heapq

from nova_rebalancer.model.objectives import base as objectives
from nova_rebalancer.plan import base
from nova_rebalancer.sim import arrivals
from nova_rebalancer.sim import books
from nova_rebalancer.sim import kinds
from nova_rebalancer.sim import policy as policies
from nova_rebalancer.sim import scheduler

SAMPLE_S = 3600.0
"""Between two points of a series."""


@dataclasses.dataclass(slots=True)
class Counts:
    """What happened so far."""

    boots: int = 0
    refused: int = 0
    refused_cores: int = 0
    resizes: int = 0
    refused_resizes: int = 0
    departures: int = 0
    migrations: int = 0
    moved_mib: int = 0
    dropped: int = 0
    """Migrations of a plan that did not fit when their turn came."""
    refused_by_kind: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    def copy(self) -> "Counts":
        """Return counts that can be changed without changing these."""
        return dataclasses.replace(self, refused_by_kind=collections.Counter(self.refused_by_kind))


class Days:
    """A cloud and its story, at ``now_s``."""

    def __init__(self, cloud: kinds.Kinds, story: arrivals.Story, rule: str) -> None:
        self.now_s = 0.0
        self.books = books.Books(cloud)
        self.counts = Counts()
        self.ends_s = dict(story.ends_s)
        self.moved_s: dict[str, float] = {}
        self._story = story
        self._rule = rule
        self._next = 0
        self._ends = [(end_s, name) for name, end_s in story.ends_s.items()]
        heapq.heapify(self._ends)

    def copy(self) -> "Days":
        """Return days that can go on in another way."""
        new = object.__new__(Days)
        new.now_s, new._story, new._rule, new._next = (
            self.now_s, self._story, self._rule, self._next,
        )  # fmt: skip
        new.books, new.counts = self.books.copy(), self.counts.copy()
        new._ends, new.ends_s = list(self._ends), dict(self.ends_s)
        new.moved_s = dict(self.moved_s)
        return new

    def advance(self, until_s: float) -> None:
        """Let everything happen up to and at ``until_s``; what ends makes room before a boot."""
        boots = self._story.boots
        while True:
            boot_s = boots[self._next].at_s if self._next < len(boots) else float("inf")
            end_s = self._ends[0][0] if self._ends else float("inf")
            if min(boot_s, end_s) > until_s:
                break
            if end_s <= boot_s:
                _, name = heapq.heappop(self._ends)
                self._depart(name)
            else:
                self._arrive(boots[self._next])
                self._next += 1
        self.now_s = until_s

    def _depart(self, name: str) -> None:
        del self.ends_s[name]
        self.moved_s.pop(name, None)
        self.books.remove(name)
        self.counts.departures += 1

    def _arrive(self, boot: arrivals.Boot) -> None:
        if boot.lifetime_s is None:
            self._resize(boot)
            return
        counts = self.counts
        counts.boots += 1
        spot = None
        if boot.name not in self.books.residents:
            spot = scheduler.choose(self.books, boot.kind, boot.group, self._rule)
        if spot is None:
            cloud = self.books.kinds
            counts.refused += 1
            counts.refused_cores += cloud.cores[boot.kind]
            counts.refused_by_kind[cloud.names[boot.kind]] += 1
            return
        self.books.add(boot.name, boot.kind, spot, boot.group)
        self.ends_s[boot.name] = boot.at_s + boot.lifetime_s
        heapq.heappush(self._ends, (boot.at_s + boot.lifetime_s, boot.name))

    def _resize(self, boot: arrivals.Boot) -> None:
        """Give an instance another size where the scheduler finds room beside what it has now."""
        here = self.books.residents.get(boot.name)
        if here is None:
            return
        self.counts.resizes += 1
        spot = scheduler.choose(self.books, boot.kind, here.group, self._rule)
        if spot is None:
            self.counts.refused_resizes += 1
            return
        self.books.remove(boot.name)
        self.books.add(boot.name, boot.kind, spot, here.group)

    def carry_out(self, decided: policies.Decided) -> int:
        """Migrate one instance after another; return how many migrations were confirmed.

        What is not there any more or does not fit is left where it is, and counted as dropped.
        """
        start, confirmed = decided.start, 0
        for hop in decided.hops:
            name = start.instances[hop.v]
            there = self.books.residents.get(name)
            if (
                there is None
                or there.spot.host != hop.source
                or not self.books.move(name, hop.dest, hop.dest_cells)
            ):
                self.counts.dropped += 1
                continue
            confirmed += 1
            self.moved_s[name] = self.now_s
            self.counts.migrations += 1
            self.counts.moved_mib += self.books.kinds.memory_mib[there.kind]
        return confirmed


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The cloud at one moment; counts are since the start."""

    at_s: float
    goal: float
    active_hosts: int
    instances: int
    free_cores: int
    boots: int
    refused: int
    refused_cores: int
    migrations: int
    moved_gib: float


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A plan as it was carried out; values are of the policy's own goal."""

    at_s: float
    before: float
    after: float
    migrations: int
    gib: float


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """The days under one policy; ``until_s`` is short of the end where it was interrupted."""

    policy: policies.Policy
    until_s: float
    counts: Counts
    samples: Sequence[Sample]
    plans: Sequence[Planned]
    half_life_s: float | None


def moments(policy: policies.Policy, from_s: float, until_s: float) -> Iterator[tuple[float, bool]]:
    """Yield when to look, in order, and whether to plan then; always at both ends."""
    plans = set(policy.times_s(from_s, until_s))
    count = int((until_s - from_s) / SAMPLE_S)
    looks = {from_s + k * SAMPLE_S for k in range(count + 1)} | {until_s}
    for at_s in sorted(looks | plans):
        yield at_s, at_s in plans


def sample(days: Days, goal: objectives.Goal) -> Sample:
    """Look at the cloud."""
    there, start, counts = days.books, days.books.kinds.start, days.counts
    placement = there.placement()
    hosts = start.usable & (start.core >= 0)
    rows = start.row_of[hosts, start.core[hosts]]
    free = start.capacity[rows, start.core[hosts]] - there.used[rows, start.core[hosts]]
    return Sample(
        days.now_s,
        goal.evaluate(placement).value,
        len(set(placement.host_of.tolist())),
        len(there.residents),
        int(free.clip(min=0).sum()),
        counts.boots,
        counts.refused,
        counts.refused_cores,
        counts.migrations,
        counts.moved_mib / 1024,
    )


class Watch(base.Watch):
    """Hears how far the days are, too."""

    def reached(self, at_s: float) -> None:
        """Everything up to ``at_s`` has happened."""


def run(
    begun: Days,
    policy: policies.Policy,
    until_s: float,
    goal: objectives.Goal,
    watch: Watch,
    own_goal: objectives.Goal | None = None,
) -> Run:
    """Let the days go on under a policy, from where they are, until ``until_s``.

    Parameters
    ----------
    begun
        Is left as it is; counts begin anew.
    goal
        What the series shows, whatever the policy's own goal is.
    own_goal
        The policy's, to tell the half-life of its gain; None leaves that out.
    """
    days = begun.copy()
    days.counts = Counts()
    samples: list[Sample] = []
    plans: list[Planned] = []
    gains = Gains(own_goal) if own_goal is not None else None
    counts = Counts()
    for at_s, planning in moments(policy, days.now_s, until_s):
        if watch.stopped():
            break
        days.advance(at_s)
        if planning:
            ago_s = {name: at_s - moved_s for name, moved_s in days.moved_s.items()}
            decided = policies.decide(policy, days.books.snapshot(), watch, ago_s)
            if watch.stopped():
                break
            without = days.copy()
            moved_mib = days.counts.moved_mib
            count = days.carry_out(decided)
            gib = (days.counts.moved_mib - moved_mib) / 1024
            plans.append(Planned(at_s, decided.before, decided.after, count, gib))
            if gains is not None and count:
                gains.add(without, days)
        samples.append(sample(days, goal))
        # An interrupted plan comes after boots that no sample shows.
        counts = days.counts.copy()
        watch.reached(at_s)
    done_s = samples[-1].at_s if samples else begun.now_s
    half_life_s = None if gains is None else gains.half_life_s()
    return Run(policy, done_s, counts, samples, plans, half_life_s)


class Gains:
    """How the gain of a plan goes by: the cloud without it against the cloud with it.

    Both go on without further plans, hour by hour; the curves of all plans are added up, for one
    alone is too noisy to tell when half of it is gone.
    """

    HOURS = 72
    """How long a plan is followed."""

    def __init__(self, goal: objectives.Goal) -> None:
        self.curve = [0.0] * (self.HOURS + 1)
        self._goal = goal

    def add(self, without: Days, with_it: Days) -> None:
        """Follow both from now on; they are left as they are."""
        pair = (without.copy(), with_it.copy())
        for hour in range(self.HOURS + 1):
            values = []
            for days in pair:
                days.advance(with_it.now_s + hour * 3600.0)
                values.append(self._goal.evaluate(days.books.placement()).value)
            self.curve[hour] += values[0] - values[1]

    def half_life_s(self) -> float | None:
        """Return when half of the gain is gone, None without gain or when it lasts longer."""
        half = self.curve[0] / 2
        if half <= 0:
            return None
        for hour, value in enumerate(self.curve):
            if value <= half:
                before = self.curve[hour - 1]
                return 3600.0 * (hour - 1 + (before - half) / (before - value))
        return None

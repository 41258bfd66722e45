# SPDX-License-Identifier: Apache-2.0
"""Where each instance may ever be, and by which migrations it gets from there to there."""

import itertools

from nova_rebalancer.checker import case
from nova_rebalancer.checker import checks
from nova_rebalancer.checker import facts
from nova_rebalancer.checker import migratable
from nova_rebalancer.checker import options
from nova_rebalancer.checker import placing
from nova_rebalancer.checker import question


class Ways:
    """The rules of one question that hold whatever else is where; each is asked once.

    Attributes
    ----------
    settled
        Whether NUMA cells are as this checker has them; where Nova chooses them they are left out,
        so that more seems to fit than does.
    """

    def __init__(
        self, asked: question.Question, given: options.Options, kept: checks.Checks
    ) -> None:
        self.asked = asked
        self.cloud = asked.cloud
        self.settled = asked.cloud.document["numa_choice"] != "nova"
        self._given = given
        self._kept = kept
        self._hosts: dict[str, frozenset[str]] = {}
        self._movable: dict[str, bool] = {}

    def movable(self, name: str) -> bool:
        """Whether an instance may be migrated at all.

        Members of an affinity group are not: Nova sends one only to where members are, itself
        included.
        """
        if name not in self._movable:
            instance = self.cloud.instances[name]
            self._movable[name] = (
                not instance.together
                and any(
                    migratable.refusal(self.cloud, self._given, instance, method) is None
                    for method in migratable.METHODS
                )
                and name not in self._kept.stay
                and len(self.hosts(name)) > 1
            )
        return self._movable[name]

    def capacity(self, limit: facts.Limit) -> int:
        """Return the most that may be charged to a limit."""
        return self._kept.capacity(self.cloud, limit)

    def hosts(self, name: str) -> frozenset[str]:
        """Return the hosts that an instance may be on, and the one that it is on first."""
        if name not in self._hosts:
            home = self.cloud.placement[name].host
            entered = {one for one in self.cloud.hosts if self.enters(name, one)}
            self._hosts[name] = frozenset(entered | {home})
        return self._hosts[name]

    def enters(self, name: str, dest: str) -> bool:
        """Whether no rule keeps an instance from arriving on a host."""
        cloud, instance = self.cloud, self.cloud.instances[name]
        home, there = cloud.hosts[cloud.placement[name].host], cloud.hosts[dest]
        if instance.guests is not None and len(there.cells) < len(instance.guests):
            return False
        given = case.Case(cloud, self._given, instance, home, there)
        return placing.refused(given) is None

    def follows(self, source: str, dest: str) -> bool:
        """Whether anything migrates from one host to another."""
        hosts = self.cloud.hosts
        return placing.parted(self.cloud, self._given, hosts[source], hosts[dest]) is None

    def places(self, name: str, host: str) -> list[facts.Place]:
        """Return the ways to be on a host: one, or for each choice of NUMA cells one."""
        guests = self.cloud.instances[name].guests
        if guests is None or not self.settled:
            return [facts.Place(host, None)]
        cells = sorted(self.cloud.hosts[host].cells)
        found = [facts.Place(host, some) for some in itertools.permutations(cells, len(guests))]
        start = self.start(name)
        if start.host == host and start not in found:
            found.append(start)
        return found

    def start(self, name: str) -> facts.Place:
        """Return where an instance is first."""
        place = self.cloud.placement[name]
        return place if self.settled else facts.Place(place.host, None)

    def goals(self, name: str) -> list[facts.Place]:
        """Return where an instance may be in the end; several where any NUMA cells will do."""
        goal, start = self.asked.target[name], self.start(name)
        if goal.host == start.host:
            return [start]
        places = self.places(name, goal.host)
        return [one for one in places if goal.cells in (None, one.cells) or not self.settled]

    def charges(self, name: str, place: facts.Place) -> dict[facts.Limit, int]:
        """Return what an instance charges at a place, conflicts included."""
        charged = facts.charges(self.cloud, name, place)
        for other in self.cloud.conflicts.get(name, ()):
            one, two = sorted((name, other))
            charged["pair", one, two, place.host] = 1
        return charged

    def fixed(self) -> dict[facts.Limit, int]:
        """Return what is charged whatever moves: by nobody, and by what never moves."""
        total = dict(self.cloud.fixed)
        for name, hosts in self.cloud.also_at.items():
            for other in self.cloud.conflicts.get(name, ()):
                one, two = sorted((name, other))
                for host in hosts:
                    total["pair", one, two, host] = total.get(("pair", one, two, host), 0) + 1
        for name in self.cloud.instances:
            if not self.movable(name):
                for limit, amount in self.charges(name, self.start(name)).items():
                    total[limit] = total.get(limit, 0) + amount
        return total

    def ceiling(self) -> dict[facts.Limit, int]:
        """Return how much is ever charged of what is overfull at the start.

        Nothing arrives on it while it is, so never more than at first.
        """
        total: dict[facts.Limit, int] = dict(self.cloud.fixed)
        for name in self.cloud.instances:
            for limit, amount in self.charges(name, self.start(name)).items():
                total[limit] = total.get(limit, 0) + amount
        return {limit: amount for limit, amount in total.items() if amount > self.capacity(limit)}

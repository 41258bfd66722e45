# SPDX-License-Identifier: Apache-2.0
"""What a check is: something that must hold, beside the rules that always do.

A check is asked once, about the facts of one snapshot, and narrows the question: what may be
moved, where to, how full a host may get, who must not be together.  Planners, bounds and the
path-finder then answer the narrower question, and know nothing of checks.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Protocol

from nova_rebalancer import exceptions
from nova_rebalancer.model import cloud


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says; ``why`` is one sentence for people, ``params`` its values for programs."""

    allowed: bool
    why: str = ""
    params: Mapping[str, str | int | float | None] = dataclasses.field(default_factory=dict)


PASS = Verdict(True)


def refuse(why: str, **params: str | float | None) -> Verdict:
    """Return a verdict that forbids it."""
    return Verdict(False, why, params)


class Check:
    """A check that lets everything pass: the base of others, which say what they do not."""

    def instance(self, instance: cloud.Instance) -> Verdict:
        """Say whether an instance may be moved now."""
        return PASS

    def arrival(self, instance: cloud.Instance, dest: cloud.Host) -> Verdict:
        """Say whether an instance may be sent to ``dest``, whatever else is there."""
        return PASS

    def most(self, resource: str, inventory: cloud.Inventory) -> int:
        """Return how much of ``resource`` may be charged after an arrival.

        It is asked of each inventory of a host or a shared pool; more than Placement's capacity
        counts as that.  What is fuller already receives nothing and may stay so.
        """
        return inventory.capacity

    def apart(self) -> Iterable[tuple[str, str]]:
        """Return pairs of ids of instances of which none may come to the host of the other."""
        return ()


class Make(Protocol):
    """What an entry point of ``nova_rebalancer.checks`` is."""

    def __call__(
        self, snapshot: cloud.Snapshot, value: str | None, options: Mapping[str, Any]
    ) -> Check:
        """Return the check for one snapshot.

        Parameters
        ----------
        value
            What the operator wrote behind the equals sign, None without one.
        options
            The options that the plan document records.

        Raises
        ------
        ValueError
            If ``value`` is none of this check; the text says what is.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """A check that was chosen for a plan, by its ``name`` and value."""

    name: str
    value: str | None
    make: Make
    options: Mapping[str, Any]

    def of(self, snapshot: cloud.Snapshot) -> Check:
        """Return the check for one snapshot.

        Raises
        ------
        UsageError
            If its value is none of it.
        """
        try:
            return self.make(snapshot, self.value, self.options)
        except ValueError as error:
            text = self.name if self.value is None else f"{self.name}={self.value}"
            raise exceptions.UsageError(f"--check {text}: {error}") from None


def amounts(text: str | None, form: str, least: float, most: float) -> dict[str | None, float]:
    """Read ``NUMBER``, or ``CLASS:NUMBER`` for single resource classes, several at commas.

    Returns
    -------
    dict
        By resource class; None stands for all that are not named.

    Raises
    ------
    ValueError
        If it is not of that form or a number is not from ``least`` to below ``most``.
    """
    found: dict[str | None, float] = {}
    for part in (text or "").split(","):
        resource, colon, number = part.strip().rpartition(":")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"write {form}, or CLASS:{form} with commas between") from None
        if not least <= value < most or (colon and not resource):
            raise ValueError(
                f"{part.strip()} is not a number from {least:g} to below {most:g}, nor CLASS:NUMBER"
            )
        found[resource or None] = value
    return found

# SPDX-License-Identifier: Apache-2.0
"""What a live migration copies while its instance goes on writing: pre-copy.

Memory is copied in rounds.  The first copies all of it, each further one what was written during
the round before, until the rest can be copied while the instance stands still.
"""

import dataclasses
import math

from nova_rebalancer.model import cloud

DIRTY = "MEMORY_DIRTY_MIBPS"
"""Measured use of this name is the memory in MiB that an instance writes in a second."""

LEAST_GIB = 2
"""Nova counts smaller instances as large as this (nova ``virt/libvirt/driver.py``,
``_live_migration_data_gb``)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """How memory is copied.

    Parameters
    ----------
    rate_mibps
        MiB that one migration copies in a second.
    downtime_s
        Longest that an instance may stand still, Nova's ``live_migration_downtime``.
    timeout_s
        After how long Nova gives up, for each GiB, its ``live_migration_completion_timeout``; 0:
        never.
    """

    rate_mibps: float = 1000.0
    downtime_s: float = 0.5
    timeout_s: float = 800.0

    def __post_init__(self) -> None:
        for name in ("rate_mibps", "downtime_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be more than 0, not {value}")
        if not 0 <= self.timeout_s < math.inf:
            raise ValueError(f"timeout_s must be 0 or more, not {self.timeout_s}")

    def limit_s(self, memory_mib: float) -> float:
        """Return after how long Nova gives up an instance of this memory."""
        if not self.timeout_s:
            return math.inf
        return self.timeout_s * max(LEAST_GIB, memory_mib / 1024)


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """What one migration copies.

    Attributes
    ----------
    rounds
        Rounds of copying, the last one with the instance standing still.
    seconds, sent_mib
        Time and amount of all rounds; infinite if they never end.
    downtime_s
        Time of the last round.
    """

    rounds: int
    seconds: float
    sent_mib: float
    downtime_s: float


ENDLESS = Copy(0, math.inf, math.inf, math.inf)


def copy(memory_mib: float, dirty_mibps: float, link: Link) -> Copy:
    """Return what is copied of an instance that writes ``dirty_mibps`` all the time.

    It is ENDLESS if the instance writes at least as fast as it is copied and does not fit into the
    downtime at once.

    References
    ----------
    Clark et al. (2005), Live migration of virtual machines; Liu et al. (2011): with r the dirty
    rate over the rate of copying, round i copies M r^i, and n rounds before the last take
    M (1 - r^(n+1)) / (1 - r) in all.
    """
    rest, most = memory_mib, link.rate_mibps * link.downtime_s
    ratio = dirty_mibps / link.rate_mibps
    if rest > most and ratio >= 1:
        return ENDLESS
    n = 0
    if rest > most:
        n = 1 if ratio == 0 else math.ceil(math.log(most / memory_mib) / math.log(ratio))
        # The logarithms may be off by a rounding.
        while n > 1 and memory_mib * ratio ** (n - 1) <= most:
            n -= 1
        while memory_mib * ratio**n > most:
            n += 1
        rest = memory_mib * ratio**n
        sent = memory_mib * (1 - ratio ** (n + 1)) / (1 - ratio)
    else:
        sent = memory_mib
    return Copy(n + 1, sent / link.rate_mibps, sent, rest / link.rate_mibps)


def endless(memory_mib: float, dirty_mibps: float, link: Link) -> str | None:
    """Say why a live migration does not come to an end by itself, None if it does."""
    found = copy(memory_mib, dirty_mibps, link)
    if found is ENDLESS:
        return (
            f"writes {dirty_mibps:g} MiB/s of memory and is copied at {link.rate_mibps:g} MiB/s: "
            "copying never ends"
        )
    limit_s = link.limit_s(memory_mib)
    if found.seconds > limit_s:
        return (
            f"writes {dirty_mibps:g} MiB/s of memory: copying takes {found.seconds:.0f} s, and "
            f"Nova gives up after {limit_s:.0f} s"
        )
    return None


def dirty_mibps(instance: cloud.Instance, default: float) -> float:
    """Return what an instance was measured to write, ``default`` where nobody measured it."""
    measured = instance.usage.get(DIRTY)
    return default if measured is None else measured.mean


def rate_mibps(host: cloud.Host, default: float) -> float:
    """Return how fast one migration from ``host`` copies: not faster than its migration link."""
    fact = host.migration_mibps
    try:
        told = float(fact.value) if fact is not None and fact.value is not None else math.inf
    except ValueError:
        return default
    return min(default, told) if told > 0 else default

# SPDX-License-Identifier: Apache-2.0
"""Which rules together leave no way, and which of them to lift for there to be one.

A way, such as a host for an instance, is barred by the rules that refuse it.  Rules *conflict*
when each way is barred by one of them at least; a conflict is minimal when no part of it is one.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable

Rules = frozenset[str]


def smallest(barred: Collection[Rules]) -> tuple[str, ...]:
    """Return a minimal conflict: rules of which each of the ways ``barred`` meets one.

    The rules that bar most ways are taken first, and those that turn out to be needless are
    dropped again, the last ones first; so it is small, and no part of it is a conflict, but there
    may be a smaller one.  Empty when a way is open.
    """
    if not all(barred):
        return ()
    left, taken = list(barred), []
    while left:
        counts = {rule: sum(rule in way for way in left) for rule in frozenset[str]().union(*left)}
        most = min(counts, key=lambda rule: (-counts[rule], rule))
        taken.append(most)
        left = [way for way in left if most not in way]

    def conflict(rules: Rules) -> bool:
        return all(not way.isdisjoint(rules) for way in barred)

    return without_needless(reversed(taken), conflict)


def without_needless(rules: Iterable[str], enough: Callable[[Rules], bool]) -> tuple[str, ...]:
    """Drop each of ``rules``, in order, that ``enough`` does without; the rest, sorted.

    Where more rules are never less than enough, each of the rest is needed.
    """
    ordered = list(rules)
    kept = frozenset(ordered)
    for rule in ordered:
        if enough(kept - {rule}):
            kept -= {rule}
    return tuple(sorted(kept))


def least(barred: Collection[Rules], easy: Collection[str] = ()) -> tuple[str, ...]:
    """Return the fewest rules that leave a way open when they are lifted.

    Of as few those are taken with most rules that are ``easy`` to lift.
    """

    def effort(way: Rules) -> tuple[int, int, list[str]]:
        return len(way), len(way.difference(easy)), sorted(way)

    if not barred:
        return ()
    fewest = min(barred, key=effort)
    return tuple(sorted(fewest))

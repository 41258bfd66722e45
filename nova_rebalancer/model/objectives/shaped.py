# SPDX-License-Identifier: Apache-2.0
"""Which options shape which goal: one that shapes nothing is refused, not dropped."""

from nova_rebalancer import exceptions
from nova_rebalancer.model.objectives import combined

OPTIONS = {
    "fragmentation": ("fragment-cores",),
    "flavor-fit": ("flavor",),
    "consolidate": ("headroom", "spare-hosts"),
    "balance": ("balance-resource", "balance-on"),
    "drain": ("drain",),
    "repair": (),
    "power": ("balance-on",),
    "thermal": ("balance-on",),
    "sharing": (),
    "locality": (),
}
"""Of our goals; what may be said on the command line."""


def check(goal: str, option: str, said: str) -> None:
    """See that ``option`` shapes a goal of ``goal``; ``said`` is what was written of it.

    Raises
    ------
    UsageError
        If it shapes none, or ``goal`` cannot be read.
    """
    names = [name for wish in combined.parse(goal) for _, name in wish.parts]
    # A goal of somebody else may be shaped by any.
    if any(option in OPTIONS.get(name, (option,)) for name in names):
        return
    users = " or ".join(name for name, options in OPTIONS.items() if option in options)
    hint = f"; say --goal drain,{goal} to empty it first" if option == "drain" else ""
    raise exceptions.UsageError(f"{said}: it is for the goal {users}; the goal is {goal}{hint}")

# SPDX-License-Identifier: Apache-2.0
"""Proofs that no path leads to a target, in a form that code which did not find them can verify.

All names are the state's ids of instances and hosts.

``{"kind": "endpoint", "instance": ID, "host": HOST, "reason": CODE}``
    The target wants an instance where no rule ever lets it be, or wants one to move that must not
    be migrated.
``{"kind": "relaxation", "side": "initial" | "final", "stuck": [ID, ...]}``
    Of ``stuck`` none can ever move, even if all other instances that can be migrated were gone:
    each fits on none of the hosts that it may be on, beside the others of ``stuck`` and what never
    moves, all where the initial placement (or the final one: moves can be undone) has them.  One of
    them at least is not where the other placement has it.
``{"kind": "component", "side": "initial" | "final", "hosts": [HOST, ...], "placements": N}``
    The hosts are a zone: instances that may be on them and can be migrated may be on no others.
    From the initial (or final) placement of the zone's instances exactly ``placements`` placements
    are reached by sane migrations, itself included, and the other end is not among them.
"""

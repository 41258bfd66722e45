# SPDX-License-Identifier: Apache-2.0
"""What follows from a migration that did not arrive, as data."""

from collections.abc import Mapping
import dataclasses

from nova_rebalancer.execute import base


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What one code of a failure means.

    Attributes
    ----------
    about
        What it is, for the documentation.
    counts
        Whether it counts for the circuit breaker.
    blames
        The ends it speaks against: of "source" and "dest".
    learns
        Whether the instance is taken to be not migratable for a while.
    stops
        Whether the run stops at once.
    bans
        Whether the instance is not sent to that destination again in this run.
    """

    about: str
    counts: bool = False
    blames: tuple[str, ...] = ()
    learns: bool = False
    stops: bool = False
    bans: bool = True


KINDS: Mapping[str, Kind] = {
    "gone": Kind("The instance was deleted.", bans=False),
    "refused": Kind(
        "Nova, or one of the hosts, refused it before anything was copied.",
        counts=True,
        blames=("dest",),
    ),
    "failed": Kind(
        "It failed on the way; the instance goes on at the source.",
        counts=True,
        blames=("source", "dest"),
    ),
    "in_error": Kind(
        "It failed and left the instance in status ERROR: a person has to look at it.",
        counts=True,
        blames=("source", "dest"),
        learns=True,
    ),
    "arrived_badly": Kind(
        "Nova calls it failed, yet the instance is on another host than it was.",
        counts=True,
        blames=("dest",),
    ),
    "aborted": Kind(
        "It was over its time limit, or a person ended the run, and we gave it up.", counts=True
    ),
    "kept": Kind(
        "It was locked or opted out in the moment it was asked for, and we gave it up.", bans=False
    ),
    "aborted_by_others": Kind("Somebody else gave it up: left alone.", learns=True),
    "never": Kind("Nova does not migrate this instance at all.", learns=True),
    "forbidden": Kind("The account may not do that.", stops=True, bans=False),
}


def kind(code: str | None) -> Kind:
    """Return what a code means; of one that another version wrote, what "failed" means."""
    return KINDS.get(code or "failed", KINDS["failed"])


def of_refusal(error: base.RefusedError, text: str) -> str | None:
    """Return the code of an answer that refuses a request; None: it may be asked again later."""
    if error.status == 404:
        # Nova answers 404 as well to who may not see the instance, but we have just looked at it.
        return "gone"
    if error.status in (401, 403):
        return "forbidden"
    if error.status == 400:
        # An unknown or unusable host, or an instance of a kind that does not migrate (nova
        # api/openstack/compute/migrate_server.py).
        return "never" if "not supported" in text or "cannot be" in text else "refused"
    if error.status == 409 and "not supported" in text:
        return "never"
    return None

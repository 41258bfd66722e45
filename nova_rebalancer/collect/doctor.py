# SPDX-License-Identifier: Apache-2.0
"""What may keep a plan from being right: what the account cannot see, and what is out of order.

Each check is a function of the case that yields findings; ``CHECKS`` has their order.  Rights are
judged by what is there, not by statuses: Nova hides things from an account without a word.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import time
from typing import Any

from nova_rebalancer import exceptions
from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import consistency
from nova_rebalancer.collect import facts
from nova_rebalancer.collect import notifications
from nova_rebalancer.collect import nova
from nova_rebalancer.collect import numa
from nova_rebalancer.collect import placement
from nova_rebalancer.collect import reader
from nova_rebalancer.collect import reading
from nova_rebalancer.rest import client

OK = "ok"
WARNING = "warning"
ERROR = "error"
UNKNOWN = "unknown"

NAMED = 5
"""Hosts or servers named in one finding at most."""

SKEW_WARNING_S = 2.0
"""The overlap with which changes are asked for; clocks further apart could lose some."""

SKEW_ERROR_S = 30.0

EVERYTHING = (
    ("servers in short", "compute", "/servers?all_tenants=1&limit=1", nova.VERSION),
    ("servers", "compute", "/servers/detail?all_tenants=1&limit=1", nova.VERSION),
    ("hypervisors", "compute", "/os-hypervisors/detail?limit=1", nova.HYPERVISORS),
    ("services", "compute", "/os-services?binary=nova-compute", nova.VERSION),
    ("aggregates", "compute", "/os-aggregates", nova.VERSION),
    ("server groups", "compute", "/os-server-groups?limit=1", nova.VERSION),
    ("migrations", "compute", "/os-migrations?limit=1", nova.VERSION),
    ("resource providers", "placement", "/resource_providers", placement.BEST),
)
"""What a reading needs: name, service, the smallest request that shows whether it is given, and
the microversion for it."""

FEATURES = (
    ("compute", nova.VERSION, ERROR, "no plan is made: server groups could be hidden", "Epoxy"),
    ("placement", placement.LEAST, ERROR, "no plan is made: providers have no trees", "Rocky"),
    (
        "placement",
        consistency.TYPED,
        WARNING,
        "left-over allocations of migrations are told as those of unknown consumers",
        "Xena",
    ),
)
"""Service, the microversion a feature needs, what its lack is, the lack, and the release."""

REPORTED = {
    consistency.USAGE: (
        ERROR,
        "it cannot be said how full these hosts are",
        "run it again; if it stays, look into Placement's log",
    ),
    consistency.UNCHARGED: (
        ERROR,
        "the hosts look emptier than they are, for Nova's scheduler as well",
        "nova-manage placement heal_allocations --instance ID",
    ),
    consistency.ELSEWHERE: (
        ERROR,
        "one host looks emptier than it is and another one fuller",
        "openstack resource provider allocation set for each",
    ),
    consistency.DOUBLED: (
        WARNING,
        "the other host has less room than it could",
        "wait for the evacuated host's nova-compute, else openstack resource provider allocation "
        "set with the server's own host alone",
    ),
    consistency.ENDED: (
        WARNING,
        "the hosts have less room than they could",
        "openstack resource provider allocation delete ID",
    ),
    consistency.NOBODY: (
        WARNING,
        "the hosts have less room than they could, or the account does not see these servers",
        "nova-manage placement audit --verbose, with --delete when it agrees",
    ),
}
"""By kind of disagreement: how bad it is, consequence and fix."""

POOL = "nova-rebalancer-doctor"
"""A queue of its own: in that of a running program it would take the program's messages."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One row of the report; consequence and fix are empty where all is well."""

    check: str
    result: str
    finding: str
    consequence: str = ""
    fix: str = ""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is to be compared with the cloud."""

    host_outgoing: int = 1
    """Migrations from one host at a time, as [path] host_outgoing has it."""
    told: facts.Facts | None = None
    """The facts file, if there is one."""
    transport_urls: Sequence[str] = ()
    """Of the message brokers to listen at."""
    listen_s: float = 5.0


@dataclasses.dataclass
class Case:
    """A cloud, what was read of it, and the snapshot made of that."""

    ask: client.Client
    options: Options
    progress: reader.Progress
    now: reading.Reading | None = None
    snapshot: dict[str, Any] = dataclasses.field(default_factory=dict)
    doubts: list[str] = dataclasses.field(default_factory=list)
    """Where the facts file and the cloud do not go together."""
    failure: str = ""
    """Why there is no reading."""

    def read(self) -> reading.Reading:
        """Return the reading.

        Raises
        ------
        CloudError
            If there is none.
        """
        if self.now is None:
            raise _Unread("the cloud could not be read")
        return self.now


class _Unread(exceptions.CloudError):
    """There is no reading to judge; why stands in a row of its own."""


def examine(ask: client.Client, options: Options, progress: reader.Progress) -> list[Finding]:
    """Run all checks; one that fails becomes a finding.

    Nothing is changed in the cloud.  With ``transport_urls`` a queue is made at each broker and
    taken away again.
    """
    case = Case(ask, options, progress)
    found = _run("credentials", credentials, case)
    if any(one.result == ERROR for one in found):
        # Nobody would answer.
        return found
    try:
        case.now = reader.Reader(ask, progress).read()
        cloud = ask.cloud
        # What that warns of, the checks tell in their own words.
        case.snapshot = assemble.document(
            case.now, cloud.name, cloud.region, None, lambda text: None
        )
        if options.told is not None:
            case.doubts = facts.apply(case.snapshot, options.told)
    except exceptions.CloudError as error:
        case.failure = str(error)
        # The rest of the checks still has something to ask.
        case.ask = ask.renewed()
    for name, check in CHECKS.items():
        found += _run(name, check, case)
    return found


def _run(name: str, check: "Check", case: Case) -> list[Finding]:
    found = []
    try:
        for one in check(case):
            found.append(one)
    except _Unread as error:
        fix = "mend what keeps it from being read"
        found.append(Finding(name, UNKNOWN, str(error), "this was not looked at", fix))
    except client.Refused as error:
        found.append(Finding(name, ERROR, str(error), "this was not looked at", _right(error)))
    except exceptions.RebalancerError as error:
        found.append(Finding(name, UNKNOWN, str(error), "this was not looked at", "run it again"))
    return found


def _right(error: client.Refused) -> str:
    if error.status in (401, 403):
        return "give the account the right; see the page Doctor of the documentation"
    return _look("the service")


def _look(service: str) -> str:
    return f"look at the log of {service} and at its endpoint: openstack catalog list"


def credentials(case: Case) -> Iterator[Finding]:
    """Check that the cloud lets us in, and as whom."""
    try:
        case.ask.identity()
        roles = case.ask.account().roles
    except exceptions.CloudError as error:
        yield Finding(
            "credentials",
            ERROR,
            str(error),
            "nothing can be read",
            "openstack --os-cloud NAME token issue shows whether it is the account",
        )
        return
    text = f"accepted; roles: {', '.join(roles) or 'the token tells none'}"
    if "admin" in roles:
        yield Finding("credentials", OK, text)
    else:
        yield Finding(
            "credentials",
            WARNING,
            text,
            "good for plan; Nova lets no one but an administrator migrate servers of others",
            "use an account with the role admin for apply",
        )


def microversions(case: Case) -> Iterator[Finding]:
    """Check which features the releases of Nova and Placement have."""
    for service in ("compute", "placement"):
        newest = case.ask.newest(service)
        lost = [one for one in FEATURES if one[0] == service and newest < one[1]]
        text = f"{service} has microversions up to {client.dotted(newest)}"
        if not lost:
            yield Finding("microversions", OK, text)
        for _, version, result, consequence, release in lost:
            yield Finding(
                "microversions",
                result,
                f"{text}; {client.dotted(version)} is missing",
                consequence,
                f"upgrade to {release} or later",
            )


def lists(case: Case) -> Iterator[Finding]:
    """Check that everything can be listed, of all projects."""
    if case.now is None:
        yield Finding(
            "lists",
            ERROR,
            case.failure,
            "there is no snapshot and no plan",
            "see the other findings, if there are none the service's log",
        )
        for name, service, path, version in EVERYTHING:
            yield from _probe(name, service, path, version)(case)
        return
    now = case.now
    projects = {server["project"] for server in now.servers.values()}
    counts = (
        f"{len(now.servers)} servers of {len(projects)} projects, {len(now.hypervisors)} "
        f"hypervisors, {len(now.services)} services, {len(now.aggregates)} aggregates, "
        f"{len(now.groups)} server groups, {len(now.flavors)} flavors, {len(now.providers)} "
        "resource providers"
    )
    strangers = {
        one.subject for one in consistency.against_nova(now) if one.kind == consistency.NOBODY
    }
    own = case.ask.account().project
    if not projects - {own} and len(strangers) > len(now.servers):
        yield Finding(
            "lists",
            ERROR,
            f"{counts}; Placement charges {len(strangers)} consumers that Nova does not show",
            "servers of other projects are not visible: hosts look full of load that cannot move",
            "let the account list all projects (os_compute_api:servers:detail:get_all_tenants)",
        )
    elif not projects - {own}:
        yield Finding(
            "lists",
            UNKNOWN,
            f"{counts}; no server of another project",
            "either there is none, or the account does not see it",
            "compare with: openstack server list --all-projects, as an administrator",
        )
    else:
        yield Finding("lists", OK, counts)
    if not now.hypervisors:
        yield Finding(
            "lists",
            ERROR,
            "Nova lists no hypervisor",
            "there is nothing to plan",
            "nova-manage cell_v2 discover_hosts, if there are computes",
        )


def _probe(name: str, service: str, path: str, version: client.Version) -> "Check":
    def probe(case: Case) -> Iterator[Finding]:
        try:
            case.ask.get(service, path, case.ask.version(service, version))
        except exceptions.CloudError as error:
            fix = _right(error) if isinstance(error, client.Refused) else _look(service)
            yield Finding("lists", ERROR, f"{name}: {error}", "there is no snapshot", fix)
        else:
            yield Finding("lists", OK, f"{name} are listed")

    return probe


def fields(case: Case) -> Iterator[Finding]:
    """Check that servers are shown whole: Nova leaves out what the account may not see."""
    version = case.ask.version("compute", nova.VERSION)
    answer = case.ask.get("compute", "/servers/detail?all_tenants=1&limit=20", version)
    shown = [one for one in answer["servers"] if one.get("status") != "UNKNOWN"]
    if not shown:
        yield Finding("fields", UNKNOWN, "there is no server to look at")
        return
    hidden = False
    if not any("OS-EXT-SRV-ATTR:host" in one for one in shown):
        hidden = True
        yield Finding(
            "fields",
            ERROR,
            "servers are shown without their hosts",
            "there is nothing to plan",
            "allow os_compute_api:os-extended-server-attributes",
        )
    if not any("extra_specs" in (one.get("flavor") or {}) for one in shown):
        hidden = True
        yield Finding(
            "fields",
            ERROR,
            "servers are shown without the extra specs of their flavors",
            "servers with NUMA topologies and required traits would be planned as if without",
            "allow os_compute_api:servers:show:flavor-extra-specs",
        )
    if not hidden:
        yield Finding("fields", OK, "servers are shown with hosts and extra specs")


def groups(case: Case) -> Iterator[Finding]:
    """Check that all server groups are listed: those that servers name must be there."""
    now = case.read()
    for lack in now.lacks:
        if lack.what == "server groups":
            yield Finding(
                "server groups",
                ERROR,
                lack.reason,
                "no plan is made: it could break rules it does not know",
                "use the role admin, or an administrator's application credential for GET alone",
            )
            return
    yield Finding("server groups", OK, f"{len(now.groups)} are listed")


def ports(case: Case) -> Iterator[Finding]:
    """Check that the ports of all projects are visible."""
    now = case.read()
    networked = sum(1 for server in now.servers.values() if server["addresses"])
    lacking = [lack.reason for lack in now.lacks if lack.what == "ports"]
    if lacking:
        yield Finding(
            "ports",
            ERROR,
            lacking[0],
            "no plan is made: servers with SR-IOV or vDPA ports cannot be told from others",
            "let the account list ports of all projects in Neutron (get_port)",
        )
    elif not networked:
        yield Finding("ports", OK, "no server has an address, so none has a special port")
    else:
        special = len(now.vnic_types or ())
        yield Finding(
            "ports", OK, f"{networked} servers have addresses, {special} have special ports"
        )


def cells(case: Case) -> Iterator[Finding]:
    """Check that no cell is down."""
    now = case.read()
    if now.dead_hosts or now.unreachable:
        yield Finding(
            "cells",
            ERROR,
            f"a cell does not answer; its hosts are {_some(now.dead_hosts)}",
            "its servers are missing from Nova's listings without a word, its hosts look empty",
            "heal the database of the cell; nova-manage cell_v2 list_cells names them",
        )
    else:
        yield Finding("cells", OK, "all that Nova knows of answer")


def hosts(case: Case) -> Iterator[Finding]:
    """Check which hosts are left out of every plan."""
    case.read()
    by_reason: dict[str, list[str]] = {}
    for one in case.snapshot["refused"]:
        by_reason.setdefault(one["reason"], []).append(one["host"])
    for reason, names in sorted(by_reason.items()):
        yield Finding(
            "hosts",
            WARNING,
            f"{_some(names)} left out: {reason}",
            "no server is moved from or to them",
            _mend(reason),
        )
    kept = len(case.snapshot["hosts"])
    if kept:
        yield Finding("hosts", OK, f"{kept} can be planned for")
    else:
        yield Finding(
            "hosts", ERROR, "none can be planned for", "there is no plan", "see the other rows"
        )


def _mend(reason: str) -> str:
    if "renamed" in reason:
        return "give nova-compute its old name back ([DEFAULT] host) or rename the provider"
    if "no inventory" in reason or "has no provider" in reason:
        return "start nova-compute there and look into its log: it reports the inventory"
    if "ambiguous" in reason:
        return "give each nova-compute a [DEFAULT] host of its own"
    if reason in assemble.REFUSED_TYPES.values():
        return "none; this program does not plan for them"
    return "see the other findings; nova-manage cell_v2 delete_host for a host that is gone"


def services(case: Case) -> Iterator[Finding]:
    """Check which compute services are down or disabled."""
    case.read()
    down = [one["service_host"] for one in case.snapshot["hosts"] if one["state"] == "down"]
    disabled = [
        f"{one['service_host']} ({one['disabled_reason'] or 'no reason given'})"
        for one in case.snapshot["hosts"]
        if one["status"] == "disabled" and one["state"] != "down"
    ]
    effect = "nothing is moved from or to them"
    if down:
        yield Finding(
            "services",
            WARNING,
            f"{_some(down)} down",
            effect,
            "start nova-compute there; openstack compute service list",
        )
    if disabled:
        yield Finding(
            "services",
            WARNING,
            f"{_some(disabled)} disabled",
            effect,
            "openstack compute service set --enable HOST nova-compute, when it is ready",
        )
    if not down and not disabled:
        yield Finding("services", OK, f"{len(case.snapshot['hosts'])} are enabled and up")


def clock(case: Case) -> Iterator[Finding]:
    """Check that the cloud's clock and ours agree."""
    skew = case.ask.skew_s
    if skew is None:
        yield Finding(
            "clock",
            UNKNOWN,
            "no answer has a Date",
            "changes could be missed",
            "see the other findings; a proxy must let the header Date through",
        )
        return
    # A Date has whole seconds, and the answer takes a while.
    text = f"the cloud's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} ours"
    if abs(skew) <= SKEW_WARNING_S:
        yield Finding("clock", OK, text)
        return
    yield Finding(
        "clock",
        ERROR if abs(skew) > SKEW_ERROR_S else WARNING,
        text,
        "times in plans and waits for services are off by that; tokens may be refused",
        "run NTP here and on the controllers",
    )


def allocations(case: Case) -> Iterator[Finding]:
    """Check Placement against itself and against Nova."""
    now = case.read()
    by_kind: dict[str, list[consistency.Disagreement]] = {}
    for one in consistency.check(case.ask, now, case.progress):
        by_kind.setdefault(one.kind, []).append(one)
    for kind in consistency.KINDS:
        if kind not in by_kind:
            continue
        result, consequence, fix = REPORTED[kind]
        found = by_kind[kind]
        texts = [f"{one.subject} {one.text}" for one in found]
        yield Finding("allocations", result, _some(texts, kind), consequence, fix)
    if not by_kind:
        yield Finding(
            "allocations",
            OK,
            f"Placement's sums agree for {len(now.providers)} providers, and with Nova",
        )


def topologies(case: Case) -> Iterator[Finding]:
    """Check that NUMA topologies of servers are shown, and NUMA cells of hosts are known."""
    now = case.read()
    asked = [
        name
        for name, server in now.servers.items()
        if server["host"] is not None and numa.asked(server)
    ]
    hidden = [name for name in asked if now.topologies.get(name, [None])[0] is None]
    if hidden:
        yield Finding(
            "numa",
            ERROR,
            f"{len(hidden)} of {len(asked)} servers with a NUMA topology do not show it",
            "it is not known which cells, pinned CPUs and pages they take",
            "use an account with the role admin: Nova shows others those of their project alone",
        )
    taken = {one["host"] for one in case.snapshot["instances"] if one["numa"]}
    blind = sorted(
        one["service_host"]
        for one in case.snapshot["hosts"]
        if one["id"] in taken and one["numa"]["provenance"] in ("unknown", "inferred")
    )
    if blind:
        yield Finding(
            "numa",
            WARNING,
            f"{_some(blind)} with NUMA servers, NUMA cells not known",
            "no server with a NUMA topology is moved to them; others are",
            "run tools/host-facts on them and give the file with --facts",
        )
    if not hidden and not blind:
        yield Finding("numa", OK, f"{len(asked)} servers have a NUMA topology; all is known")


def operator_facts(case: Case) -> Iterator[Finding]:
    """Check that the facts file and the cloud go together."""
    if case.options.told is None:
        return
    case.read()
    for doubt in case.doubts:
        yield Finding(
            "facts",
            WARNING,
            doubt,
            "what the file says of that is not used, or is wrong",
            f"correct {case.options.told.name}",
        )
    if not case.doubts:
        yield Finding("facts", OK, f"{case.options.told.name} goes together with the cloud")


def concurrency(case: Case) -> Iterator[Finding]:
    """Compare how many migrations leave a host at once with what we count on."""
    now = case.read()
    # Those that wait are "queued"; the later ones hold one of the places.
    leaving = collections.Counter(
        one.get("source_compute")
        for one in now.migrations.values()
        if one.get("migration_type") == "live-migration"
        and one.get("status") in ("preparing", "running", "post-migrating")
    )
    most = max(leaving.values(), default=0)
    ours = case.options.host_outgoing
    text = (
        f"[path] host_outgoing is {ours}; Nova does not tell max_concurrent_live_migrations "
        f"(default 1); running from one host right now: {most} at most"
    )
    if ours > max(1, most):
        yield Finding(
            "concurrency",
            WARNING,
            text,
            "the rest wait in Nova's queue, and plans promise times that are too short",
            "compare with nova.conf of the computes; 1 if it is not set there",
        )
    else:
        yield Finding("concurrency", OK, text)


def messages(case: Case) -> Iterator[Finding]:
    """Check which notifications come, where we were told to listen."""
    lost = "changes show only when the cloud is read again; plans are not less safe"
    if not case.options.transport_urls:
        yield Finding(
            "notifications",
            UNKNOWN,
            "Nova's API does not tell whether it sends them",
            lost,
            "give --transport-url, or look for notification_format (versioned or both) and "
            "[oslo_messaging_notifications] driver in nova.conf",
        )
        return
    for number, url in enumerate(case.options.transport_urls, 1):
        what = f"broker {number}"
        topics = (notifications.TOPIC, notifications.UNVERSIONED)
        try:
            listener = notifications.Listener(url, topics, POOL)
        except exceptions.UsageError as error:
            yield Finding("notifications", ERROR, f"{what}: {error}", lost, "correct the call")
            continue
        listener.start()
        try:
            ready = listener.wait(case.options.listen_s)
            end = time.monotonic() + case.options.listen_s
            while ready and not listener.versioned and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            listener.stop()
        heard = f"{listener.versioned} versioned, {listener.ignored} others"
        if not ready:
            yield Finding(
                "notifications",
                ERROR,
                f"{what}: no connection: {listener.complaint or 'no answer'}",
                lost,
                "compare the URL with transport_url in nova.conf; where that has "
                "amqp_durable_queues, add ?amqp_durable_queues=true",
            )
        elif listener.versioned:
            yield Finding("notifications", OK, f"{what}: {heard}")
        elif listener.ignored:
            yield Finding(
                "notifications",
                WARNING,
                f"{what}: {heard}: Nova sends the old format",
                lost,
                "[notifications] notification_format = both, on every Nova service",
            )
        else:
            yield Finding(
                "notifications",
                UNKNOWN,
                f"{what}: connected, nothing came in {case.options.listen_s:.0f} s",
                lost,
                "run it again while a server is started or changed",
            )


def missing(case: Case) -> Iterator[Finding]:
    """Check what the snapshot lacks that no other check has told."""
    case.read()
    told = ("ports", "server groups", "a cell", "flavor extra specs")
    names = {one["id"]: one["service_host"] for one in case.snapshot["hosts"]}
    found = False
    for lack in case.snapshot["missing"]:
        if lack["what"] in told:
            continue
        found = True
        text = f"{lack['what']}: {lack['reason']}"
        if lack["hosts"] is None:
            yield Finding("snapshot", ERROR, text, "no plan is made", "mend it and run again")
        elif lack["hosts"]:
            concerned = _some([names.get(name, name) for name in lack["hosts"]])
            effect = f"nothing is moved from or to {concerned}"
            yield Finding("snapshot", WARNING, text, effect, "mend it and run again")
        else:
            effect, remedy = "no host is concerned", "none needed"
            if lack["what"] == "image traits":
                effect = "a plan may send an instance to a host without a trait its image requires"
                remedy = "let the account list images; Nova refuses such a migration"
            yield Finding("snapshot", WARNING, text, effect, remedy)
    if not found:
        yield Finding("snapshot", OK, "nothing else is missing in it")


Check = Callable[[Case], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "microversions": microversions,
    "lists": lists,
    "fields": fields,
    "clock": clock,
    "server groups": groups,
    "ports": ports,
    "cells": cells,
    "hosts": hosts,
    "services": services,
    "allocations": allocations,
    "numa": topologies,
    "facts": operator_facts,
    "snapshot": missing,
    "concurrency": concurrency,
    "notifications": messages,
}
"""By the name in the report; ``credentials`` comes before all of them."""


def _some(names: Sequence[str], what: str = "") -> str:
    """Count and name the first few: ``3: a, b, c`` or ``7 elsewhere: a, b, c, d, e, ...``."""
    more = ", ..." if len(names) > NAMED else ""
    head = f"{len(names)} {what}".strip()
    return f"{head}: {', '.join(names[:NAMED])}{more}"

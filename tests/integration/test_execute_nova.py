# SPDX-License-Identifier: Apache-2.0
"""A real Nova is asked to migrate and looked at, through the API alone."""

from collections.abc import Iterator
import contextlib
import threading
from typing import Any
import uuid

import pytest

from nova_rebalancer.collect import assemble
from nova_rebalancer.collect import document
from nova_rebalancer.collect import live
from nova_rebalancer.collect import part
from nova_rebalancer.execute import base
from nova_rebalancer.execute import nova
from nova_rebalancer.model import cloud as facts
from nova_rebalancer.rest import client as rest_client
from nova_rebalancer.rest import connection
from tests import parts
from tests.cloud import client
from tests.cloud import proxy
from tests.cloud import settings
from tests.integration import common

SOURCE, DEST = "host-007", "host-008"
"""Alike, in one cell, and without a NUMA topology."""

OVER = ("completed", "error", "failed", "cancelled")


@pytest.fixture
def name(admin) -> Iterator[str]:
    """A server on SOURCE, deleted in the end."""
    made = common.boot(admin, host=SOURCE)
    try:
        yield made
    finally:
        admin.compute.delete(f"/servers/{made}")


@pytest.fixture
def whole(collect) -> live.Live:
    """The cloud as it was read before anything happens."""
    return collect()


@pytest.fixture
def ask(whole) -> rest_client.Client:
    """A client of the administrator's."""
    return rest_client.Client(connection.connect("test-cloud", 60.0), rest_client.Limits())


@pytest.fixture
def here(ask, whole) -> nova.NovaCloud:
    """The cloud as an executor has it."""
    return nova.NovaCloud(ask, part.Parts(ask, whole, None).look, 60.0, threading.Event())


def until(here: nova.NovaCloud, name: str, *statuses: str) -> base.Sight:
    """Wait until the newest migration is in one of these, and nothing goes on if it is over."""

    def there() -> base.Sight | None:
        sight = here.sight(name)
        if not sight.records or sight.records[-1].status not in statuses:
            return None
        over = sight.records[-1].status in OVER
        return None if over and sight.task_state is not None else sight

    return client.until(there, f"migration of {name} {statuses}", 120)


def test_migrates(here: nova.NovaCloud, name: str) -> None:
    """The request's id is the action's, which is there before the answer; all agrees in the end."""
    before = here.sight(name)
    assert (before.host, before.status, before.task_state) == (SOURCE, "ACTIVE", None)
    assert [one.action for one in before.actions] == ["create"]
    request = here.live_migrate(name, DEST)
    sight = here.sight(name)
    # It may be over already, but it is known.
    assert sight.task_state == "migrating" or sight.host == DEST
    assert sight.actions[0].request == request
    assert sight.actions[0].action == base.ACTIONS[base.LIVE]
    assert sight.actions[0].user == here.user
    sight = until(here, name, *OVER)
    (record,) = sight.records
    assert (record.type, record.status) == (base.TYPES[base.LIVE], "completed")
    assert (record.source, record.dest) == (SOURCE, DEST)
    assert (sight.host, sight.status, sight.task_state) == (DEST, "ACTIVE", None)
    assert sight.actions[0] == base.Action(
        request, base.ACTIONS[base.LIVE], here.user, finished=True, error=None
    )
    with pytest.raises(base.RefusedError) as raised:
        here.abort(name, record.id)
    assert raised.value.status == 409


def test_aborted(cloud: settings.Settings, here: nova.NovaCloud, name: str) -> None:
    """One that copies tells its progress and can be given up; it stays where it was."""
    with common.fault(cloud, fault="copy-slow", server=name, seconds=300):
        here.live_migrate(name, DEST)
        record = until(here, name, "running").records[-1].id
        progress = client.until(lambda: here.progress(name, record), "progress", 30)
        assert progress.total >= progress.processed > 0
        with pytest.raises(base.RefusedError, match="task_state") as raised:
            here.live_migrate(name, DEST)
        assert raised.value.status == 409
        here.abort(name, record)
        sight = until(here, name, *OVER)
    assert (sight.records[-1].status, sight.host, sight.status) == ("cancelled", SOURCE, "ACTIVE")
    assert sight.actions[0].action == "live_migration_cancel"
    assert here.progress(name, record) is None


def test_aborted_in_the_queue(
    cloud: settings.Settings, admin: client.Client, here: nova.NovaCloud, name: str
) -> None:
    """One that waits for another on its host can be given up, too."""
    first = common.boot(admin, host=SOURCE)
    try:
        with common.fault(cloud, fault="copy-slow", server=first, seconds=300):
            here.live_migrate(first, DEST)
            running = until(here, first, "running").records[-1].id
            here.live_migrate(name, DEST)
            queued = until(here, name, "queued").records[-1].id
            with pytest.raises(base.RefusedError) as raised:
                here.force_complete(name, queued)
            assert raised.value.status == 400
            here.abort(name, queued)
            assert until(here, name, *OVER).records[-1].status == "cancelled"
            here.force_complete(first, running)
            assert until(here, first, *OVER).host == DEST
    finally:
        admin.compute.delete(f"/servers/{first}")


def test_refused(admin: client.Client, here: nova.NovaCloud, name: str) -> None:
    """What Nova refuses at once leaves no trace, and is told with its reason."""
    cases = [(name, "host-999", 400, "host-999"), (str(uuid.uuid4()), DEST, 404, "not be found")]
    for instance, dest, status, text in cases:
        with pytest.raises(base.RefusedError, match=text) as raised:
            here.live_migrate(instance, dest)
        assert raised.value.status == status
    admin.compute.post(f"/servers/{name}/action", json={"lock": None})
    try:
        # An administrator may do it all the same, which is why the last look is ours.
        found = here.look(name, [SOURCE, DEST])
        assert next(one for one in found.instances if one.id == name).locked
    finally:
        admin.compute.post(f"/servers/{name}/action", json={"unlock": None})
    assert not here.sight(name).records


def test_checks_fail(cloud: settings.Settings, here: nova.NovaCloud, name: str) -> None:
    """A destination that refuses is accepted at first; the action tells its reason."""
    with common.fault(cloud, fault="check-dest", server=name):
        request = here.live_migrate(name, DEST)
        sight = until(here, name, *OVER)
    assert (sight.records[-1].status, sight.records[-1].dest) == ("error", None)
    assert (sight.host, sight.status) == (SOURCE, "ACTIVE")
    action = client.until(
        lambda: found if (found := here.sight(name).actions[0]).finished else None, "action", 30
    )
    assert action.request == request
    assert "the destination refuses" in (action.error or "")
    assert "\n" not in (action.error or "") and "Traceback" not in (action.error or "")


def test_cold(admin: client.Client, here: nova.NovaCloud, name: str) -> None:
    """A server that is off is migrated cold and confirmed."""
    admin.compute.post(f"/servers/{name}/action", json={"os-stop": None})
    client.until(lambda: here.sight(name).status == "SHUTOFF", "stopped", 60)
    here.cold_migrate(name, DEST)
    sight = until(here, name, "finished")
    assert sight.records[-1].type == base.TYPES[base.COLD]
    client.until(lambda: here.sight(name).task_state is None, "quiet", 60)
    here.confirm(name)
    until(here, name, "confirmed")
    # Nova closes the record of the migration a moment before the server is what it was.
    sight = client.until(
        lambda: found if (found := here.sight(name)).status == "SHUTOFF" else None, "off", 30
    )
    assert sight.host == DEST
    actions = [one.action for one in sight.actions]
    assert actions[:2] == ["confirmResize", base.ACTIONS[base.COLD]]


@contextlib.contextmanager
def between(
    cloud: settings.Settings, ask: rest_client.Client, **rule: Any
) -> Iterator[proxy.Proxy]:
    """A proxy between us and Nova, with a rule for requests to migrate."""
    with proxy.Proxy(cloud.url("nova-api")) as made:
        made.rules.append(proxy.Rule("POST .*/action", **rule))
        adapter = ask.cloud.adapters["compute"]
        adapter.endpoint_override = made.url + "/v2.1"
        try:
            yield made
        finally:
            adapter.endpoint_override = None


def test_lost_answer(
    cloud: settings.Settings, ask: rest_client.Client, here: nova.NovaCloud, name: str
) -> None:
    """A request whose answer is lost is sent once and found in what Nova shows."""
    with between(cloud, ask, close="after") as nova_api:
        with pytest.raises(base.UnansweredError):
            here.live_migrate(name, DEST)
        assert len([one for one in nova_api.requests if one.path.endswith("/action")]) == 1
        assert here.sight(name).actions[0].action == base.ACTIONS[base.LIVE]
        assert until(here, name, *OVER).host == DEST


def test_part_is_as_fresh_as_the_whole(
    cloud: settings.Settings, admin: client.Client, collect, ask, name: str
) -> None:
    """After changes a part is what a new snapshot of the whole cloud has of these hosts."""
    before = collect()
    look = part.Parts(ask, before, None)

    def check(instance: str, *hosts: str) -> facts.Snapshot:
        found = look.look(instance, hosts)
        now = collect()
        ids = frozenset(host.id for host in found.hosts)
        made = assemble.document(now.reading, now.snapshot.cloud, now.snapshot.region, ids)
        fresh = document.snapshot(made, "narrowed")
        mine, theirs = parts.seen(found, fresh, instance), parts.seen(fresh, fresh, instance)
        for key, value in theirs.items():
            assert mine[key] == value, key
        return found

    check(name, SOURCE, DEST)
    for group in before.snapshot.server_groups:
        for member in group.members[:1]:
            check(member, "host-002", "host-005")
    new = common.boot(admin, host=DEST)
    try:
        admin.compute.put(f"/servers/{name}/tags/nova-rebalancer:stay")
        admin.compute.post(f"/servers/{name}/action", json={"lock": None})
        service = next(
            one["id"]
            for one in admin.list(admin.compute, "/os-services?binary=nova-compute", "services")
            if one["host"] == DEST
        )
        admin.compute.put(f"/os-services/{service}", json={"status": "disabled"})
        try:
            found = check(name, SOURCE, DEST)
        finally:
            admin.compute.put(f"/os-services/{service}", json={"status": "enabled"})
        one = next(one for one in found.instances if one.id == name)
        assert one.locked and not one.allow_migration
        assert new in {other.id for other in found.instances}
        assert {host.service_host: host.usable for host in found.hosts} == {
            SOURCE: True,
            DEST: False,
        }
        with common.fault(cloud, fault="copy-hang", server=new):
            body = {"os-migrateLive": {"host": SOURCE, "block_migration": "auto"}}
            admin.compute.post(f"/servers/{new}/action", json=body)
            client.until(lambda: running(admin, new), "running", 60)
            # The other end comes with it.
            found = check(name, SOURCE)
            assert {host.service_host for host in found.hosts} == {SOURCE, DEST}
            admin.compute.delete(f"/servers/{new}/migrations/{running(admin, new)}")
            client.until(lambda: common.shown(admin, new)["status"] == "ACTIVE", "aborted", 60)
        check(name, SOURCE, DEST)
    finally:
        admin.compute.delete(f"/servers/{new}")


def running(admin: client.Client, name: str) -> int | None:
    """The migration of a server that runs, if one does."""
    found = admin.list(admin.compute, f"/servers/{name}/migrations", "migrations")
    return next((int(one["id"]) for one in found if one["status"] == "running"), None)

# SPDX-License-Identifier: Apache-2.0
"""What Nova says is understood, and what is asked of it is asked once, over real HTTP."""

import threading
import time

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.execute import base
from nova_rebalancer.execute import nova
from tests.unit.collect import emulator


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Two hosts."""
    with emulator.running(tmp_path, monkeypatch) as running:
        for name in ("a", "b"):
            running.world.host(name)
        yield running


@pytest.fixture
def world(server):
    """What the services know."""
    return server.world


@pytest.fixture
def name(world):
    """A server on the first host."""
    return world.server("a")


def cloud(server, woken=None, timeout_s=5.0):
    """The cloud as an executor has it."""

    def look(instance, hosts):
        return (instance, hosts)

    return nova.NovaCloud(server.client(attempts=3), look, timeout_s, woken or threading.Event())


def test_looking_is_passed_on(server):
    """Fresh facts come from whoever reads them."""
    assert cloud(server).look("one", ["a", "b"]) == ("one", ["a", "b"])


def test_who_asks(server):
    """The user is the one that Nova writes into instance actions."""
    assert cloud(server).user == emulator.USER


def test_a_cloud_that_is_too_old(server):
    """A cloud whose actions do not tell what they failed with is refused."""
    server.world.newest["compute"] = "2.83"
    with pytest.raises(exceptions.CloudError, match=r"2\.84 is needed"):
        cloud(server)


def test_time_goes_on(server, monkeypatch):
    """A clock that is set back meanwhile does not matter."""
    here = cloud(server)
    before = here.now()
    assert before == pytest.approx(time.time(), abs=1.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert here.now() >= before


def test_waiting_ends_when_told(server):
    """Who is woken goes on at once, and waits again the next time."""
    woken = threading.Event()
    here = cloud(server, woken)
    woken.set()
    began = time.monotonic()
    here.wait(60.0)
    assert time.monotonic() - began < 30.0
    here.wait(0.05)
    assert not woken.is_set()


def test_sight_of_a_quiet_instance(server, name):
    """Nothing happened to it."""
    assert cloud(server).sight(name) == base.Sight(True, "a", "ACTIVE", None)


def test_sight_of_nothing(server):
    """An instance that is gone exists no more."""
    assert cloud(server).sight("0" * 8) == base.Sight(exists=False)


def test_live_migration(server, world, name):
    """It shows at once as a task and an action; the record comes later, its destination last."""
    here = cloud(server)
    request = here.live_migrate(name, "b")
    assert len(server.lines("POST .*/action")) == 1
    sight = here.sight(name)
    assert (sight.status, sight.task_state, sight.records) == ("MIGRATING", "migrating", ())
    assert sight.actions == (base.Action(request, "live-migration", emulator.USER, False, None),)
    made = world.migration(name, None)
    (record,) = here.sight(name).records
    assert record.uuid == made
    assert (record.type, record.status) == ("live-migration", "accepted")
    assert (record.source, record.dest) == ("a", None)
    world.migrations[made].update(status="running", dest_compute="b")
    assert here.sight(name).records[0].dest == "b"
    world.claim(name, "b", emulator.SMALL)
    world.arrived(made)
    world.event(request, "conductor_live_migrate_instance")
    world.event(request, "compute_live_migration")
    # The event of the migration itself ends when it is queued.
    assert not here.sight(name).actions[0].finished
    world.event(request, "compute_post_live_migration_at_destination")
    sight = here.sight(name)
    assert (sight.host, sight.status, sight.task_state) == ("b", "ACTIVE", None)
    assert sight.records[0].status == "completed"
    assert sight.actions == (base.Action(request, "live-migration", emulator.USER, True, None),)


def test_failed_checks(server, world, name):
    """The cause is told before what the conductor makes of it, in one line."""
    here = cloud(server)
    request = here.live_migrate(name, "b")
    world.migration(name, None, status="error")
    world.event(request, "conductor_live_migrate_instance", "No valid host.\n", finish_time=None)
    world.event(
        request,
        "compute_check_can_live_migrate_destination",
        "CPU does not fit\nTraceback (most recent call last):\n  File ...",
    )
    (action,) = here.sight(name).actions
    assert not action.finished
    events = world.actions[name][0]["events"]
    events[1]["finish_time"] = world.stamp()
    (action,) = here.sight(name).actions
    assert action.finished
    assert action.error == "CPU does not fit; No valid host."


def test_failure_without_details(server, world, name):
    """Who may not see details still hears of an error."""
    here = cloud(server)
    world.event(here.live_migrate(name, "b"), "conductor_live_migrate_instance", "")
    assert here.sight(name).actions[0].error == "Error"


def test_only_the_newest_migration_is_looked_into(server, world, name):
    """Old failures cost no requests, nor does what is no migration or goes on."""
    here = cloud(server)
    for _ in range(3):
        world.event(world.action(name, "live-migration"), "conductor_live_migrate_instance", "no")
    world.action(name, "reboot")
    assert [one.error for one in here.sight(name).actions] == [None, "no", "Error", "Error"]
    assert len(server.lines("os-instance-actions/req")) == 1
    here.live_migrate(name, "b")
    here.sight(name)
    assert len(server.lines("os-instance-actions/req")) == 1


def test_order_of_what_is_seen(server, world, name):
    """Records come the oldest first, actions the newest first, of all kinds."""
    first = world.migration(name, "b", status="cancelled")
    second = world.migration(name, "b", status="confirmed", migration_type="migration")
    requests = [world.action(name, kind) for kind in ("create", "live-migration", "migrate")]
    sight = cloud(server).sight(name)
    assert [one.uuid for one in sight.records] == [first, second]
    assert [one.type for one in sight.records] == ["live-migration", "migration"]
    assert [one.request for one in sight.actions] == requests[::-1]


def test_what_is_read_first(server, name):
    """The server is read before its records, and these before its actions."""
    here = cloud(server)
    here.sight(name)
    last = [line.partition("?")[0].rpartition("/")[2] for line in server.lines("GET .*v2.1/")]
    assert last[-3:] == [name, "os-migrations", "os-instance-actions"]


def test_a_cell_that_is_down(server, name):
    """The stub of a server in such a cell is no sight of it."""
    server.on(f"servers/{name}$", edit=lambda _: {"server": {"id": name, "status": "UNKNOWN"}})
    with pytest.raises(exceptions.CloudError, match="cell"):
        cloud(server).sight(name)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"locked": True}, "is locked"),
        ({"tags": ["nova-rebalancer:stay"]}, "does not allow migration"),
        ({"metadata": {"nova-rebalancer:allow-migration": "false"}}, "does not allow migration"),
    ],
)
def test_what_keeps_an_instance(server, world, name, fields, why):
    """A lock, which Nova lets administrators pass, and the owner's wish are seen in one request."""
    here = cloud(server)
    world.servers[name].update(fields)
    found = here.kept(name)
    assert found is None if why is None else why in found
    assert here.kept("0" * 8) is None


def test_progress(server, world, name):
    """Bytes of memory and of disks are added up; nothing is known before and after."""
    here = cloud(server)
    migration = world.migrations[world.live(name, "b")]
    assert here.progress(name, migration["id"]) is None
    migration.update(
        memory_total_bytes=100,
        memory_processed_bytes=70,
        memory_remaining_bytes=40,
        disk_total_bytes=10,
        disk_processed_bytes=0,
        disk_remaining_bytes=10,
    )
    assert here.progress(name, migration["id"]) == base.Progress(110, 70, 50)
    world.arrived(migration["uuid"])
    assert here.progress(name, migration["id"]) is None


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"locked": True}, 409, "is locked"),
        ({emulator.TASK: "rebooting"}, 409, "task_state rebooting"),
        ({emulator.STATE: "error"}, 409, "vm_state error"),
        ({"status": "DELETED"}, 404, "could not be found"),
    ],
)
def test_refusals(server, world, name, fields, status, text):
    """What Nova refuses before it does anything is told with Nova's reason."""
    world.servers[name].update(fields)
    world.roles = ["member"]
    with pytest.raises(base.RefusedError, match=text) as raised:
        cloud(server).live_migrate(name, "b")
    assert raised.value.status == status
    assert name not in world.actions


def test_unknown_host(server, name):
    """Nova knows no such host."""
    with pytest.raises(base.RefusedError, match="nowhere") as raised:
        cloud(server).live_migrate(name, "nowhere")
    assert raised.value.status == 400


def test_no_answer(server, world, name):
    """A request whose answer is lost may have been carried out, and can be found."""
    here = cloud(server)
    server.on("POST .*/action", cut=0)
    with pytest.raises(base.UnansweredError):
        here.live_migrate(name, "b")
    assert len(server.lines("POST .*/action")) == 1
    assert here.sight(name).actions[0].action == "live-migration"


def test_answer_that_comes_too_late(server, name):
    """A request is given up after the time that was given."""
    here = cloud(server, timeout_s=0.2)
    server.on("POST .*/action", delay_s=0.6)
    with pytest.raises(base.UnansweredError):
        here.live_migrate(name, "b")


def test_answer_without_an_id(server, name):
    """An accepted migration whose request has no id is to be looked for."""
    here = cloud(server)
    server.on("POST .*/action", status=202, body=b"")
    with pytest.raises(base.UnansweredError, match="id of the request"):
        here.live_migrate(name, "b")


def test_cold_migration(server, world, name):
    """One that is shut off is migrated cold and confirmed."""
    here = cloud(server)
    world.touch(name, status="SHUTOFF", **{emulator.STATE: "stopped"})
    request = here.cold_migrate(name, "b")
    assert here.sight(name).actions[0] == base.Action(
        request, "migrate", emulator.USER, False, None
    )
    assert here.sight(name).task_state == "resize_prep"
    with pytest.raises(base.RefusedError):
        here.confirm(name)
    world.touch(name, **{emulator.TASK: None, emulator.STATE: "resized"})
    world.event(request, "compute_finish_resize")
    assert here.sight(name).actions[0].finished
    here.confirm(name)
    assert world.actions[name][0]["action"] == "confirmResize"


@pytest.mark.parametrize(
    ("state", "abort", "force"),
    [
        ("queued", None, 400),
        ("preparing", None, 400),
        ("running", None, None),
        ("accepted", 400, 400),
        ("completed", 400, 400),
    ],
)
def test_giving_up_and_forcing(server, world, name, state, abort, force):
    """Queued, preparing and running ones can be aborted; only running ones are forced."""
    here = cloud(server)
    migration = world.migrations[world.live(name, "b")]
    migration["status"] = state
    for what, status in ((here.abort, abort), (here.force_complete, force)):
        if status is None:
            what(name, migration["id"])
        else:
            with pytest.raises(base.RefusedError) as raised:
                what(name, migration["id"])
            assert raised.value.status == status


def test_aborting_what_is_over(server, world, name):
    """An instance that does not migrate any more has nothing to abort."""
    migration = world.live(name, "b")
    world.arrived(migration)
    with pytest.raises(base.RefusedError) as raised:
        cloud(server).abort(name, world.migrations[migration]["id"])
    assert raised.value.status == 409


def test_looking_is_repeated(server, name):
    """What changes nothing is asked again until there is an answer."""
    here = cloud(server)
    server.on("GET .*os-migrations", times=1, status=503)
    assert here.sight(name).exists

# SPDX-License-Identifier: Apache-2.0
"""Notifications become hints, none is lost between two passes, and a lost connection shows."""

import logging
import threading
import time

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.collect import notifications
from nova_rebalancer.collect import reader

pytestmark = pytest.mark.needs("oslo_messaging")


def payload(**data: object) -> dict[str, object]:
    """A payload as Nova sends it."""
    return {
        "nova_object.name": "SomePayload",
        "nova_object.namespace": "nova",
        "nova_object.version": "1.0",
        "nova_object.data": data,
    }


@pytest.mark.parametrize(
    ("event", "data", "servers", "hosts"),
    [
        ("instance.create.end", {"uuid": "s1", "host": "h1", "node": "h1"}, {"s1"}, set()),
        ("instance.live_migration_post_dest.end", {"uuid": "s1"}, {"s1"}, set()),
        ("instance.update", {"uuid": "s1", "tags": ["t"]}, {"s1"}, set()),
        ("compute_task.migrate_server.error", {"instance_uuid": "s1"}, {"s1"}, set()),
        ("scheduler.select_destinations.end", {"instance_uuid": "s1"}, {"s1"}, set()),
        ("service.update", {"host": "h1", "uuid": "x", "disabled": True}, set(), {"h1"}),
        ("aggregate.add_host.end", {"uuid": "x", "hosts": ["h1", "h2"]}, set(), {"h1", "h2"}),
        ("aggregate.create.start", {"uuid": "x", "hosts": None}, set(), set()),
        ("aggregate.cache_images.progress", {"uuid": "x", "host": "h1"}, set(), {"h1"}),
        ("server_group.add_member", {"uuid": "x", "members": ["s1"]}, {"s1"}, set()),
        ("keypair.create.end", {"uuid": "x"}, set(), set()),
        ("instance.delete.end", {"uuid": None, "host": 7}, set(), set()),
    ],
)
def test_what_an_event_names(event, data, servers, hosts):
    """Each event names the servers and hosts that it is about, other objects none."""
    expected = reader.Hints(frozenset(servers), frozenset(hosts))
    assert notifications.hints(event, payload(**data)) == expected


@pytest.mark.parametrize("bad", [None, "text", [], {"instance_id": "s1"}, {"nova_object.data": 3}])
def test_what_is_no_versioned_notification(bad):
    """The old format and nonsense are told from the rest."""
    with pytest.raises(ValueError, match="the payload"):
        notifications.hints("compute.instance.update", bad)


@pytest.fixture
def listener():
    """A listener at a broker within this process."""
    made = notifications.Listener("fake://", (notifications.TOPIC, notifications.UNVERSIONED))
    made.start()
    assert made.wait(10)
    yield made
    made.stop()


@pytest.fixture
def nova(tmp_path):
    """What sends, as Nova does: (topic, event, payload, priority)."""
    from oslo_config import cfg
    import oslo_messaging

    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\ncontrol_exchange = nova\n")
    conf = cfg.ConfigOpts()
    conf(args=[], default_config_files=[str(path)])
    transport = oslo_messaging.get_notification_transport(conf, url="fake://")

    def send(topic, event, content, priority="info"):
        notifier = oslo_messaging.Notifier(
            transport, "nova-compute:h1", driver="messagingv2", topics=[topic]
        )
        getattr(notifier, priority)({}, event, content)

    yield send
    transport.cleanup()


def until(condition) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_hints_arrive(listener, nova):
    """What Nova sends, of each priority, is hinted at once and once."""
    nova(notifications.TOPIC, "instance.update", payload(uuid="s1"))
    nova(notifications.TOPIC, "compute_task.migrate_server.error", payload(uuid="x"), "error")
    nova(notifications.TOPIC, "service.update", payload(host="h1"))
    until(lambda: listener.versioned == 3)
    assert listener.drain() == reader.Hints(frozenset({"s1"}), frozenset({"h1"}))
    assert listener.drain() == reader.Hints()


def test_the_old_format_is_counted(listener, nova):
    """Unversioned messages give no hint and do no harm, and the doctor can tell of them."""
    nova(notifications.UNVERSIONED, "compute.instance.update", {"instance_id": "s1"})
    nova(notifications.TOPIC, "instance.update", payload(uuid="s2"))
    until(lambda: listener.versioned and listener.ignored)
    assert listener.drain() == reader.Hints(frozenset({"s2"}))


def test_others_get_their_messages(listener, nova):
    """A consumer with another queue gets what we got, too."""
    other = notifications.Listener("fake://", pool="watcher")
    other.start()
    assert other.wait(10)
    nova(notifications.TOPIC, "instance.update", payload(uuid="s1"))
    until(lambda: listener.versioned and other.versioned)
    other.stop()


def test_no_hint_is_lost_between_passes():
    """What arrives while another thread drains is in exactly one of the drained sets."""
    listener = notifications.Listener("fake://")
    sent = [f"s{number}" for number in range(3000)]

    def send():
        for name in sent:
            listener.take("instance.update", payload(uuid=name))

    thread = threading.Thread(target=send)
    thread.start()
    drained: list[str] = []
    while thread.is_alive():
        drained += listener.drain().servers
    thread.join()
    drained += listener.drain().servers
    assert sorted(drained) == sorted(sent)


def test_hints_of_a_pass_that_failed():
    """They can be given back, and come with the newer ones."""
    listener = notifications.Listener("fake://")
    listener.take("instance.update", payload(uuid="s1"))
    taken = listener.drain()
    listener.take("service.update", payload(host="h1"))
    listener.add(taken)
    assert listener.drain() == reader.Hints(frozenset({"s1"}), frozenset({"h1"}))


def test_a_lost_connection_is_a_gap(listener, nova, monkeypatch):
    """It is one until the connection stands again, and once more; a message shows that it does."""
    assert listener.take_gap(), "who has just begun has missed everything before"
    assert not listener.take_gap()
    logging.getLogger("oslo.messaging._drivers.impl_rabbit").error("AMQP server is unreachable")
    assert not listener.healthy()
    assert listener.complaint == "AMQP server is unreachable"
    assert listener.take_gap()
    assert listener.take_gap(), "events are being lost still"
    nova(notifications.TOPIC, "instance.update", payload(uuid="s1"))
    until(listener.healthy)
    assert listener.take_gap()
    assert not listener.take_gap()


def test_silence_after_a_complaint(listener, monkeypatch):
    """A driver that complains no more has its connection back."""
    listener.take_gap()
    listener.complain("gone")
    monkeypatch.setattr(notifications, "QUIET_S", 0.0)
    assert listener.healthy()
    assert listener.take_gap()
    assert not listener.take_gap()


def test_a_broker_that_does_not_answer():
    """The start does not wait for it; nothing is healthy, and the reason can be told."""
    listener = notifications.Listener("rabbit://u:secret@127.0.0.1:9/", pool="none")
    try:
        listener.start()
        until(lambda: listener.complaint)
        assert not listener.wait(0)
        assert not listener.healthy()
        assert listener.take_gap()
        assert "secret" not in listener.complaint
    finally:
        listener.stop()


@pytest.mark.parametrize(
    "url", ["nonsense", "rabbit://u:secret@h:port/", "foo://u:secret@h/", "rabbit://u:secret@[h/"]
)
def test_urls_that_cannot_be_used(url):
    """The message says what is wrong and keeps the password to itself."""
    with pytest.raises(exceptions.UsageError, match=r"^message queue: ") as caught:
        notifications.Listener(url)
    assert "secret" not in str(caught.value)

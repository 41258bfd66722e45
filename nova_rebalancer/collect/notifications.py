# SPDX-License-Identifier: Apache-2.0
"""Nova's versioned notifications, as hints what to look at again.

They are never the truth: they come late, twice, out of order or not at all.  What they name is
read again from the API.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import logging
import threading
import time
from typing import Any
import warnings

from nova_rebalancer import exceptions
from nova_rebalancer.collect import reader

LOG = logging.getLogger(__name__)

TOPIC = "versioned_notifications"
"""Nova's default for ``[notifications] versioned_notifications_topics``."""

UNVERSIONED = "notifications"
"""Of the old format; only the doctor listens to it."""

EXCHANGE = "nova"

POOL = "nova-rebalancer"
"""Name of our queue.  It gets a copy of each message; those of others lose nothing by it."""

QUIET_S = 120.0
"""Without a complaint for so long the connection stands again: the driver tries at least every
half minute, and complains each time."""

# Events of other objects (keypairs, flavors, volumes) move no load.
_OBJECTS = ("instance.", "service.", "aggregate.", "server_group.", "scheduler.", "compute_task.")

_DRIVER_LOGS = ("oslo.messaging", "oslo_messaging")


def hints(event: str, payload: object) -> reader.Hints:
    """Return the servers and hosts that a versioned notification names.

    ``payload`` is Nova's serialised object (nova ``notifications/objects/base.py``).

    Raises
    ------
    ValueError
        If it is no versioned notification.
    """
    if not isinstance(payload, Mapping):
        raise ValueError("the payload is no object")
    data = payload.get("nova_object.data")
    if not isinstance(data, Mapping):
        raise ValueError("the payload has no nova_object.data")
    if not event.startswith(_OBJECTS):
        return reader.Hints()
    kind = event.partition(".")[0]
    servers: list[object] = [data.get("instance_uuid")]
    hosts: list[object] = []
    if kind == "instance":
        # Its host is no hint: what happened there happened to this server.
        servers.append(data.get("uuid"))
    elif kind == "server_group":
        servers += _many(data.get("members"))
    elif kind == "service":
        hosts.append(data.get("host"))
    elif kind == "aggregate":
        hosts += [data.get("host"), *_many(data.get("hosts"))]
    return reader.Hints(
        frozenset(name for name in servers if isinstance(name, str)),
        frozenset(name for name in hosts if isinstance(name, str)),
    )


class Listener:
    """Collects hints from one message broker in the background.

    A cloud with several cells has a broker for each, unless Nova is told otherwise: start one
    listener for each of them.

    Parameters
    ----------
    transport_url
        As Nova's ``[DEFAULT] transport_url``; its query may set options of the driver, such as
        ``?ssl=true&ssl_ca_file=/etc/ssl/ca.pem``.
    topics
        To listen to.
    pool
        Name of the queue; listeners with the same one share its messages.

    Raises
    ------
    UsageError
        If oslo.messaging is not installed, or the URL cannot be used.
    """

    def __init__(
        self, transport_url: str, topics: Sequence[str] = (TOPIC,), pool: str = POOL
    ) -> None:
        self._messaging = _library()
        self._pool = pool
        self._lock = threading.Lock()
        self._servers: set[str] = set()
        self._hosts: set[str] = set()
        self._lost = True
        """Whether events may have been missed; so it is before the first one."""
        self._ready = threading.Event()
        self._complained: float | None = None
        self.versioned = 0
        """Notifications that were understood."""
        self.ignored = 0
        """Unversioned or malformed ones."""
        self.complaint = ""
        """What the driver said last of a connection that does not stand."""
        self._watch = _Watch(self)
        try:
            self._transport = self._messaging.get_notification_transport(
                _options(), url=transport_url
            )
            self._url = self._messaging.TransportURL.parse(self._transport.conf, transport_url)
        except (self._messaging.MessagingException, ValueError) as error:
            # The URL has a password in it.
            text = _line(str(error).replace(transport_url, "the transport URL"))
            raise exceptions.UsageError(f"message queue: {text}") from None
        self._server = self._messaging.get_notification_listener(
            self._transport,
            [self._messaging.Target(topic=topic, exchange=EXCHANGE) for topic in topics],
            [_Endpoint(self)],
            pool=pool,
        )

    def start(self) -> None:
        """Begin to listen; returns at once, the connection is made in the background."""
        for name in _DRIVER_LOGS:
            logging.getLogger(name).addHandler(self._watch)
        # The driver tries forever to connect, and nothing ends that.
        threading.Thread(target=self._start, name="notifications", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the connection stands first; whether it does."""
        return self._ready.wait(timeout_s)

    def healthy(self) -> bool:
        """Whether notifications arrive, as far as one can tell."""
        with self._lock:
            return self._stands()

    def take_gap(self) -> bool:
        """Whether events may have been missed since this was asked last.

        Ask before a pass: if so, it must read everything.
        """
        with self._lock:
            lost = self._lost or not self._stands()
            self._lost = not self._stands()
            return lost

    def drain(self) -> reader.Hints:
        """Take all hints there are; those that come from now on are for the next pass.

        So drain before a pass, not after.  A pass that fails gives them back with ``add``.
        """
        with self._lock:
            taken = reader.Hints(frozenset(self._servers), frozenset(self._hosts))
            self._servers, self._hosts = set(), set()
            return taken

    def add(self, more: reader.Hints) -> None:
        """Keep hints for the next ``drain``."""
        with self._lock:
            self._servers |= more.servers
            self._hosts |= more.hosts

    def take(self, event: object, payload: object) -> None:
        """Take one notification; what is none of Nova's versioned ones is counted, no more."""
        try:
            found = hints(str(event), payload)
        except ValueError as error:
            with self._lock:
                self.ignored += 1
                first = self.ignored == 1
            if first:
                LOG.warning("event=%s is no versioned notification (%s), ignored", event, error)
            return
        self.add(found)
        with self._lock:
            self.versioned += 1
            # What arrives shows that the connection stands.
            self._complained = None

    def complain(self, text: str) -> None:
        """Take that the driver lost its connection."""
        with self._lock:
            self._lost = True
            self._complained = time.monotonic()
            self.complaint = text

    def stop(self) -> None:
        """Stop listening, and take our queue away, for nobody would empty it.

        What happened while nobody listened is not worth keeping: the next start reads the cloud
        anyway.
        """
        for name in _DRIVER_LOGS:
            logging.getLogger(name).removeHandler(self._watch)
        if not self._ready.is_set():
            return
        self._ready.clear()
        self._server.stop()
        self._server.wait()
        self._transport.cleanup()
        self._delete_queue()

    def _start(self) -> None:
        try:
            # One thread: handling one takes microseconds.
            self._server.start(override_pool_size=1)
        except Exception as error:
            # Whatever the driver raises, there are no hints; the passes go on without.
            self.complain(_line(error))
            return
        self._ready.set()

    def _stands(self) -> bool:
        if not self._ready.is_set():
            return False
        return self._complained is None or time.monotonic() - self._complained > QUIET_S

    def _delete_queue(self) -> None:
        """Delete our queue where the broker is RabbitMQ; oslo.messaging has no word for it."""
        if self._url.transport not in ("rabbit", "kombu"):
            return
        from kombu import connection

        query = self._url.query
        ssl: Any = False
        if query.get("ssl", "").lower() in ("true", "1", "yes", "on"):
            names = {"ca_certs": "ssl_ca_file", "certfile": "ssl_cert_file"}
            names["keyfile"] = "ssl_key_file"
            ssl = {key: query[name] for key, name in names.items() if name in query} or True
        connect: Any = connection.Connection
        for host in self._url.hosts:
            try:
                with connect(
                    hostname=host.hostname,
                    port=host.port or None,
                    userid=host.username,
                    password=host.password,
                    virtual_host=self._url.virtual_host or "/",
                    transport="pyamqp",
                    ssl=ssl,
                    connect_timeout=5,
                ) as broker:
                    broker.default_channel.queue_delete(self._pool)
                return
            except Exception as error:
                why = _line(error)
        LOG.warning("queue=%s stays at the message broker (%s); delete it there", self._pool, why)


class _Endpoint:
    """What oslo.messaging calls, a method for each priority Nova uses."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def info(self, ctxt: Any, publisher: Any, event: Any, payload: Any, metadata: Any) -> None:
        """Take a notification."""
        self._listener.take(event, payload)

    error = warn = info


class _Watch(logging.Handler):
    """Hears the driver's complaints; a lost connection shows nowhere else (oslo.messaging 18).

    They do not tell which connection they mean in a way that lasts, so one of several listeners
    takes those of the others as its own: that costs a full pass, no more.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(logging.ERROR)
        self._listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        self._listener.complain(_line(record.getMessage()))


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            # It still imports eventlet, which says it is deprecated; nothing here runs on it.
            warnings.simplefilter("ignore")
            from oslo_service import backend

            backend.init_backend(backend.BackendType.THREADING)
            import oslo_messaging
    except (ImportError, ValueError):
        raise exceptions.UsageError(
            "notifications need oslo.messaging: pip install nova-rebalancer[notifications]"
        ) from None
    return oslo_messaging


def _options() -> Any:
    from oslo_config import cfg

    conf = cfg.ConfigOpts()
    conf(args=[], default_config_files=[], default_config_dirs=[])
    return conf


def _many(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _line(text: object) -> str:
    return " ".join(str(text).split())[:200]

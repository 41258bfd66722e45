# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of one API that does to requests what a test asks for. Standard library only.

The client's Host header goes through to the API, which makes its links from it, so that a client
that came by the proxy stays with it: version documents and pages need no rewriting. ::

    with proxy.Proxy(cloud.url("nova-api")) as compute:
        compute.rules.append(proxy.Rule("GET /v2.1/servers/detail", skip=1, before=delete_one))
        configs.write_clients(cloud, path, {"compute": compute.url + "/v2.1"})
"""

from collections.abc import Callable
import dataclasses
import http.client
import http.server
import json
import random
import re
import socket
import sys
import threading
import time
from typing import Any
import urllib.parse

from tests.cloud import settings

# They belong to one connection (RFC 9110, section 7.6.1), and we send whole bodies.
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


@dataclasses.dataclass
class Rule:
    """What happens to some requests; without anything but a pattern they are only counted."""

    pattern: str
    """Searched in ``METHOD /path?query``."""
    skip: int = 0
    """How many requests that match go by first."""
    count: int | None = None
    """How many it is applied to after that; all if None."""
    chance: float = 1.0
    """How likely it is applied to each of them."""
    delay_s: float = 0.0
    before: Callable[[], object] | None = None
    """Called before the request is forwarded or answered, and after the delay."""
    status: int | None = None
    """Answer with this code; the API does not hear of it."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of that answer, such as ``Retry-After``."""
    close: str | None = None
    """Close the connection ``before`` the API hears of the request, ``after`` it has answered,
    or ``midway`` through the answer's body."""
    seen: int = 0
    """How many requests have matched."""
    applied: int = 0
    """How many of them it was applied to."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One that came, and how it went."""

    method: str
    path: str
    """With the query."""
    status: int | None
    """None if the connection was closed instead."""
    seconds: float


class Proxy:
    """Listens while its ``with`` runs; the first rule that applies to a request is taken.

    Parameters
    ----------
    upstream
        The API's URL; only its host and port count.
    port
        Where to listen on the loopback address; any free one with 0.
    seed
        For the rules' chances.
    timeout_s
        How long the API may take.
    """

    def __init__(self, upstream: str, port: int = 0, seed: int = 0, timeout_s: float = 120.0):
        parts = urllib.parse.urlsplit(upstream)
        self.upstream = (parts.hostname or settings.ADDRESS, parts.port or 80)
        self.timeout_s = timeout_s
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._server = _Server((settings.ADDRESS, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://{settings.ADDRESS}:{self._server.server_address[1]}"

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rule(self, method: str, path: str) -> Rule | None:
        """The one to apply, which is counted."""
        with self._lock:
            for rule in self.rules:
                if not re.search(rule.pattern, f"{method} {path}"):
                    continue
                rule.seen += 1
                over = rule.count is not None and rule.applied >= rule.count
                if rule.seen <= rule.skip or over or self._chance.random() >= rule.chance:
                    continue
                rule.applied += 1
                return rule
        return None

    def record(self, request: Request) -> None:
        """Add to ``requests``."""
        with self._lock:
            self.requests.append(request)


class _Server(http.server.ThreadingHTTPServer):
    # Clients keep connections open, which nobody should wait for.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], proxy: Proxy):
        self.proxy = proxy
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are nothing to report; a rule's ``before`` that fails is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; the second would wait for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """All methods are alike."""
        began = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rule = self.server.proxy.rule(self.command, self.path) or Rule("")
        status = None
        try:
            time.sleep(rule.delay_s)
            if rule.before:
                rule.before()
            status = self._answer(rule, body)
        finally:
            seconds = time.monotonic() - began
            # First, for whoever is hung up on may look at once.
            self.server.proxy.record(Request(self.command, self.path, status, seconds))
            if status is None:
                self._hang_up()

    do_DELETE = do_HEAD = do_PATCH = do_POST = do_PUT = do_GET

    def _answer(self, rule: Rule, body: bytes) -> int | None:
        """The status that was sent, None if the connection is to be closed."""
        if rule.close == "before":
            return None
        if rule.status is not None:
            error = {"error": {"code": rule.status, "message": "simulated", "title": "simulated"}}
            headers = {"Content-Type": "application/json", **rule.headers}
            self._send(rule.status, list(headers.items()), json.dumps(error).encode())
            return rule.status
        proxy = self.server.proxy
        connection = http.client.HTTPConnection(*proxy.upstream, timeout=proxy.timeout_s)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # The API is not there: neither are we.
            return None
        finally:
            connection.close()
        if rule.close == "after":
            return None
        half = len(content) // 2 if rule.close == "midway" else None
        self._send(answer.status, answer.getheaders(), content, half)
        return None if rule.close == "midway" else answer.status

    def _send(
        self, status: int, headers: list[tuple[str, str]], body: bytes, only: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        # Neither of them has a body.
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:only])

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The client was faster.
            pass

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the requests are recorded."""

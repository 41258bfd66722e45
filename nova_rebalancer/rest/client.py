# SPDX-License-Identifier: Apache-2.0
"""Requests to a cloud: in parallel, with patience, within a deadline, and counted."""

from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures
import dataclasses
import email.utils
import re
import socket
import threading
import time
from typing import Any
from typing import TypeVar

from keystoneauth1 import exceptions as ksa
import orjson
import requests
import tenacity

from nova_rebalancer import exceptions
from nova_rebalancer.rest import connection
from nova_rebalancer.rest import gate

T = TypeVar("T")
R = TypeVar("R")

Version = tuple[int, int]

LOADED = (429, 503)
"""The cloud has too much to do."""

AGAIN = (*LOADED, 500, 502, 504)
"""Answers that may be others the next time."""

LONGEST_WAIT_S = 60.0

_TAG = re.compile("<[^>]*>")

NEVER_CONNECTED = (requests.exceptions.ConnectTimeout, ConnectionRefusedError, socket.gaierror)
"""What begins the errors of a connection that was never made, so that nothing was sent on it."""

_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


class Refused(exceptions.CloudError):
    """An answer that asking again will not change; ``status`` is HTTP's, 0 if nothing was sent."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Unanswered(exceptions.CloudError):
    """A request that changes something got no answer that tells whether it was carried out."""


class _Again(Exception):
    """An answer that may be another one next time."""

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclasses.dataclass(frozen=True)
class Accepted:
    """An answer that accepts a request; ``request`` is the id that the service gave it."""

    status: int
    request: str | None


@dataclasses.dataclass(frozen=True)
class Limits:
    """How hard the cloud may be asked."""

    workers: int = 8
    requests_per_s: float = 200.0
    attempts: int = 6
    timeout_s: float = 120.0
    """For one answer."""
    deadline_s: float = 900.0
    """For all of them."""

    def __post_init__(self) -> None:
        if self.workers < 1 or self.attempts < 1 or self.requests_per_s <= 0:
            raise ValueError(f"limits must be positive: {self}")


class Client:
    """Requests to the services of one cloud; safe to use from several threads."""

    def __init__(self, cloud: connection.Connection, limits: Limits) -> None:
        self.cloud = cloud
        self.requests = 0
        self.skew_s: float | None = None
        """The cloud's clock minus ours, by the Date of an answer; a second's precision."""
        self._limits = limits
        self._gate = gate.Gate(limits.workers, limits.requests_per_s)
        self._end = time.monotonic() + limits.deadline_s
        self._lock = threading.Lock()
        self._most: dict[str, Version] = {}
        self._stopped = threading.Event()

    def identity(self) -> str:
        """Name cloud, region and account, so that a cache of another one is never taken.

        Raises
        ------
        CloudError
            If it cannot log in.
        """
        return self._patiently("login", self._log_in)

    def account(self) -> connection.Account:
        """Return who we are to the cloud.

        Raises
        ------
        CloudError
            If it cannot log in.
        """
        return self._patiently("login", lambda: self._of_keystone(self.cloud.account))

    def newest(self, service: str) -> Version:
        """Return the newest microversion of a service.

        Raises
        ------
        CloudError
            If it does not answer, or is not in the catalogue.
        """
        if service not in self._most:
            self._most[service] = self._patiently(service, lambda: self._discover(service))
        return self._most[service]

    def version(self, service: str, best: Version, least: Version | None = None) -> str:
        """Return the microversion to ask for: ``best``, or the newest one below it.

        Raises
        ------
        CloudError
            If the service has nothing as new as ``least``.
        """
        newest = self.newest(service)
        if least is not None and newest < least:
            raise exceptions.CloudError(
                f"cloud {self.cloud.name}: {service} has microversions up to {dotted(newest)}; "
                f"{dotted(least)} is needed"
            )
        return dotted(min(best, newest))

    def get(
        self,
        service: str,
        path: str,
        version: str | None = None,
        accept: Iterable[int] = (),
    ) -> Any:
        """Return the JSON of an answer, None for a status in ``accept``.

        Raises
        ------
        Refused
            If the answer is an error that stays.
        CloudError
            If there is no answer, or none that can be used, after all attempts.
        """
        return self._patiently(
            f"{service} {_short(path)}", lambda: self._once(service, path, version, tuple(accept))
        )

    def send(
        self,
        service: str,
        method: str,
        path: str,
        version: str | None = None,
        body: Any = None,
        timeout_s: float | None = None,
    ) -> Accepted:
        """Send a request that changes something exactly once.

        Only a token that is not accepted is renewed, and the request sent again: the services
        answer 401 before they look at the request (keystonemiddleware ``auth_token``, which is in
        front of Nova's API in its ``api-paste.ini``).  Redirects are not followed.

        Raises
        ------
        Refused
            If it was not carried out: the answer says so, or it was never sent (status 0).
        Unanswered
            If it may have been carried out: no answer, none that can be read, or one that a proxy
            gives for a service that goes on working.
        """
        what = f"cloud {self.cloud.name}: {service}: {method} {_short(path)}"
        for renewed in (False, True):
            answer = self._send_once(what, service, method, path, version, body, timeout_s)
            if answer.status_code != 401 or renewed:
                break
            self.cloud.session.invalidate()
        status = answer.status_code
        if status < 300:
            headers = answer.headers
            asked = headers.get("x-openstack-request-id") or headers.get("x-compute-request-id")
            return Accepted(status, asked)
        text = f"{what}: {status} ({_message(answer)})"
        if status >= 500 or status == 408:
            raise Unanswered(text)
        raise Refused(status, text)

    def each(
        self, work: Callable[[T], R], items: Iterable[T], done: Callable[[int], None]
    ) -> list[R]:
        """Call ``work`` for each item in a bounded pool; results in the items' order.

        ``done`` is told how many are finished.  The first error ends all of it.
        """
        pool = futures.ThreadPoolExecutor(self._limits.workers)
        try:
            running = [pool.submit(work, item) for item in items]
            for count, _ in enumerate(_as_completed(running), 1):
                done(count)
            return [one.result() for one in running]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def renewed(self) -> "Client":
        """Return one for the same cloud with all its time before it, and what is known of it."""
        made = Client(self.cloud, self._limits)
        made.skew_s, made._gate, made._most = self.skew_s, self._gate, self._most
        return made

    def stop(self) -> None:
        """Let no more requests begin; those that wait for another attempt end now."""
        self._end = 0.0
        self._stopped.set()

    def now(self) -> float:
        """Return the cloud's time, in seconds since 1970."""
        return time.time() + (self.skew_s or 0.0)

    def _patiently(self, what: str, ask: Callable[[], R]) -> R:
        def left() -> float:
            return self._end - time.monotonic()

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait_s if isinstance(error, _Again) else 0.0
            return max(asked, tenacity.wait_random_exponential(0.5, LONGEST_WAIT_S / 4)(state))

        def over(state: tenacity.RetryCallState) -> bool:
            # What waits longer than there is time for is over now.
            return state.attempt_number >= self._limits.attempts or left() < state.upcoming_sleep

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=wait,
            stop=over,
            sleep=tenacity.sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            return retrying(ask)
        except _Again as error:
            attempts = retrying.statistics["attempt_number"]
            ended = f"given up after {attempts} attempts"
            if attempts < self._limits.attempts:
                ended += f": {self._too_late()}"
            raise exceptions.CloudError(
                f"cloud {self.cloud.name}: {what}: {error}; {ended}"
            ) from None

    def _log_in(self) -> str:
        account = self._of_keystone(self.cloud.account)
        endpoint = self._of_keystone(self.cloud.adapters["compute"].get_endpoint)
        where = f"{self.cloud.auth_url} {self.cloud.region} {endpoint}"
        return f"{where} {account.user} {account.project}"

    def _of_keystone(self, ask: Callable[[], R]) -> R:
        """Ask for what a token tells; without one Keystone is found and asked: two requests."""
        self._check_deadline()
        try:
            return ask()
        except (ksa.ConnectFailure, ksa.DiscoveryFailure, ksa.HttpServerError) as error:
            raise _Again(f"no Keystone answers at {self.cloud.auth_url} ({_line(error)})") from None
        except (ksa.ClientException, requests.RequestException) as error:
            raise connection.refused(self.cloud, error) from None

    def _discover(self, service: str) -> Version:
        self._check_deadline()
        self._count()
        try:
            data = self.cloud.adapters[service].get_endpoint_data()
        except ksa.Unauthorized as error:
            raise connection.refused(self.cloud, error) from None
        except (ksa.EndpointNotFound, ksa.EmptyCatalog):
            data = None
        except ksa.ClientException as error:
            raise _Again(_line(error)) from None
        if data is None:
            raise Refused(
                404,
                f"cloud {self.cloud.name}: its catalogue has no {service} service in region "
                f"{self.cloud.region}",
            )
        if data.max_microversion is None:
            # Discovery of keystoneauth falls back to the catalogue when the service is down.
            if service == "network":
                return (0, 0)
            raise _Again(f"{service} at {data.url} does not tell its microversions")
        return (int(data.max_microversion[0]), int(data.max_microversion[1]))

    def _once(self, service: str, path: str, version: str | None, accept: tuple[int, ...]) -> Any:
        if not self._gate.enter(lambda: time.monotonic() >= self._end):
            self._check_deadline()
        began, refused_s = time.monotonic(), None
        kind = service + _UUID.sub("*", path.partition("?")[0])
        try:
            answer = self._send(service, path, version, began)
            status = answer.status_code
            if status in LOADED:
                refused_s = _retry_after(answer)
        finally:
            self._gate.leave(kind, time.monotonic() - began, refused_s)
        self._compare_clocks(answer)
        if status == 401:
            # The session has renewed its token once already; another request may have ended it.
            raise _Again(f"the token is not accepted ({_message(answer)})")
        if status in AGAIN:
            raise _Again(f"answers {status} ({_message(answer)})", refused_s or 0.0)
        if status in accept:
            return None
        if status >= 400:
            raise Refused(
                status,
                f"cloud {self.cloud.name}: {service} refuses GET {_short(path)} with "
                f"{status} ({_message(answer)})",
            )
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise _Again(f"the answer is not JSON ({error})") from None

    def _send(
        self, service: str, path: str, version: str | None, began: float
    ) -> requests.Response:
        self._count()
        try:
            answer: requests.Response = self.cloud.adapters[service].get(
                path,
                microversion=version,
                raise_exc=False,
                timeout=min(self._limits.timeout_s, max(1.0, self._end - began)),
            )
        except ksa.Unauthorized as error:
            raise connection.refused(self.cloud, error) from None
        except (ksa.EndpointNotFound, ksa.EmptyCatalog) as error:
            raise Refused(404, f"cloud {self.cloud.name}: {_line(error)}") from None
        except (ksa.ClientException, requests.RequestException) as error:
            raise _Again(_line(error)) from None
        return answer

    def _send_once(
        self,
        what: str,
        service: str,
        method: str,
        path: str,
        version: str | None,
        body: Any,
        timeout_s: float | None,
    ) -> requests.Response:
        """Send a request that changes something; all that can be asked before it is."""
        try:
            # The token and the service's address, so that below nothing but the request can fail.
            self.identity()
            if not self._gate.enter(lambda: time.monotonic() >= self._end):
                self._check_deadline()
        except exceptions.CloudError as error:
            raise Refused(0, f"{what}: not sent: {error}") from None
        began = time.monotonic()
        kind = f"{method} {service}{_UUID.sub('*', path)}"
        self._count()
        try:
            answer: requests.Response = self.cloud.adapters[service].request(
                path,
                method,
                microversion=version,
                json=body,
                raise_exc=False,
                allow_reauth=False,
                redirect=False,
                connect_retries=0,
                status_code_retries=0,
                timeout=self._limits.timeout_s if timeout_s is None else timeout_s,
            )
        except (ksa.EndpointNotFound, ksa.EmptyCatalog) as error:
            raise Refused(0, f"{what}: not sent: {_line(error)}") from None
        except (ksa.ClientException, requests.RequestException) as error:
            if _never_connected(error):
                raise Refused(0, f"{what}: not sent: {_line(error)}") from None
            raise Unanswered(f"{what}: {_line(error)}") from None
        finally:
            self._gate.leave(kind, time.monotonic() - began)
        return answer

    def _check_deadline(self) -> None:
        if time.monotonic() >= self._end:
            raise exceptions.CloudError(f"cloud {self.cloud.name}: {self._too_late()}")

    def _too_late(self) -> str:
        return (
            f"not read within {self._limits.deadline_s:.0f} s; raise deadline_s in the section "
            "[collect]"
        )

    def _count(self) -> None:
        with self._lock:
            self.requests += 1

    def _compare_clocks(self, answer: requests.Response) -> None:
        date = answer.headers.get("Date")
        if self.skew_s is not None or date is None:
            return
        try:
            told = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        # A Date has whole seconds: half a second is what it is off on average.
        self.skew_s = told + 0.5 - time.time()


def dotted(version: Version) -> str:
    """Write a microversion as the header wants it."""
    return f"{version[0]}.{version[1]}"


def _as_completed(running: list[futures.Future[R]]) -> Iterable[futures.Future[R]]:
    for one in futures.as_completed(running):
        if one.exception() is not None:
            one.result()
        yield one


def _never_connected(error: BaseException | None) -> bool:
    """Whether an error of a request means that there was no connection to send it on.

    keystoneauth tells all of them alike (``session.py``, ``_send_request``), so what it caught
    decides.
    """
    while error is not None:
        if isinstance(error, NEVER_CONNECTED):
            return True
        error = error.__context__
    return False


def _retry_after(answer: requests.Response) -> float:
    """Seconds it asks to wait; 0 when it does not say, or says it as a date."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT_S) if text.isdigit() else 0.0


def _message(answer: requests.Response) -> str:
    """Find the text in the error formats of the services."""
    try:
        content = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        # Glance, and what checks tokens, answer in HTML.
        return _line(_TAG.sub(" ", answer.text) or answer.reason)
    if isinstance(content, dict):
        for value in (content, *content.values()):
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, dict):
                for key in ("message", "detail", "title"):
                    if isinstance(value.get(key), str):
                        return _line(value[key])
    return _line(answer.text)


def _short(path: str) -> str:
    """Cut a path whose query is a list of ids."""
    return path if len(path) <= 120 else f"{path[:100]}..."


def _line(text: object) -> str:
    return " ".join(str(text).split())[:200]

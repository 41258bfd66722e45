# SPDX-License-Identifier: Apache-2.0
"""Requests are repeated when that helps, end in one clear line when it does not, and never hang."""

from concurrent import futures
import itertools
import socket
import threading
import time

import pytest

from nova_rebalancer import exceptions
from nova_rebalancer.rest import client
from tests.unit.collect import emulator

PATH = "/os-aggregates"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An empty cloud."""
    with emulator.running(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def hasty(monkeypatch):
    """Waits between attempts are at most 10 ms, so what is told to wait longer does not."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.04)


def nothing(done: int) -> None:
    """Hear of no progress."""


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_errors_are_waited_out(server, hasty, status):
    """A request that fails twice in a way that may pass is asked again and gets its answer."""
    server.on(PATH, times=2, status=status)
    assert server.client().get("compute", PATH, "2.100") == {"aggregates": []}
    assert len(server.lines(PATH)) == 3


@pytest.mark.parametrize("cut", [0, 5])
def test_cut_connections_are_tried_again(server, hasty, cut):
    """A connection that ends before the answer, or within it, is no answer but a next attempt."""
    server.on(PATH, times=2, cut=cut)
    assert server.client().get("compute", PATH, "2.100") == {"aggregates": []}


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"aggregates": ['])
def test_what_is_no_json_is_tried_again(server, hasty, body):
    """A proxy's page with status 200 is no answer either."""
    server.on(PATH, times=2, status=200, body=body)
    assert server.client().get("compute", PATH, "2.100") == {"aggregates": []}


def test_retry_after_is_obeyed(server, monkeypatch):
    """After 429 with Retry-After nothing is sent, by no worker, before that time is over."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 1.0)
    server.on(PATH, status=429, headers={"Retry-After": "1"})
    ask = server.client(workers=4)
    ask.newest("compute")
    ask.get("compute", "/os-services", "2.100")
    ask.each(
        lambda path: ask.get("compute", path, "2.100"), [PATH, *["/os-services"] * 40], nothing
    )
    times = [one.at_s for one in server.asked if "/v2.1/os-" in one.line]
    gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(times))]
    assert max(gaps) >= 0.95
    # One pause, not one for each worker.
    assert sum(gap > 0.3 for gap in gaps) == 1


def test_workers_that_wait_their_turn_hold_too(server, monkeypatch):
    """Who already waits because of the request rate hears of the 429 all the same."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 1.0)
    ask = server.client(workers=4, requests_per_s=10)
    ask.newest("compute")
    server.on(PATH, status=429, headers={"Retry-After": "1"}, delay_s=0.02)
    ask.each(lambda path: ask.get("compute", path, "2.100"), [PATH, *["/os-services"] * 3], nothing)
    first, *rest = (one.at_s for one in server.asked if "/v2.1/os-" in one.line)
    assert min(rest) - first >= 0.95


@pytest.mark.parametrize(
    ("service", "path", "version"),
    [
        ("compute", PATH, "2.100"),
        ("placement", "/resource_providers", "1.39"),
        ("network", "/v2.0/ports", None),
    ],
)
def test_lasting_errors_are_told(server, hasty, service, path, version):
    """What fails at every attempt is an error that names cloud, service, path and reason."""
    server.on(path, times=99, status=503, body=b'{"error": {"message": "the database is gone"}}')
    with pytest.raises(exceptions.CloudError) as raised:
        server.client(attempts=3).get(service, path, version)
    assert len(server.lines(path)) == 3
    text = str(raised.value)
    for part in ("here", service, path, "503", "the database is gone", "3 attempts"):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize("what", ["newest", "identity"])
def test_nobody_listens(server, hasty, what):
    """A cloud that is not there is told with its address and what the network says."""
    server.shutdown()
    server.server_close()
    ask = server.client(attempts=2)
    with pytest.raises(exceptions.CloudError, match=rf"here: .*{server.root}"):
        ask.newest("placement") if what == "newest" else ask.identity()


@pytest.mark.parametrize("status", [400, 403, 404, 409, 406])
def test_refusals_end_at_once(server, status):
    """An answer that stays is not asked for again; the reason in it is passed on."""
    server.on(PATH, times=99, status=status, body=b'{"forbidden": {"message": "policy says no"}}')
    with pytest.raises(
        client.Refused, match=rf"here: compute .*{status} \(policy says no\)"
    ) as one:
        server.client().get("compute", PATH, "2.100")
    assert one.value.status == status
    assert len(server.lines(PATH)) == 1


def test_token_that_is_never_accepted(server):
    """A token that ends between two requests is renewed; one that never counts is an error."""
    server.on(PATH, times=99, status=401, body=b'{"error": {"message": "expired"}}')
    with pytest.raises(exceptions.CloudError, match="the token is not accepted"):
        server.client(attempts=2).get("compute", PATH, "2.100")
    # Each attempt renews the token once.
    assert len(server.lines(PATH)) == 4


def test_accepted_statuses(server):
    """A status the caller expects is None."""
    path = "/servers/00000000-0000-4000-8000-000000000000"
    assert server.client().get("compute", path, "2.100", (404,)) is None
    with pytest.raises(client.Refused):
        server.client().get("compute", path, "2.100", (400,))


def test_expired_token_is_renewed(server):
    """A token that ends in the middle of a pass is renewed, and nobody notices."""
    ask = server.client()
    ask.get("compute", PATH, "2.100")
    server.world.token += 1
    assert ask.get("compute", PATH, "2.100") == {"aggregates": []}
    assert len(server.lines("POST .*/tokens")) == 2


def test_wrong_password(server):
    """Credentials that are refused are told as that, at once."""
    server.world.password = "another"
    with pytest.raises(exceptions.CloudError, match="here: the credentials are not accepted"):
        server.client().newest("compute")
    with pytest.raises(exceptions.CloudError, match="here: the credentials are not accepted"):
        server.client().identity()
    assert len(server.lines("POST .*/tokens")) == 2


@pytest.mark.parametrize("what", ["newest", "identity"])
def test_keystone_stumbles(server, hasty, what):
    """A Keystone that fails at first is asked again."""
    server.on("POST .*/tokens", times=2, status=503)
    ask = server.client()
    assert ask.newest("compute") == (2, 100) if what == "newest" else ask.identity()


def test_account_while_keystone_is_away(server, hasty):
    """Whose token it was is asked for with patience when the token has ended meanwhile."""
    ask = server.client(attempts=3)
    before = ask.account()
    ask.cloud.session.invalidate()
    server.on("POST .*/tokens", times=2, status=503)
    assert ask.account() == before
    ask.cloud.session.invalidate()
    server.on("POST .*/tokens", times=99, status=503)
    with pytest.raises(exceptions.CloudError, match=r"here: .*no Keystone answers"):
        ask.account()


def test_discovery_stumbles(server, hasty):
    """A service that fails when it is asked for its versions is asked again."""
    server.on("GET /compute/v2.1/?$", times=2, status=503)
    assert server.client().newest("compute") == (2, 100)


def test_discovery_fails(server, hasty):
    """A service that never tells its versions is named."""
    server.on("GET /(compute|placement)", times=99, status=500)
    with pytest.raises(exceptions.CloudError, match="here: placement"):
        server.client(attempts=3).newest("placement")


def test_service_is_not_in_the_catalogue(server):
    """A cloud without the service is refused by name and region."""
    server.world.catalogue.remove("placement")
    with pytest.raises(client.Refused, match=r"here: .*no placement .*RegionOne"):
        server.client().newest("placement")
    with pytest.raises(client.Refused, match=r"here: .*placement"):
        server.client().get("placement", "/resource_providers", "1.39")


@pytest.mark.parametrize(
    ("newest", "best", "wanted"),
    [
        ("2.100", (2, 100), "2.100"),
        ("2.103", (2, 100), "2.100"),
        ("2.96", (2, 100), "2.96"),
        ("2.100", (2, 9), "2.9"),
        ("2.9", (2, 100), "2.9"),
    ],
)
def test_microversion(server, newest, best, wanted):
    """The older of what the cloud has and what we want is asked for; 2.9 is older than 2.100."""
    server.world.newest["compute"] = newest
    ask = server.client()
    assert ask.version("compute", best) == wanted
    ask.get("compute", PATH, ask.version("compute", best))
    assert server.asked[-1].version == wanted
    assert len(server.lines("GET /compute/v2.1$")) == 1


@pytest.mark.parametrize("newest", ["2.9", "2.72"])
def test_cloud_is_too_old(server, newest):
    """A cloud without a microversion we need is refused with both."""
    server.world.newest["compute"] = newest
    with pytest.raises(
        exceptions.CloudError, match=rf"here: compute .*up to {newest}; 2\.73 is needed"
    ):
        server.client().version("compute", (2, 100), (2, 73))


@pytest.mark.parametrize("ahead_s", [0.0, -7200.0, 300.0])
def test_clock_skew(server, ahead_s):
    """The difference of the clocks is found to the second, so times are the cloud's."""
    server.world.ahead_s = ahead_s
    ask = server.client()
    ask.get("compute", PATH, "2.100")
    assert ask.skew_s == pytest.approx(ahead_s, abs=1.0)
    assert ask.now() == pytest.approx(server.world.time(), abs=1.0)


def test_no_clock(server):
    """A Date nobody can read tells nothing."""
    server.on(PATH, status=200, headers={"Date": "yesterday"}, body=b"{}")
    ask = server.client()
    ask.get("compute", PATH, "2.100")
    assert ask.skew_s is None
    assert ask.now() == pytest.approx(time.time(), abs=1.0)


def test_deadline_before_a_request(server):
    """When the time is over nothing more is asked."""
    ask = server.client(deadline_s=0.2)
    ask.newest("compute")
    time.sleep(0.2)
    with pytest.raises(exceptions.CloudError, match="deadline_s"):
        ask.get("compute", PATH, "2.100")
    assert not server.lines(PATH)


def test_deadline_ends_attempts(server):
    """Attempts do not go beyond the deadline."""
    server.on(PATH, times=999, status=503)
    began = time.monotonic()
    with pytest.raises(exceptions.CloudError):
        server.client(deadline_s=0.5, attempts=99).get("compute", PATH, "2.100")
    assert time.monotonic() - began < 10.0


def test_wait_longer_than_the_deadline(server):
    """A cloud that wants to be left alone longer than there is time for ends it at once.

    What ended it is told, and which option gives more time.
    """
    server.on(PATH, times=99, status=429, headers={"Retry-After": "30"})
    ask = server.client(deadline_s=2.0)
    began = time.monotonic()
    with pytest.raises(exceptions.CloudError, match=r"429.*deadline_s"):
        ask.get("compute", PATH, "2.100")
    assert time.monotonic() - began < 10.0


def test_deadline_at_a_closed_gate(server):
    """Nor does another worker wait for such a cloud beyond the deadline."""
    server.on(PATH, status=429, headers={"Retry-After": "30"})
    ask = server.client(deadline_s=0.7)
    with pytest.raises(exceptions.CloudError):
        ask.get("compute", PATH, "2.100")
    began = time.monotonic()
    with pytest.raises(exceptions.CloudError, match="deadline_s"):
        ask.get("compute", "/os-services", "2.100")
    assert time.monotonic() - began < 10.0


def test_slow_answers_time_out(server, hasty):
    """One answer may take so long and no longer."""
    server.on(PATH, delay_s=4.0)
    ask = server.client(timeout_s=0.2)
    ask.newest("compute")
    began = time.monotonic()
    assert ask.get("compute", PATH, "2.100") == {"aggregates": []}
    assert time.monotonic() - began < 4.0


def test_each_keeps_the_order(server):
    """Results come in the order of the items, whichever was first; progress is counted."""
    server.world.max_limit = 1
    ids = [server.world.server() for _ in range(8)]
    server.on(f"servers/{ids[0]}", delay_s=0.1)
    ask, done = server.client(), []
    found = ask.each(lambda n: ask.get("compute", f"/servers/{n}", "2.100"), ids, done.append)
    assert [one["server"]["id"] for one in found] == ids
    assert done == list(range(1, 9))


def test_each_is_bounded(server):
    """No more requests are under way than there are workers."""
    lock, inside, most = threading.Lock(), 0, 0
    ask = server.client(workers=3)

    def work(item: int) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1

    ask.each(work, range(30), nothing)
    assert most == 3


def test_first_error_ends_the_rest(server):
    """After an error nothing new is begun."""
    ask = server.client(workers=1)
    seen = []

    def work(item: int) -> None:
        seen.append(item)
        time.sleep(0.01)
        raise exceptions.CloudError("no")

    with pytest.raises(exceptions.CloudError, match="no"):
        ask.each(work, range(100), nothing)
    assert len(seen) <= 2


def test_stop(server):
    """Who waits for a next attempt when it is stopped ends at once."""
    server.on(PATH, times=99, status=503, headers={"Retry-After": "30"})
    ask = server.client()
    with futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask.get, "compute", PATH, "2.100")
        while not server.lines(PATH):
            time.sleep(0.01)
        time.sleep(0.1)
        ask.stop()
        with pytest.raises(exceptions.CloudError):
            running.result(2.0)


def test_requests_are_counted(server):
    """What is told as the number of requests is what the services saw, logins left out."""
    ask = server.client()
    ask.newest("placement")
    ask.get("compute", PATH, "2.100")
    ask.get("placement", "/resource_providers", "1.39")
    seen = server.lines("/(compute|placement)")
    # Discovery is one request for each service; Nova's was not needed.
    assert ask.requests == len(seen) == 3


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"attempts": 0}, {"requests_per_s": 0}, {"requests_per_s": -1.0}]
)
def test_limits_are_checked(wrong):
    """Limits nobody could work with are refused when they are made."""
    with pytest.raises(ValueError, match="positive"):
        client.Limits(**wrong)


MIGRATE = {"os-migrateLive": {"host": "b", "block_migration": "auto"}}


@pytest.fixture
def moving(server):
    """A server on the first of two hosts, and what asks for its migration."""
    for name in ("a", "b"):
        server.world.host(name)
    path = f"/servers/{server.world.server('a')}/action"

    def send(ask: client.Client, **more) -> client.Accepted:
        return ask.send("compute", "POST", path, "2.96", MIGRATE, **more)

    return send


def posts(server):
    """Requests to migrate that came."""
    return server.lines("POST .*/action")


def test_a_request_is_sent_once(server, moving):
    """What was accepted is told with the id that the service gave the request."""
    answer = moving(server.client())
    assert answer.status == 202
    (actions,) = server.world.actions.values()
    assert answer.request == actions[0]["request_id"]
    assert len(posts(server)) == 1
    assert server.asked[-1].version == "2.96"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_an_error_that_may_hide_a_success(server, moving, status):
    """What a proxy may answer while the service goes on is no answer; nothing is sent again."""
    server.on("POST .*/action", times=9, status=status, body=b"<h1>Gateway</h1>")
    with pytest.raises(client.Unanswered, match=rf"here: compute: POST .*{status} \(Gateway\)"):
        moving(server.client())
    assert len(posts(server)) == 1


@pytest.mark.parametrize("cut", [0, 5])
def test_a_cut_connection_is_no_answer(server, moving, cut):
    """A connection that ends before the answer is whole tells nothing; nothing is sent again."""
    server.on("POST .*/action", times=9, cut=cut, status=409, body=b'{"conflictingRequest": {}}')
    with pytest.raises(client.Unanswered):
        moving(server.client())
    assert len(posts(server)) == 1


def test_a_late_answer_is_no_answer(server, moving):
    """After its time a request is given up, and not sent again."""
    server.on("POST .*/action", delay_s=0.6)
    with pytest.raises(client.Unanswered, match="timed out"):
        moving(server.client(), timeout_s=0.2)
    time.sleep(0.6)
    assert len(posts(server)) == 1
    # It was carried out all the same.
    assert server.world.actions


@pytest.mark.parametrize("status", [301, 307, 308, 400, 403, 404, 409, 413, 429])
def test_a_refusal_is_told(server, moving, status):
    """An answer that nothing was done is passed on with its reason; redirects are not followed."""
    where = {"Location": f"{server.root}/compute/v2.1/elsewhere"}
    body = b'{"conflictingRequest": {"message": "it is locked"}}'
    server.on("POST .*/action", times=9, status=status, body=body, headers=where)
    with pytest.raises(client.Refused, match=rf"{status} \(it is locked\)") as raised:
        moving(server.client())
    assert raised.value.status == status
    assert len(posts(server)) == 1
    assert not server.lines("elsewhere")


def test_nobody_was_there(server, moving):
    """Without a connection nothing was sent: that is a refusal, with status 0."""
    ask = server.client()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    ask.cloud.adapters["compute"].endpoint_override = f"http://127.0.0.1:{port}/v2.1"
    with pytest.raises(client.Refused, match="not sent") as raised:
        moving(ask)
    assert raised.value.status == 0


def test_no_login_no_request(server, hasty, moving):
    """Where Keystone does not answer in the end nothing is sent."""
    server.on("POST .*/tokens", times=99, status=503)
    with pytest.raises(client.Refused, match=r"not sent: .*no Keystone answers") as raised:
        moving(server.client(attempts=2))
    assert raised.value.status == 0
    assert not posts(server)


def test_no_time_left(server, moving):
    """Nothing is sent by a client that was told to stop."""
    ask = server.client()
    ask.identity()
    ask.stop()
    with pytest.raises(client.Refused, match="not sent"):
        moving(ask)
    assert not posts(server)


def test_an_expired_token_fails_no_request(server, moving):
    """A token that is not accepted any more is renewed; the service has not seen the request."""
    ask = server.client()
    ask.identity()
    server.world.token += 1
    assert moving(ask).status == 202
    assert len(posts(server)) == 2
    assert len(server.world.actions) == 1


def test_an_expired_token_while_keystone_is_away(server, hasty, moving):
    """When the token cannot be renewed the request was not carried out, and that is known."""
    ask = server.client(attempts=2)
    ask.identity()
    server.world.token += 1
    server.on("POST .*/tokens", times=99, status=503)
    with pytest.raises(client.Refused, match="not sent") as raised:
        moving(ask)
    assert raised.value.status == 0


def test_a_token_that_is_never_accepted_refuses(server, moving):
    """A fresh token that does not count either ends it: 401."""
    server.on("POST .*/action", times=99, status=401, body=b'{"error": {"message": "no"}}')
    with pytest.raises(client.Refused) as raised:
        moving(server.client())
    assert raised.value.status == 401
    assert len(posts(server)) == 2


def test_renewed_knows_what_was_learnt(server):
    """A renewed client has all its time again, and asks for no version a second time."""
    ask = server.client()
    ask.version("compute", (2, 96))
    ask.stop()
    again = ask.renewed()
    assert again.get("compute", PATH, again.version("compute", (2, 96))) == {"aggregates": []}
    assert len(server.lines("GET /compute/v2.1$")) == 1

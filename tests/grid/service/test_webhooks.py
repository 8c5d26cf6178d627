"""What happens is posted to the operator's addresses: real ones, on sockets of this machine."""

import asyncio
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time

import pytest

from fedplan.errors import SettingsError
from fedplan.grid import Settings
from fedplan.grid.service.webhooks import check_webhooks

SECRET = "a secret that is long enough, as it must be"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it takes, and answers with the next of its statuses."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.server.came.append((status, dict(self.headers), body))
        time.sleep(self.server.seconds)
        self.send_response(status)
        if status == 307:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receivers():
    """Two addresses."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) for _ in range(2)]
    threads = []
    for server in servers:
        server.came, server.statuses, server.seconds = [], [], 0.0
        server.url = f"http://127.0.0.1:{server.server_port}"
        threads.append(threading.Thread(target=server.serve_forever, args=(0.01,)))
        threads[-1].start()
    yield servers
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def told(receiver):
    """The events that a receiver has taken."""
    return [
        event for status, _, body in receiver.came if status == 200 for event in json.loads(body)["events"]
    ]


def kinds(receiver):
    return [event["kind"] for event in told(receiver)]


async def until(reached):
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0.01)


def webhooks(*receivers):
    return {"webhooks": [receiver.url for receiver in receivers], "webhook_secret": SECRET}


async def test_what_happens_is_posted_in_its_order_and_signed(open_grid, receivers):
    receiver, _ = receivers
    async with open_grid(**webhooks(receiver)) as peer:
        await peer.host(server={"max_diffs": 1})
        await (await peer.join()).report(1.0)
        await until(lambda: "averaged" in kinds(receiver) and "opened" in kinds(receiver))
    assert [kind for kind in kinds(receiver) if kind != "refused"][:4] == [
        "hosted",
        "joined",
        "reported",
        "closed",
    ]
    assert told(receiver)[0]["model"] == "m"
    for _, headers, body in receiver.came:
        signed = f"{headers['X-Fedplan-Timestamp']}.".encode() + body
        digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-Fedplan-Signature"] == f"sha256={digest}"
        assert headers["X-Fedplan-Delivery"] == json.loads(body)["events"][-1]["id"]


async def test_what_was_not_taken_is_sent_again_and_each_address_goes_its_own_way(open_grid, receivers):
    broken, whole = receivers
    broken.statuses = [307]
    async with open_grid(**webhooks(broken, whole)) as peer:
        await peer.host()
        await until(lambda: kinds(whole) == ["hosted"])
        await until(lambda: kinds(broken) == ["hosted"])
    assert [status for status, _, _ in broken.came] == [307, 200]  # the redirect was not followed
    assert len({json.loads(body)["events"][0]["id"] for _, _, body in broken.came}) == 1


async def test_the_pauses_grow(open_grid, receivers):
    receiver, _ = receivers
    receiver.statuses = [503, 500, 404]
    now = [1_000_000.0]
    async with open_grid(clock=lambda: now[0], **webhooks(receiver)) as peer:
        await peer.host()
        for tries, pause in enumerate((1.0, 2.0, 4.0), start=1):
            await until(lambda tries=tries: len(receiver.came) == tries)
            await asyncio.sleep(0.2)  # four looks
            now[0] += 0.9 * pause
            await asyncio.sleep(0.2)
            assert len(receiver.came) == tries
            now[0] += 0.2 * pause
        await until(lambda: kinds(receiver) == ["hosted"])


async def test_a_restart_loses_nothing_and_sends_nothing_twice(open_grid, receivers):
    receiver, _ = receivers
    receiver.seconds = 0.3  # the grid ends between what it takes and what it answers
    async with open_grid(**webhooks(receiver)) as peer:
        await peer.host("first")
        await until(lambda: kinds(receiver) == ["hosted"])
    async with open_grid() as peer:  # without webhooks
        await peer.host("second")
    async with open_grid(**webhooks(receiver)) as peer:
        await peer.host("third")
        await until(lambda: len(told(receiver)) == 3)
    assert [event["model"] for event in told(receiver)] == ["first", "second", "third"]


async def test_an_address_is_told_what_happens_from_its_first_start_on_and_by_one_replica(
    open_grid, receivers
):
    receiver, _ = receivers
    async with open_grid() as peer:
        await peer.host("before")
    async with open_grid(**webhooks(receiver)) as one, open_grid(**webhooks(receiver)) as other:
        await asyncio.sleep(0.2)  # both have begun
        for number in range(3):
            await one.host(f"one{number}")
            await other.host(f"other{number}")
        await until(lambda: len(told(receiver)) >= 6)
        await asyncio.sleep(0.2)
    assert sorted(event["model"] for event in told(receiver)) == [
        *(f"one{number}" for number in range(3)),
        *(f"other{number}" for number in range(3)),
    ]


async def test_a_grid_that_ends_does_not_wait_for_an_address(open_grid):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # which takes connections, and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with open_grid(webhooks=[url], webhook_secret=SECRET) as peer:
            await peer.host()
            await asyncio.sleep(0.3)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize("secret", [None, "short"])
def test_webhooks_need_a_secret(secret):
    with pytest.raises(SettingsError, match="FEDPLAN_WEBHOOK_SECRET of at least 32 characters"):
        check_webhooks(Settings(webhooks=["https://ops.example"], webhook_secret=secret))
    check_webhooks(Settings(webhook_secret=secret))

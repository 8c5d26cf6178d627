"""How many requests one address may send; the last tests over real sockets."""

import json

import httpx
import pytest
import websockets

from fedplan.errors import TooManyRequestsError
from fedplan.grid import Settings
from fedplan.grid.web import rates
from fedplan.grid.web.rates import Rates
from tests.grid.conftest import serving


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def taken(rates, address, tries):
    """How many of so many requests are let through."""
    count = 0
    for _ in range(tries):
        try:
            rates.take(address)
        except TooManyRequestsError:
            continue
        count += 1
    return count


def test_an_address_that_was_quiet_may_send_ten_seconds_worth_at_once(clock):
    assert taken(Rates(5, clock), "198.51.100.1", 100) == 50


def test_then_it_may_send_so_many_a_second(clock):
    counted = Rates(5, clock)
    taken(counted, "198.51.100.1", 100)
    for seconds, count in ((1, 5), (0.2, 1), (0.1, 0), (0.1, 1), (3600, 50)):
        clock.now += seconds
        assert taken(counted, "198.51.100.1", 100) == count


def test_one_address_takes_nothing_from_another(clock):
    counted = Rates(5, clock)
    taken(counted, "198.51.100.1", 100)
    assert taken(counted, "198.51.100.2", 1) == 1


def test_a_household_of_ipv6_is_one_address(clock):
    counted = Rates(5, clock)
    assert taken(counted, "2001:db8::1", 30) + taken(counted, "2001:db8::ffff:2", 100) == 50
    assert taken(counted, "2001:db8:0:1::1", 1) == 1


def test_nobody_is_counted_where_it_is_turned_off_or_within_the_process(clock):
    assert taken(Rates(0, clock), "198.51.100.1", 100) == 100
    assert taken(Rates(1, clock), None, 100) == 100


def test_as_many_addresses_are_remembered_as_there_is_room_for(clock, monkeypatch):
    monkeypatch.setattr(rates, "_MOST_ADDRESSES", 2)
    counted = Rates(1, clock)
    for address in ("a", "b", "c"):
        taken(counted, address, 20)
    assert taken(counted, "c", 1) == taken(counted, "b", 1) == 0
    assert taken(counted, "a", 20) == 10  # forgotten, as the one that was quiet the longest


@pytest.fixture
def grid(tmp_path):
    settings = Settings(data_dir=tmp_path, requests_per_address=1, trusted_proxies=["127.0.0.2"])
    with serving(settings) as address:
        yield address


def from_address(own, **options):
    return httpx.Client(transport=httpx.HTTPTransport(local_address=own), **options)


def statuses(client, grid, tries, **headers):
    answers = [client.get(f"http://{grid}/model-centric/status", headers=headers) for _ in range(tries)]
    return [answer.status_code for answer in answers], answers[-1]


def test_a_flood_over_http_is_turned_away_and_others_are_served(grid):
    with from_address("127.0.0.1") as flood, from_address("127.0.0.3") as other:
        codes, last = statuses(flood, grid, 40)
        assert codes[:8] == [200] * 8
        assert codes.count(429) > 10
        assert last.headers["retry-after"] == "1"
        assert "FEDPLAN_REQUESTS_PER_ADDRESS" in last.json()["error"]
        assert statuses(other, grid, 1)[0] == [200]


def test_a_page_elsewhere_can_read_that_it_is_turned_away(grid):
    with from_address("127.0.0.1") as flood:
        _, last = statuses(flood, grid, 40, origin="https://page.example")
    assert (last.status_code, last.headers["access-control-allow-origin"]) == (429, "*")


async def test_messages_over_a_websocket_count_too(grid):
    async with websockets.connect(f"ws://{grid}/") as socket:
        replies = []
        for _ in range(40):
            await socket.send(json.dumps({"type": "socket-ping", "data": {}, "tell_status": True}))
            replies.append(json.loads(await socket.recv()))
        assert all("status" not in reply for reply in replies[:8])
        assert (replies[-1]["status"], replies[-1]["retry_after"]) == (429, 1)


def test_clients_behind_a_trusted_proxy_are_told_apart(grid):
    with from_address("127.0.0.2") as proxy:
        assert 429 in statuses(proxy, grid, 40, **{"x-forwarded-for": "198.51.100.1"})[0]
        assert statuses(proxy, grid, 1, **{"x-forwarded-for": "198.51.100.2"})[0] == [200]
    with from_address("127.0.0.1") as liar:
        codes = [statuses(liar, grid, 1, **{"x-forwarded-for": f"198.51.100.{n}"})[0][0] for n in range(40)]
    assert 429 in codes

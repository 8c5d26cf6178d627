"""From which address a request comes, where proxies stand before the grid."""

import httpx
import pytest

from fedplan.grid import Settings
from fedplan.grid.web.proxies import Proxies
from tests.grid.conftest import serving

PROXIES = Proxies(["10.0.0.0/8", "fd00::/8", "192.0.2.7"])


def client(peer, *forwarded):
    return PROXIES.client(peer, [(b"x-forwarded-for", value.encode()) for value in forwarded])


@pytest.mark.parametrize("address", ["10.1.2.3", "192.0.2.7", "fd00::1", "::ffff:10.1.2.3"])
def test_a_proxy_is_known_by_its_address_or_network(address):
    assert address in PROXIES


@pytest.mark.parametrize("address", ["11.0.0.1", "192.0.2.8", "fe80::1", "", "proxy.example"])
def test_others_are_none(address):
    assert address not in PROXIES


def test_who_comes_without_a_proxy_is_believed_nothing():
    assert client("203.0.113.5", "198.51.100.1") == "203.0.113.5"
    assert Proxies([]).client("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.1")]) == "10.0.0.1"


def test_a_proxy_tells_the_address_of_its_caller():
    assert client("10.0.0.1", "198.51.100.1") == "198.51.100.1"
    assert client("10.0.0.1", "2001:db8::1") == "2001:db8::1"


def test_what_a_client_wrote_before_is_not_believed():
    assert client("10.0.0.1", "1.1.1.1, 198.51.100.1") == "198.51.100.1"
    assert client("10.0.0.1", "1.1.1.1", "198.51.100.1") == "198.51.100.1"


def test_several_proxies_stand_in_a_row():
    assert client("10.0.0.1", "1.1.1.1, 198.51.100.1, 192.0.2.7, 10.0.0.9") == "198.51.100.1"


@pytest.mark.parametrize("told", ["", "unknown", "198.51.100.1:80", "a, , "])
def test_where_a_proxy_tells_no_address_it_stands_for_its_caller(told):
    assert client("10.0.0.1", told) == "10.0.0.1"
    assert client("10.0.0.1", f"{told}, 192.0.2.7") == "192.0.2.7"


def test_a_proxy_that_calls_by_itself_is_the_client():
    assert client("10.0.0.1", "10.0.0.2") == "10.0.0.2"
    assert client("10.0.0.1") == "10.0.0.1"


async def test_a_server_believes_no_proxy_of_its_own_machine_that_is_not_named(tmp_path):
    """The server that the grid stands on has a list of its own, in which this machine is."""
    with serving(Settings(data_dir=tmp_path, requests_per_address=1)) as address:
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:
            statuses = [
                (await http.get("/healthz", headers={"x-forwarded-for": f"203.0.113.{number}"})).status_code
                for number in range(30)
            ]
    assert 429 in statuses  # they are all one address

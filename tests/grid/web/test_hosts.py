"""Web pages from elsewhere, at a grid that has no owner token: on real sockets, with what browsers send."""

import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fedplan.grid import Settings
from fedplan.grid.web.hosts import without_port
from tests.grid.conftest import serving
from tests.grid.models import hosting
from tests.grid.peers import Peer

PAGE = {"origin": "https://evil.example"}
OWNER = {"authorization": "Bearer secret"}

READ = (
    "/model-centric/status",
    "/model-centric/history?name=m",
    "/model-centric/retrieve-model?name=m",
    "/",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A grid with an owner token that may be called by two names."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("kept"),
        owner_token="secret",
        allowed_hosts=["grid.example", "B.example"],
    )
    with serving(settings) as address:
        yield address


@pytest.fixture(scope="module")
def protected(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("protected"), owner_token="secret")
    with serving(settings) as address:
        yield address


def port_of(address):
    return address.rpartition(":")[2]


async def get(address, path, **headers):
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        return await http.get(path, headers=headers)


class TestAGridWithoutAnOwnerToken:
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", ""])
    async def test_lets_no_page_from_elsewhere_do_what_is_the_owners(self, http, origin):
        page = {"origin": origin}
        if (await http.get("/model-centric/status?name=of-a-page")).status_code == 404:
            await Peer(http).host("of-a-page")
        for call, message in (
            ("host-training", hosting("from-a-page")),
            ("evaluate", {"name": "of-a-page"}),
        ):
            body = json.dumps(message)  # as text: a browser asks no leave to send it
            sent = page | {"content-type": "text/plain"}
            reply = await http.post(f"/model-centric/{call}", content=body, headers=sent)
            assert reply.status_code == 403
            assert "no web page from elsewhere" in reply.json()["error"]
        for path in READ:
            reply = await http.get(path.replace("name=m", "name=of-a-page"), headers=page)
            assert reply.status_code in (401, 403), path
        assert "fedplan_model_" not in (await http.get("/metrics", headers=page)).text
        names = [model["name"] for model in (await http.get("/model-centric/status")).json()["models"]]
        assert "from-a-page" not in names

    async def test_lets_no_page_from_elsewhere_host_over_a_socket_over_which_it_may_train(self, server, http):
        await Peer(http).host("by-socket")
        async with connect(f"ws://{server}", origin="https://page.example") as socket:
            await socket.send(json.dumps({"type": "model-centric/host-training", "data": hosting("x")}))
            assert "no web page from elsewhere" in json.loads(await socket.recv())["data"]["error"]
            await socket.send(
                json.dumps({"type": "model-centric/authenticate", "data": {"model_name": "by-socket"}})
            )
            assert json.loads(await socket.recv())["data"]["status"] == "success"

    async def test_lets_the_pages_of_others_train(self, http):
        await Peer(http).host("of-all")
        reply = await http.post("/model-centric/authenticate", json={"model_name": "of-all"}, headers=PAGE)
        assert reply.json()["status"] == "success"
        assert reply.headers["access-control-allow-origin"] == "*"

    async def test_takes_pysyft_which_names_the_grid_as_the_origin(self, server, http):
        own = {"origin": f"http://{server}"}
        reply = await http.post("/model-centric/host-training", json=hosting("by-pysyft"), headers=own)
        assert reply.json() == {"status": "success"}
        assert (await http.get("/", headers=own)).status_code == 200

    @pytest.mark.parametrize("path", ["/healthz", "/model-centric/status", "/", "/nothing"])
    async def test_is_called_by_no_name_that_a_page_could_have(self, server, path):
        for name in ("evil.example", f"evil.example:{port_of(server)}", "localhost.evil.example", "", "grid"):
            reply = await get(server, path, host=name)
            assert reply.status_code == 421, name
            assert "FEDPLAN_ALLOWED_HOSTS" in reply.json()["error"]

    async def test_is_called_by_this_machines_names_for_itself(self, server):
        for name in (
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1",
            "127.1.2.3:5000",
            "[::1]",
            "[::1]:5000",
            "0.0.0.0:5000",
        ):
            assert (await get(server, "/healthz", host=name)).status_code == 200, name
        assert (await get(server, "/healthz", host="192.168.1.7")).status_code == 421

    async def test_opens_no_socket_by_another_name(self, server):
        with pytest.raises(InvalidStatus) as refused:
            await connect("ws://evil.example", host="127.0.0.1", port=int(port_of(server)))
        assert refused.value.response.status_code == 403

    async def test_may_be_given_other_names(self, tmp_path):
        with serving(Settings(data_dir=tmp_path, allowed_hosts=["grid.lan"])) as address:
            for name, status in (("grid.lan", 200), ("Grid.LAN:5000", 200), ("evil.example", 421)):
                assert (await get(address, "/healthz", host=name)).status_code == status

    async def test_is_called_by_its_address_where_other_machines_are_meant_to_reach_it(self, tmp_path):
        with serving(Settings(data_dir=tmp_path, insecure=True)) as address:
            for name, status in (("192.168.1.7:5000", 200), ("[fe80::1]", 200), ("evil.example", 421)):
                assert (await get(address, "/healthz", host=name)).status_code == status


class TestAGridWithAnOwnerToken:
    async def test_is_called_by_any_name_and_serves_pages_that_show_the_token(self, protected):
        assert (await get(protected, "/model-centric/status", host="grid.example")).status_code == 401
        reply = await get(protected, "/model-centric/status", host="grid.example", **OWNER, **PAGE)
        assert reply.status_code == 200

    async def test_is_called_by_no_other_than_its_names_where_it_has_some(self, kept):
        for name, status in (
            ("grid.example", 200),
            ("b.example:443", 200),
            ("localhost", 200),
            ("c.example", 421),
        ):
            assert (await get(kept, "/healthz", host=name)).status_code == status


@pytest.mark.parametrize(
    ("host", "name"),
    [("a.example", "a.example"), ("A:80", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", ""), (":80", "")],
)
def test_a_host_is_a_name_and_a_port(host, name):
    assert without_port(host) == name

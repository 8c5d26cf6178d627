"""Peers that mean harm, over real sockets: what they send is refused, and costs the grid little."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import sqlite3
import time

import httpx
import numpy as np
import pytest
import websockets

from fedplan.errors import OverloadedError
from fedplan.grid import Settings
from fedplan.grid.background.closer import Closer
from fedplan.grid.store import rounds
from fedplan.grid.web.intake import Intake
from tests.grid.conftest import serving
from tests.grid.databases import only_sqlite
from tests.grid.models import MODEL, base64_of, diff, hosting, no_plan, state
from tests.grid.peers import Peer

POST = "POST /model-centric/{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n"
SECRET = "a secret of more than thirty-two bytes"


@contextlib.contextmanager
def served(folder, **settings):
    with serving(Settings(data_dir=folder, poll_seconds=0.05, **settings)) as address:
        yield address


@contextlib.asynccontextmanager
async def connection(address):
    reader, writer = await asyncio.open_connection(*address.split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def response(reader):
    """Status, headers and error of the response that comes."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().lower()
    length = int(head.partition("content-length: ")[2].split()[0])
    body = json.loads(await reader.readexactly(length))
    return int(head.split()[1]), head, body["error"]


async def said(address, message):
    """The answer to a WebSocket message."""
    async with websockets.connect(f"ws://{address}/", max_size=None) as socket:
        await socket.send(message)
        return json.loads(await socket.recv())


class TestConnections:
    @pytest.mark.parametrize(
        "endless",
        [
            b"GET /healthz?",
            b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ",
            b"POST /model-centric/report HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1;",
            b"POST /model-centric/report HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
            b"1\r\n{\r\n0\r\nx: ",
        ],
        ids=["target", "header", "chunk extension", "trailer"],
    )
    @pytest.mark.parametrize("piece", [b"a" * 100_000, b"a" * 7000 + b"\r\nx: "], ids=["one", "many"])
    async def test_nothing_around_a_body_is_collected_without_end(self, server, endless, piece):
        sent = 0
        async with connection(server) as (_, writer):
            writer.write(endless)
            with contextlib.suppress(ConnectionError):
                while sent < 20_000_000:
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
        assert sent < 20_000_000

    async def test_many_requests_at_once_are_answered_one_by_one(self, server):
        ask = "GET /model-centric/speed-test?is_ping=1&worker_id=w&random=1 HTTP/1.1\r\nhost: [::1]\r\n\r\n"
        async with connection(server) as (reader, writer):
            writer.write(ask.encode() * 2000)  # far more bytes than one head may have
            for _ in range(2000):
                assert b" 200 " in await reader.readline()
                await reader.readuntil(b"\r\n\r\n{}")

    async def test_a_body_that_stops_coming_is_given_up(self, tmp_path):
        with served(tmp_path, body_pause_seconds=0.2) as address:
            async with connection(address) as (reader, writer):
                writer.write(POST.format("report", 100).encode() + b"{")
                status, head, error = await response(reader)
                assert (status, error) == (408, "nothing more of the body came for 0.2 seconds")
                assert "connection: close" in head
                assert await reader.read() == b""

    async def test_a_body_that_is_too_large_ends_the_connection(self, server):
        async with connection(server) as (reader, writer):
            writer.write(POST.format("authenticate", 2**30).encode() + bytes(2**20 + 1))
            status, head, error = await response(reader)
            assert (status, "connection: close" in head) == (413, True)
            assert error == "the body is larger than 1048576 bytes, the limit of this call"

    async def test_bodies_of_many_do_not_fill_the_memory(self, tmp_path):
        with served(tmp_path, max_pending_bytes=1_000_000) as address:
            async with connection(address) as (_, first):
                first.write(POST.format("report", 2_000_000).encode() + bytes(900_000))
                await first.drain()
                async with connection(address) as (reader, second):
                    second.write(POST.format("report", 2_000_000).encode() + bytes(900_000))
                    status, head, error = await response(reader)
                    assert (status, "retry-after" in head) == (503, True)
                    assert error == "the grid is receiving as much as it can hold; try again later"
                assert (await said(address, '{"type":"socket-ping"}'))["data"] == {}
            async with httpx.AsyncClient(base_url=f"http://{address}") as http:
                await Peer(http).host()

    async def test_a_compressed_message_does_not_swell(self, server):
        async with websockets.connect(f"ws://{server}/", compression="deflate") as socket:
            assert "sec-websocket-extensions" not in socket.response.headers


class TestRoomForWhatPeersSend:
    def test_is_given_back(self):
        intake = Intake(1000)
        for _ in range(3):
            with intake.share() as take:
                take(65_000)
                take(1500)
        with intake.share() as take, intake.share() as more:
            take(66_000)
            with pytest.raises(OverloadedError):
                more(66_100)
        with intake.share() as take:
            take(66_536)

    def test_is_not_needed_for_small_messages(self):
        intake = Intake(0)
        with intake.share() as take, intake.share() as more:
            take(65_536)
            more(65_536)


class TestMessages:
    BOMB = "[" + "[]," * 200_000 + "0]"

    async def test_of_very_many_values_are_not_parsed(self, http):
        body = '{"model_name":"m","x":' + self.BOMB + "}"
        reply = await http.post("/model-centric/authenticate", content=body)
        assert reply.status_code == 400
        assert "more than 100000 values" in reply.json()["error"]

    async def test_of_very_many_values_are_not_parsed_from_a_socket(self, server):
        answer = await said(server, '{"type":"socket-ping","data":' + self.BOMB + "}")
        assert "more than 100000 values" in answer["data"]["error"]

    async def test_with_a_type_of_any_length_are_not_echoed(self, server):
        answer = await said(server, json.dumps({"type": "x" * 1000}))
        assert answer["type"] == "error"

    async def test_with_an_id_that_is_not_a_number_get_an_answer_that_is_json(self, server):
        async with websockets.connect(f"ws://{server}/") as socket:
            await socket.send('{"type":"socket-ping","request_id":NaN}')
            assert await socket.recv() == '{"type":"socket-ping","data":{},"request_id":null}'

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000,
            b'{"model_name":"\xff"}',
            b'{"model_name":"\\ud800"}',
            b'{"model_name":1' + b"0" * 9999,
        ],
        ids=["deep", "not UTF-8", "half a character", "a huge number"],
    )
    async def test_that_are_not_sound_json_are_refused(self, http, body):
        reply = await http.post("/model-centric/authenticate", content=body)
        assert reply.status_code == 400
        assert set(reply.json()) == {"error"}

    @pytest.mark.parametrize("key", ["worker_id", "request_key"])
    async def test_with_endless_ids_are_refused(self, http, key):
        message = {"worker_id": "w", "request_key": "k", "diff": ""} | {key: "x" * 2000}
        reply = await http.post("/model-centric/report", json=message)
        assert reply.status_code == 400
        assert key in reply.json()["error"]

    async def test_with_many_faults_are_told_a_few(self, http):
        server = {f"unknown-{n}": 1 for n in range(5000)}
        reply = await http.post("/model-centric/host-training", json=hosting("faults", server=server))
        assert reply.status_code == 400
        assert len(reply.content) < 10_000
        assert reply.json()["error"].endswith("and 4990 more")


class TestDiffs:
    async def test_far_larger_than_the_model_are_neither_read_nor_kept(self, peer, tmp_path):
        await peer.host()
        worker = await peer.join()
        junk = b"\x7a\xc0\x84\x3d" + bytes(1_000_000)  # a field that State does not have
        reply = await worker.report(diff=base64_of(diff(1) + junk))
        assert reply.status_code == 400
        assert "far larger" in reply.json()["error"]
        assert not list(tmp_path.glob("blobs/diffs/*"))
        assert (await worker.report(1)).status_code == 200

    @pytest.mark.parametrize("dtype", ["int8", "float16"])
    async def test_after_which_the_model_could_not_exist_do_not_fail_the_cycle(self, peer, dtype):
        greatest = 100 if dtype == "int8" else 65_000
        model = state(np.full(3, greatest), dtype=dtype)
        await peer.host(server={"max_diffs": 2}, model=model, plans={"p": no_plan().hex()})
        worker = await peer.join()
        reply = await worker.report(diff=base64_of(state(np.full(3, -greatest), dtype=dtype)))
        assert reply.status_code == 400
        for one in (worker, await peer.join()):
            good = base64_of(state(np.full(3, greatest), dtype=dtype))
            assert (await one.report(diff=good)).status_code == 200
        model = await peer.until_checkpoint(2)
        assert "last_failure" not in model

    async def test_whose_sum_could_be_infinite_do_not_fail_the_cycle(self, peer):
        await peer.host(model=state(np.zeros(2), dtype="float64"), plans={"p": no_plan().hex()})
        worker = await peer.join()
        reply = await worker.report(diff=base64_of(state(np.full(2, 1.7e308), dtype="float64")))
        assert reply.status_code == 400
        assert "sums could become infinite" in reply.json()["error"]

    async def test_of_one_worker_sent_at_once_are_counted_once(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        replies = await asyncio.gather(*(worker.report(value) for value in range(50)))
        codes = [reply.status_code for reply in replies]
        assert sorted(codes) == [200] + [409] * 49
        assert (await peer.status())["cycle"]["reported"] == 1
        taken = codes.index(200)
        await (await peer.join()).report(3)
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - (taken + 3) / 2)


class TestTokens:
    def token(self, payload):
        head, body = (base64.urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256"}', payload))
        code = hmac.new(SECRET.encode(), head + b"." + body, hashlib.sha256).digest()
        return (head + b"." + body + b"." + base64.urlsafe_b64encode(code).rstrip(b"=")).decode()

    async def test_may_name_half_a_character(self, peer):
        await peer.host(server={"authentication": {"secret": SECRET}})
        await peer.authenticate(auth_token=self.token(b'{"sub":"\\ud800","exp":9e9}'))

    @pytest.mark.parametrize("payload", [b'{"exp":1e999}', b'{"exp":NaN}', b"[]", b'{"a":' + b"[" * 100_000])
    async def test_that_are_odd_are_refused(self, peer, payload):
        await peer.host(server={"authentication": {"secret": SECRET}})
        reply = await peer.post("authenticate", model_name="m", auth_token=self.token(payload))
        assert reply.status_code == 401

    @pytest.mark.parametrize("kind", ["endless", "dripping"])
    async def test_are_checked_in_time_and_memory_of_the_grids_choice(self, open_grid, kind):
        sent, judging = 0, []

        async def judge(_reader, writer):
            nonlocal sent
            judging.append(asyncio.current_task())
            with contextlib.suppress(ConnectionError):
                piece = bytes(2**20) if kind == "endless" else b"x"
                writer.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if kind == "endless" else b"x: "))
                while sent < 200 * 2**20:
                    writer.write(piece)
                    sent += len(piece)
                    await writer.drain()
                    await asyncio.sleep(0 if kind == "endless" else 0.05)
                writer.close()
                await writer.wait_closed()

        listener = await asyncio.start_server(judge, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with (
            listener,
            open_grid(token_check_seconds=0.3, auth_endpoints=[f"http://127.0.0.1:{port}"]) as peer,
        ):
            await peer.host(server={"authentication": {"endpoint": f"http://127.0.0.1:{port}/"}})
            started = time.monotonic()
            reply = await peer.post("authenticate", model_name="m", auth_token="t")
            assert reply.status_code == (200 if kind == "endless" else 503)
            assert time.monotonic() - started < 5
            assert sent < 100 * 2**20
            await asyncio.wait(judging)


class TestStorage:
    @only_sqlite
    async def test_that_is_locked_is_told_and_recovers(self, peer, tmp_path, monkeypatch):
        monkeypatch.setattr("fedplan.grid.store.engine._PATIENCE", 0.2)
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        with contextlib.closing(sqlite3.connect(tmp_path / "grid.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            replies = await asyncio.gather(*(worker.report(1) for _ in range(3)))
            assert [reply.status_code for reply in replies] == [503] * 3
            assert all("retry-after" in reply.headers for reply in replies)
            other.rollback()
        assert (await peer.status())["cycle"]["reported"] == 0
        assert (await worker.report(1)).status_code == 200

    async def test_that_cannot_be_written_is_told_and_recovers(self, peer, tmp_path, caplog):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        diffs = tmp_path / "blobs" / "diffs"
        diffs.touch()  # a file where the folder should be
        reply = await worker.report(1)
        assert reply.status_code == 503
        assert (
            reply.json()["error"] == "the grid cannot read or write its storage at present; try again later"
        )
        assert (await peer.status())["cycle"]["reported"] == 0
        diffs.unlink()
        assert (await worker.report(1)).status_code == 200
        assert worker.request_key not in caplog.text

    async def test_errors_do_not_tell_what_was_to_be_stored(self, peer):
        from sqlalchemy import text
        from sqlalchemy.exc import DBAPIError

        async with peer.app.state.grid.store.reading() as db:
            with pytest.raises(DBAPIError) as caught:
                await db.execute(text("SELECT :key FROM missing"), {"key": "a secret"})
        assert "a secret" not in str(caught.value)


async def test_an_end_in_the_middle_of_a_look_waits_for_what_the_look_begins(open_grid):
    async with open_grid(poll_seconds=60) as peer:
        await peer.host(server={"max_diffs": 2})
        await (await peer.join()).report(1)
        grid = peer.app.state.grid
        async with grid.store.writing() as db:
            await rounds.set_closing(db, 1)
        running = asyncio.create_task(Closer(grid).run())
        await asyncio.sleep(0)  # it starts to look
        running.cancel()
        await asyncio.wait([running])
        assert (await peer.status())["checkpoints"][0]["number"] == 2


@pytest.mark.parametrize(
    "send",
    [
        lambda peer: peer.post("authenticate", model_name="m\0"),
        lambda peer: peer.post("host-training", **hosting("m\0")),
        lambda peer: peer.post("host-training", **hosting(plans={"p\0": no_plan().hex()})),
        lambda peer: peer.http.get("/model-centric/retrieve-model", params={"name": "m\0"}),
        lambda peer: peer.http.get("/model-centric/status", params={"name": "m\0"}),
    ],
)
async def test_names_that_not_every_database_can_hold_are_refused(peer, send):
    reply = await send(peer)
    assert (reply.status_code, set(reply.json())) == (400, {"error"})


async def test_names_are_shown_as_text(peer):
    name = "<script>alert('x')</script>/../'; DROP TABLE processes; --"
    await peer.host(name)
    page = (await peer.http.get("/")).text
    assert "<script>" not in page  # the page's own have a source
    assert "&lt;script&gt;" in page
    assert (await peer.status(name))["name"] == name

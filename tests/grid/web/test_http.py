"""The HTTP transport over real sockets: what browsers and phones send, byte by byte where it matters."""

import asyncio
import json
import math
import secrets
import threading

import httpx
import numpy as np
import pytest

from fedplan.grid.service import reporting
from fedplan.wire.messages import SPEED_TEST_BYTES
from tests.grid.models import base64_of, diff, hosting, no_plan, state
from tests.grid.peers import Peer
from tests.grid.web.test_hostile import POST, connection, response, served


@pytest.fixture
def name():
    """A model name that no other test of this server uses."""
    return f"m-{secrets.token_hex(4)}"


@pytest.fixture
def peer(http):
    return Peer(http)


async def test_a_whole_cycle(peer, name):
    await peer.host(name, server={"max_diffs": 2})
    for value in (1, 2):
        worker = await peer.join(name)
        assert (await worker.get("get-model", model_id=worker.accepted["model_id"])).status_code == 200
        plan_id = worker.accepted["plans"]["training_plan"]
        assert (await worker.get("get-plan", plan_id=plan_id)).status_code == 200
        assert (await worker.report(value)).json() == {"status": "success"}
    await peer.until_checkpoint(2, name)


async def test_replies_are_the_bare_object_as_json(http, peer, name):
    await peer.host(name)
    reply = await http.post("/model-centric/authenticate", json={"model_name": name})
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"status", "worker_id", "requires_speed_test"}


async def test_a_base_url_that_ends_in_a_slash_works(server, name):
    async with httpx.AsyncClient() as http:
        body = hosting(name)
        for path in ("//model-centric/host-training", "///model-centric//authenticate"):
            reply = await http.post(f"http://{server}{path}", json=body | {"model_name": name})
            assert reply.status_code == 200


async def test_the_content_type_of_a_message_does_not_matter(http, peer, name):
    await peer.host(name)
    for kind in ("application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"):
        reply = await http.post(
            "/model-centric/authenticate",
            content=json.dumps({"model_name": name}),
            headers={"content-type": kind},
        )
        assert reply.status_code == 200


class TestBrowsers:
    ORIGIN = {"origin": "https://page.example"}  # noqa: RUF012  # never changed

    @pytest.mark.parametrize("path", ["authenticate", "cycle-request", "report", "speed-test"])
    async def test_may_ask_before_they_post(self, http, path):
        ask = self.ORIGIN | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        reply = await http.options(f"/model-centric/{path}", headers=ask)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert "content-type" in reply.headers["access-control-allow-headers"].lower()

    async def test_may_read_what_they_get(self, http):
        for path in ("speed-test?worker_id=w&random=0.8&is_ping=1", "get-model?model_id=1", "nothing"):
            reply = await http.get(f"/model-centric/{path}", headers=self.ORIGIN)
            assert reply.headers["access-control-allow-origin"] == "*"

    async def test_may_be_kept_out(self, open_grid):
        async with open_grid(cors_origins=["https://good.example"]) as peer:
            reply = await peer.http.get("/healthz", headers=self.ORIGIN)
            assert "access-control-allow-origin" not in reply.headers
            reply = await peer.http.get("/healthz", headers={"origin": "https://good.example"})
            assert reply.headers["access-control-allow-origin"] == "https://good.example"


class TestTheSpeedTest:
    async def test_answers_a_ping_with_a_second_question_mark(self, http):
        reply = await http.get("/model-centric/speed-test?is_ping=1&worker_id=w&random=0.8?0.4")
        assert reply.status_code == 200
        assert reply.content == b"{}"

    async def test_sends_64_mb(self, http):
        async with http.stream("GET", "/model-centric/speed-test?worker_id=w&random=0.8?0.4") as reply:
            assert reply.status_code == 200
            assert reply.headers["content-length"] == str(SPEED_TEST_BYTES)
            received = sum([len(piece) async for piece in reply.aiter_raw()])
        assert received == SPEED_TEST_BYTES == 64 * 1024 * 1024

    async def test_survives_a_browser_that_has_seen_enough(self, http, peer, name):
        async with http.stream("GET", "/model-centric/speed-test?worker_id=w&random=0.8") as reply:
            async for _ in reply.aiter_raw():
                break
        await peer.host(name)

    async def test_takes_a_raw_upload_without_a_content_type(self, http):
        async def pieces():
            for _ in range(3):
                yield bytes(1024 * 1024)

        reply = await http.post("/model-centric/speed-test?worker_id=w&random=0.8", content=pieces())
        assert reply.status_code == 200

    async def test_takes_an_upload_that_would_be_too_large_for_a_message(self, open_grid):
        upload = "/model-centric/speed-test?worker_id=w&random=0.8"
        files = {"sample": ("sample.bin", bytes(100_000))}
        async with open_grid(max_message_bytes=10_000) as peer:
            assert (await peer.http.post(upload, files=files)).status_code == 200
            reply = await peer.http.post(upload, content=bytes(SPEED_TEST_BYTES + 2_000_000))
            assert reply.status_code == 413

    async def test_takes_an_upload_as_a_form(self, http):
        files = {"sample": ("sample.bin", bytes(3_000_000))}
        reply = await http.post("/model-centric/speed-test?worker_id=w&random=0.8", files=files)
        assert reply.status_code == 200

    async def test_survives_an_upload_that_breaks_off(self, server, peer, name):
        host, port = server.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /model-centric/speed-test?worker_id=w&random=1 HTTP/1.1\r\nhost: {server}\r\n"
        writer.write(f"{head}content-length: 1000000\r\n\r\nabc".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await peer.host(name)

    async def test_needs_to_know_who_asks(self, http):
        reply = await http.get("/model-centric/speed-test?random=0.8")
        assert reply.status_code == 400
        assert reply.json() == {"error": "missing or wrong in the query: worker_id"}


class TestErrors:
    async def test_say_what_is_wrong_with_a_message(self, http):
        for body, message in (
            (b"", "not valid"),
            (b"{", "not valid"),
            (b"[]", "not valid"),
            (b"\xff\xfe", "not valid"),
            (b"null", "not valid"),
            (b"{}", "'model_name': Field required"),
            (b'{"model_name": 5.5e400, "model_version": []}', "'model_version'"),
        ):
            reply = await http.post("/model-centric/authenticate", content=body)
            assert reply.status_code == 400
            assert set(reply.json()) == {"error"}
            assert message in reply.json()["error"]

    async def test_are_json_for_unknown_paths_and_methods_too(self, http):
        for method, path, status in (
            ("GET", "/model-centric/nothing", 404),
            ("GET", "/model-centric/report", 405),
            ("DELETE", "/", 405),
        ):
            reply = await http.request(method, path)
            assert reply.status_code == status
            assert set(reply.json()) == {"error"}

    async def test_never_show_what_broke(self, open_grid, tmp_path, caplog):
        async with open_grid() as peer:
            await peer.host()
            folder = tmp_path / "blobs" / "models"
            folder.rename(tmp_path / "away")
            folder.touch()
            reply = await peer.http.get("/model-centric/retrieve-model", params={"name": "m"})
        assert reply.status_code == 503
        assert reply.json() == {
            "error": "the grid cannot read or write its storage at present; try again later"
        }
        assert "NotADirectoryError" in caplog.text

    async def test_tell_when_to_come_back(self, open_grid):
        async with open_grid(auth_endpoints=["http://127.0.0.1:9"]) as peer:
            server = {"authentication": {"endpoint": "http://127.0.0.1:9/"}}
            await peer.host(server=server)
            reply = await peer.post("authenticate", model_name="m", auth_token="t")
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "5"


class TestLargeMessages:
    async def test_up_to_the_limit_are_taken_and_no_further(self, open_grid):
        async with open_grid(max_message_bytes=10_000) as peer:
            body = json.dumps({"model_name": "m", "auth_token": "x" * 20_000})
            reply = await peer.http.post("/model-centric/authenticate", content=body)
            assert reply.status_code == 413
            assert reply.json() == {"error": "the body is larger than 10000 bytes, the limit of this call"}
            await peer.host()

    @pytest.mark.parametrize("rows", [1000, 8000])
    async def test_of_a_real_model_come_in_pieces(self, http, peer, name, rows):
        shapes = ((rows, 300), (300,))
        server = {"max_diffs": 1, "max_norm": 1e12}
        await peer.host(name, model=diff(0.5, shapes), plans={"p": no_plan().hex()}, server=server)
        worker = await peer.join(name)
        changes = [np.arange(math.prod(shape), dtype="float32").reshape(shape) for shape in shapes]

        async def pieces():
            body = json.dumps(
                {
                    "worker_id": worker.worker_id,
                    "request_key": worker.request_key,
                    "diff": base64_of(state(*changes)),
                }
            ).encode()
            assert len(body) > 1600 * rows
            for at in range(0, len(body), 50_000):
                yield body[at : at + 50_000]

        reply = await http.post("/model-centric/report", content=pieces())
        assert reply.status_code == 200
        await peer.until_checkpoint(2, name)
        for trained, change in zip(await peer.checkpoint(name), changes, strict=True):
            np.testing.assert_array_equal(trained, np.float32(0.5) - change)


class TestTheOwnersToken:
    @pytest.fixture
    async def guarded(self, open_grid):
        async with open_grid(owner_token="a token") as peer:
            yield peer

    @pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic a token", "a token"])
    async def test_is_needed_to_host_and_to_see_the_status(self, guarded, header):
        headers = {} if header is None else {"authorization": header}
        for reply in (
            await guarded.http.post("/model-centric/host-training", json=hosting(), headers=headers),
            await guarded.http.get("/model-centric/status", headers=headers),
        ):
            assert reply.status_code == 401
            assert "owner token" in reply.json()["error"]

    async def test_opens_these_and_workers_need_none(self, guarded):
        guarded.http.headers["authorization"] = "Bearer a token"
        await guarded.host()
        assert (await guarded.status())["name"] == "m"
        del guarded.http.headers["authorization"]
        worker = await guarded.join()
        assert (await worker.report(1)).status_code == 200


class TestWhoMayNotSendABody:
    """It is refused before the body is read, so that nobody fills the room for bodies without a right to."""

    BINARY = "report?worker_id=w&request_key=k"

    @pytest.mark.parametrize(
        ("call", "kind", "status"),
        [
            ("host-training", "application/json", 401),
            (BINARY, "application/octet-stream", 403),
            ("report", "application/octet-stream", 400),
        ],
    )
    async def test_is_told_so_while_it_sends(self, tmp_path, call, kind, status):
        with served(tmp_path, owner_token="a token", max_pending_bytes=100_000) as address:
            async with connection(address) as (reader, writer):
                head = POST.format(call, 10_000_000).replace("\r\n\r\n", f"\r\ncontent-type: {kind}\r\n\r\n")
                writer.write(head.encode() + bytes(1_000_000))
                told, head, _ = await response(reader)
                assert (told, "connection: close" in head) == (status, True)
                assert await reader.read() == b""

    async def test_keeps_its_connection_when_all_of_it_has_come(self, tmp_path):
        with served(tmp_path, owner_token="a token") as address:
            async with connection(address) as (reader, writer):
                for _ in range(2):
                    writer.write(POST.format("host-training", 1000).encode() + bytes(1000))
                    told, head, _ = await response(reader)
                    assert (told, "connection: close" in head) == (401, False)


async def test_the_loop_keeps_answering_while_a_large_report_is_checked(peer, name, monkeypatch):
    shapes = ((1100, 1000),)
    await peer.host(name, model=diff(0.5, shapes), plans={"p": no_plan().hex()})
    worker = await peer.join(name)
    began, may_go_on, examine = threading.Event(), threading.Event(), reporting.examine

    def held(*report):
        began.set()
        assert may_go_on.wait(10)
        return examine(*report)

    monkeypatch.setattr(reporting, "examine", held)
    report = asyncio.create_task(worker.report(diff=base64_of(diff(1, shapes))))
    assert await asyncio.to_thread(began.wait, 10)
    ping = await peer.http.get("/model-centric/speed-test?is_ping=1&worker_id=w&random=1")
    assert (ping.status_code, may_go_on.is_set(), report.done()) == (200, False, False)
    may_go_on.set()
    assert (await report).status_code == 200
    await peer.until_checkpoint(2, name)

import asyncio
import contextlib
import dataclasses
import email.utils
import logging
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from fedplan.client.transport import http
from fedplan.client.transport.exchange import GridAnswer, GridRequest
from fedplan.client.transport.http import HttpTransport
from fedplan.client.transport.url import GridUrl
from fedplan.errors import (
    GridConnectionError,
    GridResponseError,
    GridTimeoutError,
    MessageTooLargeError,
    WireError,
)
from fedplan.version import __version__
from fedplan.wire.encoding import PIECE_BYTES, to_zstd
from tests.client.small_grid import SmallGrid

REPORT = GridRequest("model-centric/report", {"worker_id": "w", "request_key": "secret-key", "diff": ""})
MODEL = GridRequest(
    "model-centric/get-model", {"worker_id": "w", "request_key": "secret-key"}, "GET", "bytes"
)
STATUS = GridRequest("model-centric/status", {}, "GET")
BOMB = to_zstd(bytes(256 * PIECE_BYTES))
NESTED = "[" * 100_000


@pytest.fixture
async def transport(grid: SmallGrid) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(GridUrl.parse(grid.url), timeout=5)
    yield transport
    await transport.aclose()


@contextlib.asynccontextmanager
async def raw_server(reply: bytes | None) -> AsyncIterator[str]:
    """A server that reads a request and sends these bytes, or nothing, and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        if reply is not None:
            writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_post_sends_and_brings_back_json(grid: SmallGrid, transport: HttpTransport) -> None:
    assert (await transport.send(REPORT)).data == {"status": "success"}
    assert grid.asked("report") == [REPORT.data]
    assert grid.headers[0]["content-type"] == "application/json"
    assert grid.headers[0]["user-agent"] == f"fedplan/{__version__}"
    assert "authorization" not in grid.headers[0]


async def test_a_get_sends_a_query_and_brings_back_bytes(grid: SmallGrid, transport: HttpTransport) -> None:
    assert (await transport.send(MODEL)).content == grid.model.serialize()
    assert grid.asked("get-model") == [MODEL.data]


async def test_one_connection_serves_many_requests(transport: HttpTransport) -> None:
    for _ in range(3):
        await transport.send(REPORT)
    assert len(transport.client._transport._pool.connections) == 1  # type: ignore[attr-defined]  # httpx's own


async def test_a_token_is_sent_as_bearer(grid: SmallGrid) -> None:
    transport = HttpTransport(GridUrl.parse(grid.url + "/"), timeout=5, token="t0ken")
    await transport.send(REPORT)
    await transport.aclose()
    assert grid.headers[0]["authorization"] == "Bearer t0ken"


async def test_the_grids_own_words_are_in_the_error(grid: SmallGrid, transport: HttpTransport) -> None:
    grid.answer("report", JSONResponse({"error": "the cycle is over"}, 409))
    with pytest.raises(GridResponseError, match="refused model-centric/report: the cycle is over") as error:
        await transport.send(REPORT)
    assert error.value.status == 409


async def test_an_error_that_is_not_json_gives_the_status(grid: SmallGrid, transport: HttpTransport) -> None:
    grid.answer("report", PlainTextResponse("<h1>Bad Gateway</h1>", 502))
    with pytest.raises(GridResponseError, match=r"502 Bad Gateway$"):
        await transport.send(REPORT)


async def test_a_moved_grid_is_not_followed_but_named(grid: SmallGrid, transport: HttpTransport) -> None:
    grid.answer("report", RedirectResponse("https://new.example/"))
    with pytest.raises(GridResponseError, match=r"has moved to https://new.example/: use that URL"):
        await transport.send(REPORT)


@pytest.mark.parametrize("request_", [REPORT, STATUS], ids=["post", "get"])
@pytest.mark.parametrize("body", ["hello", "[1]", NESTED, '{"error": ' + NESTED], ids=lambda body: body[:12])
async def test_an_answer_that_is_no_object_is_an_error(
    grid: SmallGrid, transport: HttpTransport, request_: GridRequest, body: str
) -> None:
    grid.answer(request_.endpoint.removeprefix("model-centric/"), Response(body))
    with pytest.raises(GridResponseError, match="not a JSON object"):
        await transport.send(request_)


async def test_an_error_that_is_nested_too_deeply_gives_the_status(
    grid: SmallGrid, transport: HttpTransport
) -> None:
    grid.answer("report", Response('{"error": ' + NESTED, 500))
    with pytest.raises(GridResponseError, match=r"500 Internal Server Error$"):
        await transport.send(REPORT)


async def test_the_grids_words_steer_no_terminal_and_fill_none(
    grid: SmallGrid, transport: HttpTransport
) -> None:
    grid.answer("report", JSONResponse({"error": "\x1b]0;title\x07\nfedplan: fine" + 3000 * "x"}, 409))
    with pytest.raises(GridResponseError) as error:
        await transport.send(REPORT)
    assert r"report: \x1b]0;title\x07\nfedplan: finexxx" in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


async def test_the_name_of_a_status_steers_no_terminal() -> None:
    reply = b"HTTP/1.1 502 \x1b[2J\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(reply) as url:
        transport = HttpTransport(GridUrl.parse(url), timeout=5)
        with pytest.raises(GridResponseError, match=r"502 \\x1b\[2J$"):
            await transport.send(REPORT)
        await transport.aclose()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("in a minute, as a date", 60.0), ("soon", None)],
)
async def test_retry_after_is_read(
    grid: SmallGrid, transport: HttpTransport, value: str, seconds: float | None
) -> None:
    if seconds == 60:
        value = email.utils.formatdate(time.time() + 60, usegmt=True)
    grid.answer("report", JSONResponse({"error": "later"}, 503, {"Retry-After": value}))
    with pytest.raises(GridResponseError) as error:
        await transport.send(REPORT)
    assert error.value.retry_after == (None if seconds is None else pytest.approx(seconds, abs=5))


async def test_a_grid_that_does_not_run_got_nothing() -> None:
    transport = HttpTransport(GridUrl.parse("http://127.0.0.1:9"), timeout=5)
    with pytest.raises(GridConnectionError, match=r"could not be reached.*Is the grid running") as error:
        await transport.send(REPORT)
    assert not error.value.sent
    await transport.aclose()


async def test_a_connection_that_breaks_may_have_carried_the_request() -> None:
    async with raw_server(None) as url:
        transport = HttpTransport(GridUrl.parse(url), timeout=5)
        with pytest.raises(GridConnectionError, match="broke") as error:
            await transport.send(REPORT)
        assert error.value.sent
        await transport.aclose()


async def test_an_answer_that_ends_too_early_is_a_broken_connection() -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc") as url:
        transport = HttpTransport(GridUrl.parse(url), timeout=5)
        with pytest.raises(GridConnectionError, match="broke"):
            await transport.send(MODEL)
        await transport.aclose()


async def test_a_grid_that_does_not_answer_in_time_is_a_timeout(grid: SmallGrid) -> None:
    grid.answer("report", lambda _: asyncio.sleep(0.5, {"status": "success"}))
    transport = HttpTransport(GridUrl.parse(grid.url), timeout=0.1)
    with pytest.raises(GridTimeoutError, match="did not answer in time") as error:
        await transport.send(REPORT)
    assert error.value.sent
    await transport.aclose()


async def test_an_answer_beyond_the_limit_is_refused_while_it_arrives(
    grid: SmallGrid, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1000)
    grid.answer("get-model", Response(bytes(1001)))
    with pytest.raises(GridResponseError, match="1000 bytes") as error:
        await transport.send(MODEL)
    assert isinstance(error.value.__cause__, MessageTooLargeError)
    assert not error.value.damaged


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
@pytest.mark.parametrize("request_", [REPORT, STATUS], ids=["post", "get"])
async def test_an_object_is_small_whatever_it_says_that_it_is(
    grid: SmallGrid, transport: HttpTransport, request_: GridRequest, kind: str
) -> None:
    call = request_.endpoint.removeprefix("model-centric/")
    grid.answer(call, Response(BOMB, headers={"content-encoding": "zstd", "content-type": kind}))
    with pytest.raises(GridResponseError, match="larger than 33554432 bytes"):
        await transport.send(request_)


@pytest.mark.parametrize("request_", [REPORT, MODEL], ids=["object", "bytes"])
async def test_of_an_error_too_large_to_be_one_only_the_status_is_told(
    grid: SmallGrid, transport: HttpTransport, request_: GridRequest
) -> None:
    call = request_.endpoint.removeprefix("model-centric/")
    grid.answer(call, JSONResponse({"error": "x" * (2 << 20)}, 503, {"Retry-After": "7"}))
    with pytest.raises(GridResponseError, match=r"503 Service Unavailable$") as error:
        await transport.send(request_)
    assert error.value.retry_after == 7


class TestCompressedAnswers:
    HEADERS = {"content-encoding": "zstd"}  # noqa: RUF012  # never changed

    async def test_are_asked_for_and_read(self, grid: SmallGrid, transport: HttpTransport) -> None:
        data = bytes(range(256)) * 1000
        grid.answer("get-model", Response(to_zstd(data), headers=self.HEADERS | {"etag": '"x-zstd"'}))
        assert await transport.send(MODEL) == GridAnswer(content=data, tag='"x-zstd"')
        assert grid.headers[0]["accept-encoding"] == "zstd"

    async def test_of_errors_are_read_too(self, grid: SmallGrid, transport: HttpTransport) -> None:
        body = to_zstd(b'{"error": "the cycle is over"}')
        grid.answer("get-model", Response(body, 409, self.HEADERS))
        with pytest.raises(GridResponseError, match="the cycle is over"):
            await transport.send(MODEL)

    async def test_without_a_body_are_empty(self, grid: SmallGrid, transport: HttpTransport) -> None:
        grid.answer("get-model", Response(status_code=304, headers=self.HEADERS))
        asked = dataclasses.replace(MODEL, kept='"x"')
        assert await transport.send(asked) == GridAnswer(content=None, tag='"x"')

    async def test_that_would_fill_the_memory_are_refused_before_they_do(
        self, grid: SmallGrid, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 4 * PIECE_BYTES)
        assert len(BOMB) < 64 * 1024  # it comes at once
        grid.answer("get-model", Response(BOMB, headers=self.HEADERS))
        tracemalloc.start()
        with pytest.raises(GridResponseError, match="larger than"):
            await transport.send(MODEL)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 10 * PIECE_BYTES

    async def test_that_hold_nothing_without_end_are_refused(
        self, grid: SmallGrid, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 1000)
        grid.answer("get-model", Response(to_zstd(b"") * 200, headers=self.HEADERS))
        with pytest.raises(GridResponseError, match="larger than"):
            await transport.send(MODEL)

    @pytest.mark.parametrize("damage", ["cut", "changed", "no zstd"])
    async def test_that_are_damaged_are_refused(
        self, grid: SmallGrid, transport: HttpTransport, damage: str
    ) -> None:
        data = to_zstd(bytes(range(256)))
        body = {"cut": data[:-1], "changed": b"x" + data[1:], "no zstd": b"hello"}[damage]
        grid.answer("get-model", Response(body, headers=self.HEADERS))
        with pytest.raises(GridResponseError, match="zstd") as error:
            await transport.send(MODEL)
        assert isinstance(error.value.__cause__, WireError)
        assert error.value.damaged

    @pytest.mark.parametrize("encoding", ["gzip", "br", "zstd, zstd"])
    async def test_in_a_way_that_nobody_asked_for_are_refused(
        self, grid: SmallGrid, transport: HttpTransport, encoding: str
    ) -> None:
        grid.answer("get-model", Response(b"some", headers={"content-encoding": encoding}))
        with pytest.raises(GridResponseError, match=f"'{encoding}', which nobody had asked for") as error:
            await transport.send(MODEL)
        assert error.value.status == 200
        assert not error.value.damaged

    @pytest.mark.parametrize("encoding", ["gzip", "zstd"])
    async def test_of_errors_that_cannot_be_read_leave_the_status(
        self, grid: SmallGrid, transport: HttpTransport, encoding: str
    ) -> None:
        headers = {"content-encoding": encoding, "retry-after": "7"}
        grid.answer("report", Response(b"some", 503, headers))
        with pytest.raises(GridResponseError, match=r"503 Service Unavailable$") as error:
            await transport.send(REPORT)
        assert (error.value.status, error.value.retry_after) == (503, 7)

    async def test_of_errors_that_break_off_leave_the_status(self) -> None:
        head = b"HTTP/1.1 503 Later\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n"
        async with raw_server(head + b"abc") as url:
            transport = HttpTransport(GridUrl.parse(url), timeout=5)
            with pytest.raises(GridResponseError, match="503 Later") as error:
                await transport.send(REPORT)
            assert error.value.retry_after == 7
            await transport.aclose()


async def test_keys_stay_out_of_the_log(
    grid: SmallGrid, transport: HttpTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await transport.send(REPORT)
        await transport.send(MODEL)
    assert "get-model" in caplog.text
    assert "secret-key" not in caplog.text


async def test_an_app_in_this_process_is_called_without_a_socket(grid: SmallGrid) -> None:
    transport = HttpTransport(GridUrl.parse("http://in-process"), timeout=5, app=grid.app)
    assert (await transport.send(REPORT)).data == {"status": "success"}
    await transport.aclose()
    assert grid.headers[0]["accept-encoding"] == "identity"  # there is no line to save


async def test_an_app_in_this_process_has_no_path_above_it(grid: SmallGrid) -> None:
    transport = HttpTransport(GridUrl.parse("wss://only.a.name/grid/"), timeout=5, app=grid.app)
    assert (await transport.send(REPORT)).data == {"status": "success"}
    await transport.aclose()


async def test_an_app_that_fails_answers_500_as_over_a_socket() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise ZeroDivisionError

    transport = HttpTransport(GridUrl.parse("http://in-process"), timeout=5, app=app)
    with pytest.raises(GridResponseError, match="500"):
        await transport.send(REPORT)
    await transport.aclose()


def test_a_transport_works_in_one_event_loop_after_another(grid: SmallGrid) -> None:
    transport = HttpTransport(GridUrl.parse(grid.url), timeout=5)

    async def call() -> None:
        await transport.send(REPORT)
        await transport.aclose()

    asyncio.run(call())
    asyncio.run(call())
    assert len(grid.asked("report")) == 2

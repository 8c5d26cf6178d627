import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fedplan.client.transport.exchange import DEFAULT_RETRY, GridRequest, RetryingTransport
from fedplan.client.transport.http import HttpTransport
from fedplan.client.transport.url import GridUrl
from fedplan.client.transport.websocket import WebSocketTransport
from fedplan.errors import GridConnectionError, GridResponseError, GridTimeoutError
from tests.client.small_grid import SmallGrid

REPORT = GridRequest("model-centric/report", {"request_key": "secret-key", "diff": "x"})
AUTHENTICATE = GridRequest("model-centric/authenticate", {"model_name": "m"})
MODEL = GridRequest("model-centric/get-model", {}, "GET", "bytes")


def connect(url: str, timeout: float = 5.0) -> WebSocketTransport:
    parsed = GridUrl.parse(url)
    return WebSocketTransport(parsed, HttpTransport(parsed, timeout=timeout), timeout=timeout)


@pytest.fixture
async def transport(grid: SmallGrid) -> AsyncIterator[WebSocketTransport]:
    transport = connect(grid.ws_url)
    yield transport
    await transport.aclose()


Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[WebSocketTransport]:
    """A transport to a server of our own."""
    async with serve(handler, "127.0.0.1", 0) as server:
        transport = connect(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", timeout=1.0)
        yield transport
        await transport.aclose()


async def test_messages_go_over_one_websocket_and_downloads_over_http(
    grid: SmallGrid, transport: WebSocketTransport
) -> None:
    assert (await transport.send(REPORT)).data == {"status": "success"}
    assert (await transport.send(AUTHENTICATE)).data["worker_id"] == "w-1"
    assert grid.sockets == 1
    assert grid.headers == []
    assert (await transport.send(MODEL)).content == grid.model.serialize()
    assert len(grid.headers) == 1


async def test_an_error_in_the_answer_is_raised_with_the_grids_words(
    grid: SmallGrid, transport: WebSocketTransport
) -> None:
    grid.answer("report", {"error": "no such request key"})
    with pytest.raises(GridResponseError, match="model-centric/report: no such request key") as error:
        await transport.send(REPORT)
    assert error.value.status is None


@pytest.mark.parametrize(("told", "understood"), [(503, 503), ("503", None), (True, None), ([], None)])
async def test_the_status_of_a_refusal_is_that_which_the_grid_tells(
    told: Any, understood: int | None
) -> None:
    async def busy(socket: ServerConnection) -> None:
        message = json.loads(await socket.recv())
        assert message.pop("tell_status") is True
        await socket.send(json.dumps({**message, "data": {"error": "come again"}, "status": told}))

    async with listening(busy) as transport:
        with pytest.raises(GridResponseError, match="come again") as error:
            await transport.send(AUTHENTICATE)
        assert error.value.status == understood


async def test_a_grid_that_says_when_to_come_again_is_asked_again() -> None:
    asked = 0

    async def busy(socket: ServerConnection) -> None:
        nonlocal asked
        async for text in socket:
            message, asked = json.loads(text), asked + 1
            if asked in (1, 2, 3):
                answer = {"data": {"error": "away"}, "status": 503, "retry_after": 0}
            else:
                answer = {"data": {"status": "success"}}
            await socket.send(json.dumps({**message, **answer}))

    async with listening(busy) as transport:
        with pytest.raises(GridResponseError, match="away") as error:
            await transport.send(REPORT)
        assert (error.value.status, error.value.retry_after) == (503, 0)
        retrying = RetryingTransport(transport, DEFAULT_RETRY)
        assert (await retrying.send(REPORT)).data == {"status": "success"}
    assert asked == 4


async def test_answers_are_matched_by_request_id_when_they_come_in_another_order() -> None:
    async def backwards(socket: ServerConnection) -> None:
        messages = [json.loads(await socket.recv()) for _ in range(3)]
        for message in reversed(messages):
            await socket.send(json.dumps({**message, "data": {"n": message["data"]["n"]}}))

    async with listening(backwards) as transport:
        requests = [GridRequest("model-centric/report", {"n": n}) for n in range(3)]
        answers = await asyncio.gather(*map(transport.send, requests))
        assert [answer.data for answer in answers] == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_answers_without_a_request_id_are_matched_by_type(
    grid: SmallGrid, transport: WebSocketTransport
) -> None:
    grid.echoes_request_id = False
    answers = await asyncio.gather(transport.send(AUTHENTICATE), transport.send(REPORT))
    assert answers[0].data["worker_id"] == "w-1"
    assert answers[1].data == {"status": "success"}


async def test_a_bare_error_answers_the_oldest_message_and_noise_answers_none() -> None:
    async def bare(socket: ServerConnection) -> None:
        await socket.recv()
        nested = "[" * 100_000
        deep = "[" * 900 + "]" * 900
        for noise in (
            nested,
            f'{{"request_id": {deep}}}',
            "no json",
            "[1]",
            "{}",
            '{"type": "other", "data": {}}',
            '{"request_id": "?"}',
        ):
            await socket.send(noise)
        await socket.send('{"error": "what is\\u0007 that?"}')

    async with listening(bare) as transport:
        with pytest.raises(GridResponseError, match=r"what is\\x07 that"):
            await transport.send(REPORT)


async def test_a_lost_connection_is_opened_again(grid: SmallGrid, transport: WebSocketTransport) -> None:
    grid.answer("report", "close")
    with pytest.raises(GridConnectionError, match="broke") as error:
        await transport.send(REPORT)
    assert error.value.sent
    assert (await transport.send(REPORT)).data == {"status": "success"}
    assert grid.sockets == 2


async def test_after_a_timeout_a_late_answer_cannot_be_taken_for_another_one() -> None:
    async def late(socket: ServerConnection) -> None:
        async for _ in socket:
            await asyncio.sleep(1.2)
            await socket.send('{"type": "model-centric/report", "data": {"status": "late"}}')

    async with listening(late) as transport:
        with pytest.raises(GridTimeoutError, match="within 1 s"):
            await transport.send(REPORT)
        with pytest.raises(GridTimeoutError):
            await transport.send(REPORT)


async def test_large_messages_pass_both_ways(grid: SmallGrid, transport: WebSocketTransport) -> None:
    grid.answer("report", {"status": "y" * (8 << 20)})
    answer = await transport.send(GridRequest("model-centric/report", {"diff": "x" * (8 << 20)}))
    assert len(answer.data["status"]) == len(grid.asked("report")[0]["diff"]) == 8 << 20


async def test_a_grid_that_does_not_run_got_nothing() -> None:
    transport = connect("ws://127.0.0.1:9")
    with pytest.raises(GridConnectionError, match="could be opened") as error:
        await transport.send(REPORT)
    assert not error.value.sent
    await transport.aclose()


async def test_a_server_that_is_no_websocket_server_is_told_apart(grid: SmallGrid) -> None:
    transport = connect(grid.ws_url + "/model-centric/report")
    with pytest.raises(GridConnectionError, match="could be opened"):
        await transport.send(REPORT)
    await transport.aclose()


async def test_a_server_that_accepts_and_stays_silent_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = connect(f"ws://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(GridTimeoutError, match="could not be reached in time") as error:
            await transport.send(REPORT)
        assert not error.value.sent
        await transport.aclose()


async def test_frames_stay_out_of_the_log(
    transport: WebSocketTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await transport.send(REPORT)
    own = [record.getMessage() for record in caplog.records if record.name.startswith("fedplan")]
    assert not any("secret-key" in message for message in own)


async def test_only_one_connection_is_opened_for_messages_at_the_same_time(
    grid: SmallGrid, transport: WebSocketTransport
) -> None:
    await asyncio.gather(*(transport.send(REPORT) for _ in range(5)))
    assert grid.sockets == 1


def test_a_transport_works_in_one_event_loop_after_another(grid: SmallGrid) -> None:
    transport = connect(grid.ws_url)

    async def call() -> Any:
        answer = await transport.send(REPORT)
        await transport.aclose()
        return answer.data

    assert asyncio.run(call()) == asyncio.run(call()) == {"status": "success"}
    assert grid.sockets == 2

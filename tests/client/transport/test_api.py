from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import JSONResponse

from fedplan.client.events import Rejected
from fedplan.client.transport.api import GridApi, parse_timeout
from fedplan.client.transport.exchange import Retry
from fedplan.client.transport.speed import ConnectionSpeed
from fedplan.client.transport.url import GridUrl
from fedplan.errors import GridConnectionError, GridResponseError
from fedplan.wire.messages import RETRIEVE_MODEL, CycleAccepted
from tests.client.small_grid import SmallGrid

FAST = Retry(attempts=3, first_wait=0.001)


def connect(url: str, **options: Any) -> GridApi:
    return GridApi.connect(GridUrl.parse(url), timeout=5, retry=FAST, **options)


@pytest.fixture(params=["http", "ws", "in-process"])
async def api(grid: SmallGrid, request: pytest.FixtureRequest) -> AsyncIterator[GridApi]:
    """The same calls over every transport."""
    if request.param == "in-process":
        api = connect("ws://nowhere", app=grid.app)
    else:
        api = connect(grid.url if request.param == "http" else grid.ws_url)
    yield api
    await api.aclose()


async def test_authenticate_sends_exactly_the_protocols_keys(grid: SmallGrid, api: GridApi) -> None:
    reply = await api.authenticate("m", "1.0", "t0ken")
    await api.authenticate("m", "1.0", None)
    assert (reply.worker_id, reply.requires_speed_test) == ("w-1", False)
    assert grid.asked("authenticate") == [
        {"model_name": "m", "model_version": "1.0", "auth_token": "t0ken"},
        {"model_name": "m", "model_version": "1.0"},
    ]


async def test_a_cycle_request_sends_speeds_only_when_they_were_measured(
    grid: SmallGrid, api: GridApi
) -> None:
    accepted = await api.request_cycle("w", "m", "1.0", None)
    await api.request_cycle("w", "m", "1.0", ConnectionSpeed(1.5, 20.0, 3.0))
    assert isinstance(accepted, CycleAccepted)
    assert (accepted.request_key, accepted.plans, accepted.model_id) == (
        "secret-key",
        {"training_plan": 10},
        1,
    )
    plain = {"worker_id": "w", "model": "m", "version": "1.0"}
    plain |= {"tell_cycle": True, "summary": True, "secure_aggregation": True}
    assert grid.asked("cycle-request") == [plain, {**plain, "ping": 1.5, "download": 20.0, "upload": 3.0}]


@pytest.mark.parametrize(
    ("answer", "timeout"),
    [
        ({"status": "rejected"}, None),
        ({"status": "rejected", "timeout": 7}, 7.0),
        ({"status": "rejected", "timeout": "7.5"}, 7.5),
    ],
)
async def test_a_rejection_has_a_timeout_in_seconds_or_none(
    grid: SmallGrid, api: GridApi, answer: dict[str, Any], timeout: float | None
) -> None:
    grid.answer("cycle-request", answer)
    assert await api.request_cycle("w", "m", "1.0", None) == Rejected(timeout)


async def test_what_is_left_of_a_pygrid_nodes_cycle_is_the_latest_time(grid: SmallGrid, api: GridApi) -> None:
    grid.answer("cycle-request", {"status": "rejected", "timeout": "0:00:07.5"})
    assert await api.request_cycle("w", "m", "1.0", None) == Rejected(7.5, at_latest=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (7.25, 7.25),
        ("7", 7.0),
        ("0:01:07.5", 67.5),
        ("1 day, 2:00:00", 93600.0),
        ("3 days, 0:00:01", 259201.0),
        ("-1 day, 23:59:59", 0.0),
    ],
)
def test_timeouts_are_numbers_or_texts_of_a_pygrid_node(value: object, seconds: float | None) -> None:
    assert parse_timeout(value) == seconds


@pytest.mark.parametrize("value", ["soon", True, [], {}, -1])
def test_a_timeout_that_is_no_time_is_an_error(value: object) -> None:
    with pytest.raises(GridResponseError, match="not a time"):
        parse_timeout(value)


async def test_a_pygrid_nodes_envelope_over_http_is_taken_off(grid: SmallGrid) -> None:
    rejected = {"status": "rejected", "timeout": "0:00:03"}
    grid.answer("cycle-request", {"type": "model-centric/cycle-request", "data": rejected})
    api = connect(grid.url)
    assert await api.request_cycle("w", "m", "1.0", None) == Rejected(3.0, at_latest=True)
    await api.aclose()


@pytest.mark.parametrize(
    "error",
    [
        "'num_cycles'",
        "unsupported operand type(s) for -: 'NoneType' and 'datetime.datetime'",
        "'<' not supported between instances of 'int' and 'NoneType'",
    ],
)
async def test_a_pygrid_node_that_fails_to_say_what_is_left_of_a_cycle_rejects(
    grid: SmallGrid, error: str
) -> None:
    """As it does for each model without num_cycles or cycle_length; the worker is in the cycle already."""
    words = f'{error}Traceback (most recent call last):\n  File "/srv/pygrid/fl_events.py", line 219'
    grid.answer(
        "cycle-request", *[{"status": "rejected", "error": words}] * 2, {"error": "Worker ID not found!"}
    )
    for url in (grid.url, grid.ws_url):
        api = connect(url)
        assert await api.request_cycle("w", "m", "1.0", None) == Rejected(0.0, at_latest=True)
        await api.aclose()
    api = connect(grid.url)
    with pytest.raises(GridResponseError, match="Worker ID not found"):
        await api.request_cycle("w", "m", "1.0", None)
    await api.aclose()


async def test_an_unknown_status_is_an_error(grid: SmallGrid, api: GridApi) -> None:
    grid.answer("cycle-request", {"status": "maybe"})
    with pytest.raises(GridResponseError, match="neither accepted nor rejected"):
        await api.request_cycle("w", "m", "1.0", None)


async def test_an_answer_that_lacks_a_key_names_it(grid: SmallGrid, api: GridApi) -> None:
    grid.answer("cycle-request", {"status": "accepted", "model": "m"})
    with pytest.raises(GridResponseError, match=r"not understood: 'version': .*'request_key'"):
        await api.request_cycle("w", "m", "1.0", None)


async def test_downloads_go_over_http_whatever_the_transport(grid: SmallGrid, api: GridApi) -> None:
    grid.protocols = {"p": b"\x08\x01"}
    assert await api.get_model("w", "k", 1) == grid.model.serialize()
    assert await api.get_plan("w", "k", 10) == grid.plans["training_plan"].serialize()
    assert await api.get_protocol("w", "k", 20) == b"\x08\x01"
    assert await api.retrieve(RETRIEVE_MODEL, "m", "1.0", checkpoint="latest") == grid.model.serialize()
    assert grid.sockets == 0
    assert grid.asked("get-plan") == [
        {"worker_id": "w", "request_key": "k", "plan_id": "10", "receive_operations_as": "list"}
    ]
    assert grid.asked("retrieve-model") == [{"name": "m", "version": "1.0", "checkpoint": "latest"}]


async def test_a_report_is_the_diffs_bytes_over_http_whatever_the_transport(
    grid: SmallGrid, api: GridApi
) -> None:
    grid.takes_binary = True
    await api.report("w", "k", b"a diff")
    assert grid.asked("report") == [{"worker_id": "w", "request_key": "k", "body": b"a diff"}]
    assert grid.sockets == 0


async def test_a_report_is_base64_for_a_grid_that_does_not_know_bytes(grid: SmallGrid, api: GridApi) -> None:
    for _ in range(2):
        await api.report("w", "k", grid.model.serialize())
    assert grid.asked("report")[0].keys() == {"worker_id", "request_key", "diff"}
    assert grid.diffs[0].serialize() == grid.model.serialize()
    attempts = [headers.get("content-type") for headers in grid.headers]
    assert attempts.count("application/octet-stream") == 1


@pytest.mark.parametrize("status", [400, 401, 409, 500, 502])
async def test_a_refusal_of_a_grid_that_knows_bytes_is_the_answer(grid: SmallGrid, status: int) -> None:
    grid.takes_binary = True
    grid.answer("report", JSONResponse({"error": "no"}, status))
    api = connect(grid.url)
    with pytest.raises(GridResponseError, match="refused model-centric/report: no"):
        await api.report("w", "k", b"a diff")
    assert len(grid.asked("report")) == 1
    await api.aclose()


async def test_an_error_with_the_status_200_is_an_error(grid: SmallGrid, api: GridApi) -> None:
    grid.answer("report", {"error": "no"})
    with pytest.raises(GridResponseError, match="refused model-centric/report: no"):
        await api.report("w", "k", b"")


async def test_authenticate_is_repeated_after_a_passing_failure(grid: SmallGrid) -> None:
    grid.answer("authenticate", JSONResponse({}, 503), JSONResponse({}, 502))
    api = connect(grid.url)
    assert (await api.authenticate("m", "1.0", None)).worker_id == "w-1"
    assert len(grid.asked("authenticate")) == 3
    await api.aclose()


async def test_a_download_is_repeated_after_a_passing_failure(grid: SmallGrid) -> None:
    grid.answer("get-model", JSONResponse({"error": "busy"}, 429, {"Retry-After": "0"}))
    api = connect(grid.ws_url)
    assert await api.get_model("w", "k", 1) == grid.model.serialize()
    await api.aclose()


async def test_authenticate_is_repeated_over_a_websocket_that_broke(grid: SmallGrid) -> None:
    grid.answer("authenticate", "close")
    api = connect(grid.ws_url)
    assert (await api.authenticate("m", "1.0", None)).worker_id == "w-1"
    assert grid.sockets == 2
    await api.aclose()


async def test_a_report_whose_connection_broke_is_not_repeated(grid: SmallGrid) -> None:
    grid.answer("report", "close")
    api = connect(grid.ws_url)
    with pytest.raises(GridConnectionError):
        await api.report("w", "k", b"")
    assert len(grid.asked("report")) == 1
    await api.aclose()


async def test_a_report_that_the_grid_wants_later_is_repeated(grid: SmallGrid) -> None:
    grid.answer("report", JSONResponse({"error": "busy"}, 503, {"Retry-After": "0"}))
    api = connect(grid.url)
    await api.report("w", "k", b"")
    assert len(grid.asked("report")) == 2
    await api.aclose()


@pytest.mark.parametrize("answer", [b"hello", {"models": 3}])
async def test_a_status_that_is_not_understood_is_an_error(grid: SmallGrid, answer: Any) -> None:
    grid.answer("status", answer)
    api = connect(grid.url)
    with pytest.raises(GridResponseError, match=r"status is not (understood|a JSON object)"):
        await api.status("m")
    assert grid.asked("status") == [{"name": "m"}]
    await api.aclose()

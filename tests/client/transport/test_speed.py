import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fedplan.client.transport.speed import RunningAverage, measure_speed
from fedplan.errors import GridConnectionError
from tests.client.small_grid import SmallGrid, serve


def test_an_average_settles_after_five_calm_measurements() -> None:
    average = RunningAverage()
    for count in range(6):
        assert not average.settled, count
        average.add(100.0)
    assert average.settled
    assert average.value == 100.0


def test_an_average_moves_like_the_browsers() -> None:
    average = RunningAverage()
    for value in (10.0, 20.0, 30.0):
        average.add(value)
    assert average.value == pytest.approx(20.0)  # (10 → 15 → (15·2 + 30) / 3)
    for _ in range(10):
        average.add(80.0)
    before = average.value
    average.add(20.0)
    assert average.value == pytest.approx((before * 5 + 20) / 6)  # only the last five weigh
    assert not average.settled


async def test_the_test_pings_downloads_and_uploads(grid: SmallGrid) -> None:
    async with httpx.AsyncClient(base_url=grid.url) as client:
        speed = await measure_speed(client, "w-1", longest=2.0)
    assert 0 < speed.ping < 1000
    assert speed.download > 1
    assert speed.upload > 1
    asked = grid.asked("speed-test")
    assert {(q["method"], q.get("is_ping")) for q in asked} == {("GET", "1"), ("GET", None), ("POST", None)}
    assert {q["worker_id"] for q in asked} == {"w-1"}
    assert len({q["random"] for q in asked}) == len(asked)
    assert grid.uploaded > 0


async def paced(request: Request) -> Response:
    """A connection of 8 Mbit/s down."""
    if request.method == "POST":
        async for _ in request.stream():
            pass
        return JSONResponse({})
    if "is_ping" in request.query_params:
        return JSONResponse({})

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)
            await asyncio.sleep(0.01)

    return StreamingResponse(body())


async def test_a_slow_link_is_measured_in_bounded_time() -> None:
    app = Starlette(routes=[Route("/model-centric/speed-test", paced, methods=["GET", "POST"])])
    with serve(app) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            began = time.perf_counter()
            speed = await measure_speed(client, "w-1", longest=1.0)
            assert time.perf_counter() - began < 4
    assert 1 < speed.download < 9


async def test_a_grid_without_the_test_is_an_error() -> None:
    with serve(Starlette()) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            with pytest.raises(GridConnectionError, match="speed test that the grid asked for failed"):
                await measure_speed(client, "w-1")

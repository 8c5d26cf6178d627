"""The speed test: round trip, download and upload, as the browser client measures them."""

import asyncio
import dataclasses
import os
import random
import time
from collections.abc import AsyncIterator

import httpx

from fedplan.errors import GridConnectionError
from fedplan.wire.messages import SPEED_TEST, SPEED_TEST_BYTES

LONGEST_SECONDS = 10.0
"""Time limit of the pings, and again of the transfers."""

_SAMPLE_SECONDS = 0.05
_CHUNK = os.urandom(256 * 1024)  # random, so that nothing on the way can compress it


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionSpeed:
    """What a speed test found.

    Attributes:
        ping: round trip, ms.
        download: Mbit/s (10⁶ bit).
        upload: Mbit/s (10⁶ bit).
    """

    ping: float
    download: float
    upload: float


class RunningAverage:
    """Average of the last measurements, which knows when more of them will not change it.

    As in the browser client: a new value weighs 1/(n + 1), where n counts the earlier ones, 5 at most; the
    average is settled when it moved by less than 5 % five times in a row.
    """

    WINDOW = 5
    JITTER = 0.05
    CALM_MEASUREMENTS = 5

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0
        self._calm = 0

    def add(self, measurement: float) -> None:
        """Takes one measurement in."""
        before, weight = self.value, min(self._count, self.WINDOW)
        self.value = (before * weight + measurement) / (weight + 1)
        self._count += 1
        steady = before > 0 and abs(self.value - before) < self.JITTER * before
        self._calm = self._calm + 1 if steady else 0

    @property
    def settled(self) -> bool:
        """True when more measurements are not needed."""
        return self._calm >= self.CALM_MEASUREMENTS


class _Meter:
    """Turns bytes as they pass into an average speed."""

    def __init__(self, longest: float) -> None:
        self._average = RunningAverage()
        self._began = self._sampled = time.perf_counter()
        self._ends = self._began + longest
        self._passed = self._unsampled = 0

    def passed(self, size: int) -> None:
        """Counts bytes; a sample is taken every 50 ms."""
        self._passed += size
        self._unsampled += size
        now = time.perf_counter()
        if now - self._sampled >= _SAMPLE_SECONDS:
            self._average.add(_mbit(self._unsampled, now - self._sampled))
            self._sampled, self._unsampled = now, 0

    @property
    def enough(self) -> bool:
        """True when the average is settled or the time is over."""
        return self._average.settled or time.perf_counter() >= self._ends

    @property
    def speed(self) -> float:
        """Mbit/s; the plain quotient when everything passed too fast for a sample."""
        return self._average.value or _mbit(self._passed, time.perf_counter() - self._began)


def _mbit(size: int, seconds: float) -> float:
    return 8e-6 * size / max(seconds, 1e-6)


async def measure_speed(
    client: httpx.AsyncClient, worker_id: str, *, longest: float = LONGEST_SECONDS
) -> ConnectionSpeed:
    """Measures the connection: first pings, then download and upload at the same time.

    Each part ends when its average has settled, and the whole after 2 · `longest` seconds at most.

    Args:
        client: an HTTP client for the grid.
        worker_id: the worker whose connection it is.
        longest: time limit, seconds.

    Raises:
        GridConnectionError: the grid could not be reached, or does not offer the test.
    """
    try:
        ping = await _ping(client, worker_id, longest)
        download, upload = await asyncio.gather(
            _download(client, worker_id, longest), _upload(client, worker_id, longest)
        )
    except (httpx.RequestError, httpx.HTTPStatusError) as error:
        raise GridConnectionError(f"the speed test that the grid asked for failed: {error!r}") from error
    return ConnectionSpeed(ping, download, upload)


def _query(worker_id: str, **more: str) -> dict[str, str]:
    return {"worker_id": worker_id, "random": str(random.random()), **more}  # nosec B311  # past any cache


async def _ping(client: httpx.AsyncClient, worker_id: str, longest: float) -> float:
    average, ends = RunningAverage(), time.perf_counter() + longest
    while not average.settled and time.perf_counter() < ends:
        began = time.perf_counter()
        response = await client.get(f"/{SPEED_TEST}", params=_query(worker_id, is_ping="1"))
        response.raise_for_status()
        average.add(1e3 * (time.perf_counter() - began))
    return average.value


async def _download(client: httpx.AsyncClient, worker_id: str, longest: float) -> float:
    async with client.stream("GET", f"/{SPEED_TEST}", params=_query(worker_id)) as response:
        response.raise_for_status()
        meter = _Meter(longest)
        async for chunk in response.aiter_raw():
            meter.passed(len(chunk))
            if meter.enough:
                break
        return meter.speed


async def _upload(client: httpx.AsyncClient, worker_id: str, longest: float) -> float:
    meter = _Meter(longest)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(SPEED_TEST_BYTES // len(_CHUNK)):
            yield _CHUNK
            meter.passed(len(_CHUNK))  # the chunk is taken when the next one is asked for
            if meter.enough:
                return

    response = await client.post(f"/{SPEED_TEST}", params=_query(worker_id), content=body())
    response.raise_for_status()
    return meter.speed

import asyncio
import functools

import pytest

from fedplan.client.events import Events
from fedplan.errors import UnknownEventError


async def test_handlers_are_called_in_the_order_of_registration_and_coroutines_awaited() -> None:
    events, log = Events("end"), []

    @events.on("end")
    async def first(payload: str) -> None:
        await asyncio.sleep(0.01)
        log.append(f"first {payload}")

    def second(payload: str) -> None:
        log.append(f"second {payload}")

    assert events.on("end", second) is second
    assert first.__name__ == "first"
    await events.emit("end", "x")
    assert log == ["first x", "second x"]


async def test_a_handler_may_take_nothing() -> None:
    events, log = Events("end"), []

    @events.on("end")
    def nothing() -> None:
        log.append(1)

    @events.on("end")
    async def nothing_later() -> None:
        log.append(2)

    events.on("end", functools.partial(log.append, 3))
    await events.emit("end", "x")
    assert log == [1, 2, 3]


async def test_a_builtin_may_be_a_handler() -> None:
    events = Events("end")
    log: list[str] = []
    events.on("end", log.append)
    events.on("end", iter)  # type: ignore[arg-type]  # it has no signature to look at
    await events.emit("end", "x")
    assert log == ["x"]


async def test_a_handler_that_is_registered_during_an_event_waits_for_the_next() -> None:
    events, log = Events("end"), []
    events.on("end", lambda: events.on("end", log.append) and None)
    await events.emit("end", "first")
    assert log == []
    await events.emit("end", "second")
    assert log == ["second"]


async def test_an_exception_in_a_handler_is_not_caught() -> None:
    events = Events("end")
    events.on("end", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        await events.emit("end", None)


def test_an_unknown_event_lists_those_that_exist() -> None:
    with pytest.raises(UnknownEventError, match="no event 'accept'; the events are accepted, rejected"):
        Events("accepted", "rejected").on("accept")

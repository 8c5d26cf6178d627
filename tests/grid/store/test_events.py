"""The table of events, on SQLite and on PostgreSQL."""

import asyncio

import pytest
from sqlalchemy import text

from fedplan.grid.observing.correlation import Actor
from fedplan.grid.observing.events import Event, Kind, Position
from fedplan.grid.store import Store, events

BY = Actor("grid", "r")
BEGINNING = Position()


@pytest.fixture
async def store(url):
    store = await Store.open(url)
    yield store
    await store.aclose()


def event(number, model="m", **more):
    return Event(Kind.JOINED, f"{number}", model, "1.0", number, **more)


async def write(store, *happened, now=10.0):
    async with store.writing() as db:
        await events.add(db, now, *happened, by=BY)


async def read(store, after=BEGINNING, most=1000, **more):
    async with store.reading() as db:
        return await events.page(db, after, most, **more)


def causes(found):
    return [one.event.cause for one in found]


async def test_what_is_written_is_read_as_it_was(store):
    told = Event(Kind.REFUSED, "because", "m", "1.0", 3, Actor("token", "ci"), {"times": 2, "who": ["ä"]})
    await write(store, told, Event(Kind.CLOSED, "alone"))
    one, two = await read(store)
    assert (one.event, one.at, one.address, one.request_id) == (told, 10.0, None, None)
    assert (two.event.actor, two.event.model, two.event.details) == (BY, None, {})


async def test_nothing_is_written_of_a_transaction_that_is_undone(store):
    async def fail():
        async with store.writing() as db:
            await events.add(db, 1.0, event(1), by=BY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await read(store) == []


async def test_pages_follow_one_another_without_gap_or_repetition(store):
    await asyncio.gather(*(write(store, event(number), event(100 + number)) for number in range(20)))
    whole, at = await read(store), Position()
    assert len(whole) == 40
    paged = []
    while page := await read(store, at, 7):
        paged += page
        at = page[-1].position
    assert paged == whole
    assert await read(store, Position.parse(str(whole[9].position))) == whole[10:]
    async with store.reading() as db:
        assert await events.newest(db) == whole[-1].position
        assert await events.oldest(db) == whole[0].position


async def test_they_are_found_by_model_version_and_kind_and_the_newest_first(store):
    await write(store, event(1), event(2, "n"), Event(Kind.GONE, "3", "m", "2.0"), event(4))
    assert causes(await read(store, model="m")) == ["1", "3", "4"]
    assert causes(await read(store, model="m", version="1.0")) == ["1", "4"]
    assert causes(await read(store, kinds=[Kind.GONE])) == ["3"]
    assert causes(await read(store, most=2, newest_first=True)) == ["4", "3"]
    async with store.reading(long=True) as db:
        assert causes(await events.recent_of(db, "m", "1.0", [Kind.JOINED], 100)) == ["4", "1"]
        assert causes(await events.recent_of(db, "m", "1.0", [Kind.JOINED], 1)) == ["4"]


async def test_a_reader_misses_none_that_is_committed_after_a_later_one(store):
    """Who adds a row first may commit last; so a reader waits for it."""
    if store.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer")
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        async with store.writing() as db:
            await events.add(db, 1.0, event(1), by=BY)
            began.set()
            await go_on.wait()

    writing = asyncio.create_task(slow())
    await began.wait()
    await write(store, event(2))
    assert await read(store) == []
    async with store.reading() as db:
        assert await events.newest(db) == Position()
    go_on.set()
    await writing
    assert causes(await read(store)) == ["1", "2"]


async def test_order_is_that_of_transactions_where_rows_are_numbered_otherwise(store):
    if store.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer")
    async with store.writing() as early:
        await early.execute(text("SELECT pg_current_xact_id()"))
        async with store.writing() as late:
            await events.add(late, 1.0, event(2), by=BY)  # a smaller id, in a later transaction
        await events.add(early, 1.0, event(1), by=BY)
        assert await read(store) == []
    one, two = await read(store)
    assert causes([one, two]) == ["1", "2"]
    assert one.position.id > two.position.id
    assert one.position < two.position
    assert await read(store, one.position) == [two]


async def test_events_of_a_backup_from_another_server_come_first(store, url):
    await write(store, event(1), event(2))
    if store.engine.dialect.name == "postgresql":
        async with store.writing() as db:
            await db.execute(text("UPDATE events SET written_by = written_by + 4000000000"))
        assert await read(store) == []
    again = await Store.open(url)
    await write(again, event(3))
    assert causes(await read(again)) == ["1", "2", "3"]
    await again.aclose()


async def deleted(store, kept, before):
    async with store.writing() as db:
        return await events.delete_oldest(db, kept, before)


async def test_the_oldest_go_by_number(store):
    await write(store, *(event(number) for number in range(2500)))
    assert [await deleted(store, 100, 0.0) for _ in range(4)] == [1000, 1000, 400, 0]
    assert causes(await read(store)) == [f"{number}" for number in range(2400, 2500)]


async def test_the_oldest_go_by_time_and_the_newest_stays(store):
    for now in (1.0, 2.0, 3.0):
        await write(store, event(int(now)), now=now)
    assert await deleted(store, 1000, 2.0) == 1
    assert causes(await read(store)) == ["2", "3"]
    assert await deleted(store, 1000, 100.0) == 1
    assert await deleted(store, 1000, 100.0) == 0
    (last,) = await read(store)
    await write(store, event(4))
    assert (await read(store))[-1].position > last.position


@pytest.mark.parametrize("words", ["", "x", "1-", "-1", "1-2-3", "1" * 60, "9" * 19, "٣", "1.5"])
def test_what_is_no_position_is_none(words):
    with pytest.raises(ValueError, match=r"position|invalid literal"):
        Position.parse(words)


@pytest.mark.parametrize("position", [Position(), Position(0, 7), Position(2**40, 2**50)])
def test_a_position_is_a_text_and_back(position):
    assert Position.parse(str(position)) == position

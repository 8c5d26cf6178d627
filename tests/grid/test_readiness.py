"""What a grid needs is tried, and what of it is not fine is named."""

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from fedplan.grid import readiness
from tests.grid.background.test_sweeper import files
from tests.grid.databases import only_sqlite

ALL_FINE = {"status": "ok", "database": "ok", "blobs": "ok", "disk": "ok"}
BROKEN = "cannot be read or written"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(readiness, "_REMEMBERED_SECONDS", 0.0)


async def asked(peer):
    reply = await peer.http.get("/readyz")
    assert (await peer.http.get("/healthz")).json() == {"status": "ok"}
    assert reply.headers.get("retry-after") == ("5" if reply.status_code == 503 else None)
    return reply.status_code, reply.json()


async def test_a_grid_whose_parts_are_fine_is_ready_and_leaves_nothing(peer, tmp_path):
    assert await asked(peer) == (200, ALL_FINE)
    assert files(tmp_path) == set()
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_blobs_that_cannot_be_written_are_named_and_the_log_says_why_once(peer, tmp_path, caplog):
    folder = tmp_path / "blobs"
    folder.rmdir()
    folder.write_text("a file")
    for _ in range(2):
        code, told = await asked(peer)
        assert (code, told) == (503, {**ALL_FINE, "status": "unavailable", "blobs": BROKEN})
    assert caplog.text.count("the grid's blobs: cannot be read or written: ") == 1
    assert str(folder) not in str(told)
    folder.unlink()
    folder.mkdir()
    assert await asked(peer) == (200, ALL_FINE)


async def test_blobs_that_come_back_as_others_are_no_good(peer, monkeypatch):
    blobs = peer.app.state.grid.blobs

    async def other(_key):
        return b"other bytes"

    monkeypatch.setattr(blobs, "get", other)
    assert (await asked(peer))[1]["blobs"] == BROKEN


async def until_locked(connection):
    """Takes SQLite's one place to write, which the grid in this thread has now and then."""
    async with asyncio.timeout(10):
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError:
                connection.rollback()
                await asyncio.sleep(0.01)


@only_sqlite
async def test_a_database_that_cannot_be_written_is_named(peer):
    grid = peer.app.state.grid
    with grid.store.engine.connect() as holder:
        holder.exec_driver_sql("PRAGMA busy_timeout=0")
        await until_locked(holder)
        code, told = await asked(peer)
        holder.rollback()
    assert (code, told["blobs"], told["disk"]) == (503, "ok", "ok")
    assert told["database"] in (BROKEN, "does not answer in 5 s")
    assert await asked(peer) == (200, ALL_FINE)


async def test_a_disk_that_is_nearly_full_is_named(open_grid):
    async with open_grid(free_disk_bytes=10**18) as peer:
        code, told = await asked(peer)
        assert (code, told["database"], told["blobs"]) == (503, "ok", "ok")
        assert told["disk"].endswith(f"bytes free, and should have {10**18}")


async def test_what_does_not_answer_is_given_up(peer, monkeypatch):
    async def never(_key):
        await asyncio.sleep(60)

    monkeypatch.setattr(readiness, "_SECONDS", 0.2)
    monkeypatch.setattr(peer.app.state.grid.blobs, "get", never)
    assert (await asked(peer))[1]["blobs"] == "does not answer in 0 s"


async def test_asking_without_end_writes_nothing_without_end(peer, monkeypatch):
    monkeypatch.setattr(readiness, "_REMEMBERED_SECONDS", 60.0)
    grid = peer.app.state.grid
    kept, put = [], grid.blobs.put

    async def counted(kind, data, name=None):
        kept.append(kind)
        return await put(kind, data, name)

    monkeypatch.setattr(grid.blobs, "put", counted)
    replies = await asyncio.gather(*(peer.http.get("/readyz") for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert kept == ["probes"]

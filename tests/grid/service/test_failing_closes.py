"""What goes wrong while a cycle closes costs no other cycle, and nothing that was done."""

import asyncio
import contextlib

from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from fedplan.grid.records import Lease
from fedplan.grid.service import closing
from fedplan.grid.service.leases import Held
from fedplan.grid.store import rounds
from fedplan.grid.store.tables import processes


async def test_a_model_that_cannot_be_read_stops_no_other(open_grid, caplog):
    async with open_grid() as peer:
        await peer.host("broken", server={"max_diffs": 2})
        assert (await (await peer.join("broken")).report(1)).status_code == 200
        await peer.host("fine")
        worker = await peer.join("fine")
        async with peer.app.state.grid.store.writing() as db:
            await db.execute(update(processes).where(processes.c.name == "broken").values(layout="?"))
    async with open_grid() as peer:
        worker.peer = peer
        assert (await worker.report(1)).status_code == 200
        await peer.until_checkpoint(2, "fine")
    assert "cycle 1 cannot be looked after" in caplog.text


async def test_a_renewal_of_a_lease_that_fails_is_not_the_last(open_grid, monkeypatch, caplog):
    async with open_grid(lease_seconds=0.6, poll_seconds=60) as peer:
        await peer.host(server={"max_diffs": 2})
        grid = peer.app.state.grid
        async with grid.store.writing() as db:
            await rounds.set_closing(db, 1)
            held = Held(grid, await rounds.take_lease(db, Lease(1, None, 0), grid.replica))
        first = held.lease
        monkeypatch.setattr(grid.store, "writing", failing_once(grid.store.writing))
        async with held.kept():
            await asyncio.sleep(1.5)
        assert held.lease.counter > first.counter
        async with grid.store.writing() as db:
            assert await rounds.take_lease(db, first, "another replica") is None
    assert "a lease could not be renewed; it is tried again" in caplog.text


async def test_a_close_that_fails_late_leaves_no_model_and_is_done_again(open_grid, tmp_path, monkeypatch):
    async with open_grid(lease_seconds=0.2) as peer:
        await peer.host(server={"max_diffs": 2, "strategy": "fedadam"})
        grid = peer.app.state.grid
        await (await peer.join()).report(1)
        opened = closing._open_next
        left = iter([OperationalError("INSERT", {}, Exception("the connection is closed"))] * 3)

        async def failing(*arguments, **options):
            for error in left:
                raise error
            return await opened(*arguments, **options)

        monkeypatch.setattr(closing, "_open_next", failing)
        await (await peer.join()).report(3)
        await peer.until_checkpoint(2)
        assert len(list((tmp_path / "blobs" / "models").iterdir())) == 2
        assert len(list((tmp_path / "blobs" / "states").iterdir())) == 1
        async with grid.store.reading() as db:
            ((cycle, _),) = await rounds.history(db, 1)
        assert cycle.summary.reports == 2


def failing_once(writing):
    """Transactions of which the first one fails, as when the database is away for a moment."""
    left = iter([OperationalError("UPDATE", {}, Exception("the connection is closed"))])

    @contextlib.asynccontextmanager
    async def failing(**options):
        for error in left:
            raise error
        async with writing(**options) as db:
            yield db

    return failing

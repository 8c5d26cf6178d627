"""A wall clock that is set forward or back by an hour ends, prolongs and takes over nothing."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from fedplan.grid.records import Lease
from fedplan.grid.service.leases import Held
from fedplan.grid.store import participation, rounds

HOUR = 3600.0
SOON = 0.5
"""Seconds in which each replica looks at the clock several times."""

LATER = 4.0
"""Seconds in which a test is past its first steps, also on a busy machine."""


class Wall:
    """A clock on a wall that is right until it jumps."""

    def __init__(self):
        self.off = 0.0

    def __call__(self):
        return time.time() + self.off


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def open_replica(open_grid, wall):
    """Opens replicas with the same wall; each looks at it every tenth of a second."""
    return lambda **settings: open_grid(wall=wall, **{"lease_seconds": 0.3} | settings)


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
class TestAJump:
    async def test_moves_no_deadline(self, open_replica, wall, jump, caplog):
        async with open_replica() as one, open_replica() as two:
            began = time.monotonic()
            await one.host(server={"cycle_length": LATER, "min_diffs": 1})
            assert (await (await two.join()).report(1)).status_code == 200
            wall.off = jump
            await asyncio.sleep(SOON)
            assert (await one.status())["cycle"]["phase"] == "open"
            await two.until_checkpoint(2)
            assert time.monotonic() - began >= LATER
            assert len(lines_of(caplog)) == 1

    async def test_moves_no_deadline_of_a_grid_that_starts_afterwards(self, open_replica, wall, jump):
        async with open_replica() as one:
            began = time.monotonic()
            await one.host(server={"cycle_length": LATER, "min_diffs": 1})
            await (await one.join()).report(1)
            wall.off = jump
            await asyncio.sleep(SOON)
        async with open_replica() as other:
            await asyncio.sleep(SOON)
            assert (await other.status())["cycle"]["phase"] == "open"
            await other.until_checkpoint(2)
            assert time.monotonic() - began >= LATER

    async def test_takes_no_place_and_prolongs_none(self, open_replica, wall, jump):
        async with open_replica() as peer:
            await peer.host(server={"max_diffs": 2, "place_timeout": LATER})
            await peer.join()
            wall.off = jump
            await asyncio.sleep(SOON)
            assert (await peer.status())["cycle"]["accepted"] == 1
            await peer.until(lambda model: model["cycle"]["accepted"] == 0)

    async def test_changes_nothing_for_who_waits(self, open_replica, wall, jump):
        async with open_replica(retry_seconds=1.0) as peer:
            await peer.host(server={"min_workers": 2})
            await peer.ask(await peer.authenticate())  # counts for 2.25 s
            wall.off = jump
            await asyncio.sleep(SOON)
            grid = peer.app.state.grid
            async with grid.store.reading() as db:
                assert await participation.count_waiting(db, 1, "another", grid.clock()) == 1
                await asyncio.sleep(2.25)
                assert await participation.count_waiting(db, 1, "another", grid.clock()) == 0

    async def test_gives_no_lease_away(self, open_replica, wall, jump):
        async with open_replica() as one, open_replica() as two:
            await one.host(server={"max_diffs": 2})
            grid = one.app.state.grid
            await (await one.join()).report(1)
            async with grid.store.writing() as db:
                lease = await rounds.take_lease(db, Lease(1, None, 0), grid.replica)
                await rounds.set_closing(db, 1)
            held = Held(grid, lease)
            async with held.kept():
                wall.off = jump
                await asyncio.sleep(2 * SOON)
                assert (await two.status())["cycle"]["phase"] == "closing"
            async with grid.store.reading() as db:
                assert await rounds.due(db, grid.clock()) == [held.lease]

    async def test_holds_no_lease_of_a_replica_that_is_gone(self, open_replica, wall, jump):
        async with open_replica() as peer:
            await peer.host(server={"max_diffs": 1})
            worker = await peer.join()
            async with peer.app.state.grid.store.writing() as db:
                await rounds.take_lease(db, Lease(1, None, 0), "a dead replica")
            wall.off = jump
            await worker.report(1)
            await peer.until_checkpoint(2)

    async def test_lets_replicas_know_of_each_other(self, open_replica, wall, jump):
        async with open_replica() as one, open_replica() as two:
            pairs = [(one, two), (two, one)]
            async with asyncio.timeout(5):
                while not all(peer.app.state.grid.others for peer, _ in pairs):
                    await asyncio.sleep(0.01)
            wall.off = jump
            for _ in range(20):
                await asyncio.sleep(SOON / 10)
                for peer, other in pairs:
                    assert peer.app.state.grid.others == {other.app.state.grid.replica}

    async def test_shows_in_what_people_read(self, open_replica, wall, jump):
        async with open_replica() as peer:
            await peer.host(server={"cycle_length": 1000})
            wall.off = jump
            await asyncio.sleep(SOON)
            closes = datetime.fromisoformat((await peer.status())["cycle"]["closes_at"])
            expected = datetime.now(UTC) + timedelta(seconds=1000 + jump)
            assert abs((closes - expected).total_seconds()) < 60
            await peer.host("n")
            opened = datetime.fromisoformat((await peer.status("n"))["cycle"]["opened_at"])
            assert abs((opened - expected).total_seconds() + 1000) < 60


async def test_what_expires_expires_by_the_wall(open_replica, wall):
    """Until when it holds was written down by a clock that may have been wrong."""
    async with open_replica(worker_id_seconds=600) as peer:
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        wall.off = HOUR
        await asyncio.sleep(SOON)
        reply = await peer.post("cycle-request", worker_id=worker.worker_id, model="m", version="1.0")
        assert reply.status_code == 401
        assert (await worker.report(1)).status_code == 200

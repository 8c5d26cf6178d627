"""The grid's time: what a wall shows may jump, and the grid's time goes on."""

import contextlib
import logging
import time

import pytest

from fedplan.grid.clock import JUMP_SECONDS, Clock, monotonic
from fedplan.grid.store import Store
from tests.grid.databases import database_of

HOUR = 3600.0


class Times:
    """A clock on a wall, and one that nobody sets; time passes on both, and a jump is one of the wall's."""

    def __init__(self, wall=1_000_000.0, steady=50.0):
        self.wall, self.steady = wall, steady

    def pass_by(self, seconds):
        self.wall += seconds
        self.steady += seconds

    def jump(self, seconds):
        self.wall += seconds

    async def replica(self, store):
        clock = Clock(store, lambda: self.wall, lambda: self.steady)
        await clock.start()
        return clock


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(await database_of(tmp_path))
    async with contextlib.aclosing(store):
        yield store


@pytest.fixture
def times():
    return Times()


async def test_the_time_is_the_databases_and_goes_on_without_it(store, times):
    clock = await times.replica(store)
    assert clock() == clock.wall() == 1_000_000
    times.steady += 7
    assert clock() == clock.wall() == 1_000_007


async def test_the_database_is_asked_for_the_time_unless_another_is_given(store):
    clock = Clock(store)
    await clock.start()
    assert clock() == pytest.approx(time.time(), abs=60)
    before = clock()
    assert clock() >= before
    await clock.check()
    assert clock() >= before


def test_the_monotonic_clock_counts_seconds():
    before = monotonic()
    time.sleep(0.02)
    assert 0.02 <= monotonic() - before < 10


@pytest.mark.parametrize("jump", [HOUR, -HOUR, JUMP_SECONDS + 0.1, -JUMP_SECONDS - 0.1])
class TestAJumpOfTheWall:
    async def test_does_not_move_the_time_of_one_replica_or_of_any_other(self, store, times, jump, caplog):
        one, other = await times.replica(store), await times.replica(store)
        times.pass_by(10)
        times.jump(jump)
        times.pass_by(3)
        for clock in (one, other, one, other):
            await clock.check()
            assert [one(), other()] == pytest.approx([1_000_013] * 2)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert f"was set {'forward' if jump > 0 else 'back'} by {abs(jump):.1f} s" in record.getMessage()

    async def test_moves_what_people_read(self, store, times, jump):
        one, other = await times.replica(store), await times.replica(store)
        deadline = one() + 60
        times.jump(jump)
        for clock in (one, other):
            await clock.check()
            assert clock.wall() == pytest.approx(times.wall)
            assert clock.wall_of(deadline) == pytest.approx(times.wall + 60)

    async def test_is_known_to_a_replica_that_starts_after_it(self, store, times, jump):
        one = await times.replica(store)
        times.jump(jump)
        await one.check()
        late = await times.replica(store)
        assert [one(), late()] == pytest.approx([1_000_000] * 2)

    async def test_is_not_undone_by_a_replica_that_starts_before_it_is_noticed(
        self, store, times, jump, caplog
    ):
        """It cannot know of it; once the other has noticed it, it follows."""
        one = await times.replica(store)
        times.jump(jump)
        late = await times.replica(store)
        for clock in (one, late, one, late):
            await clock.check()
            times.pass_by(1)
        assert len(caplog.records) == 1
        assert [one(), late()] == pytest.approx([1_000_004] * 2)

    async def test_back_again_leaves_nothing(self, store, times, jump):
        one, other = await times.replica(store), await times.replica(store)
        for way in (jump, -jump):
            times.jump(way)
            for clock in (one, other):
                await clock.check()
        assert [one(), other(), one.wall()] == pytest.approx([1_000_000] * 3)


async def test_clocks_that_drift_are_followed_but_never_back(store, times, caplog):
    clock = await times.replica(store)
    times.jump(2)
    await clock.check()
    assert clock() == 1_000_002
    times.jump(-4)
    await clock.check()
    assert clock() == 1_000_002
    times.steady += 3
    assert clock() == 1_000_002
    times.steady += 2
    assert clock() == 1_000_003
    assert not caplog.records


async def test_an_answer_that_took_long_is_no_jump(store, times, caplog):
    """While the database was away, say: when it read its clock is known only roughly."""

    def slow():
        times.pass_by(4)
        now = times.wall
        times.pass_by(20)
        return now

    clock = Clock(store, lambda: times.wall, lambda: times.steady)
    await clock.start()
    clock._wall = slow
    await clock.check()
    assert not caplog.records

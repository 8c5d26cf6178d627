"""Sums that are formed while reports come: they are only ever a head start, never what is believed."""

import asyncio
import contextlib

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from fedplan.federation import BYTES_PER_ELEMENT, Setting, Update, strategy_of
from fedplan.grid.averaging.tally import Tallies
from fedplan.grid.background.closer import Closer
from fedplan.grid.blobs import Blobs
from fedplan.grid.records import Report
from fedplan.plan import Role
from fedplan.wire import State, Summary, with_summary
from fedplan.wire.config import ServerConfig
from tests.grid.databases import only_sqlite
from tests.grid.models import MODEL, SHAPES, diff, iterative_plan
from tests.grid.serving.test_server import continued

LAYOUT = tuple((shape, "float32") for shape in SHAPES)
BYTES = BYTES_PER_ELEMENT * 8
STRATEGY = strategy_of(Setting(ServerConfig(), {}, LAYOUT, None, (Role.TRAINED,) * 2))
ROOM = 10 * BYTES
ALL = (((80,), "float32"),)
"""As much as there is room for."""


@pytest.fixture
def blobs():
    return Blobs.open("memory:///")


@pytest.fixture
async def tallies(blobs):
    tallies = Tallies(blobs, ROOM)
    yield tallies
    await tallies.aclose()


async def given(blobs, *values):
    """Reports of diffs of these values, with their updates."""
    return [
        (Report(await blobs.put("diffs", diff(value)), 0), Update(State.parse(diff(value)).tensors))
        for value in values
    ]


class TestASum:
    @pytest.mark.parametrize("at_hand", [True, False], ids=["tensors", "blobs"])
    async def test_holds_what_was_added(self, tallies, blobs, at_hand):
        reports = await given(blobs, 1, 2, 4)
        for report, tensors in reports:
            tallies.add(7, STRATEGY, report, tensors if at_hand else None)
        tally = await tallies.take(7, STRATEGY)
        assert tally.counted == {report.blob for report, _ in reports}
        assert tally.sums.count == 3
        assert [float(3 * tensor.flat[0]) for tensor in tally.sums.average().tensors] == [7, 7]
        assert (await tallies.take(7, STRATEGY)).counted == set()

    async def test_counts_a_report_once(self, tallies, blobs):
        ((report, tensors),) = await given(blobs, 1)
        for again in (tensors, None, tensors):
            tallies.add(7, STRATEGY, report, again)
        assert (await tallies.take(7, STRATEGY)).sums.count == 1

    async def test_of_a_diff_that_is_lost_is_given_up(self, tallies, blobs, caplog):
        (first, _), (lost, _), (last, _) = await given(blobs, 1, 2, 3)
        await blobs.delete(lost.blob)
        for report in (first, lost, last):
            tallies.add(7, STRATEGY, report)
        assert (await tallies.take(7, STRATEGY)).counted == set()
        assert "given up" in caplog.text

    async def test_holds_few_diffs_in_memory_at_once(self, tallies, blobs, monkeypatch):
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUEUED_BYTES", 40)
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUICK_BYTES", 0)
        reports = await given(blobs, *range(20))
        for report, tensors in reports:
            tallies.add(7, STRATEGY, report, tensors)
        assert sum(tensors is not None for _, tensors in tallies._sums[7]._waiting) == 1
        assert (await tallies.take(7, STRATEGY)).sums.count == 20

    @pytest.mark.parametrize(("limit", "settled"), [(31, 1), (32, 0)])
    async def test_settles_when_little_enough_waits_to_be_added(
        self, tallies, blobs, monkeypatch, limit, settled
    ):
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUEUED_BYTES", limit)  # a diff takes 32
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUICK_BYTES", 0)
        ((report, tensors),) = await given(blobs, 1)
        tallies.add(7, STRATEGY, report, tensors)
        await tallies.settle(7)
        await tallies.settle(8)
        assert len(tallies._sums[7]._tally.counted) == settled

    async def test_settles_before_what_must_be_read_is_added(self, tallies, blobs, monkeypatch):
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUEUED_BYTES", 31)
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUICK_BYTES", 0)
        *before, last = await given(blobs, *range(20))
        for report, _ in before:
            tallies.add(7, STRATEGY, report)
        tallies.add(7, STRATEGY, *last)
        await tallies.settle(7)
        assert last[0].blob in tallies._sums[7]._tally.counted
        assert len(tallies._sums[7]._tally.counted) < 5

    async def test_that_was_given_up_holds_nothing_and_lets_nobody_wait(self, tallies, blobs, monkeypatch):
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUEUED_BYTES", 31)
        monkeypatch.setattr("fedplan.grid.averaging.tally._QUICK_BYTES", 0)
        (lost, _), large, late = await given(blobs, 1, 2, 3)
        await blobs.delete(lost.blob)
        tallies.add(7, STRATEGY, lost)
        await asyncio.sleep(0)
        tallies.add(7, STRATEGY, *large)
        await tallies.settle(7)
        tallies.add(7, STRATEGY, *late)
        assert not tallies._sums[7]._waiting
        assert (await tallies.take(7, STRATEGY)).counted == set()

    async def test_is_not_formed_where_there_is_no_room(self, tallies, blobs):
        ((report, tensors),) = await given(blobs, 1)
        for cycle_id in range(12):
            tallies.add(cycle_id, STRATEGY, report, tensors)
        found = []
        for cycle_id in range(12):
            with tallies.returned(cycle_id):
                found.append((await tallies.take(cycle_id, STRATEGY)).sums.count)
        assert found == [1] * 10 + [0] * 2
        tallies.add(99, STRATEGY, report, tensors)
        assert (await tallies.take(99, STRATEGY)).sums.count == 1

    async def test_counts_until_its_cycle_has_closed(self, tallies, blobs):
        ((report, tensors),) = await given(blobs, 1)
        tallies.add(7, STRATEGY, report, tensors)
        rest = (((72,), "float32"),)  # as much as nine such sums
        with tallies.returned(7):
            await tallies.take(7, STRATEGY)
            assert tallies.has_room(rest)
            assert not tallies.has_room(ALL)
        assert tallies.has_room(ALL)

    async def test_is_kept_for_the_next_try_when_closing_fails(self, tallies, blobs):
        ((report, tensors),) = await given(blobs, 1)
        tallies.add(7, STRATEGY, report, tensors)
        with contextlib.suppress(OSError), tallies.returned(7):
            await tallies.take(7, STRATEGY)
            raise OSError("the disk is full")
        assert not tallies.has_room(ALL)
        with tallies.returned(7):
            assert (await tallies.take(7, STRATEGY, {report.blob})).sums.count == 1
        assert tallies.has_room(ALL)

    async def test_with_others_than_the_cycles_reports_is_thrown_away(self, tallies, blobs):
        (report, tensors), (other, _) = await given(blobs, 1, 2)
        tallies.add(7, STRATEGY, report, tensors)
        assert (await tallies.take(7, STRATEGY, {other.blob})).sums.count == 0

    @pytest.mark.parametrize("at_hand", [True, False], ids=["tensors", "blobs"])
    async def test_takes_twice_as_much_when_only_some_tell_their_samples(self, blobs, at_hand):
        told = [(with_summary(diff(1), Summary(samples=4.0)), Summary(samples=4.0)), (diff(2), Summary())]
        reports = [
            (Report(await blobs.put("diffs", data), 0), Update(State.parse(data).tensors, summary))
            for data, summary in told
        ]
        for room, count in ((2 * BYTES, 2), (2 * BYTES - 1, 0)):
            tallies = Tallies(blobs, room)
            for report, update in reports:
                tallies.add(7, STRATEGY, report, update if at_hand else None)
            await tallies._sums[7].result()
            assert not tallies.has_room((((1,), "float32"),)) or not count
            with tallies.returned(7):
                assert (await tallies.take(7, STRATEGY)).sums.count == count
            assert tallies.has_room((((room // BYTES_PER_ELEMENT,), "float32"),))

    async def test_is_forgotten_with_its_cycle(self, tallies, blobs):
        ((report, tensors),) = await given(blobs, 1)
        for cycle_id in range(10):
            tallies.add(cycle_id, STRATEGY, report, tensors)
        tallies.forget([number for number in range(10) if number != 3])
        assert tallies.cycles() == [3]
        tallies.forget([3])
        assert tallies.has_room(ALL)


async def counted(peer, reports):
    """Waits until the only cycle's sum has so many reports."""
    sums = peer.app.state.grid.tallies._sums
    async with asyncio.timeout(5):
        while [len(one._tally.counted) for one in sums.values()] != [reports]:
            await asyncio.sleep(0.01)


async def test_a_cycle_closes_without_reading_a_diff_again(peer, monkeypatch):
    await peer.host(server={"max_diffs": 5})
    workers = [await peer.join() for _ in range(5)]
    read, get = [], Blobs.get

    def noted(self, key):
        read.append(key)
        return get(self, key)

    monkeypatch.setattr(Blobs, "get", noted)
    for value, worker in enumerate(workers):
        assert (await worker.report(value)).status_code == 200
    await peer.until_checkpoint(2)
    np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)
    assert not [key for key in read if key.startswith("diffs/")]


async def test_a_look_at_the_cycles_while_a_report_is_committed_forgets_no_sum(peer, monkeypatch):
    grid = peer.app.state.grid
    await peer.host(server={"max_diffs": 3})
    workers = [await peer.join() for _ in range(3)]
    closer, writing, read, get = Closer(grid), grid.store.writing, [], Blobs.get
    await closer._look()  # which tells the other replicas of this one, and writes nothing after that

    @contextlib.asynccontextmanager
    async def writing_under_observation(**options):
        async with writing(**options) as db:
            yield db
            await closer._look()

    def noted(self, key):
        read.append(key)
        return get(self, key)

    monkeypatch.setattr(Blobs, "get", noted)
    with monkeypatch.context() as observed:
        observed.setattr(grid.store, "writing", writing_under_observation)
        for worker in workers[1:]:
            assert (await worker.report(1)).status_code == 200
    assert (await workers[0].report(1)).status_code == 200
    await peer.until_checkpoint(2)
    assert not [key for key in read if key.startswith("diffs/")]


async def test_a_grid_that_starts_adds_up_what_is_there(open_grid):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 4})
        workers = [await peer.join() for _ in range(4)]
        for value in (1, 2, 3):
            await workers[value].report(value)
        await counted(peer, 3)
    async with open_grid() as peer:
        await counted(peer, 3)
        assert (await continued(peer, workers[0]).report(6)).status_code == 200
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 3)


async def test_without_room_cycles_are_averaged_from_the_blobs(open_grid):
    async with open_grid(sums_bytes=0) as peer:
        await peer.host(server={"max_diffs": 3})
        for value in (1, 2, 6):
            await (await peer.join()).report(value)
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 3)


async def test_a_sum_that_holds_more_than_the_store_is_not_used(peer):
    await peer.host(server={"max_diffs": 2})
    await (await peer.join()).report(1)
    grid = peer.app.state.grid
    grid.tallies.add(1, STRATEGY, Report("diffs/x", 0), Update(State.parse(diff(100)).tensors))
    await (await peer.join()).report(3)
    await peer.until_checkpoint(2)
    np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)


@only_sqlite
async def test_a_report_whose_commit_failed_may_come_again_with_another_diff(peer, monkeypatch):
    await peer.host(server={"max_diffs": 2})
    worker = await peer.join()
    writer = peer.app.state.grid.store._database._writer

    def fail():
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as failing:
        failing.setattr(writer, "commit", fail)
        assert (await worker.report(100)).status_code == 503
    assert (await worker.report(1)).status_code == 200
    await (await peer.join()).report(3)
    await peer.until_checkpoint(2)
    np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)


async def test_diffs_for_a_plan_are_not_added_up(peer):
    await peer.host(server={"max_diffs": 2, "iterative_plan": True}, averaging_plan=iterative_plan())
    await (await peer.join()).report(1)
    await asyncio.sleep(0.2)
    assert not peer.app.state.grid.tallies._sums
    await (await peer.join()).report(3)
    await peer.until_checkpoint(2)

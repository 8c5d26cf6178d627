"""Replicas merge each other's sums: a head start, never what is believed."""

import asyncio
import os
import signal

import numpy as np
import pytest
from numpy.random import default_rng

from fedplan.errors import AggregationError
from fedplan.federation import Setting, Update, strategy_of
from fedplan.grid.averaging.parts import LEAST_NEW, MOST_NEW
from fedplan.grid.averaging.tally import Tally
from fedplan.grid.blobs import Blobs
from fedplan.plan import Role
from fedplan.wire import State, Summary, with_summary
from fedplan.wire.config import ServerConfig
from tests.grid.databases import database_of
from tests.grid.models import SHAPES, base64_of, diff
from tests.grid.serving.test_server import process, served

LAYOUT = tuple((shape, "float32") for shape in SHAPES)
STRATEGY = strategy_of(Setting(ServerConfig(), {}, LAYOUT, None, (Role.TRAINED,) * 2))
VALUES = [float(value) for value in default_rng(5).normal(size=80)]


@pytest.fixture
def read(monkeypatch):
    """The keys of the diffs that the grids of this process read."""
    keys, get = [], Blobs.get

    async def noted(self, key):
        if key.startswith("diffs/"):
            keys.append(key)
        return await get(self, key)

    monkeypatch.setattr(Blobs, "get", noted)
    return keys


async def acquainted(*peers):
    """Waits until each replica knows as many others as there are."""
    async with asyncio.timeout(5):
        while any(len(peer.app.state.grid.others) != len(peers) - 1 for peer in peers):
            await asyncio.sleep(0.01)


async def report(peer, number):
    """The report of a number, the same to whichever grid it goes; half of them tell their samples."""
    told = Summary(samples=1.0 + number) if number % 2 else Summary()
    worker = await peer.join(summary=True)
    reply = await worker.report(diff=base64_of(with_summary(diff(VALUES[number]), told)))
    assert reply.status_code == 200, reply.text


async def alone(open_grid, tmp_path, count):
    """The checkpoint of one grid that took the first so many reports."""
    async with open_grid(tmp_path / "alone") as peer:
        await peer.host(server={"max_diffs": count})
        for number in range(count):
            await report(peer, number)
        return await checkpoint(peer)


async def checkpoint(peer):
    await peer.until_checkpoint(2)
    return [tensor.tobytes() for tensor in await peer.checkpoint()]


def parts(folder):
    """The files of all parts of a folder's grids."""
    return sorted(path for path in (folder / "blobs" / "sums").rglob("*") if path.is_file())


async def until_there_are(folder, count):
    """The parts, once there are so many."""
    async with asyncio.timeout(5):
        while len(parts(folder)) != count:
            await asyncio.sleep(0.01)
    return parts(folder)


class TestTwoReplicas:
    async def test_read_only_the_last_few_diffs_of_each_other(self, open_grid, tmp_path, read):
        expected = await alone(open_grid, tmp_path, 80)
        assert not read
        async with open_grid() as one, open_grid() as two:
            await acquainted(one, two)
            await one.host(server={"max_diffs": 80})
            for number in range(80):
                await report((one, two)[number % 3 == 0], number)
            assert await checkpoint(two) == expected
            assert len(read) < 2 * LEAST_NEW  # of 80; fewer than so many of each, where both look at once
            await until_there_are(tmp_path, 0)

    async def test_read_nothing_while_the_cycle_is_open(self, open_grid, read):
        async with open_grid() as one, open_grid() as two:
            await acquainted(one, two)
            await one.host(server={"max_diffs": 80})
            for number in range(20):
                await report((one, two)[number % 2], number)
            await asyncio.sleep(0.3)  # both look every 50 ms
            assert not read

    async def test_publish_before_time_closes_a_cycle(self, open_grid, tmp_path, read):
        now, lease = 1000.0, 100.0  # neither takes the other for gone when the clock jumps
        options = {"clock": lambda: now, "lease_seconds": lease}
        async with open_grid(**options) as one, open_grid(**options) as two:
            await acquainted(one, two)
            await one.host(server={"cycle_length": 60})
            for number in range(20):
                await report((one, two)[number % 2], number)
            await asyncio.sleep(0.2)
            assert not parts(tmp_path)
            now += 59.95
            await until_there_are(tmp_path, 2)
            now += 0.05
            found = await checkpoint(one)
            assert not read
            await until_there_are(tmp_path, 0)
        assert found == await alone(open_grid, tmp_path, 20)

    async def test_delete_their_parts_where_diffs_are_kept(self, open_grid, tmp_path, read):
        async with open_grid(keep_diffs=True) as one, open_grid(keep_diffs=True) as two:
            await acquainted(one, two)
            await one.host(server={"max_diffs": 30})
            for number in range(30):
                await report((one, two)[number % 2], number)
            await checkpoint(one)
            await until_there_are(tmp_path, 0)
        assert len(read) < LEAST_NEW
        assert [path for path in (tmp_path / "blobs" / "diffs").rglob("*") if path.is_file()]

    async def test_need_no_room_for_parts(self, open_grid, tmp_path):
        """A sum finds room, and no part of another beside it."""
        room = 24 * 8
        async with open_grid(sums_bytes=room) as one, open_grid(sums_bytes=room) as two:
            await acquainted(one, two)
            await one.host(server={"max_diffs": 40})
            for number in range(40):
                await report((one, two)[number % 2], number)
            found = await checkpoint(one)
            assert not parts(tmp_path)
        assert found == await alone(open_grid, tmp_path, 40)


async def test_one_replica_publishes_nothing_and_reads_nothing(open_grid, tmp_path, read, monkeypatch):
    put, names = Blobs.put, []

    async def noted(self, kind, *rest):
        names.append(kind)
        return await put(self, kind, *rest)

    monkeypatch.setattr(Blobs, "put", noted)
    await alone(open_grid, tmp_path, 80)
    assert "models" in names
    assert not [name for name in names if name.startswith("sums")]
    assert not read


@pytest.mark.some(3)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
async def test_a_damaged_part_costs_time_only(open_grid, tmp_path, read, caplog, damage):
    sleepy = {"poll_seconds": 60.0, "lease_seconds": 200.0}  # it leaves the cycle to the other one
    async with open_grid(lease_seconds=200.0) as one, open_grid(**sleepy) as two:
        await acquainted(one, two)
        await one.host(server={"max_diffs": 30})
        for number in range(15):
            await report(two, number)
        async with asyncio.timeout(5):
            while not two.app.state.grid.parts._published:
                await asyncio.sleep(0.01)
        (part,) = parts(tmp_path)
        if damage == "gone":
            part.unlink()
        elif damage == "cut":
            os.truncate(part, 100)
        else:
            data = bytearray(part.read_bytes())
            data[-5] ^= 1
            part.write_bytes(data)
        for number in range(15, 30):
            await report(one, number)
        found = await checkpoint(one)
    assert len(read) == 15
    assert (damage == "gone") or "is not used" in caplog.text
    assert found == await alone(open_grid, tmp_path, 30)


class TestAReplicaThatIsKilled:
    @pytest.mark.some(2)
    @pytest.mark.parametrize(("taken", "published"), [(30, 1), (5, 0)])
    async def test_leaves_what_is_published_and_its_diffs(self, open_grid, tmp_path, read, taken, published):
        async with open_grid(lease_seconds=60.0) as one:
            with process(tmp_path, await database_of(tmp_path), lease=60.0) as running:
                async with served(running) as two:
                    await acquainted_by_number(one, 1)
                    await one.host(server={"max_diffs": 40})
                    for number in range(taken):
                        await report(two, number)
                    await until_there_are(tmp_path, published)
                os.kill(running.pid, signal.SIGKILL)
            for number in range(taken, 40):
                await report(one, number)
            found = await checkpoint(one)
            await until_there_are(tmp_path, 0)
        assert len(read) <= (10 if published else taken)
        assert found == await alone(open_grid, tmp_path, 40)

    async def test_is_missed_after_a_while_and_its_diffs_are_added_up_by_another(
        self, open_grid, tmp_path, read
    ):
        async with open_grid(lease_seconds=0.5) as one:
            with process(tmp_path, await database_of(tmp_path)) as running:
                async with served(running) as two:
                    await one.host(server={"max_diffs": 10})
                    for number in range(6):
                        await report(two, number)
                os.kill(running.pid, signal.SIGKILL)
            (sums,) = one.app.state.grid.tallies._sums.values() or [None]
            async with asyncio.timeout(5):
                while not sums or len(sums._tally.counted) < 6:
                    await asyncio.sleep(0.01)
                    (sums,) = one.app.state.grid.tallies._sums.values() or [None]
            assert len(read) == 6
            for number in range(6, 10):
                await report(one, number)
            found = await checkpoint(one)
        assert len(read) == 6
        assert found == await alone(open_grid, tmp_path, 10)

    async def test_leaves_a_part_of_an_ended_cycle_to_the_next_start(self, open_grid, tmp_path):
        async with open_grid() as peer:
            grid = peer.app.state.grid
            await peer.host(server={"max_diffs": 1})
            await report(peer, 0)
            await peer.until_checkpoint(2)
            for cycle in (1, 2):
                await grid.blobs.put(f"sums/{grid.store.id}", b"a part", f"{cycle}-deadbeef-1")
            (tmp_path / "blobs" / "sums" / grid.store.id / "1-deadbeef-2.9a9a9a9a.new").write_bytes(b"a pa")
            await grid.blobs.put("sums/00000000", b"another grid's", "1-deadbeef-1")
        async with open_grid():
            left = await until_there_are(tmp_path, 2)
        assert sorted(path.name[0] for path in left) == ["1", "2"]
        assert [path.parent.name for path in left if path.name[0] == "1"] == ["00000000"]


async def acquainted_by_number(peer, others):
    async with asyncio.timeout(20):
        while len(peer.app.state.grid.others) != others:
            await asyncio.sleep(0.01)


async def test_two_processes_end_in_the_bits_of_one(open_grid, tmp_path):
    database = await database_of(tmp_path)
    with process(tmp_path, database) as first, process(tmp_path, database) as second:
        async with served(first) as one, served(second) as two:
            await one.host(server={"max_diffs": 80})
            for number in range(80):
                await report((one, two)[number % 3 == 0], number)
                if number == 60:
                    async with asyncio.timeout(5):
                        while not parts(tmp_path):
                            await asyncio.sleep(0.01)
            found = await checkpoint(two)
            await until_there_are(tmp_path, 0)
    assert found == await alone(open_grid, tmp_path, 80)


def tally_of(*numbers):
    tally = Tally(STRATEGY.nothing())
    for number in numbers:
        tally.add(STRATEGY, f"diffs/{number}", Update(State.parse(diff(VALUES[number])).tensors))
    return tally


class TestATally:
    ALL = frozenset(f"diffs/{number}" for number in range(5))

    def test_merges_what_another_has_written(self):
        merged, whole = tally_of(0, 1), tally_of(4, 3, 2, 1, 0)
        merged.merge_bytes(tally_of(2, 3, 4).serialize(), self.ALL)
        assert merged.counted == self.ALL
        for one, other in zip(merged.sums.average().tensors, whole.sums.average().tensors, strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("numbers", "why"), [((1, 2), "counted already"), ((2, 6), "that the cycle does not have")]
    )
    def test_takes_no_report_twice_and_none_of_another_cycle(self, numbers, why):
        tally = tally_of(0, 1)
        before = tally.serialize()
        with pytest.raises(AggregationError, match=why):
            tally.merge_bytes(tally_of(*numbers).serialize(), self.ALL)
        assert tally.serialize() == before


def test_a_part_is_written_no_more_often_than_pays():
    """Each takes as many bytes as six diffs."""
    assert 6 / MOST_NEW < 0.1
    assert LEAST_NEW > 6

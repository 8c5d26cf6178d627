"""Workers' diffs: on disk before they are acknowledged, and gone with their cycle."""

import asyncio
import threading

from fedplan.grid.blobs import disk, folder
from fedplan.grid.service.diffs import forget_left, group_of
from tests.grid.models import diff
from tests.grid.serving.test_server import continued


def kept(folder):
    """What the files that hold diffs begin with."""
    found = [path for path in folder.glob("blobs/diffs/**/*") if path.is_file()]
    return [path.read_bytes()[: len(diff(1))] for path in found]


async def until_gone(folder):
    async with asyncio.timeout(5):
        while kept(folder):
            await asyncio.sleep(0.01)


async def expect_too_late(reporting, ended, peer, worker, folder):
    """A worker ends the cycle while another's report is held up until `ended` is set."""
    assert (await worker.report(1)).status_code == 200
    await peer.until_checkpoint(2)
    await until_gone(folder)
    ended.set()
    assert (await reporting).status_code == 409
    assert kept(folder) == []


async def test_a_diff_is_on_disk_before_its_report_is_acknowledged(peer, tmp_path):
    await peer.host(server={"max_diffs": 2})
    await (await peer.join()).report(1)
    assert kept(tmp_path) == [diff(1)]


async def test_diffs_are_forgotten_after_their_cycle_refused_ones_too(peer, tmp_path):
    await peer.host(server={"max_diffs": 2})
    worker, other = await peer.join(), await peer.join()
    replies = await asyncio.gather(*(worker.report(value) for value in range(5)))
    assert sorted(reply.status_code for reply in replies) == [200] + [409] * 4
    await other.report(1)
    await peer.until_checkpoint(2)
    await until_gone(tmp_path)


async def test_a_diff_that_comes_while_its_cycle_ends_is_forgotten(peer, tmp_path, monkeypatch):
    await peer.host()
    late, worker = await peer.join(), await peer.join()
    reached, ended = asyncio.Event(), asyncio.Event()
    add = peer.app.state.grid.blobs.add

    async def add_after_the_end(*blob):
        reached.set()
        await ended.wait()
        return await add(*blob)

    monkeypatch.setattr(peer.app.state.grid.blobs, "add", add_after_the_end)
    reporting = asyncio.create_task(late.report(1))
    await reached.wait()
    monkeypatch.setattr(peer.app.state.grid.blobs, "add", add)
    await expect_too_late(reporting, ended, peer, worker, tmp_path)


async def test_a_large_diff_whose_cycle_ends_while_it_is_written_comes_too_late(peer, tmp_path, monkeypatch):
    await peer.host()
    late, worker = await peer.join(), await peer.join()
    reached, ended = threading.Event(), threading.Event()
    write = disk.write_all

    def write_after_the_end(file, data):
        reached.set()
        ended.wait(5)
        write(file, data)

    with monkeypatch.context() as large:
        large.setattr(folder, "MOST_BYTES", 0)
        large.setattr(disk, "write_all", write_after_the_end)
        reporting = asyncio.create_task(late.report(1))
        await asyncio.to_thread(reached.wait, 5)
    await expect_too_late(reporting, ended, peer, worker, tmp_path)


async def test_diffs_that_cannot_be_deleted_are_told_of_and_tried_again(
    open_grid, tmp_path, monkeypatch, caplog
):
    def refuse(_folder):
        raise PermissionError("operation not permitted")

    async with open_grid() as peer:
        await peer.host()
        with monkeypatch.context() as refusing:
            refusing.setattr(folder, "_delete", refuse)
            await (await peer.join()).report(1)
            await peer.until_checkpoint(2)
            async with asyncio.timeout(5):
                while "the diffs of cycle 1 are not deleted" not in caplog.text:
                    await asyncio.sleep(0.01)
        assert kept(tmp_path) == [diff(1)]
    async with open_grid():
        await until_gone(tmp_path)


async def test_diffs_are_kept_where_the_operator_wants_it(open_grid, tmp_path):
    async with open_grid(keep_diffs=True) as peer:
        await peer.host()
        await (await peer.join()).report(1)
        await peer.until_checkpoint(2)
        await forget_left(peer.app.state.grid)
        assert kept(tmp_path) == [diff(1)]


async def test_what_a_killed_process_left_is_forgotten_at_the_next_start(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 1})
        await (await peer.join()).report(2)
        await peer.until_checkpoint(2)
        await until_gone(tmp_path)
        worker = await peer.join()
        ended, foreign = group_of(peer.app.state.grid, 1), "diffs/another/1"
        for group in (ended, foreign):
            await peer.app.state.grid.blobs.add(group, diff(1))
    async with open_grid() as peer:
        async with asyncio.timeout(5):
            while len(kept(tmp_path)) > 1:
                await asyncio.sleep(0.01)
        assert await peer.app.state.grid.blobs.groups("diffs/another") == ["1"]
        assert (await continued(peer, worker).report(1)).status_code == 200
        await peer.until_checkpoint(3)


async def test_diffs_of_cycles_that_run_survive_a_start(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 2})
        await (await peer.join()).report(1)
    async with open_grid() as peer:
        await forget_left(peer.app.state.grid)
        assert kept(tmp_path) == [diff(1)]

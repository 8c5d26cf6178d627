"""Blobs that no row names are deleted once they are old, by one replica at a time."""

import asyncio
import os
import time

import pytest

from fedplan.grid.background.sweeper import Sweeper
from fedplan.grid.store import chores
from fedplan.grid.store.chores import SWEEP
from tests.grid.models import base64_of, diff, plan_for_two
from tests.grid.service.test_damage import report

KINDS = ("models", "states", "plans", "protocols")
OLD = 100_000


def age(path, seconds=OLD):
    before = time.time() - seconds
    os.utime(path, (before, before))


async def until_swept(peer):
    grid = peer.app.state.grid
    async with asyncio.timeout(10):
        while True:
            async with grid.store.reading() as db:
                chore = await chores.read(db, SWEEP)
            if chore.owner is None and chore.due_at > grid.clock():
                return chore
            await asyncio.sleep(0.01)


async def sweep(peer):
    """A sweep that is due now."""
    grid = peer.app.state.grid
    async with grid.store.writing() as db:
        await chores.drop(db, await chores.take(db, await chores.read(db, SWEEP), "nobody"), 0.0)
    await Sweeper(grid).look()


def files(folder):
    return {path for kind in KINDS for path in (folder / "blobs" / kind).glob("*")}


async def test_what_a_row_names_stays_however_old_it_is(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host(averaging_plan=plan_for_two(), server={}, protocols={"p": ""})
        await peer.host("n", server={"max_diffs": 1, "strategy": "fedadam"})
        await (await peer.join("n")).report(1)
        await peer.until_checkpoint(2, "n")
        before = files(tmp_path)
        assert {path.parent.name for path in before} == set(KINDS)
        for path in before:
            age(path)
        await sweep(peer)
        assert files(tmp_path) == before


async def test_what_none_names_goes_once_it_is_old(open_grid, tmp_path, caplog):
    async with open_grid(orphan_seconds=1000) as peer:
        await peer.host()
        grid = peer.app.state.grid
        named = files(tmp_path)
        old = [await grid.keep(kind, b"left") for kind in KINDS]
        new = [await grid.keep(kind, b"on its way to a row") for kind in KINDS]
        unfinished = f"models/{grid.store.id}-00.new"
        (tmp_path / "blobs" / unfinished).write_bytes(b"half")
        for key in [*old, unfinished]:
            age(tmp_path / "blobs" / key)
        await sweep(peer)
        assert files(tmp_path) == named | {tmp_path / "blobs" / key for key in new}
        metrics = (await peer.http.get("/metrics")).text
        assert 'fedplan_deleted_total{what="orphans"} 5.0' in metrics


async def test_blobs_of_other_grids_and_of_older_ones_stay(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host()
        foreign = ["models/0123abcd-00.00000000", "models/" + "a" * 32, "models/sub/x"]
        for key in foreign:
            path = tmp_path / "blobs" / key
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"not ours")
            age(path)
        await sweep(peer)
        assert all((tmp_path / "blobs" / key).exists() for key in foreign)


async def test_diffs_of_ended_cycles_that_a_kill_left_go_too(open_grid, tmp_path):
    async with open_grid() as peer:
        await peer.host()
        await report(peer, 1)
        await peer.until_checkpoint(2)
        grid = peer.app.state.grid
        await grid.blobs.add(f"diffs/{grid.store.id}/1", diff(1))
        await report(peer)  # of the open cycle
        await sweep(peer)
        assert await grid.blobs.groups(f"diffs/{grid.store.id}") in (["2"], [])


async def test_a_replica_that_is_at_it_is_left_alone_until_it_stands_still(open_grid):
    async with open_grid(lease_seconds=0.3) as peer:
        await until_swept(peer)
        grid = peer.app.state.grid
        async with grid.store.writing() as db:
            held = await chores.take(db, await chores.read(db, SWEEP), "another")
            await chores.drop(db, held, 0.0)
            held = await chores.take(db, await chores.read(db, SWEEP), "another")
        second = Sweeper(grid)
        await second.look()
        async with grid.store.reading() as db:
            assert await chores.read(db, SWEEP) == held
        await until_swept(peer)  # the grid's own took it over
        async with grid.store.writing() as db:
            assert await chores.take(db, held, "another") is None


async def test_a_sweep_that_fails_is_tried_again(open_grid, monkeypatch, caplog):
    async with open_grid(lease_seconds=0.2) as peer:
        await until_swept(peer)
        grid = peer.app.state.grid
        listed = grid.blobs.listed

        def failing(_kind):
            raise PermissionError("not now")

        monkeypatch.setattr(grid.blobs, "listed", failing)
        with pytest.raises(PermissionError):
            await sweep(peer)
        async with grid.store.reading() as db:
            assert (await chores.read(db, SWEEP)).owner is None
        async with asyncio.timeout(5):
            while "could not be deleted" not in caplog.text:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(grid.blobs, "listed", listed)
        await until_swept(peer)


async def test_a_model_in_which_it_fails_keeps_no_other_from_it(open_grid, tmp_path, caplog):
    async with open_grid() as peer:
        await peer.host("a")
        await peer.host("b", server={"max_diffs": 1, "keep_checkpoints": 1})
        await (await peer.join("b")).report(diff=base64_of(diff(1)))
        await peer.until_checkpoint(2, "b")
        grid = peer.app.state.grid
        newest = grid.known.newest

        async def broken(id):
            if id == 1:
                raise ValueError("?")
            return await newest(id)

        grid.known.newest = broken
        await sweep(peer)
        assert "of model 1 not all is deleted" in caplog.text
        assert len([path for path in files(tmp_path) if path.parent.name == "models"]) == 2

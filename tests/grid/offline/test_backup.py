"""A backup, made while a grid trains, becomes a grid elsewhere that goes on training."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import stat

import numpy as np
import pytest
from obstore.store import MemoryStore
from sqlalchemy import text

from fedplan.errors import ConfigError, SettingsError
from fedplan.grid import Settings
from fedplan.grid.blobs import blobs as opening_blobs
from fedplan.grid.offline.backup import backup, read_manifest
from fedplan.grid.offline.restore import restore
from fedplan.grid.offline.verifying import verify
from fedplan.grid.opening import looking_at
from fedplan.grid.store import Store
from tests.grid.databases import SERVER, database_of
from tests.grid.models import diff
from tests.grid.offline.test_verifying import train
from tests.grid.postgresql import cluster, needs_postgresql
from tests.grid.service.test_damage import flip, report, rows, stored
from tests.grid.serving.test_server import continued
from tests.grid.store.test_engine import until_0011

KEY = "k" * 40

KINDS = [
    "files",
    pytest.param(
        "servers",
        marks=[needs_postgresql, pytest.mark.skipif(SERVER is not None, reason="on another PostgreSQL")],
    ),
]
"""SQLite and a folder; PostgreSQL and an object store."""


@pytest.fixture(scope="module")
def postgresql():
    with cluster() as made:
        yield made


@pytest.fixture
def object_stores(monkeypatch):
    """Object stores in memory that are still there when they are opened again."""
    there, from_url = {}, opening_blobs.from_url

    def opened(url):
        if url.startswith("memory"):
            return there.setdefault(url, MemoryStore())
        return from_url(url)

    monkeypatch.setattr(opening_blobs, "from_url", opened)


@pytest.fixture
def place(request, tmp_path, object_stores):
    """Makes the settings of a grid, of a kind and with a name."""

    async def made(kind, name):
        if kind == "files":
            folder = tmp_path / name
            return {"data_dir": folder, "database_url": await database_of(folder), "secret_key": KEY}
        server = request.getfixturevalue("postgresql")
        return {
            "data_dir": tmp_path / name,
            "database_url": await database_of(tmp_path / name, server.url),
            "blob_url": f"memory://{name}",
            "secret_key": KEY,
        }

    return made


def open_at(open_grid, place, **settings):
    return open_grid(place["data_dir"], **place, **settings)


async def backed_up(settings, folder):
    async with looking_at(Settings(**settings), older=True) as (store, blobs):
        return await backup(store, blobs, folder)


async def outcomes(settings, name="m", version="1.0"):
    async with looking_at(Settings(**settings)) as (store, blobs):
        return [one.outcome.value async for one in verify(store, blobs, name, version)]


@pytest.mark.some(2)
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
async def test_a_grid_goes_on_elsewhere_where_its_backup_was(open_grid, place, tmp_path, source, target):
    here, there, folder = await place(source, "here"), await place(target, "there"), tmp_path / "backup"
    async with open_at(open_grid, here, keep_diffs=True) as peer:
        await peer.host(server={"max_diffs": 2, "strategy": {"name": "fedadam", "lr": 0.5}})
        await train(peer, (1, 2), (3, 4))
        await report(peer, 5)
        worker = await peer.join()
        copied = await backed_up(here, folder)
        assert copied.damaged == ()
        assert (await worker.report(6)).status_code == 200
        await peer.until_checkpoint(4)
        expected = await peer.checkpoint()
    restored = await restore(folder, Settings(**there))
    assert (restored.rows, restored.blobs, restored.size) == (copied.rows, copied.blobs, copied.size)
    assert await outcomes(there) == ["good", "good", "equal", "equal", "good"]
    async with open_at(open_grid, there, keep_diffs=True) as peer:
        assert (await peer.status())["cycle"]["reported"] == 1
        assert (await continued(peer, worker).report(6)).status_code == 200
        await peer.until_checkpoint(4)
        for ours, theirs in zip(await peer.checkpoint(), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        await train_on(peer)
        await peer.host("new", server={"max_diffs": 1})  # rows get numbers that are free
        assert (await peer.status("new"))["cycle"]["number"] == 1
    assert set(await outcomes(there)) == {"good", "equal"}


async def train_on(peer):
    await report(peer, 7, 8)
    await peer.until_checkpoint(5)


@pytest.mark.some(2)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_backup_while_cycles_come_and_go_is_of_one_moment(open_grid, place, tmp_path, kind):
    """The grid deletes diffs the whole time, and none of a backup's rows names one that it lacks."""
    here = await place(kind, "here")
    async with open_at(open_grid, here) as peer:
        await peer.host(server={"max_diffs": 2, "keep_checkpoints": 3})
        done = asyncio.Event()

        async def training():
            number = 1
            while not done.is_set():
                number += 1
                await report(peer, 1, 2)
                await peer.until_checkpoint(number)

        working = asyncio.create_task(training())
        for number in range(3):
            await asyncio.sleep(0.2)
            copied = await backed_up(here, tmp_path / f"backup {number}")
            assert copied.damaged == ()
        done.set()
        await working
    for number in range(3):
        there = await place(kind, f"there {number}")
        await restore(tmp_path / f"backup {number}", Settings(**there))
        assert set(await outcomes(there)) <= {"good", "deleted"}
        async with open_at(open_grid, there) as peer:
            model = await peer.status()
            start = model["checkpoints"][0]["number"]
            await report(peer, *[1, 2][model["cycle"]["reported"] :])
            await peer.until_checkpoint(start + 1)


async def test_diffs_that_end_while_they_are_copied_are_left_to_the_next_look(open_grid, place, tmp_path):
    here = await place("files", "here")
    async with open_at(open_grid, here) as peer:
        await peer.host(server={"max_diffs": 2})
        await report(peer, 1)
        async with looking_at(Settings(**here)) as (store, blobs):
            get = blobs.get
            ended = []

            async def late(key):
                if not ended:
                    ended.append(key)
                    await report(peer, 2)
                    await peer.until_checkpoint(2)
                    await peer.until(lambda model: model["cycle"]["number"] == 2)
                    await until_gone(tmp_path / "here" / "blobs" / "diffs")
                return await get(key)

            blobs.get = late
            copied = await backup(store, blobs, tmp_path / "backup")
        assert ended[0].startswith("diffs/")
        assert copied.damaged == ()
        assert (tmp_path / "backup" / "tables" / "checkpoints.jsonl").read_text().count("\n") == 2


async def until_gone(folder):
    async with asyncio.timeout(5):
        while any(path.is_file() for path in folder.rglob("*")):
            await asyncio.sleep(0.01)


async def test_what_is_damaged_is_named_and_left_out_of_it(open_grid, place, tmp_path):
    here, there = await place("files", "here"), await place("files", "there")
    async with open_at(open_grid, here, sums_bytes=0) as peer:
        await peer.host(server={"max_diffs": 3})
        await report(peer, 1, 2)
        one, other = (row["diff"] for row in await rows(peer))
        path, start = stored(tmp_path / "here", one)
        flip(path, start + 60)
        (plan,) = (tmp_path / "here" / "blobs" / "plans").iterdir()
        plan.unlink()
        copied = await backed_up(here, tmp_path / "backup")
    assert set(copied.damaged) == {one, f"plans/{plan.name}"}
    restored = await restore(tmp_path / "backup", Settings(**there))
    assert set(restored.damaged) == set(copied.damaged)
    async with looking_at(Settings(**there)) as (_, blobs):
        assert (await blobs.get(other))[: len(diff(2))] == diff(2)


@contextlib.asynccontextmanager
async def one_backup(open_grid, place, tmp_path, **settings):
    here = {**await place("files", "here"), **settings}
    async with open_at(open_grid, here) as peer:
        await peer.host()
        await report(peer, 1)
        await peer.until_checkpoint(2)
        await backed_up(here, tmp_path / "backup")
    yield tmp_path / "backup", await place("files", "there")


async def test_nobody_else_may_look_into_a_backup(open_grid, place, tmp_path):
    async with one_backup(open_grid, place, tmp_path) as (folder, _):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert KEY not in "".join(path.read_text() for path in (folder / "tables").iterdir())


async def test_a_folder_with_something_in_it_takes_no_backup(open_grid, place, tmp_path):
    async with one_backup(open_grid, place, tmp_path) as (folder, _):
        with pytest.raises(ConfigError, match="is not empty"):
            await backed_up(await place("files", "here"), folder)


class TestRestoring:
    async def test_takes_a_place_that_is_empty(self, open_grid, place, tmp_path):
        async with one_backup(open_grid, place, tmp_path) as (folder, there):
            await restore(folder, Settings(**there))
            with pytest.raises(ConfigError, match="the database has tables already"):
                await restore(folder, Settings(**there))
            other = await place("files", "other")
            (tmp_path / "other" / "blobs").mkdir()
            (tmp_path / "other" / "blobs" / "x").write_bytes(b"")
            with pytest.raises(ConfigError, match="there are blobs already"):
                await restore(folder, Settings(**other))

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            ("unfinished", "no manifest.json"),
            ("manifest", "its manifest or its tables"),
            ("table", r"tables/checkpoints.jsonl was changed"),
            ("no table", "its manifest or its tables"),
            ("blob", "the blob models/.* is missing or was changed"),
            ("no blob", "the blob models/.* is missing or was changed"),
            ("newer", "the backup has the schema 9999 of a newer fedplan"),
            ("format", "was made by a newer fedplan"),
        ],
    )
    async def test_refuses_what_is_not_whole_and_leaves_nothing(
        self, open_grid, place, tmp_path, damage, why
    ):
        async with one_backup(open_grid, place, tmp_path) as (folder, there):
            manifest, table = folder / "manifest.json", folder / "tables" / "checkpoints.jsonl"
            blob = next((folder / "blobs" / "models").iterdir())
            told = json.loads(manifest.read_text())
            match damage:
                case "unfinished":
                    manifest.unlink()
                case "manifest":
                    manifest.write_text("{")
                case "table":
                    table.write_text(table.read_text().replace("models/", "models_"))
                case "no table":
                    table.unlink()
                case "blob":
                    flip(blob, 30)
                case "no blob":
                    blob.unlink()
                case "newer":
                    manifest.write_text(json.dumps(told | {"schema": "9999"}))
                case "format":
                    manifest.write_text(json.dumps(told | {"format": 2}))
            with pytest.raises(ConfigError, match=why):
                await restore(folder, Settings(**there))
            assert not any((tmp_path / "there").rglob("models"))
            shutil.rmtree(tmp_path / "there")
            if SERVER is None:
                with pytest.raises(ConfigError):
                    await Store.look(there["database_url"])

    async def test_writes_no_file_outside_whatever_a_backup_names(self, open_grid, place, tmp_path):
        async with one_backup(open_grid, place, tmp_path) as (folder, there):
            table, manifest = folder / "tables" / "checkpoints.jsonl", folder / "manifest.json"
            table.write_text(table.read_text().replace('"models/', '"../models/'))
            told = json.loads(manifest.read_text())
            told["tables"]["checkpoints"] = hashlib.sha256(table.read_bytes()).hexdigest()
            manifest.write_text(json.dumps(told))
            with pytest.raises(ConfigError, match="which is no key of one"):
                await restore(folder, Settings(**there))

    async def test_needs_the_key_of_the_secrets(self, open_grid, place, tmp_path):
        async with one_backup(open_grid, place, tmp_path) as (folder, there):
            with pytest.raises(SettingsError, match="under another key"):
                await restore(folder, Settings(**{**there, "secret_key": "z" * 40}))
            bare = Settings(data_dir=tmp_path / "bare")
            with pytest.raises(SettingsError, match=r"copy grid.key of the grid to"):
                await restore(folder, bare)
            assert not (tmp_path / "bare").exists()


@pytest.mark.skipif(SERVER is not None, reason="about SQLite")
async def test_a_backup_of_an_older_grid_is_brought_up_to_date(tmp_path):
    """As the program of before left it: it is backed up as it is."""
    url = f"sqlite:///{tmp_path}/old.db"
    store = await Store.open(url)
    async with store.writing() as db:
        await until_0011(db)
        await db.execute(text("UPDATE alembic_version SET version_num = '0011'"))
        await db.execute(
            text(
                "INSERT INTO processes (id, name, version, client_config, server_config, layout, created_at)"
                " VALUES (5, 'm', '1.0', '{}', '{}', '[]', 0)"
            )
        )
        await db.execute(
            text(
                "INSERT INTO checkpoints (id, process_id, number, blob, created_at)"
                " VALUES (7, 5, 1, 'models/x', 0)"
            )
        )
        await db.execute(
            text(
                "INSERT INTO cycles (id, process_id, number, phase, checkpoint_id, opened_at, occupied,"
                " reported, lease_owner, lease_until) VALUES (9, 5, 1, 'open', 7, 0, 0, 0, 'dead', 9e9)"
            )
        )
    await store.aclose()
    (tmp_path / "blobs" / "models").mkdir(parents=True)
    (tmp_path / "blobs" / "models" / "x").write_bytes(b"the model")
    old = {"data_dir": tmp_path, "database_url": url}
    await backed_up(old, tmp_path / "backup")
    assert read_manifest(tmp_path / "backup").schema == "0011"
    new = Settings(data_dir=tmp_path / "new")
    restored = await restore(tmp_path / "backup", new)
    assert (restored.blobs, restored.size) == (1, 9)
    async with looking_at(new) as (there, blobs):
        assert await blobs.get("models/x") == b"the model"
        async with there.reading() as db:
            assert await db.scalar(text("SELECT lease_owner FROM cycles WHERE id = 9")) is None
            assert await db.scalar(text("SELECT count(*) FROM clock")) == 1

import asyncio
import contextlib
import os

import numpy as np
import pytest

from fedplan.errors import DamagedBlobError
from fedplan.grid.blobs import Blobs
from fedplan.grid.store.tables import assignments
from tests.grid.models import MODEL

DATA = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture(params=["folder", "memory"])
async def blobs(request, tmp_path):
    """Every kind of blob store that needs no network; all must do the same."""
    url = (tmp_path / "new" / "blobs").as_uri() if request.param == "folder" else "memory:///"
    async with contextlib.aclosing(Blobs.open(url)) as opened:
        yield opened


async def test_what_was_put_can_be_got(blobs):
    key = await blobs.put("models", DATA)
    assert key.startswith("models/")
    assert await blobs.get(key) == DATA


async def test_every_blob_gets_its_own_key(blobs):
    assert await blobs.put("models", DATA) != await blobs.put("models", DATA)


async def test_a_blob_can_be_streamed(blobs):
    size, pieces = await blobs.stream(await blobs.put("models", DATA))
    received = [piece async for piece in pieces]
    assert size == len(DATA)
    assert b"".join(received) == DATA


async def test_a_folder_streams_piece_by_piece(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri())
    _, pieces = await blobs.stream(await blobs.put("models", DATA))
    assert max([len(piece) async for piece in pieces]) < len(DATA) / 2


async def test_an_empty_blob_is_a_blob(blobs):
    key = await blobs.put("protocols", b"")
    size, pieces = await blobs.stream(key)
    assert size == 0
    assert b"".join([piece async for piece in pieces]) == b""


async def test_a_deleted_blob_is_gone_and_may_be_deleted_again(blobs):
    key = await blobs.put("diffs", DATA)
    await blobs.delete(key, key)
    with pytest.raises(FileNotFoundError):
        await blobs.get(key)
    with pytest.raises(FileNotFoundError):
        await blobs.stream(key)


@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_000, 5_000_000])
async def test_what_was_added_to_a_group_can_be_got(blobs, size):
    first, second = DATA[:size], DATA[:100]
    keys = [await blobs.add("diffs/7", data) for data in (first, second)]
    assert all(key.startswith("diffs/7/") for key in keys)
    assert [await blobs.get(key) for key in keys] == [first, second]


async def test_groups_are_listed_below_another(blobs):
    for group in ("diffs/a/7", "diffs/a/12", "diffs/b/7"):
        await blobs.add(group, DATA[:100])
    await blobs.put("diffs/a", DATA[:100])
    assert sorted(await blobs.groups("diffs/a")) == ["12", "7"]
    assert await blobs.groups("diffs/c") == []


async def test_what_was_put_is_listed_by_its_kind(blobs):
    keys = [await blobs.put("sums/a", DATA[:100], name) for name in ("7-x-1", "7-x-2", None)]
    await blobs.put("sums/b", DATA[:100])
    assert sorted(await blobs.names("sums/a")) == sorted(keys)
    assert [key.startswith("sums/a/7-x-") for key in keys] == [True, True, False]
    assert await blobs.names("sums/c") == []


async def test_a_group_is_dropped_whole_and_others_stay(blobs):
    gone = [await blobs.add("diffs/7", data) for data in (DATA, DATA[:100])]
    other = await blobs.add("diffs/77", DATA[:100])
    await blobs.drop("diffs/7")
    for key in gone:
        with pytest.raises(FileNotFoundError):
            await blobs.get(key)
    assert await blobs.get(other) == DATA[:100]
    await blobs.drop("diffs/7")
    assert await blobs.get(await blobs.add("diffs/7", DATA[:50])) == DATA[:50]


async def test_a_folder_keeps_blobs_as_files_that_outlive_the_store(tmp_path):
    key = await Blobs.open(tmp_path.as_uri()).put("models", DATA)
    assert (tmp_path / key).read_bytes() == DATA
    assert await Blobs.open(tmp_path.as_uri()).get(key) == DATA


async def test_a_folders_name_may_hold_spaces(tmp_path):
    blobs = Blobs.open((tmp_path / "my grid").as_uri())
    assert await blobs.get(await blobs.put("models", DATA)) == DATA


async def test_what_is_asked_for_again_and_again_is_remembered(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri(), remembered=4 * len(DATA))
    key = await blobs.put("models", DATA)
    assert await blobs.recall(key) == DATA
    (tmp_path / key).unlink()
    assert await blobs.recall(key) == DATA
    await blobs.delete(key)
    with pytest.raises(FileNotFoundError):
        await blobs.recall(key)


class TestWhatManyAskForAtOnce:
    """As all workers of a cycle do when it opens."""

    @pytest.fixture
    async def asked(self, tmp_path):
        async with contextlib.aclosing(Blobs.open(tmp_path.as_uri(), remembered=4 * len(DATA))) as blobs:
            key, opened = await blobs.put("models", DATA), []

            def ask():
                async def stream():
                    opened.append(key)
                    return await blobs.stream(key)

                return asyncio.ensure_future(blobs.recall("a model", stream))

            yield ask, opened, tmp_path / key

    async def test_is_read_once(self, asked):
        ask, opened, _ = asked
        assert await asyncio.gather(*(ask() for _ in range(20))) == [DATA] * 20
        assert len(opened) == 1

    async def test_comes_also_when_the_first_of_them_goes_away(self, asked):
        ask, opened, _ = asked
        first, second = ask(), ask()
        await asyncio.sleep(0)
        first.cancel()
        assert await second == DATA
        assert len(opened) == 1

    async def test_may_be_asked_for_again_when_it_could_not_be_read(self, asked):
        ask, opened, file = asked
        file.rename(file.with_suffix(".away"))
        found = await asyncio.gather(*(ask() for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [FileNotFoundError] * 3
        file.with_suffix(".away").rename(file)
        assert await ask() == DATA
        assert len(opened) == 2


async def test_what_is_too_large_to_be_remembered_is_not(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri(), remembered=4 * len(DATA) - 4)
    size, pieces = await blobs.recall(await blobs.put("models", DATA))
    assert size == len(DATA)
    assert b"".join([piece async for piece in pieces]) == DATA


async def test_what_is_remembered_as_zstd_is_forgotten_with_its_blob(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri(), remembered=16 * len(DATA))
    key = await blobs.put("models", DATA)
    packed = await blobs.recall_zstd(key, DATA)
    assert len(packed) < len(DATA)
    assert await blobs.recall_zstd(key, bytes(len(DATA))) is packed
    await blobs.delete(key)
    assert await blobs.recall_zstd(key, bytes(len(DATA))) != packed


async def test_what_would_drive_others_out_of_memory_is_not_compressed(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri(), remembered=16 * len(DATA) - 1)
    assert await blobs.recall_zstd(await blobs.put("models", DATA), DATA) is None


async def test_a_part_that_was_cut_off_is_missed(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri())
    key = await blobs.add("diffs/7", DATA[:9000])
    os.truncate(tmp_path / key.partition("@")[0], 4096)
    with pytest.raises(DamagedBlobError, match="cut short"):
        await blobs.get(key)


async def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    blobs = Blobs.open(tmp_path.as_uri())
    key = await blobs.put("models", DATA)

    def fail(_descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        await blobs.put("models", DATA)
    assert [f"models/{path.name}" for path in tmp_path.glob("models/*")] == [key]


def flip(path, at):
    """Changes one bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def flipped(folder, key):
    """Changes one bit of a blob."""
    name, _, start = key.partition("@")
    flip(folder / name, 50 + int(start.partition("+")[0] or 0))


def cut(folder, key):
    """Takes the last bytes of a blob's file."""
    path = folder / key.partition("@")[0]
    os.truncate(path, 60)


async def drained(stream):
    _, pieces = stream
    return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("damage", [flipped, cut])
class TestDamage:
    @pytest.mark.parametrize("size", [100, 5_000_000])
    async def test_is_seen_when_a_blob_is_read(self, tmp_path, damage, size):
        blobs = Blobs.open(tmp_path.as_uri())
        for key in (await blobs.put("models", DATA[:size]), await blobs.add("diffs/7", DATA[:size])):
            damage(tmp_path, key)
            with pytest.raises(DamagedBlobError):
                await blobs.get(key)

    async def test_is_seen_before_the_last_piece_of_a_stream(self, tmp_path, damage):
        blobs = Blobs.open(tmp_path.as_uri())
        key = await blobs.put("models", DATA)
        damage(tmp_path, key)
        with pytest.raises(DamagedBlobError, match=key):
            await drained(await blobs.stream(key))

    @pytest.mark.parametrize("remembered", [0, 1 << 30], ids=["large", "small"])
    async def test_is_seen_before_anything_is_sent(self, tmp_path, damage, remembered):
        blobs = Blobs.open(tmp_path.as_uri(), remembered)
        key = await blobs.put("models", DATA)
        damage(tmp_path, key)
        for _ in range(2):
            with pytest.raises(DamagedBlobError, match=key):
                await blobs.recall(key)

    async def test_that_comes_later_is_seen_too(self, tmp_path, damage):
        blobs = Blobs.open(tmp_path.as_uri())
        key = await blobs.put("models", DATA)
        assert await drained(await blobs.recall(key)) == DATA
        damage(tmp_path, key)
        with pytest.raises(DamagedBlobError, match=key):
            await drained(await blobs.recall(key))


async def test_blobs_of_older_grids_are_read_as_they_are(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "9f").write_bytes(DATA)
    (tmp_path / "models" / "log").write_bytes(DATA)
    assert await blobs.get("models/9f") == DATA
    assert await drained(await blobs.recall("models/9f")) == DATA
    assert await blobs.get("models/log@4096+100") == DATA[4096:4196]


async def test_the_longest_key_of_a_diff_fits_its_column(tmp_path):
    blobs = Blobs.open(tmp_path.as_uri())
    group = "diffs/12345678/" + "9" * 19  # a database numbers cycles with 63 bits
    keys = [await blobs.add(group, DATA[:size]) for size in (10, 5_000_000)]
    most = keys[0].replace("@0+10.", f"@{2**63}+{4 * 2**20}.")
    assert max(len(most), len(keys[1])) <= assignments.c.diff.type.length


async def test_a_grid_keeps_them_where_its_settings_say(open_grid, tmp_path):
    async with open_grid(blob_url="memory:///") as peer:
        await peer.host(server={"max_diffs": 2})
        for value in (1, 3):
            assert (await (await peer.join()).report(value)).status_code == 200
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)
    assert not (tmp_path / "blobs").exists()

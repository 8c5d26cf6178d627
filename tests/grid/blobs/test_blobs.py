import contextlib
import os

import pytest

from fedplan.grid.blobs import Blobs

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
    with pytest.raises(FileNotFoundError, match="cut short"):
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

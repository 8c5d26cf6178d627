import asyncio
import contextlib
import errno
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedplan.grid.blobs import disk, logs
from fedplan.grid.blobs.logs import MOST_BYTES, Logs


@pytest.fixture
async def opened(tmp_path):
    async with contextlib.aclosing(Logs(tmp_path)) as made:
        yield made


def at(folder, place, size):
    """What stands at a place."""
    file, start = place
    return (folder / file).read_bytes()[start : start + size]


def files(folder, group):
    """The names of a group's files."""
    return sorted(path.name for path in (folder / group).iterdir())


@pytest.fixture(params=["past the cache", "through the cache"])
def cache(request, monkeypatch):
    """With and without O_DIRECT: some file systems lack it."""
    if request.param == "through the cache":
        monkeypatch.setattr(logs, "_PAST_THE_CACHE", 0)


async def test_blobs_of_a_group_stand_in_one_file(opened, tmp_path, cache):
    blobs = [bytes([n]) * (3000 * n) for n in range(1, 6)]
    places = await asyncio.gather(*(opened.append("7", blob) for blob in blobs))
    assert [at(tmp_path, place, len(blob)) for place, blob in zip(places, blobs, strict=True)] == blobs
    assert len(files(tmp_path, "7")) == 1


async def test_every_group_has_files_of_its_own(opened, tmp_path):
    places = await asyncio.gather(*(opened.append(group, group.encode()) for group in ("7", "8", "7")))
    assert [at(tmp_path, place, 1) for place in places] == [b"7", b"8", b"7"]
    assert [place[0].partition("/")[0] for place in places] == ["7", "8", "7"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sizes=st.lists(st.sampled_from([0, 1, 4095, 4096, 4097, 70_000, MOST_BYTES]), max_size=9))
async def test_blobs_of_any_sizes_stand_where_they_are_said_to(tmp_path, sizes):
    async with contextlib.aclosing(Logs(tmp_path)) as opened:
        blobs = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
        places = await asyncio.gather(*(opened.append("7", blob) for blob in blobs))
        for place, blob in zip(places, blobs, strict=True):
            assert at(tmp_path, place, len(blob)) == blob


async def test_what_comes_together_is_written_at_once(opened, monkeypatch):
    whole, writes = disk.write_all, []

    def note(file, data):
        writes.append(len(data))
        whole(file, data)

    monkeypatch.setattr(logs, "write_all", note)
    await opened.append("7", b"opens the file")
    await asyncio.gather(*(opened.append("7", bytes(10_000)) for _ in range(5)))
    assert writes == [4096, 5 * 12288]


async def test_memory_of_other_blobs_is_not_written_between_them(opened, tmp_path):
    await opened.append("7", b"\xff" * 8000)
    file, start = await opened.append("7", b"short")
    assert (tmp_path / file).read_bytes()[start:] == b"short" + bytes(4096 - 5)


async def test_a_file_that_cannot_be_written_is_left_and_others_go_on(opened, tmp_path, monkeypatch):
    before = await opened.append("7", b"before")
    whole = disk.write_all

    def full_after_a_part(file, data):
        if bytes(data[:4]) != b"lost":
            return whole(file, data)
        os.write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(logs, "write_all", full_after_a_part)
    lost, kept = await asyncio.gather(
        opened.append("7", b"lost" * 4096), opened.append("8", b"kept"), return_exceptions=True
    )
    assert isinstance(lost, OSError)
    assert at(tmp_path, kept, 4) == b"kept"
    assert (tmp_path / before[0]).stat().st_size == 4096
    after = await opened.append("7", b"after")
    assert after[0] != before[0]
    assert at(tmp_path, before, 6) == b"before"


@pytest.mark.parametrize("call", ["open_file", "write_all"])
async def test_a_file_system_without_direct_access_is_written_to_all_the_same(
    opened, tmp_path, monkeypatch, call
):
    whole, refused, flags_of = getattr(disk, call), [], {}

    def open_or_refuse(path, flags):
        if call == "open_file" and flags & os.O_DIRECT:
            refused.append(path)
            raise OSError(errno.EINVAL, "invalid argument")
        file = disk_open(path, flags)
        flags_of[file] = flags
        return file

    def write_or_refuse(file, data):
        if flags_of[file] & os.O_DIRECT:
            refused.append(file)
            raise OSError(errno.EINVAL, "invalid argument")
        whole(file, data)

    disk_open = disk.open_file
    monkeypatch.setattr(logs, "open_file", open_or_refuse)
    if call == "write_all":
        monkeypatch.setattr(logs, "write_all", write_or_refuse)
    places = [await opened.append("7", data) for data in (b"data", b"more")]
    assert [at(tmp_path, place, 4) for place in places] == [b"data", b"more"]
    assert len(refused) == 1
    assert len(files(tmp_path, "7")) == 1


async def test_any_error_reaches_who_waits_and_stops_nobody_else(opened, tmp_path, monkeypatch):
    def fail(_file, _data):
        raise MemoryError

    with monkeypatch.context() as failing:
        failing.setattr(logs, "write_all", fail)
        with pytest.raises(MemoryError):
            await opened.append("7", b"lost")
    assert at(tmp_path, await opened.append("8", b"kept"), 4) == b"kept"


async def test_a_full_disk_is_left_without_empty_files(opened, tmp_path, monkeypatch):
    def fail(_file, _data):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(logs, "write_all", fail)
    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            await opened.append("7", b"lost")
    assert files(tmp_path, "7") == []


async def test_after_the_end_nothing_is_taken(tmp_path):
    opened = Logs(tmp_path)
    await opened.append("7", b"data")
    await opened.aclose()
    with pytest.raises(RuntimeError):
        await opened.append("7", b"late")


async def test_no_file_stays_open(opened, tmp_path):
    for group in map(str, range(20)):
        await opened.append(group, b"data")
    assert len(list(tmp_path.rglob("*"))) > 20
    assert [path for path in open_files() if path.startswith(str(tmp_path))] == []


def open_files():
    """What this process has open, by name."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, by another thread
            yield os.readlink(f"/proc/self/fd/{number}")


async def test_few_files_are_remembered_and_the_others_left(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_KNOWN_FILES", 3)
    first = await opened.append("0", b"data")
    for group in ("1", "2", "3", "0"):
        last = await opened.append(group, b"more")
    assert last[0] != first[0]
    assert at(tmp_path, first, 4) == b"data"


async def test_a_file_that_another_process_deleted_is_made_anew(opened, tmp_path):
    gone, _ = await opened.append("7", b"data")
    (tmp_path / gone).unlink()
    assert at(tmp_path, await opened.append("7", b"more"), 4) == b"more"
    (tmp_path / "7").joinpath(*files(tmp_path, "7")).unlink()
    (tmp_path / "7").rmdir()
    assert at(tmp_path, await opened.append("7", b"again"), 5) == b"again"


async def test_who_stops_waiting_does_not_disturb_the_others(opened, tmp_path):
    first, second = (asyncio.create_task(opened.append("7", data)) for data in (b"first", b"other"))
    await asyncio.sleep(0)
    first.cancel()
    assert at(tmp_path, await second, 5) == b"other"
    assert at(tmp_path, await opened.append("7", b"later"), 5) == b"later"


async def test_closing_waits_for_what_is_being_written(tmp_path):
    opened = Logs(tmp_path)
    writing = asyncio.create_task(opened.append("7", b"data"))
    await asyncio.sleep(0)
    await opened.aclose()
    assert at(tmp_path, await writing, 4) == b"data"


KILLED = """
import asyncio, os, sys
from pathlib import Path
from fedplan.grid.blobs.logs import Logs

async def main():
    opened = Logs(Path(sys.argv[1]))
    for n in range(1, 4):
        file, start = await opened.append("7", bytes([n]) * 5000)
        print(file, start, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def test_what_was_appended_outlives_a_kill(tmp_path):
    command = [sys.executable, "-c", KILLED, tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == -9
    places = [line.split() for line in run.stdout.splitlines()]
    found = [at(tmp_path, (file, int(start)), 5000) for file, start in places]
    assert found == [bytes([n]) * 5000 for n in (1, 2, 3)]

"""Whether a grid can do its work: its database, its blobs and its disk are tried, each for itself."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import make_url

from fedplan.errors import DamagedBlobError
from fedplan.grid.grid import Grid
from fedplan.grid.settings import Settings
from fedplan.grid.store import times
from fedplan.grid.web.replies import in_a_line

logger = logging.getLogger(__name__)

OK = "ok"

_SECONDS = 5.0
"""How long each may take; balancers wait for about that long."""

_REMEMBERED_SECONDS = 2.0
"""For how long an answer is good: whoever asks without end must not have the grid write without end."""

_PROBE = b"fedplan looks whether it can write here"


class Readiness:
    """Tries what a grid needs. What is found is logged when it changes; the answer tells no details.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._found: Mapping[str, str] = {}
        self._at: float | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> Mapping[str, str]:
        """By what is needed (database, blobs, disk), ``ok`` or what is wrong with it, in a few words."""
        async with self._looking:  # whoever asks meanwhile gets the same answer
            now = self._grid.clock.monotonic()
            if self._at is None or now - self._at >= _REMEMBERED_SECONDS:
                parts = {"database": self._database(), "blobs": self._blobs(), "disk": self._disk()}
                told = await asyncio.gather(*(self._tried(name, part) for name, part in parts.items()))
                self._found, self._at = dict(zip(parts, told, strict=True)), self._grid.clock.monotonic()
            return self._found

    async def _tried(self, name: str, part: Awaitable[str]) -> str:
        detail = ""
        try:
            async with asyncio.timeout(_SECONDS):
                told = await part
        except TimeoutError:
            told = f"does not answer in {_SECONDS:.0f} s"
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is that it cannot be used
            told, detail = "cannot be read or written", f": {in_a_line(error)}"
        before = self._found.get(name, OK)
        if told != before:
            level = logging.INFO if told == OK else logging.ERROR
            logger.log(level, "the grid's %s: %s%s", name, told, detail)
        return told

    async def _database(self) -> str:
        async with self._grid.store.writing() as db:
            await times.touch(db)
        return OK

    async def _blobs(self) -> str:
        key = await self._grid.keep("probes", _PROBE)
        try:
            if await self._grid.blobs.get(key) != _PROBE:
                raise DamagedBlobError("it gives other bytes than were stored")
        finally:
            await self._grid.blobs.delete(key)
        return OK

    async def _disk(self) -> str:
        least = self._grid.settings.free_disk_bytes
        free = await asyncio.to_thread(_least_free, self._grid.settings)
        return OK if free >= least else f"has {free} bytes free, and should have {least}"


def _least_free(settings: Settings) -> int:
    """The free bytes of that disk which has the fewest, of all that the grid writes to."""
    folders = {settings.data_dir.absolute()}  # for scratch files in any case
    blobs, database = urlsplit(settings.blobs), make_url(settings.database)
    if blobs.scheme == "file":
        folders.add(Path(unquote(blobs.path)))
    if database.get_backend_name() == "sqlite" and database.database:
        folders.add(Path(database.database).absolute().parent)
    return min(shutil.disk_usage(_there(folder)).free for folder in folders)


def _there(folder: Path) -> Path:
    """A folder, or the nearest one above it that there is."""
    return next(path for path in (folder, *folder.parents) if path.exists())

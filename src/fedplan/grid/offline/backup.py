"""A backup of a grid: its rows at one moment, and the blobs that they name. The grid may be running.

A backup is a folder: `tables/` with the rows, `blobs/` with the blobs under their keys, and, written last,
`manifest.json`. It is the same for every kind of database and of blob store, so one of SQLite and a folder
can be restored to PostgreSQL and a bucket.

Blobs are never changed, so it is enough to copy them after the rows were read. What a running grid deletes
meanwhile, such as diffs of a cycle that ends, is named by no row any more: then the rows are read anew, and
only what is new is copied.
"""

import dataclasses
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedplan.errors import ConfigError, DamagedBlobError
from fedplan.grid.blobs import Blobs
from fedplan.grid.offline.rows import digest_of, read_rows, write_rows
from fedplan.grid.store import Store
from fedplan.grid.store.engine import schema_of
from fedplan.grid.store.naming import keys_of
from fedplan.version import __version__

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the backup's folder."""

_TRIES = 20
"""How often rows are read anew for a grid that deletes blobs before they are copied."""

_KEY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.@+-]*)+")
"""Keys of blobs; none leads out of its folder."""


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        schema: of the rows: the number of the last migration.
        tables: by the tables' names, the SHA-256 of their rows, in an order in which they may be inserted.
        damaged: keys of blobs that were damaged or missing when it was made, and are not in it.
        made_by: the version of fedplan.
    """

    schema: str
    tables: dict[str, str]
    damaged: list[str]
    made_by: str = __version__


@dataclasses.dataclass(frozen=True, slots=True)
class Copied:
    """What a backup or a restore has copied.

    Attributes:
        rows: how many rows.
        blobs: how many blobs.
        size: their bytes.
        damaged: keys of the blobs that are named, and that were damaged or missing.
    """

    rows: int
    blobs: int
    size: int
    damaged: tuple[str, ...] = ()


async def backup(store: Store, blobs: Blobs, folder: Path) -> Copied:
    """Makes a backup; the grid may be running.

    Args:
        store: the tables.
        blobs: the blobs.
        folder: what to make; it is not there yet, or empty.

    Raises:
        ConfigError: the folder holds something, or the grid deletes blobs faster than they can be copied.
    """
    _make(folder)
    target = Blobs.open((folder / "blobs").absolute().as_uri())
    copying = _Copying(blobs, target)
    missing = set[str]()
    try:
        for _ in range(_TRIES):
            manifest = await _write_tables(store, folder)
            before, missing = missing, await copying.copy(named_in(folder, manifest))
            if missing <= before:  # what is missing twice was not deleted by the grid: its rows would be too
                break
        else:
            raise ConfigError(
                "the grid deletes reports faster than they can be copied; try again when it is quieter, or "
                "stop it meanwhile"
            )
    finally:
        await target.aclose()
    damaged = tuple(sorted(missing | copying.damaged))
    _finish(folder, dataclasses.replace(manifest, damaged=list(damaged)))
    rows = sum(1 for name in manifest.tables for _ in read_rows(folder / "tables", name))
    return Copied(rows, len(copying.done), copying.size, damaged)


def read_manifest(folder: Path) -> Manifest:
    """What a backup says of itself.

    Raises:
        ConfigError: there is none, it was not finished, or its rows are not what was written.
    """
    file = folder / "manifest.json"
    if not file.exists():
        raise ConfigError(
            f"'{folder}' holds no backup, or one that was not finished: it has no manifest.json"
        )
    try:
        told: dict[str, Any] = json.loads(file.read_bytes())
        if told.pop("format") != FORMAT:
            raise ConfigError(f"the backup in '{folder}' was made by a newer fedplan ({told['made_by']})")
        manifest = Manifest(**told)
        damaged = [
            name for name in manifest.tables if digest_of(folder / "tables", name) != manifest.tables[name]
        ]
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        raise ConfigError(f"the backup in '{folder}' is damaged: its manifest or its tables are") from None
    if damaged:
        raise ConfigError(f"the backup in '{folder}' is damaged: tables/{damaged[0]}.jsonl was changed")
    return manifest


def named_in(folder: Path, manifest: Manifest) -> set[str]:
    """The keys of all blobs that the rows of a backup name, but for those that it lacks.

    Raises:
        ConfigError: something in a row is no key.
    """
    found = set(_keys(folder, manifest)) - set(manifest.damaged)
    strange = [key for key in found if _KEY.fullmatch(key) is None]
    if strange:
        raise ConfigError(f"the backup in '{folder}' names a blob {strange[0]!r}, which is no key of one")
    return found


def _keys(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name in manifest.tables:
        for row in read_rows(folder / "tables", name):
            yield from keys_of(name, row)


class _Copying:
    """Copies blobs to a backup, and knows which it has copied."""

    def __init__(self, source: Blobs, target: Blobs) -> None:
        self._source = source
        self._target = target
        self.done: set[str] = set()
        self.damaged: set[str] = set()
        self.size = 0

    async def copy(self, keys: set[str]) -> set[str]:
        """Copies those that were not; returns those that are missing.

        Reports first: the end of their cycle deletes them.
        """
        self.done &= keys
        missing = set[str]()
        for key in sorted(keys - self.done, key=lambda key: (not key.startswith("diffs/"), key)):
            try:
                data = await self._source.get(key)
            except FileNotFoundError:
                missing.add(key)
            except DamagedBlobError:
                self.damaged.add(key)
            else:
                await self._target.put_as(key, data)
                self.done.add(key)
                self.size += len(data)
        self.damaged &= keys
        return missing


async def _write_tables(store: Store, folder: Path) -> Manifest:
    tables = folder / "tables"
    shutil.rmtree(tables, ignore_errors=True)
    tables.mkdir()
    async with store.snapshot() as db:
        schema = await db.run_sync(schema_of)
        return Manifest(schema, await db.run_sync(lambda connection: write_rows(connection, tables)), [])


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows hold secrets, if these are not encrypted
    if any(folder.iterdir()):
        raise ConfigError(
            f"'{folder}' is not empty: name a folder for the backup that is, or is not there yet"
        )
    folder.chmod(0o700)


def _finish(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest, once all else is on disk."""
    for path in (*(folder / "tables").iterdir(), folder / "tables", folder):
        _sync(path)
    unfinished = folder / "manifest.json.new"
    told = {"format": FORMAT, **dataclasses.asdict(manifest)}
    unfinished.write_text(json.dumps(told, indent=1), encoding="utf-8")
    _sync(unfinished)
    unfinished.rename(folder / "manifest.json")
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A grid out of a backup, on any kind of database and blob store that is empty."""

import contextlib
from pathlib import Path

from sqlalchemy import Connection, inspect

from fedplan.errors import ConfigError, DamagedBlobError, SettingsError
from fedplan.grid.blobs import Blobs
from fedplan.grid.offline.backup import Copied, Manifest, named_in, read_manifest
from fedplan.grid.offline.rows import insert_rows, opened, read_rows
from fedplan.grid.opening import connect_to_store, open_blobs, seal_for
from fedplan.grid.secrets.sealing import KEY_FILE, SEALED
from fedplan.grid.settings import Settings
from fedplan.grid.store import Store
from fedplan.grid.store.engine import check_can_read, migrate
from fedplan.grid.store.sealed import open_grid_key


async def restore(folder: Path, settings: Settings) -> Copied:
    """Fills an empty database and an empty blob store from a backup. No grid may run on them yet.

    The rows are written last, in one transaction: what is interrupted has left no grid.

    Args:
        folder: of the backup.
        settings: of the grid that is to be.

    Raises:
        ConfigError: the backup is damaged or of a newer schema, or there is something in the database or
            among the blobs.
        SettingsError: the secrets in it are encrypted, and the key is not there.
    """
    manifest = read_manifest(folder)
    check_can_read(manifest.schema, "the backup")
    _check_key(folder, manifest, settings)
    keys = sorted(named_in(folder, manifest))
    async with contextlib.aclosing(await _empty_store(settings)) as store:
        async with contextlib.aclosing(open_blobs(settings)) as blobs:
            if not await blobs.is_empty():
                raise ConfigError(
                    "there are blobs already where those of the backup are to be restored; choose an empty "
                    "place with FEDPLAN_DATA_DIR (--data) or FEDPLAN_BLOB_URL, or empty that one"
                )
            size = await _copy(folder, keys, blobs)
        async with store.preparing() as db:
            rows = await db.run_sync(lambda connection: _fill(connection, folder, manifest))
    return Copied(rows, len(keys), size, tuple(manifest.damaged))


async def _empty_store(settings: Settings) -> Store:
    store = connect_to_store(settings)
    try:
        async with store.reading(long=True) as db:
            await db.run_sync(_check_empty)
    except BaseException:
        await store.aclose()
        raise
    return store


def _check_empty(connection: Connection) -> None:
    tables = inspect(connection).get_table_names()
    if tables:
        raise ConfigError(
            f"the database has tables already, such as '{tables[0]}': a backup is restored to an empty one; "
            "choose another with FEDPLAN_DATA_DIR (--data) or FEDPLAN_DATABASE_URL"
        )


def _check_key(folder: Path, manifest: Manifest, settings: Settings) -> None:
    """Sees whether the grid that is to be will be able to read its own secrets."""
    rows = read_rows(folder / "tables", "keys") if "keys" in manifest.tables else iter(())
    stored = next((opened(row["value"]) for row in rows if row["name"] == "grid"), None)
    if stored is None or not stored.startswith(SEALED.encode()):
        return
    file = settings.data_dir.absolute() / KEY_FILE
    given = (settings.secret_key, settings.secret_key_file, settings.database_url)
    if not any(given) and not file.exists():
        raise SettingsError(
            f"the secrets in this backup are encrypted, and backups do not hold the key: copy {KEY_FILE} of "
            f"the grid to '{file}' first, or give its key as FEDPLAN_SECRET_KEY"
        )
    open_grid_key(stored, seal_for(settings))


async def _copy(folder: Path, keys: list[str], target: Blobs) -> int:
    """Copies blobs, all of which are looked at before the first is copied; returns their bytes."""
    size = 0
    async with contextlib.aclosing(Blobs.open((folder / "blobs").absolute().as_uri())) as source:
        for key in keys:
            try:
                await source.check(key)
            except (DamagedBlobError, FileNotFoundError):
                raise ConfigError(
                    f"the backup in '{folder}' is damaged: the blob {key} is missing or was changed; "
                    "nothing is restored. Take another backup"
                ) from None
        for key in keys:
            data = await source.get(key)
            await target.put_as(key, data)
            size += len(data)
    return size


def _fill(connection: Connection, folder: Path, manifest: Manifest) -> int:
    _check_empty(connection)
    migrate(connection, manifest.schema)
    rows = insert_rows(connection, folder / "tables", list(manifest.tables))
    migrate(connection)
    return rows

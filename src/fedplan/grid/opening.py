"""Opening what a grid keeps, its tables and its blobs: for the grid itself, and for commands beside it."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy.exc import SQLAlchemyError

from fedplan.errors import ConfigError
from fedplan.grid.blobs import Blobs
from fedplan.grid.secrets.private import keep_folder_private
from fedplan.grid.secrets.sealing import Seal, seal_of
from fedplan.grid.settings import Settings
from fedplan.grid.store import Store
from fedplan.grid.web.replies import STORAGE_FAULTS, in_a_line


def open_blobs(settings: Settings) -> Blobs:
    """Opens a grid's blobs; the folder is made when missing.

    Raises:
        ConfigError: they cannot be opened.
    """
    with _opening_blobs(settings):
        if settings.blob_url is None:
            keep_folder_private(settings.data_dir)
        return Blobs.open(settings.blobs, settings.remembered_bytes)


def seal_for(settings: Settings) -> Seal:
    """The seal of a grid; see `seal_of`.

    Raises:
        ConfigError: the folder of the data cannot be used.
        SettingsError: a key cannot be used.
    """
    with opening("grid.key", settings, settings.database_url, "FEDPLAN_DATABASE_URL"):
        return seal_of(settings)


async def open_store(settings: Settings, seal: Seal | None = None) -> Store:
    """Opens a grid's tables, and brings them up to date.

    Args:
        settings: how the grid runs.
        seal: see `Store.open`.

    Raises:
        ConfigError: the database cannot be opened, or is of a newer version of this program.
        SettingsError: its secrets are encrypted under another key.
    """
    with _opening_store(settings):
        if settings.database_url is None and settings.blob_url is not None:
            keep_folder_private(settings.data_dir)
        return await Store.open(settings.database, seal)


def connect_to_store(settings: Settings) -> Store:
    """Connects to the database of a grid as it is, to one without tables too; its folder is made.

    Raises:
        ConfigError: it cannot be opened.
    """
    with _opening_store(settings):
        if settings.database_url is None:
            keep_folder_private(settings.data_dir)
        return Store.connect(settings.database)


@contextlib.asynccontextmanager
async def looking_at(settings: Settings, *, older: bool = False) -> AsyncIterator[tuple[Store, Blobs]]:
    """The tables and the blobs of a grid that is there, to be read: nothing is made, and nothing upgraded.

    Args:
        settings: how the grid runs.
        older: whether its tables may be of an older schema.

    Raises:
        ConfigError: there is no grid, its tables are older or newer, or it cannot be opened.
    """
    check_is_there(settings)
    _check_blobs_are_there(settings)
    with _opening_store(settings):
        store = await Store.look(settings.database, older=older)
    async with contextlib.aclosing(store):
        with _opening_blobs(settings):
            blobs = Blobs.open(settings.blobs)
        async with contextlib.aclosing(blobs):
            yield store, blobs


def check_is_there(settings: Settings) -> None:
    """Sees whether there is a grid in a folder: a command that is to look at one must not make it.

    Raises:
        ConfigError: there is none.
    """
    if settings.database_url is None and not (settings.data_dir / "grid.db").exists():
        raise ConfigError(
            f"there is no grid in '{settings.data_dir.absolute()}': name its folder with --data, or start "
            "it once"
        )


def _check_blobs_are_there(settings: Settings) -> None:
    parts = urlsplit(settings.blobs)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise ConfigError(f"there is no folder of blobs '{unquote(parts.path)}'")


@contextlib.contextmanager
def opening(name: str, settings: Settings, url: str | None, variable: str) -> Iterator[None]:
    """Says what could not be opened, and which setting chooses it; no URL, which may hold a password.

    Args:
        name: of the file or folder in the grid's folder.
        settings: how the grid runs.
        url: what is used in its place, if something is.
        variable: the setting for that.

    Raises:
        ConfigError: it could not be opened.
    """
    try:
        yield
    except (*STORAGE_FAULTS, SQLAlchemyError) as error:
        what, setting = (
            (f"'{settings.data_dir.absolute() / name}'", "FEDPLAN_DATA_DIR (--data)")
            if url is None
            else (f"what {variable} names", variable)
        )
        raise ConfigError(
            f"{what} cannot be opened: {in_a_line(error)}. Mend that, or choose another place with {setting}."
        ) from error


def _opening_store(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return opening("grid.db", settings, settings.database_url, "FEDPLAN_DATABASE_URL")


def _opening_blobs(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return opening("blobs", settings, settings.blob_url, "FEDPLAN_BLOB_URL")

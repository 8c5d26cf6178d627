"""`fedplan backup` and `fedplan restore`: a grid as a folder, and back."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedplan.cli.environment import read_settings
from fedplan.cli.options import Data
from fedplan.cli.terminal import echo
from fedplan.text import in_bytes

if TYPE_CHECKING:
    from fedplan.grid.offline.backup import Copied
    from fedplan.grid.settings import Settings


def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", file_okay=False, help="What is made: a folder that is empty, or not there yet."
        ),
    ],
    data: Data = None,
) -> None:
    """Copy a grid, all of its rows and the blobs that they name, into a folder. The grid may be running.

    It reads the database and the blobs that `--data` or the variables of `fedplan serve` name, of this schema
    or an older one. The backup is of one moment, every checksum is checked, and it can be restored to any
    kind of database and blob store. A blob that is damaged is left out and named; the exit code is 1 then.

    The key of the grid's secrets (`grid.key`, FEDPLAN_SECRET_KEY) is not in it: keep that elsewhere. If it
    is lost, so are workers' ids and the models' secrets.

    Example:

    ```
    fedplan backup /backups/2026-11-27 --data ./fedplan-data
    ```
    """
    copied = asyncio.run(_backup(read_settings({"data_dir": data}), folder))
    _tell(copied, f"are in {folder}")
    if copied.damaged:
        echo(f"Damaged or missing in the grid, and not in the backup: {', '.join(copied.damaged)}", err=True)
        raise typer.Exit(1)


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="The backup.")],
    data: Data = None,
) -> None:
    """Make a grid out of a backup: `fedplan serve` with the same settings then goes on where it was.

    The database and the blob store that `--data` or the variables of `fedplan serve` name must be empty; they
    may be of another kind than those of which the backup was made. A backup of an older version is brought up
    to date. `grid.key` of the grid must be in the new folder before, or its key in FEDPLAN_SECRET_KEY.

    Example:

    ```
    mkdir -m 700 new && cp -p grid.key new && fedplan restore /backups/2026-11-27 --data new
    ```
    """
    from fedplan.grid.offline.restore import restore as run

    copied = asyncio.run(run(folder, read_settings({"data_dir": data})))
    _tell(copied, "are restored")
    if copied.damaged:
        echo(f"The backup was made without these, which were damaged: {', '.join(copied.damaged)}", err=True)


async def _backup(settings: "Settings", folder: Path) -> "Copied":
    from fedplan.grid.offline.backup import backup as run
    from fedplan.grid.opening import looking_at

    async with looking_at(settings, older=True) as (store, blobs):
        return await run(store, blobs, folder)


def _tell(copied: "Copied", where: str) -> None:
    echo(f"{copied.rows} rows and {copied.blobs} blobs ({in_bytes(copied.size)}) {where}.", err=True)

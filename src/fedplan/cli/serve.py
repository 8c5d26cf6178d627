"""`fedplan serve`: running a grid."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedplan.errors import ConfigError

if TYPE_CHECKING:
    from fedplan.grid import Settings


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes any free one.")
    ] = 5000,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            file_okay=False,
            help="Folder of the database and the models. By default FEDPLAN_DATA_DIR, else ./fedplan-data.",
        ),
    ] = None,
) -> None:
    """Run a grid: it hosts models and Plans, runs cycles, and averages what workers report.

    The URL is printed to stdout as soon as the grid answers; the log goes to stderr. Ctrl-C stops it, and
    nothing is lost: the next start with the same folder goes on where it was.

    All other settings are environment variables; docs/grid.md lists them. The most important are:

    - FEDPLAN_OWNER_TOKEN: without this token nobody may host models or see their status
    - FEDPLAN_DATABASE_URL: a PostgreSQL database, instead of a file
    - FEDPLAN_BLOB_URL: a bucket of S3, GCS or Azure for models and diffs, instead of a folder
    - FEDPLAN_RETRY_SECONDS: when a worker that was turned away may ask again; 5 by default
    - FEDPLAN_MAX_MESSAGE_BYTES: the largest message; 256 MiB by default, which hosts models up to 128 MiB
    """
    from fedplan.grid import serve as run

    settings = _settings({} if data is None else {"data_dir": data})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    def on_ready(port: int) -> None:
        typer.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        where = "at FEDPLAN_DATABASE_URL" if settings.database_url else f"in {settings.data_dir.absolute()}"
        typer.echo(f"The grid is ready. Its data is {where}. Ctrl-C stops it.", err=True)
        if settings.owner_token is None and host not in ("127.0.0.1", "::1", "localhost"):
            typer.echo("Anybody who reaches it can host models. Set FEDPLAN_OWNER_TOKEN.", err=True)

    run(settings, host, port, on_ready=on_ready)


def _settings(given: dict[str, Any]) -> "Settings":
    """The settings from the environment, and what the command line says.

    Raises:
        ConfigError: a value cannot be used; the message names the environment variable.
    """
    from pydantic import ValidationError

    from fedplan.grid import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        faults = (f"FEDPLAN_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        raise ConfigError("; ".join(faults)) from None

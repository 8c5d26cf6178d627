"""`fedplan serve`: running a grid."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from fedplan.cli.collection import collect_seldom
from fedplan.cli.environment import read_settings
from fedplan.cli.log import LogFormat, LogLevel, log_to_stderr


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
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            min=1,
            metavar="N",
            help="How many processes serve, all behind the one port: one for each core that is to be used.",
        ),
    ] = 1,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert",
            metavar="CERT.pem",
            help="Speak TLS, with this certificate and those of the authorities between.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="KEY.pem", help="Private key of the certificate."),
    ] = None,
    auth_endpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--auth-endpoints",
            metavar="URL",
            help="Let models have the grid ask addresses that begin so about workers' tokens (`endpoint`, "
            "`jwks_url`); more than one may be given. By default none.",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            "--log-format", help="How the log is written: lines for people, or JSON, one object each."
        ),
    ] = LogFormat.text,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="The least that is logged.")
    ] = LogLevel.info,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Start without FEDPLAN_OWNER_TOKEN at an address that other machines reach: they may all "
            "host models and retrieve them.",
        ),
    ] = False,
) -> None:
    """Run a grid: it hosts models and Plans, runs cycles, and averages what workers report.

    The URL is printed to stdout as soon as the grid answers; the log goes to stderr. Ctrl-C stops it, and
    nothing is lost: the next start with the same folder goes on where it was.

    With `--processes 4` four processes serve, and one that ends is started again. What they share, and what
    more than one gains, is in docs/grid.md.

    All other settings are environment variables; docs/grid.md lists them. The most important are:

    - FEDPLAN_OWNER_TOKEN: without this token nobody may host models or see their status; where it is not
      set, the grid listens only to its own machine
    - FEDPLAN_ALLOWED_HOSTS: by which other names such a grid may be called
    - FEDPLAN_DATABASE_URL: a PostgreSQL database, instead of a file
    - FEDPLAN_BLOB_URL: a bucket of S3, GCS or Azure for models and diffs, instead of a folder
    - FEDPLAN_RETRY_SECONDS: when a worker that was turned away may ask again; 5 by default
    - FEDPLAN_MAX_MESSAGE_BYTES: the largest message; 256 MiB by default, which hosts models up to 128 MiB
    """
    given: dict[str, object] = {"data_dir": data, "tls_cert": tls_cert, "tls_key": tls_key}
    given |= {"auth_endpoints": auth_endpoints or None, "insecure": insecure or None}
    settings = read_settings(given)
    log_to_stderr(log_format, log_level)

    def on_ready(port: int) -> None:
        scheme = "http" if settings.tls_cert is None else "https"
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104  # nobody connects to "all"
        typer.echo(f"{scheme}://{f'[{here}]' if ':' in here else here}:{port}")
        if here != host:
            typer.echo("From elsewhere it is reached by this machine's name or address.", err=True)
        where = "at FEDPLAN_DATABASE_URL" if settings.database_url else f"in {settings.data_dir.absolute()}"
        typer.echo(f"The grid is ready. Its data is {where}. Ctrl-C stops it.", err=True)
        if settings.owner_token is None and settings.insecure:
            typer.echo("Anybody who reaches it can host models. Set FEDPLAN_OWNER_TOKEN.", err=True)

    if processes == 1:
        from fedplan.grid import serve as run

        run(settings, host, port, on_ready=on_ready)
        return
    from fedplan.grid import serve_in_processes

    prepare = functools.partial(_begin_process, log_format, log_level)
    serve_in_processes(processes, settings, host, port, on_ready=on_ready, prepare=prepare)


def _begin_process(form: LogFormat, level: LogLevel) -> None:
    """What one of several processes does first: as the command itself does it where there is one."""
    collect_seldom()
    log_to_stderr(form, level)

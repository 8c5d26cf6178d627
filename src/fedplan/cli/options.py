"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

_READ: dict[str, Any] = {"exists": True, "dir_okay": False, "readable": True}
_WRITTEN: dict[str, Any] = {"dir_okay": False, "writable": True}

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN.pb", help="A serialized Plan.", **_READ)]
StateFile = Annotated[Path, typer.Argument(metavar="STATE.pb", help="A serialized State.", **_READ)]
OutFile = Annotated[
    Path, typer.Option("--out", metavar="STATE.pb", help="File to write; an old one is replaced.", **_WRITTEN)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead, for scripts.")]


def read_option(name: str, metavar: str, help: str) -> Any:
    """An option that names a file which must exist."""
    return typer.Option(name, metavar=metavar, help=help, **_READ)


Url = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="FEDPLAN_URL",
        help="The grid, such as https://grid.example or http://127.0.0.1:5000.",
    ),
]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Name of the hosted model.")]
Version = Annotated[str, typer.Option("--version", metavar="VERSION", help="Version of the hosted model.")]
WaitTimeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="S", min=0, help="With --wait: most seconds to wait; without end by default."
    ),
]
OwnerToken = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="FEDPLAN_OWNER_TOKEN",
        help="The grid's owner token, if it has one, or an API token (`fedplan token`). In the "
        "environment it is safer than on a command line.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        help="Log what happens, and allow connections to other machines that are not encrypted.",
    ),
]
AllowPlainText = Annotated[
    bool,
    typer.Option(
        "--allow-plain-text", help="Allow connections to other machines that are not encrypted; no log."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        file_okay=False,
        help="The grid's folder. By default FEDPLAN_DATA_DIR, else ./fedplan-data. Where "
        "FEDPLAN_DATABASE_URL is set, that database is used.",
    ),
]

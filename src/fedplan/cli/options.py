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


_URL = typer.Option(
    "--url",
    metavar="URL",
    envvar="FEDPLAN_URL",
    help="The grid, such as https://grid.example or http://127.0.0.1:5000.",
)
Url = Annotated[str, _URL]
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

_WHERE = "The grid, where --url or FEDPLAN_URL does not name it; and a hosted model."
GridAndModel = Annotated[
    list[str] | None, typer.Argument(metavar="[URL] NAME VERSION", help=_WHERE, show_default=False)
]
GridAndAnyModel = Annotated[
    list[str] | None, typer.Argument(metavar="[URL] [NAME [VERSION]]", help=_WHERE, show_default=False)
]
UrlOption = Annotated[str | None, _URL]


def read_where(where: list[str] | None, url: str | None, names: tuple[int, ...]) -> tuple[str, list[str]]:
    """The grid, and what is named there.

    Args:
        where: the arguments; the first one may be the grid's URL.
        url: what the option or the environment says; the argument goes before it.
        names: how many names there may be.

    Raises:
        BadParameter: there is no URL, or another number of names.
    """
    rest = list(where or ())
    if rest and "://" in rest[0]:
        url = rest.pop(0)
    if url is None:
        raise typer.BadParameter("which grid? Name it, or set FEDPLAN_URL", param_hint="--url")
    if len(rest) not in names:
        few = len(rest) < min(names)
        why = "a model's name and its version are needed" if few else "these are too many"
        raise typer.BadParameter(why, param_hint="NAME VERSION")
    return url, rest

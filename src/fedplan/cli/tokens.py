"""`fedplan token`: API tokens of people and programs, in the grid's own database."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fedplan.cli.environment import read_settings
from fedplan.cli.options import AsJson, Data
from fedplan.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from fedplan.grid.records import ApiToken
    from fedplan.grid.store import Store

_T = TypeVar("_T")

_UNITS = {"m": 60, "h": 3600, "d": 86_400}

app = typer.Typer(
    no_args_is_help=True,
    help="API tokens for people and programs: to host models, to read checkpoints, to observe.",
)


class Scope(StrEnum):
    """What a token opens, as the command line names it; `grid.records.Scope` says what each is."""

    host = "host"
    read = "read"
    observe = "observe"
    admin = "admin"


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Tells the token from others, such as 'ci' or 'ann'.")
]


@app.command()
def create(
    name: Name,
    scope: Annotated[
        list[Scope],
        typer.Option(
            "--scope",
            help="What it opens; may be given more than once. host: hosting models, and having them "
            "measured. read: retrieving checkpoints. observe: status, history, metrics, the dashboard. "
            "admin: everything.",
        ),
    ],
    expires: Annotated[
        str,
        typer.Option(
            "--expires", metavar="TIME", help="For how long it holds, such as 30d, 12h or 90m; or never."
        ),
    ] = "90d",
    data: Data = None,
) -> None:
    """Make a token and print it. It is told only now: the grid keeps a hash of it.

    It is sent as `Authorization: Bearer …`, which is what `--token`, FEDPLAN_OWNER_TOKEN and
    `ModelCentricFLClient(url, token)` do. The grid may be running, and knows it at once. From the first
    token on, a grid is open to nobody who shows none.

    Example:

    ```
    fedplan token create ci --scope host --scope observe --expires 30d --data ./fedplan-data
    ```
    """
    from fedplan.grid import records
    from fedplan.grid.identity.access import make_token

    seconds = _seconds(expires)
    scopes = [records.Scope(one.value) for one in scope]
    text = _with_store(data, lambda store: make_token(store, name, scopes, seconds))
    typer.echo(text)
    typer.echo("Keep it: it is not shown again.", err=True)


@app.command("list")
def show(data: Data = None, as_json: AsJson = False) -> None:
    """Show the tokens: their names, what they open, and until when. The tokens themselves are not known."""
    from fedplan.grid.store import credentials

    async def read(store: "Store") -> "list[ApiToken]":
        async with store.reading() as db:
            return list(await credentials.list_api_tokens(db))

    found, now = _with_store(data, read), time.time()
    if as_json:
        print_json([_told(token, now) for token in found])
    elif not found:
        typer.echo("There is no token. `fedplan token create` makes one.", err=True)
    else:
        columns = ("name", "scopes", "made", "expires", "state")
        rows = [
            [" ".join(v) if isinstance(v, list) else v or "never" for v in _told(t, now).values()]
            for t in found
        ]
        print_table(columns, rows)


@app.command()
def revoke(name: Name, data: Data = None) -> None:
    """Revoke a token. A grid that is running refuses it from now on."""
    from fedplan.grid.identity.access import revoke_token

    _with_store(data, lambda store: revoke_token(store, name))
    typer.echo(f"'{name}' is revoked.", err=True)


def _with_store(data: Path | None, work: "Callable[[Store], Awaitable[_T]]") -> _T:
    """Does something with the tables of a grid that is there.

    Raises:
        ConfigError: it is not, or its database cannot be opened.
    """
    from fedplan.grid.opening import check_is_there, open_store

    settings = read_settings({"data_dir": data})
    check_is_there(settings)

    async def run() -> _T:
        store = await open_store(settings)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(run())


def _seconds(text: str) -> float | None:
    if text == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if found is None:
        raise typer.BadParameter(
            "a number with m, h or d is needed, such as 30d; or never", param_hint="--expires"
        )
    return int(found[1]) * _UNITS[found[2]]


def _told(token: "ApiToken", now: float) -> dict[str, str | list[str] | None]:
    state = "revoked" if token.revoked_at is not None else "good" if token.is_good(now) else "expired"
    return {
        "name": token.name,
        "scopes": sorted(token.scopes),
        "created_at": _time(token.created_at),
        "expires_at": None if token.expires_at is None else _time(token.expires_at),
        "state": state,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="minutes")

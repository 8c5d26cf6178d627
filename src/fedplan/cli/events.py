"""`fedplan events`: what happened on a grid."""

import contextlib
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from fedplan.cli.options import AllowPlainText, GridAndAnyModel, OwnerToken, UrlOption, Verbose, read_where
from fedplan.cli.owner import owner_client
from fedplan.cli.terminal import echo, local_time

if TYPE_CHECKING:
    from fedplan.wire.messages import EventRow

_USUALLY = 100


def events(
    where: GridAndAnyModel = None,
    url: UrlOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            metavar="N",
            min=1,
            max=1000,
            help="Only the newest N; 100 by default, and all with --json and --csv.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as a JSON object in a line.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Show what happened on a grid, who did it, and why: of all models, or of one.

    With `--json` and `--csv` it prints all events that the grid keeps, for an audit. docs/grid.md lists the
    kinds of events.

    Examples:

    ```
    fedplan events --url http://127.0.0.1:5000 --follow
    fedplan events http://127.0.0.1:5000 mnist 1.0.0 --csv > mnist.csv
    ```
    """
    from fedplan.client.owner.events import COLUMNS, cells, csv_line

    if as_json and as_csv:
        raise typer.BadParameter("print one form, not two", param_hint="--csv")
    grid_url, named = read_where(where, url, (0, 1, 2))
    name, version = (*named, None, None)[:2]
    with owner_client(grid_url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        rows: Iterable[EventRow]
        if last is None and (as_json or as_csv):
            rows = grid.each_event(name, version, follow=follow)
        else:
            newest = grid.events(name, version, last=last or _USUALLY)
            rows = newest
            if follow:
                rows = itertools.chain(newest, grid.each_event(name, version, after=newest.next, follow=True))
        if as_csv:
            echo(csv_line(COLUMNS), nl=False)
        with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
            for row in rows:
                if as_json:
                    echo(row.model_dump_json(exclude_none=True))
                else:
                    echo(csv_line(cells(row)) if as_csv else line_of(row), nl=not as_csv)


def line_of(row: "EventRow") -> str:
    """An event for people: when, what, where, who, why."""
    about = " ".join(str(part) for part in (row.model, row.version) if part is not None)
    cycle = "" if row.cycle is None else f" cycle {row.cycle}"
    who = row.actor if row.actor_id is None else f"{row.actor} {row.actor_id}"
    times = row.details.get("times", 1)
    many = "" if times == 1 else f" ({times} times)"
    return f"{local_time(row.at)}  {row.kind:13}  {about}{cycle}  {who}: {row.cause}{many}"

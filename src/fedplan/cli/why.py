"""`fedplan why`: what a model waits for, and what became of a worker."""

from typing import Annotated

import typer

from fedplan.cli.options import (
    AllowPlainText,
    AsJson,
    GridAndModel,
    OwnerToken,
    UrlOption,
    Verbose,
    read_where,
)
from fedplan.cli.owner import owner_client
from fedplan.cli.terminal import echo, print_json


def why(
    where: GridAndModel = None,
    url: UrlOption = None,
    worker: Annotated[
        str | None,
        typer.Option(
            "--worker", metavar="ID", help="Say what became of this worker: its id, or its name in events."
        ),
    ] = None,
    as_json: AsJson = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Say what a model waits for: reports, workers, or its time. With `--worker` also what became of one.

    Examples:

    ```
    fedplan why --url http://127.0.0.1:5000 mnist 1.0.0
    fedplan why http://127.0.0.1:5000 mnist 1.0.0 --worker 18ab03c97d5e6f21
    ```
    """

    grid_url, (name, version) = read_where(where, url, (2,))
    with owner_client(grid_url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        found = grid.why(name, version, worker=worker)
    if as_json:
        print_json(found.told.model_dump(mode="json", exclude_none=True))
    else:
        for sentence in found.sentences:
            echo(sentence)

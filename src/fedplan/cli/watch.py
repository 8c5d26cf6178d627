"""`fedplan watch`: what goes on at a grid, as it happens."""

import asyncio
import contextlib

from fedplan.cli.options import AllowPlainText, GridAndAnyModel, OwnerToken, UrlOption, Verbose, read_where
from fedplan.cli.owner import owner_client


def watch(
    where: GridAndAnyModel = None,
    url: UrlOption = None,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Watch a grid: its models, what their cycles wait for, and what happens. Ctrl-C ends it.

    In a terminal it is a page that keeps itself up to date. Where the output goes into a file or a pipe, it
    is a line for each event, and one for each change of a model.

    It needs to see the status and the events of the grid, as `fedplan status` and `fedplan events` do.

    Examples:

    ```
    fedplan watch http://127.0.0.1:5000
    fedplan watch http://127.0.0.1:5000 mnist 1.0.0
    ```
    """
    from rich.console import Console

    from fedplan.cli.watching import Lines, Screen, Watching

    grid_url, named = read_where(where, url, (0, 1, 2))
    name, version = (*named, None, None)[:2]
    grid = owner_client(grid_url, token, verbose=verbose, allow_plain_text=allow_plain_text)
    console = Console()
    view = Screen(grid_url, console) if console.is_terminal else Lines()
    with contextlib.suppress(KeyboardInterrupt), view:
        asyncio.run(Watching(grid, name, version, view).run())

"""`fedplan evaluate`: having workers measure a model that is trained no more."""

from typing import Annotated

import typer

from fedplan.cli.options import AllowPlainText, AsJson, Model, OwnerToken, Url, Verbose, Version, WaitTimeout
from fedplan.cli.owner import owner_client
from fedplan.cli.terminal import echo, print_json


def evaluate(
    url: Url,
    model: Model,
    version: Version,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the evaluation ends, and print what was measured.")
    ] = False,
    timeout: WaitTimeout = None,
    as_json: AsJson = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Have workers measure the newest checkpoint of a model whose training is finished, on their own data.

    The model needs an evaluation Plan. After its last cycle the grid has the last checkpoint measured by
    itself, so this is for later: other workers, or new data. Workers that ask for a cycle, such as
    `fedplan worker`, do it. The evaluation ends with as many reports as close a cycle, or after its `length`;
    `fedplan history` shows it as one cycle more.

    Example:

    ```
    fedplan evaluate --url http://127.0.0.1:5000 --model mnist --version 1.0.0 --wait
    ```
    """
    if timeout is not None and not wait:
        raise typer.BadParameter("this says how long to wait: add --wait", param_hint="--timeout")
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        cycle = grid.evaluate(model, version)
        measured = None
        if wait:
            grid.wait(model, version, evaluated=True, timeout=timeout)
            measured = next(row for row in grid.history(model, version) if row.cycle == cycle)
    if as_json:
        told = {} if measured is None else measured.model_dump(mode="json", exclude_none=True)
        print_json({"cycle": cycle, **told})
    elif measured is None:
        typer.echo(f"Cycle {cycle} takes workers that measure the model. `fedplan history` shows the result.")
    else:
        found = "".join(f", {name} {metric.value:.4g}" for name, metric in measured.metrics.items())
        echo(f"checkpoint {measured.checkpoint}: {measured.reports} reports{found}")

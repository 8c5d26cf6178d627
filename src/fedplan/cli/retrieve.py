"""`fedplan retrieve`: fetching a model from a grid."""

from typing import Annotated

import typer

from fedplan.cli.files import write_whole
from fedplan.cli.options import AllowPlainText, Model, OutFile, OwnerToken, Url, Verbose, Version
from fedplan.cli.owner import owner_client


def retrieve(
    url: Url,
    model: Model,
    version: Version,
    out: OutFile,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            metavar="N",
            help="Its number, 1 being the model as hosted; or `latest`; or `best`, if the model's owner says "
            "what that is.",
        ),
    ] = "latest",
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Fetch a checkpoint of a hosted model into a file, a serialized State.

    Example:

    ```
    fedplan retrieve --url http://127.0.0.1:5000 \\
        --model mnist --version 1.0.0 --out mnist.pb
    ```

    A checkpoint is made when its cycle closes, some time after the last report: `fedplan status --wait` waits
    for it. In Python `fedplan.SyftModel.parse(data).load_into(module)` copies it into an `nn.Module`.
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        fetched = grid.retrieve_model(model, version, checkpoint)
    write_whole(out, fetched.serialize())
    typer.echo(
        f"{out}: checkpoint {checkpoint} of {model} {version}, {len(fetched.params)} tensors", err=True
    )

"""`fedplan retrieve`: fetching a model from a grid."""

from pathlib import Path
from typing import Annotated

import typer

from fedplan.cli.files import write_whole
from fedplan.cli.options import AllowPlainText, Model, OwnerToken, Url, Verbose, Version
from fedplan.cli.owner import owner_client
from fedplan.cli.tensor_files import form_of, written


def retrieve(
    url: Url,
    model: Model,
    version: Version,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", dir_okay=False, help="File to write; an old one is replaced."),
    ],
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            metavar="N",
            help="Its number, 1 being the model as hosted; or `latest`; or `best`, if the model's owner says "
            "what that is.",
        ),
    ] = "latest",
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="state|safetensors|pt|npz",
            help="A serialized State, or the tensors by their names: a safetensors file, one that torch.load "
            "reads, or one that numpy.load reads. By default what the file's name ends in, else a State.",
        ),
    ] = None,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Fetch a checkpoint of a hosted model into a file: a serialized State, or safetensors, pt or npz.

    Examples:

    ```
    fedplan retrieve --url http://127.0.0.1:5000 \\
        --model mnist --version 1.0.0 --out mnist.pb
    fedplan retrieve --url http://127.0.0.1:5000 \\
        --model mnist --version 1.0.0 --out mnist.safetensors
    ```

    A checkpoint is made when its cycle closes, some time after the last report: `fedplan status --wait` waits
    for it. In Python `fedplan.SyftModel.parse(data).load_into(module)` copies it into an `nn.Module`.

    The other forms have the names that the model's Plans give their tensors, which are those of the
    `nn.Module` that was traced: `module.load_state_dict(torch.load("mnist.pt"), strict=False)`. Not strict,
    because a tensor that has two names in the module is there once, and unused counters are not.
    """
    form = form_of(out, format)
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        if form == "state":
            fetched = grid.retrieve_model(model, version, checkpoint)
            data, count = fetched.serialize(), len(fetched.params)
        else:
            named = grid.retrieve_state_dict(model, version, checkpoint)
            data, count = written(named, form), len(named)
    write_whole(out, data)
    typer.echo(f"{out}: checkpoint {checkpoint} of {model} {version}, {count} tensors", err=True)

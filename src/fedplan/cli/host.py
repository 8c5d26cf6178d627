"""`fedplan host`: giving a model and its Plans to a grid."""

from pathlib import Path
from typing import Annotated

import typer

from fedplan.cli.files import read_object, read_plan, read_state
from fedplan.cli.options import OwnerToken, Url, Verbose, read_option


def host(
    url: Url,
    model: Annotated[Path, read_option("--model", "STATE.pb", "The model's parameters, a serialized State.")],
    plan: Annotated[
        list[str],
        typer.Option(
            "--plan",
            metavar="NAME=PLAN.pb",
            help="What workers run; its usual name is training_plan. May be given several times.",
        ),
    ],
    client_config: Annotated[
        Path,
        read_option(
            "--client-config",
            "C.json",
            'What workers are told: {"name": …, "version": …, "batch_size": 64, "lr": 0.1, …}. '
            "Name and version become the model's.",
        ),
    ],
    server_config: Annotated[
        Path,
        read_option(
            "--server-config", "S.json", 'How the grid runs cycles: {"min_diffs": 8, "num_cycles": 20, …}.'
        ),
    ],
    averaging_plan: Annotated[
        Path | None,
        read_option(
            "--averaging-plan", "PLAN.pb", "How the grid averages diffs; by default it takes the mean."
        ),
    ] = None,
    token: OwnerToken = None,
    verbose: Verbose = False,
) -> None:
    """Host a model on a grid, with the Plans that train it. Its first cycle begins at once.

    The grid checks everything before it takes the name: that the Plans fit the model, and each key of the
    configs.

    Example:

        fedplan host --url http://127.0.0.1:5000 --model model.pb --plan training_plan=plan.pb \\
            --client-config client.json --server-config server.json
    """
    from fedplan.client import ModelCentricFLClient

    state = read_state(model)
    plans = {name: read_plan(path) for name, path in map(_named_file, plan)}
    config = read_object(client_config)
    cycles = read_object(server_config)
    averaging = None if averaging_plan is None else read_plan(averaging_plan)
    with ModelCentricFLClient(url, token, verbose=verbose) as grid:
        grid.host_federated_training(state, plans, config, cycles, averaging)
    typer.echo(f"{config['name']} {config['version']} is hosted, and its first cycle is open.", err=True)


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise typer.BadParameter(f"'{text}' is not of the form NAME=PLAN.pb", param_hint="--plan")
    if not Path(file).is_file():
        raise typer.BadParameter(f"there is no file '{file}'", param_hint="--plan")
    return name, Path(file)

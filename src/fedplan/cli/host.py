"""`fedplan host`: giving a model and its Plans to a grid."""

from pathlib import Path
from typing import Annotated

import typer

from fedplan.cli.files import read_object, read_plan, read_state
from fedplan.cli.options import AllowPlainText, OwnerToken, Url, Verbose, read_option
from fedplan.cli.owner import owner_client
from fedplan.cli.tensor_files import form_of, read_named
from fedplan.cli.terminal import echo


def host(
    url: Url,
    model: Annotated[
        Path,
        read_option(
            "--model",
            "FILE",
            "The model's parameters: a serialized State, or a state_dict as .safetensors, .pt, .pth or .npz, "
            "whose names the Plans know.",
        ),
    ],
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
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="tfjs|torchscript|none",
            help="A variant that the Plans must have: tfjs for browsers, torchscript for phones, none for "
            "Python workers alone. May be given twice. By default they get what they can have.",
        ),
    ] = None,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Host a model on a grid, with the Plans that train it. Its first cycle begins at once.

    Browsers and phones run translations of a Plan, which are made here, and compared with it before anything
    is sent; `fedplan plan check` shows how near they come.

    Example:

    ```
    fedplan host --url http://127.0.0.1:5000 --model model.pb \\
        --plan training_plan=plan.pb \\
        --client-config client.json --server-config server.json
    ```

    The two files come from Python, where `model` is an `nn.Module`:

    ```
    import fedplan, pathlib
    plan = fedplan.training_plan(model, loss, example=(x, y))
    state = fedplan.SyftModel(fedplan.model_parameters(model))
    pathlib.Path("plan.pb").write_bytes(plan.serialize())
    pathlib.Path("model.pb").write_bytes(state.serialize())
    ```

    In place of `model.pb` a `state_dict` of the module will do, as `torch.save` or safetensors write it.

    The client config goes to the workers as it is. `name` and `version` are needed; `batch_size`,
    `max_epochs` and `max_updates` (most batches of an epoch) are what a worker does in a cycle; `lr` and any
    other key are there for Plans that take them, and must be there then.

    The server config may hold `num_cycles`; `min_workers`, `max_workers`; `min_diffs`, `max_diffs` (reports);
    `over_selection`, such as 1.5; `cycle_length`, `place_timeout` (seconds); `pool_selection` (random or
    iterate); `do_not_reuse_workers_until_cycle`, `most_cycles_per_day`; `minimum_download_speed`,
    `minimum_upload_speed` (Mbit/s); `strategy`, such as fedadam; `weighting` (samples or uniform),
    `untold_weight`, `max_weight`; `max_norm`, of a report; `metrics`; `best` and `stop`, each with a metric
    and a mode; `evaluation`, such as `{"fraction": 0.1}`; `iterative_plan`; `keep_checkpoints` ("all", a
    number of the newest, or an object with `last`, `every`, `best`), and `keep_diffs`; `public`, for
    everybody to have the checkpoints; `report_formats`, a list of `float16`, `int8`, `topk`;
    `secure_aggregation`, such as `{"workers": 20, "clip": 0.1}`, so that the grid sees only sums; `privacy`,
    an object with `clip`, `noise_multiplier`, `cohort`, `delta`, `max_epsilon`, for which `fedplan privacy
    plan` finds numbers; and `authentication`, an object with `secret`, `pub_key`, `jwks_url` or `endpoint`,
    and what tokens must say (`aud`, `iss`, `leeway`, `require_exp`), or with `certificate`, for workers that
    show a client certificate to a proxy before the grid. Each key is enforced, and an unknown one is an
    error.
    """
    known = ("torchscript", "tfjs", "none")
    if unknown := set(variant or ()) - set(known):
        raise typer.BadParameter(f"'{unknown.pop()}' is none of {', '.join(known)}", param_hint="--variant")
    variants = None if variant is None else [name for name in variant if name != "none"]
    form = form_of(model, None)
    state = read_state(model) if form == "state" else read_named(model, form)
    plans = {name: read_plan(path) for name, path in map(_named_file, plan)}
    config = read_object(client_config)
    cycles = read_object(server_config)
    averaging = None if averaging_plan is None else read_plan(averaging_plan)
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        grid.host_federated_training(state, plans, config, cycles, averaging, variants=variants)
    echo(f"{config['name']} {config['version']} is hosted, and its first cycle is open.", err=True)


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise typer.BadParameter(f"'{text}' is not of the form NAME=PLAN.pb", param_hint="--plan")
    if not Path(file).is_file():
        raise typer.BadParameter(f"there is no file '{file}'", param_hint="--plan")
    return name, Path(file)

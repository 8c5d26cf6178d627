"""`fedplan status`: how the hosted models are doing."""

from typing import TYPE_CHECKING, Annotated

import typer

from fedplan.cli.options import AllowPlainText, AsJson, OwnerToken, Url, Verbose, WaitTimeout
from fedplan.cli.owner import owner_client
from fedplan.cli.terminal import local_time, print_json, print_table
from fedplan.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedplan.wire.messages import CycleStatus, ModelStatus, PrivacyStatus


def status(
    url: Url,
    model: Annotated[
        str | None, typer.Option("--model", "--name", metavar="NAME", help="Only the versions of this model.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Only this version of the model.")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait first: for the checkpoint after the newest one, or what --checkpoint or --finished "
            "says. Needs --model and --version.",
        ),
    ] = False,
    checkpoint: Annotated[
        int | None,
        typer.Option(
            "--checkpoint",
            metavar="N",
            min=1,
            help="With --wait: until this checkpoint is there, 1 being the model as hosted.",
        ),
    ] = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="With --wait: until the model's last cycle is closed.")
    ] = False,
    evaluated: Annotated[
        bool, typer.Option("--evaluated", help="With --wait: until the last checkpoint is measured too.")
    ] = False,
    timeout: WaitTimeout = None,
    as_json: AsJson = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Show the models that a grid hosts: their cycles, reports and checkpoints. `--wait` waits for one.

    When a wait ends without what was waited for, the exit code is 1, and the message says what the cycle
    still waits for, or why it failed.

    Examples:

    ```
    fedplan status --url http://127.0.0.1:5000
    fedplan status --url http://127.0.0.1:5000 \\
        --model mnist --version 1.0.0 --wait --checkpoint 2 --timeout 60
    ```
    """
    goals = {"--checkpoint": checkpoint, "--finished": finished, "--evaluated": evaluated}
    _check_usage(model, version, wait, goals, timeout)
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        models: Sequence[ModelStatus]
        if wait:
            models = [
                grid.wait(
                    str(model),
                    str(version),
                    checkpoint=checkpoint,
                    finished=finished,
                    evaluated=evaluated,
                    timeout=timeout,
                )
            ]
        else:
            models = _only(version, grid.status(model).models)
    if as_json:
        print_json({"models": [one.model_dump(mode="json", exclude_none=True) for one in models]})
    elif not models:
        typer.echo("The grid hosts no model yet. `fedplan host` hosts one.", err=True)
    else:
        columns = ("model", "version", "phase", "cycle", "workers", "reports", "checkpoint", "closes")
        print_table(columns, [_row(one) for one in models], numbers=("workers", "checkpoint"))
        _print_plans(models)
        _print_notes(models)


def _check_usage(
    model: str | None,
    version: str | None,
    wait: bool,
    goals: "Mapping[str, int | None]",
    timeout: float | None,
) -> None:
    """Raises BadParameter for options that mean nothing together."""
    if version is not None and model is None:
        raise typer.BadParameter("of which model? Name it with --model", param_hint="--version")
    if wait and version is None:
        raise typer.BadParameter("name the model with --model and --version", param_hint="--wait")
    wanted = [name for name, value in goals.items() if value]
    given = wanted if timeout is None else [*wanted, "--timeout"]
    if given and not wait:
        raise typer.BadParameter("this says how long to wait: add --wait", param_hint=given[0])
    if len(wanted) > 1:
        raise typer.BadParameter("wait for one thing, not for several", param_hint=wanted[1])


def _only(version: str | None, models: "Sequence[ModelStatus]") -> "Sequence[ModelStatus]":
    """The models of this version, if there is one."""
    if version is None:
        return models
    found = [model for model in models if model.version == version]
    if not found:
        raise ConfigError(f"the grid hosts no version '{version}' of this model")
    return found


def _print_plans(models: "Sequence[ModelStatus]") -> None:
    """The Plans: as what each was hosted, and how far its results are then from the original's."""
    from fedplan.wire.messages import PLAN_VARIANTS

    rows = []
    for model in models:
        for plan in model.plans:
            errors = {hosted.variant: hosted.error for hosted in plan.variants}
            cells = [_hosted(errors, variant) for variant in PLAN_VARIANTS]
            rows.append([model.name, model.version, plan.name, *cells])
    if rows:
        print_table(("model", "version", "plan", *PLAN_VARIANTS), rows)


def _print_notes(models: "Sequence[ModelStatus]") -> None:
    """Who cannot take part in which models, and what went wrong in them: each note once."""
    from fedplan.client.transport.answers import shown

    notes: dict[str, list[str]] = {}
    for model in models:
        said = [f"no {withheld}" for withheld in model.withheld]
        if model.privacy is not None:
            said.append(_spent(model.privacy))
        if model.fault is not None:
            said.append(f"it stands still: {model.fault}")
        if model.last_failure is not None:
            said.append(f"a cycle failed: {model.last_failure}")
        for note in said:
            notes.setdefault(note, []).append(f"{model.name} {model.version}")
    for note, named in notes.items():
        typer.echo(f"{', '.join(map(shown, named))}: {shown(note)}")


def _spent(privacy: "PrivacyStatus") -> str:
    """How much of a model's privacy is spent."""
    most = "" if privacy.max_epsilon is None else f" of {privacy.max_epsilon:g}"
    said = f"an ε of {privacy.epsilon:.4g}{most} is spent, at a δ of {privacy.delta:g}"
    return said if privacy.ended is None else f"{said}; no further cycle opens: {privacy.ended}"


def _hosted(errors: "Mapping[str, float | None]", variant: str) -> str:
    if variant not in errors:
        return "–"
    error = errors[variant]
    return "yes" if error is None else f"±{error:.3g}"


def _row(model: "ModelStatus") -> list[str]:
    cycle = model.cycle
    number = str(cycle.number)
    if cycle.task == "evaluation":
        number += ", evaluation"
    elif model.num_cycles is not None:
        number += f" of {model.num_cycles}"
    return [
        model.name,
        model.version,
        phase_of(model),
        number if cycle.phase == "open" else f"{number}, {cycle.phase}",
        str(cycle.accepted),
        f"{cycle.reported}, needs {cycle.needed}" + (f", {cycle.damaged} damaged" if cycle.damaged else ""),
        str(model.checkpoints[0].number),
        closing_of(cycle),
    ]


def phase_of(model: "ModelStatus") -> str:
    """A model's phase in a word."""
    return "paused" if model.paused else model.phase


def closing_of(cycle: "CycleStatus") -> str:
    """What ends a cycle, or when it ended."""
    from fedplan.client.owner.waiting import closing

    if cycle.closed_at is not None:
        return f"closed {local_time(cycle.closed_at)}"
    return closing(cycle)

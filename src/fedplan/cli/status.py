"""`fedplan status`: how the hosted models are doing."""

from typing import TYPE_CHECKING, Annotated

import typer

from fedplan.cli.options import AsJson, OwnerToken, Url, Verbose
from fedplan.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fedplan.wire.messages import CycleStatus, ModelStatus


def status(
    url: Url,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Only the versions of this model.")
    ] = None,
    as_json: AsJson = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
) -> None:
    """Show the models that a grid hosts: their cycles, reports and checkpoints.

    Example:

    ```
    fedplan status --url http://127.0.0.1:5000
    ```
    """
    from fedplan.client import ModelCentricFLClient

    with ModelCentricFLClient(url, token, verbose=verbose) as grid:
        reply = grid.status(name)
    if as_json:
        print_json(reply.model_dump(mode="json", exclude_none=True))
    elif not reply.models:
        typer.echo("The grid hosts no model yet. `fedplan host` hosts one.", err=True)
    else:
        columns = ("model", "version", "phase", "cycle", "workers", "reports", "checkpoint", "closes")
        print_table(columns, [_row(model) for model in reply.models], numbers=("workers", "checkpoint"))
        _print_plans(reply.models)
        _print_notes(reply.models)


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
    from fedplan.client.answers import shown

    notes: dict[str, list[str]] = {}
    for model in models:
        said = [f"no {withheld}" for withheld in model.withheld]
        if model.last_failure is not None:
            said.append(f"a cycle failed: {model.last_failure}")
        for note in said:
            notes.setdefault(note, []).append(f"{model.name} {model.version}")
    for note, named in notes.items():
        typer.echo(f"{', '.join(map(shown, named))}: {shown(note)}")


def _hosted(errors: "Mapping[str, float | None]", variant: str) -> str:
    if variant not in errors:
        return "–"
    error = errors[variant]
    return "yes" if error is None else f"±{error:.3g}"


def _row(model: "ModelStatus") -> list[str]:
    cycle = model.cycle
    number = str(cycle.number) if model.num_cycles is None else f"{cycle.number} of {model.num_cycles}"
    return [
        model.name,
        model.version,
        model.phase,
        number if cycle.phase == "open" else f"{number}, {cycle.phase}",
        str(cycle.accepted),
        f"{cycle.reported}, needs {cycle.needed}",
        str(model.checkpoints[0].number),
        _closing(cycle),
    ]


def _closing(cycle: "CycleStatus") -> str:
    """What ends the cycle."""
    if cycle.closed_at is not None:
        return f"closed {cycle.closed_at.astimezone():%Y-%m-%d %H:%M:%S}"
    limit = [] if cycle.limit is None else [f"with report {cycle.limit}"]
    time = [] if cycle.closes_at is None else [f"at {cycle.closes_at.astimezone():%Y-%m-%d %H:%M:%S}"]
    return " or ".join([*limit, *time]) or "when its workers have reported"

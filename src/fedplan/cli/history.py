"""`fedplan history`: what came of a model's cycles."""

from typing import TYPE_CHECKING, Annotated

import typer

from fedplan.cli.options import AllowPlainText, AsJson, Model, OwnerToken, Url, Verbose, Version
from fedplan.cli.owner import owner_client
from fedplan.cli.terminal import echo, local_time, print_json, print_table

if TYPE_CHECKING:
    from fedplan.client.owner.history import History
    from fedplan.wire.messages import HistoryRow

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 60
"""Cycles that a line of bars shows; of more, it shows the last ones."""


def history(
    url: Url,
    model: Model,
    version: Version,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Show what came of a model's cycles: workers, reports, samples, and metrics as tables and small plots.

    What an evaluation Plan measured of the checkpoint that a cycle started from has its own name; what
    workers measured while they trained begins with `training_`.

    Example:

    ```
    fedplan history --url http://127.0.0.1:5000 --model mnist --version 1.0.0
    ```
    """
    if as_json and as_csv:
        raise typer.BadParameter("print one form, not two", param_hint="--csv")
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        found = grid.history(model, version)
    if as_json:
        print_json([row.model_dump(mode="json", exclude_none=True) for row in found])
    elif as_csv:
        echo(found.to_csv(), nl=False)
    elif not found:
        typer.echo("No cycle of this model has ended yet. `fedplan status` shows how far it is.", err=True)
    else:
        _print_cycles(found)
        for name in found.metrics:
            echo(_plot(name, found.values(name)))


def _print_cycles(found: "History") -> None:
    private = any(row.privacy is not None for row in found)
    spent = ("ε",) if private else ()
    columns = ("cycle", "from checkpoint", "workers", "reports", "samples", *spent, *found.metrics, "closed")
    rows = [
        [
            _number(row),
            str(row.checkpoint),
            str(row.workers),
            str(row.reports),
            f"{row.samples:g}",
            *([f"{row.privacy.epsilon:.4g}" if row.privacy else "–"] if private else []),
            *(f"{row.metrics[name].value:.4g}" if name in row.metrics else "–" for name in found.metrics),
            local_time(row.closed_at),
        ]
        for row in found
    ]
    print_table(columns, rows, numbers=columns[1:-1])
    if private:
        last = next(row.privacy for row in reversed(list(found)) if row.privacy is not None)
        echo(
            f"ε is of all cycles up to that one, at a δ of {last.delta:g}, for one worker whose reports may "
            f"be zeros. Noise {last.sigma:g} ({last.noise_multiplier:g} × clip {last.clip:g}, "
            f"{last.clipping}), over a cohort of {last.cohort}."
        )


def _number(row: "HistoryRow") -> str:
    if row.failure is not None:
        return f"{row.cycle}, failed"
    return str(row.cycle) if row.task == "training" else f"{row.cycle}, evaluation"


def _plot(name: str, values: "dict[int, float]") -> str:
    """A metric over the cycles, as a line of bars between its least and its greatest value."""
    shown = list(values.values())[-_WIDEST:]
    least, most = min(shown), max(shown)
    span = most - least or 1.0
    bars = "".join(_BARS[round((value - least) / span * (len(_BARS) - 1))] for value in shown)
    return f"{name}  {bars}  {shown[0]:.4g} → {shown[-1]:.4g} (from {least:.4g} to {most:.4g})"

"""`fedplan privacy`: how much noise a budget of differential privacy needs."""

from typing import Annotated, Any

import typer

from fedplan.cli.options import AsJson
from fedplan.cli.terminal import echo, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Choose the noise of differential privacy.")


@app.command()
def plan(
    epsilon: Annotated[float, typer.Option("--epsilon", help="The most ε that all cycles may spend.")],
    delta: Annotated[
        float, typer.Option("--delta", help="Its δ: well below one over the number of workers.")
    ],
    cohort: Annotated[int, typer.Option("--cohort", min=1, help="Reports that a cycle is expected to have.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How many cycles.")],
    population: Annotated[
        int | None,
        typer.Option(
            "--population",
            min=1,
            help="Workers there are in all: also print what sampling would give, if it could be assumed.",
        ),
    ] = None,
    clip: Annotated[float, typer.Option("--clip", help="The largest norm of a report.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Find the noise for a budget: the noise multiplier, what it costs, and what other numbers would give.

    The ε is the one that a grid's ledger will show: for one worker whose reports may be zeros, in all cycles
    together, with nothing taken off for sampling, since workers come by themselves.

    With `--population` it also prints the ε that would hold if each worker took part in each cycle by a lot
    of its own that nobody sees. No grid can promise that. It needs the extra `privacy` (dp-accounting).

    Example:

    ```
    fedplan privacy plan --epsilon 8 --delta 1e-6 --cohort 100 --rounds 200
    ```
    """
    from fedplan.federation.privacy import epsilon_after, multiplier_for
    from fedplan.federation.privacy.sampled import sampled_epsilon

    if population is not None and population < cohort:
        raise typer.BadParameter("there are fewer workers than in a cohort", param_hint="--population")
    multiplier = _rounded_up(multiplier_for(epsilon, delta, rounds))
    found: dict[str, Any] = {
        "noise_multiplier": multiplier,
        "sigma": multiplier * clip,
        "sigma_of_average": multiplier * clip / cohort,
        "epsilon": epsilon_after(rounds, multiplier, delta),
        "delta": delta,
        "alternatives": [
            {
                "rounds": other,
                "cohort": many,
                "noise_multiplier": (needed := _rounded_up(multiplier_for(epsilon, delta, other))),
                "sigma_of_average": needed * clip / many,
            }
            for other, many in _alternatives(rounds, cohort, population)
        ],
        "server_config": {
            "privacy": {
                "clip": clip,
                "noise_multiplier": multiplier,
                "cohort": cohort,
                "delta": delta,
                "max_epsilon": epsilon,
            },
            "max_diffs": cohort,
            "num_cycles": rounds,
        },
    }
    if population is not None:
        found["if_sampled"] = sampled_epsilon(multiplier, cohort / population, rounds, delta)
    if as_json:
        print_json(found)
    else:
        _print(found, clip, rounds, population)


def _print(found: dict[str, Any], clip: float, rounds: int, population: int | None) -> None:
    import json

    echo(
        f"noise multiplier {found['noise_multiplier']:g}: noise of {found['sigma']:.4g} on each number of "
        f"the sum, {found['sigma_of_average']:.4g} on the average, where a report's norm is at most "
        f"{clip:g}\nε as deployed {found['epsilon']:.4g} at a δ of {found['delta']:g} after {rounds} cycles: "
        "one worker, whose reports may be zeros; nothing is taken off for sampling\n\nfor the same ε:"
    )
    rows = [
        [
            str(one["rounds"]),
            str(one["cohort"]),
            f"{one['noise_multiplier']:g}",
            f"{one['sigma_of_average']:.4g}",
        ]
        for one in found["alternatives"]
    ]
    columns = ("cycles", "cohort", "noise multiplier", "noise on the average")
    print_table(columns, rows, numbers=columns)
    if population is not None:
        echo(
            f"If each of {population} workers took part in each cycle by a lot of its own that nobody sees, "
            f"ε would be {found['if_sampled']:.4g}. Workers that come by themselves are not such a sample: "
            "do not state this number of a deployment.\n"
        )
    echo(f"server_config: {json.dumps(found['server_config'])}")


def _alternatives(rounds: int, cohort: int, population: int | None) -> list[tuple[int, int]]:
    """Fewer cycles, and larger cohorts where there are so many workers."""
    fewer = [(max(rounds // by, 1), cohort) for by in (2, 4) if rounds // by]
    more = [(rounds, by * cohort) for by in (2, 10) if population is None or by * cohort <= population]
    return [*fewer, *more]


def _rounded_up(multiplier: float) -> float:
    """Four digits that are not less: what is printed keeps within the budget."""
    import math

    scale = 10.0 ** (3 - math.floor(math.log10(multiplier)))
    return math.ceil(multiplier * scale) / scale

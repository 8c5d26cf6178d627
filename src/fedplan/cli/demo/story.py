"""The demo from the data to the picture."""

import dataclasses
from pathlib import Path

import typer

from fedplan.cli.demo import chart, digits, network
from fedplan.cli.demo.display import Display, print_accuracies
from fedplan.cli.demo.federation import Federation
from fedplan.cli.demo.processes import Process, Processes
from fedplan.cli.files import write_whole


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What the demo was asked for; see the command's options."""

    workers: int
    cycles: int
    iid: bool
    seed: int
    out: Path


def tell(grid: Process, processes: Processes, wishes: Wishes) -> None:
    """Trains with the workers and centrally, and shows both.

    Args:
        grid: the process of a grid that may still be starting.
        processes: what starts the workers.
        wishes: how.

    Raises:
        FedplanError: a process failed.
    """
    parts = digits.deal(digits.load(), wishes.workers, iid=wishes.iid, seed=wishes.seed)
    training = digits.together([part.training for part in parts], seed=wishes.seed)
    evaluation = digits.together([part.evaluation for part in parts], seed=wishes.seed)
    model = network.initial_model(wishes.seed)
    plans = network.make_plans(model, training)

    federation = Federation(grid, processes)
    with Display(wishes.workers, wishes.cycles) as display:
        display.say(
            f"{len(training)} digits over {wishes.workers} workers, which keep {len(evaluation)} others to "
            "measure the model with"
        )
        for moment in federation.run(model, plans, parts, cycles=wishes.cycles, seed=wishes.seed):
            display.show(moment)
    plan = plans[network.TRAINING_PLAN]
    central = network.train_centrally(plan, model, training, wishes.cycles, evaluation)

    federated = display.accuracies
    write_whole(wishes.out, chart.draw(federated, central, [part.training for part in parts]))
    print_accuracies(federated, central)
    typer.echo(
        f"Of the digits that the workers kept, {federated[-1]:.1%} are read rightly; by the model that was "
        f"trained in one place {central[-1]:.1%}.\nThe picture is {wishes.out}"
    )

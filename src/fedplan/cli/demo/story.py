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
        FedplanError: a process failed, or nothing happens any more.
    """
    train, for_test = digits.load()
    parts = digits.deal(train, wishes.workers, iid=wishes.iid, seed=wishes.seed)
    model = network.initial_model(wishes.seed)
    plan = network.training_plan(model, train)
    test = network.Test(model, for_test)

    federated: list[float] = []
    federation = Federation(grid, processes)
    with Display(wishes.workers, wishes.cycles) as display:
        display.say(f"{len(train)} digits over {wishes.workers} workers, {len(for_test)} others for the test")
        for moment in federation.run(model, plan, parts, cycles=wishes.cycles, seed=wishes.seed):
            for checkpoint in moment.checkpoints:
                federated.append(test.accuracy(checkpoint))
                display.accuracy(federated[-1])
            display.cycle(moment.cycle, moment.reports)
    central = network.train_centrally(plan, model, train, wishes.cycles, test)

    write_whole(wishes.out, chart.draw(federated, central, parts))
    print_accuracies(federated, central)
    typer.echo(
        f"Of the test digits {federated[-1]:.1%} are read rightly; trained in one place: {central[-1]:.1%}.\n"
        f"The picture is {wishes.out}"
    )

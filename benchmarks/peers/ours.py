"""The task by `fedplan.simulate`."""

from torch.nn import functional as F

import fedplan
from benchmarks.peers.task import CASE, RATE, Clients, Watch, told
from fedplan.simulation import SimulatedRow


def main() -> None:
    """Runs it."""
    folder, rounds = told()
    clients = Clients(folder)
    x, y = clients(0)
    plan = fedplan.training_plan(CASE.model(), F.cross_entropy, example=(x[: CASE.rows], y[: CASE.rows]))
    watch = Watch()

    def lap(_: SimulatedRow) -> None:
        watch.lap()

    fedplan.simulate(
        CASE.model(),
        {"training_plan": plan},
        clients,
        {"name": "peers", "version": "1", "batch_size": CASE.rows, "lr": RATE},
        {},
        population=CASE.clients,
        rounds=rounds,
        cohort=CASE.cohort,
        progress=lap,
    )


if __name__ == "__main__":
    main()
